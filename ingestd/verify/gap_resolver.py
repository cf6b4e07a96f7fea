"""Rechecks gaps and overlaps of one partition against the names of all its objects. Pure.

The first scan may miss objects that fill a gap. A daemon that runs meanwhile may put an object into a day that was
listed already and the next one into a day that was not. With a time range, a chain may pass through days out of it, as
the days come from producers' clocks.
"""

from bisect import bisect_right

from ingestd.core.object_keys import DataObjectName
from ingestd.verify.findings import VerifyFinding
from ingestd.verify.ranges import Range

MAX_NEIGHBOURS = 10_000  # keys that are remembered, to name the objects beside a gap


class GapResolver:
    """One partition's gaps, in ascending order, and its overlaps, which lack the key of the other object."""

    def __init__(self, gaps: list[Range], overlaps: list[VerifyFinding]) -> None:
        self._gaps = gaps
        self._gap_starts = [gap.start for gap in gaps]
        self._gap_ends = {gap.end for gap in gaps}
        self._before: dict[int, tuple[int, str]] = {}  # start and key of the object before each gap, by its index
        self._neighbours: dict[int, str] = {}  # keys of objects in and right after gaps, by start
        self._overlaps = overlaps
        self._others: dict[int, tuple[int, str]] = {}  # start and key of the other object, by the overlap's index

    def add_name(self, name: DataObjectName) -> bool:
        """Take a name into account; returns whether its object begins in a gap, so that it may fill it."""
        for number, overlap in enumerate(self._overlaps):
            if overlap.start is not None and name.start <= overlap.start and name.key != overlap.key:
                self._others[number] = max(self._others.get(number, (-1, "")), (name.start, name.key))
        index = bisect_right(self._gap_starts, name.start) - 1
        if index >= 0 and name.start < self._gaps[index].end:
            self._remember(name)
            return True
        if name.start in self._gap_ends:
            self._remember(name)
        if index + 1 < len(self._gaps):
            self._before[index + 1] = max(self._before.get(index + 1, (-1, "")), (name.start, name.key))
        return False

    def complete_overlaps(self) -> None:
        """Add the key of the other object to each overlap. Call it when all names were added."""
        for number, (_, key) in self._others.items():
            overlap = self._overlaps[number]
            overlap.other = key
            overlap.message += f": {key}"

    def neighbours(self, gap: Range) -> tuple[str | None, str | None]:
        """The keys of the objects before and after a gap that remains."""
        known = {**self._neighbours, **dict(self._before.values())}
        before = max((start for start in known if start < gap.start), default=None)
        after = min((start for start in known if start >= gap.end), default=None)
        return known[before] if before is not None else None, known[after] if after is not None else None

    def _remember(self, name: DataObjectName) -> None:
        if len(self._neighbours) < MAX_NEIGHBOURS:
            self._neighbours[name.start] = name.key
