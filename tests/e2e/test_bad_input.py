"""What producers get wrong, through a real broker into a real store."""

import asyncio
import gzip
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from itertools import chain
from typing import Any, NamedTuple

import pytest
from aiokafka import AIOKafkaProducer

from ingestd.core import quarantine
from ingestd.core.object_keys import QUARANTINE
from ingestd.core.quarantine import Quarantined
from ingestd.core.rejections import Reason
from tests.conftest import MakeTopic
from tests.e2e.conftest import MakeDaemon
from tests.e2e.daemon import Daemon, credentials, settings
from tests.e2e.group import caught_up, committed
from tests.e2e.ledger import read
from tests.e2e.loader import DataObject, Row, in_bucket
from tests.services.kafka import KafkaAddress, KafkaBroker, create_topic, topic_admin
from tests.services.seaweed import S3Store

Broker = KafkaAddress | KafkaBroker
Header = tuple[str, bytes | None]

TIME = "2026-03-01T12:00:00Z"
RECEIVED = 1_772_366_400_000  # Kafka's timestamp of all records: 2026-03-01T12:00:00Z
HEADERS: list[Header] = [("trace", b"\x00\xff"), ("none", None)]


def event(event_id: str, /, **changes: Any) -> bytes:
    """A good event as JSON, but for `changes`."""
    fields = {"event_id": event_id, "client_id": "CLIENT_1", "event_timestamp": TIME, "event_type": "web_visit"}
    return json.dumps(fields | changes).encode()


def without(value: bytes, field: str) -> bytes:
    fields = json.loads(value)
    del fields[field]
    return json.dumps(fields).encode()


def with_properties(event_id: str, text: str) -> bytes:
    """A good event whose properties are `text`, which need not be what json.dumps writes."""
    return event(event_id, properties=0).replace(b'"properties": 0', f'"properties": {text}'.encode())


def at(time: str) -> bytes:
    return event("x", event_timestamp=time)


BIG = b'{"event_id":"big","filler":"' + b"x" * 5_000_000 + b'"}'

REJECTED: dict[str, tuple[bytes | None, Reason, str]] = {
    "not JSON": (b"<html>502 Bad Gateway</html>", Reason.NOT_JSON, "$"),
    "truncated": (event("x")[:40], Reason.TRUNCATED, "$"),
    "not an object": (b"[" + event("x") + b"]", Reason.WRONG_TYPE, "$"),
    "wrong type": (event("x", client_id=4711), Reason.WRONG_TYPE, "$.client_id"),
    "wrong type beside an unknown field": (event("x", client_id=4711, basket=[]), Reason.WRONG_TYPE, "$.client_id"),
    "missing field": (without(event("x"), "client_id"), Reason.MISSING_FIELD, "$.client_id"),
    "missing type": (without(event("x"), "event_type"), Reason.MISSING_FIELD, "$.event_type"),
    "missing field of an unknown type": (
        without(event("x", event_type="card_payment"), "client_id"),
        Reason.MISSING_FIELD,
        "$.client_id",
    ),
    "event_id null": (event("x", event_id=None), Reason.WRONG_TYPE, "$.event_id"),
    "event_id empty": (event(""), Reason.TOO_SHORT, "$.event_id"),
    "invalid UTF-8": (event("x").replace(b"CLIENT_1", b"CLIENT\xff"), Reason.INVALID_UTF8, "$"),
    "lone surrogate": (event("x").replace(b"CLIENT_1", rb"\ud800"), Reason.LONE_SURROGATE, "$"),
    "lone surrogate in properties": (with_properties("x", r'{"a":"\udc00"}'), Reason.LONE_SURROGATE, "$"),
    "number beyond a double": (with_properties("x", '{"a":[1e400]}'), Reason.NUMBER_OUT_OF_RANGE, "$.properties.a[0]"),
    "integer beyond a double": (
        with_properties("x", '{"a":1' + "0" * 400 + "}"),
        Reason.NUMBER_OUT_OF_RANGE,
        "$.properties.a",
    ),
    "unknown number beyond a double": (
        event("x", amount=0).replace(b'"amount": 0', b'"amount": -1e999'),
        Reason.NUMBER_OUT_OF_RANGE,
        "$.amount",
    ),
    "NaN": (with_properties("x", '{"a":NaN}'), Reason.NOT_JSON, "$"),
    "5 MB": (BIG, Reason.TOO_LARGE, "$"),
    "null value": (None, Reason.NULL_VALUE, "$"),
    "empty value": (b"", Reason.EMPTY_VALUE, "$"),
    "year 30000": (
        event("x", event_timestamp="30000-01-01T00:00:00Z"),
        Reason.TIMESTAMP_OUT_OF_RANGE,
        "$.event_timestamp",
    ),
    "year 1500": (
        event("x", event_timestamp="1500-01-01T00:00:00Z"),
        Reason.TIMESTAMP_OUT_OF_RANGE,
        "$.event_timestamp",
    ),
    "year 10000 in UTC": (
        event("x", event_timestamp="9999-12-31T23:00:00-05:00"),
        Reason.TIMESTAMP_OUT_OF_RANGE,
        "$.event_timestamp",
    ),
    "no such day": (event("x", event_timestamp="2026-02-30T00:00:00Z"), Reason.INVALID_TIMESTAMP, "$.event_timestamp"),
}

