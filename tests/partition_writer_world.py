"""A partition's writer whose source and sink ask the test for each answer."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future
from typing import Any, ParamSpec, TypeVar, cast

import pytest

from ingestd.config.model import BatchConfig, SinkConfig
from ingestd.config.types import Seconds
from ingestd.core.batch import Batch, RecordRef
from ingestd.core.chain import ChainPolicy, PartitionState
from ingestd.core.flush_policy import FlushPolicy, FlushReason
from ingestd.core.object_keys import ObjectKeys
from ingestd.core.object_metadata import ObjectMetadata
from ingestd.core.records import EpochRecords, LogRange, PlainRecord, Position, TopicPartition
from ingestd.core.stored import ObjectInfo
from ingestd.core.validation import Validated
from ingestd.ops.metrics import Metrics
from ingestd.pipeline import chain_objects
from ingestd.pipeline.chain_objects import Dependencies
from ingestd.pipeline.partition_writer import PartitionWriter
from ingestd.pipeline.shared_listing import SharedListing
from ingestd.sinks.base import Sink
from ingestd.sinks.retry import SinkRetrier
from ingestd.sources.base import Source

T = TypeVar("T")
P = ParamSpec("P")

TP = TopicPartition("t", 0)
KEYS = ObjectKeys()
TAG = KEYS.commit_tag("s3://b")
LOG = LogRange(0, 1000)
NOON = 1_795_348_800_000
TURNS = 50  # of the event loop, until nothing more happens without an answer


class Immediate(Executor):
    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        done: Future[T] = Future()
        done.set_result(fn(*args, **kwargs))
        return done


class Ports:
    """A source and a sink that ask the test for each answer."""

    def __init__(self, source_id: str) -> None:
        self.source_id = source_id
        self.question: tuple[str, tuple[object, ...]] | None = None
        self.seeks: list[int] = []
        self.follows: int | None = None  # the leader epoch of the last seek
        self.paused = False
        self.asking = asyncio.Event()
        self._answer: asyncio.Future[Any] = asyncio.Future()

    async def ask(self, kind: str, *arguments: object) -> Any:
        assert self.question is None, f"{kind} is asked before {self.question} is answered"
        self.question, self._answer = (kind, arguments), asyncio.get_running_loop().create_future()
        self.asking.set()
        return await self._answer

    def answer(self, value: object) -> None:
        self.question = None
        self.asking.clear()
        self._answer.set_result(value)

    def seek(self, _: TopicPartition, offset: int, leader_epoch: int | None = None) -> None:
        self.seeks.append(offset)
        self.follows = leader_epoch

    def pause(self, _: TopicPartition) -> None:
        self.paused = True

    async def stream_id(self, _: TopicPartition) -> Any:
        return await self.ask("topic id")

    async def committed(self, _: TopicPartition) -> Any:
        return await self.ask("committed")

    async def resolve_start(self, _: TopicPartition) -> Any:
        return await self.ask("start")

    async def epoch_end(self, _: TopicPartition, leader_epoch: int) -> Any:
        return await self.ask("epoch end", leader_epoch)

    async def log_range(self, _: TopicPartition) -> Any:
        return await self.ask("log")

    async def commit(self, _: TopicPartition, position: Position) -> Any:
        return await self.ask("commit", position)

    async def head(self, key: str) -> Any:
        return await self.ask("head", key)

    async def put_new(self, key: str, body: bytes, metadata: Mapping[str, str]) -> Any:
        return await self.ask("put", key, body, metadata)


def scripted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Neighbours and history are asked of the test, too, on a loop of its own."""

    async def neighbours(listing: Any, _partition: object, offset: int) -> Any:
        return await listing.ask("neighbours", offset)

    async def history(listing: Any, _partition: object, offset: int) -> Any:
        return await listing.ask("history", offset)

    monkeypatch.setattr(chain_objects, "find_neighbours", neighbours)
    monkeypatch.setattr(chain_objects, "find_history", history)
    monkeypatch.setattr(chain_objects, "LOG_END_INTERVAL_S", 0.0)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    asyncio.set_event_loop(None)
    loop.close()


