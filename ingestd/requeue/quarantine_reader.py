"""Reads quarantine objects back: finds the ones whose data object landed, and decodes their records.

A record may be in several quarantine objects, one for each attempt to land its batch. The data object names the digest
of the one that belongs to it: each rejected record is in exactly one such object. What other attempts rejected is in
one of these, too, or has become a row, or will be read again.
"""

import gzip
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from enum import Enum
from io import BytesIO

import msgspec

from ingestd.core import quarantine
from ingestd.core.object_keys import ObjectKeys, QuarantineObjectName, day_folder
from ingestd.core.object_metadata import ObjectMetadata
from ingestd.core.quarantine import Quarantined, QuarantineError
from ingestd.sinks.listing import FIRST_DAY, LAST_DAY, Listing, map_ordered

_AHEAD = 8  # objects that are looked up before their turn
_PREFETCH_BYTES = 1 << 20  # compressed: a body up to this size is fetched before its turn, too
# One record in base64. It may be larger than any event may be, and is then still invalid; no broker accepts as much.
_MAX_LINE_BYTES = 256 << 20


class ObjectStatus(Enum):
    """Whether a quarantine object's records are to be requeued, and if not, why."""

    LANDED = "landed"
    SUPERSEDED = "superseded"  # another attempt landed
    UNLANDED = "unlanded"  # its data object does not exist: not yet, not by this attempt, or no longer
    GONE = "gone"  # deleted since it was listed
    UNREADABLE = "unreadable"  # without valid metadata of ingestd


class QuarantineObject(msgspec.Struct, frozen=True):
    """A quarantine object. `metadata` is None where it is gone or unreadable, `body` where it was not prefetched."""

    name: QuarantineObjectName
    status: ObjectStatus
    metadata: ObjectMetadata | None = None
    body: bytes | None = None


class QuarantineReader:
    """The quarantine of one lineage. ``SinkError`` where the sink does not answer within the listing's patience."""

    def __init__(self, listing: Listing, layout: ObjectKeys) -> None:
        self._listing = listing
        self._layout = layout

    async def objects(self, topic: str, since: int | None, until: int | None) -> AsyncGenerator[QuarantineObject]:
        """The objects with records between two Kafka timestamps (ms), day by day, in the order of their names.

        They are found by the days of their first records. No object is missed as long as the timestamps of a partition
        ascend.
        """
        async with aclosing(map_ordered(self._names(topic, since, until), self._look_up, _AHEAD)) as objects:
            async for found in objects:
                yield found

    async def body(self, found: QuarantineObject) -> bytes:
        """The gzip body as stored."""
        return found.body if found.body is not None else await self._listing.get(found.name.key)

    async def _look_up(self, name: QuarantineObjectName) -> QuarantineObject:
        info = await self._listing.head(name.key)
        if info is None:
            return QuarantineObject(name, ObjectStatus.GONE)
        metadata = ObjectMetadata.from_metadata(info.metadata)
        place = (metadata.topic, metadata.partition) if metadata is not None else None
        # The first object of a leader epoch may be named after its first batch: no record is before it.
        if metadata is None or place != name.partition or not metadata.start <= name.start < metadata.end:
            return QuarantineObject(name, ObjectStatus.UNREADABLE)
        landed = await self._landed(name, metadata)
        if not landed:
            return QuarantineObject(name, ObjectStatus.UNLANDED, metadata)
        if name.digest not in landed:
            return QuarantineObject(name, ObjectStatus.SUPERSEDED, metadata)
        body = await self._listing.get(name.key) if info.size <= _PREFETCH_BYTES else None
        return QuarantineObject(name, ObjectStatus.LANDED, metadata, body)

    async def _landed(self, name: QuarantineObjectName, metadata: ObjectMetadata) -> set[str | None]:
        """The digests in the data objects that may be this one's: with a leader epoch in the name, and without."""
        digests: set[str | None] = set()
        for epoch in dict.fromkeys((None, metadata.leader_epoch)):
            key = self._layout.data_key(name.partition, name.start, metadata.first_timestamp, metadata.end, epoch)
            data = await self._listing.head(key)
            landed = ObjectMetadata.from_metadata(data.metadata) if data is not None else None
            if landed is not None:
                digests.add(landed.quarantine)
            if landed is not None and landed.quarantine == name.digest:
                break
        return digests

    async def _names(self, topic: str, since: int | None, until: int | None) -> AsyncIterator[QuarantineObjectName]:
        root = self._layout.quarantine
        first = day_folder(since) if since is not None else FIRST_DAY
        days = await self._listing.days(root, last=day_folder(until - 1) if until is not None else LAST_DAY)
        for name in await self._last_names([day for day in days if day < root + first], topic):
            yield name
        for day in days:
            if day >= root + first:
                async for name in self._names_of_day(day, topic):
                    yield name

    async def _last_names(self, days: list[str], topic: str) -> list[QuarantineObjectName]:
        """Each partition's last objects (of one batch) in these days: they may reach into the days after."""
        latest: dict[int, list[QuarantineObjectName]] = {}
        for day in days:
            async for name in self._names_of_day(day, topic):
                attempts = latest.setdefault(name.partition.partition, [])
                if attempts and attempts[0].start != name.start:
                    attempts.clear()
                attempts.append(name)
        return [name for _, attempts in sorted(latest.items()) for name in attempts]

    async def _names_of_day(self, day: str, topic: str) -> AsyncIterator[QuarantineObjectName]:
        async for key in self._listing.keys(f"{day}{topic}+"):
            if (name := self._layout.parse_quarantine(key)) is not None:
                yield name


def lines(body: bytes) -> Iterator[Quarantined]:
    """Decode an object's records, one at a time: a small body may be large when decompressed.

    Errors: ``QuarantineError``, also where the gzip file is damaged.
    """
    last = -1
    try:
        with gzip.GzipFile(fileobj=BytesIO(body)) as file:
            while line := file.readline(_MAX_LINE_BYTES):
                rejected = quarantine.decode(line)
                if rejected.offset <= last:
                    raise QuarantineError(f"offset {rejected.offset} comes after {last}")
                last = rejected.offset
                yield rejected
    except (OSError, EOFError, zlib.error) as error:
        raise QuarantineError(f"not a gzip file of lines: {error}") from error
