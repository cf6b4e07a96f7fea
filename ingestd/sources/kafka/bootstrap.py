"""Finds the cluster and the topics before any client of aiokafka connects."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from aiokafka import errors as kafka_errors

from ingestd.config.model import KafkaConfig
from ingestd.core.errors import SourceError
from ingestd.sources.error_state import ErrorState
from ingestd.sources.kafka._aiokafka import MetadataRequest, collect_hosts, create_conn
from ingestd.sources.kafka.errors import FAILURES, describe, permanent_error
from ingestd.sources.kafka.retry import retry

MISSING_LOOKS = 4  # a topic that was created a moment ago is not known to every broker yet


class Cluster(NamedTuple):
    """A cluster's id, "" where it has none, and how many partitions each topic has."""

    id: str
    partitions: Mapping[str, int]


async def connect(
    config: KafkaConfig, options: Mapping[str, Any], topics: Sequence[str], errors: ErrorState
) -> Cluster:
    """Find the cluster and the topics; retry until it succeeds. ``SourceError`` where retrying cannot help.

    aiokafka's own bootstrap hides why it failed, and its metadata requests create missing topics.
    """
    looks = 0

    async def find() -> Cluster:
        nonlocal looks
        cluster, codes = await ask(config, options, topics)
        looks += 1
        if (missing := _missing(topics, cluster, codes, last_look=looks >= MISSING_LOOKS)) is not None:
            raise missing
        return cluster

    return await retry(find, "connect", errors, message=lambda error: no_contact(config, error))


def no_contact(config: KafkaConfig, error: BaseException) -> str:
    """The message for a bootstrap request that failed and is retried."""
    message = f"Kafka at {', '.join(config.bootstrap_servers)} cannot be used: {describe(error)}"
    if isinstance(error, ConnectionResetError | kafka_errors.KafkaConnectionError):
        # A broker resets the connection of a client that speaks TLS on a plaintext port, or the other way round.
        message += f"; if it runs, check that the port speaks kafka.security_protocol = {config.security_protocol}"
    return message


def _missing(
    topics: Sequence[str], cluster: Cluster, codes: Mapping[str, int], *, last_look: bool
) -> kafka_errors.KafkaError | None:
    """The error of the first topic that cannot be read yet. ``SourceError`` where it does not exist."""
    for topic in topics:
        error = kafka_errors.for_code(codes.get(topic, kafka_errors.UnknownTopicOrPartitionError.errno))
        if error is kafka_errors.UnknownTopicOrPartitionError and last_look:
            raise SourceError(f"topic {topic} does not exist", hint="create it, or correct kafka.topics")
        if error is not kafka_errors.NoError:
            return error(topic)
        if not cluster.partitions[topic]:
            return kafka_errors.LeaderNotAvailableError(topic)
    return None


async def ask(
    config: KafkaConfig, options: Mapping[str, Any], topics: Sequence[str]
) -> tuple[Cluster, Mapping[str, int]]:
    """The cluster and an error code for each topic, from the first bootstrap server that answers."""
    failure: BaseException = kafka_errors.NoBrokersAvailable()
    for host, port, _ in collect_hosts(list(config.bootstrap_servers)):
        try:
            connection = await create_conn(host, port, **options)
            try:
                answer = (
                    await connection.send(MetadataRequest(list(topics), allow_auto_topic_creation=False))
                ).to_object()
            finally:
                connection.close()
        except FAILURES as error:
            if (final := permanent_error(error)) is not None:
                raise final from error
            failure = error
        except (ValueError, KeyError) as error:
            # aiokafka raises these where the broker does not prove in a SCRAM exchange that it knows our password.
            raise SourceError(f"the broker at {host}:{port} fails the SASL exchange: {describe(error)}") from error
        else:
            partitions = {topic["topic"]: len(topic["partitions"]) for topic in answer["topics"]}
            codes = {topic["topic"]: topic["error_code"] for topic in answer["topics"]}
            return Cluster(answer.get("cluster_id") or "", partitions), codes
    raise failure
