"""The reader of Avro beside fastavro's: any schema, any value, and bytes that are neither."""

import json
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ingestd.core.rejections import Reason, RejectedRecord
from ingestd.core.values.avro import compile_avro
from ingestd.core.values.avro_reader import INLINE_BRANCHES, INLINE_FIELDS
from ingestd.core.values.avro_schema import TYPES_MAX
from ingestd.core.values.base import SchemaError
from tests.avro_reference import reference_json
from tests.registry_world import avro

LONGS = st.integers(-(2**63), 2**63 - 1)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=100)
DAY_MS = 24 * 3600 * 1000
YEAR_1, YEAR_9999 = -62_135_596_800, 253_402_300_799  # in seconds since 1970

Typed = tuple[Any, st.SearchStrategy[Any]]  # a schema and values of it


def logical(kind: str, name: str, **more: object) -> dict[str, object]:
    return {"type": kind, "logicalType": name, **more}


def seconds(unit: int, first: int = YEAR_1, last: int = YEAR_9999) -> st.SearchStrategy[int]:
    return st.integers(first * unit, last * unit)


SCALARS: list[Typed] = [
    ("null", st.none()),
    ("boolean", st.booleans()),
    ("int", st.integers(-(2**31), 2**31 - 1)),
    ("long", LONGS),
    ("float", st.floats(width=32, allow_nan=False, allow_infinity=False)),
    ("double", st.floats(allow_nan=False, allow_infinity=False)),
    ("bytes", st.binary(max_size=100)),
    ("string", TEXTS),
    ({"type": "string", "avro.java.string": "String"}, TEXTS),
    (logical("long", "timestamp-millis"), seconds(1000)),
    (logical("long", "timestamp-micros"), seconds(10**6)),
    (logical("long", "timestamp-nanos"), LONGS),
    (logical("long", "local-timestamp-millis"), seconds(1000)),
    (logical("long", "local-timestamp-micros"), seconds(10**6)),
    (logical("long", "local-timestamp-nanos"), LONGS),
    (logical("int", "date"), st.integers(-719_162, 2_932_896)),
    (logical("int", "time-millis"), st.integers(0, DAY_MS - 1)),
    (logical("long", "time-micros"), st.integers(0, DAY_MS * 1000 - 1)),
    (logical("string", "uuid"), st.uuids().map(str) | st.uuids().map(lambda it: it.hex.upper())),
    (logical("bytes", "decimal", precision=9, scale=3), st.binary(min_size=1, max_size=50)),
    (logical("string", "of our own"), TEXTS),
    (logical("int", "timestamp-millis"), st.integers(-(2**31), 2**31 - 1)),
]


@st.composite
def typed(draw: st.DrawFn, depth: int = 3, number: "count[int] | None" = None) -> Typed:
    """Any schema. The names of its types are numbered."""
    number = number or count()
    kinds = ["scalar", "enum", "fixed", *(["array", "map", "optional", "union", "record"] if depth else [])]
    kind = draw(st.sampled_from(kinds))
    if kind in {"scalar", "enum", "fixed"}:
        return draw(leaf(kind, number))
    inner = typed(depth - 1, number)
    if kind == "record":
        return draw(record(inner, number))
    schema, values = draw(inner)
    if kind == "array":
        return {"type": "array", "items": schema}, st.lists(values, max_size=4)
    if kind == "map":
        return {"type": "map", "values": schema}, st.dictionaries(TEXTS, values, max_size=4)
    branches = SCALARS[1:4:2] + SCALARS[6:8]
    if kind == "optional" and schema != "null" and not isinstance(schema, list):
        branches = draw(st.permutations([("null", st.none()), (schema, values)]))
    return [branch for branch, _ in branches], st.one_of([them for _, them in branches])


@st.composite
def leaf(draw: st.DrawFn, kind: str, number: "count[int]") -> Typed:
    if kind == "scalar":
        return draw(st.sampled_from(SCALARS))
    if kind == "enum":
        symbols = [f"S{index}" for index in range(draw(st.integers(1, 70)))]
        return {"type": "enum", "name": f"E{next(number)}", "symbols": symbols}, st.sampled_from(symbols)
    size = draw(st.integers(1, 20))
    more = draw(st.sampled_from([{}, {"logicalType": "decimal", "precision": 2, "scale": 1}]))
    values = st.binary(min_size=size, max_size=size)
    return {"type": "fixed", "name": f"F{next(number)}", "size": size, **more}, values


