"""Values that name their schema: the wire format, what is fetched and kept, and what a registry that is away does."""

import asyncio
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import msgspec
import pytest

from ingestd.config.model import Config, EventsConfig, KafkaConfig, RegistryConfig
from ingestd.config.types import Seconds, Size
from ingestd.core.errors import ConfigError
from ingestd.core.events import load_model
from ingestd.core.json_validation import make_validator
from ingestd.core.records import PlainRecord, TopicPartition
from ingestd.core.rejections import Reason, RejectedRecord
from ingestd.core.validation import EventValidator, Validated
from ingestd.core.values.base import Decode, Schema
from ingestd.core.values.decoder import Unusable, compile_schema
from ingestd.core.values.wire_format import HEADER, read_indexes
from ingestd.sources.registry import make_values
from ingestd.sources.registry.client import RegistryClient
from ingestd.sources.registry.loader import RegistryValues
from tests.registry_world import AVRO_SCHEMA, TIME_TEXT, FakeRegistry, avro_event, framed
from tests.simulation import virtual_time

TP = TopicPartition("t", 0)
EVENT = {"event_id": "e1", "event_type": "web_visit", "client_id": "c", "event_timestamp": TIME_TEXT}
JSON_EVENT = json.dumps(EVENT).encode()
SCHEMAS = {1: AVRO_SCHEMA, 2: Schema("JSON", "{}"), 3: Schema("THRIFT", ""), 4: Schema("BROKEN", "")}


def values_of(registry: FakeRegistry, config: RegistryConfig | None = None) -> RegistryValues:
    return RegistryValues(cast("RegistryClient", registry), config or RegistryConfig(urls=("http://r",)), compiled)


async def compiled(schema: Schema) -> Decode | Unusable:
    return compile_schema(schema)  # virtual time has no threads


def record(value: bytes | None, offset: int = 0, headers: Mapping[str, bytes] | None = None) -> PlainRecord:
    return PlainRecord(offset, 0, value, headers=list((headers or {}).items()))


async def validated(values: RegistryValues, *records: PlainRecord) -> Validated:
    assert await values.prepare(records, lambda: True)
    return EventValidator(EventsConfig(), load_model(None), values=values).chunk(TP, records)


def test_values_of_several_schemas_become_rows() -> None:
    async def main() -> None:
        registry = FakeRegistry(SCHEMAS)
        found = await validated(
            values_of(registry), record(avro_event(1)), record(framed(2, JSON_EVENT)), record(avro_event(2))
        )
        rows = [msgspec.json.decode(line) for line in found.rows.splitlines()]
        assert [row["event_id"] for row in rows] == ["e1", "e1", "e2"]
        assert {row["event_timestamp"] for row in rows} == {TIME_TEXT.replace("678Z", "678000Z")}
        assert sorted(ref.name for ref in registry.asked) == ["1", "2"]

    virtual_time.run(main())


@pytest.mark.parametrize("model", [None, "json"])
def test_the_limit_is_for_the_bytes_that_the_producer_has_sent(model: str | None) -> None:
    async def main() -> None:
        given = record(avro_event(1))
        values, limit = values_of(FakeRegistry(SCHEMAS)), len(given.value or b"")
        assert await values.prepare([given], lambda: True)
        assert len(values.decode(given) or b"") > limit
        for max_bytes, rows in ((limit, 1), (limit - 1, 0)):
            rules = EventsConfig(max_bytes=Size(max_bytes))
            found = make_validator(rules, load_model(model), values=values).chunk(TP, [given])
            assert (len(found.blocks), [it.reason for it in found.rejected]) == (rows, [Reason.TOO_LARGE] * (1 - rows))

    virtual_time.run(main())


def test_the_id_may_be_in_a_header() -> None:
    async def main() -> None:
        found = await validated(values_of(FakeRegistry(SCHEMAS)), record(JSON_EVENT, headers={HEADER: framed(2, b"")}))
        assert (len(found.blocks), found.rejected) == (1, [])

    virtual_time.run(main())


@pytest.mark.parametrize(
    ("value", "headers", "reason"),
    [
        (JSON_EVENT, {}, Reason.UNDECODABLE),
        (b"\x00\x00\x00", {}, Reason.TRUNCATED),
        (b"\x01abc", {}, Reason.TRUNCATED),
        (framed(9, b"{}"), {}, Reason.UNKNOWN_SCHEMA),
        (framed(3, b"{}"), {}, Reason.UNDECODABLE),
        (framed(4, b"{}"), {}, Reason.UNDECODABLE),
        (framed(1, b"\x02"), {}, Reason.TRUNCATED),
        (JSON_EVENT, {HEADER: b"\x05"}, Reason.UNDECODABLE),
        (framed(2, b"{"), {}, Reason.TRUNCATED),
        (b"", {}, Reason.EMPTY_VALUE),
        (None, {}, Reason.NULL_VALUE),
        (b"\x00" * (2 << 20), {}, Reason.TOO_LARGE),
    ],
    ids=["plain", "short-id", "short-guid", "unknown", "type", "broken", "cut", "header", "json", "empty", "null",
         "big"],
)  # fmt: skip
def test_what_cannot_be_decoded_is_rejected_with_its_raw_value(
    value: bytes | None, headers: Mapping[str, bytes], reason: Reason
) -> None:
    async def main() -> None:
        bad = record(value, 1, headers)
        found = await validated(values_of(FakeRegistry(SCHEMAS)), record(avro_event(1)), bad, record(avro_event(2)))
        assert [(it.position, it.reason) for it in found.rejected] == [(1, reason)]
        assert found.rejected[0].record is bad
        assert found.accepted["web_visit"] == 2

    virtual_time.run(main())


