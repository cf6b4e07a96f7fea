"""Records as small as we need them: aiokafka's own take a third of the time that reading a backlog takes.

A ``ConsumerRecord`` has eleven fields in a dictionary; a ``PlainRecord`` has five in slots, and the garbage collector
need not look at it. aiokafka offers no place to choose, so its one method that makes them is replaced: for consumers
that carry our mark, and for no others in the process.
"""

from typing import Any

from aiokafka.consumer.fetcher import PartitionRecords

from ingestd.records import PlainRecord


def lean(key: bytes | None) -> bytes | None:
    """The mark: to be given to a consumer as its `key_deserializer`. It changes nothing."""
    return key


_original = PartitionRecords._consumer_record


def _consumer_record(self: Any, partition: Any, record: Any) -> Any:
    if self._key_deserializer is not lean:
        return _original(self, partition, record)
    return PlainRecord(record.offset, record.timestamp, record.value, record.key, tuple(record.headers))


PartitionRecords._consumer_record = _consumer_record
