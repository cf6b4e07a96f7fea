"""Records on their way to a topic: which of them are acknowledged, refused, or neither yet."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from ingestd.core.records import Refusal, UnsentRecord

_OPEN, _ACKNOWLEDGED, _REFUSED = 0, 1, 2


class Sending:
    """What became of records that were submitted together. `done` is set once each is acknowledged or refused."""

    def __init__(self, records: Sequence[UnsentRecord], size: int, release: Callable[[int], None]) -> None:
        self.records = records
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.withdrawn = False
        self._refused: dict[int, Refusal] = {}
        self._states = bytearray(len(records))
        self._open = len(records)
        self._size, self._release = size, release
        if not records:
            self.done.set_result(None)

    @property
    def refused(self) -> Mapping[int, Refusal]:
        """The records that the topic refuses for good, by their place."""
        return self._refused

    def withdraw(self) -> list[int]:
        """Send no more of the records; the places of those that are neither acknowledged nor refused.

        Some of these may be on their way, and arrive nevertheless.
        """
        self.withdrawn = True
        self._free()
        return [at for at, state in enumerate(self._states) if state == _OPEN]

    def is_open(self, at: int) -> bool:
        """Whether the record at this place is still to be sent."""
        return not self.withdrawn and self._states[at] == _OPEN

    def acknowledge(self, at: int) -> None:
        """The record at this place is in the topic."""
        self._settle(at, _ACKNOWLEDGED)

    def refuse(self, at: int, refusal: Refusal) -> None:
        """The topic does not take the record at this place."""
        self._refused[at] = refusal
        self._settle(at, _REFUSED)

    def fail(self, error: Exception) -> None:
        """Nobody sends the records any more."""
        self.withdrawn = True
        if not self.done.done():
            self.done.set_exception(error)
            self.done.exception()  # asyncio would report an error that nobody has read
        self._free()

    def _settle(self, at: int, state: int) -> None:
        if self._states[at] != _OPEN:
            return
        self._states[at] = state
        self._open -= 1
        if not self._open:
            if not self.done.done():
                self.done.set_result(None)
            self._free()

    def _free(self) -> None:
        self._release(self._size)
        self._size = 0


class Entry(NamedTuple):
    """One record of a sending. Entries are sorted by their numbers, in the order in which they were submitted."""

    number: int
    sending: Sending
    at: int

    @property
    def record(self) -> UnsentRecord:
        """The record itself."""
        return self.sending.records[self.at]
