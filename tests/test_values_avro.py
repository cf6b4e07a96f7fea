"""Avro as JSON: what fastavro writes comes back whole, and hostile input is refused within bounds."""

import datetime as dt
import json
import uuid
from contextlib import suppress
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.core.rejections import Reason, RejectedRecord
from ingestd.core.values.avro import compile_avro
from ingestd.core.values.base import SchemaError
from tests.registry_world import avro


def as_json(schema: Any, value: Any) -> Any:
    return msgspec.json.decode(compile_avro(json.dumps(schema), {})(avro(schema, value)))


def refusal(schema: Any, payload: bytes) -> Reason:
    with pytest.raises(RejectedRecord) as caught:
        compile_avro(json.dumps(schema), {})(payload)
    reason: Reason = caught.value.args[0]
    return reason


def logical(kind: str, name: str, **more: object) -> dict[str, object]:
    return {"type": kind, "logicalType": name, **more}


NOON = dt.datetime(2026, 1, 2, 12, 0, 0, 123000, tzinfo=dt.UTC)
UUID = uuid.UUID("8ea35ea1-1f79-4187-9d2b-0a54b45ae482")


@pytest.mark.parametrize(
    ("schema", "value", "text"),
    [
        (logical("long", "timestamp-millis"), NOON, '"2026-01-02T12:00:00.123Z"'),
        (logical("long", "timestamp-micros"), NOON, '"2026-01-02T12:00:00.123Z"'),
        (logical("long", "timestamp-nanos"), 1_700_000_000_123_456_789, '"2023-11-14T22:13:20.123456789Z"'),
        (logical("long", "timestamp-nanos"), -1, '"1969-12-31T23:59:59.999999999Z"'),
        (logical("int", "date"), dt.date(2026, 1, 2), '"2026-01-02"'),
        (logical("long", "time-micros"), dt.time(1, 2, 3), '"01:02:03"'),
        (logical("string", "uuid"), UUID, f'"{UUID}"'),
        (logical("bytes", "decimal", precision=30, scale=10), Decimal("12345678901234567890.1234567890"),
         "12345678901234567890.1234567890"),
        ("bytes", b"\x00\xff", '"AP8="'),
        ({"type": "enum", "name": "E", "symbols": ["A", "B"]}, "B", '"B"'),
        (["null", "long"], 2**63 - 1, str(2**63 - 1)),
        ({"type": "map", "values": "double"}, {"a": 0.1}, '{"a":0.1}'),
    ],
    ids=["ms", "us", "ns", "before-1970", "date", "time", "uuid", "decimal", "bytes", "enum", "long", "map"],
)  # fmt: skip
def test_types_become_what_json_has(schema: Any, value: Any, text: str) -> None:
    decoded = compile_avro(json.dumps(schema), {})(avro(schema, value)).decode()
    assert decoded.replace(".123000Z", ".123Z") == text


def test_a_decimal_keeps_digits_beyond_the_precision_of_its_schema() -> None:
    decode = compile_avro(json.dumps(logical("bytes", "decimal", precision=3, scale=1)), {})
    assert decode(b"\x08" + (123456).to_bytes(4)) == b"12345.6"


def test_types_of_references_are_known() -> None:
    reference = {"type": "record", "name": "R", "namespace": "x", "fields": [{"name": "i", "type": "int"}]}
    assert compile_avro('["null","x.R"]', {"r": json.dumps(reference)})(b"\x02\x04") == b'{"i":2}'


VALUES = {
    "long": st.integers(-(2**63), 2**63 - 1),
    "double": st.floats(allow_nan=False, allow_infinity=False),
    "string": st.text(st.characters(codec="utf-8")),
    "boolean": st.booleans(),
    "null": st.none(),
}


