"""Keys and headers in rows: any bytes come back, and nothing of the producer's is lost."""

import json
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.collect.delivery.records import unsent
from ingestd.collect.messages import Collected
from ingestd.config.keys import variable
from ingestd.config.load import load
from ingestd.config.model import EventsConfig
from ingestd.core.errors import ConfigError
from ingestd.core.events import ANY_JSON, Event, Model, load_model, make_model
from ingestd.core.gzip import compress
from ingestd.core.json_validation import make_validator
from ingestd.core.records import PlainRecord, TopicPartition
from ingestd.core.rejections import Reason
from ingestd.core.row_origin import RowOrigin
from ingestd.core.validation import Validated
from ingestd.demo.warehouse.database import Warehouse
from ingestd.demo.warehouse.object_loader import ObjectLoader
from ingestd.snowflake.table import columns, columns_of
from ingestd.sources.journal.journal import Journal
from ingestd.sources.kinesis.aggregates import split_record
from ingestd.sources.kinesis.port import KinesisRecord, Shard
from tests.kinesis_aggregates import aggregate

EVENT = b'{"event_type":"web_visit","event_id":"e","client_id":"c","event_timestamp":"2026-01-02T03:04:05Z"}'
BOTH = ("key", "headers")
MODELS = [pytest.param(ANY_JSON, id="json"), pytest.param(load_model(None), id="events")]


class Keyed(Event, tag="keyed"):
    source_key: str


def validated(model: Model, *records: PlainRecord, include: Any = BOTH) -> Validated:
    return make_validator(EventsConfig(include=include), model).chunk(TopicPartition("t", 0), records)


def back(found: dict[str, Any], name: str) -> bytes | None:
    if f"{name}_base64" in found:
        return b64decode(found[f"{name}_base64"])
    return found[name].encode() if name in found else None


@pytest.mark.parametrize("model", MODELS)
@given(
    key=st.none() | st.binary() | st.text().map(str.encode),
    headers=st.lists(st.tuples(st.text(st.characters(exclude_characters="\0", codec="utf-8")), st.binary())),
)
def test_any_key_and_headers_come_back_from_the_row(
    model: Model, key: bytes | None, headers: list[tuple[str, bytes]]
) -> None:
    plain = PlainRecord(8, 0, EVENT)
    first, second = map(json.loads, validated(model, PlainRecord(7, 0, EVENT, key, headers), plain).rows.splitlines())
    assert back(first, "source_key") == key
    assert [(one["name"], back(one, "value")) for one in first.get("source_headers", [])] == headers
    assert second.keys().isdisjoint(("source_key", "source_key_base64", "source_headers"))
    assert ("source_headers" in first) == bool(headers)


@pytest.mark.parametrize("model", MODELS)
def test_rows_have_neither_unless_they_are_included(model: Model) -> None:
    record = PlainRecord(7, 0, EVENT, b"k", [("h", b"v")])
    found = json.loads(validated(model, record, include=()).rows)
    assert found.keys().isdisjoint(("source_key", "source_headers"))


@pytest.mark.parametrize("model", MODELS)
def test_a_row_that_its_headers_make_too_large_is_rejected_in_its_place(model: Model) -> None:
    large = PlainRecord(1, 0, EVENT, None, [("h", b"\x01" * (3 << 20))])
    found = validated(model, PlainRecord(0, 0, EVENT), large, PlainRecord(2, 0, b"["), PlainRecord(3, 0, EVENT))
    assert found.rejected[0].reason is Reason.TOO_LARGE
    assert [one.position for one in found.rejected] == [1, 2]
    assert [json.loads(line)["source_offset"] for line in found.rows.splitlines()] == [0, 3]
    assert sum(found.accepted.values()) == 2


def test_a_field_of_the_producer_with_such_a_name_moves_into_properties() -> None:
    event = EVENT[:-1] + b',"source_key":"mine"}'
    (found,) = map(json.loads, validated(load_model(None), PlainRecord(7, 0, event, b"k")).rows.splitlines())
    assert (found["source_key"], found["properties"]) == ("k", {"source_key": "mine"})


def test_a_model_with_such_a_field_is_refused_only_where_it_is_included() -> None:
    with pytest.raises(ConfigError, match=r'events\.model: Keyed\.source_key .*events\.include = "key"'):
        validated(make_model(Keyed))
    with pytest.raises(ConfigError, match=r'events\.include = "key"'):
        columns(make_model(Keyed), include=BOTH)
    assert not validated(make_model(Keyed), include=("headers",)).rejected


