"""Records in the sink which records were requeued: one receipt for each transaction, written after it.

Receipts outlive the note that a transaction leaves in Kafka or in the journal. They belong to one lineage: in another
one the same offsets may be other records.
"""

import secrets
from enum import Enum

from ingestd.core.object_keys import ObjectKeys
from ingestd.core.records import TopicPartition
from ingestd.requeue.batches import SPAN, Identity, ProducedRecords, ReceiptKeys, ReceiptName
from ingestd.requeue.documents import Documents
from ingestd.sinks.base import Sink
from ingestd.sinks.retry import SinkRetrier


class Standing(Enum):
    """Whether a record was produced."""

    NOT_PRODUCED = "not produced"
    PRODUCED = "produced"
    UNCLEAR = "unclear"  # one with its offset was; only one of the two has a leader epoch, so it may be another record


class Receipts:
    """The receipts of one target topic. ``SinkError`` where the sink does not answer for two minutes."""

    def __init__(self, sink: Sink, retrier: SinkRetrier, layout: ObjectKeys, target: str) -> None:
        self._documents = Documents(sink, retrier)
        self._keys = ReceiptKeys(layout, target)
        self._target = target
        self._span: _Span | None = None
        self._assumed: ProducedRecords | None = None

    @property
    def identity_key(self) -> str:
        """The object that the identity is in."""
        return self._keys.identity

    async def known_identity(self) -> Identity | None:
        """The identity that is stored for the target; None where nothing was ever requeued to it."""
        if await self._documents.listing.head(self._keys.identity) is None:
            return None
        return await self._documents.read(self._keys.identity, Identity)

    async def identity(self, group_id: str, cluster: str) -> Identity:
        """The stored identity, created where there is none: nothing may be produced with that of another cluster.

        It is stored beside the receipts, and not derived from the configuration: two configurations with one sink and
        different groups must not both produce, and two sinks with one group must not overwrite each other's notes. Only
        a store without conditional writes allows two simultaneous first runs to create one each.
        """
        if await self.known_identity() is None:
            created = Identity(f"{group_id}.requeue.{self._target}.{secrets.token_hex(4)}", cluster)
            await self._documents.create(self._keys.identity, created)
        return await self._documents.read(self._keys.identity, Identity)

    async def record(self, produced: ProducedRecords) -> None:
        """Write a receipt, unless another process already wrote it for us."""
        key = self._keys.receipt(produced)
        # Not every store refuses to overwrite.
        taken = produced.leader_epoch is not None and await self._documents.listing.head(key) is not None
        if taken and await self._documents.read(key, ProducedRecords) != produced:
            key = self._keys.receipt(produced, with_epoch=True)
        await self._documents.create(key, produced)
        if self._span is not None:
            self._span.add(produced)

    def assume_produced(self, produced: ProducedRecords) -> None:
        """Treat these records as produced without writing a receipt."""
        self._assumed = produced

    async def find(self, partition: TopicPartition, offset: int, leader_epoch: int | None, end: int) -> Standing:
        """Whether this record was produced. Ask in the order of offsets, up to `end` of the same object."""
        span = self._span
        if span is None or (span.partition, span.number) != (partition, offset // SPAN):
            span = self._span = await self._load_span(partition, offset // SPAN)
        for receipt in span.take_unread(offset, end):
            span.add(await self._documents.read(receipt.key, ProducedRecords))
        return span.find(offset, leader_epoch)

    async def _load_span(self, partition: TopicPartition, number: int) -> "_Span":
        prefix = self._keys.span(partition, number)
        found = [self._keys.parse(key) async for key in self._documents.listing.keys(prefix)]
        span = _Span(partition, number, [each for each in found if each is not None])
        if self._assumed is not None:
            span.add(self._assumed)
        return span


class _Span:
    """Which records of one span were produced. Receipts are read when a record of their range is asked for."""

    def __init__(self, partition: TopicPartition, number: int, receipts: list[ReceiptName]) -> None:
        self.partition = partition
        self.number = number
        self._unread = receipts
        self._read_range = range(0)
        self._produced: dict[int | None, _Offsets] = {}  # by leader epoch

    def take_unread(self, offset: int, end: int) -> list[ReceiptName]:
        """Receipts that may have records of ``[offset, end)`` and were not read yet; they then count as read."""
        if offset in self._read_range and end <= self._read_range.stop:
            return []
        self._read_range = range(offset, end)
        found: list[ReceiptName] = []
        rest: list[ReceiptName] = []
        for each in self._unread:
            (found if each.first < end and each.last >= offset else rest).append(each)
        self._unread = rest
        return found

    def add(self, produced: ProducedRecords) -> None:
        if produced.origin != self.partition:
            return
        offsets = self._produced.setdefault(produced.leader_epoch, _Offsets())
        for offset in produced.offsets:
            if offset // SPAN == self.number:
                offsets.add(offset % SPAN)

    def find(self, offset: int, leader_epoch: int | None) -> Standing:
        number = offset % SPAN
        epochs = {epoch for epoch, offsets in self._produced.items() if offsets.has(number)}
        if leader_epoch in epochs:
            return Standing.PRODUCED
        if None in epochs or (epochs and leader_epoch is None):
            return Standing.UNCLEAR
        return Standing.NOT_PRODUCED


class _Offsets:
    """A set of numbers below `SPAN`: one bit for each, from the smallest to the largest."""

    __slots__ = ("_bits", "_first")

    def __init__(self) -> None:
        self._first = 0  # the first byte that is kept
        self._bits = bytearray()

    def add(self, number: int) -> None:
        byte = number // 8
        if not self._bits:
            self._first = byte
        if byte < self._first:
            self._bits[:0] = bytes(self._first - byte)
            self._first = byte
        if (missing := byte - self._first - len(self._bits) + 1) > 0:
            self._bits += bytes(missing)
        self._bits[byte - self._first] |= 1 << number % 8

    def has(self, number: int) -> bool:
        at = number // 8 - self._first
        return 0 <= at < len(self._bits) and bool(self._bits[at] & 1 << number % 8)
