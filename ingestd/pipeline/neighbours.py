"""Finds the data objects around an offset by listing, where a commit does not tell."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from ingestd.core.chain import Neighbours
from ingestd.core.object_keys import DataObjectName, ObjectKeys
from ingestd.core.records import TopicPartition
from ingestd.sinks.listing import Listing


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


def _keep(kept: list[DataObjectName], name: DataObjectName, *, better: bool) -> None:
    if better:
        kept[:] = [name]
    elif name.start == kept[0].start:
        kept.append(name)


async def find_neighbours(
    listing: Listing, keys: ObjectKeys, partition: TopicPartition, offset: int | None
) -> Neighbours:
    """The data objects of `partition` around `offset`; None stands behind all of them.

    Every day is listed: Kafka timestamps may be a producer's, so neither the day of an offset nor the order of days
    says where the object before it lies. One call a day (and a thousand objects); a few names of each leader epoch
    are kept. Of names with epochs, those of the latest epoch count that begins at or before the offset.
    """
    by_epoch: dict[int, _Around] = {}
    without: _Around | None = None
    async for name in _names(listing, keys, partition):
        if name.leader_epoch is None:
            without = without or _Around(name)
            without.add(name, offset)
        else:
            by_epoch.setdefault(name.leader_epoch, _Around(name)).add(name, offset)
    found = _of_latest_epoch(by_epoch, offset)
    if without is not None:
        found = [*found, without]
    return Neighbours(*(tuple(name.key for each in found for name in getattr(each, kind)) for kind in _KINDS))


@dataclass
class History:
    """The objects of a partition up to an offset, as far as their names tell of leader epochs."""

    start: int  # of the first object; the offset where there is none
    last_of: dict[int, str]  # for each epoch, the last object with that epoch in its name
    without: tuple[str, ...]  # the objects around the offset of those that have no epoch in their names


async def find_history(listing: Listing, keys: ObjectKeys, partition: TopicPartition, offset: int) -> History:
    """The history of `partition` up to an offset."""
    start, without = offset, None
    last_of: dict[int, DataObjectName] = {}
    async for name in _names(listing, keys, partition):
        start = min(start, name.start)
        if name.leader_epoch is None:
            without = without or _Around(name)
            without.add(name, offset)
        elif name.leader_epoch not in last_of or name.start > last_of[name.leader_epoch].start:
            last_of[name.leader_epoch] = name
    return History(
        start,
        {epoch: name.key for epoch, name in last_of.items()},
        tuple(name.key for kind in _KINDS for name in getattr(without, kind)) if without is not None else (),
    )


async def _names(listing: Listing, keys: ObjectKeys, partition: TopicPartition) -> AsyncIterator[DataObjectName]:
    for day in await listing.days(keys.events):
        async for key in listing.keys(keys.day_prefix(day, partition)):
            if (name := keys.parse(key)) is not None:
                yield name


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
