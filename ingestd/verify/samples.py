"""Samples of objects without a leader epoch, to be compared with the log by the timestamps of their records. Pure."""

import heapq
from typing import NamedTuple

from ingestd.verify.ranges import Range

_GOLDEN = 0x9E3779B97F4A7C15  # 2**64 divided by the golden ratio: multiples of it, modulo 2**64, are evenly spread
_MASK = 2**64 - 1


class Sample(NamedTuple):
    """An object's range, and the offset and the timestamp of one of its records that can be read by its offset."""

    offsets: Range
    offset: int
    timestamp: int


class Samples:
    """At most `limit` of the objects that are added, the last one among them: the others are spread evenly.

    Which are kept depends on all that were added, and not on their order.
    """

    def __init__(self, limit: int) -> None:
        self.seen = 0
        self._limit = limit
        self._kept: list[tuple[int, Sample]] = []  # a heap, the next one to leave first
        self._last: Sample | None = None

    def add(self, sample: Sample) -> None:
        self.seen += 1
        if self._last is None or sample.offset > self._last.offset:
            self._last = sample
        # Of a wide offset the lowest bits may be the same in all of them: its hash has something of every bit.
        heapq.heappush(self._kept, (-(hash(sample.offset) * _GOLDEN & _MASK), sample))
        if len(self._kept) > self._limit:
            heapq.heappop(self._kept)

    def newest_first(self) -> list[Sample]:
        """The samples in descending order of their offsets."""
        kept = {sample for _, sample in self._kept}
        if self._last is not None:
            kept.add(self._last)
        return sorted(kept, key=lambda sample: sample.offset, reverse=True)[: self._limit]
