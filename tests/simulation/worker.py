"""One simulated daemon: the real pipeline over a member of the simulated group and a connection to the store."""

import asyncio
import random
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from ingestd.config.model import BatchConfig, BreakerConfig, EventsConfig, SinkConfig
from ingestd.config.types import Seconds, Size
from ingestd.core.batch import Batch
from ingestd.core.breaker import Breaker
from ingestd.core.chain import ChainPolicy
from ingestd.core.events import load_model
from ingestd.core.object_keys import ObjectKeys
from ingestd.core.records import TopicPartition
from ingestd.core.validation import EventValidator
from ingestd.ops.metrics import Metrics
from ingestd.pipeline.chain_objects import Dependencies
from ingestd.pipeline.ingest import Pipeline
from ingestd.sinks.retry import SinkRetrier
from tests.simulation.store import Connection
from tests.simulation.virtual_time import SlowExecutor

if TYPE_CHECKING:
    from tests.simulation.world import World

START = datetime(2026, 11, 22, 23, 59, 0, tzinfo=UTC).timestamp()  # a minute before midnight: dates matter
PARTITIONS = [TopicPartition("events", number) for number in range(3)]
LIMITS = BatchConfig(interval=Seconds(3), records=15, bytes=Size(1 << 20), memory=Size(1 << 20))
TIGHT = 8 << 10  # a budget of a few batches: the flow often waits for room
NEVER = BreakerConfig(max_share=1.0, max_consecutive=10**9)
MODEL = load_model(None)  # once: making it takes a quarter of a seed's time


class Violation(AssertionError):
    """A promise was broken."""


class Worker:
    """One daemon, without its process."""

    def __init__(self, world: "World", *, strict: bool, skips: bool, interval: float, forks: bool) -> None:
        self.member = world.member_type(world.broker)
        self.metrics = Metrics()
        self.world = world
        self.forks = forks
        layout = ObjectKeys()
        config = SinkConfig(retry_initial=Seconds(0.1), retry_max=Seconds(2))
        sink = Connection(world.store)
        dependencies = Dependencies(
            source=self.member,
            sink=sink,
            retrier=SinkRetrier(config, self.metrics.upload_retried, random.Random(world.rng.random())),
            metrics=self.metrics,
            executor=SlowExecutor(lambda: world.rng.expovariate(30)),
            wall_clock=lambda: START + world.rng.uniform(-1e5, 1e5),
        )
        memory = Size(world.rng.choice([TIGHT, LIMITS.memory]))
        self.limits = msgspec.structs.replace(LIMITS, interval=Seconds(interval), memory=memory)
        events = EventsConfig(
            unknown_types="reject" if strict else "accept", tombstones="skip" if skips else "quarantine"
        )
        policy = ChainPolicy(layout, layout.commit_tag(sink.url), skip_lost=True, fork=forks)
        self.pipeline = Pipeline(
            self.limits, dependencies, EventValidator(events, MODEL), Breaker(NEVER), policy, revoke_timeout=2.0
        )
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        await self.pipeline.run()
        await self.member.stop()

    def check(self) -> None:
        """I7 and I9: what it holds, and where every record that it took is."""
        totals = self.metrics.counters.totals()
        in_flight = self.pipeline.held_records
        accounted = totals.landed + totals.quarantined + totals.skipped + totals.released + in_flight
        if totals.consumed != accounted:
            raise Violation(f"I9: consumed {totals.consumed} is not {accounted}: {totals}, in flight {in_flight}")
        holes = len(PARTITIONS) * 2 * Batch.frame_bytes  # a hole's batch holds nothing, and waits for no room
        if self.pipeline.held_bytes > self.limits.memory + holes:
            raise Violation(f"I7: {self.pipeline.held_bytes} bytes are held, the budget is {self.limits.memory}")
        halted = {writer.partition: writer.halt for writer in self.pipeline.writers.values() if writer.halt}
        for partition, halt in halted.items():
            expected = self.world.truncated[partition] and (not self.world.forks or halt.code == "misaligned")
            # A tool may have reset the group to a boundary that was lost meanwhile.
            if halt.code not in {"log_truncated", "misaligned"} or not expected:
                raise Violation(f"halted for no reason: {partition} {halt.code}: {halt}")

    def crash(self) -> None:
        """SIGKILL: nothing is flushed, nobody is told; what was sent is on its way."""
        self.member.die()
        self.task.cancel()
