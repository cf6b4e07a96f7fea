"""The leader epochs of record batches, and of what lies before a fetch position.

A broker writes into the head of each batch the epoch in which it was appended. aiokafka's classes do not expose it.
"""

import struct
from collections.abc import Iterator

from ingestd.core.records import Record, TopicPartition

_NO_EPOCH = -1
# Where a batch has what: its length counts from behind itself. Formats before 2 have no epoch.
_LENGTH_EPOCH_MAGIC = struct.Struct(">iib")
_LENGTH_AT = 8
_LENGTH_COUNTS_FROM = 12
_HEAD_BYTES = _LENGTH_AT + _LENGTH_EPOCH_MAGIC.size


def batch_epochs(data: bytes) -> Iterator[int | None]:
    """The leader epoch of each batch, None where it has none."""
    at = 0
    while len(data) - at >= _HEAD_BYTES:
        length, epoch, magic = _LENGTH_EPOCH_MAGIC.unpack_from(data, at + _LENGTH_AT)
        yield epoch if magic >= 2 and epoch != _NO_EPOCH else None
        at += _LENGTH_COUNTS_FROM + length


class EpochList(list[Record]):
    """Records of one leader epoch: aiokafka passes on what it takes for a list."""

    leader_epoch: int | None = None


class FetchPositions:
    """For each partition, the epoch of what lies before the position from which it is fetched.

    That is the epoch of the last batch that was passed, whether it was handed out or skipped: behind the end of a
    transaction, the epoch of the records before it may have ended already.
    """

    def __init__(self) -> None:
        self._epochs: dict[TopicPartition, tuple[int, int | None]] = {}

    def set(self, partition: TopicPartition, offset: int, epoch: int | None) -> None:
        self._epochs[partition] = offset, epoch

    def epoch_before(self, partition: TopicPartition, offset: int) -> int | None:
        """None where it is not known."""
        known_at, epoch = self._epochs.get(partition, (None, None))
        return epoch if known_at == offset else None
