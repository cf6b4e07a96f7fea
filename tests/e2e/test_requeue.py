"""`ingestd requeue` as a process, on a real broker and a real store: what was quarantined lands in the end, once."""

import asyncio
import random
import secrets
import signal
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from tests.conftest import MakeTopic
from tests.e2e.conftest import MakeDaemon
from tests.e2e.daemon import DEADLINE, credentials, settings
from tests.e2e.group import caught_up
from tests.e2e.loader import in_bucket
from tests.e2e.requeue import Requeue, requeued, until
from tests.e2e.test_bad_input import event, send
from tests.services.kafka import KafkaAddress, KafkaBroker, topic_admin
from tests.services.seaweed import S3Store

Broker = KafkaAddress | KafkaBroker

STRICT = {"events.unknown_types": "reject", "breaker.max_share": "1"}
UNKNOWN, BROKEN, GOOD = 150, 20, 30


class Scene(NamedTuple):
    """A topic whose records have landed, some of them in the quarantine."""

    topic: str
    offsets: dict[str, int]  # of the records of an unknown type, by key
    requeue: Requeue


@pytest.fixture
async def scene(
    kafka: Broker, s3: S3Store, bucket: str, make_topic: MakeTopic, make_daemon: MakeDaemon, *, tmp_path: Path
) -> AsyncIterator[Scene]:
    topic = await make_topic(1)
    values: dict[str, bytes | None] = {}
    for number in range(UNKNOWN):
        values[f"unknown {number}"] = event(f"unknown {number}", event_type="card_payment")
        if number < BROKEN:
            values[f"broken {number}"] = b"<html>502 Bad Gateway</html>"
        if number < GOOD:
            values[f"good {number}"] = event(f"good {number}")
    sent = await send(kafka.bootstrap, topic, values)
    daemon = make_daemon("strict", topic, {**STRICT, "batch.records": "100", "kafka.max_records": "50"})
    await daemon.start_ready()
    await caught_up(kafka.bootstrap, topic, topic, {0: len(values)})
    assert await daemon.stop() == 0
    unknown = {name: it.offset for name, it in sent.items() if name.startswith("unknown")}
    requeue = Requeue(tmp_path, settings(kafka.bootstrap, s3, bucket, topic), credentials(s3))
    yield Scene(topic, unknown, requeue)
    await requeue.close()


def origins(records: list[Any]) -> Counter[int]:
    """How often each offset is the origin of a record."""
    return Counter(int(dict(record.headers)["ingestd-origin-offset"]) for record in records)


def receipts(store: S3Store, bucket: str) -> int:
    """How many there are."""
    with closing(store.client()) as client:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="requeued/")
        return sum(page.get("KeyCount", 0) for page in pages)


async def test_what_was_quarantined_lands_once_with_its_origin(
    kafka: Broker, s3: S3Store, bucket: str, make_daemon: MakeDaemon, scene: Scene
) -> None:
    topic = scene.topic

    dry = await scene.requeue.run("--dry-run")
    assert (dry["read"], dry["good"], dry["produced"]) == (UNKNOWN + BROKEN, UNKNOWN, 0)
    assert receipts(s3, bucket) == 0
    assert not await requeued(kafka.bootstrap, topic)

    report = await scene.requeue.run()
    assert (report["good"], report["produced"]) == (UNKNOWN, UNKNOWN)
    assert report["failing"] == {"not_json": BROKEN}
    again = await scene.requeue.run()
    assert (again["already_requeued"], again["produced"]) == (UNKNOWN, 0)

    records = await requeued(kafka.bootstrap, topic)
    assert origins(records) == dict.fromkeys(scene.offsets.values(), 1)
    for record in records:
        headers = dict(record.headers)
        assert record.value == event(record.key.decode(), event_type="card_payment")
        assert headers["trace"] == b"\x00\xff"
        assert headers["none"] is None
        assert headers["ingestd-origin-topic"] == topic.encode()
        assert headers["ingestd-origin-partition"] == b"0"
        assert headers["ingestd-origin-reason"] == b"unknown_type"
        assert int(headers["ingestd-origin-offset"]) == scene.offsets[record.key.decode()]
        assert int(headers["ingestd-origin-timestamp"]) < record.timestamp

    daemon = make_daemon("lenient", topic)
    await daemon.start_ready()
    await daemon.until(lambda status: status.totals.consumed == UNKNOWN and not status.totals.in_flight)
    assert await daemon.stop() == 0
    rows = Counter(row["event_id"] for it in in_bucket(s3, bucket) for row in it.rows)
    assert rows == dict.fromkeys([*scene.offsets, *(f"good {number}" for number in range(GOOD))], 1)