@st.composite
def record(draw: st.DrawFn, inner: st.SearchStrategy[Typed], number: "count[int]") -> Typed:
    types = draw(st.lists(inner, min_size=1, max_size=5))
    fields = [{"name": f"f{index}", "type": schema} for index, (schema, _) in enumerate(types)]
    namespace = draw(st.sampled_from(["", "a.b"]))
    schema = {"type": "record", "name": f"R{next(number)}", "namespace": namespace, "fields": fields}
    return schema, st.fixed_dictionaries({f"f{index}": values for index, (_, values) in enumerate(types)})


def decoder(schema: Any) -> Callable[[bytes], bytes]:
    return compile_avro(json.dumps(schema), {})


def refusal(decode: Callable[[bytes], bytes], payload: bytes) -> Reason:
    with pytest.raises(RejectedRecord) as caught:
        decode(payload)
    reason: Reason = caught.value.args[0]
    return reason


@st.composite
def encoded(draw: st.DrawFn) -> tuple[Any, bytes]:
    """A schema, and a value of it by fastavro's writer."""
    schema, values = draw(typed())
    try:
        decoder(schema)
    except SchemaError:  # an array of items that have no bytes
        assume(False)
    return schema, avro(schema, draw(values))


@given(encoded())
def test_reads_what_fastavro_writes_as_fastavro_does(value: tuple[Any, bytes]) -> None:
    schema, payload = value
    assert decoder(schema)(payload) == reference_json(schema, payload)


@given(encoded(), st.data())
def test_each_part_of_a_value_is_truncated(value: tuple[Any, bytes], data: st.DataObject) -> None:
    schema, payload = value
    assume(payload)
    end = data.draw(st.integers(0, len(payload) - 1))
    assert refusal(decoder(schema), payload[:end]) is Reason.TRUNCATED


@given(encoded())
def test_bytes_behind_a_value_are_refused(value: tuple[Any, bytes]) -> None:
    schema, payload = value
    assert refusal(decoder(schema), payload + b"\0") is Reason.UNDECODABLE


@given(encoded(), st.data())
def test_changed_bytes_are_a_value_or_a_reason(value: tuple[Any, bytes], data: st.DataObject) -> None:
    schema, payload = value
    changed = bytearray(payload)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(changed)))
        changed[place : place + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=11))
    with suppress(RejectedRecord):
        text = decoder(schema)(bytes(changed))
        msgspec.json.decode(text)
        assert text == reference_json(schema, bytes(changed))


NOW_MS = st.integers(1_790_000_000_000, 1_790_000_020_000)


@given(st.lists(NOW_MS | NOW_MS.map(lambda it: ~it) | seconds(1000) | st.integers(-9000, 9000), max_size=50))
def test_times_do_not_depend_on_those_before(times: list[int]) -> None:
    schema = {"type": "array", "items": logical("long", "timestamp-millis")}
    payload = avro(schema, times)
    assert decoder(schema)(payload) == reference_json(schema, payload)


@pytest.mark.parametrize("before", [b"\x02\x04", b"\x80\x01", b"\x02\x80"])
def test_bytes_like_those_of_a_time_before_are_read_for_what_they_are(before: bytes) -> None:
    schema = {"type": "array", "items": logical("long", "timestamp-millis")}
    time = avro("long", 1_790_000_000_000)
    number = 1 + len(bytes(it for it in before + time[2:] if it < 128))
    payload = bytes([2 * number]) + time + before + time[2:] + b"\0"
    assert decoder(schema)(payload) == reference_json(schema, payload)


def test_a_negative_length_is_undecodable() -> None:
    with pytest.raises(RejectedRecord, match="a length of -1"):
        decoder({"type": "array", "items": "string"})(b"\x02\x01\x00")


@given(LONGS)
def test_numbers_may_have_more_bytes_than_they_need(number: int) -> None:
    payload = avro("long", number)
    padded = bytes([*payload[:-1], payload[-1] | 128]) + b"\x80" * (9 - len(payload)) + b"\0"
    assert decoder("long")(padded if len(payload) < 10 else payload) == str(number).encode()


