"""A simulated broker for several members of one group, with faults of the real broker and its client."""

import asyncio
import random
from collections.abc import Sequence
from copy import deepcopy

from ingestd.core.records import EpochEnd, EpochRecords, LogRange, PlainRecord, Position, TopicPartition
from ingestd.sources.base import Capabilities, Fetched, Listener, OpenTransaction
from tests.fakes.leader_epochs import LeaderEpochs

REBALANCE_TIMEOUT = 4.0


class Broker:
    """Logs, committed positions and owners of partitions. Rebalances are eager, as aiokafka's."""

    def __init__(self, rng: random.Random, partitions: Sequence[TopicPartition], cluster: str = "sim") -> None:
        self.rng = rng
        self.cluster = cluster
        self.logs: dict[TopicPartition, list[PlainRecord]] = {partition: [] for partition in partitions}
        self.ends = dict.fromkeys(partitions, 0)
        self.starts = dict.fromkeys(partitions, 0)
        self.epochs = {partition: LeaderEpochs() for partition in partitions}
        self.replicas: dict[TopicPartition, tuple[list[PlainRecord], int, LeaderEpochs]] = {}  # the last leader's log
        self.committed: dict[TopicPartition, Position] = {}
        self.members: list[Member] = []
        self.generation = 0
        self.calm = False  # True: no more faults
        self._rebalancing = asyncio.Lock()

    def append(self, partition: TopicPartition, value: bytes | None, timestamp: int, gap: int = 0) -> None:
        """`gap` offsets before the record hold nothing that a consumer sees, as after control records."""
        self.epochs[partition].append(self.ends[partition])
        offset = self.ends[partition] + gap
        self.logs[partition].append(PlainRecord(offset, timestamp, value))
        self.ends[partition] = offset + 1

    def truncate(self, partition: TopicPartition, end: int) -> None:
        """Elect a leader that lacks the records from `end` on."""
        self.replicas[partition] = (self.logs[partition], self.ends[partition], deepcopy(self.epochs[partition]))
        self.logs[partition] = [record for record in self.logs[partition] if record.offset < end]
        self.ends[partition] = end
        self.epochs[partition].elect(end)

    def go_back(self, partition: TopicPartition) -> None:
        """Elect the leader from before the last truncation: its log has what was lost, and lacks what came since."""
        log, end, epochs = self.replicas.pop(partition)
        start = self.starts[partition]
        self.logs[partition] = [record for record in log if record.offset >= start]
        self.ends[partition] = max(start, end)
        self.epochs[partition].replace(epochs)

    def epoch_end(self, partition: TopicPartition, leader_epoch: int) -> EpochEnd:
        return self.epochs[partition].end(leader_epoch, self.ends[partition])

    def retain_from(self, partition: TopicPartition, offset: int) -> list[PlainRecord]:
        """Remove the records before `offset`, as retention does. Returns them."""
        gone = [record for record in self.logs[partition] if record.offset < offset]
        self.logs[partition] = [record for record in self.logs[partition] if record.offset >= offset]
        self.starts[partition] = max(self.starts[partition], offset)
        self.epochs[partition].trim(self.starts[partition])
        return gone

    async def latency(self) -> None:
        await asyncio.sleep(self.rng.expovariate(50))

    def fault(self, probability: float) -> bool:
        return not self.calm and self.rng.random() < probability

    async def rebalance(self) -> None:
        """Revoke all partitions and assign them again. A member that takes too long to release its own is removed."""
        async with self._rebalancing:
            self.generation += 1
            members = [member for member in self.members if member.alive]
            for outcome, member in zip(
                await asyncio.gather(*(member.revoke() for member in members), return_exceptions=True),
                members,
                strict=True,
            ):
                if isinstance(outcome, TimeoutError):
                    self.members.remove(member)
                elif isinstance(outcome, BaseException):
                    raise outcome
            members = [member for member in self.members if member.alive]
            for index, member in enumerate(members):
                member.assign([tp for number, tp in enumerate(self.logs) if number % len(members) == index])


