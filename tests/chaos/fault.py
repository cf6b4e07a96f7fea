"""What a fault is, and how it gets on the list."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from random import Random

from tests.chaos.disk import can_mount
from tests.chaos.rig import Rig

#: Injects the fault and ends it; what came of it, in a few words.
Inject = Callable[[Rig, Random], Awaitable[str]]


@dataclass(frozen=True)
class Fault:
    """Something that breaks, and what it is done to. It is called by the name of its function."""

    name: str
    about: str  # what breaks, in a line
    inject: Inject
    daemons: int = 1
    partitions: int = 4
    settings: Mapping[str, str] = field(default_factory=dict)  # of the daemons, beyond those of every run
    started: bool = True  # False where `inject` makes and starts the daemons itself
    brokers: int = 1  # or three
    short: bool = True  # whether its short form is worth its time in every run of the tests
    mounts: bool = False  # whether it mounts a file system

    @property
    def possible(self) -> bool:
        """Whether this process has the rights that it takes."""
        return not self.mounts or can_mount()


FAULTS: dict[str, Fault] = {}


def fault(
    *,
    daemons: int = 1,
    partitions: int = 4,
    settings: Mapping[str, str] | None = None,
    started: bool = True,
    brokers: int = 1,
    short: bool = True,
    mounts: bool = False,
) -> Callable[[Inject], Inject]:
    """Put a function on the list. The first line of its docstring says what breaks.

    When it is called `daemons` daemons are ready and own partitions, and events are written all the time. It returns
    when the fault is over, or calls ``rig.over()`` at that moment and goes on to see what comes of it.
    """

    def put(inject: Inject) -> Inject:
        name = getattr(inject, "__name__", "")
        about = (inject.__doc__ or "").partition("\n")[0].rstrip(".")
        assert name not in FAULTS
        assert about, f"{name} does not say what breaks"
        FAULTS[name] = Fault(name, about, inject, daemons, partitions, settings or {}, started, brokers, short, mounts)
        return inject

    return put
