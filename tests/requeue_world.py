"""A world for tests of `ingestd requeue`: a quarantine in memory, a log with transactions, and processes that die."""

import asyncio
import gzip
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cache
from typing import Any, Literal

import pytest

from ingestd import inspection, wiring
from ingestd.cli import requeue as command
from ingestd.cli.requeue import Options, Requeue
from ingestd.config.model import Config, EventsConfig, KafkaConfig, SinkConfig
from ingestd.core import quarantine
from ingestd.core.batch import Batch, ObjectName
from ingestd.core.errors import RecordsRefused, SourceError
from ingestd.core.events import load_model
from ingestd.core.object_keys import ObjectKeys
from ingestd.core.records import PlainRecord, Position, TopicPartition
from ingestd.core.stored import ObjectInfo, Stored
from ingestd.core.validation import EventValidator, Validator
from ingestd.requeue.requeuer import RequeueCounts
from ingestd.sources.kafka.bootstrap import Cluster
from tests.fakes.memory_sink import MemorySink

TOPIC = "marketing_events"
CLUSTER = "a-cluster"
DAY_MS = 86_400_000
NOON = 20_000 * DAY_MS + DAY_MS // 2  # 2024-10-04

STRICT = EventsConfig(unknown_types="reject")
MODEL = load_model(None)  # once: making it takes longer than all the rest of a run


@cache
def validator(unknown_types: Literal["accept", "reject"]) -> Validator:
    """With the model that is built in."""
    return EventValidator(EventsConfig(unknown_types=unknown_types), MODEL)


Place = tuple[int, int]  # partition and offset of a record in its first topic


class Killed(BaseException):
    """The process was killed."""


class Life:
    """Of one process. Each thing that it does outside of itself takes a step before and one after it.

    It dies at step number `last`, and nothing that it tries afterwards, as in a finally, has an effect.
    """

    def __init__(self, last: int | None = None, pace: Callable[[], Awaitable[None]] | None = None) -> None:
        self.steps = 0
        self._last = last
        self.pace = pace or (lambda: asyncio.sleep(0))

    async def step(self) -> None:
        self.steps += 1
        if self._last is not None and self.steps >= self._last:
            raise Killed
        await self.pace()


class MortalSink:
    """A sink as one process uses it."""

    def __init__(self, sink: MemorySink, life: Life) -> None:
        self._sink = sink
        self._life = life

    @property
    def url(self) -> str:
        return self._sink.url

    async def start(self) -> None:
        await self._sink.start()

    async def close(self) -> None:
        await self._sink.close()

    async def put_new(self, key: str, body: bytes, metadata: Mapping[str, str]) -> Stored:
        await self._life.step()
        stored = await self._sink.put_new(key, body, metadata)
        await self._life.step()
        return stored

    async def head(self, key: str) -> ObjectInfo | None:
        await self._life.step()
        return await self._sink.head(key)

    async def get(self, key: str, limit: int | None = None) -> bytes:
        await self._life.step()
        return await self._sink.get(key, limit)

    async def folders(self, prefix: str) -> list[str]:
        await self._life.step()
        return await self._sink.folders(prefix)

    async def list(self, prefix: str) -> AsyncIterator[str]:
        await self._life.step()
        async for key in self._sink.list(prefix):
            yield key


class Log:
    """Topics with transactions: whoever begins under a name ends all others of that name."""

    def __init__(self, **topics: int) -> None:
        self.partitions = {TOPIC: 4, **topics}
        self.committed: dict[str, list[tuple[int, PlainRecord]]] = {topic: [] for topic in self.partitions}
        self.notes: dict[str, str] = {}
        self.epochs: Counter[str] = Counter()
        self.transactions: list[int] = []  # how many records each had
        self.refuses: Callable[[PlainRecord], bool] = lambda _: False
        self.attempts = 0  # transactions whose records have all been sent
        self.restarts = 0

    def commit(self, topic: str, name: str, records: Sequence[tuple[int, PlainRecord]], note: str) -> None:
        self.committed[topic] += records
        self.notes[name] = note
        self.transactions.append(len(records))

    def places(self, topic: str = TOPIC) -> list[Place]:
        """Of all records that were produced, by their origin."""
        found = []
        for _, record in self.committed[topic]:
            headers = dict(record.headers)
            found.append((int(headers["ingestd-origin-partition"]), int(headers["ingestd-origin-offset"])))
        return sorted(found)


class Producer:
    """One process's transactions."""

    def __init__(self, log: Log, life: Life, topic: str, name: str) -> None:
        self._log = log
        self._life = life
        self._topic = topic
        self._name = name
        self._refused = False
        self._begin()

    def _begin(self) -> None:
        self._log.epochs[self._name] += 1
        self._epoch = self._log.epochs[self._name]

    async def restart(self) -> None:
        await self._life.step()
        self._refused = False
        self._log.restarts += 1
        self._begin()
        await self._life.step()

    async def note(self) -> str | None:
        await self._life.step()
        self._refuse_zombies()
        return self._log.notes.get(self._name)

    async def produce(self, records: Sequence[tuple[int, PlainRecord]], note: str) -> None:
        await self._life.step()
        self._refuse_zombies()
        await self._life.step()  # the records are there, and nobody sees them yet
        self._refuse_zombies()
        if self._refused:
            raise SourceError("OutOfOrderSequenceNumber")
        self._log.attempts += 1
        if any(self._log.refuses(record) for _, record in records):
            self._refused = True
            raise RecordsRefused("the topic does not accept it", hint="change the topic")
        self._log.commit(self._topic, self._name, records, note)
        await self._life.step()

    def _refuse_zombies(self) -> None:
        if self._log.epochs[self._name] != self._epoch:
            raise SourceError("another requeue has begun")


