"""Reads the quarantine back: which of its objects count, and the records in them.

A record is quarantined at least once: by each attempt to land its batch. The attempt that landed is the one whose
digest the data object names; each rejected record is in exactly one object of these. What another attempt rejected is
in one of them, too, or has become a row, or is to be read again.
"""

import asyncio
import gzip
import zlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing
from enum import Enum
from io import BytesIO
from typing import TypeVar

import msgspec

from ingestd.core import quarantine
from ingestd.core.object_keys import ObjectKeys, ObjectMetadata, QuarantineObjectName, day_folder
from ingestd.core.quarantine import Quarantined, QuarantineError
from ingestd.sinks.base import Sink
from ingestd.sinks.listing import days, keys
from ingestd.sinks.retry import SinkRetrier

_AHEAD = 8  # objects that are looked at before their turn
_EARLY_BYTES = 1 << 20  # compressed: a body up to this size is fetched before its turn, too
# One record in base64. It may be larger than any event may be, and is then still bad; no broker takes as much.
_LINE_MAX = 256 << 20

T = TypeVar("T")
U = TypeVar("U")


class ObjectStatus(Enum):
    """What a quarantine object is to its records."""

    COUNTS = "counts"
    SUPERSEDED = "superseded"  # another attempt has landed
    UNLANDED = "unlanded"  # there is no data object beside it: not yet, not by this attempt, or not any more
    GONE = "gone"  # removed since it was listed
    STRANGE = "strange"  # not as we write it


class Found(msgspec.Struct, frozen=True):
    """A quarantine object. `landed` is None where it is gone or strange; `body` is None where it is to be fetched."""

    name: QuarantineObjectName
    standing: ObjectStatus
    landed: ObjectMetadata | None = None
    body: bytes | None = None


class QuarantineReader:
    """The quarantine of one lineage. ``SinkError`` where the sink gives no answer for a while."""

    def __init__(self, sink: Sink, guard: SinkRetrier, layout: ObjectKeys) -> None:
        self._sink = sink
        self._guard = guard
        self._layout = layout

    async def objects(self, topic: str, since: int | None, until: int | None) -> AsyncGenerator[Found]:
        """Those with a record of between two Kafka timestamps (ms) in them, day by day, in the order of their names.

        They are found by the days of their first records: exactly, where timestamps ascend within a partition.
        """
        async with aclosing(_ahead(self._names(topic, since, until), self._look, _AHEAD)) as objects:
            async for found in objects:
                yield found

    async def body(self, found: Found) -> bytes:
        """As it was stored: gzip."""
        if found.body is not None:
            return found.body
        return await self._get(found.name.key)

    async def _look(self, name: QuarantineObjectName) -> Found:
        info = await self._guard.call_briefly(lambda: self._sink.head(name.key))
        if info is None:
            return Found(name, ObjectStatus.GONE)
        landed = ObjectMetadata.from_metadata(info.metadata)
        if landed is None or (landed.topic, landed.partition, landed.start) != (*name.partition, name.start):
            return Found(name, ObjectStatus.STRANGE)
        key = self._layout.data_key(name.partition, landed.start, landed.first_timestamp, landed.end)
        data = await self._guard.call_briefly(lambda: self._sink.head(key))
        winner = ObjectMetadata.from_metadata(data.metadata) if data is not None else None
        if winner is None:
            return Found(name, ObjectStatus.UNLANDED, landed)
        if winner.quarantine != name.digest:
            return Found(name, ObjectStatus.SUPERSEDED, landed)
        body = await self._get(name.key) if info.size <= _EARLY_BYTES else None
        return Found(name, ObjectStatus.COUNTS, landed, body)

    async def _get(self, key: str) -> bytes:
        return await self._guard.call_briefly(lambda: self._sink.get(key))

    async def _names(self, topic: str, since: int | None, until: int | None) -> AsyncIterator[QuarantineObjectName]:
        folders = await self._guard.call_briefly(lambda: days(self._sink, self._layout.quarantine))
        first = self._layout.quarantine + day_folder(since) if since is not None else ""
        last = self._layout.quarantine + day_folder(until - 1) if until is not None else "~"
        for name in await self._before([folder for folder in folders if folder < first], topic):
            yield name
        for folder in folders:
            if first <= folder <= last:
                async for name in self._in_folder(folder, topic):
                    yield name

    async def _before(self, folders: list[str], topic: str) -> list[QuarantineObjectName]:
        """Of each partition the last that begins on one of these days: it may reach into the days after them."""
        latest: dict[int, list[QuarantineObjectName]] = {}
        for folder in folders:
            async for name in self._in_folder(folder, topic):
                attempts = latest.setdefault(name.partition.partition, [])
                if attempts and attempts[0].start != name.start:
                    attempts.clear()
                attempts.append(name)
        return [name for _, attempts in sorted(latest.items()) for name in attempts]

    async def _in_folder(self, folder: str, topic: str) -> AsyncIterator[QuarantineObjectName]:
        async for key in keys(self._sink, self._guard.call_briefly, f"{folder}{topic}+"):
            if (name := self._layout.parse_quarantine(key)) is not None:
                yield name


def lines(body: bytes) -> Iterator[Quarantined]:
    """The records of an object, ascending; one at a time, as it may be far smaller than what is in it.

    Errors: ``QuarantineError``, also where the gzip file is damaged.
    """
    last = -1
    try:
        with gzip.GzipFile(fileobj=BytesIO(body)) as file:
            while line := file.readline(_LINE_MAX):
                rejected = quarantine.decode(line)
                if rejected.offset <= last:
                    raise QuarantineError(f"offset {rejected.offset} comes after {last}")
                last = rejected.offset
                yield rejected
    except (OSError, EOFError, zlib.error) as error:
        raise QuarantineError(f"not a gzip file of lines: {error}") from error


async def _ahead(items: AsyncIterator[T], work: Callable[[T], Awaitable[U]], most: int) -> AsyncGenerator[U]:
    """The outcome of `work` on each item, in their order; it begins for `most` of them at once."""
    underway: deque[asyncio.Future[U]] = deque()
    try:
        async for item in items:
            underway.append(asyncio.ensure_future(work(item)))
            if len(underway) >= most:
                yield await underway[0]
                underway.popleft()
        while underway:
            yield await underway[0]
            underway.popleft()
    finally:
        for task in underway:
            task.cancel()
        await asyncio.gather(*underway, return_exceptions=True)
