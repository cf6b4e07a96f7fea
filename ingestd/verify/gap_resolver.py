"""Rechecks gaps and overlaps of one partition against the names of all its objects. Pure.

The first scan may miss objects that fill a gap. A daemon that runs meanwhile may put an object into a day that was
listed already and the next one into a day that was not. With a time range, a chain may pass through days out of it, as
the days come from producers' clocks.
"""

from bisect import bisect_right

from ingestd.core.object_keys import DataObjectName
from ingestd.verify.branches import Gap
from ingestd.verify.findings import VerifyFinding

MAX_NEIGHBOURS = 10_000  # keys that are remembered, to name the objects beside a gap

_Key = tuple[int, str]  # an object's start and key


class GapResolver:
    """One partition's gaps, and its overlaps, which lack the key of the other object."""

    def __init__(self, gaps: list[Gap], overlaps: list[VerifyFinding]) -> None:
        # Gaps of the chain do not overlap, nor do those of one lost epoch.
        parts = {gap.lost_epoch for gap in gaps}
        self._parts = {part: _DisjointGaps([gap for gap in gaps if gap.lost_epoch == part]) for part in parts}
        self._overlaps = overlaps
        self._others: dict[int, _Key] = {}  # start and key of the other object, by the overlap's index

    def add_name(self, name: DataObjectName) -> bool:
        """Take a name into account; returns whether its object begins in a gap, so that it may fill it."""
        for number, overlap in enumerate(self._overlaps):
            if overlap.start is None or name.start > overlap.start or name.key == overlap.key:
                continue
            if None in {name.leader_epoch, overlap.leader_epoch} or name.leader_epoch == overlap.leader_epoch:
                self._others[number] = max(self._others.get(number, (-1, "")), (name.start, name.key))
        begins = [part.add(name) for part in self._parts.values()]  # each must know the name
        return any(begins)

    def complete_overlaps(self) -> None:
        """Add the key of the other object to each overlap. Call it when all names were added."""
        for number, (_, key) in self._others.items():
            overlap = self._overlaps[number]
            overlap.other = key
            overlap.message += f": {key}"

    def neighbours(self, gap: Gap) -> tuple[str | None, str | None]:
        """The keys of the objects before and after a gap that remains."""
        start, end = gap.offsets
        known = self._parts[gap.lost_epoch].known if gap.lost_epoch in self._parts else {}
        before = max((each for each in known if each < start), default=None)
        after = min((each for each in known if each >= end), default=None)
        return known[before] if before is not None else None, known[after] if after is not None else None


class _DisjointGaps:
    """Gaps in ascending order, and the objects beside and in them."""

    def __init__(self, gaps: list[Gap]) -> None:
        self._gaps = gaps
        self._starts = [gap.offsets.start for gap in gaps]
        self._by_end = {gap.offsets.end: gap for gap in gaps}
        self._before: dict[int, _Key] = {}  # start and key of the object before each gap, by its index
        self._inside: dict[int, str] = {}  # keys of objects in and right after gaps, by start

    @property
    def known(self) -> dict[int, str]:
        """The keys of the objects by their start."""
        return {**self._inside, **dict(self._before.values())}

    def add(self, name: DataObjectName) -> bool:
        """Take a name into account; returns whether its object begins in a gap."""
        index = bisect_right(self._starts, name.start) - 1
        if index >= 0 and name.start < self._gaps[index].offsets.end:
            self._remember(name)
            return True
        if name.start in self._by_end and _beside(name, self._by_end[name.start]):
            self._remember(name)
        if index + 1 < len(self._gaps) and _beside(name, self._gaps[index + 1]):
            self._before[index + 1] = max(self._before.get(index + 1, (-1, "")), (name.start, name.key))
        return False

    def _remember(self, name: DataObjectName) -> None:
        if len(self._inside) < MAX_NEIGHBOURS:
            self._inside[name.start] = name.key


def _beside(name: DataObjectName, gap: Gap) -> bool:
    """Whether an object may be a neighbour of a gap: by its leader epoch, where its name has one."""
    return name.leader_epoch is None or name.leader_epoch in gap.epochs
