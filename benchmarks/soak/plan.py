"""When it bursts. Pure; all times in seconds since the load began."""

from typing import NamedTuple

FACTOR = 10
BURST = 60.0
EVERY = 300.0
FIRST = 120.0  # the steady time before it is what is normal
LAST = 120.0  # at least so long is left after a burst


class Span(NamedTuple):
    begin: float
    end: float


class Plan(NamedTuple):
    """A steady rate (events a second), and bursts of `FACTOR` times as much."""

    rate: float
    seconds: float

    @property
    def bursts(self) -> list[Span]:
        found = []
        begin = FIRST
        while begin + BURST + LAST <= self.seconds:
            found.append(Span(begin, begin + BURST))
            begin += EVERY
        return found

    def rate_at(self, second: float) -> float:
        return self.rate * (FACTOR if any(begin <= second < end for begin, end in self.bursts) else 1)

    @property
    def events(self) -> float:
        """All of them."""
        return self.rate * (self.seconds + (FACTOR - 1) * BURST * len(self.bursts))
