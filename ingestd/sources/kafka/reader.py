"""Looks at topics and a group from outside: joins nothing and commits nothing. For the commands that inspect."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaPartition
from aiokafka import errors as kafka_errors
from aiokafka.client import ConnectionGroup, CoordinationType
from aiokafka.protocol.admin import DescribeGroupsRequest

from ingestd.config import Kafka
from ingestd.errors import SourceError
from ingestd.records import GroupState, LogRange, PlainRecord, Position, TopicPartition
from ingestd.sources.kafka import offsets
from ingestd.sources.kafka.client import (
    FAILURES,
    RETRY_INITIAL_S,
    Cluster,
    client_options,
    connect,
    describe,
    level,
    meaning,
)
from ingestd.sources.kafka.lean import lean
from ingestd.sources.kafka.offsets import Answers, Questions
from ingestd.sources.kafka.troubles import Troubles

WITHIN_S = 20.0  # for an answer: somebody looks on, or cron waits

V = TypeVar("V")


@asynccontextmanager
async def open_reader(config: Kafka) -> AsyncIterator["Reader"]:
    """A reader of the topics and the group of `config`. ``SourceError`` where no broker answers in `WITHIN_S`."""
    troubles = Troubles()
    options = client_options(config)
    async with _within(troubles, "connecting to Kafka"):
        cluster = await connect(config, options, config.topics, troubles)
    consumer: Any = AIOKafkaConsumer(
        bootstrap_servers=list(config.bootstrap_servers),
        enable_auto_commit=False,
        auto_offset_reset="none",
        key_deserializer=lean,
        isolation_level="read_committed",
        fetch_max_bytes=config.fetch_max_bytes,
        max_partition_fetch_bytes=config.partition_fetch_bytes,
        **options,
    )
    try:
        async with _within(troubles, "connecting to Kafka"):
            await consumer.start()
            # Of whom nobody has subscribed to, it would never learn who leads what.
            await consumer._client.set_topics(config.topics)
        yield Reader(config, consumer, cluster, troubles)
    except FAILURES as error:
        raise meaning(error) or SourceError(f"Kafka cannot be used: {describe(error)}") from error
    finally:
        await consumer.stop()


@asynccontextmanager
async def _within(troubles: Troubles, what: str) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(WITHIN_S):
            yield
    except TimeoutError:
        raise SourceError(f"{what}: {troubles.error or 'no answer'}, after {WITHIN_S:g} s") from None


class Reader:
    """Answers questions and hands out records. Errors are ``SourceError``, also where no answer comes in time."""

    def __init__(self, config: Kafka, consumer: Any, cluster: Cluster, troubles: Troubles) -> None:
        self._config = config
        self._consumer = consumer
        self._client = consumer._client
        self._cluster = cluster
        self._troubles = troubles
        self._coordinator: int | None = None

    @property
    def cluster_id(self) -> str:
        """Which log this is; part of every object's metadata."""
        return self._cluster.id

    @property
    def partitions(self) -> list[TopicPartition]:
        """Of all topics."""
        counts = self._cluster.partitions.items()
        return [TopicPartition(topic, number) for topic, count in counts for number in range(count)]

    async def committed(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, Position | None]:
        """The group's committed positions, None where there is none."""

        async def ask(asked: Collection[TopicPartition]) -> Answers[Position | None]:
            return await offsets.committed(self, self._config.group_id, asked)

        return await self._answers("reading committed offsets", ask, partitions)

    async def log_ranges(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, LogRange]:
        """The offsets that the logs hold now."""

        async def ask(asked: Collection[TopicPartition]) -> Answers[LogRange]:
            return await offsets.log_ranges(self, asked)

        return await self._answers("reading the range of the log", ask, partitions)

    async def group(self) -> GroupState:
        """The group, as its coordinator sees it."""
        what = f"describing group {self._config.group_id}"
        async with _within(self._troubles, what):
            while True:
                try:
                    return await self._describe(self._config.group_id)
                except FAILURES as error:
                    if (final := meaning(error)) is not None:
                        raise final from error
                    self._troubles.begin(what, f"{what} fails: {describe(error)}", level=level(error))
                    self.forget_coordinator()
                await asyncio.sleep(RETRY_INITIAL_S)

    async def _describe(self, group: str) -> GroupState:
        answer = await self.ask_coordinator(DescribeGroupsRequest([group]))
        code, _, state, _, _, members, *_ = answer.groups[0]
        error = kafka_errors.for_code(code)
        if error is not kafka_errors.NoError:
            raise error(group)
        return GroupState(state, tuple(f"{client} at {host.removeprefix('/')}" for _, client, host, *_ in members))

    # -- records

    def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        """Read these partitions from these offsets on, and no others."""
        self._consumer.assign([KafkaPartition(*partition) for partition in positions])
        for partition, offset in positions.items():
            self._consumer.seek(KafkaPartition(*partition), offset)

    async def poll(self, wait: float, most: int) -> dict[TopicPartition, Sequence[PlainRecord]]:
        """At most so many records, in the order of offsets; none where none came within `wait` seconds."""
        try:
            polled = await self._consumer.getmany(timeout_ms=int(wait * 1000), max_records=most)
        except FAILURES as error:
            raise meaning(error) or SourceError(f"reading records fails: {describe(error)}") from error
        return {TopicPartition(*partition): records for partition, records in polled.items()}

    # -- requests of our own, as ``Brokers``

    async def ask_coordinator(self, request: Any) -> Any:
        if self._coordinator is None:
            self._coordinator = await self._client.coordinator_lookup(CoordinationType.GROUP, self._config.group_id)
        return await self._client.send(self._coordinator, request, group=ConnectionGroup.COORDINATION)

    def forget_coordinator(self) -> None:
        self._coordinator = None

    async def ask_broker(self, node: int, request: Any) -> Any:
        return await self._client.send(node, request)

    def leader(self, partition: TopicPartition) -> int | None:
        node: int | None = self._client.cluster.leader_for_partition(partition)
        if node is None or node < 0:
            self.refresh()
            return None
        return node

    def refresh(self) -> None:
        self._client.force_metadata_update()

    async def _answers(
        self,
        what: str,
        ask: Callable[[Collection[TopicPartition]], Awaitable[Answers[V]]],
        about: Collection[TopicPartition],
    ) -> dict[TopicPartition, V]:
        """Asked like the daemon asks, but not for ever."""
        questions = Questions(what, ask, self._troubles)
        try:
            async with _within(self._troubles, what):
                return dict(zip(about, await asyncio.gather(*(questions.get(each) for each in about)), strict=True))
        finally:
            await questions.close()
