"""`ingestd verify` beside workers that crash, pause and race: it sees what is wrong, and nothing else."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest

from ingestd import wiring
from ingestd.cli import verify as verify_module
from ingestd.cli.verify import Options, verify
from ingestd.config.load import Flag, load
from ingestd.config.model import Config
from ingestd.core.errors import SinkForbidden
from ingestd.core.records import LogRange, Position, TopicPartition
from ingestd.sinks.retry import SinkRetrier
from ingestd.verify.findings import VerifyReport
from tests.simulation import virtual_time
from tests.simulation.broker import Broker
from tests.simulation.store import Connection
from tests.simulation.world import PARTITIONS, World

SETTINGS = load(environ={}, flags=[Flag("--topic", "kafka.topics", PARTITIONS[0].topic)])
COST = 4  # a seed, compared with one without looks
#: Retention overtakes the workers, and they seal the hole: what a look in between tells is true.
TRUE = {"lost_upstream"}


class Onlooker:
    """A reader of the simulated broker."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.cluster_id = "sim"
        self.partitions = PARTITIONS

    async def committed(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, Position | None]:
        await asyncio.sleep(self._broker.rng.expovariate(20))
        return {partition: self._broker.committed.get(partition) for partition in partitions}

    async def log_ranges(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, LogRange]:
        await asyncio.sleep(self._broker.rng.expovariate(20))
        return {each: LogRange(self._broker.starts[each], self._broker.ends[each]) for each in partitions}


class WatchedWorld(World):
    """Somebody looks at it again and again."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.looks = 0

    async def _mishap(self) -> None:
        if self.rng.random() < 0.4:
            self._later(self._watch())
        await super()._mishap()

    async def _watch(self) -> None:
        since = self.rng.choice([None, None, 0, 1_795_392_000_000])  # the midnight that comes, in milliseconds
        try:
            report = await self.look(Options(since=since))
        except SinkForbidden:
            return
        self.looks += 1
        assert set(report.problem_counts) <= TRUE, report.problems

    async def look(self, options: Options) -> VerifyReport:
        return await verify(SETTINGS, options, Connection(self.store))

    @asynccontextmanager
    async def open_inspector(self, config: Config) -> AsyncIterator[Any]:
        yield Onlooker(self.broker)


async def here(function: Callable[..., Any], *arguments: object) -> Any:
    """Instead of in a thread: virtual time waits for none."""
    await asyncio.sleep(0)
    return function(*arguments)


def test_no_look_at_workers_in_trouble_is_a_false_alarm(seeds: range, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asyncio, "to_thread", here)

    async def main(seed: int) -> None:
        monkeypatch.setattr(verify_module, "SinkRetrier", partial(SinkRetrier, rng=random.Random(seed)))
        world = WatchedWorld(seed)
        monkeypatch.setattr(wiring, "open_inspector", world.open_inspector)
        await world.run()
        assert world.looks
        report = await world.look(Options(read=True))
        assert report.ok, report.problems
        assert report.totals.rows == world._rows("events/", "source_offset", "source_partition").total()

    for seed in seeds:
        try:
            virtual_time.run(main(seed))
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
