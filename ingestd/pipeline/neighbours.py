"""Finds the data objects around an offset by listing, where a commit does not tell."""

from dataclasses import dataclass, field

from ingestd.core.chain import Neighbours
from ingestd.core.object_keys import DataObjectName
from ingestd.core.records import TopicPartition
from ingestd.pipeline.shared_listing import SharedListing


@dataclass
class _Around:
    """The objects around an offset, of those whose names have one leader epoch, or none."""

    first: DataObjectName
    before: list[DataObjectName] = field(default_factory=list)  # several where they start at one offset
    at: list[DataObjectName] = field(default_factory=list)
    after: list[DataObjectName] = field(default_factory=list)

    def add(self, name: DataObjectName, offset: int | None) -> None:
        if name.start < self.first.start:
            self.first = name
        if offset is None or name.start < offset:
            _keep(self.before, name, better=not self.before or name.start > self.before[0].start)
        elif name.start == offset:
            self.at.append(name)
        else:
            _keep(self.after, name, better=not self.after or name.start < self.after[0].start)

    def keys(self, kind: str) -> list[str]:
        """The keys of one of the lists, in the order of their days."""
        return sorted(name.key for name in getattr(self, kind))


def _keep(kept: list[DataObjectName], name: DataObjectName, *, better: bool) -> None:
    if better:
        kept[:] = [name]
    elif name.start == kept[0].start:
        kept.append(name)


class _NeighbourCollector:
    """The data objects around an offset, or those at the chain's end, of each leader epoch."""

    def __init__(self, offset: int | None) -> None:
        self._offset = offset
        self._by_epoch: dict[int, _Around] = {}
        self._without: _Around | None = None

    def add(self, name: DataObjectName) -> None:
        if name.leader_epoch is None:
            self._without = self._without or _Around(name)
            self._without.add(name, self._offset)
        else:
            self._by_epoch.setdefault(name.leader_epoch, _Around(name)).add(name, self._offset)

    def neighbours(self) -> Neighbours:
        found = _of_latest_epoch(self._by_epoch, self._offset)
        if self._without is not None:
            found = [*found, self._without]
        return Neighbours(*(tuple(key for each in found for key in each.keys(kind)) for kind in _KINDS))


async def find_neighbours(listing: SharedListing, partition: TopicPartition, offset: int | None) -> Neighbours:
    """The data objects of `partition` around `offset`; None stands behind all of them.

    Every day is listed: Kafka timestamps may be a producer's, so neither the day of an offset nor the order of days
    says where the object before it lies. A few names of each leader epoch are kept. Of names with epochs, those of the
    latest epoch count that begins at or before the offset.
    """
    found = await listing.collect(partition, lambda: _NeighbourCollector(offset))
    return found.neighbours()


@dataclass
class History:
    """The objects of a partition up to an offset, as far as their names tell of leader epochs."""

    start: int  # of the first object; the offset where there is none
    last_of: dict[int, str]  # for each epoch, the last object with that epoch in its name
    without: tuple[str, ...]  # the objects around the offset of those that have no epoch in their names


class _HistoryCollector:
    """The first object, the last one of each leader epoch, and those without an epoch around an offset."""

    def __init__(self, offset: int) -> None:
        self._offset = self._start = offset
        self._last_of: dict[int, DataObjectName] = {}
        self._without: _Around | None = None

    def add(self, name: DataObjectName) -> None:
        self._start = min(self._start, name.start)
        if name.leader_epoch is None:
            self._without = self._without or _Around(name)
            self._without.add(name, self._offset)
            return
        last = self._last_of.setdefault(name.leader_epoch, name)
        if name.start > last.start or (name.start == last.start and name.key < last.key):
            self._last_of[name.leader_epoch] = name

    def history(self) -> History:
        without = self._without
        return History(
            self._start,
            {epoch: name.key for epoch, name in self._last_of.items()},
            tuple(key for kind in _KINDS for key in without.keys(kind)) if without is not None else (),
        )


async def find_history(listing: SharedListing, partition: TopicPartition, offset: int) -> History:
    """The history of `partition` up to an offset."""
    found = await listing.collect(partition, lambda: _HistoryCollector(offset))
    return found.history()


_KINDS = ("before", "at", "after")


def _of_latest_epoch(by_epoch: dict[int, _Around], offset: int | None) -> list[_Around]:
    if not by_epoch:
        return []
    epochs = sorted(by_epoch)
    begun = [each for each in epochs if offset is None or by_epoch[each].first.start <= offset]
    later = [by_epoch[each].first for each in epochs[len(begun) :]]
    if not begun:
        return [_Around(later[0], after=later[:1])]
    latest = by_epoch[begun[-1]]
    before = next((by_epoch[each].before for each in reversed(begun) if by_epoch[each].before), [])
    after = min([*latest.after, *later], key=lambda name: name.start, default=None)
    return [_Around(latest.first, before, latest.at, [after] if after is not None else [])]
