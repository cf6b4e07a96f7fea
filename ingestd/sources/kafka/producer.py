"""Writes messages into a topic, for ``ingestd produce``."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

from aiokafka.errors import KafkaError

from ingestd.config.model import KafkaConfig
from ingestd.core.errors import SourceError
from ingestd.sources.error_state import ErrorState
from ingestd.sources.kafka._aiokafka import Producer
from ingestd.sources.kafka.auth import client_options
from ingestd.sources.kafka.bootstrap import connect
from ingestd.sources.kafka.errors import describe, permanent_error

_LINGER_MS = 100
_BATCH_BYTES = 512 << 10
_REQUEST_BYTES = 1 << 20
_MAX_UNACKNOWLEDGED = 20_000
_STOP_S = 5.0  # everything was acknowledged before, or cannot be


async def produce(
    config: KafkaConfig,
    topic: str,
    messages: AsyncIterator[tuple[int, bytes, bytes, int]],
    on_progress: Callable[[int], None],
) -> int:
    """Write `messages`: (partition, key, value, Kafka timestamp in milliseconds). Returns how many were acknowledged.

    The partition is taken modulo the topic's number of partitions. `on_progress` is called with the size of each group
    of messages that was acknowledged. Each message is in the log once, also where a broker is lost meanwhile.
    ``SourceError`` where the topic does not exist or a message is refused.
    """
    options = client_options(config)
    partitions = (await connect(config, options, [topic], ErrorState())).partitions[topic]
    producer = Producer(
        bootstrap_servers=list(config.bootstrap_servers),
        acks="all",
        enable_idempotence=True,
        compression_type="lz4",
        linger_ms=_LINGER_MS,
        max_batch_size=_BATCH_BYTES,
        max_request_size=_REQUEST_BYTES,
        **options,
    )
    total = 0
    unacknowledged: deque[Any] = deque()
    try:
        await producer.start()
        async for partition, key, value, timestamp in messages:
            sent = producer.send(topic, value=value, key=key, partition=partition % partitions, timestamp_ms=timestamp)
            unacknowledged.append(await sent)
            if unacknowledged[0].done() or len(unacknowledged) >= _MAX_UNACKNOWLEDGED:
                total += await _acknowledged(unacknowledged, on_progress)
        await producer.flush()
        total += await _acknowledged(unacknowledged, on_progress)
    except KafkaError as error:
        raise permanent_error(error) or SourceError(f"writing to topic {topic} failed: {describe(error)}") from error
    finally:
        # It would wait for brokers that may never come back.
        with suppress(TimeoutError):
            async with asyncio.timeout(_STOP_S):
                await producer.stop()
        for future in unacknowledged:
            # asyncio would report each error that nobody has read.
            future.cancelled() or future.exception()
    return total


async def _acknowledged(unacknowledged: deque[Any], on_progress: Callable[[int], None]) -> int:
    """Wait for the oldest message; remove it and all acknowledged ones that follow it. Returns how many."""
    count = 0
    while unacknowledged and (not count or unacknowledged[0].done()):
        await unacknowledged.popleft()
        count += 1
    if count:
        on_progress(count)
    return count
