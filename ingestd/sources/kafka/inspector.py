"""Looks at topics and a group from outside: joins nothing and commits nothing. For the commands that inspect."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaPartition
from aiokafka import errors as kafka_errors
from aiokafka.protocol.admin import DescribeConfigsRequest, DescribeGroupsRequest
from aiokafka.protocol.group import HeartbeatRequest

from ingestd.config.model import KafkaConfig
from ingestd.core.errors import SourceError
from ingestd.core.records import GroupState, LogRange, Position, Record, TopicPartition
from ingestd.sources.kafka import prefetch_limit
from ingestd.sources.kafka import requests as offsets
from ingestd.sources.kafka.bootstrap import (
    FAILURES,
    RETRY_INITIAL_S,
    Cluster,
    client_options,
    connect,
    describe,
    level,
    meaning,
)
from ingestd.sources.kafka.coordinator_client import CoordinatorClient
from ingestd.sources.kafka.error_state import ErrorState
from ingestd.sources.kafka.fast_records import lean
from ingestd.sources.kafka.requests import Answers, RequestBatcher

WITHIN_S = 20.0  # for an answer: somebody looks on, or cron waits

_TOPIC = 2  # a type of resource
# What a coordinator says while it moves or loads; anything else is its answer.
_PASSING = (
    kafka_errors.GroupLoadInProgressError,
    kafka_errors.GroupCoordinatorNotAvailableError,
    kafka_errors.NotCoordinatorForGroupError,
)

V = TypeVar("V")


@asynccontextmanager
async def open_inspector(config: KafkaConfig) -> AsyncIterator["Inspector"]:
    """A reader of the topics and the group of `config`. ``SourceError`` where no broker answers in `WITHIN_S`."""
    troubles = ErrorState()
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
        await _start(consumer, config.topics, troubles)
        yield Inspector(config, consumer, cluster, troubles)
    finally:
        await consumer.stop()


async def _start(consumer: Any, topics: Collection[str], troubles: ErrorState) -> None:
    try:
        async with _within(troubles, "connecting to Kafka"):
            await consumer.start()
            # Of whom nobody has subscribed to, it would never learn who leads what.
            await consumer._client.set_topics(topics)
    except FAILURES as error:
        raise meaning(error) or SourceError(f"Kafka cannot be used: {describe(error)}") from error


@asynccontextmanager
async def _within(troubles: ErrorState, what: str) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(WITHIN_S):
            yield
    except TimeoutError:
        raise SourceError(f"{what}: {troubles.error or 'no answer'}, after {WITHIN_S:g} s") from None


class Inspector(CoordinatorClient):
    """Answers questions and hands out records. Errors are ``SourceError``, also where no answer comes in time."""

    def __init__(self, config: KafkaConfig, consumer: Any, cluster: Cluster, troubles: ErrorState) -> None:
        super().__init__(consumer._client, config.group_id)
        self._config = config
        self._consumer = consumer
        self._cluster = cluster
        self._troubles = troubles

    @property
    def cluster_id(self) -> str:
        """Which log this is; part of every object's metadata."""
        return self._cluster.id

    @property
    def brokers(self) -> dict[int, str]:
        """Node ids, and the host:port at which each says it is."""
        return {node: f"{host}:{port}" for node, host, port, *_ in self._client.cluster.brokers()}

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

    async def starts(self, partitions: Collection[TopicPartition], when: int) -> dict[TopicPartition, int]:
        """The first offsets at or after a time in milliseconds; the end where no record is as young."""

        async def ask(asked: Collection[TopicPartition]) -> Answers[int]:
            return await offsets.starts(self, asked, when)

        return await self._answers("looking for a time in the log", ask, partitions)

    async def group(self) -> GroupState:
        """The group, as its coordinator sees it."""
        group = self._config.group_id
        answer = await self._insist(f"describing group {group}", DescribeGroupsRequest([group]), _group_error)
        _, _, state, _, _, members, *_ = answer.groups[0]
        return GroupState(state, tuple(f"{client} at {host.removeprefix('/')}" for _, client, host, *_ in members))

    async def may_join(self) -> bool:
        """Whether we have READ on the group. It is asked for by a heartbeat of nobody, which changes nothing."""
        group = self._config.group_id
        answer = await self._insist(f"asking to join group {group}", HeartbeatRequest(group, 0, "nobody"), _right_error)
        return bool(answer.error_code != kafka_errors.GroupAuthorizationFailedError.errno)

    async def topic_settings(self, names: Sequence[str]) -> dict[str, Mapping[str, str]]:
        """The settings called `names` of each topic; without those that we have no right to describe."""
        wanted = [(_TOPIC, topic, list(names)) for topic in self._cluster.partitions]
        try:
            async with _within(self._troubles, "describing topics"):
                answer = await self.ask_broker(self._client.get_random_node(), DescribeConfigsRequest(wanted))
        except FAILURES as error:
            raise meaning(error) or SourceError(f"describing topics fails: {describe(error)}") from error
        return {
            topic: {name: value for name, value, *_ in entries if value is not None}
            for code, _, _, topic, entries in answer.resources
            if not code
        }

    async def _insist(self, what: str, request: Any, error_in: Callable[[Any], BaseException | None]) -> Any:
        """The coordinator's answer, once it gives one without an error that may pass."""
        async with _within(self._troubles, what):
            while True:
                try:
                    answer = await self.ask_coordinator(request)
                    if (error := error_in(answer)) is None:
                        return answer
                    raise error
                except FAILURES as error:
                    if (final := meaning(error)) is not None:
                        raise final from error
                    if level(error) == logging.ERROR:
                        raise SourceError(f"{what} is not allowed", hint="grant DESCRIBE on it") from error
                    self._troubles.begin(what, f"{what} fails: {describe(error)}", level=level(error))
                    self.forget_coordinator()
                await asyncio.sleep(RETRY_INITIAL_S)

    # -- records

    def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        """Read these partitions from these offsets on, and no others."""
        self._consumer.assign([KafkaPartition(*partition) for partition in positions])
        for partition, offset in positions.items():
            self._consumer.seek(KafkaPartition(*partition), offset)

    async def poll(self, wait: float, most: int) -> dict[TopicPartition, Sequence[Record]]:
        """At most so many records, in the order of offsets; none where none came within `wait` seconds."""
        try:
            polled = await prefetch_limit.take(self._consumer, wait, most)
        except FAILURES as error:
            raise meaning(error) or SourceError(f"reading records fails: {describe(error)}") from error
        return {TopicPartition(*partition): records for partition, records in polled.items()}

    async def _answers(
        self,
        what: str,
        ask: Callable[[Collection[TopicPartition]], Awaitable[Answers[V]]],
        about: Collection[TopicPartition],
    ) -> dict[TopicPartition, V]:
        """Asked like the daemon asks, but not for ever."""
        questions = RequestBatcher(what, ask, self._troubles)
        try:
            async with _within(self._troubles, what):
                return dict(zip(about, await asyncio.gather(*(questions.get(each) for each in about)), strict=True))
        finally:
            await questions.close()


def _group_error(answer: Any) -> BaseException | None:
    code, group, *_ = answer.groups[0]
    return kafka_errors.for_code(code)(group) if code else None


def _right_error(answer: Any) -> BaseException | None:
    error = kafka_errors.for_code(answer.error_code)
    return error() if issubclass(error, _PASSING) else None
