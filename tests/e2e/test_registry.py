"""Values of a real schema registry, by confluent-kafka's own serializers, through the real client and its loader."""

import asyncio
import gzip
import json
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.schema_registry.json_schema import JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf.message_factory import GetMessageClass

from ingestd.config.model import EventsConfig, RegistryConfig
from ingestd.config.types import Seconds
from ingestd.core.events import load_model
from ingestd.core.records import PlainRecord, TopicPartition
from ingestd.core.rejections import Reason
from ingestd.core.validation import EventValidator
from ingestd.core.values.protobuf import _load
from ingestd.ops.readiness import Status
from ingestd.sources.registry.client import RegistryClient
from ingestd.sources.registry.loader import RegistryValues
from tests.conftest import MakeTopic
from tests.e2e.conftest import MakeDaemon
from tests.e2e.daemon import credentials, settings
from tests.e2e.group import caught_up
from tests.e2e.requeue import Requeue, requeued
from tests.e2e.test_bad_input import quarantined_in
from tests.registry_world import AVRO, FIELDS, TIME_MS, TIME_TEXT, avro_event, framed
from tests.services.kafka import KafkaAddress
from tests.services.registry import SchemaRegistry
from tests.services.seaweed import S3Store

TP = TopicPartition("t", 0)
PROTO = """syntax = "proto3";
package shop;
import "google/protobuf/timestamp.proto";
message Other { string x = 1; }
message Event {
  string event_id = 1;
  string event_type = 2;
  string client_id = 3;
  google.protobuf.Timestamp event_timestamp = 4;
}
"""
JSON_SCHEMA = json.dumps({"title": "Event", "type": "object", "properties": {"event_id": {"type": "string"}}})
Serializer = Callable[[str], bytes]


def serializers(client: SchemaRegistryClient) -> dict[str, Serializer]:
    file: Any = _load(PROTO, {})
    message: Any = GetMessageClass(file.message_types_by_name["Event"])
    avro = AvroSerializer(client, json.dumps(AVRO))
    protobuf = ProtobufSerializer(message, client, {"use.deprecated.format": False})
    plain = JSONSerializer(JSON_SCHEMA, client)

    def as_protobuf(event_id: str) -> Any:
        event = message(event_id=event_id, event_type="web_visit", client_id="c")
        event.event_timestamp.FromJsonString(TIME_TEXT)
        return event

    def context(name: str) -> SerializationContext:
        return SerializationContext(name, MessageField.VALUE)

    fields = {**FIELDS}
    return {
        "avro": lambda it: avro({"event_id": it, "event_timestamp": TIME_MS, **fields}, context("avro")),
        "protobuf": lambda it: protobuf(as_protobuf(it), context("protobuf")),
        "json": lambda it: plain({"event_id": it, "event_timestamp": TIME_TEXT, **fields}, context("json")),
    }


def produced(url: str) -> tuple[list[str], list[bytes]]:
    """Two values of each format, and their event ids."""
    with SchemaRegistryClient({"url": url}) as client:
        made = serializers(client)
        names = [f"{name}-{number}" for name in made for number in range(2)]
        return names, [made[name.split("-")[0]](name) for name in names]


async def test_values_of_a_real_registry_become_rows_and_an_outage_only_holds_them(registry: SchemaRegistry) -> None:
    names, values = await asyncio.to_thread(produced, registry.url)
    values.append(framed(99_999, b"{}"))
    records = [PlainRecord(offset, 0, value) for offset, value in enumerate(values)]
    config = RegistryConfig(urls=(registry.url,), request_timeout=Seconds(1))
    source = RegistryValues(RegistryClient(config), config)
    registry.freeze()
    waiting = asyncio.create_task(source.prepare(records, lambda: True))
    async with asyncio.timeout(30):
        while source.error is None:  # noqa: ASYNC110  the state has no event
            await asyncio.sleep(0.05)
    assert not waiting.done()
    registry.thaw()
    assert await waiting
    assert (source.error or "") == ""
    found = EventValidator(EventsConfig(), load_model(None), values=source).chunk(TP, records)
    rows = [msgspec.json.decode(line) for line in found.rows.splitlines()]
    assert [row["event_id"] for row in rows] == names
    assert {row["event_timestamp"] for row in rows} == {TIME_TEXT.replace("678Z", "678000Z")}
    assert [it.reason for it in found.rejected] == [Reason.UNKNOWN_SCHEMA]


def rows_in(store: S3Store, bucket: str) -> Counter[str]:
    """How many rows each event has."""
    with closing(store.client()) as client:
        entries = client.list_objects_v2(Bucket=bucket, Prefix="events/").get("Contents", [])
        bodies = [client.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read() for entry in entries]
    return Counter(json.loads(line)["event_id"] for body in bodies for line in gzip.decompress(body).splitlines())


class Filled(NamedTuple):
    """A topic with values of all formats, and one of a schema that nobody has."""

    bootstrap: str
    topic: str
    names: list[str]  # of the events

    @property
    def end(self) -> dict[int, int]:
        return {0: len(self.names) + 1}


@pytest.fixture
async def filled(kafka: KafkaAddress, make_topic: MakeTopic, registry: SchemaRegistry) -> Filled:
    names, values = await asyncio.to_thread(produced, registry.url)
    topic = await make_topic(1)
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap) as producer:
        for value in [*values, framed(99_999, b"{}")]:
            await producer.send_and_wait(topic, value, partition=0)
    return Filled(kafka.bootstrap, topic, names)