class World:
    """A sink with a quarantine, a log, and processes that requeue from the one to the other."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, lineage: str | None = None, **topics: int) -> None:
        self.sink = MemorySink()
        self.log = Log(**topics)
        self.config = Config(
            kafka=KafkaConfig(topics=(TOPIC,)),
            sink=SinkConfig(url="./nowhere", lineage=lineage, retry_max=Config().sink.retry_max),
        )
        self._lives: dict[asyncio.Task[Any] | None, Life] = {}
        monkeypatch.setattr(wiring, "make_sink", lambda _: MortalSink(self.sink, self._life()))
        monkeypatch.setattr(command, "find_topic", self._find_topic)
        monkeypatch.setattr(command, "open_transactions", self._open)
        monkeypatch.setattr(inspection, "open_inspector", self._open_inspector)
        monkeypatch.setattr(command, "load_model", lambda _: MODEL)

    @property
    def layout(self) -> ObjectKeys:
        sink = self.config.sink
        return ObjectKeys(sink.lineage, exactly_once=sink.delivery == "exactly-once")

    # -- what a daemon leaves

    def attempt(
        self,
        partition: int,
        start: int,
        values: Sequence[bytes | None],
        *,
        events: EventsConfig = STRICT,
        lands: bool = True,
        time: int = NOON,
        step: int = 0,
        topic: str = TOPIC,
        leader_epoch: int | None = None,
        named: int | None = None,
        in_lines: bool = True,
    ) -> None:
        """To land a batch of these values, from offset `start` on; `time` is the first's, the others are `step` apart.

        One that does not land leaves its quarantine object only. Where it is `named` after an offset, the name has its
        leader epoch. Older versions did not put that into lines.
        """
        place = TopicPartition(topic, partition)
        records = [
            PlainRecord(start + at, time + at * step, value, b"key %d" % at, (("trace", b"\xfe"),))
            for at, value in enumerate(values)
        ]
        validated = validator(events.unknown_types).chunk(place, records)
        batch = Batch(place, start)
        lines = quarantine.encode(place, validated.rejected, leader_epoch if in_lines else None)
        batch.add(records, validated, lines, 0.0, leader_epoch)
        name = ObjectName(named, leader_epoch) if named is not None else None
        sealed = batch.encode(self.layout, CLUSTER, "0", name=name)
        metadata = sealed.metadata.to_user_metadata()
        if sealed.quarantine_key is not None and sealed.quarantine is not None:
            self.sink.objects[sealed.quarantine_key] = sealed.quarantine, metadata
        if lands:
            self.sink.objects[sealed.data_key] = sealed.data, metadata

    # -- processes

    def begin(self, life: Life) -> None:
        """The current task is a process of this life."""
        self._lives[asyncio.current_task()] = life

    async def run(self, life: Life | None = None, **options: Any) -> RequeueCounts:
        """One, to its end."""
        self.begin(life or Life())
        process = Requeue(self.config, Options(**options))
        await process.run()
        return process.counts

    async def run_three_at_once(self, rng: random.Random) -> None:
        """Side by side, each at its own pace and perhaps killed."""

        async def pace() -> None:
            for _ in range(rng.choice((0, 1, 5, 50))):
                await asyncio.sleep(0)

        async def one() -> None:
            await self.run(Life(rng.choice((None, rng.randint(1, 90))), pace))

        outcomes = await asyncio.gather(*(one() for _ in range(3)), return_exceptions=True)
        assert all(outcome is None or isinstance(outcome, Killed | SourceError) for outcome in outcomes), outcomes

    @property
    def receipts(self) -> list[Place]:
        """All records that receipts name."""
        found = []
        for key, (body, _) in self.sink.objects.items():
            if key.startswith("requeued/") and not key.endswith("/identity.json.gz"):
                said = json.loads(gzip.decompress(body))
                found += [(said["partition"], offset) for offset in said["offsets"]]
        return sorted(found)

    def _life(self) -> Life:
        return self._lives[asyncio.current_task()]

    async def _find_topic(self, _: KafkaConfig, topic: str) -> Cluster:
        if topic not in self.log.partitions:
            raise SourceError(f"topic {topic} does not exist", hint="create it, or correct kafka.topics")
        return Cluster(CLUSTER, {topic: self.log.partitions[topic]})

    @asynccontextmanager
    async def _open(self, _: KafkaConfig, topic: str, name: str) -> AsyncIterator[Producer]:
        life = self._life()
        await life.step()
        producer = Producer(self.log, life, topic, name)
        await life.step()
        yield producer

    @asynccontextmanager
    async def _open_inspector(self, config: Config) -> AsyncIterator["FakeInspector"]:
        yield FakeInspector(self.log, config.kafka.group_id)


class FakeInspector:
    def __init__(self, log: Log, group: str) -> None:
        self._log = log
        self._group = group

    async def committed(self, places: Sequence[TopicPartition]) -> dict[TopicPartition, Position | None]:
        note = self._log.notes.get(self._group)
        return {place: Position(0, note) if note is not None else None for place in places}


def event(number: int, kind: str = "card_payment") -> bytes:
    """Good by its contract; of a type that the model does not know, unless another is given."""
    return json.dumps(
        {"event_id": f"e{number}", "client_id": "c", "event_timestamp": "2026-03-01T12:00:00Z", "event_type": kind}
    ).encode()


async def dies(world: World, step: int) -> bool:
    """Whether a run that is killed at this step gets so far."""
    try:
        await world.run(Life(step))
    except Killed:
        return True
    return False
