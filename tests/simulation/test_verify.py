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
from ingestd.core.object_metadata import ObjectMetadata
from ingestd.core.records import EpochEnd, LogRange, Pin, Position, Record, TopicPartition
from ingestd.sinks.retry import SinkRetrier
from ingestd.verify import run as verify_run
from ingestd.verify.findings import VerifyFinding, VerifyReport
from ingestd.verify.log_reader import LogInspector
from ingestd.verify.ranges import Range
from ingestd.verify.run import VerifyOptions, verify
from tests.simulation import virtual_time
from tests.simulation.broker import Broker
from tests.simulation.store import Connection
from tests.simulation.worker import PARTITIONS
from tests.simulation.world import World

SETTINGS = load(environ={}, flags=[Flag("--topic", "kafka.topics", PARTITIONS[0].topic)])
COST = 4  # of a seed, compared with one without verifications


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

    async def pins(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, Pin]:
        return {}

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
        super().__init__(seed, skips=seed % 2 == 1)
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
        false_alarms = [problem for problem in report.problems if not self.is_true(problem, report)]
        assert not false_alarms, false_alarms

    def is_true(self, problem: VerifyFinding, report: VerifyReport) -> bool:
        """Whether a problem is one: found before a worker, or an operator, has done what follows."""
        (it,) = [it for it in report.partitions if (it.topic, it.partition) == (problem.topic, problem.partition)]
        partition = TopicPartition(it.topic, it.partition)
        if problem.code == "log_truncated":
            return self.truncated[partition] > 0
        objects = [landed for each, landed in self._objects() if each == partition]
        if problem.code == "lost_upstream":
            # Retention has passed the end of the chain: the next record brings an empty object.
            boundary = problem.start == it.committed or any(problem.start == landed.end for landed in objects)
            return boundary and (problem.end or 0) <= self.broker.starts[partition]
        if problem.code == "misaligned" and it.committed is not None and it.committed_epoch is None:
            return _is_replaced(it.committed, Range(problem.start or 0, problem.end or 0), objects)
        return False

    def overtaken(self) -> set[tuple[int | None, int | None, int | None]]:
        """Where retention has passed the end of the chain and no record came since, so no daemon could note it.

        An empty object has the day of the first record after it. Seed 1202: the log begins and ends at 742, and the
        chain ends at 740.
        """
        found = set[tuple[int | None, int | None, int | None]]()
        for partition in set(PARTITIONS) - self.halted:
            chain, commit = self._chain(partition), self.broker.committed.get(partition)
            reached = chain[-1].end if chain else commit.offset if commit else None
            log_start = self.broker.starts[partition]
            if not self.broker.logs[partition] and reached is not None and reached < log_start:
                found.add((partition.partition, reached, log_start))
        return found

    async def verify(self, options: VerifyOptions) -> VerifyReport:
        return await verify(SETTINGS, options, Connection(self.store), self.open_inspector)

    @asynccontextmanager
    async def open_inspector(self, _: Config) -> AsyncIterator[LogInspector]:
        yield SimulatedInspector(self.broker)


def _is_replaced(reset_to: int, inside: Range, objects: Sequence[ObjectMetadata]) -> bool:
    """Whether a tool has reset the group to a boundary between objects whose records Kafka has lost since.

    Such a commit has no leader epoch, so it means the chain as it is: there, an object of a later epoch may have the
    offset inside. Whoever starts at it halts (``Worker.check`` expects it): nothing tells which history was meant.
    Seed 1156: reset to 425, between objects of epoch 1; then came 404-434 of epoch 2.
    """
    older = {landed.leader_epoch or 0 for landed in objects if reset_to in {landed.start, landed.end}}
    newer = {landed.leader_epoch or 0 for landed in objects if (landed.start, landed.end) == inside}
    return inside.start < reset_to < inside.end and bool(older and newer) and min(older) < max(newer)


async def run_inline(function: Callable[..., Any], *arguments: object, **keywords: object) -> Any:
    """Replaces ``to_thread``: virtual time waits for no thread."""
    await asyncio.sleep(0)
    return function(*arguments, **keywords)


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
        assert {problem.code for problem in problems} <= {"log_truncated", "lost_upstream"}, problems
        assert not any("new records" in problem.message for problem in problems), problems
        overtaken = {(it.partition, it.start, it.end) for it in problems if it.code == "lost_upstream"}
        assert overtaken == world.overtaken(), problems
        assert report.totals.skipped == sum(landed.skipped or 0 for _, landed in world._objects())
        assert report.totals.rows == world._rows("events/", "source_offset", "source_partition").total()

    for seed in seeds:
        try:
            virtual_time.run(main(seed))
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
