"""When a partition's batch is flushed, and why: every reason there is. Time comes in as an argument.

A flush closes the open batch and queues it for upload. The policy judges one batch, or all of them where the memory
budget is concerned; it closes nothing itself.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import Protocol, TypeVar


class FlushReason(StrEnum):
    """Why a batch was flushed; a metric label."""

    BYTES = "bytes"
    RECORDS = "records"
    AGE = "age"
    MEMORY = "memory"
    REVOKE = "revoke"
    SHUTDOWN = "shutdown"
    LEADER_EPOCH = "leader_epoch"  # the next records were written in another leader epoch
    GONE = "gone"  # the log no longer holds what comes next
    VISIBILITY = "visibility"  # others could soon receive one of its messages, and the queue takes no extensions
    BLOCKED = "blocked"  # the queue hands out nothing more until messages are deleted
    HOLE = "hole"  # retention had removed what was to be read; an object without rows covers it


class FlushLimits(Protocol):
    """The ``batch`` section of the configuration."""

    @property
    def interval(self) -> float:
        """Seconds since the batch's first record."""
        ...

    @property
    def bytes(self) -> int:
        """Compressed."""
        ...

    @property
    def records(self) -> int | None: ...
    @property
    def memory(self) -> int:
        """Bytes of all that is buffered, over all partitions."""
        ...


class Flushable(Protocol):
    """What the policy reads of a batch."""

    @property
    def records(self) -> int: ...
    @property
    def compressed_bytes(self) -> int:
        """As far as its rows are compressed, with its rejects: measured, never guessed."""
        ...

    @property
    def held_bytes(self) -> int: ...
    @property
    def opened_at(self) -> float: ...


B = TypeVar("B", bound=Flushable)


class FlushPolicy:
    """Flush on the first of: compressed bytes, records, age since the first record, the memory budget."""

    def __init__(self, limits: FlushLimits) -> None:
        self.limits = limits

    def reached(self, batch: Flushable) -> FlushReason | None:
        """The limit that this batch has reached, of those that do not depend on the time."""
        if batch.compressed_bytes >= self.limits.bytes:
            return FlushReason.BYTES
        if self.limits.records is not None and batch.records >= self.limits.records:
            return FlushReason.RECORDS
        return None

    def records_left(self, batch: Flushable | None) -> int | None:
        """How many records the batch still takes; None where records are not limited."""
        if self.limits.records is None:
            return None
        return self.limits.records - (batch.records if batch is not None else 0)

    def due_at(self, batch: Flushable) -> float:
        """When the batch reaches its age, on the clock of ``opened_at``."""
        return batch.opened_at + self.limits.interval

    def for_memory(self, open_batches: Iterable[B]) -> list[B]:
        """The largest open batches, until the rest takes at most half of the memory budget."""
        largest_first = sorted(open_batches, key=lambda batch: batch.held_bytes, reverse=True)
        total = sum(batch.held_bytes for batch in largest_first)
        flushed = []
        for batch in largest_first:
            if total <= self.limits.memory // 2:
                break
            total -= batch.held_bytes
            flushed.append(batch)
        return flushed