async def test_killed_at_random_moments_it_produces_none_twice(
    kafka: Broker, s3: S3Store, bucket: str, scene: Scene
) -> None:
    await scene.requeue.run_killed(random.Random(4), most=16, pause_s=0.04)
    assert origins(await requeued(kafka.bootstrap, scene.topic)) == dict.fromkeys(scene.offsets.values(), 1)
    assert (await scene.requeue.run())["already_requeued"] == UNKNOWN


async def test_two_at_once_produce_none_twice(kafka: Broker, scene: Scene) -> None:
    first, second = [await scene.requeue.start() for _ in range(2)]
    async with asyncio.timeout(DEADLINE):
        await asyncio.gather(first.communicate(), second.communicate())
    assert {first.returncode, second.returncode} <= {0, 1}
    await scene.requeue.run()
    assert origins(await requeued(kafka.bootstrap, scene.topic)) == dict.fromkeys(scene.offsets.values(), 1)


async def test_takes_over_from_one_that_is_under_way(kafka: Broker, s3: S3Store, bucket: str, scene: Scene) -> None:
    first = await scene.requeue.start()
    await until(lambda: receipts(s3, bucket) >= 3)
    first.send_signal(signal.SIGSTOP)
    report = await scene.requeue.run()
    assert report["already_requeued"] + report["produced"] == UNKNOWN
    first.send_signal(signal.SIGCONT)
    async with asyncio.timeout(DEADLINE):
        await first.communicate()
    assert first.returncode == 1
    assert origins(await requeued(kafka.bootstrap, scene.topic)) == dict.fromkeys(scene.offsets.values(), 1)


async def configure(bootstrap: str, topic: str, settings: Mapping[str, str]) -> None:
    """Give a topic these settings instead of those that it has."""
    async with topic_admin(bootstrap) as admin:
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, dict(settings))])


async def test_records_that_the_topic_refuses_stay_and_the_others_go(
    kafka: Broker, s3: S3Store, bucket: str, make_topic: MakeTopic, make_daemon: MakeDaemon, *, tmp_path: Path
) -> None:
    topic, target = await make_topic(1), await make_topic(1)
    count, large, keyless = 12, 4, 9
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap) as producer:
        for number in range(count):
            filler = secrets.token_hex(60_000 if number == large else 10)
            value = event(f"event {number}", event_type="card_payment", filler=filler)
            await producer.send_and_wait(topic, value, b"%d" % number if number != keyless else None, partition=0)
    daemon = make_daemon("strict", topic, STRICT)
    await daemon.start_ready()
    await caught_up(kafka.bootstrap, topic, topic, {0: count})
    assert await daemon.stop() == 0
    requeue = Requeue(tmp_path, settings(kafka.bootstrap, s3, bucket, topic), credentials(s3), records=4096)

    try:
        strict = {"cleanup.policy": "compact", "max.message.bytes": "50000", "min.cleanable.dirty.ratio": "1"}
        await configure(kafka.bootstrap, target, strict)
        report = await requeue.run("--to", target, exit_code=1)
        assert (report["good"], report["produced"], report["refused"]) == (count, count - 2, 2)
        first, second = report["refused_records"]
        assert (first["topic"], first["partition"], first["offset"]) == (topic, 0, large)
        assert "max.message.bytes" in first["reason"]
        assert (second["topic"], second["partition"], second["offset"]) == (topic, 0, keyless)
        assert "without a key" in second["reason"]

        await configure(kafka.bootstrap, target, strict | {"max.message.bytes": "500000"})
        report = await requeue.run("--to", target, exit_code=1)
        assert (report["already_requeued"], report["produced"], report["refused"]) == (count - 2, 1, 1)

        await configure(kafka.bootstrap, target, {})
        report = await requeue.run("--to", target)
        assert (report["already_requeued"], report["produced"], report["refused"]) == (count - 1, 1, 0)
        records = await requeued(kafka.bootstrap, target)
        order = [number for number in range(count) if number not in (large, keyless)]
        assert [int(dict(record.headers)["ingestd-origin-offset"]) for record in records] == [*order, large, keyless]
    finally:
        await requeue.close()
