"""What the store holds of one partition's chain, by listing. Seldom needed: where a commit's mark is missing."""

from ingestd.layout import Layout
from ingestd.records import TopicPartition
from ingestd.sinks import Sink
from ingestd.steps import Neighbours


async def days(sink: Sink, layout: Layout) -> list[str]:
    """The day folders that exist, in order. Three levels of a delimited listing, not a listing of objects."""
    level = [layout.events]
    for name in ("year=", "month=", "day="):
        level = [
            below for folder in level for below in await sink.folders(folder) if below.startswith(f"{folder}{name}")
        ]
    return level


async def neighbours(sink: Sink, layout: Layout, partition: TopicPartition, offset: int) -> Neighbours:
    """The data objects of `partition` around `offset`.

    Every day is looked at: Kafka timestamps may be a producer's, so neither the day of an offset nor the order of
    days says where the object before it lies. One call a day (and a thousand objects), nothing is kept but three names.
    """
    before: tuple[int, str] | None = None
    after: tuple[int, str] | None = None
    at: str | None = None
    for day in await days(sink, layout):
        async for key in sink.list(layout.day_prefix(day, partition)):
            name = layout.parse(key)
            if name is None:
                continue
            if name.start == offset:
                at = key
            elif name.start < offset:
                before = max(before or (name.start, key), (name.start, key))
            else:
                after = min(after or (name.start, key), (name.start, key))
    return Neighbours(before[1] if before else None, at, after[1] if after else None)
