"""Logs whose offsets have gaps: transactions, and compaction."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import islice
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from tests.conftest import MakeTopic
from tests.e2e.conftest import MakeDaemon
from tests.e2e.daemon import DEADLINE
from tests.e2e.events import event_id, events, is_good
from tests.e2e.group import caught_up, ends
from tests.e2e.ledger import read
from tests.services.kafka import KafkaAddress, KafkaBroker, topic_admin
from tests.services.seaweed import S3Store

Broker = KafkaAddress | KafkaBroker

MANY_OBJECTS = {"batch.records": "100"}
# Segments are closed by the first write after half a second, and cleaned as soon as they are closed.
COMPACTED = {
    "cleanup.policy": "compact",
    "segment.ms": "500",
    "min.cleanable.dirty.ratio": "0.001",
    "max.compaction.lag.ms": "500",
}
KEYS = 50


@asynccontextmanager
async def writer(bootstrap: str, **options: Any) -> AsyncIterator[Any]:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, **options)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def seen(bootstrap: str, topic: str, partitions: int) -> dict[int, set[int]]:
    """What a consumer of committed records sees, from the beginning to the end."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, isolation_level="read_committed", enable_auto_commit=False)
    await consumer.start()
    found: dict[int, set[int]] = {number: set() for number in range(partitions)}
    try:
        assigned = [TopicPartition(topic, number) for number in range(partitions)]
        consumer.assign(assigned)
        await consumer.seek_to_beginning()
        end = await consumer.end_offsets(assigned)
        while any([await consumer.position(each) < end[each] for each in assigned]):
            for partition, records in (await consumer.getmany(timeout_ms=200)).items():
                found[partition.partition].update(record.offset for record in records)
    finally:
        await consumer.stop()
    return found


async def write_transactions(bootstrap: str, topic: str) -> tuple[dict[int, set[int]], set[str]]:
    """Interleave the transactions of two producers, every third is aborted; offsets and ids of what was committed."""
    offsets: dict[int, set[int]] = {0: set(), 1: set()}
    ids: set[str] = set()
    source = events()
    async with (
        writer(bootstrap, transactional_id=f"{topic}-a") as first,
        writer(bootstrap, transactional_id=f"{topic}-b") as second,
    ):
        for turn in range(15):
            for producer in (first, second):
                await producer.begin_transaction()
            sent: dict[Any, list[tuple[int, Any]]] = {first: [], second: []}
            for number, key, value in islice(source, 200):
                producer = (first, second)[number % 2]
                sent[producer].append((number, await producer.send(topic, value, key, partition=number // 2 % 2)))
            for place, (producer, messages) in enumerate(sent.items()):
                written = [(number, await future) for number, future in messages]
                if (2 * turn + place) % 3 == 2:
                    await producer.abort_transaction()
                    continue
                await producer.commit_transaction()
                for _, metadata in written:
                    offsets[metadata.partition].add(metadata.offset)
                ids |= {event_id(number) for number, _ in written if is_good(number)}
    return offsets, ids


async def test_aborted_records_are_in_no_row(
    kafka: Broker, s3: S3Store, bucket: str, make_topic: MakeTopic, make_daemon: MakeDaemon
) -> None:
    topic = await make_topic(2)
    daemon = make_daemon("a", topic, MANY_OBJECTS)
    await daemon.start_ready()

    offsets, ids = await write_transactions(kafka.bootstrap, topic)
    await caught_up(kafka.bootstrap, topic, topic, ends(offsets))

    assert all(max(part) > len(part) for part in offsets.values()), "the offsets have no gaps"
    assert await seen(kafka.bootstrap, topic, 2) == offsets
    await daemon.until(lambda status: status.ready and all(each.lag == 0 for each in status.partitions))
    assert await daemon.stop() == 0
    read(s3, bucket, topic).check(offsets, ids)


async def write_until_compacted(bootstrap: str, topic: str) -> dict[int, int]:
    """Write events with few keys into the first partition until some have gone; all of their numbers, by offset."""
    numbers: dict[int, int] = {}
    source = events()
    limit = time.monotonic() + DEADLINE
    async with topic_admin(bootstrap) as admin, writer(bootstrap) as producer:
        while len((await seen(bootstrap, topic, 1))[0]) == len(numbers):
            assert time.monotonic() < limit, "the broker does not compact"
            sent = [
                (number, await producer.send(topic, value, b"%d" % (number % KEYS), partition=0))
                for number, _, value in islice(source, 300)
            ]
            numbers |= {(await future).offset: number for number, future in sent}
            await asyncio.sleep(0.6)  # so that the next write closes the segment
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {"cleanup.policy": "delete"})])
    return numbers


async def test_records_that_compaction_has_removed_are_gaps(
    kafka: Broker, s3: S3Store, bucket: str, make_topic: MakeTopic, make_daemon: MakeDaemon
) -> None:
    topic = await make_topic(1, COMPACTED)
    numbers = await write_until_compacted(kafka.bootstrap, topic)
    left = await seen(kafka.bootstrap, topic, 1)
    daemon = make_daemon("a", topic, MANY_OBJECTS)

    await daemon.start_ready()
    await caught_up(kafka.bootstrap, topic, topic, ends(left))

    assert await daemon.stop() == 0
    assert await seen(kafka.bootstrap, topic, 1) == left, "compaction went on meanwhile"
    assert len(left[0]) < len(numbers)
    ids = {event_id(numbers[offset]) for offset in left[0] if is_good(numbers[offset])}
    read(s3, bucket, topic).check(left, ids)
