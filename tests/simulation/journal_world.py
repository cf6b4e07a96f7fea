"""The simulation for a journal: one daemon at a time, on a log that keeps only what is not committed."""

import asyncio

from ingestd.core.object_metadata import ObjectMetadata
from ingestd.core.records import EpochEnd, EpochRecords, PlainRecord, Position, TopicPartition
from ingestd.sources.base import Fetched
from tests.simulation.broker import Member
from tests.simulation.worker import Violation, Worker
from tests.simulation.world import Identity, World


class JournalMember(Member):
    """Nothing is refused, and there are no leader epochs. A commit is followed by its discard, as two steps."""

    async def fetch(self) -> Fetched | None:
        fetched = await super().fetch()
        return None if fetched is None else {it: EpochRecords(found.records) for it, found in fetched.items()}

    async def epoch_end(self, partition: TopicPartition, leader_epoch: int) -> EpochEnd | None:
        return None

    async def commit(self, partition: TopicPartition, position: Position) -> bool:
        await self._broker.latency()
        self._broker.committed[partition] = position
        await self._broker.latency()
        self.discard(partition, position.offset)
        await self._broker.latency()
        return True

    def discard(self, partition: TopicPartition, below: int) -> None:
        self._broker.retain_from(partition, below)


class JournalWorld(World):
    member_type: type[Member] = JournalMember

    def __init__(self, seed: int) -> None:
        super().__init__(seed, truncations=0.0)
        self.forks = False

    def _spawn(self, *, forks: bool | None = None) -> Worker:
        """The lock of the journal is free once its process has died."""
        for worker in self.workers:
            if worker.member.alive:
                worker.crash()
        return super()._spawn(forks=False)

    async def _mishap(self) -> None:
        kind = self.rng.random()
        if kind < 0.5:
            self._spawn()
        elif kind < 0.65:
            self.workers[-1].member.finish()
            await asyncio.sleep(self.rng.uniform(0, 10))
            self._spawn()
        elif kind < 0.8:
            self._later(self._outage())
        else:
            self._later(self._refusal())

    def _identity(self, partition: TopicPartition, record: PlainRecord) -> Identity:
        return partition, record.offset, None

    def _chain(self, partition: TopicPartition) -> list[ObjectMetadata]:
        return sorted((landed for each, landed in self._objects() if each == partition), key=lambda it: it.start)

    def _check_chain(self, partition: TopicPartition) -> None:
        reached = 0
        for landed in self._chain(partition):
            if landed.start != reached:
                raise Violation(f"I1, I3: {landed.start} follows {reached} in {partition}")
            reached = landed.end
        committed = self.broker.committed.get(partition)
        if (committed.offset if committed else 0) != reached or self.broker.ends[partition] != reached:
            raise Violation(f"I3, I8: committed {committed} of {reached} in {partition}")

    async def run(self, seconds: float = 75) -> None:
        await super().run(seconds)
        if self.halted:
            raise Violation(f"halted for no reason: {self.halted}")
