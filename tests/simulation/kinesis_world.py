"""One seeded run of daemons on a Kinesis stream: the real source on a service in memory, and a faulty store.

Retention is a minute, so that it overtakes daemons; shards split and merge; iterators expire; daemons crash, pause and
race for shards. At the end every record is in exactly one row or in the quarantine, but for those that retention
removed before anybody had landed them.
"""

import asyncio
import gzip
import hashlib
import json
import math
import random
import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import msgspec
import pytest

from ingestd.config.model import BatchConfig, EventsConfig, KinesisConfig, SinkConfig
from ingestd.config.types import Seconds, Size
from ingestd.core.breaker import Breaker
from ingestd.core.chain import ChainPolicy, Halt
from ingestd.core.chain_words import KINESIS
from ingestd.core.events import load_model
from ingestd.core.object_keys import ObjectKeys
from ingestd.core.object_metadata import ObjectMetadata
from ingestd.core.records import TopicPartition
from ingestd.core.row_origin import RowOrigin
from ingestd.core.stored import Stored
from ingestd.core.validation import EventValidator
from ingestd.ops.metrics import Metrics
from ingestd.pipeline.chain_objects import Dependencies
from ingestd.pipeline.ingest import Pipeline
from ingestd.sinks.retry import SinkRetrier
from ingestd.sinks.state_store import SinkStateStore
from ingestd.sources.kinesis import assignment, continuity
from ingestd.sources.kinesis.aggregates import MAGIC
from ingestd.sources.kinesis.port import IteratorExpired, KinesisUnavailable
from ingestd.sources.kinesis.source import KinesisSource
from tests.fakes.kinesis import HOUR_MS, WALL_S, FakeKinesis, FakeKinesisClient, FakeShard
from tests.simulation.store import Connection, Store
from tests.simulation.virtual_time import SlowExecutor
from tests.simulation.worker import NEVER, Violation

STREAM = "events"
RETENTION_S = 60
MIDNIGHT_S = 1_700_006_400.0
BREAKS_S = (1, 1, 3, 3, 8, 8, 15, 15, 70)  # the longest is longer than retention
MAX_SHARDS = 8
KEYS, MODEL = ObjectKeys(wide=True), load_model(None)
Identity = tuple[int, int]
"""Of a record: its shard's number and its position."""