@given(st.data(), st.lists(st.sampled_from(sorted(VALUES)), min_size=1, max_size=6))
def test_what_fastavro_writes_comes_back(data: st.DataObject, kinds: list[str]) -> None:
    fields = [{"name": f"f{number}", "type": kind} for number, kind in enumerate(kinds)]
    value = {f"f{number}": data.draw(VALUES[kind]) for number, kind in enumerate(kinds)}
    assert as_json({"type": "record", "name": "R", "fields": fields}, value) == value


@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_a_reason(payload: bytes) -> None:
    decode = compile_avro(json.dumps(HOSTILE), {})
    with suppress(RejectedRecord):
        msgspec.json.decode(decode(payload))


HOSTILE = {
    "type": "record",
    "name": "H",
    "fields": [
        {"name": "a", "type": {"type": "array", "items": ["null", "string"]}},
        {"name": "m", "type": {"type": "map", "values": logical("bytes", "decimal", precision=4, scale=2)}},
        {"name": "t", "type": ["null", logical("long", "timestamp-micros")]},
        {"name": "f", "type": "double"},
    ],
}
LIST = {"type": "record", "name": "N", "fields": [{"name": "n", "type": ["null", "N"]}]}
NAN = {"type": "record", "name": "F", "fields": [{"name": "f", "type": ["null", "float"]}]}


@pytest.mark.parametrize(
    ("schema", "payload", "reason"),
    [
        (LIST, b"\x02" * 1_000_000 + b"\x00", Reason.TOO_DEEP),
        (NAN, b"\x02\x00\x00\xc0\x7f", Reason.NUMBER_OUT_OF_RANGE),
        (NAN, b"\x02\x00\x00\x80\x7f", Reason.NUMBER_OUT_OF_RANGE),
        ("string", b"\x04\xff\xfe", Reason.INVALID_UTF8),
        ("string", b"\x80\x80\x80\x80\x80\x40ab", Reason.TRUNCATED),
        ({"type": "array", "items": "long"}, b"\x80\x80\x80\x80\x80\x40\x02", Reason.TRUNCATED),
        ("long", b"\x02\x02", Reason.UNDECODABLE),
        (logical("long", "timestamp-micros"), b"\xfe" + b"\xff" * 8 + b"\x01", Reason.TIMESTAMP_OUT_OF_RANGE),
        (logical("bytes", "decimal", precision=4), b"\xd0\x0f" + b"\x7f" * 1000 + b"\x00" * 500, Reason.UNDECODABLE),
    ],
    ids=["deep", "nan", "infinity", "utf8", "long-string", "long-array", "behind", "far-time", "decimal"],
)  # fmt: skip
def test_hostile_values_are_refused(schema: Any, payload: bytes, reason: Reason) -> None:
    assert refusal(schema, payload) is reason


def bomb(levels: int) -> Any:
    schema: Any = {"type": "record", "name": "R0", "fields": [{"name": "a", "type": "null"}]}
    for level in range(1, levels):
        fields = [{"name": "a", "type": schema}, {"name": "b", "type": f"R{level - 1}"}]
        schema = {"type": "record", "name": f"R{level}", "fields": fields}
    return schema


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "items": "null"},
        {"type": "map", "values": {"type": "array", "items": {"type": "fixed", "name": "F", "size": 0}}},
        bomb(40),
        {"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 10**9},
        {"type": "record"},
        "nothing",
    ],
    ids=["nulls", "no-bytes", "nested", "scale", "incomplete", "unknown"],
)
def test_schemas_without_bounds_are_refused(schema: Any) -> None:
    with pytest.raises(SchemaError):
        compile_avro(json.dumps(schema), {})


def test_a_value_that_could_become_too_much_json_is_refused() -> None:
    names = [{"name": "n" * 200 + str(number), "type": "null"} for number in range(1000)]
    row = {"type": "record", "name": "R", "fields": [{"name": "b", "type": "boolean"}, *names]}
    assert refusal({"type": "array", "items": row}, b"\x80\x80\x40" + b"\x01" * 500_000) is Reason.TOO_LARGE