def test_json_with_a_registrys_prefix_says_what_to_set() -> None:
    rejected = EventValidator(EventsConfig(), load_model(None)).chunk(TP, [record(framed(1, JSON_EVENT))]).rejected
    assert rejected[0].reason is Reason.NOT_JSON
    assert "set kafka.value_format" in rejected[0].message


def test_a_registry_that_is_away_holds_records_until_it_is_back() -> None:
    async def main() -> None:
        registry = FakeRegistry(SCHEMAS)
        registry.away, values = True, values_of(registry)
        waiting = asyncio.create_task(validated(values, record(avro_event(1))))
        await asyncio.sleep(600)
        assert not waiting.done()
        assert "the registry is away" in (values.error or "")
        registry.away = False
        assert (await waiting).accepted["web_visit"] == 1
        assert values.error is None

    virtual_time.run(main())


@pytest.mark.parametrize("end", ["finish", "unwanted"])
def test_a_wait_ends_with_the_stream_and_with_the_partition(end: str) -> None:
    async def main() -> None:
        registry = FakeRegistry(SCHEMAS)
        registry.away, values, wanted = True, values_of(registry), [True]
        waiting = asyncio.create_task(values.prepare([record(avro_event(1))], lambda: wanted[0]))
        await asyncio.sleep(60)
        if end == "finish":
            values.finish()
        wanted[0] = False
        async with asyncio.timeout(10):
            assert await waiting is False

    virtual_time.run(main())


def test_an_unknown_schema_is_asked_for_again_after_a_while() -> None:
    async def main() -> None:
        registry = FakeRegistry({})
        values = values_of(registry, RegistryConfig(urls=("http://r",), keep_unknown=Seconds(60)))
        for _ in range(3):
            assert (await validated(values, record(avro_event(1)))).rejected[0].reason is Reason.UNKNOWN_SCHEMA
        assert len(registry.asked) == 1
        registry.schemas[1] = AVRO_SCHEMA
        await asyncio.sleep(61)
        assert (await validated(values, record(avro_event(1)))).rejected == []

    virtual_time.run(main())


def test_the_cache_has_a_bound() -> None:
    async def main() -> None:
        registry = FakeRegistry({number: Schema("JSON", "") for number in range(1, 200)})
        values = values_of(registry, RegistryConfig(urls=("http://r",), cache_schemas=10))
        for number in range(1, 200):
            assert (await validated(values, record(framed(number, JSON_EVENT)))).rejected == []
            assert len(values) <= 11

    virtual_time.run(main())


@pytest.mark.parametrize(
    ("data", "indexes", "length"),
    [(b"\x00rest", (0,), 1), (b"\x02\x02", (1,), 2), (b"\x04\x00\x06", (0, 3), 3)],
    ids=["first", "second", "nested"],
)
def test_message_indexes_are_read(data: bytes, indexes: tuple[int, ...], length: int) -> None:
    assert read_indexes(data) == (indexes, length)


@pytest.mark.parametrize("data", [b"", b"\x02", b"\x01", b"\xff" * 9, b"\xfe\xff\x03"], ids=range(5))
def test_bad_message_indexes_are_refused(data: bytes) -> None:
    with pytest.raises(RejectedRecord):
        read_indexes(data)


def without_the_extra(monkeypatch: pytest.MonkeyPatch, kafka: KafkaConfig, registry: RegistryConfig) -> Config:
    for library in ("fastavro", "google.protobuf", "proto_schema_parser"):
        monkeypatch.setitem(sys.modules, library, None)
    return Config(kafka=kafka, registry=registry)


@pytest.mark.parametrize("value_format", ["registry", "protobuf"])
def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, value_format: str) -> None:
    kafka = KafkaConfig(value_format=value_format, schema_file="events.proto")  # type: ignore[arg-type]
    with pytest.raises(
        ConfigError, match=f"kafka.value_format = {value_format} needs protobuf, which is not installed"
    ):
        make_values(without_the_extra(monkeypatch, kafka, RegistryConfig(urls=("http://r",))))


def test_avro_needs_no_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "events.avsc").write_text(AVRO_SCHEMA.text)
    kafka = KafkaConfig(value_format="avro", schema_file=str(tmp_path / "events.avsc"))
    values = make_values(without_the_extra(monkeypatch, kafka, RegistryConfig()))
    assert values is not None
    decoded = values.decode(record(avro_event(1)[5:]))
    assert msgspec.json.decode(decoded or b"")["event_id"] == "e1"
