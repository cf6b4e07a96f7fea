"""What has been produced to a topic again, as the sink remembers it: a receipt for each transaction, written after it.

They outlive the note that a transaction leaves in Kafka. They belong to one lineage: under another one the same offsets
may be other records.
"""

import gzip
import secrets
import zlib
from typing import TypeVar

import msgspec

from ingestd.core.errors import ConfigError, IngestdError
from ingestd.core.gzip import compress
from ingestd.core.object_keys import ObjectKeys
from ingestd.core.records import TopicPartition
from ingestd.requeue.batches import SPAN, Identity, Names, Produced, Receipt
from ingestd.sinks.base import Sink
from ingestd.sinks.listing import keys
from ingestd.sinks.retry import SinkRetrier

T = TypeVar("T")


class Receipts:
    """Those of one target topic. ``SinkError`` where the sink gives no answer for a while."""

    def __init__(self, sink: Sink, guard: SinkRetrier, layout: ObjectKeys, target: str) -> None:
        self._sink = sink
        self._guard = guard
        self._names = Names(layout, target)
        self._target = target
        self._span: _Span | None = None
        self._assumed: Produced | None = None

    async def known_identity(self) -> Identity | None:
        """Under which name records are produced to the target; None where none ever were."""
        key = self._names.identity
        if await self._guard.call_briefly(lambda: self._sink.head(key)) is None:
            return None
        return await self._read(key, Identity)

    async def identity(self, group_id: str, cluster: str) -> Identity:
        """The same, made now where there is none yet. ``ConfigError`` where it is of another cluster.

        It is kept with what it protects: two configurations that share a sink, and not a group, must not both produce,
        and two sinks that share a group must not overwrite each other's notes. Only where a store takes no conditional
        writes can two first runs at one moment have one each.
        """
        if await self.known_identity() is None:
            made = Identity(f"{group_id}.requeue.{self._target}.{secrets.token_hex(4)}", cluster)
            await self._put(self._names.identity, made)
        found = await self._read(self._names.identity, Identity)
        if found.cluster != cluster:
            raise ConfigError(
                f"records have been requeued to topic {self._target} of another Kafka cluster: {found.cluster}, "
                f"and kafka.bootstrap_servers leads to {cluster}",
                hint="give the brokers of that cluster, or with --to a topic of another name",
            )
        return found

    async def keep(self, produced: Produced) -> None:
        """Write a receipt. It may be there already: then somebody has written it for us, or we for somebody."""
        await self._put(self._names.receipt(produced), produced)
        if self._span is not None:
            self._span.mark(produced)

    def assume(self, produced: Produced) -> None:
        """Take this for produced, and write nothing."""
        self._assumed = produced

    async def has(self, partition: TopicPartition, offset: int, end: int) -> bool:
        """Whether this record has been produced. To be asked in the order of offsets, up to `end`."""
        span = self._span
        if span is None or (span.partition, span.number) != (partition, offset // SPAN):
            span = self._span = await self._open(partition, offset // SPAN)
        for receipt in span.to_read(offset, end):
            span.mark(await self._read(receipt.key, Produced))
        return span.has(offset)

    async def _open(self, partition: TopicPartition, number: int) -> "_Span":
        prefix = self._names.span(partition, number)
        found = [self._names.parse(key) async for key in keys(self._sink, self._guard.call_briefly, prefix)]
        span = _Span(partition, number, [each for each in found if each is not None])
        if self._assumed is not None:
            span.mark(self._assumed)
        return span

    async def _put(self, key: str, what: Identity | Produced) -> None:
        body = compress(msgspec.json.encode(what) + b"\n").data
        await self._guard.call_briefly(lambda: self._sink.put_new(key, body, {"purpose": "requeue"}))

    async def _read(self, key: str, kind: type[T]) -> T:
        body = await self._guard.call_briefly(lambda: self._sink.get(key))
        try:
            return msgspec.json.decode(gzip.decompress(body), type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, OSError, EOFError, zlib.error) as error:
            raise IngestdError(
                f"{key} in the sink cannot be read: {error}",
                hint="it says which records were produced; without it some would be produced twice. Restore it",
            ) from error


class _Span:
    """What is known of the records of one span. Receipts are read when somebody asks for records of their range."""

    def __init__(self, partition: TopicPartition, number: int, receipts: list[Receipt]) -> None:
        self.partition = partition
        self.number = number
        self._unread = receipts
        self._read = range(0)
        self._bits = bytearray(SPAN // 8)

    def to_read(self, offset: int, end: int) -> list[Receipt]:
        """Receipts that may have records of ``[offset, end)`` and were not given out yet."""
        if offset in self._read and end <= self._read.stop:
            return []
        self._read = range(offset, end)
        found: list[Receipt] = []
        rest: list[Receipt] = []
        for each in self._unread:
            (found if each.first < end and each.last >= offset else rest).append(each)
        self._unread = rest
        return found

    def mark(self, produced: Produced) -> None:
        if produced.place != self.partition:
            return
        for offset in produced.offsets:
            if offset // SPAN == self.number:
                self._bits[offset % SPAN // 8] |= 1 << offset % 8

    def has(self, offset: int) -> bool:
        return bool(self._bits[offset % SPAN // 8] & 1 << offset % 8)
