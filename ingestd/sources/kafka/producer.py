"""Writes messages into a topic, for ``ingestd produce``."""

from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from ingestd.config.model import KafkaConfig
from ingestd.core.errors import SourceError
from ingestd.sources.kafka.bootstrap import client_options, connect, describe, meaning
from ingestd.sources.kafka.error_state import ErrorState

_LINGER_MS = 100
_BATCH_BYTES = 512 << 10
_REQUEST_BYTES = 1 << 20
_UNDERWAY_MAX = 20_000  # messages that were sent and not acknowledged


async def produce(
    config: KafkaConfig,
    topic: str,
    messages: AsyncIterator[tuple[int, bytes, bytes, int]],
    on_progress: Callable[[int], None],
) -> int:
    """Write all of `messages`: (partition, key, value, Kafka timestamp in milliseconds); how many were acknowledged.

    The partition is taken modulo the topic's number of them. `on_progress` hears of each group of messages that was
    acknowledged, by its size. Each message is in the log once, also where a broker is lost meanwhile. ``SourceError``
    where the topic does not exist or a message is refused.
    """
    options = client_options(config)
    partitions = (await connect(config, options, [topic], ErrorState())).partitions[topic]
    producer: Any = AIOKafkaProducer(
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
    underway: deque[Any] = deque()
    try:
        await producer.start()
        async for partition, key, value, timestamp in messages:
            sent = producer.send(topic, value=value, key=key, partition=partition % partitions, timestamp_ms=timestamp)
            underway.append(await sent)
            if underway[0].done() or len(underway) >= _UNDERWAY_MAX:
                total += await _acknowledged(underway, on_progress)
        await producer.flush()
        total += await _acknowledged(underway, on_progress)
    except KafkaError as error:
        raise meaning(error) or SourceError(f"writing to topic {topic} fails: {describe(error)}") from error
    finally:
        await producer.stop()
        for future in underway:
            # Without a look at it, each failure would be reported when it is collected.
            future.cancelled() or future.exception()
    return total


async def _acknowledged(underway: deque[Any], on_progress: Callable[[int], None]) -> int:
    """Take the oldest message and all that follow it and are acknowledged, too."""
    count = 0
    while underway and (not count or underway[0].done()):
        await underway.popleft()
        count += 1
    if count:
        on_progress(count)
    return count
