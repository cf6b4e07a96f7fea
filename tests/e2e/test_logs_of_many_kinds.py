"""Logs whose offsets have gaps: transactions, and compaction."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from tests.conftest import MakeTopic
from tests.e2e.conftest import MakeDaemon
from tests.e2e.daemon import DEADLINE
from tests.e2e.events import event_id, events, is_good
from tests.e2e.group import caught_up, ends
from tests.e2e.ledger import Ledger, read
from tests.services.kafka import KafkaAddress, KafkaBroker
from tests.services.seaweed import S3Store

Broker = KafkaAddress | KafkaBroker

MANY_OBJECTS = {"batch.records": "100"}
# Segments of a kilobyte or so, cleaned as soon as they are closed.
COMPACTED = {
    "cleanup.policy": "compact",
    "segment.bytes": str(1 << 20),
    "min.cleanable.dirty.ratio": "0.001",
    "delete.retention.ms": "0",
    "segment.ms": "500",
    "max.compaction.lag.ms": "500",
}


async def offsets_by_partition(bootstrap: str, topic: str, partitions: int) -> dict[int, set[int]]:
    """What a consumer of committed records sees, from the beginning to the end."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, isolation_level="read_committed", enable_auto_commit=False)
    await consumer.start()
    seen: dict[int, set[int]] = {number: set() for number in range(partitions)}
    try:
        assigned = [TopicPartition(topic, number) for number in range(partitions)]
        consumer.assign(assigned)
        await consumer.seek_to_beginning()
        end = await consumer.end_offsets(assigned)
        while any([await consumer.position(each) < end[each] for each in assigned]):
            for partition, records in (await consumer.getmany(timeout_ms=200)).items():
                seen[partition.partition].update(record.offset for record in records)
    finally:
        await consumer.stop()
    return seen


async def write_transactions(bootstrap: str, topic: str, partitions: int) -> tuple[dict[int, set[int]], set[str]]:
    """Two producers whose transactions interleave, every third is aborted. Offsets and ids of what was committed."""
    producers = [
        AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id=f"{topic}-{number}") for number in range(2)
    ]
    for producer in producers:
        await producer.start()
    offsets: dict[int, set[int]] = {number: set() for number in range(partitions)}
    ids: set[str] = set()
    source = events()
    try:
        for round_number in range(15):
            for producer in producers:
                await producer.begin_transaction()
            sent = defaultdict(list)
            for _ in range(200):
                number, key, value = next(source)
                chosen = producers[number % 2]
                partition = number // 2 % partitions
                sent[chosen].append((number, await chosen.send(topic, value, key, partition=partition)))
            for turn, producer in enumerate(producers):
                acknowledged = [(number, await future) for number, future in sent[producer]]
                if (2 * round_number + turn) % 3 == 2:
                    await producer.abort_transaction()
                    continue
                await producer.commit_transaction()
                for number, metadata in acknowledged:
                    offsets[metadata.partition].add(metadata.offset)
                    if is_good(number):
                        ids.add(event_id(number))
    finally:
        for producer in producers:
            await producer.stop()
    return offsets, ids


async def test_aborted_records_are_in_no_row(
    kafka: Broker, s3: S3Store, bucket: str, make_topic: MakeTopic, make_daemon: MakeDaemon
) -> None:
    topic = await make_topic(2)
    daemon = make_daemon("a", topic, MANY_OBJECTS)
    await daemon.start_ready()

    offsets, ids = await write_transactions(kafka.bootstrap, topic, 2)
    await caught_up(kafka.bootstrap, topic, topic, ends(offsets))

    assert all(max(part) > len(part) for part in offsets.values()), "the offsets have no gaps"
    status = await daemon.until(lambda status: all(each.lag == 0 for each in status.partitions))
    assert [reason.code for reason in status.reasons] == []
    assert await daemon.stop() == 0
    read(s3, bucket, topic).check(offsets, ids)