class Member:
    """One worker's `Source`."""

    capabilities = Capabilities()
    revoke_timeout = REBALANCE_TIMEOUT / 2

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._listener: Listener | None = None
        self._positions: dict[TopicPartition, int | None] = {}  # None: paused
        self._leader_epochs: dict[TopicPartition, int | None] = {}  # of the record before the position
        self._generation = -1
        self._finished = False
        self._commits: dict[TopicPartition, int] = {}
        self.alive = True

    @property
    def source_id(self) -> str:
        return self._broker.cluster

    @property
    def error(self) -> str | None:
        return None

    @property
    def error_since(self) -> float | None:
        return None

    async def rebuild(self) -> None: ...

    async def start(self, listener: Listener) -> None:
        self._listener = listener
        await self._broker.latency()
        self._broker.members.append(self)
        await self._broker.rebalance()

    async def stop(self) -> None:
        self.die()
        await self._broker.rebalance()

    def die(self) -> None:
        self.alive = False
        if self in self._broker.members:
            self._broker.members.remove(self)

    async def revoke(self) -> None:
        if self._positions and self._listener is not None:
            async with asyncio.timeout(REBALANCE_TIMEOUT):
                await self._listener.on_revoked(list(self._positions))
        self._positions = {}

    def assign(self, partitions: list[TopicPartition]) -> None:
        self._generation = self._broker.generation
        self._positions = dict.fromkeys(partitions)
        assert self._listener is not None
        self._listener.on_assigned(partitions)

    async def become_zombie(self, seconds: float) -> None:
        """Lose the group without a revocation, go on writing while others own the partitions, then join again."""
        if self not in self._broker.members:
            return
        self._broker.members.remove(self)
        await self._broker.rebalance()
        await asyncio.sleep(seconds)
        if self.alive:
            try:
                await self.revoke()
            except TimeoutError:
                self._positions = {}
            self._broker.members.append(self)
            await self._broker.rebalance()

    async def fetch(self) -> Fetched | None:
        await self._broker.latency()
        if self._finished:
            return None
        found: dict[TopicPartition, EpochRecords] = {}
        for partition, position in self._positions.items():
            if position is None or self._broker.rng.random() < 0.3:
                continue
            if not self._follows(partition, position):
                self._positions[partition] = None
                assert self._listener is not None
                self._listener.on_out_of_range(partition)
                continue
            log, epochs = self._broker.logs[partition], self._broker.epochs[partition]
            records = [record for record in log if record.offset >= position][: self._broker.rng.randint(1, 12)]
            if records:
                epoch = epochs.at(records[0].offset)
                records = [record for record in records if epochs.at(record.offset) == epoch]
                found[partition] = EpochRecords(records, epoch)
                self._positions[partition] = records[-1].offset + 1
                self._leader_epochs[partition] = epoch
        if not found:
            await asyncio.sleep(0.2)
        return found

    def _follows(self, partition: TopicPartition, position: int) -> bool:
        """Whether the log has the position, and still the record before it."""
        if not self._broker.starts[partition] <= position <= self._broker.ends[partition]:
            return False
        epoch = self._leader_epochs.get(partition)
        if epoch is None:
            return True
        found, end = self._broker.epoch_end(partition, epoch)
        return found == epoch and end >= position

    def finish(self) -> None:
        self._finished = True

    def seek(self, partition: TopicPartition, offset: int, leader_epoch: int | None = None) -> None:
        if partition not in self._positions:
            return
        self._positions[partition] = offset
        self._leader_epochs[partition] = leader_epoch

    def pause(self, partition: TopicPartition) -> None:
        if partition in self._positions:
            self._positions[partition] = None

    async def stream_id(self, partition: TopicPartition) -> str:
        return "sim"

    async def committed(self, partition: TopicPartition) -> Position | None:
        await self._broker.latency()
        return self._broker.committed.get(partition)

    async def log_range(self, partition: TopicPartition) -> LogRange:
        await self._broker.latency()
        return LogRange(self._broker.starts[partition], self._broker.ends[partition])

    async def epoch_end(self, partition: TopicPartition, leader_epoch: int) -> EpochEnd | None:
        await self._broker.latency()
        return self._broker.epoch_end(partition, leader_epoch)

    async def resolve_start(self, partition: TopicPartition) -> Position:
        await self._broker.latency()
        return Position(self._broker.starts[partition])

    def end_offset(self, partition: TopicPartition) -> int | None:
        return self._broker.ends[partition]

    def behind_s(self, partition: TopicPartition) -> float | None:
        return None

    def open_transaction(self, partition: TopicPartition) -> OpenTransaction | None:
        return None

    async def commit(self, partition: TopicPartition, position: Position) -> bool:
        """Refuses stale commits, but accepts some, like one that aiokafka retried in a new generation."""
        assert partition not in self._commits, "one commit in flight"
        self._commits[partition] = position.offset
        try:
            await self._broker.latency()
            stale = self not in self._broker.members or self._generation != self._broker.generation
            if (stale and not self._broker.fault(0.3)) or self._broker.fault(0.02):
                return False
            self._broker.committed[partition] = position
            await self._broker.latency()  # a crash here: applied, and the answer is lost
            return True
        finally:
            del self._commits[partition]