def is_held(status: Status) -> bool:
    return "registry_unavailable" in {it.code for it in status.reasons}


async def test_a_daemon_holds_records_while_the_registry_is_away_and_lands_each_once(
    filled: Filled, s3: S3Store, bucket: str, make_daemon: MakeDaemon, registry: SchemaRegistry
) -> None:
    keys = {
        "kafka.value_format": "registry", "registry.urls": registry.url, "registry.request_timeout": "1s",
        "health.source_unavailable": "1s", "breaker.max_share": "1",
    }  # fmt: skip
    daemon = make_daemon("a", filled.topic, keys)
    registry.freeze()
    daemon.start()
    totals = (await daemon.until(is_held)).totals
    assert (totals.consumed, totals.landed, totals.quarantined) == (0, 0, 0)
    assert await daemon.stop() == 3  # at once: the records are read again
    assert rows_in(s3, bucket) == {}
    daemon.start()
    await daemon.until(is_held)
    registry.thaw()
    await caught_up(filled.bootstrap, filled.topic, filled.topic, filled.end)
    assert await daemon.stop() == 0
    assert rows_in(s3, bucket) == dict.fromkeys(filled.names, 1)
    assert [line.reason for line in quarantined_in(s3, bucket).values()] == ["unknown_schema"]


class Later(NamedTuple):
    """Records of a schema that the registry does not have yet."""

    bootstrap: str
    topic: str
    values: list[bytes]
    schema_id: int

    @property
    def names(self) -> list[str]:
        return [f"e{number}" for number in range(len(self.values))]


@pytest.fixture
async def later(kafka: KafkaAddress, make_topic: MakeTopic, registry: SchemaRegistry) -> Later:
    """The registry counts its ids, and nobody else registers schemas meanwhile."""
    topic = await make_topic(1)
    last = await asyncio.to_thread(register, registry, f"{topic}-before", {"type": "fixed", "name": "N", "size": 7})
    values = [avro_event(number, last + 1) for number in range(3)]
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap) as producer:
        for value in values:
            await producer.send_and_wait(topic, value, partition=0)
    return Later(kafka.bootstrap, topic, values, last + 1)


def register(registry: SchemaRegistry, subject: str, schema: Any) -> int:
    """The id of a schema that nobody has registered before."""
    schema = {**schema, "doc": subject}
    with SchemaRegistryClient({"url": registry.url}) as client:
        return int(client.register_schema(subject, Schema(json.dumps(schema), "AVRO")))


async def check(keys: Mapping[str, str], environment: Mapping[str, str], *options: str) -> list[dict[str, str]]:
    """The findings of `ingestd check`."""
    flags = [part for key, value in keys.items() for part in ("--set", f"{key}={value}")]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ingestd", "check", "--json", *options, *flags,
        env={**environment}, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, _ = await process.communicate()
    return [line for line in map(json.loads, output.splitlines()) if line["kind"] == "check"]


async def test_what_had_no_schema_is_requeued_with_its_bytes_and_lands_once_it_has(
    later: Later, s3: S3Store, bucket: str, make_daemon: MakeDaemon, registry: SchemaRegistry, *, tmp_path: Path
) -> None:
    keys = {"kafka.value_format": "registry", "registry.urls": registry.url, "breaker.max_share": "1"}
    daemon = make_daemon("a", later.topic, keys)
    await daemon.start_ready()
    await caught_up(later.bootstrap, later.topic, later.topic, {0: len(later.values)})
    assert await daemon.stop() == 0
    lines = quarantined_in(s3, bucket).values()
    assert [(line.reason, line.value) for line in lines] == [("unknown_schema", value) for value in later.values]

    all_keys = {**settings(later.bootstrap, s3, bucket, later.topic), **keys}
    findings = {it["check"]: it for it in await check(all_keys, credentials(s3), "--dry-run")}
    assert findings["registry.schemas"]["verdict"] == "wrong"
    assert f"schema id {later.schema_id} (the schema registry does not have it)" in findings["registry.schemas"]["seen"]

    requeue = Requeue(tmp_path, all_keys, credentials(s3))
    try:
        assert (await requeue.run())["failing"] == {"unknown_schema": 3}
        assert await asyncio.to_thread(register, registry, f"{later.topic}-value", AVRO) == later.schema_id
        assert (await requeue.run("--dry-run"))["good"] == 3
        assert (await requeue.run())["produced"] == 3
    finally:
        await requeue.close()
    assert [it.value for it in await requeued(later.bootstrap, later.topic)] == later.values

    findings = {it["check"]: it for it in await check(all_keys, credentials(s3), "--dry-run")}
    assert findings["registry.schemas"]["seen"] == (
        f"the registry answers; schema id {later.schema_id} (AVRO): 6 records"
    )
    assert "3 rows, 0 rejected" in findings["dry_run"]["seen"]
    assert rows_in(s3, bucket) == {}

    daemon.start()
    await daemon.until(lambda status: status.totals.consumed == 3 and not status.totals.in_flight)
    assert await daemon.stop() == 0
    assert rows_in(s3, bucket) == dict.fromkeys(later.names, 1)
