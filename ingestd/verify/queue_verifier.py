"""Verifies what a queue's messages have become: manifests against data objects, and no message in two of them.

The messages of a batch were received for the first time within one hour, so a message that landed twice is in objects
of the same hour, or of the next one where it was near its end. That is as much as is in memory at once.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing

import msgspec

from ingestd.core.formatting import number
from ingestd.core.object_keys import day_folder
from ingestd.core.queue_keys import HOUR_MS, TOLERANCE_MS, QueueKeys, QueueObjectName, receipt_hour
from ingestd.core.queue_objects import Manifest, MessageIds, QueueObjectMetadata, is_fence
from ingestd.core.records import TopicPartition
from ingestd.core.stored import ObjectInfo
from ingestd.sinks.listing import FIRST_DAY, LAST_DAY, Listing
from ingestd.verify.contents import ContentError
from ingestd.verify.findings import ChainCounts, Findings
from ingestd.verify.queue_contents import LandedIds, has_rows, rejected_ids, repeated, row_ids
from ingestd.verify.scanner import MAX_HEADS, ScanProgress

RETENTION_MS = 14 * 24 * HOUR_MS  # of a queue, at most: a manifest is of no use to a message that is older


class QueueScope(msgspec.Struct, frozen=True, kw_only=True):
    """What is verified. Times are those at which messages were sent, in milliseconds."""

    queue: str | None  # None: all
    since: int | None
    until: int | None
    read: bool
    fenced: bool  # with manifests
    now_ms: int


class QueueVerifier:
    """Adds what it finds to `problems`, `notes` and `counts`. Errors: ``SinkError``."""

    def __init__(self, listing: Listing, keys: QueueKeys, scope: QueueScope) -> None:
        self.problems = Findings()
        self.notes = Findings()
        self.counts: defaultdict[str, ChainCounts] = defaultdict(ChainCounts)  # by queue
        self._listing = listing
        self._keys = keys
        self.scope = scope
        self._days: list[str] = []
        self._done_days = 0
        self._objects = 0
        self._fences = 0
        self._unfinished = 0
        self._expired = 0
        self._slots = asyncio.Semaphore(MAX_HEADS)
        self._last_hour: list[LandedIds] = []  # the objects of the hour before

    @property
    def progress(self) -> ScanProgress:
        return ScanProgress(self._done_days, len(self._days), self._objects)

    async def run(self) -> None:
        """Look at all objects, day by day."""
        first = day_folder(self.scope.since) if self.scope.since is not None else FIRST_DAY
        last = day_folder(self.scope.until + RETENTION_MS) if self.scope.until is not None else LAST_DAY
        found = set()
        for root in (self._keys.events, self._keys.quarantine):
            found |= {folder.removeprefix(root) for folder in await self._listing.days(root, first, last)}
        self._days = sorted(found)
        for day in self._days:
            await self._verify_day(day)
            self._done_days += 1
        self._note_counts()

    async def _verify_day(self, day: str) -> None:
        names = [name async for name in self._data_names(day)]
        manifests = await self._manifests(day, {name.queue for name in names})
        digests = await self._quarantine_digests(day)
        by_hour: defaultdict[tuple[str, int], list[QueueObjectName]] = defaultdict(list)
        for name in names:
            by_hour[name.queue, receipt_hour(name.batch.first_ms)].append(name)
        self._unfinished += len(manifests - {name.batch.text for name in names})
        for (queue, hour), some in sorted(by_hour.items()):
            looks = [self._verify_object(name, name.batch.text in manifests, digests) for name in some]
            landed = [it for it in await asyncio.gather(*looks) if it is not None]
            self._find_repeated(queue, hour, landed)
        for name in names:
            digests.pop(name.batch.text, None)
        for queue, left in digests.values():  # of batches without a data object
            self.counts[queue].superseded += len(left)

    async def _data_names(self, day: str) -> AsyncGenerator[QueueObjectName, None]:
        async with aclosing(self._listing.keys(self._keys.events + day)) as keys:
            async for key in keys:
                name = self._keys.parse_data(key)
                if name is None:
                    self.problems.add("foreign", f"{key} is not an object of a queue's messages", key=key)
                elif self.scope.queue in {None, name.queue}:
                    yield name

    async def _manifests(self, day: str, queues: Iterable[str]) -> set[str]:
        """The ids of all batches that have a manifest in this day."""
        found: set[str] = set()
        for queue in sorted(queues) if self.scope.fenced else ():
            prefix = f"{self._keys.manifests}{queue}/{_date_of(day)}T"
            async with aclosing(self._listing.keys(prefix)) as keys:
                async for key in keys:
                    if (name := self._keys.parse_manifest(key)) is not None:
                        found.add(name.batch.text)
        return found

    async def _quarantine_digests(self, day: str) -> dict[str, tuple[str, list[str]]]:
        """The queue and the digests of quarantine objects, by the id of their batch."""
        found: dict[str, tuple[str, list[str]]] = {}
        async with aclosing(self._listing.keys(self._keys.quarantine + day)) as keys:
            async for key in keys:
                name = self._keys.parse_quarantine(key)
                if name is None:
                    self.notes.add("strange_quarantine", key, key=key)
                elif self.scope.queue in {None, name.queue}:
                    found.setdefault(name.batch.text, (name.queue, []))[1].append(name.digest or "")
        return found

    # -- one object

    async def _verify_object(
        self, name: QueueObjectName, has_manifest: bool, digests: dict[str, tuple[str, list[str]]]
    ) -> LandedIds | None:
        """Look at a data object; its messages where it has landed ones and a manifest."""
        async with self._slots:
            self._objects += 1
            info = await self._listing.head(name.key)
            if info is None:
                self._problem("deleted", name, "was listed and no longer existed a moment later")
                return None
            if is_fence(info.metadata):
                await self._verify_fence(name)
                return None
            metadata = QueueObjectMetadata.from_metadata(info.metadata)
            if metadata is None:
                self._problem("foreign", name, "has no metadata of ingestd")
                return None
            if not self._in_scope(metadata):
                return None
            if (wrong := _contradiction(name, metadata)) is not None:
                self._problem("mismatch", name, wrong)
                return None
            _, found = digests.get(name.batch.text, ("", []))
            self._count(name, metadata, info, found)
            bodies = await self._read(name, metadata) if self.scope.read else None
            return await self._verify_manifest(name, metadata, bodies, has_manifest=has_manifest)

    async def _verify_fence(self, name: QueueObjectName) -> None:
        self._fences += 1
        if self.scope.read and has_rows(await self._listing.get(name.key)):
            self._problem("content", name, "is a fence and has rows")

    def _count(self, name: QueueObjectName, metadata: QueueObjectMetadata, info: ObjectInfo, found: list[str]) -> None:
        counts = self.counts[name.queue]
        counts.objects += 1
        counts.bytes += info.size
        counts.rows += metadata.rows
        counts.rejected += metadata.rejected
        counts.add_timestamp(metadata.first_timestamp)
        counts.add_timestamp(metadata.last_timestamp)
        counts.superseded += sum(digest != metadata.quarantine for digest in found)
        if metadata.quarantine is not None:
            counts.quarantine_objects += 1
            if metadata.quarantine not in found:
                key = self._keys.quarantine_key(name.queue, name.batch, metadata.quarantine)
                self._problem("quarantine_missing", name, f"names {key}, which does not exist")

    async def _read(self, name: QueueObjectName, metadata: QueueObjectMetadata) -> list[str] | None:
        """The ids in the rows and in the quarantine object; None where one of them is wrong."""
        try:
            ids = await asyncio.to_thread(row_ids, await self._listing.get(name.key), metadata)
        except ContentError as error:
            self._problem("content", name, f": {error}")
            return None
        if metadata.quarantine is None:
            return ids
        key = self._keys.quarantine_key(name.queue, name.batch, metadata.quarantine)
        if await self._listing.head(key) is None:
            return None
        try:
            return ids + await asyncio.to_thread(rejected_ids, await self._listing.get(key), metadata)
        except ContentError as error:
            self._problem("quarantine_content", name, f": its quarantine object {key}: {error}")
            return None

    async def _verify_manifest(
        self, name: QueueObjectName, metadata: QueueObjectMetadata, bodies: Sequence[str] | None, *, has_manifest: bool
    ) -> LandedIds | None:
        key = self._keys.manifest_key(name.queue, name.batch)
        if not has_manifest:
            if self.scope.fenced and name.batch.last_ms < self.scope.now_ms - RETENTION_MS:
                self._expired += 1
            elif self.scope.fenced:
                self._problem("manifest_missing", name, f"has no manifest: {key} does not exist")
            return LandedIds(name, MessageIds(bodies)) if bodies is not None else None
        try:
            manifest = await asyncio.to_thread(Manifest.decode, await self._listing.get(key))
        except ValueError as error:
            self._problem("manifest_content", name, f": its manifest {key} is damaged: {error}")
            return None
        count = len(manifest.message_ids)
        if manifest.data_key != name.key or count != metadata.messages:
            wrong = f": its manifest {key} says {count} messages of {manifest.data_key}"
            self._problem("manifest_content", name, f"{wrong}, its metadata {metadata.messages}")
        elif bodies is not None and sorted(bodies) != sorted(manifest.message_ids):
            self._problem(
                "manifest_content", name, f": its manifest {key} has other messages than its rows and rejects"
            )
        return LandedIds(name, MessageIds(manifest.message_ids))

    # -- all of them

    def _find_repeated(self, queue: str, hour: int, landed: list[LandedIds]) -> None:
        """Find messages that are in two objects of this hour, or of this one and the hour before."""
        begin = hour * HOUR_MS
        near = [
            it
            for it in self._last_hour
            if it.name.queue == queue and 0 <= begin - it.name.batch.last_ms <= TOLERANCE_MS
        ]
        before = {it.name.key for it in near}
        for one, other in repeated([*near, *landed]):
            if not {one.name.key, other.name.key} <= before:
                text = f"a message of {other.name.key} is also in {one.name.key}"
                partition = TopicPartition(queue, 0)
                self.problems.add("message_repeated", text, partition, key=other.name.key, other=one.name.key)
        self._last_hour = landed

    def _in_scope(self, metadata: QueueObjectMetadata) -> bool:
        since, until = self.scope.since, self.scope.until
        return (since is None or metadata.last_timestamp >= since) and (
            until is None or metadata.first_timestamp < until
        )

    def _problem(self, code: str, name: QueueObjectName, text: str) -> None:
        joined = f"{name.key}{text}" if text.startswith(":") else f"{name.key} {text}"
        self.problems.add(code, joined, TopicPartition(name.queue, 0), key=name.key)

    def _note_counts(self) -> None:
        superseded = sum(counts.superseded for counts in self.counts.values())
        for code, count in (
            ("fences", self._fences),
            ("unfinished", self._unfinished),
            ("manifests_expired", self._expired),
            ("superseded", superseded),
        ):
            if count:
                self.notes.add(code, number(count, "object"))


def _contradiction(name: QueueObjectName, metadata: QueueObjectMetadata) -> str | None:
    """What of an object's metadata cannot be."""
    if (metadata.queue, metadata.batch) != (name.queue, name.batch.text):
        return f"is named after another batch than its metadata: {metadata.queue}, {metadata.batch}"
    if metadata.rows + metadata.rejected != metadata.messages or min(metadata.rows, metadata.rejected) < 0:
        return f"says {metadata.messages} messages, but {metadata.rows} rows and {metadata.rejected} rejects"
    if (metadata.quarantine is not None) != (metadata.rejected > 0):
        return f"says {metadata.rejected} rejects, and names {'a' if metadata.quarantine else 'no'} quarantine object"
    return None


def _date_of(day: str) -> str:
    """YYYY-MM-DD of a day folder."""
    return "-".join(part.partition("=")[2] for part in day.strip("/").split("/"))
