"""A set of offsets as disjoint ranges: ranges that touch or overlap merge, in whatever order they are added. Pure."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import NamedTuple


class Range(NamedTuple):
    """Offsets ``[start, end)``."""

    start: int
    end: int

    def __str__(self) -> str:
        return f"{self.start}-{self.end}"


class Ranges:
    """A set of offsets. Memory grows with the gaps in it, not with the ranges that were added."""

    __slots__ = ("_ends", "_starts")

    def __init__(self) -> None:
        # Both ascending; no range touches the next.
        self._starts: list[int] = []
        self._ends: list[int] = []

    def __len__(self) -> int:
        """The number of ranges after merging."""
        return len(self._starts)

    def __iter__(self) -> Iterator[Range]:
        return map(Range, self._starts, self._ends)

    @property
    def extent(self) -> Range | None:
        """From the first offset to the last, gaps included; None where the set is empty."""
        return Range(self._starts[0], self._ends[-1]) if self._starts else None

    def add(self, start: int, end: int) -> list[Range]:
        """Add ``[start, end)``, which is not empty. Returns the parts of it that were in the set before."""
        first = bisect_left(self._ends, start)
        last = bisect_right(self._starts, end)
        touched = list(map(Range, self._starts[first:last], self._ends[first:last]))
        self._starts[first:last] = [min([start, *(each.start for each in touched[:1])])]
        self._ends[first:last] = [max([end, *(each.end for each in touched[-1:])])]
        shared = (Range(max(start, each.start), min(end, each.end)) for each in touched)
        return [each for each in shared if each.start < each.end]

    def shared(self, start: int, end: int) -> list[Range]:
        """The parts of ``[start, end)`` that are in the set."""
        first, last = bisect_right(self._ends, start), bisect_left(self._starts, end)
        found = map(Range, self._starts[first:last], self._ends[first:last])
        return [Range(max(start, each.start), min(end, each.end)) for each in found]

    def gaps(self) -> list[Range]:
        """The offsets between the ranges."""
        return list(map(Range, self._ends[:-1], self._starts[1:]))
