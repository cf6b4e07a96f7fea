"""The port of a source: a stream of partitions, read in order, with a committed position for each.

A source knows nothing of batches, objects or sinks. It reports which partitions are ours and hands out their records.
A position is the number of the next record to read: an integer of any size that grows within a partition.
"""

from collections.abc import Collection, Mapping
from typing import Protocol

import msgspec

from ingestd.core.records import EpochEnd, EpochRecords, LogRange, Position, TopicPartition

Fetched = Mapping[TopicPartition, EpochRecords]


class OpenTransaction(msgspec.Struct, frozen=True):
    """A transaction that has not ended: nothing from its first record on is handed out."""

    first: int  # the position of its first record
    waiting: int  # how many positions the log has from there on
    age: float  # for how long it is known to be open, in seconds


class Capabilities(msgspec.Struct, frozen=True):
    """What a kind of source can do. The contract's tests check each source against its own."""

    replayable: bool = True  # a seek back hands out the same records again
    has_commits: bool = True  # committed positions outlive the process
    has_log_end: bool = True  # `log_range` and `end_offset` know where the log ends, so that there is a lag
    # Positions beyond 64 bits, up to 60 digits: they are text in rows, and wider in the names of objects.
    wide_positions: bool = False


class Listener(Protocol):
    """Is told of changes of ownership, from inside a rebalance, and of records that are gone. It must not raise."""

    def on_assigned(self, partitions: Collection[TopicPartition]) -> None:
        """These partitions are ours now. Nothing is fetched from one before `Source.seek` was called for it."""
        ...

    async def on_revoked(self, partitions: Collection[TopicPartition]) -> None:
        """These partitions are about to be assigned to others; they stay ours until this returns."""
        ...

    def on_out_of_range(self, partition: TopicPartition) -> None:
        """The log does not continue what was read: the next position is gone, or the log, or its history, is another.

        The partition is paused until `Source.seek`. Called from inside `Source.fetch`.
        """
        ...


class Source(Protocol):
    """A stream to read from. Errors are `ingestd.core.errors.SourceError`; transient ones are retried inside."""

    @property
    def capabilities(self) -> Capabilities:
        """What this source can do."""
        ...

    @property
    def source_id(self) -> str:
        """The id of the system that keeps the stream, "" without one; known after `start`. Part of every object."""
        ...

    @property
    def revoke_timeout(self) -> float:
        """The seconds that `Listener.on_revoked` may take; after that others may own the partitions already."""
        ...

    @property
    def error(self) -> str | None:
        """The current failure, for people; None without one. It is retried."""
        ...

    @property
    def error_since(self) -> float | None:
        """When it began to fail, on the event loop's clock; None without a failure."""
        ...

    async def start(self, listener: Listener) -> None:
        """Connect and join; assignments begin to arrive."""
        ...

    async def stop(self) -> None:
        """Leave. Commits that were accepted are finished first; nothing else is committed."""
        ...

    async def fetch(self) -> Fetched | None:
        """The next records, in order within each partition; empty where none came for a moment; None at the end.

        Only a crash may cancel it: cancelling aiokafka's ``getmany`` breaks its poll detection for good.
        """
        ...

    def finish(self) -> None:
        """End the stream: `fetch` returns None soon, and from then on. Membership and commits go on."""
        ...

    def seek(self, partition: TopicPartition, offset: int, leader_epoch: int | None = None) -> None:
        """Continue at `offset` and end a pause; fetched records that were not handed out are forgotten.

        `leader_epoch` is that of the record before `offset`. Where it is known, the source hands out only records that
        follow it in the log: if the log was truncated below `offset` and written again, it calls
        `Listener.on_out_of_range`. The same holds from record to record.
        """
        ...

    def pause(self, partition: TopicPartition) -> None:
        """Hand out no more records of this partition until `seek`."""
        ...

    async def stream_id(self, partition: TopicPartition) -> str:
        """The id of the stream behind the name, which changes when it is deleted and created again; "" without ids.

        From now on only its records are handed out; where it is gone, `Listener.on_out_of_range` is called.
        """
        ...

    async def committed(self, partition: TopicPartition) -> Position | None:
        """The committed position with its commit tag, or None where nothing was committed."""
        ...

    async def log_range(self, partition: TopicPartition) -> LogRange:
        """The positions that the log holds now."""
        ...

    async def epoch_end(self, partition: TopicPartition, leader_epoch: int) -> EpochEnd | None:
        """Where a leader epoch ends in the log; None where the source cannot tell.

        An epoch is unknown only once it stays so: a former leader does not know that of its successor.
        """
        ...

    async def resolve_start(self, partition: TopicPartition) -> Position:
        """The position to begin at where nothing was committed: the configured start policy, applied now.

        Its leader epoch is one in which the log reached at least up to it; None where epochs are not known.
        """
        ...

    async def commit(self, partition: TopicPartition, position: Position) -> bool:
        """Commit `position`. False where it was refused because the partition is no longer ours.

        At most one request is in flight, in the order of calls for a partition; never cancelled once sent.
        """
        ...

    async def rebuild(self) -> None:
        """Reconnect a source that makes no progress: all partitions are revoked, and then assigned again."""
        ...

    def end_offset(self, partition: TopicPartition) -> int | None:
        """The end of the log as last reported, for the lag; None before the first report."""
        ...

    def behind_s(self, partition: TopicPartition) -> float | None:
        """How many seconds the last read was behind the end of the log; None where the source does not tell.

        For sources whose positions do not count records, so that no lag can be computed from them.
        """
        ...

    def open_transaction(self, partition: TopicPartition) -> OpenTransaction | None:
        """The transaction that ends what can be read, as last reported; None without one."""
        ...
