"""Writes one partition: buffers its records, uploads its batches in order, commits the end of each object.

    load     read the committed position; without one go on at the chain's last object, else apply the start policy
    probe    at the first record: does the next object exist already? Then adopt it: commit its end, go on from there
    fill     batches are filled and flushed meanwhile; each is uploaded, then its end is committed

``core.chain`` has the rules. The writer is the only one that changes the state of its partition.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import NoReturn, TypeVar

from ingestd import __version__
from ingestd.core.batch import Batch, EncodedBatch, RecordRef
from ingestd.core.chain import ChainPolicy, ChainRules, Fork, Halt, LogChanged, LogTruncated, PartitionState
from ingestd.core.flush_policy import FlushPolicy, FlushReason
from ingestd.core.object_metadata import ObjectMetadata
from ingestd.core.partition_buffer import PartitionBuffer
from ingestd.core.records import EpochRecords, Position, TopicPartition
from ingestd.core.validation import Validated
from ingestd.ops.gc_tuning import HeapTrimmer
from ingestd.pipeline.chain_objects import ChainObjects, Dependencies
from ingestd.pipeline.shared_listing import SharedListing

log = logging.getLogger(__name__)

_heap = HeapTrimmer()  # of the process

T = TypeVar("T")


class _Finished(Exception):
    """The stream has ended and everything that was buffered has landed."""


class _OwnershipLost(Exception):
    """A commit was refused: another member of the group owns the partition."""


class PartitionWriter:
    """Runs until it is finished, stopped or halted, or until the partition is lost to another member."""

    def __init__(
        self,
        partition: TopicPartition,
        policy: ChainPolicy,
        flush_policy: FlushPolicy,
        dependencies: Dependencies,
        listing: SharedListing,
        *,
        on_freed: Callable[[], None],
    ) -> None:
        """`listing` is that of all partitions. `on_freed` is called whenever less memory is used than before."""
        self.partition = partition
        self.buffer = PartitionBuffer(partition)
        self.state = PartitionState.LOADING
        self.committed: int | None = None
        self.landed: int | None = None  # every offset below is in an object
        self.halt: Halt | None = None
        self.last_timestamp: int | None = None  # Kafka timestamp (ms) of the last record read
        self.last_progress_at = _now()  # when records last came, or none were there to come
        self.task: asyncio.Task[None] | None = None
        self._rules = ChainRules(partition, policy, dependencies.source.source_id)
        self._keys = policy.keys
        self._flush_policy = flush_policy
        self._objects = ChainObjects(self._rules, dependencies, listing)
        self._source = dependencies.source
        self._metrics = dependencies.metrics
        self._dependencies = dependencies
        self._on_freed = on_freed
        self._leader_epoch: int | None = None  # of the last record before the next batch to land
        self._changed = asyncio.Event()
        self._finishing = False
        self._restart: Callable[[], None] | None = None  # where the partition is still ours after this writer's end
        self._compression: asyncio.Future[None] | None = None  # of the open batch; one at a time: rows stay in order

    # -- records in, called by the ingest loop

    def accepts(self, epoch: int) -> bool:
        """Whether records that were fetched in this epoch are still wanted."""
        return self.buffer.epoch == epoch and self.buffer.position is not None

    def add(self, chunk: EpochRecords, validated: Validated, quarantine: bytes) -> None:
        """Add consecutive records to the open batch. `quarantine` holds the lines of the rejected ones."""
        records, leader_epoch, _ = chunk
        is_first = self.buffer.first is None
        if self.buffer.open is not None and self.buffer.open.leader_epoch != leader_epoch:
            self.flush(FlushReason.LEADER_EPOCH)
        batch = self.buffer.batch_for(records[0].offset)
        batch.add(records, validated, quarantine, _now(), leader_epoch)
        self.buffer.advance(RecordRef(records[0].offset, records[0].timestamp, leader_epoch), batch.end)
        self.last_timestamp = records[-1].timestamp
        self.note_progress(_now())
        if is_first:
            self._changed.set()

    async def compress_and_flush(self) -> None:
        """Compress the open batch's rows in a thread if they are enough, and flush the batch if it is full."""
        batch = self.buffer.open
        if batch is None:
            return
        if batch.has_chunk:
            await self._wait_for_compression()
            # The batch may have been flushed or discarded meanwhile; then encoding it compresses the rest.
            if self.buffer.open is batch and (rows := batch.take_chunk()) is not None:
                self._compression = self._offload(batch.write, rows)
                self._compression.add_done_callback(lambda _: self._on_freed())
        if self.buffer.open is batch and (reason := self._flush_policy.reached(batch)) is not None:
            self.flush(reason)

    # -- what the pipeline asks for

    def flush(self, reason: FlushReason) -> None:
        """Close the open batch, if there is one, and queue it for upload."""
        batch = self.buffer.flush(reason)
        if batch is not None:
            self._metrics.sealed(reason, batch.records, _now() - batch.opened_at)
            self._changed.set()

    def flush_if_due(self, now: float) -> float | None:
        """Flush the open batch if it has reached its age. When it will reach it, if it has not.

        Not while an older batch waits for upload: the open one could not land any sooner, and an outage would leave a
        trail of small objects.
        """
        batch = self.buffer.open
        if batch is None or batch.first is None or self.buffer.flushed:
            return None
        due = self._flush_policy.due_at(batch)
        if due > now:
            return due
        self.flush(FlushReason.AGE)
        return None

    def note_progress(self, now: float) -> None:
        """Records came, or there are none to wait for."""
        self.last_progress_at = now

    def start(self, group: asyncio.TaskGroup) -> None:
        """Begin to run as a task of the group."""
        life = self.run()
        try:
            self.task = group.create_task(life, name=f"writer {self.partition}")
        except RuntimeError:  # the group is ending after a failure, and the rebalance does not know yet
            life.close()

    def finish(self, reason: FlushReason) -> None:
        """Flush, and end as soon as everything has landed and is committed."""
        self._restart = None
        self._end_stream(reason)

    def finish_and_restart(self, restart: Callable[[], None]) -> None:
        """Land what is buffered, read no more, then call `restart`, unless the partition was given up meanwhile.

        Not where it is being given up already: it would be started for somebody else.
        """
        if self.task is None or self._finishing:
            return
        self._restart = restart
        self._end_stream(FlushReason.GONE)
        self.buffer.position = None
        self.task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        given_up = self.state in {PartitionState.LOST, PartitionState.HALTED}
        if self._restart is not None and not given_up and (task.cancelled() or task.exception() is None):
            self._restart()

    def _end_stream(self, reason: FlushReason) -> None:
        self.flush(reason)
        self._finishing = True
        self._changed.set()
        starting = self.state in {PartitionState.LOADING, PartitionState.PROBING}
        if self.task is not None and not self.buffer.flushed and starting:
            self.task.cancel()  # nothing is buffered, so there is nothing to wait for

    def stop(self) -> None:
        """End at once and discard what has not landed: the next owner reads it again."""
        self._restart = None
        if self.task is not None:
            self.task.cancel()
        self._metrics.released(self.partition, self.buffer.reset())

    # -- the life of the partition

    async def run(self) -> None:
        try:
            await self._follow_chain()
        except Halt as halt:
            self._halted(halt)
        except _OwnershipLost:
            self._lost()
        except _Finished:
            pass

    async def _follow_chain(self) -> NoReturn:
        position: Position | None = None
        fork: Fork | None = None
        while True:
            try:
                position = await (self._load() if position is None else self._run_from(position, fork))
                fork = None
            except LogTruncated as truncated:
                fork = await self._fork_after(truncated)
                position = fork.position
            except LogChanged:
                self._metrics.released(self.partition, self.buffer.reset())
                position = fork = None

    async def _load(self) -> Position:
        # Before anything that is asked by the topic's name: a topic that is created again from now on is noticed.
        self._rules.stream_id = await self._source.stream_id(self.partition)
        committed = await self._source.committed(self.partition)
        if committed is not None:
            self._rules.check_committed(committed)
            self.committed = committed.offset
            return committed
        last = await self._objects.last()
        if last is not None:
            position = self._rules.position_after(last)
        else:
            position = self._rules.start(await self._source.resolve_start(self.partition))
        await self._commit(position)
        return position

    async def _run_from(self, position: Position, fork: Fork | None) -> Position:
        """Extend the chain from a position. Returns the next position, where another writer got ahead.

        With `fork`, the position is where the chain goes on after a truncation of the log.
        """
        start = position.offset
        log_range, self._leader_epoch = await self._objects.log_at(position)
        if start < log_range.start:
            if fork is None and (winner := await self._objects.at(start)) is not None:
                return await self._adopt(winner)
            self._rules.check_retention(start, log_range)
        self.state = PartitionState.PROBING
        self.buffer.position = resume_at = max(start, log_range.start)
        # Offsets that retention removed are behind the records of that epoch.
        self.buffer.leader_epoch = self._leader_epoch if resume_at == start else None
        self._source.seek(self.partition, resume_at, self.buffer.leader_epoch)
        first = await self._first_record()
        if fork is not None:
            self._rules.check_unread(fork, first)
            winner = await self._objects.next_after_truncation(start, first)
        else:
            winner = await self._objects.next(position, first, log_range)
        if winner is not None:
            return await self._adopt(winner)
        if start < log_range.start:
            self.buffer.flushed.appendleft(Batch.hole(self.partition, start, log_range.start, first))
        while True:
            self.state = PartitionState.FILLING
            batch = await self._next_batch()
            self.state = PartitionState.UPLOADING
            if (winner := await self._land(batch)) is not None:
                return await self._adopt(winner)
            end, self._leader_epoch = batch.end, batch.leader_epoch
            del batch  # it would stay in memory until the next one is flushed
            await self._commit(self._rules.boundary(end, self._leader_epoch))

    async def _land(self, batch: Batch) -> ObjectMetadata | None:
        """Upload the oldest batch. Returns the winner if another object, with another end, has its name."""
        self._rules.check_position(batch.end)
        encoded = await self._encode(batch)
        existing = await self._objects.upload(encoded)
        if existing is not None:
            winner = await self._objects.validate(existing, encoded.data_key, batch.first)
            # The same: our own earlier attempt whose answer was lost, or a writer that cut at the same record.
            if (winner.end, winner.leader_epoch) != (batch.end, batch.leader_epoch):
                return winner
        self.buffer.flushed.popleft()
        self.flush_if_due(_now())  # it waited behind this one
        self.landed = batch.end
        self._record_landed(encoded, batch)
        return None

    async def _adopt(self, winner: ObjectMetadata) -> Position:
        """Another writer has extended the chain: discard what is buffered and go on from the end of its object."""
        discarded = self.buffer.reset()
        self.landed = winner.end
        self._metrics.adopted(self.partition, discarded)
        self._on_freed()
        log.info("another writer was first; resuming at the end of its object", extra=self._place(offset=winner.end))
        position = self._rules.boundary(winner.end, winner.leader_epoch)
        await self._commit(position)
        return position

    async def _fork_after(self, truncated: LogTruncated) -> Fork:
        """Kafka has truncated the log: go on from where its history and the chain's part, or halt."""
        fork = await self._objects.fork(truncated)
        self._metrics.forked(self.partition, self.buffer.reset())
        self._on_freed()
        place = self._place(offset=fork.position.offset)
        log.warning("the log was truncated, the chain forks: %s", truncated.message, extra=place)
        return fork

    async def _commit(self, position: Position) -> None:
        started = time.perf_counter()
        if not await self._source.commit(self.partition, position):
            raise _OwnershipLost
        self._metrics.committed(self.partition, time.perf_counter() - started)
        self.committed = position.offset

    # -- waiting for records

    async def _first_record(self) -> RecordRef:
        return await self._wait_for(lambda: self.buffer.first)

    async def _next_batch(self) -> Batch:
        """The oldest flushed batch, which stays in the queue until it has landed."""
        return await self._wait_for(lambda: self.buffer.flushed[0] if self.buffer.flushed else None)

    async def _wait_for(self, ready: Callable[[], T | None]) -> T:
        while True:
            self._changed.clear()
            if (found := ready()) is not None:
                return found
            if self._finishing:
                raise _Finished
            await self._changed.wait()

    # -- compression

    async def _encode(self, batch: Batch) -> EncodedBatch:
        await self._wait_for_compression()
        name = await self._objects.name(batch, self._leader_epoch)
        rules = self._rules
        encoded = await self._offload(batch.encode, self._keys, rules.source_id, __version__, rules.stream_id, name)
        self._free(len(encoded.data))
        return encoded

    async def _wait_for_compression(self) -> None:
        if self._compression is not None:
            await self._compression

    def _free(self, size: int) -> None:
        """Note that about `size` bytes are free: the parts of a body that was joined, or a body that has landed."""
        self._on_freed()
        _heap.freed(size, self._dependencies.executor)

    def _offload(self, function: Callable[..., T], *arguments: object) -> "asyncio.Future[T]":
        return asyncio.get_running_loop().run_in_executor(self._dependencies.executor, function, *arguments)

    # -- reporting

    def _record_landed(self, encoded: EncodedBatch, batch: Batch) -> None:
        metadata = encoded.metadata
        self._metrics.landed(
            self.partition,
            rows=metadata.rows,
            rejected=metadata.rejected,
            skipped=metadata.skipped or 0,
            body_bytes=len(encoded.data),
            row_bytes=encoded.row_bytes,
            freshness=max(0.0, self._dependencies.wall_clock() - metadata.last_timestamp / 1000),
        )
        if batch.flush_reason is FlushReason.HOLE:
            lost = self._rules.lost_records(metadata.start, metadata.end)
            self._metrics.lost_upstream(self.partition, lost)
        self._free(len(encoded.data))
        self._dependencies.landed(encoded.data_key)
        log.debug("landed %s: %d rows, flushed by %s", encoded.data_key, metadata.rows, batch.flush_reason)

    def _lost(self) -> None:
        self.state = PartitionState.LOST
        self._metrics.commit_refused(self.partition)
        self._release()
        log.info(
            "partition lost to another member; its buffered records are left to the new owner", extra=self._place()
        )

    def _halted(self, halt: Halt) -> None:
        self.state = PartitionState.HALTED
        self.halt = halt
        self._metrics.halted(self.partition, halt.code)
        self._release()
        log.error("partition halted, the others go on: %s", halt.message, extra=self._place(reason=halt.code))

    def _release(self) -> None:
        """Read no more records of the partition and discard those that are buffered."""
        self._source.pause(self.partition)
        self._metrics.released(self.partition, self.buffer.reset())
        self._on_freed()

    def _place(self, **more: object) -> dict[str, object]:
        """Fields of a log line."""
        return {"topic": self.partition.topic, "partition": self.partition.partition, **more}


def _now() -> float:
    return asyncio.get_running_loop().time()
