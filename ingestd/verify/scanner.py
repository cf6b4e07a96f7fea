"""Looks at every object of some chains: lists the days, and asks for each object's metadata, many at once.

Nothing is kept of an object once it was judged. Errors: ``SinkError`` where the store gives no answer for a minute.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing
from typing import TypeVar

import msgspec

from ingestd.core.object_keys import DataObjectName, ObjectKeys, ObjectMetadata, QuarantineObjectName, day_folder
from ingestd.core.records import TopicPartition
from ingestd.sinks.base import Sink
from ingestd.sinks.listing import days, keys
from ingestd.sinks.retry import SinkRetrier
from ingestd.verify.body_verifier import BodyVerifier
from ingestd.verify.chains import Audit, Links
from ingestd.verify.gap_resolver import GapResolver
from ingestd.verify.ranges import Range

PATIENCE = 60.0  # seconds for an answer, with all tries
LOOKERS = 32  # objects that are looked at at once
LISTERS = 4  # days that are listed at once

_WAITING = 4 * LOOKERS  # names that are listed and not looked at
_MAX_ATTEMPTS = 1000  # of one batch, by name
_DAY_MS = 86_400_000

T = TypeVar("T")


class ScannedObject(msgspec.Struct, frozen=True):
    """How far the walk is: days that are listed, of all that will be, with the parts of those under way."""

    days: float
    all_days: int
    objects: int


class _Batch(msgspec.Struct):
    """What is named after one start: the data object (or several, at least once), and quarantine objects' digests."""

    place: str
    names: list[DataObjectName]
    digests: list[str]


