"""Scans all objects of the selected chains: lists the days and asks for each object's metadata, many at once.

Memory does not grow with the number of objects. Errors: ``SinkError`` where the sink does not answer for a minute.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing
from typing import TypeVar

import msgspec

from ingestd.core.object_keys import DataObjectName, QuarantineObjectName, day_folder
from ingestd.core.object_metadata import ObjectMetadata
from ingestd.core.records import TopicPartition
from ingestd.sinks.listing import FIRST_DAY, LAST_DAY, Listing
from ingestd.verify.body_verifier import BodyVerifier
from ingestd.verify.chains import ChainVerifier, PartitionChain
from ingestd.verify.gap_resolver import GapResolver

MAX_HEADS = 32  # objects that are checked at once
MAX_LISTINGS = 4  # days that are listed at once

_MAX_QUEUED = 4 * MAX_HEADS  # batches that are listed and not checked yet
_MAX_ATTEMPTS = 1000  # objects of one batch that are remembered by name
_DAY_MS = 86_400_000

T = TypeVar("T")


class ScanProgress(msgspec.Struct, frozen=True):
    """Days scanned, with fractions for days in progress, of all days; and the number of objects scanned."""

    days: float
    all_days: int
    objects: int


class _BatchNames(msgspec.Struct):
    """All objects of one partition that begin at one offset: data objects, and digests of quarantine objects.

    With at-least-once delivery there may be several data objects.
    """

    prefix: str
    names: list[DataObjectName]
    digests: list[str]


class Scanner:
    """Scans a sink once and adds what it finds to the chains."""

    def __init__(self, listing: Listing, chains: ChainVerifier, bodies: BodyVerifier | None = None) -> None:
        """Bodies are read only where there is a `bodies`. The listing must allow as many calls at once as we make."""
        self._listing = listing
        self._chains = chains
        self._bodies = bodies
        self._layout = chains.layout
        self._days: list[str] = []
        self._scanned_days = 0
        self._seen: dict[str, set[TopicPartition]] = {}  # partitions seen so far in each day in progress

    @property
    def progress(self) -> ScanProgress:
        """Estimated within a day: its partitions come one after the other, and most days have the same ones."""
        known = max(1, len(self._chains.partitions))
        fractions = sum(min(1.0, max(0, len(seen) - 1) / known) for seen in self._seen.values())
        return ScanProgress(self._scanned_days + fractions, len(self._days), self._chains.scanned)

    async def run(self) -> None:
        """Scan every object once, then recheck the gaps, overlaps and committed offsets that look wrong."""
        self._days = await self._days_in_scope()
        queue: asyncio.Queue[_BatchNames | None] = asyncio.Queue(_MAX_QUEUED)
        async with asyncio.TaskGroup() as group:
            for _ in range(MAX_HEADS):
                group.create_task(self._check_queued(queue))
            await _for_each(self._days, MAX_LISTINGS, lambda day: self._list_day(day, queue))
            for _ in range(MAX_HEADS):
                await queue.put(None)
        chains = list(self._chains.partitions.values())
        if not self._chains.scope.all_times:
            await _for_each([chain for chain in chains if chain.commit_unplaced], MAX_HEADS, self._place_commit)
        await _for_each(chains, MAX_HEADS, self._resolve)

    # -- the first scan

    async def _days_in_scope(self) -> list[str]:
        """The names of the day folders to scan: those of the time range and the one before it.

        An object's day is that of its first record. An object that began earlier still, as after an outage of days,
        and reaches into the range is not counted. Nothing else follows from that: it is before all others.
        """
        since, until = self._chains.scope.since, self._chains.scope.until
        first = day_folder(since - _DAY_MS) if since is not None else FIRST_DAY
        last = day_folder(until - 1) if until is not None else LAST_DAY
        found = set()
        for root in (self._layout.events, self._layout.quarantine):
            found |= {folder.removeprefix(root) for folder in await self._listing.days(root, first, last)}
        return sorted(found)

    async def _list_day(self, day: str, queue: "asyncio.Queue[_BatchNames | None]") -> None:
        """Queue the batches of a day. Data and quarantine objects are both listed in the order of their prefixes."""
        async with aclosing(self._quarantine_names(day)) as quarantine, aclosing(self._batches(day)) as batches:
            rejected = await anext(quarantine, None)
            async for batch in batches:
                while rejected is not None and (prefix := self._layout.batch_prefix(rejected.key)) <= batch.prefix:
                    if prefix < batch.prefix:
                        self._chains.count_quarantine(rejected.partition, superseded=1)
                    elif len(batch.digests) < _MAX_ATTEMPTS:
                        batch.digests.append(rejected.digest)
                    rejected = await anext(quarantine, None)
                await queue.put(batch)
            while rejected is not None:
                self._chains.count_quarantine(rejected.partition, superseded=1)
                rejected = await anext(quarantine, None)
        self._scanned_days += 1
        self._seen.pop(day, None)

    async def _batches(self, day: str) -> AsyncGenerator[_BatchNames, None]:
        batch: _BatchNames | None = None
        async for key in self._listing.keys(self._layout.events + day):
            name = self._layout.parse(key)
            if name is None:
                self._chains.add_foreign(key)
                continue
            if not self._chains.selects(name.partition):
                continue
            self._seen.setdefault(day, set()).add(name.partition)
            prefix = self._layout.batch_prefix(key)
            if batch is not None and batch.prefix == prefix and len(batch.names) < _MAX_ATTEMPTS:
                batch.names.append(name)
                continue
            if batch is not None:
                yield batch
            batch = _BatchNames(prefix, [name], [])
        if batch is not None:
            yield batch

    async def _quarantine_names(self, day: str) -> AsyncGenerator[QuarantineObjectName, None]:
        topics = self._chains.scope.topics
        async for key in self._listing.keys(self._layout.quarantine + day):
            name = self._layout.parse_quarantine(key)
            if name is None:
                self._chains.strange_quarantine += 1
            elif topics is None or name.partition.topic in topics:
                yield name

    async def _check_queued(self, queue: "asyncio.Queue[_BatchNames | None]") -> None:
        while (batch := await queue.get()) is not None:
            named = [await self._check(name, batch.digests) for name in batch.names]
            superseded = set(batch.digests).difference(named)
            if superseded:
                self._chains.count_quarantine(batch.names[0].partition, superseded=len(superseded))

    async def _check(self, name: DataObjectName, digests: list[str]) -> str | None:
        """Check one object; returns the digest of the quarantine object that it names."""
        info = await self._listing.head(name.key)
        if info is None:
            self._chains.add_deleted(name)
            return None
        metadata = ObjectMetadata.from_metadata(info.metadata)
        if metadata is None:
            self._chains.add_foreign(name.key, name.partition)
            return None
        if self._chains.add_object(name, metadata, info.size):
            quarantine = await self._find_quarantine(name, metadata, digests)
            if self._bodies is not None:
                await self._bodies.verify(name, metadata, info.size, quarantine)
        return metadata.quarantine

    async def _find_quarantine(self, name: DataObjectName, metadata: ObjectMetadata, digests: list[str]) -> str | None:
        """The key of a data object's quarantine object; None where it needs none, or where that is missing."""
        digest = metadata.quarantine
        if digest is None:
            if metadata.rejected:
                self._chains.add_content_problem("quarantine_missing", name, name.key, "its metadata names none")
            return None
        key = self._layout.quarantine_key(name.partition, name.start, metadata.first_timestamp, digest)
        # An object that was listed exists; one that was not may have been written since.
        if digest not in digests and await self._listing.head(key) is None:
            self._chains.add_content_problem("quarantine_missing", name, key, "it does not exist")
            return None
        self._chains.count_quarantine(name.partition, named=1)
        return key

    # -- the recheck

    async def _resolve(self, chain: PartitionChain) -> None:
        """Recheck a partition's gaps and forks, and name both objects of each overlap, with the names of all days."""
        branches, overlaps = chain.branches, self._chains.overlaps.get(chain.partition, [])
        gaps, forked = branches.gaps(), bool(branches.lost())
        if not gaps and not overlaps and not forked:
            return
        resolver = GapResolver(gaps, overlaps)
        for day in await self._newest_days():
            async for name in self._names(day, chain.partition):
                if not self._chains.scope.all_times:
                    branches.note_name(name.leader_epoch, name.start)
                if resolver.add_name(name) and (found := await self._head(name)):
                    self._chains.fill_gap(name, *found)
            if not branches.gaps() and not overlaps and not forked:
                return
        resolver.complete_overlaps()
        for gap in branches.gaps():
            self._chains.add_gap(chain.partition, gap, *resolver.neighbours(gap))

    async def find_epochs(self, chain: PartitionChain) -> None:
        """Recheck where leader epochs begin: in objects out of the time range, or missed by the first scan.

        Only names with an epoch matter: where names have none, no chain forks.
        """
        for day in await self._newest_days():
            async for name in self._names(day, chain.partition):
                if not self._chains.scope.all_times:
                    chain.branches.note_name(name.leader_epoch, name.start)
                elif name.leader_epoch is None or chain.branches.has(name.leader_epoch, name.start):
                    continue
                elif (found := await self._head(name)) is not None:
                    self._chains.fill_gap(name, *found)

    async def _place_commit(self, chain: PartitionChain) -> None:
        """Find the object that begins at, ends at or contains the committed offset, out of the time range.

        It is most often the last object of all, so the newest day comes first and most days are not listed.
        """
        assert chain.commit is not None
        offset, epoch = chain.commit.offset, chain.commit.leader_epoch
        best: DataObjectName | None = None
        for day in await self._newest_days():
            last: DataObjectName | None = None
            async for name in self._names(day, chain.partition):
                if name.start > offset:
                    chain.next_start = min(name.start, chain.next_start or name.start)
                elif epoch is None or name.leader_epoch is None or name.leader_epoch <= epoch:
                    last = _later(last, name)
            if last is None:
                continue
            best = _later(best, last)
            if await self._add_if_reaches(chain, last, offset):
                return
        if best is not None:
            await self._add_if_reaches(chain, best, -1)

    async def _add_if_reaches(self, chain: PartitionChain, name: DataObjectName, offset: int) -> bool:
        """Take an object as the last one before the committed offset, if it reaches `offset`."""
        found = await self._head(name)
        if found is None or found[0].end < offset:
            return False
        chain.note_commit(found[0], name.key)
        extent = chain.branches.extent
        if extent is None:
            chain.add_before_commit(found[0])
        elif found[0].start >= extent.end:
            # The chain continues after the time range; what is in between is rechecked with the gaps.
            self._chains.fill_gap(name, *found)
        return not chain.commit_unplaced or offset < 0

    async def _head(self, name: DataObjectName) -> tuple[ObjectMetadata, int] | None:
        """An object's metadata and size; None where it does not exist or has no metadata of ingestd."""
        info = await self._listing.head(name.key)
        metadata = ObjectMetadata.from_metadata(info.metadata) if info is not None else None
        return (metadata, info.size) if info is not None and metadata is not None else None

    async def _newest_days(self) -> list[str]:
        """All day folders, the newest first."""
        return (await self._listing.days(self._layout.events))[::-1]

    async def _names(self, day: str, partition: TopicPartition) -> AsyncIterator[DataObjectName]:
        async for key in self._listing.keys(self._layout.day_prefix(day, partition)):
            if (name := self._layout.parse(key)) is not None:
                yield name


def _later(one: DataObjectName | None, other: DataObjectName) -> DataObjectName:
    """The name that is later in the chain, as far as names tell."""
    order = (-1 if other.leader_epoch is None else other.leader_epoch, other.start)
    if one is not None and (-1 if one.leader_epoch is None else one.leader_epoch, one.start) >= order:
        return one
    return other


async def _for_each(items: Iterable[T], at_once: int, work: Callable[[T], Awaitable[None]]) -> None:
    """Do `work` on every item, on `at_once` of them at a time."""
    rest = iter(items)

    async def work_through() -> None:
        for item in rest:
            await work(item)

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(work_through())
