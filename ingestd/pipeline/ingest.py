"""The flow: records are fetched, validated and batched; sealed batches are landed by one keeper a partition.

    source -> validate -> batch (per partition) -> compress (thread) -> create-only PUT -> commit

The memory budget joins the two halves: where what is held reaches it, nothing more is taken until something has
landed, and Kafka keeps the rest. The end of the stream flows downstream in the same way as its records: the source
ends, open batches are sealed, the keepers land and commit what they hold and end. Cancellation means a crash.
"""

import asyncio
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Collection, Sequence
from itertools import accumulate

from ingestd.config.model import BatchConfig
from ingestd.core.batch import Batch, RecordRef
from ingestd.core.breaker import Breaker
from ingestd.core.chain import Chain, ChainPolicy
from ingestd.core.errors import BreakerOpen
from ingestd.core.flush_policy import FlushPolicy, FlushReason
from ingestd.core.quarantine import encode
from ingestd.core.records import Record, TopicPartition, value_bytes
from ingestd.core.validation import Validator
from ingestd.pipeline.partition_writer import Dependencies, PartitionWriter

CHUNK_BYTES = 1 << 20  # of values that are decoded at once: bounds how long the loop is held, however large records are


class Pipeline:
    """Runs until the source ends. It is the source's ``Listener``."""

    def __init__(
        self,
        limits: BatchConfig,
        tools: Dependencies,
        validator: Validator,
        breaker: Breaker,
        policy: ChainPolicy,
        *,
        revoke_timeout: float,
    ) -> None:
        self.limits = limits
        self._flush_policy = FlushPolicy(limits)
        self.keepers: dict[TopicPartition, PartitionWriter] = {}
        self.started = asyncio.Event()
        self.progress = 0  # changes whenever records have been taken
        self._tools = tools
        self._validator = validator
        self._breaker = breaker
        self._policy = policy
        self._revoke_timeout = revoke_timeout
        self._group: asyncio.TaskGroup | None = None
        self._finishing = False
        self._room = asyncio.Event()
        self._held = self._recount_at = 0
        self._full = False  # waiting for room

    async def run(self) -> None:
        """Start the source; return when the stream has ended and all that was taken from it is landed and committed."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            await self._tools.source.start(self)
            self.started.set()
            ticker = group.create_task(self._tick(), name="ticker")
            await self._ingest_loop()
            self._finish()
            ticker.cancel()

    # -- ownership, called by the source from inside a rebalance

    def on_assigned(self, partitions: Collection[TopicPartition]) -> None:
        self._tools.metrics.rebalanced()
        for partition in partitions:
            self._start_partition(partition)

    async def on_revoked(self, partitions: Collection[TopicPartition]) -> None:
        """Land what is held, within a bound; what does not make it is dropped, and its next owner reads it again.

        Without the attempt, rebalances more frequent than the flush interval would stop all progress.
        """
        leaving = [self.keepers[partition] for partition in partitions if partition in self.keepers]
        for keeper in leaving:
            keeper.restart_pending = False
            self._seal(keeper, FlushReason.REVOKE)
            keeper.finish()
        if tasks := [keeper.task for keeper in leaving if keeper.task is not None]:
            await asyncio.wait(tasks, timeout=self._revoke_timeout)
        for keeper in leaving:
            self._stop_partition(keeper)

    def on_out_of_range(self, partition: TopicPartition) -> None:
        """The log does not hold what is to be read next: land what is held, then begin again from what is committed.

        What is held may be in no log any more, so that nobody could read it again.
        """
        keeper = self.keepers.get(partition)
        if keeper is None or keeper.task is None:
            return
        self._seal(keeper, FlushReason.GONE)
        keeper.chain.position = None
        keeper.restart_pending = True
        keeper.finish()
        keeper.task.add_done_callback(lambda task: self._begin_again(keeper, task))

    def _begin_again(self, keeper: PartitionWriter, task: asyncio.Task[None]) -> None:
        """Unless the partition was revoked, lost or halted meanwhile, or the stream has ended."""
        if not keeper.restart_pending or self._finishing or keeper.chain.state in {"lost", "halted"}:
            return
        if task.cancelled() or task.exception() is None:
            self._start_partition(keeper.chain.partition)

    def _start_partition(self, partition: TopicPartition) -> None:
        if self._finishing or self._group is None:
            return
        if stale := self.keepers.get(partition):
            self._stop_partition(stale)
        keeper = PartitionWriter(Chain(partition, self._policy, self._tools.source.source_id), self._tools, self.freed)
        self.keepers[partition] = keeper
        self._tools.metrics.assigned(partition)
        life = keeper.run()
        try:
            keeper.task = self._group.create_task(life, name=f"keeper {partition}")
        except RuntimeError:  # the group is ending after a failure, and the rebalance does not know yet
            life.close()

    def _stop_partition(self, keeper: PartitionWriter) -> None:
        partition = keeper.chain.partition
        if keeper.task is not None:
            keeper.task.cancel()
        self._tools.metrics.released(partition, keeper.chain.reset())
        self._tools.metrics.revoked(partition)
        keeper.restart_pending = False
        if self.keepers.get(partition) is keeper:
            del self.keepers[partition]
        self.freed()

    # -- records in

    async def _ingest_loop(self) -> None:
        while (fetched := await self._tools.source.fetch()) is not None:
            # A seek while we wait below voids what this fetch brought: the epoch of now tells. Where none is wanted at
            # this moment a seek is still to come, and these records are from before it.
            chunks = [
                (keeper, keeper.chain.epoch, records)
                for partition, records in fetched.items()
                if (keeper := self.keepers.get(partition)) is not None and keeper.chain.position is not None
            ]
            for keeper, epoch, records in chunks:
                await self._ingest_chunk(keeper, epoch, records)
            await asyncio.sleep(0)  # where there is a backlog, nothing above waits

    async def _ingest_chunk(self, keeper: PartitionWriter, epoch: int, records: Sequence[Record]) -> None:
        """Bring consecutive records of one partition into its batches, unless they become void meanwhile."""
        chain = keeper.chain
        while records and chain.epoch == epoch and chain.position is not None:
            if records[0].offset < chain.position:
                records = records[bisect_left(records, chain.position, key=_offset) :]
                continue
            most = self._most(chain.open, records)
            chunk, records = records[:most], records[most:]
            validated = self._validator.chunk(chain.partition, chunk)
            quarantine = encode(chain.partition, validated.rejected) if validated.rejected else b""
            # Whether a batch will be open after the wait is not known yet, so each chunk brings a new one's overhead.
            await self._wait_for_memory(len(validated.rows) + len(quarantine) + Batch.overhead_bytes)
            if chain.epoch != epoch or chain.position is None:
                return
            batch = chain.batch_for(chunk[0].offset)
            batch.add(chunk, validated, quarantine, _now())
            self._record_progress(keeper, chunk, batch)
            self._tools.metrics.accepted(validated.accepted)
            if validated.rejected:
                self._tools.metrics.rejected(Counter(it.reason for it in validated.rejected))
            if reason := self._breaker.observe(chain.partition, len(chunk), validated.rejected):
                raise BreakerOpen(reason, hint="mend the producer or the model, then restart: it is read again")
            await self._compress(keeper, batch)
            if records:
                await asyncio.sleep(0)  # none of the waits above needs to be one

    def _most(self, batch: Batch | None, records: Sequence[Record]) -> int:
        """How many of these records are taken at once: at most what the open batch still takes."""
        most = len(records)
        if value_bytes(records) > CHUNK_BYTES:
            sizes = accumulate(len(record.value or b"") for record in records)
            most = max(1, bisect_right([*sizes], CHUNK_BYTES))
        left = self._flush_policy.records_left(batch)
        return most if left is None else min(most, left)

    def _record_progress(self, keeper: PartitionWriter, chunk: Sequence[Record], batch: Batch) -> None:
        first = keeper.chain.first is None
        keeper.last_progress_at = _now()
        keeper.reached = chunk[-1].timestamp
        self.progress += 1
        keeper.chain.advance(RecordRef(chunk[0].offset, chunk[0].timestamp), batch.end)
        self._tools.metrics.consumed(keeper.chain.partition, len(chunk))
        if first:
            keeper.wake()

    async def _compress(self, keeper: PartitionWriter, batch: Batch) -> None:
        """Hand a piece to a thread once there is one, and seal the batch once it is full."""
        if batch.has_piece:
            await keeper.settle()
            # It may have been sealed or dropped during the wait; then its keeper compresses the rest.
            if keeper.chain.open is batch and (piece := batch.take_piece()) is not None:
                keeper.write(batch, piece).add_done_callback(self._compressed)
        if keeper.chain.open is batch and (trigger := self._flush_policy.reached(batch)) is not None:
            self._seal(keeper, trigger)

    # -- the memory budget

    @property
    def held_bytes(self) -> int:
        """Rows, compressed or not yet, and rejects: all that is held and has not landed."""
        return sum(keeper.chain.held_bytes for keeper in self.keepers.values())

    async def _wait_for_memory(self, incoming: int) -> None:
        """Wait until `incoming` bytes fit into the budget; a chunk larger than all of it goes in alone.

        `_held` is an upper bound, since compressing and landing only make it less: the sum over all partitions, which
        is dear with hundreds of them, is made anew after every sixteenth of the budget.
        """
        self._held += incoming
        if self._held <= self._recount_at:
            return
        while True:
            self._room.clear()
            self._flush_largest()
            held = self.held_bytes
            if not held or held + incoming <= self.limits.memory:
                break
            self._full = True
            await self._room.wait()
            self._full = False
        self._held = held + incoming
        self._recount_at = min(self._held + self.limits.memory // 16, self.limits.memory)

    def _flush_largest(self) -> None:
        """Seal the largest open batches while open ones take more than half of the budget."""
        opened = {id(keeper.chain.open): keeper for keeper in self.keepers.values()}
        for batch in self._flush_policy.for_memory(
            k.chain.open for k in self.keepers.values() if k.chain.open is not None
        ):
            self._seal(opened[id(batch)], FlushReason.MEMORY)

    def _compressed(self, _: object) -> None:
        """There is room now, too, and in an outage there is no other."""
        self._room.set()

    def freed(self) -> None:
        """Something that was held is no longer."""
        self._room.set()
        self._seal_aged()

    # -- progress

    def longest_wait(self) -> float:
        """For how many seconds a partition has had records in its log of which none has come.

        Also one that was lost, and neither revoked nor given back since. To be asked often: it notes when there was
        nothing to wait for.
        """
        now = _now()
        for keeper in self.keepers.values():
            chain = keeper.chain
            end = self._tools.source.end_offset(chain.partition)
            behind = chain.position is not None and end is not None and end > chain.position
            if self._full or not (behind or chain.state == "lost"):
                keeper.last_progress_at = now
        return max((now - keeper.last_progress_at for keeper in self.keepers.values()), default=0.0)

    # -- sealing

    async def _tick(self) -> None:
        """Seal by age. A batch that opens during a sleep is due after its end, so no sleep is too long."""
        while True:
            now = _now()
            due = min((at for keeper in self.keepers.values() if (at := self._due(keeper)) is not None), default=None)
            await asyncio.sleep(self.limits.interval if due is None else max(0.0, due - now))
            self._seal_aged()

    def _seal_aged(self) -> None:
        now = _now()
        for keeper in self.keepers.values():
            due = self._due(keeper)
            if due is not None and due <= now:
                self._seal(keeper, FlushReason.AGE)

    def _due(self, keeper: PartitionWriter) -> float | None:
        """When the open batch reaches its age.

        Never while an older one waits to land: it could not land any sooner, and an outage would leave a trail of small
        objects.
        """
        batch = keeper.chain.open
        if batch is None or batch.first is None or keeper.chain.sealed:
            return None
        return self._flush_policy.due_at(batch)

    def _seal(self, keeper: PartitionWriter, trigger: FlushReason) -> None:
        batch = keeper.chain.seal(trigger)
        if batch is not None:
            self._tools.metrics.sealed(trigger, batch.records, _now() - batch.opened_at)
            keeper.wake()

    def _finish(self) -> None:
        self._finishing = True
        for keeper in self.keepers.values():
            self._seal(keeper, FlushReason.SHUTDOWN)
            keeper.finish()


def _offset(record: Record) -> int:
    return record.offset


def _now() -> float:
    return asyncio.get_running_loop().time()
