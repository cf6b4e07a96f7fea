"""Keeps one partition: does the I/O that its chain asks for, one step at a time, in order."""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar

import msgspec

from ingestd import __version__
from ingestd.core.batch import Batch, EncodedBatch, RecordRef
from ingestd.core.chain import Chain
from ingestd.core.chain_steps import (
    Adopted,
    AwaitBatch,
    AwaitFirst,
    Commit,
    Encode,
    FindNeighbours,
    GetTopicId,
    Halt,
    HeadObject,
    Landed,
    ReadCommitted,
    ReadLog,
    ResolveStart,
    Seek,
    Step,
    Upload,
    Wait,
)
from ingestd.core.flush_policy import FlushReason
from ingestd.core.object_keys import ObjectKeys
from ingestd.core.stored import Stored
from ingestd.ops.gc_tuning import HeapTrimmer
from ingestd.ops.metrics import Metrics
from ingestd.pipeline.neighbours import find_neighbours
from ingestd.sinks.base import Sink
from ingestd.sinks.listing import Listing
from ingestd.sinks.retry import SinkRetrier
from ingestd.sources.base import Source

log = logging.getLogger(__name__)

_heap = HeapTrimmer()  # of the process

T = TypeVar("T")


def _unheard(_key: str) -> None:
    """Nobody wants to know."""


class Dependencies(msgspec.Struct, frozen=True):
    """What every keeper works with."""

    source: Source
    sink: Sink
    guard: SinkRetrier
    metrics: Metrics
    executor: Executor  # for compression
    wall_clock: Callable[[], float]
    landed: Callable[[str], None] = _unheard  # called with the key of each data object; neither blocks nor raises


