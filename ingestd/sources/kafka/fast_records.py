"""Records as aiokafka cuts them out of batches, many at a time: one by one, and copied, they take most of the time that
reading a backlog takes.

For each record aiokafka steps through two generators and fills a ``ConsumerRecord`` of eleven fields. It offers no
place to choose otherwise, so that one of the generators is replaced: for consumers that carry our mark, and for no
others in the process.

The name of a header that is not UTF-8, which no broker refuses, makes aiokafka fail for the whole fetch, again and
again. What failed so is read once more by its slow reader in Python, which is made to forgive that.
"""

from collections.abc import Iterator
from itertools import chain, islice
from typing import Any

from aiokafka.consumer import fetcher
from aiokafka.consumer.fetcher import READ_COMMITTED, PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords, _MemoryRecordsPy

from ingestd.core.records import PlainRecord, Record, TopicPartition


def lean(key: bytes | None) -> bytes | None:
    """The mark: to be given to a consumer as its `key_deserializer`. It changes nothing."""
    return key


def is_lean(part: Any) -> bool:
    """Whether one partition's part of a fetch comes in blocks: lists of at most `part.wanted` records."""
    return part._key_deserializer is lean


def forgive(partition: TopicPartition) -> None:
    """Read the next fetch of this partition with header names as they are: ``\xff`` for a byte that is not UTF-8."""
    _forgiven.add(partition)


def _unpack(part: Any) -> Iterator[Any]:
    return _blocks(part) if is_lean(part) else _original_unpack(part)


def _blocks(part: Any) -> Iterator[list[Record]]:
    """What aiokafka's generator gives, in lists that go over the ends of batches.

    `part.next_fetch_offset` is, as there, where reading goes on after what was given.
    """
    block: list[Record] = []
    while part._records.has_next():
        batch = part._records.next_batch()
        if part._check_crcs and not batch.validate_crc():
            if block:
                yield block
            raise CorruptRecordException(f"Invalid CRC - {part._tp}")
        if not _is_left_out(part, batch):
            records = _records(batch, part.next_fetch_offset)
            while True:
                block += islice(records, part.wanted - len(block))
                if len(block) < part.wanted:
                    break
                part.next_fetch_offset = block[-1].offset + 1
                yield block
                block = []
        part.next_fetch_offset = batch.next_offset  # beyond the last record, where compaction has taken those behind it
    if block:
        yield block


def _is_left_out(part: Any, batch: Any) -> bool:
    """Of what ends transactions, and what was in those that were aborted."""
    if not (batch.is_control_batch or batch.is_transactional):
        return False
    if part._isolation_level == READ_COMMITTED:
        part._consume_aborted_up_to(batch.base_offset)
        if batch.is_control_batch and part._contains_abort_marker(batch):
            part._aborted_producers.discard(batch.producer_id)
        if batch.producer_id in part._aborted_producers:
            return True
    return bool(batch.is_control_batch)


def _records(batch: Any, offset: int) -> Iterator[Record]:
    """From `offset` on: a broker sends whole batches."""
    if batch.producer_id is None:  # one of the formats before 2, of which the first has no timestamps
        return (_dated(it) for it in batch if it.offset >= offset)
    if batch.base_offset < offset:
        return (it for it in batch if it.offset >= offset)
    return chain(batch)  # and not the batch, which may be asked for an iterator only once


def _dated(record: Any) -> Record:
    if record.timestamp is None:
        return PlainRecord(record.offset, -1, record.value, record.key)
    found: Record = record
    return found


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


def _init(part: Any, partition: Any, records: Any, *rest: Any) -> None:
    if partition in _forgiven and lean in rest:
        _forgiven.discard(partition)
        records = _Forgiving(records.data)
    part.wanted = 1
    _original_init(part, partition, records, *rest)


_forgiven: set[TopicPartition] = set()
_original_init = PartitionRecords.__init__
_original_unpack = PartitionRecords._unpack_records
PartitionRecords.__init__ = _init
PartitionRecords._unpack_records = _unpack
fetcher.MemoryRecords = _Fetched