class Play:
    """Runs a writer and answers its questions in turn."""

    def __init__(
        self,
        *,
        exactly_once: bool = True,
        skip_lost: bool = False,
        replayable: bool = True,
        fork: bool = False,
        topic_id: str = "",
        cluster: str = "cluster",
    ) -> None:
        self.loop = asyncio.get_event_loop()
        self.ports, self.metrics = Ports(cluster), Metrics()
        self.loop.run_until_complete(self._start(ObjectKeys(exactly_once=exactly_once), skip_lost, replayable, fork))
        self.answer("topic id", topic_id)

    async def _start(self, keys: ObjectKeys, skip_lost: bool, replayable: bool, fork: bool) -> None:
        dependencies = Dependencies(
            source=cast("Source", self.ports),
            sink=cast("Sink", self.ports),
            retrier=SinkRetrier(SinkConfig(retry_initial=Seconds(0.001)), self.metrics.upload_retried),
            metrics=self.metrics,
            executor=Immediate(),
            wall_clock=lambda: 0.0,
        )
        policy, listing = ChainPolicy(keys, TAG, skip_lost, replayable, fork), cast("SharedListing", self.ports)
        self.writer = PartitionWriter(
            TP, policy, FlushPolicy(BatchConfig()), dependencies, listing, on_freed=lambda: None
        )
        self.buffer = self.writer.buffer
        self.writer.task = asyncio.create_task(self.writer.run())
        await self._turns()

    async def _turns(self) -> None:
        for _ in range(TURNS):
            await asyncio.sleep(0)

    def run(self) -> "Play":
        """Let everything happen that needs no answer."""
        self.loop.run_until_complete(self._turns())
        return self

    def wait(self) -> None:
        """Until the backoff is over and there is a question again."""

        async def until_asked() -> None:
            async with asyncio.timeout(10):
                await self.ports.asking.wait()

        self.loop.run_until_complete(until_asked())

    def asked(self, kind: str) -> Any:
        """What the writer waits for; returns the arguments, or the only one."""
        assert self.ports.question is not None, f"expected {kind}, but {self.writer.state}: {self.writer.halt}"
        asked, arguments = self.ports.question
        assert asked == kind, f"expected {kind}, is {self.ports.question}"
        return arguments[0] if len(arguments) == 1 else arguments

    def answer(self, kind: str, value: Any = None) -> "Play":
        self.asked(kind)
        self.ports.answer(value)
        return self.run()

    def committing(self) -> Position:
        position = self.asked("commit")
        assert isinstance(position, Position)
        return position

    def halted(self) -> str:
        """The code of the halt; the message is ``self.writer.halt.message``."""
        assert self.writer.halt is not None, f"not halted: {self.writer.state}, {self.ports.question}"
        assert self.writer.state is PartitionState.HALTED
        assert self.ports.paused
        return self.writer.halt.code

    def message(self) -> str:
        assert self.writer.halt is not None
        return self.writer.halt.message

    def idle(self) -> bool:
        """Waiting for a batch."""
        return self.ports.question is None and self.writer.state is PartitionState.FILLING

    def at(self, committed: Position | None, log: LogRange = LOG) -> "Play":
        return self.answer("committed", committed).answer("log", log)

    def first(self, offset: int, timestamp: int = NOON, leader_epoch: int | None = None) -> "Play":
        """The first record comes."""
        self.buffer.first = RecordRef(offset, timestamp, leader_epoch)
        self.writer._changed.set()
        return self.run()

    def filling(self, start: int = 10) -> "Play":
        """At the end of a probe that found nothing."""
        return self.at(Position(start, TAG)).first(start).answer("head", None)

    def fill(self, *offsets: int, leader_epoch: int | None = None) -> Batch:
        records = [PlainRecord(offset, NOON, b"{}") for offset in offsets]
        validated = Validated([b"{}\n"] * len(offsets), {"t": len(offsets)}, [])

        async def add() -> None:
            self.writer.add(EpochRecords(records, leader_epoch), validated, b"")

        self.loop.run_until_complete(add())
        self.metrics.consumed(TP, len(offsets))
        assert self.buffer.open is not None
        return self.buffer.open

    def flush(self, reason: FlushReason = FlushReason.AGE) -> "Play":
        async def flush() -> None:
            self.writer.flush(reason)

        self.loop.run_until_complete(flush())
        return self.run()

    def uploading(self, *offsets: int, leader_epoch: int | None = None) -> tuple[str, bytes, Mapping[str, str]]:
        """Fill and flush a batch. Returns key, body and metadata of the PUT that the writer waits for."""
        self.fill(*offsets, leader_epoch=leader_epoch)
        self.flush()
        key, body, metadata = self.asked("put")
        return key, body, metadata


def thing(
    start: int,
    end: int,
    *,
    cluster: str | None = "cluster",
    timestamp: int = NOON,
    first: int | None = None,
    topic_id: str | None = None,
    leader_epoch: int | None = None,
    named: tuple[int, int] | None = None,
) -> ObjectInfo:
    """An object of the partition. `named`: the offset and the leader epoch in its name."""
    landed = ObjectMetadata(
        topic="t", partition=0, start=start, end=end, rows=end - start, rejected=0, sha256="s", cluster=cluster,
        topic_id=topic_id, leader_epoch=leader_epoch, version="1", first_offset=start if first is None else first,
        first_timestamp=timestamp, last_timestamp=timestamp,
    )  # fmt: skip
    name, epoch = named or (start, None)
    return ObjectInfo(KEYS.data_key(TP, name, timestamp, end, epoch), 1, landed.to_user_metadata())


def key(start: int, leader_epoch: int | None = None) -> str:
    """The name of an object."""
    return KEYS.data_key(TP, start, NOON, start, leader_epoch)
