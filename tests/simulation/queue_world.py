"""One seeded run of daemons on one queue: pauses, kills, lost answers, and what must hold at the end."""

import asyncio
import gzip
import json
import random
from collections import Counter
from collections.abc import Awaitable, Mapping
from typing import Any, TypeVar

import msgspec

from ingestd.config.model import BatchConfig, BreakerConfig, EventsConfig, SinkConfig
from ingestd.config.types import Seconds, Size
from ingestd.core.breaker import Breaker
from ingestd.core.errors import SourceError
from ingestd.core.events import load_model
from ingestd.core.queue_keys import QueueKeys
from ingestd.core.queue_objects import QueueObjectMetadata, is_fence
from ingestd.core.row_origin import RowOrigin
from ingestd.core.stored import Stored
from ingestd.core.validation import EventValidator
from ingestd.ops.metrics import Metrics
from ingestd.pipeline.queue.dependencies import QueueDependencies
from ingestd.pipeline.queue.flow import QueuePipeline
from ingestd.sinks.retry import SinkRetrier
from tests.fakes.memory_queue import MemoryQueue, MemoryQueueSource
from tests.simulation.store import Connection, Store
from tests.simulation.virtual_time import SlowExecutor
from tests.simulation.worker import START, Violation

T = TypeVar("T")

KEYS = QueueKeys()
LIMITS = BatchConfig(interval=Seconds(1), records=25, bytes=Size(1 << 20), memory=Size(1 << 20))
TIGHT = 24 << 10  # a budget of a few answers: the flow often waits for room
NEVER = BreakerConfig(max_share=1.0, max_consecutive=10**9)
VISIBILITY_S = 6.0
VALIDATOR = EventValidator(EventsConfig(), load_model(None), RowOrigin.MESSAGE_ID)


class PausedConnection(Connection):
    """The connection of a daemon that may stand still: then it learns answers late."""

    def __init__(self, store: Store, worker: "QueueWorker") -> None:
        super().__init__(store)
        self._worker = worker

    async def put_new(self, key: str, body: bytes, metadata: Mapping[str, str]) -> Stored:
        return await self._worker.paused(super().put_new(key, body, metadata))

    async def _reach(self) -> None:
        await self._worker.paused(super()._reach())


class QueueWorker:
    """One daemon, without its process."""

    source_type = MemoryQueueSource

    def __init__(self, world: "QueueWorld") -> None:
        rng = world.rng
        self.world = world
        self.metrics = Metrics()
        self.alive = True
        self._going = asyncio.Event()
        self._going.set()
        self.source = self.source_type(
            world.queue, visibility=VISIBILITY_S, wait=rng.choice([0.2, 2.0]), travel=self._travel
        )
        config = SinkConfig(retry_initial=Seconds(0.1), retry_max=Seconds(1))
        dependencies = QueueDependencies(
            source=self.source,
            sink=PausedConnection(world.store, self),
            retrier=SinkRetrier(config, self.metrics.upload_retried, random.Random(rng.random())),
            metrics=self.metrics,
            executor=SlowExecutor(lambda: world.rng.expovariate(30)),
            keys=KEYS,
            clock=asyncio.get_running_loop().time,
            wall_clock=lambda: START + rng.uniform(-1e5, 1e5),
            visibility=VISIBILITY_S,
            fenced=True,
            random=random.Random(rng.random()),
        )
        self.limits = msgspec.structs.replace(
            LIMITS, interval=Seconds(rng.choice([0.3, 1.0, 4.0])), memory=Size(rng.choice([TIGHT, LIMITS.memory]))
        )
        self.pipeline = QueuePipeline(
            self.limits, dependencies, VALIDATOR, Breaker(NEVER), receivers=rng.choice([1, 3])
        )
        self.task = asyncio.create_task(self.pipeline.run())

    async def paused(self, call: Awaitable[T]) -> T:
        """The answer, once the daemon goes on."""
        try:
            return await call
        finally:
            await self._going.wait()

    async def _travel(self, operation: str) -> None:
        rng = self.world.rng
        await asyncio.sleep(rng.expovariate(15))
        await self._going.wait()
        if not self.world.store.calm and rng.random() < 0.04:
            raise SourceError(f"{operation}: the connection was lost")

    async def pause(self, seconds: float) -> None:
        """Stand still, as after SIGSTOP or on a machine that is overloaded."""
        self._going.clear()
        await asyncio.sleep(seconds)
        self._going.set()

    def crash(self) -> None:
        """SIGKILL: nothing is flushed; what was sent is on its way."""
        self.alive = False
        self.task.cancel()

    def finish(self) -> None:
        self.alive = False
        self.source.finish()

    def check(self) -> None:
        """Where every message is that it took, and how much it holds."""
        totals, held = self.metrics.counters.totals(), self.pipeline.held_records
        if totals.in_flight != held:
            raise Violation(f"consumed {totals.consumed}, but {held} messages are in flight: {totals}")
        if self.pipeline.held_bytes > self.limits.memory:
            raise Violation(f"{self.pipeline.held_bytes} bytes are held, the budget is {self.limits.memory}")


