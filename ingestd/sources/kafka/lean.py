"""Records as aiokafka cuts them out of a batch, many at a time: one by one, and copied, they take half of the time that
reading a backlog takes.

For each record aiokafka steps through two generators and fills a ``ConsumerRecord`` of eleven fields. It offers no
place to choose otherwise, so that for consumers that carry our mark, and for no others in the process, what its loop
takes for one record is a ``_Block`` of them. The loop itself stays aiokafka's, and with it all that it knows of
checksums, control batches, aborted transactions, and offsets that compaction has left out.

The name of a header that is not UTF-8, which no broker refuses, makes aiokafka fail for the whole fetch, again and
again. What failed so is read once more by its slow reader in Python, which is made to forgive that.
"""

from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import Any, NamedTuple

from aiokafka.consumer import fetcher
from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.record.default_records import DefaultRecordBatch, _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords, _MemoryRecordsPy

from ingestd.records import PlainRecord, Record, TopicPartition

_FEW = 4  # a batch of no more records goes through aiokafka's loop as it is: a block would cost more than it saves


def lean(key: bytes | None) -> bytes | None:
    """The mark: to be given to a consumer as its `key_deserializer`. It changes nothing."""
    return key


def forgive(partition: TopicPartition) -> None:
    """Read the next fetch of this partition with header names as they are: ``\\xff`` for a byte that is not UTF-8."""
    _forgiven.add(partition)


class Blocks:
    """One partition's part of a fetch, in place of aiokafka's own: its batches hand out blocks."""

    def __init__(self, records: Any) -> None:
        self.wanted = 1  # the most records of the next block
        self.has_next = records.has_next
        self.size_in_bytes = records.size_in_bytes
        self._next_batch = records.next_batch

    def next_batch(self) -> Any:
        batch = self._next_batch()
        return _Batch(batch, self) if _is_large(batch) else batch


def _is_large(batch: Any) -> bool:
    """Only of the format that aiokafka reads in C, and never one that ends a transaction."""
    return type(batch) is DefaultRecordBatch and batch.last_offset_delta >= _FEW and not batch.is_control_batch


class _Batch:
    """A batch of records as aiokafka's loop sees it, and blocks when it asks for records."""

    __slots__ = ("_batch", "_blocks")

    is_control_batch = False

    def __init__(self, batch: Any, blocks: Blocks) -> None:
        self._batch = batch
        self._blocks = blocks

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __iter__(self) -> Iterator["_Block"]:
        blocks, records = self._blocks, chain(self._batch)  # a batch may be asked for an iterator only once
        while block := list(islice(records, blocks.wanted)):
            yield _Block(block[-1].offset, block)


class _Block(NamedTuple):
    """Consecutive records. The offset is that of the last one, by which aiokafka tells where it is."""

    offset: int
    records: list[Record]


class _Fetched(MemoryRecords):  # type: ignore[misc]  # aiokafka has no types
    """One partition's part of a fetch, with its bytes."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.data = data


class _Forgiving(_MemoryRecordsPy):  # type: ignore[misc]
    def next_batch(self) -> Any:
        part, batch = self._next_slice, super().next_batch()
        return _ForgivingBatch(part) if batch.magic >= 2 else batch


class _ForgivingBatch(_DefaultRecordBatchPy):  # type: ignore[misc]
    _buffer: Any

    def _maybe_uncompress(self) -> None:
        super()._maybe_uncompress()
        self._buffer = _Buffer(self._buffer)


class _Buffer(bytearray):
    """Header names are the only text that is cut from a batch; all else is copied to bytes."""

    def __getitem__(self, index: Any) -> Any:
        part = super().__getitem__(index)
        return part if isinstance(part, int) else _Buffer(part)

    def decode(self, encoding: str = "utf-8", errors: str = "backslashreplace") -> str:
        return super().decode(encoding, errors)


def _consumer_record(self: Any, partition: Any, record: Any) -> Any:
    """For a marked consumer a list of records, of which the first may have been asked for."""
    if self._key_deserializer is not lean:
        return _original(self, partition, record)
    if type(record) is _Block:
        return _from(record.records, self.next_fetch_offset)
    if record.timestamp is None:  # the oldest format has none; later ones have -1 where there is none
        return [PlainRecord(record.offset, -1, record.value, record.key)]
    return [record]


def _from(records: list[Record], offset: int) -> Sequence[Record]:
    """Without those before `offset`: a broker sends whole batches."""
    return records if records[0].offset >= offset else [it for it in records if it.offset >= offset]


def _init(self: Any, partition: Any, records: Any, *rest: Any) -> None:
    if lean in rest:
        if partition in _forgiven:
            _forgiven.discard(partition)
            records = _Forgiving(records.data)
        records = Blocks(records)
    _original_init(self, partition, records, *rest)


_forgiven: set[TopicPartition] = set()
_original = PartitionRecords._consumer_record
_original_init = PartitionRecords.__init__
PartitionRecords._consumer_record = _consumer_record
PartitionRecords.__init__ = _init
fetcher.MemoryRecords = _Fetched
