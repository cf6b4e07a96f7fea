"""Checks bootstrap servers, topics and brokers one by one, for `ingestd check`."""

import asyncio
from collections.abc import Collection, Mapping
from typing import Any

import msgspec
from aiokafka import errors as kafka_errors

from ingestd.config.model import KafkaConfig
from ingestd.core.errors import SourceError
from ingestd.sources.kafka._aiokafka import collect_hosts, create_conn
from ingestd.sources.kafka.auth import client_options
from ingestd.sources.kafka.bootstrap import MISSING_LOOKS, ask, no_contact
from ingestd.sources.kafka.errors import FAILURES, describe, permanent_error
from ingestd.sources.kafka.inspector import ANSWER_TIMEOUT_S
from ingestd.sources.kafka.retry import RETRY_INITIAL_S

_TRIES, _PAUSE_S = 3, 1.0  # for a server that refuses at once
_CONNECT_TIMEOUT_S = 10.0


async def bootstrap(config: KafkaConfig) -> dict[str, str | SourceError]:
    """For each of ``kafka.bootstrap_servers`` the id of its cluster, or the error. Raises ``ConfigError``."""
    options = client_options(config)
    found = await asyncio.gather(*(_cluster_id(config, options, server) for server in config.bootstrap_servers))
    return dict(zip(config.bootstrap_servers, found, strict=True))


async def _cluster_id(config: KafkaConfig, options: Mapping[str, Any], server: str) -> str | SourceError:
    alone = msgspec.structs.replace(config, bootstrap_servers=(server,))
    error = SourceError(f"Kafka at {server} has not answered within {ANSWER_TIMEOUT_S:g} s")
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            for _ in range(_TRIES):
                try:
                    return (await ask(alone, options, ()))[0].id
                except FAILURES as failure:
                    if (final := permanent_error(failure)) is not None:
                        return final
                    error = SourceError(no_contact(alone, failure))
                await asyncio.sleep(_PAUSE_S)
    except TimeoutError:
        pass
    except SourceError as final:
        return final
    return error


async def partitions(config: KafkaConfig) -> dict[str, int | SourceError]:
    """How many partitions each topic has, or the error. Raises ``SourceError`` where no broker answers."""
    options = client_options(config)
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            cluster, codes = await ask(config, options, config.topics)
            for _ in range(MISSING_LOOKS - 1):
                if any(codes.values()):
                    await asyncio.sleep(RETRY_INITIAL_S)
                    cluster, codes = await ask(config, options, config.topics)
    except FAILURES as error:
        raise permanent_error(error) or SourceError(f"reading topics failed: {describe(error)}") from error
    return {topic: _count(topic, cluster.partitions.get(topic, 0), codes.get(topic, -1)) for topic in config.topics}


def _count(topic: str, partitions: int, code: int) -> int | SourceError:
    error = kafka_errors.for_code(code)
    if error is kafka_errors.NoError:
        return partitions
    if error is kafka_errors.UnknownTopicOrPartitionError:
        return SourceError(f"topic {topic} does not exist", hint="create it, or correct kafka.topics")
    if error is kafka_errors.TopicAuthorizationFailedError:
        return SourceError(f"topic {topic} is not visible to our user", hint="grant READ on it")
    return permanent_error(error(topic)) or SourceError(f"topic {topic} cannot be used: {describe(error(topic))}")


async def reach(config: KafkaConfig, servers: Collection[str]) -> dict[str, SourceError | None]:
    """Connect and log in to each of these host:port; the error, or None where that succeeded."""
    options = client_options(config)
    found = await asyncio.gather(*(_connect(server, options) for server in servers))
    return dict(zip(servers, found, strict=True))


async def _connect(server: str, options: Mapping[str, Any]) -> SourceError | None:
    [(host, port, _)] = collect_hosts([server], randomize=False)
    try:
        async with asyncio.timeout(_CONNECT_TIMEOUT_S):
            connection = await create_conn(host, port, **options)
    except TimeoutError:
        return SourceError(f"no answer within {_CONNECT_TIMEOUT_S:g} s")
    except (*FAILURES, ValueError, KeyError) as error:  # aiokafka raises the latter two for a SCRAM exchange that fails
        return permanent_error(error) or SourceError(describe(error))
    connection.close()
    return None
