"""Inspects a stream for `ingestd verify`: its shards, what they still hold, and what is on record of their chains."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TypeVar

from ingestd.config.model import KinesisConfig
from ingestd.core.errors import SourceError
from ingestd.core.records import EpochEnd, LogRange, Pin, PlainRecord, Position, TopicPartition
from ingestd.core.start_time import EARLIEST
from ingestd.sources.error_state import ErrorState
from ingestd.sources.kinesis.client import AwsKinesisClient
from ingestd.sources.kinesis.connection import READ_SPACING_S, Connection
from ingestd.sources.kinesis.continuity import CaughtUp
from ingestd.sources.kinesis.log import ShardLogs
from ingestd.sources.kinesis.port import KinesisClient, NumberUnknown, Shard
from ingestd.sources.kinesis.shards import by_number
from ingestd.sources.kinesis.state import ReadOnlyState, StreamState
from ingestd.sources.state_store import StateStore

PATIENCE_S = 60.0  # for one question about the whole stream, retries included
SHARDS_AT_ONCE = 10
PAGES_MAX = 100  # of a look for one record: pages without records may come before it

T = TypeVar("T")


@asynccontextmanager
async def open_kinesis_inspector(
    config: KinesisConfig,
    store: StateStore,
    connect: Callable[[], KinesisClient] | None = None,
    wall_clock: Callable[[], float] = time.time,
) -> AsyncIterator["KinesisInspector"]:
    """The stream and its state. ``SourceError`` where AWS does not answer for a minute, or has no such stream."""
    inspector = KinesisInspector(config, store, connect or partial(AwsKinesisClient, config), wall_clock)
    try:
        await inspector.start()
        yield inspector
    finally:
        await inspector.close()


class KinesisInspector:
    """What an inspector of Kafka tells, of the shards of one stream. It writes nothing."""

    def __init__(
        self,
        config: KinesisConfig,
        store: StateStore,
        connect: Callable[[], KinesisClient],
        wall_clock: Callable[[], float],
    ) -> None:
        self._stream = config.stream
        self._errors = ErrorState()
        self._connection = Connection(connect, self._errors, wall_clock, random.Random(), lambda: None)
        self._store = store
        self._state = StreamState(ReadOnlyState(store), config.stream)
        self._logs = ShardLogs(self._connection, self._state, EARLIEST, skip_lost=False)
        self._shards: dict[int, Shard] = {}
        self._slots = asyncio.Semaphore(SHARDS_AT_ONCE)
        self._reads: dict[TopicPartition, asyncio.Task[PlainRecord | None]] = {}

    async def start(self) -> None:
        await self._patiently(partial(self._connection.describe, must_exist=True))
        self._shards = by_number(await self._patiently(self._connection.list_shards))

    async def close(self) -> None:
        self._stop_reading()
        await self._connection.close()

    @property
    def cluster_id(self) -> str:
        """The stream's ARN, which objects have in the place of a cluster's id."""
        return self._connection.arn

    @property
    def partitions(self) -> list[TopicPartition]:
        return [TopicPartition(self._stream, number) for number in self._shards]

    async def committed(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, Position | None]:
        """Nothing is committed: the objects say how far a shard has landed."""
        return dict.fromkeys(partitions)

    async def log_ranges(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, LogRange]:
        """From the first record that retention has left, or where a shard was last seen empty."""
        proofs = await self._patiently(self._proofs)

        async def look(partition: TopicPartition) -> LogRange:
            number = partition.partition
            return await self._logs.range(number, self._shards[number], None, proofs.get(number))

        return await self._patiently(partial(self._each, look, partitions))

    async def pins(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, Pin]:
        """Where shards were found to begin, and where those end that have landed to their ends."""
        created = self._connection.created

        async def look(partition: TopicPartition) -> Pin:
            start = await self._state.start(created, partition.partition)
            end = await self._state.end(created, partition.partition)
            return Pin(start.position if start is not None else None, end)

        return await self._patiently(partial(self._each, look, partitions))

    async def topic_ids(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, str]:
        return dict.fromkeys(partitions, self._connection.created)

    async def epoch_ends(
        self, pairs: Collection[tuple[TopicPartition, int]]
    ) -> dict[tuple[TopicPartition, int], EpochEnd | None]:
        """There are no epochs."""
        return dict.fromkeys(pairs)

    def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        """Look for the record at each of these sequence numbers."""
        self._stop_reading()
        self._reads = {
            partition: asyncio.create_task(self._read(partition.partition, number), name=f"look into {partition}")
            for partition, number in positions.items()
            if partition.partition in self._shards
        }

    async def poll(self, wait_s: float, max_records: int) -> dict[TopicPartition, Sequence[PlainRecord]]:
        """The records that were found since, at most `max_records`."""
        if not self._reads:
            await asyncio.sleep(wait_s)
            return {}
        await asyncio.wait(self._reads.values(), timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        ready = [partition for partition, task in self._reads.items() if task.done()][:max_records]
        found = {partition: self._reads.pop(partition).result() for partition in ready}
        return {partition: [record] for partition, record in found.items() if record is not None}

    async def _read(self, shard: int, number: int) -> PlainRecord | None:
        """The first record at or after a sequence number; None where none is left, or the stream never had it."""
        async with self._slots:
            with suppress(NumberUnknown):
                iterator: str | None = await self._connection.iterator(self._shards[shard].id, number, None)
                for _ in range(PAGES_MAX):
                    if iterator is None:
                        break
                    page = await self._connection.get_records(iterator, 1)
                    if page.records:
                        return PlainRecord(page.records[0].offset, page.records[0].timestamp, None)
                    if not page.behind_ms:
                        break
                    iterator = page.next_iterator
                    await asyncio.sleep(READ_SPACING_S)
        return None

    async def _proofs(self) -> dict[int, CaughtUp]:
        """When daemons last saw shards empty behind what has landed."""
        state, proofs = StreamState(self._store, self._stream), dict[int, CaughtUp]()
        for member in await state.beats():
            heard = await state.heard(member)
            if heard is None or heard.created != self._connection.created:
                continue
            for shard, proof in heard.proofs().items():
                if shard not in proofs or proofs[shard].at_ms < proof.at_ms:
                    proofs[shard] = proof
        return proofs

    async def _each(
        self, look: Callable[[TopicPartition], Awaitable[T]], partitions: Collection[TopicPartition]
    ) -> dict[TopicPartition, T]:
        async def ask(partition: TopicPartition) -> T:
            async with self._slots:
                return await look(partition)

        known = [partition for partition in partitions if partition.partition in self._shards]
        return dict(zip(known, await asyncio.gather(*map(ask, known)), strict=True))

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await ask()
        except TimeoutError:
            why = self._errors.error or "it is slow"
            raise SourceError(f"stream {self._stream} gave no answer in {PATIENCE_S:g} s: {why}") from None

    def _stop_reading(self) -> None:
        for task in self._reads.values():
            task.cancel()
        self._reads.clear()