TREE = {
    "type": "record",
    "name": "Node",
    "namespace": "n",
    "fields": [
        {"name": "name", "type": "string", "default": 5, "aliases": ["title"]},
        {"name": "nodes", "type": {"type": "array", "items": "Node"}},
        {"name": "next", "type": ["null", "n.Node"]},
    ],
}
NODES: st.SearchStrategy[Any] = st.recursive(
    st.builds(lambda name: {"name": name, "nodes": [], "next": None}, TEXTS),
    lambda inner: st.builds(
        lambda name, nodes, further: {"name": name, "nodes": nodes, "next": further},
        TEXTS, st.lists(inner, max_size=3), st.none() | inner,
    ),
    max_leaves=20,
)  # fmt: skip


@given(NODES)
def test_reads_types_within_themselves(node: Any) -> None:
    schema = json.loads(json.dumps(TREE).replace('"default": 5', '"default": ""'))
    payload = avro(schema, node)
    assert decoder(TREE)(payload) == reference_json(schema, payload, recursive=True)


FIXED = {"type": "fixed", "name": "F", "size": 4}
MANY = b"\xfe" + b"\xff" * 8 + b"\x01"  # 2**63 - 1
FEWEST = b"\xff" * 9 + b"\x01"  # -2**63
ENUM = {"type": "enum", "name": "E", "symbols": ["A", "B"]}
ONE_FIELD = {"type": "record", "name": "R", "fields": [{"name": "i", "type": "int"}]}


@pytest.mark.parametrize(
    "items", ["boolean", "double", FIXED, ["null", "int"], {"type": "array", "items": "int"}, ONE_FIELD]
)
@pytest.mark.parametrize("number", [MANY, FEWEST + b"\0"])
@pytest.mark.parametrize("kind", ["array", "map"])
def test_a_count_that_is_not_true_takes_neither_memory_nor_time(kind: str, items: Any, number: bytes) -> None:
    decode = decoder({"type": kind, "items" if kind == "array" else "values": items})
    tracemalloc.start()
    try:
        assert refusal(decode, number + b"\0" * 7) in {Reason.TRUNCATED, Reason.UNDECODABLE}
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("schema", "payload"),
    [
        (ENUM, b"\x01"),
        (ENUM, b"\x04"),
        (["null", "int"], b"\x01"),
        (["null", "int"], b"\x04"),
        (["null", "int"], MANY),
        ("string", b"\x01"),
        ("bytes", FEWEST),
        ("long", b"\xff" * 9 + b"\x02"),
        ("long", b"\x80" * 10 + b"\0"),
        (logical("string", "uuid"), b"\x02a"),
        (logical("int", "time-millis"), b"\x01"),
        (logical("long", "time-micros"), b"\x80\xe0\xd2\x8b\x86\x05"),
    ],
)
def test_what_no_writer_writes_is_undecodable(schema: Any, payload: bytes) -> None:
    assert refusal(decoder(schema), payload) is Reason.UNDECODABLE


@pytest.mark.parametrize(
    ("schema", "payload"),
    [
        ("string", b"\x04a"),
        ("string", b"\x04\xc3"),
        ("bytes", b"\x04a"),
        ("double", b"\0" * 7),
        ("long", b"\x80" * 9),
        (FIXED, b"abc"),
        (logical("bytes", "decimal"), b"\x04a"),
        ({"type": "array", "items": "int"}, b"\x02\x02"),
    ],
)
def test_what_ends_within_a_value_is_truncated(schema: Any, payload: bytes) -> None:
    assert refusal(decoder(schema), payload) is Reason.TRUNCATED


def test_a_far_day_is_out_of_range() -> None:
    assert refusal(decoder(logical("int", "date")), MANY) is Reason.TIMESTAMP_OUT_OF_RANGE


def test_a_block_may_have_its_size() -> None:
    assert decoder({"type": "array", "items": "int"})(b"\x03\x04\x02\x04\x02\x06\x00") == b"[1,2,3]"


def test_a_branch_may_have_more_bytes_than_it_needs() -> None:
    assert decoder(["null", "int"])(b"\x82\x80\x00\x06") == b"3"


