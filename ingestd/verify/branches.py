"""The branches of one partition's chain: one for each fork in the names of its objects. Pure.

Where Kafka has truncated its log, a chain may fork: from there on, the objects with the new history carry the fork in
their names. The chain is then the last branch from its first object on, below that the branch before it, and so on.
What the older branches have above a fork are rows of records that Kafka has lost.
"""

from collections.abc import Iterator
from typing import NamedTuple

from ingestd.core.object_keys import DataObjectName
from ingestd.verify.ranges import Range, Ranges

UNFORKED = -1  # the branch without a fork in its names: before all others


def fork_in(name: DataObjectName) -> int:
    """The branch that an object belongs to by its name."""
    return UNFORKED if name.fork is None else name.fork


class Branch:
    """The objects with one fork in their names: their ranges, and where each leader epoch begins and ends."""

    def __init__(self, fork: int) -> None:
        self.fork = fork
        self.ranges = Ranges()
        self.epochs: dict[int, Range] = {}  # from the first object to the last; the largest `max_epochs` of them
        self.newest_left_out = -1  # the largest leader epoch that did not fit
        self.listed_start: int | None = None  # of the first object by its name, in the time range or not

    @property
    def start(self) -> int:
        """Where its first object starts."""
        start = self._extent.start
        return start if self.listed_start is None else min(start, self.listed_start)

    @property
    def end(self) -> int:
        return self._extent.end

    @property
    def _extent(self) -> Range:
        extent = self.ranges.extent
        assert extent is not None, "a branch has an object"
        return extent

    def add_epoch(self, epoch: int, added: Range, max_epochs: int) -> None:
        """Extend a leader epoch. Where there are too many, the smallest ones are left out."""
        if epoch <= self.newest_left_out:
            return
        known = self.epochs.get(epoch, added)
        self.epochs[epoch] = Range(min(known.start, added.start), max(known.end, added.end))
        if len(self.epochs) > max_epochs:
            self.newest_left_out = min(self.epochs)
            del self.epochs[self.newest_left_out]


class Segment(NamedTuple):
    """The part ``[start, end)`` of a branch that is part of the chain."""

    branch: Branch
    start: int
    end: int


class Fork(NamedTuple):
    """A fork: where it begins, and what it replaces of older branches (None: nothing)."""

    number: int
    at: int
    lost: Range | None


class Gap(NamedTuple):
    """Offsets in no object, with the branches whose objects may close the gap: one, or those that it is between."""

    offsets: Range
    forks: tuple[int, ...]


class Branches:
    """All branches of one partition."""

    def __init__(self) -> None:
        self._branches: dict[int, Branch] = {}

    def __iter__(self) -> Iterator[Branch]:
        """From the oldest to the newest."""
        return iter([self._branches[fork] for fork in sorted(self._branches)])

    def __bool__(self) -> bool:
        return bool(self._branches)

    def __contains__(self, fork: int) -> bool:
        return fork in self._branches

    @property
    def forked(self) -> bool:
        return any(fork != UNFORKED for fork in self._branches)

    @property
    def newest(self) -> int:
        """The fork of the newest branch."""
        return max(self._branches, default=UNFORKED)

    @property
    def size(self) -> int:
        """The number of ranges that are kept in memory."""
        return sum(len(branch.ranges) for branch in self._branches.values())

    @property
    def extent(self) -> Range | None:
        """From the chain's first object to its last one."""
        segments = self.segments()
        first = segments[0].branch.ranges.extent if segments else None
        return Range(first.start, segments[-1].end) if first is not None else None

    def of(self, fork: int) -> Branch:
        """The branch of a fork, created at the first call: an object must then be added to it."""
        branch = self._branches.get(fork)
        if branch is None:
            branch = self._branches[fork] = Branch(fork)
        return branch

    def end_of(self, fork: int) -> int | None:
        """Where the last object of a branch ends; None where there is no such branch."""
        return self._branches[fork].end if fork in self._branches else None

    def at(self, offset: int) -> int:
        """The fork of the part of the chain that an offset belongs to."""
        return max((each.branch.fork for each in self.segments() if each.start <= offset), default=UNFORKED)

    def segments(self) -> list[Segment]:
        """The chain, in ascending order of offsets."""
        segments: list[Segment] = []
        for branch in self:
            segments = [*_below(segments, branch.start), Segment(branch, branch.start, branch.end)]
        return segments

    def forks(self) -> list[Fork]:
        """The forks, the oldest first."""
        forks: list[Fork] = []
        segments: list[Segment] = []
        for branch in self:
            at = branch.start
            end = max((each.end for each in segments), default=at)
            if branch.fork != UNFORKED:
                forks.append(Fork(branch.fork, at, Range(at, end) if end > at else None))
            segments = [*_below(segments, at), Segment(branch, at, branch.end)]
        return forks

    def gaps(self) -> list[Gap]:
        """The offsets that no object of a branch has, and those between a branch and the fork that continues it."""
        inside = [Gap(offsets, (branch.fork,)) for branch in self for offsets in branch.ranges.gaps()]
        joints: dict[int, Gap] = {}  # by the older branch: several forks may have begun behind its end
        segments: list[Segment] = []
        for branch in self:
            segments = _below(segments, branch.start)
            if segments and segments[-1].end < branch.start:
                older = segments[-1].branch.fork
                known = joints.get(older, Gap(Range(segments[-1].end, branch.start), (older,)))
                offsets = Range(known.offsets.start, max(known.offsets.end, branch.start))
                joints[older] = Gap(offsets, (*known.forks, branch.fork))
            segments.append(Segment(branch, branch.start, branch.end))
        return sorted([*inside, *joints.values()])

    def epochs(self) -> list[tuple[int, Range]]:
        """The leader epochs in the chain with their offsets, in ascending order of these."""
        found: dict[int, Range] = {}
        for branch, start, end in self.segments():
            for epoch, offsets in branch.epochs.items():
                part = Range(max(start, offsets.start), min(end, offsets.end))
                if part.start < part.end:
                    known = found.get(epoch, part)
                    found[epoch] = Range(min(known.start, part.start), max(known.end, part.end))
        return sorted(found.items(), key=lambda each: (each[1], each[0]))

    def in_chain(self, fork: int, offset: int) -> bool:
        """Whether the record that a branch has at an offset is part of the chain."""
        return any(each.branch.fork == fork and each.start <= offset < each.end for each in self.segments())

    def shared(self) -> list[tuple[int, Range]]:
        """The records that two branches have: the same offsets of the same leader epoch. With the later branch."""
        branches = list(self)
        found = []
        for number, later in enumerate(branches):
            for earlier in branches[:number]:
                for epoch in later.epochs.keys() & earlier.epochs.keys():
                    one, other = earlier.epochs[epoch], later.epochs[epoch]
                    both = Range(max(one.start, other.start), min(one.end, other.end))
                    if both.start < both.end:
                        found.append((later.fork, both))
        return found


def _below(segments: list[Segment], at: int) -> list[Segment]:
    """What remains of a chain where it forks."""
    return [each._replace(end=min(each.end, at)) for each in segments if each.start < at]
