"""The demo's controls: pause, multiply or corrupt the simulated events, and make the store fail for a while."""

from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from ingestd.demo.page.recent_activity import SimulatedOutage


class Simulator(Protocol):
    """The part of the simulator that the page controls. Times are seconds."""

    paused: bool

    def burst(self) -> None: ...

    def spoil(self) -> None: ...

    @property
    def burst_left(self) -> float: ...


class ControlsState(msgspec.Struct, frozen=True, kw_only=True):
    """The names of the available controls, and their present effect. Times are seconds."""

    names: list[str]
    paused: bool = False
    burst_left: float = 0.0
    outage_left: float = 0.0


class SimulatorControls:
    """The actions that a presenter may take, by name. There are none unless `allowed`."""

    def __init__(self, outage: SimulatedOutage, simulator: Simulator | None, *, allowed: bool) -> None:
        self._outage = outage
        self._simulator = simulator
        self._actions: dict[str, Callable[[], None]] = {}
        if allowed and simulator is not None:
            self._actions = {
                "pause": self._pause,
                "resume": self._resume,
                "burst": simulator.burst,
                "bad": simulator.spoil,
            }
        if allowed:
            self._actions["outage"] = outage.begin

    @property
    def actions(self) -> Mapping[str, Callable[[], None]]:
        return self._actions

    def state(self) -> ControlsState:
        simulator = self._simulator
        return ControlsState(
            names=list(self._actions),
            paused=simulator is not None and simulator.paused,
            burst_left=simulator.burst_left if simulator is not None else 0.0,
            outage_left=self._outage.left,
        )

    def _pause(self) -> None:
        assert self._simulator is not None
        self._simulator.paused = True

    def _resume(self) -> None:
        assert self._simulator is not None
        self._simulator.paused = False