def test_wide_types_are_read() -> None:
    branches = [{"type": "fixed", "name": f"F{number}", "size": 3} for number in range(INLINE_BRANCHES + 1)]
    fields = [
        {"name": f"f{number}", "type": branches if number == 0 else "long"} for number in range(INLINE_FIELDS + 1)
    ]
    decode = decoder({"type": "record", "name": "R", "fields": fields})
    payload = bytes([2 * INLINE_BRANCHES]) + b"abc" + b"\x0e" * INLINE_FIELDS
    assert msgspec.json.decode(decode(payload)) == {"f0": "YWJj"} | {
        f"f{number}": 7 for number in range(1, len(fields))
    }
    assert refusal(decode, bytes([2 * len(branches)]) + payload[1:]) is Reason.UNDECODABLE
    assert refusal(decode, b"\x01" + payload[1:]) is Reason.UNDECODABLE


def test_a_union_may_have_thousands_of_branches() -> None:
    branches = [{"type": "fixed", "name": f"F{number}", "size": 1} for number in range(5000)]
    assert decoder(branches)(avro("long", 4999) + b"a") == b'"YQ=="'


def test_unions_within_unions_are_read() -> None:
    schema: Any = "int"
    for _ in range(100):
        schema = [schema]
    assert decoder(schema)(b"\0" * 100 + b"\x06") == b"3"


@pytest.mark.parametrize("name", ["'); raise SystemExit #", "{0}", "%s", "def", "__init__", "v0", "ü", "a b", "\u2028"])
def test_names_are_data_and_never_code(name: str) -> None:
    record = {"type": "record", "name": name, "fields": [{"name": name, "type": {**ENUM, "name": f"{name}2"}}]}
    assert msgspec.json.decode(decoder(record)(b"\x02")) == {name: "B"}


@pytest.mark.parametrize(
    "schema",
    [
        [],
        5,
        None,
        {"type": None},
        {"type": "record", "name": "R", "fields": [{"name": "a"}]},
        {"type": "record", "name": "R", "fields": [{"name": 'a"', "type": "int"}]},
        {"type": "record", "name": "R", "fields": [{"name": "\ud800", "type": "int"}]},
        {"type": "record", "name": "R", "fields": [{"name": "a", "type": "int"}] * 2},
        {"type": "record", "name": "R", "fields": [{"name": "a", "type": "R"}]},
        {"type": "record", "name": "R", "fields": [{"name": "a", "type": FIXED}, {"name": "b", "type": FIXED}]},
        {"type": "record", "name": "R", "fields": [{"name": f"f{i}", "type": "int"} for i in range(TYPES_MAX)]},
        {"type": "enum", "name": "E", "symbols": []},
        {"type": "enum", "name": "E", "symbols": ["A", "A"]},
        {"type": "enum", "name": "E", "symbols": ["a-b"]},
        {"type": "enum", "name": "E", "symbols": [{}]},
        {"type": "fixed", "name": "F", "size": -1},
        {"type": "fixed", "name": "F", "size": 4.0},
        {"type": "fixed", "name": "F", "size": "1) or print("},
        {"type": "array"},
    ],
)
def test_what_is_no_schema_is_refused(schema: Any) -> None:
    with pytest.raises(SchemaError):
        decoder(schema)


@pytest.mark.parametrize("text", ["{", "[" * 100_000, '{"type":' * 5000 + '"int"' + "}" * 5000])
def test_what_is_no_json_or_too_deep_is_refused(text: str) -> None:
    with pytest.raises(SchemaError):
        compile_avro(text, {})


def test_names_belong_to_the_namespace_they_are_in() -> None:
    inner = {"type": "enum", "name": "E", "symbols": ["X"]}
    middle = {"type": "record", "name": "b.M", "fields": [{"name": "e", "type": inner}, {"name": "f", "type": "E"}]}
    fields = [
        {"name": "m", "type": middle},
        {"name": "g", "type": "b.E"},
        {"name": "h", "type": ENUM},
        {"name": "i", "type": "E"},
    ]
    decode = decoder({"type": "record", "name": "R", "namespace": "a", "fields": fields})
    assert decode(b"\0\0\0\x02\x02") == b'{"m":{"e":"X","f":"X"},"g":"X","h":"B","i":"B"}'


def test_long_values_of_wide_records_are_read() -> None:
    fields = [{"name": f"a_field_with_a_long_name_{number}", "type": ["null", "string"]} for number in range(100)]
    schema = {"type": "record", "name": "R", "fields": fields}
    payload = avro(schema, {field["name"]: "x" * 10_000 for field in fields})
    assert len(decoder(schema)(payload)) > 1_000_000
