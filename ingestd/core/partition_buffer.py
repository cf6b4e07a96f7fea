"""What one partition has buffered: its open batch, the batches that wait for upload, and the next offset to read."""

from collections import deque

from ingestd.core.batch import Batch, RecordRef
from ingestd.core.flush_policy import FlushReason
from ingestd.core.records import TopicPartition


class PartitionBuffer:
    """Records that were read and have not landed.

    The epoch changes whenever everything read so far becomes void, as after a seek: records that were fetched in an
    older epoch must not be added any more.
    """

    def __init__(self, partition: TopicPartition) -> None:
        self.partition = partition
        self.epoch = 0
        self.position: int | None = None  # the next offset to read; None while no record is wanted
        self.first: RecordRef | None = None  # the first record of this epoch
        self.leader_epoch: int | None = None  # of the last record before `position`; None where it is not known
        self.open: Batch | None = None
        self.flushed: deque[Batch] = deque()  # oldest first

    def batch_for(self, offset: int) -> Batch:
        """The open batch, for records from `offset` on; a new one if none is open."""
        assert self.position is not None
        assert offset >= self.position, (self.partition, offset, self.position)
        if self.open is None:
            self.open = Batch(self.partition, self.position)
        return self.open

    def advance(self, first: RecordRef, end: int) -> None:
        """Note that records from `first` up to offset `end` are in the open batch."""
        if self.first is None:
            self.first = first
        self.position, self.leader_epoch = end, first.leader_epoch

    def flush(self, reason: FlushReason) -> Batch | None:
        """Close the open batch and queue it for upload. Returns None if it holds no records."""
        batch, self.open = self.open, None
        if batch is None or batch.first is None:
            return None
        batch.flush_reason = reason
        self.flushed.append(batch)
        return batch

    def reset(self) -> int:
        """Discard everything and begin a new epoch. Always safe. Returns the number of records discarded."""
        self.epoch += 1
        discarded = self.held_records
        self.open, self.first, self.position = None, None, None
        self.flushed.clear()
        return discarded

    @property
    def batches(self) -> list[Batch]:
        """All batches, oldest first."""
        return [*self.flushed, *([self.open] if self.open else [])]

    @property
    def held_records(self) -> int:
        return sum(batch.records for batch in self.batches)

    @property
    def held_bytes(self) -> int:
        return sum(batch.held_bytes for batch in self.batches)