class Gate:
    """What stands still while a daemon's process is paused, and for ever once it was killed."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()

    async def passed(self) -> None:
        await self.open.wait()


class PausedConnection(Connection):
    """A connection to the store of a process that may be paused."""

    def __init__(self, store: Store, gate: Gate) -> None:
        super().__init__(store)
        self._gate = gate

    async def _reach(self) -> None:
        await self._gate.passed()
        await super()._reach()
        await self._gate.passed()


class PausedClient(FakeKinesisClient):
    """A client of a process that may be paused."""

    def __init__(self, service: FakeKinesis, rng: random.Random, gate: Gate) -> None:
        super().__init__(service, latency=lambda: rng.expovariate(20))
        self._gate = gate

    async def _way(self) -> None:
        await self._gate.passed()
        await super()._way()
        await self._gate.passed()


class Daemon:
    """One daemon, without its process."""

    def __init__(self, world: "KinesisWorld", *, skip_lost: bool) -> None:
        rng, self.world = world.rng, world
        self.alive, self.gate, self.metrics = True, Gate(), Metrics()
        config = KinesisConfig(
            stream=STREAM,
            heartbeat_interval=Seconds(2),
            member_timeout=Seconds(7),
            member_id=f"d{len(world.daemons)}",
            max_records=rng.choice([1, 7, 1000]),
            prefetch_bytes=Size(rng.choice([3000, 1 << 20])),
            skip_lost=skip_lost,
        )
        sink = PausedConnection(world.store, self.gate)
        error_s = rng.uniform(-1e5, 1e5)
        self.state = SinkStateStore(sink, self._retrier(), KEYS, "kinesis")
        self.source = KinesisSource(
            config,
            self.state,
            None,
            connect=lambda: PausedClient(world.kinesis, rng, self.gate),
            wall_clock=lambda: world.kinesis.now_ms() / 1000 + error_s,
            rng=random.Random(rng.random()),
        )
        dependencies = Dependencies(
            source=self.source,
            sink=sink,
            retrier=self._retrier(),
            metrics=self.metrics,
            executor=SlowExecutor(lambda: rng.expovariate(30)),
            wall_clock=lambda: error_s,
        )
        limits = BatchConfig(interval=Seconds(rng.choice([0.5, 3.0, 8.0])), records=rng.choice([5, 15]))
        limits = msgspec.structs.replace(limits, memory=Size(rng.choice([8 << 10, 1 << 20])))
        events = EventsConfig(unknown_types="reject" if rng.random() < 0.5 else "accept")
        tag = KEYS.commit_tag(sink.url)
        policy = ChainPolicy(KEYS, tag, skip_lost=skip_lost, has_commits=False, words=KINESIS)
        validator = EventValidator(events, MODEL, RowOrigin.WIDE_OFFSET)
        self.pipeline = Pipeline(limits, dependencies, validator, Breaker(NEVER), policy, revoke_timeout=2.0)
        self.task = asyncio.create_task(self._run())

    def _retrier(self) -> SinkRetrier:
        config = SinkConfig(retry_initial=Seconds(0.1), retry_max=Seconds(2))
        return SinkRetrier(config, self.metrics.upload_retried, random.Random(self.world.rng.random()))

    async def _run(self) -> None:
        await self.pipeline.run()
        await self.source.stop()
        self.alive = False

    def crash(self) -> None:
        """SIGKILL: nothing is flushed, nobody is told; what was sent is on its way."""
        self.alive = False
        self.gate.open.clear()
        self.task.cancel()
        for task in self.source._tasks:
            task.cancel()
        for reader in self.source._assignment.readers.values():
            reader.pause()

    async def pause(self, seconds: float) -> None:
        """The process stands still, and goes on as if nothing had happened."""
        self.gate.open.clear()
        await asyncio.sleep(seconds)
        if self.alive:
            self.gate.open.set()

    def check(self) -> None:
        totals, in_flight = self.metrics.counters.totals(), self.pipeline.held_records
        if totals.consumed != totals.landed + totals.quarantined + totals.released + in_flight:
            raise Violation(f"I9: {totals}, in flight {in_flight}")
        for partition, writer in self.pipeline.writers.items():
            if writer.halt is not None and not self.world.may_halt(partition.partition, writer.halt):
                raise Violation(f"halted for no reason: {partition} {writer.halt.code}: {writer.halt}")


class ObservedStore(Store):
    """Notes in which order the objects of shards came."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng)
        self.landed: list[tuple[int, ObjectMetadata]] = []

    def put(self, key: str, body: bytes, metadata: "dict[str, str]") -> Stored:  # type: ignore[override]
        stored = super().put(key, body, metadata)
        landed = ObjectMetadata.from_metadata(metadata) if key.startswith("events/") else None
        if stored is Stored.CREATED and landed is not None:
            self.landed.append((landed.partition, landed))
        return stored


class ObservedKinesis(FakeKinesis):
    """Tells what retention removes."""

    world: "KinesisWorld | None" = None
    wall_s = WALL_S

    def now_ms(self) -> int:
        return round((self.wall_s + asyncio.get_running_loop().time()) * 1000)

    def trim(self, before_ms: int | None = None) -> None:
        if self.world is None:
            super().trim(before_ms)
            return
        before = {number: list(shard.records) for number, shard in self._by_number().items()}
        super().trim(before_ms)
        after = self._by_number()
        for number, records in before.items():
            left = after[number].records if number in after else []
            gone = records[: len(records) - len(left)]
            if gone or number not in after:
                self.world.removed(number, [record.offset for record in gone])

    def _by_number(self) -> dict[int, FakeShard]:
        return {shard.number: shard for shard in self.shards.values()}


