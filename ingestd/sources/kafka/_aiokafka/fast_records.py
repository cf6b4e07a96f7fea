"""Hands out the records of a fetch in lists: one by one, and copied, they take most of the time that reading takes.

For each record aiokafka steps through two generators and fills a ``ConsumerRecord`` of eleven fields. Records of
different leader epochs are in different lists.

The name of a header that is not UTF-8, which no broker refuses, makes aiokafka fail for the whole fetch, again and
again. Such a fetch is read once more by aiokafka's slow reader in Python, which is made to tolerate these names.
"""

from collections.abc import Iterator
from itertools import chain, islice
from typing import Any

from aiokafka.consumer.fetcher import READ_COMMITTED, PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords, _MemoryRecordsPy

from ingestd.core.records import PlainRecord, Record, TopicPartition
from ingestd.sources.kafka._aiokafka.leader_epochs import FetchPositions, batch_epochs
from ingestd.sources.kafka._aiokafka.prefetch_limit import Allowance


class FastPartitionRecords(PartitionRecords):  # type: ignore[misc]  # aiokafka has no types
    """One partition's records of a fetch, as lists of at most `wanted` records.

    All lists up to an empty one are of `leader_epoch`; after an empty one it is another. `passed_epoch` is that of the
    last batch before `next_fetch_offset`, which may have been skipped.
    """

    next_fetch_offset: int

    def __init__(self, allowance: Allowance, positions: FetchPositions, *arguments: Any) -> None:
        self.allowance = allowance
        self.positions = positions
        self.wanted = 1
        self.leader_epoch: int | None = None
        super().__init__(*arguments)
        self.passed_epoch = positions.epoch_before(TopicPartition(*self._tp), self.next_fetch_offset)

    def _unpack_records(self) -> Iterator[list[Record]]:
        """The records of aiokafka's generator, in lists that go over the ends of batches.

        `next_fetch_offset` is, as there, where reading goes on after the records that were yielded.
        """
        block: list[Record] = []
        epochs = batch_epochs(self._records.data)
        while self._records.has_next():
            batch = self._records.next_batch()
            epoch = next(epochs, None)
            if self._check_crcs and not batch.validate_crc():
                if block:
                    yield block
                raise CorruptRecordException(f"Invalid CRC - {self._tp}")
            if not self._is_skipped(batch):
                if epoch != self.leader_epoch:
                    if block:
                        yield block
                        block = []
                    yield []
                    self.leader_epoch = epoch
                self.passed_epoch = epoch
                records = _records(batch, self.next_fetch_offset)
                while True:
                    block += islice(records, self.wanted - len(block))
                    if len(block) < self.wanted:
                        break
                    self.next_fetch_offset = block[-1].offset + 1
                    yield block
                    block = []
            # Beyond the last record: compaction may have removed the records behind it.
            self.next_fetch_offset = batch.next_offset
            self.passed_epoch = epoch
        if block:
            yield block

    def _is_skipped(self, batch: Any) -> bool:
        """Whether the batch ends a transaction, or is of a transaction that was aborted."""
        if not (batch.is_control_batch or batch.is_transactional):
            return False
        if self._isolation_level == READ_COMMITTED:
            self._consume_aborted_up_to(batch.base_offset)
            if batch.is_control_batch and self._contains_abort_marker(batch):
                self._aborted_producers.discard(batch.producer_id)
            if batch.producer_id in self._aborted_producers:
                return True
        return bool(batch.is_control_batch)


def _records(batch: Any, offset: int) -> Iterator[Record]:
    """From `offset` on: a broker sends whole batches."""
    if batch.producer_id is None:  # one of the formats before 2, of which the first has no timestamps
        return (_with_timestamp(it) for it in batch if it.offset >= offset)
    if batch.base_offset < offset:
        return (it for it in batch if it.offset >= offset)
    return chain(batch)  # and not the batch, which may be asked for an iterator only once


def _with_timestamp(record: Any) -> Record:
    if record.timestamp is None:
        return PlainRecord(record.offset, -1, record.value, record.key)
    found: Record = record
    return found


class FetchedRecords(MemoryRecords):  # type: ignore[misc]
    """The record batches of one partition, with their bytes."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.data = data


class TolerantRecords(_MemoryRecordsPy):  # type: ignore[misc]
    """The same record batches with header names as they are: ``\\xff`` for a byte that is not UTF-8."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.data = data

    def next_batch(self) -> Any:
        part, batch = self._next_slice, super().next_batch()
        return _TolerantBatch(part) if batch.magic >= 2 else batch


class _TolerantBatch(_DefaultRecordBatchPy):  # type: ignore[misc]
    _buffer: Any

    def _maybe_uncompress(self) -> None:
        super()._maybe_uncompress()
        self._buffer = _TolerantBuffer(self._buffer)


class _TolerantBuffer(bytearray):
    """Header names are the only text that is cut from a batch; all else is copied to bytes."""

    def __getitem__(self, index: Any) -> Any:
        part = super().__getitem__(index)
        return part if isinstance(part, int) else _TolerantBuffer(part)

    def decode(self, encoding: str = "utf-8", errors: str = "backslashreplace") -> str:
        return super().decode(encoding, errors)