class QueueWorld:
    """Everything of one seed."""

    worker_type = QueueWorker

    def __init__(self, seed: int, *, fifo: bool = False, twice: float = 0.0) -> None:
        """`twice`: how often a standard queue does not hide what it hands out."""
        self.rng = random.Random(seed)
        self.store = Store(self.rng)
        self.queue = MemoryQueue(
            "events.fifo" if fifo else "events", epoch=START, receives_twice=lambda: self.rng.random() < twice
        )
        self.workers: list[QueueWorker] = []
        self.sent: dict[str, int] = {}  # in order, by message id
        self.groups: dict[str, str] = {}  # of the messages of a FIFO queue
        self._extra: set[asyncio.Task[None]] = set()

    async def run(self, seconds: float = 60) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(self.rng.randint(2, 3)):
            self._spawn()
        sender = asyncio.create_task(self._send(seconds * 0.9))
        while loop.time() < seconds:
            await asyncio.sleep(self.rng.expovariate(0.8))
            self._mishap()
            self._check_workers()
        await sender
        await self._heal()
        self.check_end()

    def _spawn(self) -> None:
        self.workers.append(self.worker_type(self))

    async def _send(self, seconds: float) -> None:
        """Few messages at a time: the queue is often empty, so that what became visible is received at once."""
        loop = asyncio.get_running_loop()
        while loop.time() < seconds:
            await asyncio.sleep(self.rng.expovariate(1.5))
            for _ in range(self.rng.randint(1, 4)):
                number = len(self.sent)
                group = self.rng.choice("abc") if self.queue.fifo else None
                message_id = self.queue.send(self._value(number), group)
                self.sent[message_id] = number
                self.groups[message_id] = group or ""

    def _value(self, number: int) -> bytes:
        if self.rng.random() < 0.1:
            return b"not json"
        event = {"event_id": f"e{number}", "client_id": "c", "event_timestamp": "2026-11-22T23:59:30Z"}
        return json.dumps({**event, "event_type": "web_visit"}).encode()

    def _mishap(self) -> None:
        alive = [worker for worker in self.workers if worker.alive]
        kind = self.rng.random()
        if kind < 0.2 and alive:
            self.rng.choice(alive).crash()
        elif kind < 0.45 and len(alive) < 4:
            self._spawn()
        elif kind < 0.8 and alive:
            self._later(self.rng.choice(alive).pause(self.rng.uniform(0.5, 2.5 * VISIBILITY_S)))
        elif kind < 0.9:
            self._later(self._outage())
        elif kind < 0.95 and alive:
            self.rng.choice(alive).finish()  # an orderly stop

    async def _outage(self) -> None:
        self.store.down = True
        await asyncio.sleep(self.rng.uniform(0.5, 2.5 * VISIBILITY_S))
        self.store.down = False

    def _later(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._extra.add(task)
        task.add_done_callback(self._extra.discard)

    def _check_workers(self) -> None:
        for worker in self.workers:
            if worker.task.done() and not worker.task.cancelled():
                worker.task.result()
            elif worker.alive:
                worker.check()

    async def _heal(self) -> None:
        """Nothing goes wrong any more: everything lands, and the queue becomes empty."""
        await asyncio.gather(*self._extra)
        self.store.calm = True
        self._spawn()
        async with asyncio.timeout(600):
            while self.queue.entries:
                await asyncio.sleep(0.5)
                self._check_workers()
            for worker in self.workers:
                worker.finish()
            await asyncio.gather(
                *(worker.task for worker in self.workers if not worker.task.cancelled()), return_exceptions=True
            )
        for worker in self.workers:
            if not worker.task.cancelled():
                worker.task.result()
        await self.store.settle()

    # -- what must hold

    def check_end(self) -> None:
        if self.store.overwritten:
            raise Violation(f"overwritten {self.store.overwritten}")
        found = self._landed()
        if missing := self.sent.keys() - found:
            raise Violation(f"lost: {sorted(missing)}")
        if unknown := found.keys() - self.sent.keys():
            raise Violation(f"never sent: {unknown}")
        doubled = {message_id: count for message_id, count in found.items() if count > 1}
        if doubled and not self.queue.twice:  # else both receivers had it before either could write a manifest
            raise Violation(f"doubled: {doubled}")

    def _landed(self) -> Counter[str]:
        """How often each message is in a row, or in the quarantine object that a data object names."""
        found: Counter[str] = Counter()
        for key, (body, user_metadata) in self.store.objects.items():
            if not key.startswith("events/"):
                continue
            rows = [json.loads(line) for line in gzip.decompress(body).splitlines()]
            if is_fence(user_metadata):
                assert not rows
                continue
            name, metadata = KEYS.parse_data(key), QueueObjectMetadata.from_metadata(user_metadata)
            assert name is not None
            assert metadata is not None
            if metadata.quarantine is not None:
                rejects, _ = self.store.objects[KEYS.quarantine_key(name.queue, name.batch, metadata.quarantine)]
                rows += [json.loads(line) for line in gzip.decompress(rejects).splitlines()]
            ids = [row.get("source_message_id") or row["message_id"] for row in rows]
            if len(ids) != metadata.messages:
                raise Violation(f"{key} says {metadata.messages} messages, it has {len(ids)}")
            self._check_order(rows)
            found.update(ids)
        return found

    def _check_order(self, rows: list[dict[str, Any]]) -> None:
        """In a FIFO queue's object, the rows of a group are in the order in which they were sent."""
        if not self.queue.fifo:
            return
        last: dict[str, int] = {}
        for row in rows:
            if (message_id := row.get("source_message_id")) is not None:
                group, number = self.groups[message_id], self.sent[message_id]
                if number < last.get(group, -1):
                    raise Violation(f"{message_id} of group {group} is behind a later message")
                last[group] = number