def scale(patch: pytest.MonkeyPatch) -> None:
    """Retention is a minute: what is counted in its proportion, too."""
    patch.setattr(continuity, "CLOCK_ERROR_MS", 2_000)
    patch.setattr(assignment, "LIST_INTERVAL_S", 5.0)


class KinesisWorld:
    """Everything of one seed."""

    retention_ends = False  # with the faults: else it removes what a daemon never comes to

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        # A hole's name has the day of the first record after it: two daemons must not see different ones.
        self.skip_lost = self.rng.random() < 0.5  # else shards halt where retention has overtaken them, until the end
        ObservedKinesis.wall_s = WALL_S if self.skip_lost else MIDNIGHT_S - 75
        self.kinesis = ObservedKinesis(self.rng.randint(1, 3), name=STREAM, empty_pages=self.rng.choice([0, 0, 2]))
        self.kinesis.retention_h = RETENTION_S * 1000 / HOUR_MS  # type: ignore[assignment] # a minute
        self.kinesis.world = self
        self.store = ObservedStore(self.rng)
        self.daemons: list[Daemon] = []
        self.positions: dict[Identity, list[int]] = {}  # of each Kinesis record those of its events, by its number
        self.lost_upstream: set[Identity] = set()
        self.shards: dict[int, FakeShard] = {}  # that ever were
        self.gone: dict[int, int] = {}  # of shards that are listed no more: how many objects had landed by then
        self.calm = False
        self.quiet_until = 0.0
        self._extra: set[asyncio.Task[None]] = set()

    @staticmethod
    def clock_s() -> float:
        """The service's clock."""
        return ObservedKinesis.wall_s + asyncio.get_running_loop().time()

    async def run(self, seconds: float = 150) -> None:
        loop = asyncio.get_running_loop()
        self.kinesis.fails = self._fail
        for _ in range(self.rng.randint(1, 3)):
            self._spawn()
        producer = asyncio.create_task(self._produce(seconds * 0.95))
        while loop.time() < seconds:
            await asyncio.sleep(self.rng.expovariate(0.4))
            await self._mishap()
            self._check_daemons()
        await producer
        await self._heal()
        self._check_end()

    # -- what happens

    def _spawn(self, *, skip_lost: bool | None = None) -> Daemon:
        daemon = Daemon(self, skip_lost=self.skip_lost if skip_lost is None else skip_lost)
        self.daemons.append(daemon)
        return daemon

    async def _produce(self, seconds: float) -> None:
        loop, number = asyncio.get_running_loop(), 0
        while loop.time() < seconds:
            await asyncio.sleep(self.rng.expovariate(1.5))
            if loop.time() < self.quiet_until:
                continue
            for _ in range(self.rng.randint(1, 6)):
                events = [self._event(number := number + 1) for _ in range(self.rng.choice([1, 1, 1, 2, 9]))]
                value = events[0] if len(events) == 1 else aggregated(events)
                shard = self.rng.choice(self.kinesis.open_shards)
                record = self.kinesis.put(value, shard=shard)
                first = record.offset - (len(events) - 1)
                self.positions[shard, record.offset] = list(range(first, record.offset + 1))
            self.shards |= self.kinesis._by_number()

    def _event(self, number: int) -> bytes:
        kind = self.rng.random()
        if kind < 0.08:
            return b"not json"
        event_type = "mystery" if kind < 0.2 else "web_visit"  # accepted by some daemons, rejected by others
        event = {"event_id": f"e{number}", "client_id": "c", "event_timestamp": "2026-11-22T23:59:30Z"}
        return json.dumps({**event, "event_type": event_type}).encode()

    def _fail(self, operation: str, _: str) -> None:
        if self.calm:
            return
        kind = self.rng.random()
        if kind < 0.03:
            raise KinesisUnavailable("Rate exceeded", code="ProvisionedThroughputExceededException")
        if kind < 0.05 and operation == "GetRecords":
            raise IteratorExpired("Iterator expired", code="ExpiredIteratorException")

    async def _mishap(self) -> None:
        alive = [daemon for daemon in self.daemons if daemon.alive]
        kind = self.rng.random()
        if kind < 0.2 and alive:
            self.rng.choice(alive).crash()
        elif kind < 0.4 and len(alive) < 4:
            self._spawn()
        elif kind < 0.57 and alive:
            self._later(self.rng.choice(alive).pause(self.rng.choice(BREAKS_S)))
        elif kind < 0.65:
            self._later(self._outage("down"))
        elif kind < 0.7:
            self._later(self._outage("forbidden"))
        elif kind < 0.82:
            self._reshard()
        elif kind < 0.87:
            self.quiet_until = asyncio.get_running_loop().time() + self.rng.choice([10, 70])
        elif kind < 0.92:
            self._forget_heartbeats()
        elif alive:
            self.rng.choice(alive).source.finish()  # an orderly stop

    def _reshard(self) -> None:
        shards = self.kinesis.open_shards
        if self.rng.random() < 0.6 and len(shards) < MAX_SHARDS:
            self.kinesis.split(self.rng.choice(shards))
        elif len(shards) > 1:
            self.kinesis.merge(*self.rng.sample(shards, 2))
        self.shards |= self.kinesis._by_number()

    def _forget_heartbeats(self) -> None:
        """They may be lost: no rule of the chain needs them."""
        for key in [key for key in self.store.objects if key.startswith(".members/")]:
            del self.store.objects[key]

    async def _outage(self, kind: str) -> None:
        setattr(self.store, kind, True)
        await asyncio.sleep(self.rng.choice(BREAKS_S))
        setattr(self.store, kind, False)

    def _later(self, coroutine: "asyncio.Coroutine[None, None, None]") -> None:  # type: ignore[name-defined]
        task = asyncio.create_task(coroutine)
        self._extra.add(task)
        task.add_done_callback(self._extra.discard)

    # -- what retention does

    def removed(self, shard: int, numbers: Sequence[int]) -> None:
        """Retention has removed these records: whoever has not landed them by now may never do so."""
        if not any(it.number == shard for it in self.kinesis.shards.values()):
            self.gone.setdefault(shard, len(self.store.landed))
        end = max((landed.end for each, landed in self.store.landed if each == shard), default=0)
        self.lost_upstream |= {
            (shard, position)
            for number in numbers
            for position in self.positions.get((shard, number), [])
            if number >= end
        }

    def may_halt(self, shard: int, halt: Halt) -> bool:
        """Only where retention has removed the last record that had landed when it looked.

        Another daemon may have read on, and be about to land that. Where nothing had landed, loss cannot be told from
        quiet once the retention has passed.
        """
        found = re.search(r"\(sequence numbers (\d+)-", halt.message)
        left = self.shards[shard].records if shard in self.shards else []
        return (
            halt.code == "lost_upstream"
            and found is not None
            and not any(record.offset == int(found[1]) - 1 for record in left)
        )

    # -- what must hold

    def _check_daemons(self) -> None:
        for daemon in self.daemons:
            if daemon.task.done() and not daemon.task.cancelled() and daemon.task.exception():
                raise Violation("a daemon failed") from daemon.task.exception()
            if daemon.alive:
                daemon.check()

    async def _heal(self) -> None:
        """I8: when the faults end, one healthy daemon reaches the end of every shard."""
        while self._extra:
            await asyncio.gather(*self._extra)
        self.calm = self.store.calm = True
        if self.retention_ends:
            self.kinesis.retention_h = 24
        for daemon in self.daemons:
            if daemon.alive:
                daemon.crash()
        await self.store.settle()
        healthy = self._spawn(skip_lost=True)
        try:
            async with asyncio.timeout(300):
                while not self._reached():
                    await asyncio.sleep(1)
                    self._check_daemons()
        except TimeoutError:
            raise Violation(f"I8: {self._left()} did not land") from None
        healthy.source.finish()
        await healthy.task
        self._check_daemons()

    def _reached(self) -> bool:
        return not self._left()

    def _left(self) -> set[Identity]:
        """Events that the stream has and that are in no object."""
        ends: dict[int, int] = {}
        for shard, landed in self.store.landed:
            ends[shard] = max(ends.get(shard, 0), landed.end)
        return {
            (shard.number, record.offset)
            for shard in self.kinesis.shards.values()
            for record in shard.records
            if record.offset >= ends.get(shard.number, 0)
        }

    def _check_end(self) -> None:
        if overwritten := [key for key in self.store.overwritten if not key.startswith(".members/")]:
            raise Violation(f"I5: overwritten {overwritten}")
        produced = {(shard, position) for (shard, _), found in self.positions.items() for position in found}
        rows = self._lines("events/", "source_offset", "source_partition")
        quarantined = self._lines("quarantine/", "offset", "partition")
        if doubled := {identity for identity, count in rows.items() if count > 1}:
            raise Violation(f"doubled: {doubled}")
        if unknown := (set(rows) | set(quarantined)) - produced:
            raise Violation(f"never produced: {unknown}")
        if missing := produced - set(rows) - set(quarantined) - self.lost_upstream:
            raise Violation(f"I2: lost {sorted(missing)}")
        self._check_holes(set(rows) | set(quarantined))
        for shard in sorted({shard for shard, _ in self.store.landed}):
            self._check_chain(shard)
        self._check_order()

    def _check_chain(self, shard: int) -> None:
        chain = sorted((landed for each, landed in self.store.landed if each == shard), key=lambda landed: landed.start)
        for before, after in pairwise(chain):
            if before.end != after.start:
                raise Violation(f"{'I1: overlap' if after.start < before.end else 'I3: gap'} in {shard}: {chain}")
        for landed in chain:
            key = KEYS.data_key(TopicPartition(STREAM, shard), landed.start, landed.first_timestamp, landed.end)
            if key not in self.store.objects:
                raise Violation(f"I4: {landed} is not at {key}")
        numbers = {number for each, number in self.positions if each == shard}
        firsts = {found[0] for (each, _), found in self.positions.items() if each == shard}
        for landed in chain:
            is_hole = not landed.rows and not landed.rejected
            if landed.end - 1 not in numbers and not (is_hole and landed.end in firsts):
                raise Violation(f"{shard}: {landed} ends inside of an aggregate")

    def _check_holes(self, landed_events: set[Identity]) -> None:
        """What was lost within a chain is on record as a hole, never passed over in silence."""
        for shard, position in self.lost_upstream - landed_events:
            for each, landed in self.store.landed:
                is_hole = not landed.rows and not landed.rejected
                if each == shard and landed.start <= position < landed.end and not is_hole:
                    raise Violation(f"shard {shard} has lost {position} in silence: {landed}")

    def _check_order(self) -> None:
        """A shard's records land before those of its children, unless it was not listed any more when these began."""
        first: dict[int, int] = {}
        last: dict[int, int] = {}
        for at, (shard, _) in enumerate(self.store.landed):
            first.setdefault(shard, at)
            last[shard] = at
        for child in self.shards.values():
            for parent in child.parents:
                number = int(parent.rpartition("-")[2])
                if (
                    number not in last
                    or child.number not in first
                    or first[child.number] >= self.gone.get(number, math.inf)
                ):
                    continue
                if last[number] > first[child.number]:
                    raise Violation(f"shard {child.number} landed before its parent {number} had")

    def _lines(self, prefix: str, offset: str, partition: str) -> Counter[Identity]:
        found: Counter[Identity] = Counter()
        for key, (body, _) in self.store.objects.items():
            if key.startswith(prefix):
                for line in gzip.decompress(body).splitlines():
                    row = json.loads(line)
                    assert type(row[offset]) is str
                    found[row[partition], int(row[offset])] += 1
        return found


def aggregated(values: Sequence[bytes]) -> bytes:
    """An aggregate as the Kinesis Producer Library makes it, all of one partition key."""
    body = _field(1, b"k") + b"".join(_field(3, b"\x08\x00" + _field(3, value)) for value in values)
    return MAGIC + body + hashlib.md5(body, usedforsecurity=False).digest()


def _field(number: int, data: bytes) -> bytes:
    length, size = len(data), bytearray()
    while length >= 0x80:
        size.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([number << 3 | 2, *size, length]) + data
