"""The port to where records come from: a log of partitions, read in order, with a committed position for each.

A source knows nothing of batches, objects or sinks. It reports which partitions are ours and hands out their records.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from ingestd.core.records import LogRange, Position, Record, TopicPartition

Fetched = Mapping[TopicPartition, Sequence[Record]]


class Listener(Protocol):
    """Hears of changes of ownership, from inside a rebalance, and of records that are gone. None of it may raise."""

    def on_assigned(self, partitions: Collection[TopicPartition]) -> None:
        """These partitions are ours now. Nothing is fetched from one before ``Source.seek`` was called for it."""
        ...

    async def on_revoked(self, partitions: Collection[TopicPartition]) -> None:
        """These partitions are about to be somebody else's; they stay ours until this returns."""
        ...

    def on_out_of_range(self, partition: TopicPartition) -> None:
        """What was to be read next is not, or no longer, in the log, or the log is of another topic than was named.

        The partition is paused until ``Source.seek``. Called from inside ``Source.fetch``.
        """
        ...


class Source(Protocol):
    """A log to read from. Errors are ``ingestd.core.errors.SourceError``; transient ones are retried inside."""

    @property
    def cluster_id(self) -> str:
        """Which log this is; known after ``start``. Part of every object's metadata."""
        ...

    @property
    def error(self) -> str | None:
        """What is wrong now, for people; None while all is well. Whatever it is, it is tried again."""
        ...

    async def start(self, listener: Listener) -> None:
        """Connect and join; assignments begin to arrive."""
        ...

    async def stop(self) -> None:
        """Leave. Commits that were accepted are finished first; nothing is committed on the way out."""
        ...

    async def fetch(self) -> Fetched | None:
        """The next records, in offset order per partition; empty when there were none for a moment; None at the end.

        Never cancelled by callers but to crash: cancelling aiokafka's ``getmany`` breaks its poll detection for good.
        """
        ...

    def finish(self) -> None:
        """Ask the stream to end: ``fetch`` returns None soon, and from then on. Membership and commits go on."""
        ...

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Read on from `offset`; records of before that were fetched but not handed out are forgotten. Un-pauses."""
        ...

    def pause(self, partition: TopicPartition) -> None:
        """Hand out no more records of this partition until ``seek``."""
        ...

    async def topic_id(self, partition: TopicPartition) -> str:
        """Which topic this is: one that was deleted and created again has another id. "" where none is known.

        From now on what is handed out is of this one; where it is gone, ``Listener.on_out_of_range`` is called.
        """
        ...

    async def committed(self, partition: TopicPartition) -> Position | None:
        """The group's committed position with its mark, or None where there is none."""
        ...

    async def log_range(self, partition: TopicPartition) -> LogRange:
        """The offsets the log holds now."""
        ...

    async def resolve_start(self, partition: TopicPartition) -> int:
        """The offset to begin at where the group has none: the configured start policy, applied now."""
        ...

    async def commit(self, partition: TopicPartition, position: Position) -> bool:
        """Commit `position`. False where it was refused because the partition is no longer ours.

        At most one request is in flight, in the order of calls for a partition; never cancelled once sent.
        """
        ...

    async def rebuild(self) -> None:
        """Begin anew with the same listener, which loses everything first. For a source that is stuck."""
        ...

    def end_offset(self, partition: TopicPartition) -> int | None:
        """The log's end as last heard from the broker, for lag; None before the first answer."""
        ...
