"""The first contact with a cluster, one server and one topic at a time: for `ingestd check`, which tells what fails."""

import asyncio
from collections.abc import Collection, Mapping
from typing import Any

import msgspec
from aiokafka import errors as kafka_errors
from aiokafka.conn import collect_hosts, create_conn

from ingestd.config.model import KafkaConfig
from ingestd.core.errors import SourceError
from ingestd.sources.kafka.bootstrap import (
    FAILURES,
    MISSING_LOOKS,
    RETRY_INITIAL_S,
    ask,
    client_options,
    describe,
    meaning,
    no_contact,
)
from ingestd.sources.kafka.inspector import WITHIN_S

_TRIES, _PAUSE_S = 3, 1.0  # of a server that refuses at once
_ONE_TRY_S = 10.0  # of a connection that is just opened and closed


async def bootstrap(config: KafkaConfig) -> dict[str, str | SourceError]:
    """For each of ``kafka.bootstrap_servers`` the id of its cluster, or why there is none. ``ConfigError``."""
    options = client_options(config)
    found = await asyncio.gather(*(_cluster_id(config, options, server) for server in config.bootstrap_servers))
    return dict(zip(config.bootstrap_servers, found, strict=True))


async def _cluster_id(config: KafkaConfig, options: Mapping[str, Any], server: str) -> str | SourceError:
    alone = msgspec.structs.replace(config, bootstrap_servers=(server,))
    error = SourceError(f"Kafka at {server} has not answered within {WITHIN_S:g} s")
    try:
        async with asyncio.timeout(WITHIN_S):
            for _ in range(_TRIES):
                try:
                    return (await ask(alone, options, ()))[0].id
                except FAILURES as failure:
                    if (final := meaning(failure)) is not None:
                        return final
                    error = SourceError(no_contact(alone, failure))
                await asyncio.sleep(_PAUSE_S)
    except TimeoutError:
        pass
    except SourceError as final:
        return final
    return error


async def partitions(config: KafkaConfig) -> dict[str, int | SourceError]:
    """How many partitions each topic has, or why that is not known. ``SourceError`` where no broker answers."""
    options = client_options(config)
    try:
        async with asyncio.timeout(WITHIN_S):
            cluster, codes = await ask(config, options, config.topics)
            for _ in range(MISSING_LOOKS - 1):
                if any(codes.values()):
                    await asyncio.sleep(RETRY_INITIAL_S)
                    cluster, codes = await ask(config, options, config.topics)
    except FAILURES as error:
        raise meaning(error) or SourceError(f"asking for topics fails: {describe(error)}") from error
    return {topic: _count(topic, cluster.partitions.get(topic, 0), codes.get(topic, -1)) for topic in config.topics}


def _count(topic: str, partitions: int, code: int) -> int | SourceError:
    error = kafka_errors.for_code(code)
    if error is kafka_errors.NoError:
        return partitions
    if error is kafka_errors.UnknownTopicOrPartitionError:
        return SourceError(f"topic {topic} does not exist", hint="create it, or correct kafka.topics")
    if error is kafka_errors.TopicAuthorizationFailedError:
        return SourceError(f"topic {topic} is not shown to our user", hint="grant READ on it")
    return meaning(error(topic)) or SourceError(f"topic {topic} cannot be used: {describe(error(topic))}")


async def reach(config: KafkaConfig, servers: Collection[str]) -> dict[str, SourceError | None]:
    """Connect to each of these host:port, with all that a connection needs; None where that went well."""
    options = client_options(config)
    found = await asyncio.gather(*(_connect(server, options) for server in servers))
    return dict(zip(servers, found, strict=True))


async def _connect(server: str, options: Mapping[str, Any]) -> SourceError | None:
    [(host, port, _)] = collect_hosts([server], randomize=False)
    try:
        async with asyncio.timeout(_ONE_TRY_S):
            connection = await create_conn(host, port, **options)
    except TimeoutError:
        return SourceError(f"no answer within {_ONE_TRY_S:g} s")
    except (*FAILURES, ValueError, KeyError) as error:  # the latter two are aiokafka's for a SCRAM exchange that fails
        return meaning(error) or SourceError(describe(error))
    connection.close()
    return None
