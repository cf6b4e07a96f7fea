"""What other names of a partition say about what seemed wrong: whether a gap is one, and what overlaps what. Pure.

A first look may miss objects of the chain that it finds a gap in: a daemon that goes on puts an object into a day that
was listed already, and then the next into one that was not; and with a range of time, a chain may pass through days out
of it, as the days are those of producers' clocks.
"""

from bisect import bisect_right

from ingestd.core.object_keys import DataObjectName
from ingestd.verify.findings import VerifyFinding
from ingestd.verify.ranges import Range

MAX_AROUND = 10_000  # keys that are remembered, to say what is beside a gap


class GapResolver:
    """One partition: `holes` in ascending order, and overlaps of which the other object is not known."""

    def __init__(self, holes: list[Range], overlaps: list[VerifyFinding]) -> None:
        self._holes = holes
        self._starts = [hole.start for hole in holes]
        self._before: dict[int, tuple[int, str]] = {}  # by hole
        self._ends = {hole.end for hole in holes}
        self._around: dict[int, str] = {}
        self._overlaps = overlaps
        self._best: dict[int, tuple[int, str]] = {}  # by overlap

    def see(self, name: DataObjectName) -> bool:
        """Take a name into account; whether its object begins within a hole, and is to be looked at."""
        for number, overlap in enumerate(self._overlaps):
            if overlap.start is not None and name.start <= overlap.start and name.key != overlap.key:
                self._best[number] = max(self._best.get(number, (-1, "")), (name.start, name.key))
        index = bisect_right(self._starts, name.start) - 1
        if index >= 0 and name.start < self._holes[index].end:
            self._remember(name)
            return True
        if name.start in self._ends:
            self._remember(name)
        if index + 1 < len(self._holes):
            self._before[index + 1] = max(self._before.get(index + 1, (-1, "")), (name.start, name.key))
        return False

    def settle_overlaps(self) -> None:
        """Name the other object in each overlap; to be called when all names were seen."""
        for number, overlap in enumerate(self._overlaps):
            if (best := self._best.get(number)) is not None:
                overlap.other = best[1]
                overlap.message += f": {best[1]}"

    def beside(self, gap: Range) -> tuple[str | None, str | None]:
        """The keys of the objects before and after a gap that is left."""
        known = {**self._around, **dict(self._before.values())}
        before = max((start for start in known if start < gap.start), default=None)
        after = min((start for start in known if start >= gap.end), default=None)
        return known[before] if before is not None else None, known[after] if after is not None else None

    def _remember(self, name: DataObjectName) -> None:
        if len(self._around) < MAX_AROUND:
            self._around[name.start] = name.key
