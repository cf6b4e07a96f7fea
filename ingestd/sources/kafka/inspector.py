"""Reads topics and a group without joining it or committing anything, for the commands that inspect."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from aiokafka import TopicPartition as KafkaPartition
from aiokafka import errors as kafka_errors

from ingestd.config.model import KafkaConfig
from ingestd.core.errors import SourceError
from ingestd.core.records import EpochEnd, GroupState, LogRange, Pin, Position, Record, TopicAccess, TopicPartition
from ingestd.sources.error_state import ErrorState
from ingestd.sources.kafka import requests
from ingestd.sources.kafka._aiokafka import (
    Consumer,
    DescribeConfigsRequest,
    DescribeGroupsRequest,
    HeartbeatRequest,
    InitProducerIdRequest,
    TopicAccessRequest,
)
from ingestd.sources.kafka.auth import client_options
from ingestd.sources.kafka.bootstrap import Cluster, connect
from ingestd.sources.kafka.coordinator_client import CoordinatorClient
from ingestd.sources.kafka.errors import FAILURES, describe, log_level, permanent_error
from ingestd.sources.kafka.requests import Answers, EpochEnds, PartitionEpoch, RequestBatcher
from ingestd.sources.kafka.retry import retry

ANSWER_TIMEOUT_S = 20.0  # a person or cron waits

_RETRY_MAX_S = 1.0
_TOPIC = 2  # a type of resource
# What a coordinator answers while it moves or loads.
_TRANSIENT = (
    kafka_errors.GroupLoadInProgressError,
    kafka_errors.GroupCoordinatorNotAvailableError,
    kafka_errors.NotCoordinatorForGroupError,
)

K = TypeVar("K")
V = TypeVar("V")


@asynccontextmanager
async def open_inspector(config: KafkaConfig) -> AsyncIterator["Inspector"]:
    """An inspector of the topics and the group of `config`. ``SourceError`` where no broker answers in time."""
    errors = ErrorState()
    options = client_options(config)
    async with _within(errors, "connecting to Kafka"):
        cluster = await connect(config, options, config.topics, errors)
    consumer = Consumer(
        bootstrap_servers=list(config.bootstrap_servers),
        enable_auto_commit=False,
        auto_offset_reset="none",
        isolation_level="read_committed",
        fetch_max_bytes=config.fetch_max_bytes,
        max_partition_fetch_bytes=config.partition_fetch_bytes,
        **options,
    )
    try:
        await _start(consumer, config.topics, errors)
        yield Inspector(config, consumer, cluster, errors)
    finally:
        await consumer.stop()


async def _start(consumer: Consumer, topics: Collection[str], errors: ErrorState) -> None:
    try:
        async with _within(errors, "connecting to Kafka"):
            await consumer.start()
            # Without a subscription the client learns the leaders of these topics only.
            await consumer.client.set_topics(topics)
    except FAILURES as error:
        raise permanent_error(error) or SourceError(f"Kafka cannot be used: {describe(error)}") from error


@asynccontextmanager
async def _within(errors: ErrorState, what: str) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            yield
    except TimeoutError:
        raise SourceError(f"{what}: {errors.error or 'no answer'}, after {ANSWER_TIMEOUT_S:g} s") from None


class Inspector(CoordinatorClient):
    """Offsets, group state, settings and records. Errors are ``SourceError``, also where no answer comes in time."""

    def __init__(self, config: KafkaConfig, consumer: Consumer, cluster: Cluster, errors: ErrorState) -> None:
        super().__init__(consumer.client, config.group_id)
        self._config = config
        self._consumer = consumer
        self._cluster = cluster
        self._errors = errors

    @property
    def cluster_id(self) -> str:
        """The cluster's id, "" for a cluster without one; part of every object's metadata."""
        return self._cluster.id

    @property
    def brokers(self) -> dict[int, str]:
        """The advertised host:port of each node id."""
        return {node: f"{host}:{port}" for node, host, port, *_ in self._client.cluster.brokers()}

    @property
    def partitions(self) -> list[TopicPartition]:
        """All partitions of all topics."""
        counts = self._cluster.partitions.items()
        return [TopicPartition(topic, number) for topic, count in counts for number in range(count)]

    async def committed(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, Position | None]:
        """The group's committed positions, None where nothing was committed."""

        async def ask(asked: Collection[TopicPartition]) -> Answers[Position | None]:
            return await requests.committed(self, self._config.group_id, asked)

        return await self._answers("reading committed offsets", ask, partitions)

    async def log_ranges(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, LogRange]:
        """The offsets in the logs now."""

        async def ask(asked: Collection[TopicPartition]) -> Answers[LogRange]:
            return await requests.log_ranges(self, asked)

        return await self._answers("reading the range of the log", ask, partitions)

    async def pins(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, Pin]:  # noqa: ARG002
        """Commits say where chains are."""
        return {}

    async def topic_ids(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, str]:
        """The ids of the partitions' topics; "" for a topic without one."""

        async def ask(asked: Collection[TopicPartition]) -> Answers[str]:
            return await requests.topic_ids(self, asked)

        return await self._answers("reading topic ids", ask, partitions)

    async def starts(self, partitions: Collection[TopicPartition], when: int) -> dict[TopicPartition, int]:
        """The first offsets at or after a time in milliseconds; the end where all records are older."""

        async def ask(asked: Collection[TopicPartition]) -> Answers[Position]:
            return await requests.starts(self, asked, when)

        found = await self._answers("finding a time in the log", ask, partitions)
        return {partition: position.offset for partition, position in found.items()}

    async def epoch_ends(self, wanted: Collection[PartitionEpoch]) -> dict[PartitionEpoch, EpochEnd | None]:
        """Where leader epochs, any number for a partition, end in the logs; None where the broker cannot tell."""

        async def ask(asked: Collection[PartitionEpoch]) -> EpochEnds:
            return await requests.epoch_ends(self, asked)

        return await self._answers("reading the end of a leader epoch", ask, wanted)

    async def group(self) -> GroupState:
        """The state and the members of the group."""
        group = self._config.group_id
        answer = await self._retry_answer(f"describing group {group}", DescribeGroupsRequest([group]), _group_error)
        _, _, state, _, _, members, *_ = answer.groups[0]
        return GroupState(state, tuple(f"{client} at {host.removeprefix('/')}" for _, client, host, *_ in members))

    async def may_join(self) -> bool:
        """Whether we have READ on the group: asked with the heartbeat of an unknown member, which changes nothing."""
        group = self._config.group_id
        answer = await self._retry_answer(
            f"checking READ on group {group}", HeartbeatRequest(group, 0, "nobody"), _right_error
        )
        return bool(answer.error_code != kafka_errors.GroupAuthorizationFailedError.errno)

    async def topic_settings(self, names: Sequence[str]) -> dict[str, Mapping[str, str]]:
        """The settings called `names` of each topic that we have the right to describe."""
        wanted = [(_TOPIC, topic, list(names)) for topic in self._cluster.partitions]
        answer = await self._ask_any("describing topics", DescribeConfigsRequest(wanted))
        return {
            topic: {name: value for name, value, *_ in entries if value is not None}
            for code, _, _, topic, entries in answer.resources
            if not code
        }

    async def topic_access(self, topic: str) -> TopicAccess:
        """Whether we have WRITE on a topic that exists, and its replicas. Writes nothing."""
        answer = await self._ask_any(f"asking for our rights on topic {topic}", TopicAccessRequest(topic))
        try:
            return TopicAccessRequest.access(answer)
        except FAILURES as error:
            raise permanent_error(error) or SourceError(f"topic {topic}: {describe(error)}") from error

    async def may_produce_idempotently(self) -> bool:
        """Whether an idempotent producer may begin: asked with the request by which it does. Writes nothing."""
        answer = await self._ask_any("asking for a producer id", InitProducerIdRequest(None, 1000))
        return bool(answer.error_code != kafka_errors.ClusterAuthorizationFailedError.errno)

    async def _ask_any(self, what: str, request: Any) -> Any:
        """The answer of any broker."""
        try:
            async with _within(self._errors, what):
                return await self.ask_broker(self._client.get_random_node(), request)
        except NotImplementedError as error:  # what aiokafka raises where the broker has no such version
            raise SourceError(f"{what} needs Kafka 2.8") from error
        except FAILURES as error:
            raise permanent_error(error) or SourceError(f"{what} failed: {describe(error)}") from error

    async def _retry_answer(self, what: str, request: Any, error_in: Callable[[Any], BaseException | None]) -> Any:
        """The coordinator's first answer without an error that may pass."""

        async def ask() -> Any:
            try:
                answer = await self.ask_coordinator(request)
                if (error := error_in(answer)) is not None:
                    raise error
            except FAILURES:
                self.forget_coordinator()
                raise
            return answer

        def permanent(error: BaseException) -> SourceError | None:
            if log_level(error) == logging.ERROR:
                return SourceError(f"{what} is not allowed", hint="grant DESCRIBE on it")
            return permanent_error(error)

        async with _within(self._errors, what):
            return await retry(
                ask,
                what,
                self._errors,
                message=lambda error: f"{what} failed: {describe(error)}",
                permanent=permanent,
                max_s=_RETRY_MAX_S,
            )

    # -- records

    def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        """Read these partitions from these offsets on, and no others."""
        self._consumer.assign([KafkaPartition(*partition) for partition in positions])
        for partition, offset in positions.items():
            self._consumer.seek(KafkaPartition(*partition), offset)

    async def poll(self, wait_s: float, max_records: int) -> dict[TopicPartition, Sequence[Record]]:
        """The next records, in the order of offsets; none where none came within `wait_s`."""
        try:
            polled = await self._consumer.take(wait_s, max_records)
        except FAILURES as error:
            raise permanent_error(error) or SourceError(f"reading records failed: {describe(error)}") from error
        return {TopicPartition(*partition): records for partition, (records, *_) in polled.items()}

    async def _answers(
        self,
        what: str,
        ask: Callable[[Collection[K]], Awaitable[Mapping[K, V | BaseException]]],
        wanted: Collection[K],
    ) -> dict[K, V]:
        """The answers for these keys. ``SourceError`` where they do not come in time."""
        batcher = RequestBatcher(what, ask, self._errors)
        try:
            async with _within(self._errors, what):
                return dict(zip(wanted, await asyncio.gather(*map(batcher.get, wanted)), strict=True))
        finally:
            await batcher.close()


def _group_error(answer: Any) -> BaseException | None:
    code, group, *_ = answer.groups[0]
    return kafka_errors.for_code(code)(group) if code else None


def _right_error(answer: Any) -> BaseException | None:
    error = kafka_errors.for_code(answer.error_code)
    return error() if issubclass(error, _TRANSIENT) else None
