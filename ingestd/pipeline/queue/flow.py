"""The flow from a queue: messages are received, validated and added to batches; batches are written, then deleted.

    receivers -> landed already? -> validate -> batch -> compress (thread) -> manifest -> data -> delete

What is not deleted comes again, so nothing is lost whatever happens; `ingestd.core.queue_objects` says why nothing is
written twice. The memory budget is the back-pressure: receivers wait for room, and the queue keeps the rest. The end of
the stream flows downstream as in `ingestd.pipeline.ingest`. Cancellation means a crash.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Coroutine, Sequence
from contextlib import nullcontext
from itertools import groupby

from ingestd.core.breaker import Breaker
from ingestd.core.errors import BreakerOpen
from ingestd.core.flush_policy import FlushLimits, FlushPolicy, FlushReason
from ingestd.core.formatting import number
from ingestd.core.quarantine import encode_messages
from ingestd.core.queue_batch import EncodedQueueBatch, QueueBatch, QueueChunk
from ingestd.core.queue_keys import receipt_hour
from ingestd.core.records import TopicPartition
from ingestd.core.validation import Validated, Validator
from ingestd.core.visibility import HeldMessage, flush_before
from ingestd.ops.gc_tuning import HeapTrimmer
from ingestd.ops.queue_status import QueueStatus
from ingestd.ops.readiness import PartitionStatus
from ingestd.pipeline.memory_budget import MemoryBudget
from ingestd.pipeline.queue.dependencies import QueueDependencies
from ingestd.pipeline.queue.holding import Holding
from ingestd.pipeline.queue.manifests import Manifests
from ingestd.pipeline.queue.queue_watch import IDLE_S, QueueWatch
from ingestd.pipeline.queue.writer import Outcome, QueueWriter
from ingestd.sources.sqs.port import Message

log = logging.getLogger(__name__)

TICK_S = 1.0  # between two looks at ages, at most
TICK_SHARE = 0.1  # of the interval, at most
EXTENDS_PER_VISIBILITY = 20  # looks at what must be extended

_BREAKER_HINT = (
    "fix the sender, or name the model of these events in events.model; then restart: the messages come again"
)

_WHY = {
    Outcome.LATE: "others could receive one before its manifest was written",
    Outcome.FENCED: "another receiver of one of them has fenced the batch",
}

_heap = HeapTrimmer()  # of the process

Taken = tuple[Message, HeldMessage]


class QueuePipeline:
    """Runs until the source ends."""

    def __init__(
        self,
        limits: FlushLimits,
        dependencies: QueueDependencies,
        validator: Validator,
        breaker: Breaker,
        *,
        receivers: int,
    ) -> None:
        self.started = asyncio.Event()
        self.progress = 0  # changes whenever messages were received
        self.unassigned_since: float | None = None  # a queue is not assigned to anybody
        self.budget = MemoryBudget(limits.memory, lambda: self.held_bytes, self._flush_largest)
        self.partition = TopicPartition(dependencies.source.queue, 0)  # of the queue as a whole
        self._limits = limits
        self._flush_policy = FlushPolicy(limits)
        self._dependencies = dependencies
        self._source = dependencies.source
        self._metrics = dependencies.metrics
        self._validator = validator
        self._breaker = breaker
        self._receivers = receivers
        self._visibility = dependencies.visibility
        self._clock = dependencies.clock
        self._is_fifo = self.partition.topic.endswith(".fifo")
        self._holding = Holding(dependencies)
        self._manifests = Manifests(dependencies)
        self._writer = QueueWriter(dependencies)
        self._watch = QueueWatch(self._source, is_fifo=self._is_fifo)
        self._open: dict[int, QueueBatch] = {}  # by the hour of first receipts
        self._unlanded: dict[QueueBatch, None] = {}  # flushed, the oldest first
        self._tasks: set[asyncio.Task[None]] = set()  # each writes a batch, or deletes messages
        self._compressions: dict[QueueBatch, asyncio.Future[None]] = {}  # one at a time each: rows stay in order
        self._incoming = 0  # messages that were received and are in no batch yet
        self._adding = asyncio.Lock()  # one answer after the other: it goes into the budget, and stays in order
        self._landing = asyncio.Lock()  # of a FIFO queue: one batch after the other
        self._last_timestamp: int | None = None
        self._group: asyncio.TaskGroup

    async def run(self) -> None:
        """Start the source. Return when the stream has ended and everything received is landed and deleted."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            await self._source.start()
            self._metrics.assigned(self.partition)
            self._watch.received(_now())
            self.started.set()
            timers = [
                group.create_task(self._flush_by_time(), name="flush by time"),
                group.create_task(self._extend(), name="extend"),
                group.create_task(self._watch_queue(), name="watch the queue"),
            ]
            async with asyncio.TaskGroup() as receivers:
                for number in range(self._receivers):
                    receivers.create_task(self._receive_loop(), name=f"receiver {number}")
            self._flush_all(FlushReason.SHUTDOWN)
            while self._tasks:
                await asyncio.wait(self._tasks)
            for timer in timers:
                timer.cancel()

    # -- messages in

    async def _receive_loop(self) -> None:
        while (messages := await self._source.receive()) is not None:
            if messages:
                self.progress += 1
                self._watch.received(_now())
                await self._ingest(messages)
            await asyncio.sleep(0)  # with a backlog, nothing above waits

    async def _ingest(self, messages: Sequence[Message]) -> None:
        """Add messages to batches, but for those that are held already, or have landed."""
        self._metrics.consumed(self.partition, len(messages))
        taken = [(message, held) for message in messages if (held := self._holding.take(message)) is not None]
        if dropped := len(messages) - len(taken):
            self._metrics.released(self.partition, dropped)
            self._metrics.queue.received_again("held", dropped)
        self._incoming += len(taken)
        taken = await self._without_landed(taken)
        for hour, chunk in groupby(taken, key=lambda it: receipt_hour(it[0].first_received_ms)):
            await self._add(hour, list(chunk))

    async def _without_landed(self, taken: list[Taken]) -> list[Taken]:
        """The messages that have not landed; the others are deleted."""
        again = [message for message, _ in taken if message.receive_count > 1]
        if not again or not self._dependencies.fenced:
            return taken
        landed = await self._manifests.landed(again, self._group)
        self._metrics.queue.received_again("landed", len(landed))
        self._metrics.queue.received_again("not_landed", len(again) - len(landed))
        if landed:
            self._release(len(landed))
            self._start(self._holding.delete([held for message, held in taken if message.message_id in landed]))
        return [it for it in taken if it[0].message_id not in landed]

    async def _add(self, hour: int, taken: Sequence[Taken]) -> None:
        """Add messages of one answer to the batch of their hour."""
        async with self._adding:
            validated = self._validator.chunk(self.partition, [message for message, _ in taken])
            quarantine = encode_messages(self.partition.topic, validated.rejected) if validated.rejected else b""
            await self.budget.wait_for(self._needs(self._open.get(hour), validated, quarantine, len(taken)))
            # A batch could not land with a message that others may have received during the waits.
            if not all(held.is_hidden(self._clock()) for _, held in taken):
                self._release(len(taken))
                self._holding.release(held for _, held in taken)
                return
            messages, held = [message for message, _ in taken], [held for _, held in taken]
            batch = self._batch_for(hour, len(taken))
            received = [message.first_received_ms for message in messages]
            batch.add_messages(QueueChunk(held, messages, received, validated, quarantine), _now())
            self._incoming -= len(taken)
            self._last_timestamp = messages[-1].timestamp
            self._metrics.accepted(validated.accepted)
            if validated.rejected:
                self._metrics.rejected(Counter(it.reason for it in validated.rejected))
            if reason := self._breaker.observe(self.partition, len(taken), validated.rejected):
                raise BreakerOpen(reason, hint=_BREAKER_HINT)
            await self._compress_and_flush(hour, batch)

    def _needs(self, batch: QueueBatch | None, validated: Validated, quarantine: bytes, messages: int) -> int:
        """The most that what is held grows by these: after a wait for memory they may begin another batch."""
        size = validated.row_bytes + len(quarantine) + QueueBatch.frame_bytes + messages * QueueBatch.message_bytes
        is_chunk = (batch.pending_bytes if batch is not None else 0) + validated.row_bytes >= QueueBatch.chunk_bytes
        return size + (QueueBatch.overhead_bytes if is_chunk else 0)

    def _batch_for(self, hour: int, messages: int) -> QueueBatch:
        """The open batch of an hour. An answer is never divided: the messages of a group stay in order."""
        batch = self._open.get(hour)
        left = self._flush_policy.records_left(batch)
        if batch is not None and left is not None and messages > left:
            self._flush(hour, FlushReason.RECORDS)
            batch = None
        if batch is None:
            batch = self._open[hour] = QueueBatch(self.partition)
        return batch

    async def _compress_and_flush(self, hour: int, batch: QueueBatch) -> None:
        if batch.has_chunk:
            if (running := self._compressions.get(batch)) is not None:
                await running
            # The batch may have been flushed meanwhile; then encoding it compresses the rest.
            if self._open.get(hour) is batch and (rows := batch.take_chunk()) is not None:
                compression = self._compressions[batch] = self._writer.offload(batch.write, rows)
                compression.add_done_callback(lambda _: self._compressed(batch))
        if self._open.get(hour) is batch and (reason := self._flush_policy.reached(batch)) is not None:
            self._flush(hour, reason)

    def _compressed(self, batch: QueueBatch) -> None:
        del self._compressions[batch]
        self.budget.freed()

    # -- batches out

    def _flush(self, hour: int, reason: FlushReason) -> None:
        """Close an open batch, and write it."""
        batch = self._open.pop(hour)
        batch.flush_reason = reason
        self._metrics.sealed(reason, batch.records, _now() - batch.opened_at)
        self._unlanded[batch] = None
        self._start(self._land(batch))

    def _flush_all(self, reason: FlushReason) -> None:
        for hour in list(self._open):
            self._flush(hour, reason)

    def _flush_largest(self) -> None:
        hours = {batch: hour for hour, batch in self._open.items()}
        for batch in self._flush_policy.for_memory(hours):
            self._flush(hours[batch], FlushReason.MEMORY)

    async def _land(self, batch: QueueBatch) -> None:
        """Write a batch and delete its messages; or give it up."""
        if (running := self._compressions.get(batch)) is not None:
            await running
        encoded = await self._writer.encode(batch)
        self._freed(len(encoded.data))
        async with self._landing if self._is_fifo else nullcontext():
            outcome = await self._writer.write(batch, encoded)
        del self._unlanded[batch]
        if outcome is Outcome.LANDED:
            self._record_landed(batch, encoded)
            del encoded  # it would stay in memory until the messages are deleted
            await self._holding.delete(batch.messages)
            self.budget.freed()
            return
        self._metrics.released(self.partition, batch.records)
        self._metrics.queue.given_up(outcome.value)
        self._holding.release(batch.messages)
        self._freed(len(encoded.data))
        log.warning(
            "batch given up, its messages come again: %s", _WHY[outcome], extra={"messages": len(batch.messages)}
        )

    def _record_landed(self, batch: QueueBatch, encoded: EncodedQueueBatch) -> None:
        metadata = encoded.metadata
        self._metrics.landed(
            self.partition,
            rows=metadata.rows,
            rejected=metadata.rejected,
            body_bytes=len(encoded.data),
            row_bytes=encoded.row_bytes,
            freshness=max(0.0, self._dependencies.wall_clock() - metadata.last_timestamp / 1000),
        )
        self._freed(len(encoded.data))
        self._dependencies.landed(encoded.data_key)
        log.debug("landed %s: %d rows, flushed by %s", encoded.data_key, metadata.rows, batch.flush_reason)

    def _release(self, messages: int) -> None:
        """Received messages go into no batch."""
        self._incoming -= messages
        self._metrics.released(self.partition, messages)

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = self._group.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _freed(self, size: int) -> None:
        """Note that about `size` bytes are free: the parts of a body that was joined, or a body that has landed."""
        self.budget.freed()
        _heap.freed(size, self._dependencies.executor)

    # -- by time

    async def _flush_by_time(self) -> None:
        pause = min(TICK_S, self._limits.interval * TICK_SHARE)
        while True:
            await asyncio.sleep(pause)
            # Not while an older batch waits for the sink: an outage would leave a trail of small objects.
            waits, hides_until = bool(self._unlanded), self._clock() + flush_before(self._visibility)
            for hour, batch in list(self._open.items()):
                if batch.hidden_until < hides_until:  # SQS takes no extensions
                    self._flush(hour, FlushReason.VISIBILITY)
                elif not waits and self._flush_policy.due_at(batch) <= _now():
                    self._flush(hour, FlushReason.AGE)

    async def _extend(self) -> None:
        while True:
            await asyncio.sleep(self._visibility / EXTENDS_PER_VISIBILITY)
            await self._holding.extend_due()

    async def _watch_queue(self) -> None:
        """Ask how much is in the queue; flush where it hands out nothing more until messages are deleted."""
        while True:
            await asyncio.sleep(IDLE_S)
            may_be_blocked = bool(self._open) and not self._incoming and self._watch.is_idle(_now())
            if may_be_blocked or self._watch.is_due(_now()):
                await self._watch.ask(_now())
                if may_be_blocked and self._watch.is_idle(_now()) and self._watch.has_waiting():
                    self._flush_all(FlushReason.BLOCKED)

    # -- for status, readiness and watchdog

    @property
    def held_bytes(self) -> int:
        """Bytes of what has not landed, and of the receipts of what is not deleted."""
        batches = sum(batch.held_bytes for batch in [*self._open.values(), *self._unlanded])
        return batches + self._holding.deleting * QueueBatch.message_bytes

    @property
    def held_records(self) -> int:
        """Messages that were received and have not landed."""
        return sum(batch.records for batch in [*self._open.values(), *self._unlanded]) + self._incoming

    @property
    def undone(self) -> str:
        """What has landed and is not finished, for people; "" where nothing is left."""
        deleting = self._holding.deleting
        return f"{number(deleting, 'message')} landed and not deleted" if deleting else ""

    def longest_wait(self) -> float:
        """For how many seconds the queue has had messages without handing out one."""
        return 0.0 if self.budget.is_full or self._incoming else self._watch.starved(_now()) or 0.0

    def partitions(self, now: float) -> list[PartitionStatus]:
        """The queue, as if it were one partition without offsets."""
        if not self.started.is_set():
            return []
        batches = [*self._unlanded, *self._open.values()]
        depth = self._watch.depth
        return [
            PartitionStatus(
                topic=self.partition.topic,
                partition=self.partition.partition,
                state="uploading" if self._unlanded else "filling",
                reached=self._last_timestamp,
                lag=depth.visible + self.held_records if depth is not None else None,
                batch_records=sum(batch.records for batch in self._open.values()),
                batch_bytes=sum(batch.size for batch in self._open.values()),
                batch_age=max((now - batch.opened_at for batch in self._open.values()), default=None),
                sealed_batches=len(self._unlanded),
                oldest_unlanded=max((now - batch.opened_at for batch in batches), default=None),
                starved=self.longest_wait() or None,
            )
        ]

    def queue_status(self) -> QueueStatus:
        """What is in the queue, and what of it is held here."""
        depth = self._watch.depth
        return QueueStatus(
            visible=depth.visible if depth is not None else None,
            in_flight=depth.in_flight if depth is not None else None,
            oldest=depth.oldest_s if depth is not None else None,
            held=len(self._holding),
            undeleted=self._holding.deleting,
        )


def _now() -> float:
    return asyncio.get_running_loop().time()
