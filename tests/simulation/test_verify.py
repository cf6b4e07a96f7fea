"""`ingestd verify` while workers crash, pause and race: it reports what is wrong, and nothing else."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest

from ingestd.config.load import Flag, load
from ingestd.config.model import Config
from ingestd.core.errors import SinkForbidden
from ingestd.core.records import EpochEnd, LogRange, Position, Record, TopicPartition
from ingestd.sinks.retry import SinkRetrier
from ingestd.verify import run as verify_run
from ingestd.verify.findings import VerifyReport
from ingestd.verify.run import VerifyOptions, verify
from tests.simulation import virtual_time
from tests.simulation.broker import Broker
from tests.simulation.store import Connection
from tests.simulation.worker import PARTITIONS
from tests.simulation.world import World

SETTINGS = load(environ={}, flags=[Flag("--topic", "kafka.topics", PARTITIONS[0].topic)])
COST = 4  # of a seed, compared with one without verifications
#: Found before a worker does what follows: it writes an empty object where retention has overtaken it, and the records
#: that Kafka has written since it truncated its log.
TRUE_PROBLEMS = {"lost_upstream", "log_truncated"}


class SimulatedInspector:
    """Reads the simulated broker."""

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

    async def topic_ids(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, str]:
        await asyncio.sleep(self._broker.rng.expovariate(20))
        return dict.fromkeys(partitions, "")

    async def epoch_ends(
        self, pairs: Collection[tuple[TopicPartition, int]]
    ) -> dict[tuple[TopicPartition, int], EpochEnd | None]:
        await asyncio.sleep(self._broker.rng.expovariate(20))
        return {(partition, epoch): self._broker.epoch_end(partition, epoch) for partition, epoch in pairs}

    def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        raise AssertionError("every object has a leader epoch")

    async def poll(self, wait_s: float, max_records: int) -> dict[TopicPartition, Sequence[Record]]:
        raise AssertionError("every object has a leader epoch")


class VerifiedWorld(World):
    """A world that is verified again and again."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.verified = 0

    async def _mishap(self) -> None:
        if self.rng.random() < 0.4:
            self._later(self._verify_now())
        await super()._mishap()

    async def _verify_now(self) -> None:
        since = self.rng.choice([None, None, 0, 1_795_392_000_000])  # the midnight that comes, in milliseconds
        try:
            report = await self.verify(VerifyOptions(since=since))
        except SinkForbidden:
            return
        self.verified += 1
        assert set(report.problem_counts) <= TRUE_PROBLEMS, report.problems

    async def verify(self, options: VerifyOptions) -> VerifyReport:
        return await verify(SETTINGS, options, Connection(self.store), self.open_inspector)

    @asynccontextmanager
    async def open_inspector(self, _: Config) -> AsyncIterator[Any]:
        yield SimulatedInspector(self.broker)


async def run_inline(function: Callable[..., Any], *arguments: object) -> Any:
    """Replaces ``to_thread``: virtual time waits for no thread."""
    await asyncio.sleep(0)
    return function(*arguments)


def test_verifying_beside_failing_workers_gives_no_false_alarm(seeds: range, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asyncio, "to_thread", run_inline)

    async def main(seed: int) -> None:
        monkeypatch.setattr(verify_run, "SinkRetrier", partial(SinkRetrier, rng=random.Random(seed)))
        world = VerifiedWorld(seed)
        await world.run()
        assert world.verified
        report = await world.verify(VerifyOptions(read=True))
        # Kafka may have lost the end of its log and written nothing since; else only halted partitions lack records.
        halted = {partition.partition for partition in world.halted}
        problems = [problem for problem in report.problems if problem.partition not in halted]
        assert {problem.code for problem in problems} <= {"log_truncated"}, problems
        assert not any("new records" in problem.message for problem in problems), problems
        assert report.totals.rows == world._rows("events/", "source_offset", "source_partition").total()

    for seed in seeds:
        try:
            virtual_time.run(main(seed))
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
