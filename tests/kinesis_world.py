"""A stream in memory, and daemons that read it into chains in virtual time: how the pipeline drives a source."""

import asyncio
import random
from collections import defaultdict
from collections.abc import Collection
from contextlib import suppress
from typing import Any

from ingestd.config.model import KinesisConfig
from ingestd.config.types import Seconds, Size
from ingestd.core.records import Position, TopicPartition, refusals
from ingestd.sources.kinesis.source import KinesisSource
from tests.fakes.kinesis import WALL_S, FakeKinesis, FakeKinesisClient, MemoryState

FLUSH_S = 3.0


class Chains:
    """The objects of all shards. The first one under a name wins."""

    def __init__(self) -> None:
        self.objects: defaultdict[TopicPartition, list[tuple[int, int, list[bytes]]]] = defaultdict(list)

    def end(self, partition: TopicPartition) -> int | None:
        objects = self.objects[partition]
        return objects[-1][1] if objects else None

    def land(self, partition: TopicPartition, start: int, end: int, values: list[bytes]) -> bool:
        """Whether the object is the next one of the chain."""
        objects = self.objects[partition]
        if objects and objects[-1][1] != start:
            return False
        objects.append((start, end, values))
        return True

    def values(self) -> list[bytes]:
        return [value for objects in self.objects.values() for _, _, values in objects for value in values]


class Daemon:
    """Reads with one source, and lands what it has read every `FLUSH_S`. Raises what the source raises."""

    def __init__(self, source: KinesisSource, chains: Chains) -> None:
        self.source = source
        self.chains = chains
        self.owned: set[TopicPartition] = set()
        self.lost: set[TopicPartition] = set()  # halted: retention has removed what was not read
        self.out_of_range = 0
        self.landing = True
        self.outside: list[bytes] = []
        self._position: dict[TopicPartition, int] = {}  # where the next object starts
        self._buffer: dict[TopicPartition, tuple[int, list[bytes]]] = {}
        self._starting: dict[TopicPartition, asyncio.Task[None]] = {}
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        await self.source.start(self)
        flush = asyncio.create_task(self._flush_forever())
        try:
            while (fetched := await self.source.fetch()) is not None:
                for partition, (records, _, cuts) in fetched.items():
                    if partition in self._position:
                        assert cuts is None or cuts[-1] == len(records)
                        refused = refusals(records)
                        self.outside += [records[index].value or b"" for index in refused]
                        wanted = [record for index, record in enumerate(records) if index not in refused]
                        _, values = self._buffer.get(partition, (0, []))
                        self._buffer[partition] = records[-1].offset + 1, values + [it.value or b"" for it in wanted]
                await asyncio.sleep(0)
        finally:
            flush.cancel()

    def on_assigned(self, partitions: Collection[TopicPartition]) -> None:
        for partition in partitions:
            assert partition not in self.owned
            self.owned.add(partition)
            self._begin(partition)

    async def on_revoked(self, partitions: Collection[TopicPartition]) -> None:
        for partition in partitions:
            assert partition in self.owned
            await self._flush(partition)
            self._forget(partition)
            self.owned.discard(partition)

    def on_out_of_range(self, partition: TopicPartition) -> None:
        self.out_of_range += 1
        self._begin(partition)

    def _begin(self, partition: TopicPartition) -> None:
        self._forget(partition)
        self._starting[partition] = asyncio.create_task(self._start(partition))

    def _forget(self, partition: TopicPartition) -> None:
        if (task := self._starting.pop(partition, None)) is not None:
            task.cancel()
        self._position.pop(partition, None)
        self._buffer.pop(partition, None)

    async def _start(self, partition: TopicPartition) -> None:
        source = self.source
        await source.stream_id(partition)
        if (position := self.chains.end(partition)) is None:
            position = (await source.resolve_start(partition)).offset
        await source.commit(partition, Position(position))
        if position < (await source.log_range(partition)).start:
            self.lost.add(partition)
            return
        self._position[partition] = position
        source.seek(partition, position)

    async def _flush_forever(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_S)
            for partition in list(self._buffer):
                await self._flush(partition)

    async def _flush(self, partition: TopicPartition) -> None:
        if not self.landing or (buffered := self._buffer.pop(partition, None)) is None:
            return
        end, values = buffered
        if not self.chains.land(partition, self._position[partition], end, values):
            self._begin(partition)  # another daemon was first
            return
        self._position[partition] = end
        await self.source.commit(partition, Position(end))

    async def stop(self) -> None:
        self.source.finish()
        await self._task
        for partition in list(self._buffer):
            await self._flush(partition)
        await self.source.stop()

    async def kill(self) -> None:
        """As a crash: nothing is landed or told any more."""
        for task in [self._task, *self._starting.values(), *self.source._tasks]:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        self.source._assignment.close()

    @property
    def failure(self) -> BaseException | None:
        return self._task.exception() if self._task.done() and not self._task.cancelled() else None


class World:
    """A service, a store and any number of daemons."""

    def __init__(self, shards: int = 1, seed: int = 0, **options: Any) -> None:
        self.service = FakeKinesis(shards, **options)
        self.state = MemoryState()
        self.chains = Chains()
        self.random = random.Random(seed)
        self.daemons: list[Daemon] = []
        self.put: list[bytes] = []

    def source(self, member: str = "one", *, read_only: bool = False, **settings: Any) -> KinesisSource:
        config = KinesisConfig(
            **{
                "stream": self.service.name,
                "member_id": member,
                "poll_interval": Seconds(1),
                "prefetch_bytes": Size(1 << 20),
                **settings,
            }
        )
        return KinesisSource(
            config,
            self.state,
            "default",
            read_only=read_only,
            connect=lambda: FakeKinesisClient(self.service, latency=lambda: self.random.uniform(0, 0.05)),
            wall_clock=lambda: WALL_S + asyncio.get_running_loop().time(),
            rng=self.random,
        )

    def daemon(self, member: str = "one", **settings: Any) -> Daemon:
        daemon = Daemon(self.source(member, **settings), self.chains)
        self.daemons.append(daemon)
        return daemon

    async def daemon_with_landed(self, count: int) -> Daemon:
        """A daemon that has landed so many records."""
        self.produce(count)
        daemon = self.daemon()
        await self.settle()
        return daemon

    async def crash(self) -> None:
        """Kill all daemons."""
        for daemon in self.daemons:
            await daemon.kill()
        self.daemons.clear()

    def produce(self, count: int = 1, *, shard: int | None = None) -> None:
        for _ in range(count):
            value = b"%d" % len(self.put)
            self.service.put(value, shard=shard, key=f"k{self.random.randrange(1000)}")
            self.put.append(value)

    @property
    def landed(self) -> list[bytes]:
        return sorted(self.chains.values(), key=int)

    def is_complete(self) -> bool:
        return self.landed == self.put

    async def settle(self, seconds: float = 300.0) -> None:
        """Until everything has landed."""
        async with asyncio.timeout(seconds):
            while not self.is_complete():
                for daemon in self.daemons:
                    if daemon.failure is not None:
                        raise daemon.failure
                await asyncio.sleep(0.5)

    async def stop(self) -> None:
        for daemon in self.daemons:
            await daemon.stop()
