"""Finds the data objects around an offset by listing, where a commit does not tell."""

from ingestd.core.chain import Neighbours
from ingestd.core.object_keys import ObjectKeys
from ingestd.core.records import TopicPartition
from ingestd.sinks.listing import Listing


async def find_neighbours(
    listing: Listing, keys: ObjectKeys, partition: TopicPartition, offset: int | None
) -> Neighbours:
    """The data objects of `partition` around `offset`; None stands behind all of them.

    Every day is listed: Kafka timestamps may be a producer's, so neither the day of an offset nor the order of days
    says where the object before it lies. One call a day (and a thousand objects); only three names are kept.
    """
    before: tuple[int, str] | None = None
    after: tuple[int, str] | None = None
    at: str | None = None
    for day in await listing.days(keys.events):
        async for key in listing.keys(keys.day_prefix(day, partition)):
            name = keys.parse(key)
            if name is None:
                continue
            if offset is None or name.start < offset:
                before = max(before or (name.start, key), (name.start, key))
            elif name.start == offset:
                at = key
            else:
                after = min(after or (name.start, key), (name.start, key))
    return Neighbours(before[1] if before else None, at, after[1] if after else None)
