"""What the store holds of one partition's chain, by listing. Seldom needed: where a commit's mark is missing."""

from collections.abc import AsyncIterator, Awaitable, Callable

from ingestd.core.chain import Neighbours
from ingestd.core.object_keys import ObjectKeys
from ingestd.core.records import TopicPartition
from ingestd.sinks.base import Sink

Page = Callable[[], Awaitable[list[str]]]

_PAGE = 1000  # keys


async def days(sink: Sink, folder: str) -> list[str]:
    """The day folders that exist below `folder`, in order. Three levels of a delimited listing, not one of objects."""
    level = [folder]
    for name in ("year=", "month=", "day="):
        level = [
            below for folder in level for below in await sink.folders(folder) if below.startswith(f"{folder}{name}")
        ]
    return level


async def keys(sink: Sink, ask: Callable[[Page], Awaitable[list[str]]], prefix: str) -> AsyncIterator[str]:
    """The keys of one folder that begin with `prefix`, in order.

    `ask` calls the sink, as a guard does, and repeats a call that fails: a listing that broke off is begun anew, and
    goes on behind the last key that was handed out.
    """
    seen = ""
    listing: AsyncIterator[str] | None = None

    async def page() -> list[str]:
        nonlocal listing
        found: list[str] = []
        try:
            if listing is None:
                listing = sink.list(prefix)
            async for key in listing:
                if key > seen:
                    found.append(key)
                if len(found) == _PAGE:
                    break
        except BaseException:
            listing = None
            raise
        return found

    while found := await ask(page):
        seen = found[-1]
        for key in found:
            yield key


async def neighbours(sink: Sink, layout: ObjectKeys, partition: TopicPartition, offset: int) -> Neighbours:
    """The data objects of `partition` around `offset`.

    Every day is looked at: Kafka timestamps may be a producer's, so neither the day of an offset nor the order of
    days says where the object before it lies. One call a day (and a thousand objects), nothing is kept but three names.
    """
    before: tuple[int, str] | None = None
    after: tuple[int, str] | None = None
    at: str | None = None
    for day in await days(sink, layout.events):
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