class PartitionWriter:
    """Drives a chain until it is told to finish, loses the partition, or halts."""

    def __init__(self, chain: Chain, tools: Dependencies, freed: Callable[[], None]) -> None:
        """`freed` is called whenever less is held than before."""
        self.chain = chain
        self._tools = tools
        self._freed = freed
        self._wake = asyncio.Event()
        self._finishing = False
        self.restart_pending = False  # after its end, the partition is still ours
        self._write: asyncio.Future[None] | None = None  # the piece of the open batch that is being compressed
        self.halted: Halt | None = None
        self.reached: int | None = None  # Kafka timestamp (ms) of the last record taken
        self.last_progress_at = asyncio.get_running_loop().time()  # when records last came, or none were there to come
        self.task: asyncio.Task[None] | None = None

    def wake(self) -> None:
        """Something came in: a first record, or a sealed batch."""
        self._wake.set()

    def finish(self) -> None:
        """End as soon as all that is sealed has landed and is committed."""
        self._finishing = True
        self._wake.set()
        if self.task is not None and not self.chain.sealed and self.chain.state in {"loading", "probing"}:
            self.task.cancel()  # nothing is held: there is nothing to wait for

    async def run(self) -> None:
        """Ends without an exception where the partition is no longer ours, or is halted."""
        steps = self.chain.run()
        answer: Any = None
        while True:
            step: Step = steps.send(answer)
            match step:
                case Halt():
                    self._halt(step)
                    return
                case Commit():
                    if not await self._commit(step):
                        self._drop()
                        return
                    answer = None
                case Seek() | Landed() | Adopted():
                    self._note(step)
                    answer = None
                case AwaitFirst() | AwaitBatch():
                    answer = await self._await(step)
                    if answer is None:
                        return
                case _:
                    answer = await self._answer(step)

    async def settle(self) -> None:
        """Wait until no piece is being compressed."""
        if self._write is not None:
            await self._write

    def write(self, batch: Batch, piece: bytes) -> "asyncio.Future[None]":
        """Have a piece compressed. To be called when settled: rows must reach the stream in order."""
        self._write = self._offload(batch.write, piece)
        return self._write

    async def _answer(self, step: Step) -> Any:
        """Do the I/O of a step."""
        tools, partition = self._tools, self.chain.partition
        answer: Any = None
        match step:
            case GetTopicId():
                answer = await tools.source.topic_id(partition)
            case ReadCommitted():
                answer = await tools.source.committed(partition)
            case ResolveStart():
                answer = await tools.source.resolve_start(partition)
            case ReadLog():
                answer = await tools.source.log_range(partition)
            case Wait(seconds):
                await asyncio.sleep(seconds)
            case FindNeighbours(offset):
                layout = self.chain.policy.layout
                answer = await find_neighbours(Listing(tools.sink, tools.guard), layout, partition, offset)
            case HeadObject(key):
                answer = await tools.guard.call(tools.sink.head, key)
            case Encode(batch):
                answer = await self._pack(batch)
            case Upload(sealed):
                answer = await self._upload(sealed)
        return answer

    def _note(self, step: Seek | Landed | Adopted) -> None:
        """Do what a step says; it has no answer."""
        partition = self.chain.partition
        match step:
            case Seek(offset):
                self._tools.source.seek(partition, offset)
            case Landed():
                self._landed(step)
            case Adopted(winner, released):
                self._tools.metrics.adopted(partition, released)
                self._freed()
                log.info(
                    "another writer was first; going on from the end of its object",
                    extra={"topic": partition.topic, "partition": partition.partition, "offset": winner.end},
                )

    async def _await(self, step: AwaitFirst | AwaitBatch) -> RecordRef | Batch | None:
        """What the chain waits for; None when it is not going to come."""
        while True:
            self._wake.clear()
            if isinstance(step, AwaitBatch) and self.chain.sealed:
                return self.chain.sealed[0]
            if isinstance(step, AwaitFirst) and self.chain.first is not None:
                return self.chain.first
            if self._finishing:
                return None
            await self._wake.wait()

    async def _pack(self, batch: Batch) -> EncodedBatch:
        await self.settle()
        chain = self.chain
        sealed = await self._offload(_finish, batch, chain.policy.layout, chain.cluster, chain.topic_id)
        _heap.freed(len(sealed.data), self._tools.executor)
        self._freed()  # it has become smaller
        return sealed

    async def _upload(self, sealed: EncodedBatch) -> Stored:
        """The quarantine first: a crash in between repeats rejected records, the other order could lose them."""
        tools = self._tools
        metadata = sealed.landed.metadata()
        started = time.perf_counter()
        if sealed.quarantine_key is not None and sealed.quarantine is not None:
            key, body = sealed.quarantine_key, sealed.quarantine
            await tools.guard.call(tools.sink.put_new, key, body, metadata)
        stored = await tools.guard.call(tools.sink.put_new, sealed.data_key, sealed.data, metadata)
        tools.metrics.uploaded(time.perf_counter() - started)
        return stored

    async def _commit(self, step: Commit) -> bool:
        started = time.perf_counter()
        accepted = await self._tools.source.commit(self.chain.partition, step.position)
        if accepted:
            self._tools.metrics.committed(self.chain.partition, time.perf_counter() - started)
        return accepted

    def _landed(self, landing: Landed) -> None:
        sealed, batch, tools = landing.sealed, landing.batch, self._tools
        landed = sealed.landed
        tools.metrics.landed(
            self.chain.partition,
            rows=landed.rows,
            rejected=landed.rejected,
            body_bytes=len(sealed.data),
            row_bytes=sealed.row_bytes,
            freshness=max(0.0, tools.wall_clock() - landed.last_timestamp / 1000),
        )
        if batch.trigger is FlushReason.HOLE:
            tools.metrics.lost_upstream(self.chain.partition, landed.end - landed.start)
        self._freed()
        _heap.freed(len(sealed.data), tools.executor)
        tools.landed(sealed.data_key)
        log.debug("landed %s: %d rows, sealed by %s", sealed.data_key, landed.rows, batch.trigger)

    def _drop(self) -> None:
        """A commit was refused: somebody else owns the partition, and what is held lands there."""
        partition = self.chain.partition
        self._tools.metrics.commit_refused(partition)
        self.chain.state = "lost"
        self._forget()
        log.info(
            "lost the partition; what was held of it is left to its new owner",
            extra={"topic": partition.topic, "partition": partition.partition},
        )

    def _halt(self, step: Halt) -> None:
        partition = self.chain.partition
        self.halted = step
        self.chain.state = "halted"
        self._tools.metrics.halted(partition, step.code)
        self._forget()
        log.error(
            "partition halted, the others go on: %s",
            step.message,
            extra={"topic": partition.topic, "partition": partition.partition, "reason": step.code},
        )

    def _forget(self) -> None:
        self._tools.source.pause(self.chain.partition)
        self._tools.metrics.released(self.chain.partition, self.chain.reset())
        self._freed()

    def _offload(self, function: Callable[..., T], *arguments: object) -> "asyncio.Future[T]":
        return asyncio.get_running_loop().run_in_executor(self._tools.executor, function, *arguments)


def _finish(batch: Batch, layout: ObjectKeys, cluster: str, topic_id: str) -> EncodedBatch:
    return batch.finish(layout, cluster, __version__, topic_id)
