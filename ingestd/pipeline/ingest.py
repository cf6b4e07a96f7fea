"""The flow: records are fetched, validated and added to batches; one writer per partition uploads and commits them.

    source -> validate -> batch (per partition) -> compress (thread) -> create-only PUT -> commit

The memory budget joins the two halves and is the back-pressure. The end of the stream flows downstream in the same way
as its records: the source ends, open batches are flushed, the writers upload and commit what they have and end.
Cancellation means a crash.
"""

import asyncio
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Collection, Sequence
from itertools import accumulate

from ingestd.core.batch import Batch
from ingestd.core.breaker import Breaker
from ingestd.core.chain import ChainPolicy, PartitionState
from ingestd.core.errors import BreakerOpen
from ingestd.core.flush_policy import FlushLimits, FlushPolicy, FlushReason
from ingestd.core.formatting import number
from ingestd.core.quarantine import encode
from ingestd.core.records import EpochRecords, Record, TopicPartition, value_bytes
from ingestd.core.validation import Validated, Validator
from ingestd.core.values.base import ValueSource
from ingestd.ops.readiness import PartitionStatus
from ingestd.pipeline.chain_objects import Dependencies
from ingestd.pipeline.memory_budget import MemoryBudget
from ingestd.pipeline.partition_status import partition_status
from ingestd.pipeline.partition_writer import PartitionWriter
from ingestd.pipeline.shared_listing import SharedListing
from ingestd.sinks.listing import Listing

CHUNK_BYTES = 1 << 20  # of values that are decoded at once: bounds how long the loop is blocked, however large they are
PROGRESS_INTERVAL_S = 1.0
AGE_GRAIN = 0.01  # of the interval: how late a batch may be flushed by its age

_BREAKER_HINT = (
    "fix the producer, or name the model of these events in events.model and try it on the topic with `ingestd check`; "
    "then restart: the records are read again"
)


