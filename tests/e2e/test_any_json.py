"""Topics of any JSON: each object is a row as it is, what is none is quarantined, and the proof holds for them."""

import gzip
import json
from contextlib import closing
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from tests.conftest import MakeTopic
from tests.e2e.conftest import MakeDaemon
from tests.e2e.daemon import credentials, settings
from tests.e2e.group import caught_up
from tests.e2e.stream import run_verify
from tests.e2e.test_bad_input import quarantined_in
from tests.services.kafka import KafkaAddress
from tests.services.seaweed import S3Store

VALUES = (
    b'{"order": 1, "total": 12345678901234567890.1234567890, "meta": {"at": "2026-11-29T08:00:00+01:00"}}',
    b'{ "order": 2,\n "tags": ["\\u00e4", null], "meta": {"at": 1795935600}}',
    b'{"order": 3}',
    b'["no object"]',
    None,
)
JSON = {
    "events.model": "json",
    "events.timestamp_field": "meta.at",
    "breaker.max_share": "1",
    "events.include": "key,headers",
}


def rows_in(store: S3Store, bucket: str) -> list[dict[str, Any]]:
    with closing(store.client()) as client:
        entries = client.list_objects_v2(Bucket=bucket, Prefix="events/")["Contents"]
        bodies = [client.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read() for entry in entries]
    return [json.loads(line, parse_float=str) for body in bodies for line in gzip.decompress(body).splitlines()]


async def test_each_object_is_a_row_as_it_is_and_everything_is_proven(
    kafka: KafkaAddress, s3: S3Store, bucket: str, make_topic: MakeTopic, make_daemon: MakeDaemon
) -> None:
    topic = await make_topic(1)
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap) as producer:
        for value in VALUES:
            await producer.send_and_wait(topic, value, b"key", partition=0, headers=[("h", b"1"), ("h", b"\xff")])
    daemon = make_daemon("a", topic, JSON)
    await daemon.start_ready()
    await caught_up(kafka.bootstrap, topic, topic, {0: len(VALUES)})
    assert await daemon.stop() == 0

    rows = rows_in(s3, bucket)
    assert [(row["source_offset"], row["event_timestamp"]) for row in rows] == [
        (0, "2026-11-29T07:00:00Z"),
        (1, "2026-11-29T07:00:00Z"),
    ]
    assert [row["record"] for row in rows] == [json.loads(value or b"", parse_float=str) for value in VALUES[:2]]
    headers = [{"name": "h", "value": "1"}, {"name": "h", "value_base64": "/w=="}]
    assert [(row["source_key"], row["source_headers"]) for row in rows] == [("key", headers)] * 2
    found = {offset: (line.reason, line.path) for offset, line in quarantined_in(s3, bucket).items()}
    assert found == {2: ("missing_field", "$.meta"), 3: ("wrong_type", "$"), 4: ("null_value", "$")}
    report = run_verify({**settings(kafka.bootstrap, s3, bucket, topic), **JSON}, credentials(s3), "--read")
    assert report.ok
    assert (report.totals.rows, report.totals.rejected) == (2, 3)


@pytest.mark.parametrize("tombstones", ["row", "skip"])
async def test_tombstones_are_rows_or_counted_and_a_partition_of_nothing_else_has_no_lag(
    kafka: KafkaAddress, s3: S3Store, bucket: str, make_topic: MakeTopic, make_daemon: MakeDaemon, *, tombstones: str
) -> None:
    topic = await make_topic(2)
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap) as producer:
        for number, value in enumerate((None, b'{"order": 1}', None, b"[", None)):
            await producer.send_and_wait(topic, value, b"key %d" % number, partition=0)
        for number in range(3):
            await producer.send_and_wait(topic, None, b"key %d" % number, partition=1)
    keys = {"events.model": "json", "events.tombstones": tombstones, "events.include": "key", "breaker.max_share": "1"}
    daemon = make_daemon("a", topic, keys)
    await daemon.start_ready()
    await caught_up(kafka.bootstrap, topic, topic, {0: 5, 1: 3})
    status = await daemon.until(lambda status: not status.totals.in_flight)
    assert [it.lag for it in status.partitions] == [0, 0]
    assert await daemon.stop() == 0

    columns = ("source_partition", "source_offset", "source_key", "record")
    rows = sorted(([row[column] for column in columns] for row in rows_in(s3, bucket)), key=lambda row: row[:2])
    null: list[list[Any]] = [[0, at, f"key {at}", None] for at in (0, 2, 4)] + [
        [1, at, f"key {at}", None] for at in range(3)
    ]
    wanted: list[list[Any]] = [[0, 1, "key 1", {"order": 1}], *(null if tombstones == "row" else [])]
    assert rows == sorted(wanted, key=lambda row: row[:2])
    report = run_verify({**settings(kafka.bootstrap, s3, bucket, topic), **keys}, credentials(s3), "--read")
    assert report.ok
    totals = report.totals
    assert (totals.rows, totals.rejected, totals.skipped) == ((1, 1, 6) if tombstones == "skip" else (7, 1, 0))
