"""Rechecks gaps and overlaps of one partition against the names of all its objects. Pure.

The first scan may miss objects that fill a gap. A daemon that runs meanwhile may put an object into a day that was
listed already and the next one into a day that was not. With a time range, a chain may pass through days out of it, as
the days come from producers' clocks.
"""

from bisect import bisect_right

from ingestd.core.object_keys import DataObjectName
from ingestd.verify.branches import Gap, fork_in
from ingestd.verify.findings import VerifyFinding

MAX_NEIGHBOURS = 10_000  # keys that are remembered, to name the objects beside a gap

_Key = tuple[int, str]  # an object's start and key


class GapResolver:
    """One partition's gaps, and its overlaps, which lack the key of the other object."""

    def __init__(self, gaps: list[Gap], overlaps: list[VerifyFinding]) -> None:
        self._by_fork = {fork: _BranchGaps(gaps, fork) for gap in gaps for fork in gap.forks}
        self._overlaps = overlaps
        self._others: dict[int, _Key] = {}  # start and key of the other object, by the overlap's index

    def add_name(self, name: DataObjectName) -> bool:
        """Take a name into account; returns whether its object begins in a gap, so that it may fill it."""
        for number, overlap in enumerate(self._overlaps):
            same = overlap.fork == name.fork and name.key != overlap.key
            if same and overlap.start is not None and name.start <= overlap.start:
                self._others[number] = max(self._others.get(number, (-1, "")), (name.start, name.key))
        branch = self._by_fork.get(fork_in(name))
        return branch is not None and branch.add(name)

    def complete_overlaps(self) -> None:
        """Add the key of the other object to each overlap. Call it when all names were added."""
        for number, (_, key) in self._others.items():
            overlap = self._overlaps[number]
            overlap.other = key
            overlap.message += f": {key}"

    def neighbours(self, gap: Gap) -> tuple[str | None, str | None]:
        """The keys of the objects before and after a gap that remains."""
        start, end = gap.offsets
        known = [found for fork in gap.forks if fork in self._by_fork for found in self._by_fork[fork].known]
        before = max((found for found in known if found[0] < start), default=None)
        after = min((found for found in known if found[0] >= end), default=None)
        return before[1] if before is not None else None, after[1] if after is not None else None


class _BranchGaps:
    """The gaps that objects of one branch may close, in ascending order, and the objects beside and in them."""

    def __init__(self, gaps: list[Gap], fork: int) -> None:
        self._gaps = [gap.offsets for gap in gaps if fork in gap.forks]
        self._starts = [gap.start for gap in self._gaps]
        self._ends = {gap.end for gap in self._gaps}
        self._before: dict[int, _Key] = {}  # the object before each gap, by its index
        self._inside: dict[int, str] = {}  # keys of objects in and right after gaps, by start

    @property
    def known(self) -> list[_Key]:
        return [*self._before.values(), *self._inside.items()]

    def add(self, name: DataObjectName) -> bool:
        index = bisect_right(self._starts, name.start) - 1
        if index >= 0 and name.start < self._gaps[index].end:
            self._remember(name)
            return True
        if name.start in self._ends:
            self._remember(name)
        if index + 1 < len(self._gaps):
            self._before[index + 1] = max(self._before.get(index + 1, (-1, "")), (name.start, name.key))
        return False

    def _remember(self, name: DataObjectName) -> None:
        if len(self._inside) < MAX_NEIGHBOURS:
            self._inside[name.start] = name.key