# The value, what its row must hold, and what its line must hold byte by byte.
ACCEPTED: dict[str, tuple[bytes, Row, Sequence[bytes]]] = {
    "naive timestamp": (
        event("naive", event_timestamp="2026-03-01T12:00:00"),
        {"event_timestamp": "2026-03-01T12:00:00Z"},
        [],
    ),
    "timestamp with an offset": (
        event("offset", event_timestamp="2026-03-01T00:30:00+02:00"),
        {"event_timestamp": "2026-02-28T22:30:00Z"},
        [],
    ),
    "unknown type": (
        event("generic", event_type="card_payment", amount=7),
        {"event_type": "card_payment", "properties": {"amount": 7}},
        [],
    ),
    "unknown fields": (
        event("unknown", basket=["a"], properties={"basket": 1, "kept": True}),
        {"properties": {"basket": 1, "kept": True, "_basket": ["a"]}},
        [],
    ),
    "origin fields of the producer": (
        event("origin", source_offset=999, source_topic="elsewhere", received_at="2001-01-01T00:00:00Z"),
        {"properties": {"source_offset": 999, "source_topic": "elsewhere", "received_at": "2001-01-01T00:00:00Z"}},
        [],
    ),
    "duplicate keys": (
        event("duplicate").replace(b"{", b'{"client_id": "CLIENT_0", ', 1),
        {"client_id": "CLIENT_1"},
        [],
    ),
    "duplicate keys in properties": (
        with_properties("duplicates", '{"a": {"b": 1, "b": 2}, "a": {"b": 3, "b": 4}}'),
        {"properties": {"a": {"b": 4}}},
        [],
    ),
    "duplicate unknown keys": (
        event("unknowns").replace(b"{", b'{"basket": 1, "basket": 2, ', 1),
        {"properties": {"basket": 2}},
        [],
    ),
    "digits": (
        with_properties("digits", '{"i": 12345678901234567890, "d": 0.1000000000000000055511151231257827}'),
        {"properties": {"i": 12345678901234567890, "d": Decimal("0.1000000000000000055511151231257827")}},
        [b"12345678901234567890", b"0.1000000000000000055511151231257827"],
    ),
    "digits in unknown fields": (
        event("amount", amount=0).replace(b'"amount": 0', b'"amount": 99999999999999.999999'),
        {"properties": {"amount": Decimal("99999999999999.999999")}},
        [b"99999999999999.999999"],
    ),
    "odd text": (
        event("odd", page_url="https://example.com/\u2028\x7f\u0000 \U0001f600", session_id="a\nb"),
        {"page_url": "https://example.com/\u2028\x7f\u0000 \U0001f600", "session_id": "a\nb"},
        [],
    ),
    "odd white space": (b" \r\n\t" + event("space") + b"\n\n ", {"event_id": "space"}, []),
}


class Sent(NamedTuple):
    offset: int
    key: bytes | None
    value: bytes | None


class Outcome(NamedTuple):
    """What was sent, by its name (the good neighbours have numbers), and all that came of it."""

    topic: str
    sent: dict[str, Sent]
    objects: list[DataObject]
    rows: dict[int, tuple[bytes, Row]]
    quarantined: dict[int, Quarantined]