class Scanner:
    """One walk over a sink. What is found goes to the audit."""

    def __init__(self, sink: Sink, guard: SinkRetrier, audit: Audit, *, reading: BodyVerifier | None = None) -> None:
        """`reading` reads the bodies, where they are to be read. The guard lets as many calls through as we make."""
        self._sink = sink
        self._guard = guard
        self._audit = audit
        self._reading = reading
        self._layout: ObjectKeys = audit.layout
        self._folders: list[str] = []
        self._listed = 0
        self._partitions: dict[str, set[TopicPartition]] = {}  # seen so far, in days under way

    @property
    def progress(self) -> ScannedObject:
        """Within a day partitions come one after the other, in each day the same ones, more or less."""
        known = max(1, len(self._audit.links))
        parts = sum(min(1.0, max(0, len(seen) - 1) / known) for seen in self._partitions.values())
        return ScannedObject(self._listed + parts, len(self._folders), self._audit.objects)

    async def run(self) -> None:
        """Look at everything once, and again at what seems wrong."""
        self._folders = await self._days()
        waiting: asyncio.Queue[_Batch | None] = asyncio.Queue(_WAITING)
        async with asyncio.TaskGroup() as group:
            for _ in range(LOOKERS):
                group.create_task(self._look(waiting))
            await _side_by_side(self._folders, LISTERS, lambda folder: self._list_day(folder, waiting))
            for _ in range(LOOKERS):
                await waiting.put(None)
        if not self._audit.scope.whole:
            lost = [links for links in self._audit.links.values() if _adrift(links)]
            await _side_by_side(lost, LOOKERS, self._find_commit)
        await _side_by_side(list(self._audit.links.values()), LOOKERS, self._look_again)

    # -- the first look

    async def _days(self) -> list[str]:
        """The days to look through, without the lineage: those of the range, and the one before it.

        The day is that of an object's first record. One that began earlier still, as after an outage of days, and
        reaches into the range, is not counted; nothing else follows from that, as it is before all others.
        """
        found = set()
        for root in (self._layout.events, self._layout.quarantine):
            listed = await self._ask(lambda root=root: days(self._sink, root))  # type: ignore[misc]
            found |= {folder.removeprefix(root) for folder in listed}
        since, until = self._audit.scope.since, self._audit.scope.until
        first = day_folder(since - _DAY_MS) if since is not None else ""
        last = day_folder(until - 1) if until is not None else "~"
        return sorted(folder for folder in found if first <= folder <= last)

    async def _list_day(self, folder: str, waiting: "asyncio.Queue[_Batch | None]") -> None:
        """Hand out the batches of a day. Data and quarantine are both listed in the order of their places."""
        async with aclosing(self._rejected(folder)) as quarantine:
            rejected = await anext(quarantine, None)
            async with aclosing(self._landed(folder)) as batches:
                async for batch in batches:
                    while rejected is not None and _place(rejected.key) < batch.place:
                        self._audit.quarantined(rejected.partition, 0, 1)
                        rejected = await anext(quarantine, None)
                    while rejected is not None and _place(rejected.key) == batch.place:
                        if len(batch.digests) < _MAX_ATTEMPTS:
                            batch.digests.append(rejected.digest)
                        rejected = await anext(quarantine, None)
                    await waiting.put(batch)
            while rejected is not None:
                self._audit.quarantined(rejected.partition, 0, 1)
                rejected = await anext(quarantine, None)
        self._listed += 1
        self._partitions.pop(folder, None)

    async def _landed(self, folder: str) -> AsyncGenerator[_Batch, None]:
        batch: _Batch | None = None
        async for key in self._keys(self._layout.events + folder):
            name = self._layout.parse(key)
            if name is None:
                self._audit.foreign(key)
                continue
            if not self._audit.wants(name.partition):
                continue
            self._partitions.setdefault(folder, set()).add(name.partition)
            place = _place(key)
            if batch is not None and batch.place == place and len(batch.names) < _MAX_ATTEMPTS:
                batch.names.append(name)
                continue
            if batch is not None:
                yield batch
            batch = _Batch(place, [name], [])
        if batch is not None:
            yield batch

    async def _rejected(self, folder: str) -> AsyncGenerator[QuarantineObjectName, None]:
        async for key in self._keys(self._layout.quarantine + folder):
            name = self._layout.parse_quarantine(key)
            if name is None:
                self._audit.strange_quarantine += 1
            elif self._audit.scope.topics is None or name.partition.topic in self._audit.scope.topics:
                yield name

    async def _look(self, waiting: "asyncio.Queue[_Batch | None]") -> None:
        while (batch := await waiting.get()) is not None:
            named = [await self._look_at(name, batch.digests) for name in batch.names]
            superseded = set(batch.digests).difference(named)
            if superseded:
                self._audit.quarantined(batch.names[0].partition, 0, len(superseded))

    async def _look_at(self, name: DataObjectName, digests: list[str]) -> str | None:
        """Judge one object; the digest of the quarantine object that it names."""
        info = await self._ask(lambda: self._sink.head(name.key))
        if info is None:
            self._audit.deleted(name)
            return None
        landed = ObjectMetadata.from_metadata(info.metadata)
        if landed is None:
            self._audit.foreign(name.key, name.partition)
            return None
        if not self._audit.take(name, landed, info.size):
            return landed.quarantine
        quarantined = await self._has_rejected(name, landed, digests)
        if self._reading is not None:
            await self._reading.read(name, landed, info.size, quarantined)
        return landed.quarantine

    async def _has_rejected(self, name: DataObjectName, landed: ObjectMetadata, digests: list[str]) -> str | None:
        """The key of the quarantine object that belongs to a data object, if there is to be one and it is there."""
        if landed.quarantine is None:
            if landed.rejected:
                self._audit.content("quarantine_missing", name, name.key, "it names none")
            return None
        key = self._layout.quarantine_key(name.partition, landed.start, landed.first_timestamp, landed.quarantine)
        # What was listed is there; what was not may have come since.
        if landed.quarantine not in digests and await self._ask(lambda: self._sink.head(key)) is None:
            self._audit.content("quarantine_missing", name, key, "it is not there")
            return None
        self._audit.quarantined(name.partition, 1, 0)
        return key

    # -- the second look

    async def _look_again(self, links: Links) -> None:
        """Settle what seems to be a gap, and name who overlaps whom: by all names of the partition, of all days."""
        partition = links.partition
        look = GapResolver(links.ranges.holes(), self._audit.overlaps.get(partition, []))
        overlaps = bool(self._audit.overlaps.get(partition))
        if not links.ranges.holes() and not overlaps:
            return
        for folder in await self._all_folders():
            async for name in self._names(folder, partition):
                if look.see(name):
                    await self._fill(name)
            if not links.ranges.holes() and not overlaps:
                return
        look.settle_overlaps()
        for hole in links.ranges.holes():
            self._audit.gap(partition, hole, *look.beside(hole))

    async def _fill(self, name: DataObjectName) -> None:
        """Add an object that the first look has not, or that is out of the range of time."""
        info = await self._ask(lambda: self._sink.head(name.key))
        landed = ObjectMetadata.from_metadata(info.metadata) if info is not None else None
        if info is not None and landed is not None:
            self._audit.take(name, landed, info.size, filling=True)

    async def _find_commit(self, links: Links) -> None:
        """Find the object that begins or ends at the committed offset among those out of the range of time.

        It is most often the last of all, so the newest day comes first; only where there is none are all looked at.
        """
        assert links.commit is not None
        offset = links.commit.offset
        best: DataObjectName | None = None
        for folder in await self._all_folders():
            last: DataObjectName | None = None
            async for name in self._names(folder, links.partition):
                if name.start > offset:
                    links.after = min(name.start, links.after or name.start)
                elif last is None or name.start > last.start:
                    last = name
            if last is None:
                continue
            if best is None or last.start > best.start:
                best = last
            if await self._reaches(links, last, offset):
                return
        if best is not None:
            await self._reaches(links, best, -1)

    async def _reaches(self, links: Links, name: DataObjectName, offset: int) -> bool:
        """Take an object as the last before the committed offset, if it reaches to `offset`."""
        info = await self._ask(lambda: self._sink.head(name.key))
        landed = ObjectMetadata.from_metadata(info.metadata) if info is not None else None
        if info is None or landed is None or landed.end < offset:
            return False
        links.meet(Range(landed.start, landed.end), name.key)
        extent = links.ranges.whole
        if extent is None:
            links.before = Range(landed.start, landed.end)
        elif landed.start >= extent.end:
            # The chain goes on behind the range of time; what lies between is looked at with the gaps.
            self._audit.take(name, landed, info.size, filling=True)
        return True

    # -- the store

    async def _all_folders(self) -> list[str]:
        """All days, the newest first."""
        return (await self._ask(lambda: days(self._sink, self._layout.events)))[::-1]

    async def _names(self, folder: str, partition: TopicPartition) -> AsyncIterator[DataObjectName]:
        async for key in self._keys(self._layout.day_prefix(folder, partition)):
            if (name := self._layout.parse(key)) is not None:
                yield name

    def _keys(self, prefix: str) -> AsyncIterator[str]:
        return keys(self._sink, self._ask, prefix)

    async def _ask(self, operation: Callable[[], Awaitable[T]]) -> T:
        return await self._guard.call_briefly(operation, patience_s=PATIENCE)


def _place(key: str) -> str:
    """What the names of one batch begin with: topic, partition and start."""
    name = key.rpartition("/")[2]
    return name[: name.index("+", name.index("+") + 1) + 21]


def _adrift(links: Links) -> bool:
    """Whether it is not known how the committed offset lies to the chain."""
    return links.commit is not None and not links.boundary and links.around is None


async def _side_by_side(items: Iterable[T], most: int, work: Callable[[T], Awaitable[None]]) -> None:
    """Do `work` on all items, on `most` of them at once."""
    rest = iter(items)

    async def one_by_one() -> None:
        for item in rest:
            await work(item)

    async with asyncio.TaskGroup() as group:
        for _ in range(most):
            group.create_task(one_by_one())