@pytest.mark.parametrize("model", MODELS)
def test_the_table_has_the_columns_that_are_included(model: Model) -> None:
    added = [(it.name, it.type) for it in columns(model, include=BOTH) if it not in columns(model)]
    assert added == [("source_key", "VARCHAR"), ("source_key_base64", "VARCHAR"), ("source_headers", "VARIANT")]


@pytest.mark.parametrize("model", MODELS)
def test_each_record_of_an_aggregate_has_its_own_key_and_none_has_headers(model: Model) -> None:
    half = 1 << 127
    body = aggregate([("k1", 1, EVENT), ("k2", half, EVENT), ("k3", 0, EVENT)])
    split = split_record(KinesisRecord(100, body, 1.0, "outer"), Shard("shardId-0", (), 0, half - 1, closed=False))
    found = make_validator(EventsConfig(include=("key",)), model, RowOrigin.WIDE_OFFSET).chunk(
        TopicPartition("s", 0), split
    )
    assert [(one.position, one.reason) for one in found.rejected] == [(1, Reason.OUTSIDE_OF_SHARD)]
    rows = [json.loads(line) for line in found.rows.splitlines()]
    assert [(it["source_offset"], it["source_key"]) for it in rows] == [("98", "k1"), ("100", "k3")]


async def test_a_collected_event_has_the_client_as_its_key_and_its_sender_in_the_headers(ram: Path) -> None:
    journal = Journal(ram / "journal.sqlite", 16 << 20)
    await journal.open()
    try:
        await journal.append(unsent("web", 1000, [Collected(EVENT, b"c"), Collected(EVENT, None)]))
        records = await journal.read(0, 10, 1 << 20)
    finally:
        await journal.close()
    first, second = map(json.loads, validated(load_model(None), *records).rows.splitlines())
    sender = [{"name": "ingestd-source", "value": "web"}]
    assert (first["source_key"], first["source_headers"], second["source_headers"]) == ("c", sender, sender)
    assert "source_key" not in second


def test_the_local_table_has_the_key_and_the_headers(tmp_path: Path) -> None:
    config = load(environ={variable("events.include"): "key,headers"}).config
    shape = columns_of(config, load_model(None))
    records = [
        PlainRecord(1, 1000, EVENT, "caf\xe9".encode(), [("h", b"v"), ("raw", b"\xff"), ("h", b"")]),
        PlainRecord(2, 1000, EVENT, b"\xff"),
        PlainRecord(3, 1000, EVENT),
    ]
    warehouse = Warehouse(tmp_path / "w.duckdb", config.snowflake)
    warehouse.open(columns(load_model(None)))  # as it was before the columns were included
    warehouse.close()
    warehouse.open(shape)
    try:
        loaded = ObjectLoader(warehouse, shape).load("a", compress(validated(load_model(None), *records).rows).data)
        assert loaded is not None
        assert (loaded.rows, loaded.error) == (3, None)
        found = warehouse.query(
            "SELECT source_key, source_key_base64, source_headers FROM marketing_events ORDER BY source_offset"
        ).rows
        assert [row[:2] for row in found] == [["caf\xe9", None], [None, "/w=="], [None, None]]
        assert json.loads(found[0][2]) == [
            {"name": "h", "value": "v"}, {"name": "raw", "value_base64": "/w=="}, {"name": "h", "value": ""}
        ]  # fmt: skip
        assert [row[2] for row in found[1:]] == [None, None]
        one = warehouse.query(
            "SELECT source_headers[0]:name::STRING FROM marketing_events WHERE source_key IS NOT NULL"
        )
        assert one.rows == [["h"]]
    finally:
        warehouse.close()


def test_kinesis_has_no_headers() -> None:
    keys = {"source": "kinesis", "events.include": "key,headers"}
    with pytest.raises(ConfigError, match=r"events\.include .*Kinesis"):
        load(environ={variable(key): value for key, value in keys.items()})


@pytest.mark.parametrize(
    ("key", "field"),
    [(b"caf\xc3\xa9", {"source_key": "caf\xe9"}), (b"a\0b", {"source_key_base64": "YQBi"}),
     (b"\xff", {"source_key_base64": "/w=="}), (b"", {"source_key": ""})],
)  # fmt: skip
def test_a_key_is_text_only_where_a_column_of_text_holds_it(key: bytes, field: dict[str, str]) -> None:
    found = json.loads(validated(ANY_JSON, PlainRecord(7, 0, b"{}", key)).rows)
    assert {name: value for name, value in found.items() if name.startswith("source_key")} == field


def test_the_names_of_headers_are_escaped_where_they_are_no_text() -> None:
    found = json.loads(validated(ANY_JSON, PlainRecord(7, 0, b"{}", None, [("a\0\udc80", b"")])).rows)
    assert found["source_headers"] == [{"name": "a\\x00\\udc80", "value": ""}]