async def send(bootstrap: str, topic: str, values: Mapping[str, bytes | None]) -> dict[str, Sent]:
    """Write `values` in their order into the only partition, each under its name as key; an empty one has no key."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, max_request_size=8 << 20, enable_idempotence=True)
    await producer.start()
    try:
        underway = {}
        for name, value in values.items():
            key = None if value == b"" else name.encode()
            sending = await producer.send(
                topic, value, key, partition=0, timestamp_ms=RECEIVED, headers=HEADERS if key else None
            )
            underway[name] = key, value, sending
        return {name: Sent((await sending).offset, key, value) for name, (key, value, sending) in underway.items()}
    finally:
        await producer.stop()


@pytest.fixture(scope="module")
def outcome(kafka: Broker, s3: S3Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcome]:
    """One of each kind, a good event before and after it, brought by one daemon."""
    name = f"bad-input-{uuid.uuid4().hex}"
    s3.create_bucket(name)
    keys = settings(kafka.bootstrap, s3, name, name)
    daemon = Daemon(name, tmp_path_factory.mktemp(name), keys, credentials(s3))
    try:
        sent = asyncio.run(bring_one_of_each(kafka.bootstrap, name, daemon))
        objects = in_bucket(s3, name)
        rows = {
            row["source_offset"]: (line, row) for it in objects for line, row in zip(it.lines, it.rows, strict=True)
        }
        yield Outcome(name, sent, objects, rows, quarantined_in(s3, name))
    finally:
        daemon.kill()
        s3.delete_bucket(name)


async def bring_one_of_each(bootstrap: str, topic: str, daemon: Daemon) -> dict[str, Sent]:
    odd = {**{name: it[0] for name, it in REJECTED.items()}, **{name: it[0] for name, it in ACCEPTED.items()}}
    pairs = (((name, value), (f"after {name}", event(f"after {name}"))) for name, value in odd.items())
    async with topic_admin(bootstrap) as admin:
        await create_topic(admin, topic, 1, {"max.message.bytes": str(8 << 20)})
    sent = await send(bootstrap, topic, {"first": event("first"), **dict(chain.from_iterable(pairs))})
    await daemon.start_ready()
    await caught_up(bootstrap, topic, topic, {0: len(sent)})
    assert await daemon.stop() == 0
    return sent


def quarantined_in(store: S3Store, bucket: str) -> dict[int, Quarantined]:
    """All quarantined records of a topic with one partition, by offset; none is there twice."""
    found: dict[int, Quarantined] = {}
    for line in quarantine_lines(store, bucket):
        one = quarantine.decode(line)
        assert one.offset not in found
        found[one.offset] = one
    return found


def quarantine_lines(store: S3Store, bucket: str) -> Iterator[bytes]:
    with closing(store.client()) as client:
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=QUARANTINE):
            for found in page.get("Contents", []):
                body = client.get_object(Bucket=bucket, Key=found["Key"])["Body"].read()
                yield from gzip.decompress(body).splitlines()


@pytest.mark.parametrize("kind", REJECTED)
def test_quarantines_with_reason_and_everything_that_came(outcome: Outcome, kind: str) -> None:
    _, reason, path = REJECTED[kind]
    sent = outcome.sent[kind]

    assert sent.offset not in outcome.rows
    found = outcome.quarantined[sent.offset]
    assert (found.reason, found.path) == (reason, path), found.message
    assert (found.topic, found.partition, found.offset) == (outcome.topic, 0, sent.offset)
    assert (found.key, found.value, found.timestamp) == (sent.key, sent.value, RECEIVED)
    assert found.headers == (HEADERS if sent.key else [])
    assert found.message


@pytest.mark.parametrize("kind", ACCEPTED)
def test_accepts(outcome: Outcome, kind: str) -> None:
    _, expected, fragments = ACCEPTED[kind]
    offset = outcome.sent[kind].offset

    assert offset not in outcome.quarantined
    line, row = outcome.rows[offset]
    assert {name: row[name] for name in expected} == expected
    assert (row["source_topic"], row["source_partition"], row["source_offset"]) == (outcome.topic, 0, offset)
    assert datetime.fromisoformat(row["received_at"]) == datetime.fromtimestamp(RECEIVED / 1000, UTC)
    assert all(fragment in line for fragment in fragments)


def test_good_events_land_beside_each_bad_one(outcome: Outcome) -> None:
    good = {name: it.offset for name, it in outcome.sent.items() if name == "first" or name.startswith("after ")}

    assert len(good) == len(REJECTED) + len(ACCEPTED) + 1
    assert {row["event_id"]: offset for offset, (_, row) in outcome.rows.items() if offset in good.values()} == good


def test_nothing_is_lost_doubled_or_made_up(outcome: Outcome) -> None:
    assert sum(len(it.rows) for it in outcome.objects) == len(outcome.rows)
    assert outcome.rows.keys() | outcome.quarantined.keys() == {it.offset for it in outcome.sent.values()}
    assert not outcome.rows.keys() & outcome.quarantined.keys()
    assert len(outcome.quarantined) == len(REJECTED)


async def test_a_storm_of_bad_records_stops_the_daemon_before_it_is_committed(
    kafka: Broker, s3: S3Store, bucket: str, make_topic: MakeTopic, make_daemon: MakeDaemon
) -> None:
    topic = await make_topic(1)
    daemon = make_daemon("a", topic, {"breaker.max_consecutive": "200"})
    good = {f"good {number}": event(f"good {number}") for number in range(50)}
    storm = {f"bad {number}": b"<html>502 Bad Gateway</html>" for number in range(500)}
    await send(kafka.bootstrap, topic, good)
    await daemon.start_ready()
    await caught_up(kafka.bootstrap, topic, topic, {0: 50})

    await send(kafka.bootstrap, topic, storm)

    assert await daemon.ended() == 1
    daemon.start()  # as a supervisor does: that must not let the topic drain bit by bit
    assert await daemon.ended() == 1
    stops = [line["message"] for line in map(json.loads, daemon.log_text().splitlines()) if line["level"] == "ERROR"]
    assert len(stops) == 2
    for message in stops:
        assert f"records in a row were rejected in {topic}[0] (breaker.max_consecutive)" in message
        assert "then restart: the records are read again" in message
    assert await committed(kafka.bootstrap, topic, topic) == {0: 50}
    assert read(s3, bucket, topic).boundaries(0) == [0, 50]
    assert not quarantined_in(s3, bucket)

    relaxed = make_daemon("b", topic, {"breaker.max_consecutive": "1000000", "breaker.max_share": "1"})
    await relaxed.start_ready()
    await caught_up(kafka.bootstrap, topic, topic, {0: 550})
    assert await relaxed.stop() == 0
    read(s3, bucket, topic).check({0: range(550)}, set(good))
    assert quarantined_in(s3, bucket).keys() == set(range(50, 550))