class Pipeline:
    """Runs until the source ends. It is the source's ``Listener``."""

    def __init__(
        self,
        limits: FlushLimits,
        dependencies: Dependencies,
        validator: Validator,
        breaker: Breaker,
        policy: ChainPolicy,
        *,
        revoke_timeout: float,
    ) -> None:
        """`revoke_timeout` in seconds bounds how long a revoked partition may take to land what it has buffered."""
        self.writers: dict[TopicPartition, PartitionWriter] = {}
        self.started = asyncio.Event()
        self.progress = 0  # changes whenever records were read
        self.unassigned_since: float | None = None  # on the loop's clock; None while a partition is assigned
        self.budget = MemoryBudget(limits.memory, lambda: self.held_bytes, self._flush_largest)
        self._limits = limits
        self._flush_policy = FlushPolicy(limits)
        self._dependencies = dependencies
        self._source = dependencies.source
        self._metrics = dependencies.metrics
        self._validator = validator
        self._breaker = breaker
        self._policy = policy
        self._listing = SharedListing(Listing(dependencies.sink, dependencies.retrier), policy.keys)
        self._revoke_timeout = revoke_timeout
        self._group: asyncio.TaskGroup | None = None
        self._finishing = False
        self._held: set[tuple[PartitionWriter, int]] = set()  # partitions that wait for a schema, and in which epoch

    async def run(self) -> None:
        """Start the source. Return when the stream has ended and everything read from it is landed and committed."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            self.unassigned_since = _now()
            await self._source.start(self)
            self.started.set()
            timers = [
                group.create_task(self._flush_by_age(), name="flush by age"),
                group.create_task(self._track_progress(), name="progress"),
            ]
            await self._ingest_loop()
            self._finish()
            for timer in timers:
                timer.cancel()

    # -- ownership, called by the source during a rebalance

    def on_assigned(self, partitions: Collection[TopicPartition]) -> None:
        self._metrics.rebalanced()
        for partition in partitions:
            self._start_partition(partition)

    async def on_revoked(self, partitions: Collection[TopicPartition]) -> None:
        """Land what is buffered, within a bound. The rest is discarded, and its next owner reads it again.

        Without the attempt, rebalances more frequent than the flush interval would stop all progress.
        """
        leaving = [self.writers[partition] for partition in partitions if partition in self.writers]
        for writer in leaving:
            writer.finish(FlushReason.REVOKE)
        if tasks := [writer.task for writer in leaving if writer.task is not None]:
            await asyncio.wait(tasks, timeout=self._revoke_timeout)
        for writer in leaving:
            self._stop_partition(writer)

    def on_out_of_range(self, partition: TopicPartition) -> None:
        """The log does not have the next offset: land what is buffered, then restart from the committed offset.

        The buffered records may be in no log any more, so nobody could read them again.
        """
        if writer := self.writers.get(partition):
            writer.finish_and_restart(lambda: self._start_partition(partition))

    def _start_partition(self, partition: TopicPartition) -> None:
        if self._finishing or self._group is None:
            return
        if previous := self.writers.get(partition):
            self._stop_partition(previous)
        writer = PartitionWriter(
            partition, self._policy, self._flush_policy, self._dependencies, self._listing, on_freed=self.budget.freed
        )
        self.writers[partition] = writer
        self.unassigned_since = None
        self._metrics.assigned(partition)
        writer.start(self._group)

    def _stop_partition(self, writer: PartitionWriter) -> None:
        writer.stop()
        self._metrics.revoked(writer.partition)
        if self.writers.get(writer.partition) is writer:
            del self.writers[writer.partition]
        if not self.writers:
            self.unassigned_since = _now()
        self.budget.freed()

    # -- records in

    async def _ingest_loop(self) -> None:
        while (fetched := await self._source.fetch()) is not None:
            # A seek during the waits below makes the rest of this fetch void: the epoch of this moment tells. Where no
            # record is wanted now a seek is still to come, and these records are from before it.
            chunks = [
                (writer, writer.buffer.epoch, found)
                for partition, found in fetched.items()
                if (writer := self.writers.get(partition)) is not None and writer.buffer.position is not None
            ]
            for writer, epoch, found in chunks:
                await self._ingest_chunk(writer, epoch, found)
            await asyncio.sleep(0)  # with a backlog, nothing above waits

    async def _ingest_chunk(self, writer: PartitionWriter, epoch: int, found: EpochRecords) -> None:
        """Add consecutive records of one partition to its batches, unless they become void meanwhile."""
        records, cuts = found.records, found.cuts
        while records and writer.accepts(epoch):
            position = writer.buffer.position or 0
            if records[0].offset < position:
                size = bisect_left(records, position, key=_offset)
                records, cuts = records[size:], _cuts_after(cuts, size)
                continue
            size = self._chunk_size(writer.buffer.open, records, cuts)
            chunk, records, cuts = records[:size], records[size:], _cuts_after(cuts, size)
            if not await self._prepare(writer, epoch, chunk):
                return
            validated = self._validator.chunk(writer.partition, chunk)
            quarantine = self._lines(writer.partition, validated, found.leader_epoch) if validated.rejected else b""
            await self.budget.wait_for(_incoming(writer.buffer.open, validated.row_bytes, quarantine))
            if not writer.accepts(epoch):
                return
            writer.add(EpochRecords(chunk, found.leader_epoch), validated, quarantine)
            self.progress += 1
            self._metrics.consumed(writer.partition, len(chunk))
            self._metrics.accepted(validated.accepted)
            if validated.rejected:
                self._metrics.rejected(Counter(it.reason for it in validated.rejected))
            if reason := self._breaker.observe(writer.partition, len(chunk) - validated.skipped, validated.rejected):
                raise BreakerOpen(reason, hint=_BREAKER_HINT)
            await writer.compress_and_flush()
            if records:
                await asyncio.sleep(0)  # none of the waits above needs to be one

    async def _prepare(self, writer: PartitionWriter, epoch: int, chunk: Sequence[Record]) -> bool:
        """Whether the schemas of `chunk` are known, and it is not void. The partition waits where one is not."""
        if (values := self._validator.values) is None:
            return True
        why = await values.try_prepare(chunk)
        if why is not None and writer.accepts(epoch) and self._group is not None:
            # One record of each schema: they are all read again, because what waits is not in the memory budget.
            needed = {ref: record for record in chunk for ref in values.missing((record,))}
            self._held.add((writer, epoch))
            self._source.pause(writer.partition)
            self._group.create_task(self._hold(values, writer, epoch, [*needed.values()]), name="wait for a schema")
        return why is None and writer.accepts(epoch)

    async def _hold(self, values: ValueSource, writer: PartitionWriter, epoch: int, needed: Sequence[Record]) -> None:
        """Read the partition again when the schemas of these records are known; the others go on meanwhile."""
        try:
            ready = await values.prepare(needed, lambda: writer.accepts(epoch))
        finally:
            self._held.discard((writer, epoch))
        if ready and writer.accepts(epoch) and (position := writer.buffer.position) is not None:
            writer.note_progress(_now())
            self._source.seek(writer.partition, position, writer.buffer.leader_epoch)

    def _chunk_size(self, batch: Batch | None, records: Sequence[Record], cuts: Sequence[int] | None) -> int:
        """How many of these records are validated at once: what the open batch still takes, up to the next cut."""
        size = len(records)
        if value_bytes(records) > CHUNK_BYTES:
            sizes = accumulate(len(record.value or b"") for record in records)
            size = max(1, bisect_right([*sizes], CHUNK_BYTES))
        left = self._flush_policy.records_left(batch)
        if left is not None:
            size = min(size, left)
        return size if cuts is None else cuts[bisect_left(cuts, size)]

    def _lines(self, partition: TopicPartition, validated: Validated, leader_epoch: int | None) -> bytes:
        return encode(partition, validated.rejected, leader_epoch, self._validator.origin)

    # -- memory

    @property
    def held_bytes(self) -> int:
        """Bytes of rows, compressed or not yet, and of rejected records that have not landed."""
        return sum(writer.buffer.held_bytes for writer in self.writers.values())

    @property
    def held_records(self) -> int:
        """Records that were read and have not landed."""
        return sum(writer.buffer.held_records for writer in self.writers.values())

    @property
    def undone(self) -> str:
        """Objects that have landed and are not committed, for people; "" without any."""
        uncommitted = sum(it.landed is not None and it.landed != it.committed for it in self.writers.values())
        return f"objects of {number(uncommitted, 'partition')} not committed" if uncommitted else ""

    def partitions(self, now: float) -> list[PartitionStatus]:
        """The status of each assigned partition."""
        return [partition_status(writer, self._source, now) for writer in self.writers.values()]

    def queue_status(self) -> None:
        """None: the source is no queue."""

    def _flush_largest(self) -> None:
        writers = {batch: writer for writer in self.writers.values() if (batch := writer.buffer.open) is not None}
        for batch in self._flush_policy.for_memory(writers):
            writers[batch].flush(FlushReason.MEMORY)

    # -- flushing by age, progress, the end

    async def _flush_by_age(self) -> None:
        """A batch that opens during a sleep is due after its end, so no sleep is too long.

        Each look is at all partitions. Batches that are due soon after one another share one.
        """
        interval = self._limits.interval
        while True:
            now = _now()
            due = [at for writer in self.writers.values() if (at := writer.flush_if_due(now)) is not None]
            await asyncio.sleep(max(min(due, default=now + interval) - now, interval * AGE_GRAIN))

    async def _track_progress(self) -> None:
        """Note while a partition has nothing to wait for: then no time counts as a wait for records."""
        while True:
            await asyncio.sleep(PROGRESS_INTERVAL_S)
            now = _now()
            for writer in self.writers.values():
                if self.budget.is_full or not self._awaits_records(writer):
                    writer.note_progress(now)

    def _awaits_records(self, writer: PartitionWriter) -> bool:
        """Whether the log has records that were not read, or the partition was lost and not revoked yet.

        Not where they wait for a schema: nothing is wrong with the source then.
        """
        if (writer, writer.buffer.epoch) in self._held:
            return False
        position, end = writer.buffer.position, self._source.end_offset(writer.partition)
        return (position is not None and end is not None and end > position) or writer.state is PartitionState.LOST

    def longest_wait(self) -> float:
        """For how many seconds a partition has had records in its log without getting one."""
        waiting = [writer.last_progress_at for writer in self.writers.values() if self._awaits_records(writer)]
        return 0.0 if self.budget.is_full or not waiting else _now() - min(waiting)

    def _finish(self) -> None:
        self._finishing = True
        for writer in self.writers.values():
            writer.finish(FlushReason.SHUTDOWN)


def _incoming(batch: Batch | None, row_bytes: int, quarantine: bytes) -> int:
    """The most that what is held grows by these: after a wait for memory they may begin another batch."""
    is_chunk = (batch.pending_bytes if batch is not None else 0) + row_bytes >= Batch.chunk_bytes
    return row_bytes + len(quarantine) + Batch.frame_bytes + (Batch.overhead_bytes if is_chunk else 0)


def _cuts_after(cuts: Sequence[int] | None, size: int) -> Sequence[int] | None:
    """The cuts in what is left of records after the first `size` of them."""
    return None if cuts is None else [cut - size for cut in cuts[bisect_right(cuts, size) :]]


def _offset(record: Record) -> int:
    return record.offset


def _now() -> float:
    return asyncio.get_running_loop().time()
