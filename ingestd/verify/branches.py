"""The objects of one partition by the leader epoch of their records: the chain, and what Kafka has lost. Pure.

Where Kafka has truncated its log, a later leader epoch has records at offsets of earlier ones. All that the earlier
ones have from there on is lost for Kafka. So the chain is the last epoch from its first object on, below that the last
one before it that reaches it, and so on: Kafka may have lost a whole epoch in between, where a replica became the
leader that never had it. Of objects that do not know their epoch, none may overlap any other.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from ingestd.verify.ranges import Range, Ranges

UNKNOWN = -1  # in place of a leader epoch


class Branch:
    """The objects of one leader epoch."""

    __slots__ = ("epoch", "listed_start", "ranges")

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.ranges = Ranges()
        self.listed_start: int | None = None  # of the first object by its name, in the time range or not

    @property
    def extent(self) -> Range:
        extent = self.ranges.extent
        assert extent is not None, "a branch has an object"
        return extent

    @property
    def start(self) -> int:
        """Where the epoch begins in objects."""
        start = self.extent.start
        return start if self.listed_start is None else min(start, self.listed_start)


class Segment(NamedTuple):
    """The part ``[start, end)`` of a leader epoch that is part of the chain."""

    branch: Branch
    start: int
    end: int


class Lost(NamedTuple):
    """What objects have of a leader epoch and Kafka has lost: the chain forked at `forked_at`, by epoch `later`."""

    epoch: int
    offsets: Range
    later: int
    forked_at: int


class Gap(NamedTuple):
    """Offsets in no object: of the chain, or of the lost part of a leader epoch. `epochs` are those around them."""

    offsets: Range
    epochs: tuple[int, ...]
    lost_epoch: int | None = None


class Branches:
    """The leader epochs of one partition: at most `max_epochs`. Above that, the oldest ones count as one."""

    def __init__(self, max_epochs: int) -> None:
        self._branches: dict[int, Branch] = {}
        self._max_epochs = max_epochs
        self.size = 0  # ranges in memory, without the first one of each epoch
        self.merged = UNKNOWN  # the newest of the leader epochs that count as one

    def __bool__(self) -> bool:
        return bool(self._branches)

    @property
    def newest(self) -> int:
        return max(self._branches, default=UNKNOWN)

    @property
    def extent(self) -> Range | None:
        """From the chain's first object to its last one, in the time range."""
        return self._chain().extent

    def add(self, epoch: int | None, added: Range) -> list[Range]:
        """Add an object; returns the parts of it that another object has, too."""
        number = UNKNOWN if epoch is None else max(epoch, self.merged)
        shared: list[Range] = []
        if epoch is None:
            shared = [part for branch in self._known() for part in branch.ranges.shared(*added)]
        elif (unknown := self._branches.get(UNKNOWN)) is not None:
            shared = unknown.ranges.shared(*added)
        branch = self._branches.get(number)
        if branch is None:
            branch = self._branches[number] = Branch(number)
            self.size -= 1
        before = len(branch.ranges)
        shared += branch.ranges.add(*added)
        self.size += len(branch.ranges) - before
        if len(self._branches) - (UNKNOWN in self._branches) > self._max_epochs:
            self._merge_oldest()
        return sorted(shared)

    def has(self, epoch: int | None, offset: int) -> bool:
        """Whether an object of the leader epoch has the offset."""
        branch = self._branches.get(UNKNOWN if epoch is None else max(epoch, self.merged))
        return branch is not None and bool(branch.ranges.shared(offset, offset + 1))

    def note_name(self, epoch: int | None, start: int) -> None:
        """Note where an object starts by its name: the epoch may begin with objects that are out of the time range."""
        branch = self._branches.get(UNKNOWN if epoch is None else epoch)
        if branch is not None and branch.epoch != UNKNOWN and start < branch.start:
            branch.listed_start = start

    def at(self, offset: int) -> int:
        """The leader epoch that the chain has at an offset, or before it."""
        return max((each.branch.epoch for each in self.segments() if each.start <= offset), default=UNKNOWN)

    def segments(self, up_to: int | None = None) -> list[Segment]:
        """The leader epochs in the chain in ascending order, as it was before there were later ones than `up_to`."""
        rest = [branch for branch in self._known() if up_to is None or branch.epoch <= up_to]
        segments: list[Segment] = []
        end: int | None = None
        while rest:
            before = [branch for branch in rest if end is None or branch.start < end]
            reaching = [branch for branch in before if end is None or branch.extent.end >= end]
            if not before:
                break
            branch = (reaching or before)[-1]
            last = branch.extent.end
            segments.insert(0, Segment(branch, branch.start, last if end is None else min(last, end)))
            end = branch.start
            rest = [each for each in rest if each.epoch < branch.epoch]
        return segments

    def lost(self) -> list[Lost]:
        """What Kafka has lost, the oldest epoch first."""
        segments = self.segments()
        ends = {each.branch.epoch: each.end for each in segments}
        found = []
        for branch in self._known():
            start, end = max(ends.get(branch.epoch, 0), branch.extent.start), branch.extent.end
            if start < end:
                # The first epoch that replaced them. Without one, Kafka went back to a log without this epoch, and the
                # chain to the next epoch of that log.
                replacing = (each for each in self._known() if each.epoch > branch.epoch and each.start <= start)
                after = (each.branch for each in segments if each.branch.epoch > branch.epoch)
                later = next(replacing, None) or next(after)
                found.append(Lost(branch.epoch, Range(start, end), later.epoch, later.start))
        return found

    def forked_at(self, offset: int) -> int | None:
        """The leader epoch that the chain forked to at an offset, where objects tell that it did; else None.

        An epoch that begins in the middle of older objects is a fork: no chain ended there. One that begins where older
        objects end may be of a writer that continued there and did not know of a truncation.
        """
        later = next((each.branch.epoch for each in self.segments() if each.start == offset), None)
        if later is None:
            return None
        older = [branch for branch in self._branches.values() if branch.epoch < later]
        around = {part for branch in older for part in branch.ranges.shared(offset - 1, offset + 1)}
        ended = Range(offset - 1, offset) in around
        return later if Range(offset - 1, offset + 1) in around and not ended else None

    def replaced(self, epoch: int, offset: int) -> bool:
        """Whether Kafka has lost the record of the epoch before an offset."""
        return any(lost.epoch == epoch and lost.offsets.start < offset for lost in self.lost())

    def gaps(self) -> list[Gap]:
        """The gaps of the chain, then those of what Kafka has lost."""
        segments = self.segments()
        chain = self._chain()
        for branch, start, _ in segments:
            if start < branch.extent.start:
                chain.add(start, branch.extent.start)  # out of the time range
        gaps = [Gap(gap, (self._before(segments, gap.start), self.at(gap.end))) for gap in chain.gaps()]
        ends = {each.branch.epoch: each.end for each in segments}
        for branch in self._known():
            lost_from = ends.get(branch.epoch, branch.start)
            lost = (Range(max(gap.start, lost_from), gap.end) for gap in branch.ranges.gaps() if gap.end > lost_from)
            gaps += [Gap(gap, (branch.epoch,), branch.epoch) for gap in lost]
        return gaps

    def end_of_chain(self, up_to: int | None) -> int | None:
        """Where the chain ended before there were later leader epochs than `up_to`."""
        extent = self._chain(up_to).extent
        return extent.end if extent is not None else None

    def epochs(self) -> list[tuple[int, Range]]:
        """The leader epochs in the chain that can be compared with the log's, in ascending order of offsets."""
        found = []
        for branch, start, end in self.segments():
            part = Range(max(start, branch.extent.start), min(end, branch.extent.end))
            if branch.epoch > self.merged and part.start < part.end:
                found.append((branch.epoch, part))
        return found

    def all_epochs(self) -> list[tuple[int, Range]]:
        """The leader epochs that can be compared with the log's, in the chain or not."""
        return [(branch.epoch, branch.extent) for branch in self._known() if branch.epoch > self.merged]

    def in_log(self, ends: Mapping[int, int]) -> Ranges:
        """The offsets of all objects with records that the log has: of these epochs, up to where each ends."""
        ranges = Ranges()
        for branch in self._known():
            for each in branch.ranges:
                if (end := min(each.end, ends.get(branch.epoch, 0))) > each.start:
                    ranges.add(each.start, end)
        return ranges

    def _known(self) -> Iterator[Branch]:
        """The leader epochs, the oldest first."""
        return iter([self._branches[epoch] for epoch in sorted(self._branches) if epoch != UNKNOWN])

    def _before(self, segments: list[Segment], offset: int) -> int:
        return max((each.branch.epoch for each in segments if each.start < offset), default=UNKNOWN)

    def _chain(self, up_to: int | None = None) -> Ranges:
        """The offsets of the chain."""
        ranges = Ranges()
        if (unknown := self._branches.get(UNKNOWN)) is not None:
            for each in unknown.ranges:
                ranges.add(*each)
        for branch, _, end in self.segments(up_to):
            for each in branch.ranges:
                if each.start < end:
                    ranges.add(each.start, min(each.end, end))
        return ranges

    def _merge_oldest(self) -> None:
        older, newer = list(self._known())[:2]
        self.size += 1 - len(older.ranges) - len(newer.ranges)
        for each in older.ranges:
            newer.ranges.add(*each)
        self.size += len(newer.ranges)
        del self._branches[older.epoch]
        self.merged = newer.epoch
