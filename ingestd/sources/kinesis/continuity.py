"""Whether a shard's log still holds every record from a position on, and where reading begins. Pure.

Retention removes the oldest records of a shard, without a trace. What follows a position is complete where the record
before it still comes, or where the log was seen empty from there on at a time that retention has not reached.
"""

from enum import Enum
from typing import NamedTuple

CLOCK_ERROR_MS = 600_000  # of our idea of AWS' clock: retention is counted so much shorter
MIN_RETENTION_MS = 24 * 3_600_000  # of a stream: AWS allows no shorter one


class Retention:
    """The retention of a stream as it was seen over time. A longer one brings back no record that is gone.

    What is kept ascends in both fields, so there are at most as many entries as AWS allows retentions: 8,760 hours.
    """

    def __init__(self) -> None:
        self._shortest: list[tuple[int, int]] = []  # from a time on, up to now

    def see(self, at_ms: int, retention_ms: int) -> None:
        """The stream has this retention at a time, which is later than those before."""
        while self._shortest and self._shortest[-1][1] >= retention_ms:
            at_ms = self._shortest.pop()[0]
        self._shortest.append((at_ms, retention_ms))

    def since(self, at_ms: int) -> int:
        """The shortest one that may have held since a time; since the first one was seen where that was later."""
        # What was seen before that time may have held until the next look.
        return next((kept for seen_ms, kept in reversed(self._shortest) if seen_ms <= at_ms), self._shortest[0][1])


class WasOpen(NamedTuple):
    """A shard was open at this time: all records of its children have arrived later.

    `retention_ms` is the shortest of the stream since then.
    """

    at_ms: int
    retention_ms: int = MIN_RETENTION_MS  # where nobody knows


class CaughtUp(NamedTuple):
    """No record at or after `position` was in the log at this time: such records have arrived later.

    `retention_ms` is the shortest of the stream since then, as far as it was seen.
    """

    position: int
    at_ms: int
    retention_ms: int

    def proves(self, position: int, now_ms: int, retention_ms: int) -> bool:
        """Whether retention cannot have removed a record at or after `position` yet."""
        kept_ms = min(retention_ms, self.retention_ms) - CLOCK_ERROR_MS
        return self.position <= position and self.at_ms > now_ms - kept_ms


class Start(NamedTuple):
    """Where a shard without objects begins: pinned once, for all daemons of a lineage.

    The record with the `number` is the first one; where none was there yet, `position` is 0. Then those that arrive at
    `time_ms` or later are read, or all where that is None; `seen_ms` is a time before which no such record arrived.
    """

    position: int
    number: int | None
    time_ms: int | None
    seen_ms: int
    retention_ms: int  # the shortest of the stream from `seen_ms` until it was pinned
    closed: bool = False  # it was closed before this lineage began to read

    @property
    def caught_up(self) -> CaughtUp | None:
        return CaughtUp(self.position, self.seen_ms, self.retention_ms) if self.number is None else None


class Place(NamedTuple):
    """Where an iterator begins: at a sequence number, at a time, or at the oldest record."""

    number: int | None = None
    at_ms: int | None = None


def place_of(position: int, first: int | None, start: Start | None) -> Place:
    """Where to begin to read for a position. `first` is the position of the log's oldest record, None without one."""
    if start is not None and position == start.position:
        return Place(start.number, start.time_ms if start.number is None else None)
    if first is None or first >= position:
        return Place()
    return Place(position - 1)


class Verdict(Enum):
    """What the first record that comes says about a position."""

    BEFORE = "before"  # it is older than the position
    PREVIOUS = "previous"  # it is the last one before the position, so nothing is missing behind it
    NEXT = "next"  # nothing can be between the position and it
    LATER = "later"  # there may have been others in between


def judge(position: int, number: int, first: int) -> Verdict:
    """`number` is the record's sequence number; with an aggregate's records its positions begin at `first`."""
    if number < position:
        return Verdict.PREVIOUS if number == position - 1 else Verdict.BEFORE
    return Verdict.NEXT if first <= position else Verdict.LATER
