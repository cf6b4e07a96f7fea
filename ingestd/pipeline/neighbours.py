"""Finds the data objects around an offset by listing, where a commit does not tell."""

from dataclasses import dataclass

from ingestd.core.chain import Neighbours
from ingestd.core.object_keys import DataObjectName, ObjectKeys
from ingestd.core.records import TopicPartition
from ingestd.sinks.listing import Listing

_UNFORKED = -1  # before every fork


@dataclass
class _Branch:
    """The objects with one fork in their names: the first one, and those around the offset."""

    first: DataObjectName
    before: DataObjectName | None = None
    at: DataObjectName | None = None
    after: DataObjectName | None = None

    def add(self, name: DataObjectName, offset: int | None) -> None:
        if name.start < self.first.start:
            self.first = name
        if offset is None or name.start < offset:
            if self.before is None or name.start > self.before.start:
                self.before = name
        elif name.start == offset:
            self.at = name
        elif self.after is None or name.start < self.after.start:
            self.after = name


async def find_neighbours(
    listing: Listing, keys: ObjectKeys, partition: TopicPartition, offset: int | None
) -> Neighbours:
    """The data objects around `offset` in the chain of `partition`; None stands behind all of them."""
    return _in_chain(await _find_branches(listing, keys, partition, offset), offset)


async def find_fork(
    listing: Listing, keys: ObjectKeys, partition: TopicPartition, offset: int, leader_epoch: int
) -> str | None:
    """The first object of the chain's last fork, if it begins at `offset` and later than in this leader epoch.

    The record that named it may be gone from the log since, by compaction, so that its name cannot be told.
    """
    branches = await _find_branches(listing, keys, partition, offset)
    last = max(branches, default=_UNFORKED)
    return _key(branches[last].at) if last > leader_epoch and branches[last].first.start == offset else None


async def _find_branches(
    listing: Listing, keys: ObjectKeys, partition: TopicPartition, offset: int | None
) -> dict[int, _Branch]:
    """The objects around an offset by the fork in their names.

    Every day is listed: Kafka timestamps may be a producer's, so neither the day of an offset nor the order of days
    says where the object before it lies. One call a day (and a thousand objects); a few names of each fork are kept.
    """
    branches: dict[int, _Branch] = {}
    for day in await listing.days(keys.events):
        async for key in listing.keys(keys.day_prefix(day, partition)):
            if (name := keys.parse(key)) is not None:
                number = _UNFORKED if name.fork is None else name.fork
                branches.setdefault(number, _Branch(name)).add(name, offset)
    return branches


def _in_chain(branches: dict[int, _Branch], offset: int | None) -> Neighbours:
    """The objects around an offset in the chain: from its first object on, a later fork replaces what was before."""
    replaced_from: DataObjectName | None = None
    for fork in sorted(branches, reverse=True):
        branch = branches[fork]
        if offset is None or offset >= branch.first.start:
            earlier = [branches[each] for each in sorted(branches, reverse=True) if each <= fork]
            before = next((each.before for each in earlier if each.before is not None), None)
            after = branch.after
            if replaced_from is not None and (after is None or after.start >= replaced_from.start):
                after = replaced_from
            return Neighbours(_key(before), _key(branch.at), _key(after))
        replaced_from = branch.first
    return Neighbours(after=_key(replaced_from))


def _key(name: DataObjectName | None) -> str | None:
    return name.key if name is not None else None
