"""Records as small as we need them: aiokafka's own take a third of the time that reading a backlog takes.

A ``ConsumerRecord`` has eleven fields in a dictionary; a ``PlainRecord`` has five in slots, and the garbage collector
need not look at it. aiokafka offers no place to choose, so its one method that makes them is replaced: for consumers
that carry our mark, and for no others in the process.

The name of a header that is not UTF-8, which no broker refuses, makes aiokafka fail for the whole fetch, again and
again. What failed so is read once more by its slow reader in Python, which is made to forgive that.
"""

from typing import Any

from aiokafka.consumer import fetcher
from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords, _MemoryRecordsPy

from ingestd.records import PlainRecord, TopicPartition


def lean(key: bytes | None) -> bytes | None:
    """The mark: to be given to a consumer as its `key_deserializer`. It changes nothing."""
    return key


def forgive(partition: TopicPartition) -> None:
    """Read the next fetch of this partition with header names as they are: ``\\xff`` for a byte that is not UTF-8."""
    _forgiven.add(partition)


_forgiven: set[TopicPartition] = set()
_original = PartitionRecords._consumer_record
_original_init = PartitionRecords.__init__


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
    if self._key_deserializer is not lean:
        return _original(self, partition, record)
    return PlainRecord(record.offset, record.timestamp, record.value, record.key, tuple(record.headers))


def _init(self: Any, partition: Any, records: Any, *rest: Any) -> None:
    if partition in _forgiven and lean in rest:
        _forgiven.discard(partition)
        records = _Forgiving(records.data)
    _original_init(self, partition, records, *rest)


PartitionRecords._consumer_record = _consumer_record
PartitionRecords.__init__ = _init
fetcher.MemoryRecords = _Fetched
