"""Lists the data objects of many partitions at once: each day folder once for all that ask, not once for each."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol, TypeVar, cast

from ingestd.core.object_keys import DataObjectName, ObjectKeys
from ingestd.core.records import TopicPartition
from ingestd.sinks.listing import Listing, map_ordered

DAYS_AT_ONCE = 4  # few: uploads share the calls to the sink
MOST_SKIPPED = 1000  # names of other partitions in a row: about what one call lists


class Collector(Protocol):
    """Keeps what it needs of a partition's names, whose days come in any order."""

    def add(self, name: DataObjectName) -> None: ...


C = TypeVar("C", bound=Collector)
_Collectors = Mapping[TopicPartition, Sequence[Collector]]


@dataclass(eq=False)
class _Question:
    partition: TopicPartition
    new: Callable[[], Collector]
    answer: Collector | None = None


class SharedListing:
    """The names of data objects, for all partitions that wait for theirs.

    An answer has every object that existed when its question was asked. A listing that began before may have passed the
    place of an object that was written meanwhile, so a question waits for the next one to begin.
    """

    def __init__(self, listing: Listing, keys: ObjectKeys) -> None:
        self._listing = listing
        self._keys = keys
        self._waiting: dict[_Question, None] = {}
        self._lock = asyncio.Lock()

    async def collect(self, partition: TopicPartition, new: Callable[[], C]) -> C:
        """Give all names of the partition to a collector that `new` makes; they are kept nowhere else.

        Of those that wait, one lists for all. If it is cancelled, the next one begins again.
        """
        question = _Question(partition, new)
        self._waiting[question] = None
        try:
            await asyncio.sleep(0)  # all partitions of one rebalance ask in the same turn of the loop
            async with self._lock:
                if question.answer is None:
                    await self._answer(list(self._waiting))
        finally:
            self._waiting.pop(question, None)
        return cast("C", question.answer)

    async def _answer(self, questions: Sequence[_Question]) -> None:
        answers = [question.new() for question in questions]
        wanted: dict[TopicPartition, list[Collector]] = defaultdict(list)
        for question, answer in zip(questions, answers, strict=True):
            wanted[question.partition].append(answer)
        await self._list_all(dict(wanted))
        for question, answer in zip(questions, answers, strict=True):
            question.answer = answer
            self._waiting.pop(question, None)

    async def _list_all(self, wanted: _Collectors) -> None:
        topics: dict[str, list[TopicPartition]] = defaultdict(list)
        for partition in wanted:
            topics[partition.topic].append(partition)

        async def days() -> AsyncIterator[str]:
            for day in await self._listing.days(self._keys.events):
                yield day

        async def list_day(day: str) -> None:
            for partitions in topics.values():
                await self._list_day(sorted(self._keys.day_prefix(day, each) for each in partitions), day, wanted)

        async with aclosing(map_ordered(days(), list_day, DAYS_AT_ONCE)) as listed:
            async for _ in listed:
                pass

    async def _list_day(self, prefixes: Sequence[str], day: str, wanted: _Collectors) -> None:
        """List a topic's partitions in one go, as long as enough of the names are theirs, then one by one.

        So a few partitions of a large topic do not take more calls than they would one by one.
        """
        left = await self._list(_common(prefixes[0], prefixes[-1]), prefixes, day, wanted)
        for prefix in left:
            await self._list(prefix, (), day, wanted)

    async def _list(self, prefix: str, prefixes: Sequence[str], day: str, wanted: _Collectors) -> Sequence[str]:
        """List what begins with `prefix`; returns those of `prefixes` behind the place where it gave up."""
        skipped = 0
        async with aclosing(self._listing.keys(prefix)) as keys:
            async for key in keys:
                name = self._keys.parse(key)
                if name is None:
                    continue
                if name.partition in wanted and key.startswith(self._keys.day_prefix(day, name.partition)):
                    skipped = 0
                    for collector in wanted[name.partition]:
                        collector.add(name)
                elif (skipped := skipped + 1) >= MOST_SKIPPED:
                    return [each for each in prefixes if each > key]
        return ()


def _common(first: str, last: str) -> str:
    """What the first and the last of some strings in order, and so all of them, begin with."""
    differs = (at for at, (one, other) in enumerate(zip(first, last, strict=False)) if one != other)
    return first[: next(differs, len(first))]
