"""What a demo may do to the run, and how it stands."""

from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from ingestd.demo.page.recent_activity import Outage


class SimulatorDirector(Protocol):
    """A source that takes directions."""

    paused: bool

    def burst(self) -> None: ...

    def spoil(self) -> None: ...

    @property
    def burst_left(self) -> float: ...


class ControlState(msgspec.Struct, frozen=True, kw_only=True):
    """Which controls there are, and what they do at the moment. Times are seconds."""

    names: list[str]
    paused: bool = False
    burst_left: float = 0.0
    outage_left: float = 0.0


class Controls:
    """By name; those that the source and the sink of this run know. None where they are not allowed at all."""

    def __init__(self, outage: Outage, director: SimulatorDirector | None, *, allowed: bool) -> None:
        self._outage = outage
        self._director = director
        self._actions: dict[str, Callable[[], None]] = {}
        if allowed and director is not None:
            self._actions = {
                "pause": self._pause,
                "resume": self._resume,
                "burst": director.burst,
                "bad": director.spoil,
            }
        if allowed:
            self._actions["outage"] = outage.begin

    @property
    def actions(self) -> Mapping[str, Callable[[], None]]:
        return self._actions

    def state(self) -> ControlState:
        """How it stands."""
        director = self._director
        return ControlState(
            names=list(self._actions),
            paused=director is not None and director.paused,
            burst_left=director.burst_left if director is not None else 0.0,
            outage_left=self._outage.left,
        )

    def _pause(self) -> None:
        assert self._director is not None
        self._director.paused = True

    def _resume(self) -> None:
        assert self._director is not None
        self._director.paused = False
