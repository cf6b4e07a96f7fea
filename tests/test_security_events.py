"""What a hostile producer can put into a record: it costs no more than its size, and makes one row or one reject."""

import asyncio
import json
import sys
from collections.abc import Callable
from decimal import Decimal
from types import FrameType
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from ingestd.config.model import EventsConfig
from ingestd.config.types import Size
from ingestd.core import quarantine
from ingestd.core import rejections as refusals
from ingestd.core import validation as validate
from ingestd.core.errors import ConfigError
from ingestd.core.events import Event, load_model, make_model
from ingestd.core.records import PlainRecord, Record, TopicPartition
from ingestd.core.rejections import DEPTH_MAX, Reason
from ingestd.core.validation import ROW_MAX, EventValidator, Rejected, Validated, Validator
from ingestd.pipeline.ingest import CHUNK_BYTES
from tests.simulation import virtual_time
from tests.test_ingest import DAY, TP, Flow, ended, event
from tests.test_validation import (
    GOOD,
    OWN,
    PARTITION,
    assert_sound,
    chunk,
    nested,
    raw,
    rejection,
    row,
    why,
    with_fields,
)

ROOMY = EventValidator(EventsConfig(max_bytes=Size(16 << 20)), load_model(None))
MIB = 1 << 20

# -- what is accepted comes back as it was

ODD_TEXT = {
    "control characters": "".join(map(chr, range(0x20))),
    "NUL": "\0",
    "DEL and C1": "".join(map(chr, range(0x7F, 0xA0))),
    "line ends of other systems": "a\r\nb\x0b\x0c\x85\u2028\u2029c",
    "bidirectional controls": "\u202eevil\u202c\u2066x\u2069\u200f\u061c",
    "zero width": "a\u200b\u200c\u200d\ufeff\u2060\u00ad",
    "noncharacters": "\ufffe\uffff\U0010ffff\ufdd0",
    "tags and private use": "\U000e0041\ue000\U000f0000",
    "combining": "e" + "\u0301" * 200,
    "terminal escapes": "\x1b]0;title\x07\x1b[2J\x9b31m",
    "another row": '"}\n{"event_id":"forged"}',
    "formulas and SQL": "=cmd|' /C calc'!A0'); DROP TABLE marketing_events; --",
    "format strings": "%s%n{0.__class__}${jndi:ldap://x}",
}


@pytest.mark.parametrize("text", ODD_TEXT.values(), ids=ODD_TEXT.keys())
@pytest.mark.parametrize("escaped", [True, False], ids=["escaped", "as UTF-8"])
def test_any_text_is_kept_in_ids_and_makes_one_line(text: str, escaped: bool) -> None:
    fields = {**GOOD, "event_id": text, "client_id": text, "properties": {text: text}}
    value = json.dumps(fields).encode() if escaped else msgspec.json.encode(fields)
    outcome = chunk(value)
    assert_sound(outcome, [value])
    assert outcome.rows.count(b"\n") == 1
    assert not any(byte < 0x20 for byte in outcome.rows[:-1]), "a control character is in a row as an escape only"
    assert row(value) == fields


@pytest.mark.parametrize(
    "keys",
    [
        [f"key {number}" for number in range(100_000)],
        ["", " ", "null", "NULL", "$", "$.event_id", "__proto__", "constructor", "a.b", '"', "\\", "\n", "\0"],
        ["EVENT_ID", "Event_Id", " event_id", "event_id ", "event\u200b_id", "\uff45vent_id"],
    ],
    ids=["100,000", "odd ones", "that resemble ours"],
)
def test_any_keys_are_kept(keys: list[str]) -> None:
    wanted = GOOD | {"properties": dict.fromkeys(keys, 1)}
    assert row(with_fields(**dict.fromkeys(keys, 1)), ROOMY) == wanted
    assert row(with_fields(properties=dict.fromkeys(keys, 1)), ROOMY) == wanted


def test_one_key_a_hundred_thousand_times_is_there_once() -> None:
    assert row(raw(b",".join([b'"x":1,"event_id":"e-1"'] * 100_000)), ROOMY) == GOOD | {"properties": {"x": 1}}


# -- what is refused

REFUSED: dict[str, tuple[bytes, Reason]] = {
    "100,000 arrays within each other": (raw(b'"x":' + b"[" * 100_000 + b"]" * 100_000), Reason.TOO_DEEP),
    "100,000 objects within each other": (raw(b'"x":' + b'{"x":' * 100_000 + b"1" + b"}" * 100_000), Reason.TOO_DEEP),
    "8 Mi arrays that are never closed": (b"[" * (8 * MIB), Reason.TOO_DEEP),
    "one container too many": (with_fields(x=nested(DEPTH_MAX - 1)), Reason.TOO_DEEP),
    "1e400": (raw(b'"x":1e400'), Reason.NUMBER_OUT_OF_RANGE),
    "10**5000": (raw(b'"x":1' + b"0" * 5000), Reason.NUMBER_OUT_OF_RANGE),
    "10**1000000": (raw(b'"x":1' + b"0" * 1_000_000), Reason.NUMBER_OUT_OF_RANGE),
    "an exponent of a million digits": (raw(b'"x":1e' + b"9" * 1_000_000), Reason.NUMBER_OUT_OF_RANGE),
    "a number as an id": (with_fields(event_id=10**300), Reason.WRONG_TYPE),
    "a huge number as an id": (raw(b'"event_id":1' + b"0" * 5000), Reason.NUMBER_OUT_OF_RANGE),
    "a long id": (with_fields(event_id="x" * MIB), Reason.TOO_LONG),
    "an id of an object": (with_fields(client_id={"$ne": None}), Reason.WRONG_TYPE),
    "16 MiB and a byte": (b"x" * (16 * MIB + 1), Reason.TOO_LARGE),
    "a byte order mark": (b"\xef\xbb\xbf" + with_fields(), Reason.NOT_JSON),
    "UTF-16": (with_fields().decode().encode("utf-16-le"), Reason.NOT_JSON),
    "overlong UTF-8": (raw(b'"x":"\xc0\x80"'), Reason.INVALID_UTF8),
    "a surrogate in UTF-8": (raw(b'"x":"\xed\xa0\x80"'), Reason.INVALID_UTF8),
    "half a pair behind a million good ones": (
        raw(b'"x":"' + b"\\ud83d\\ude00" * 80_000 + b'\\ud83d"'),
        Reason.LONE_SURROGATE,
    ),
    "NUL bytes": (b"\0" * MIB, Reason.NOT_JSON),
    "NUL behind the event": (with_fields() + b"\0", Reason.NOT_JSON),
    "white space": (b" " * MIB, Reason.TRUNCATED),
}


@pytest.mark.parametrize(("value", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_refuses(value: bytes, reason: Reason) -> None:
    assert why(value, ROOMY)[0] == reason


# -- whatever comes

_tokens = st.sampled_from(
    [
        b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"\\u", b"\\ud800", b"\\udc00", b"\\u0000", b"-", b"+", b".",
        b"e", b"0", b"1", b"9" * 20, b"1e400", b"true", b"null", b"NaN", b" ", b"\n", b"\0", b"\xff", b"\xed\xa0\x80",
        b"\xe2\x80\xae", b"\xef\xbb\xbf", b'"event_id":', b'"event_type":', b'"trade"', b'"web_visit"',
        b'"properties":{', b'"a":', b'"_a":', b'"event_timestamp":', b'"2026-11-22T10:00:00Z"',
        b'"9999-12-31T23:59:59-23:59"', b'"source_offset":', b'"x"', with_fields()[:-1] + b",", with_fields(),
    ]
)  # fmt: skip
_soup = st.lists(_tokens, max_size=30).map(b"".join)


class Reading(Event, tag="trade"):
    floats: list[float] | None = None
    decimals: dict[str, Decimal] | None = None
    days: dict[Annotated[int, Meta(ge=1, le=366)], int] | None = None


READINGS = EventValidator(EventsConfig(), make_model(Reading))


@given(st.lists(st.none() | _soup, max_size=4))
def test_makes_one_row_or_one_reject_of_any_tokens(values: list[bytes | None]) -> None:
    assert_sound(chunk(*values), values)
    assert_sound(chunk(*values, validator=READINGS), values)


_numbers = st.one_of(
    st.tuples(st.integers(0, 99), st.integers(-30, 30)).map(lambda pair: b"%de%d" % pair),
    st.floats(allow_nan=False, allow_infinity=False).map(lambda number: repr(number).encode()),
    st.decimals(allow_nan=False, allow_infinity=False).map(lambda number: str(number).encode()),
)


@given(st.lists(_numbers, max_size=60), st.integers(0, 20), st.integers(0, 20))
def test_a_row_is_at_most_four_times_its_event_and_an_origin(numbers: list[bytes], chain: int, moved: int) -> None:
    floats = b'"event_type":"trade","floats":[' + b",".join(numbers) + b"]"
    properties = b'"properties":{' + b",".join(b'"%sa":1e5' % (b"_" * count) for count in range(chain)) + b"}"
    fields = b",".join(b'"%sa":1e5' % (b"_" * count) for count in range(moved))
    value = raw(b",".join(filter(None, (floats, properties, fields))))
    outcome = chunk(value, validator=READINGS)
    assert len(outcome.rows) <= 4 * len(value) + validate.ORIGIN_BYTES


@pytest.mark.parametrize(
    ("value", "validator"),
    [
        (with_fields(x="x" * (16 * MIB - 400)), ROOMY),
        (
            raw(b'"event_type":"trade","floats":[' + b",".join([b"1e15"] * 900_000) + b"]"),
            EventValidator(EventsConfig(max_bytes=Size(16 * MIB)), make_model(Reading)),
        ),
    ],
    ids=["whose event is about as large", "whose event is a quarter of it"],
)
def test_no_row_is_larger_than_a_column_of_snowflake_s(value: bytes, validator: Validator) -> None:
    assert len(value) < ROW_MAX
    rejected = rejection(value, validator)
    assert rejected.reason == Reason.TOO_LARGE
    assert f"above the {ROW_MAX} that a column holds" in rejected.message


# -- what it costs


def _steps(value: bytes, validator: Validator) -> int:
    """How many lines of validate.py and refusals.py it takes."""
    count = 0

    def on_line(frame: FrameType, kind: str, _: object) -> Callable[..., Any] | None:
        nonlocal count
        count += kind == "line"
        return on_line

    def on_call(frame: FrameType, kind: str, argument: object) -> Callable[..., Any] | None:
        return on_line if frame.f_code.co_filename in {validate.__file__, refusals.__file__} else None

    before = sys.gettrace()
    sys.settrace(on_call)
    try:
        chunk(value, validator=validator)
    finally:
        sys.settrace(before)
    return count


def _chain(count: int) -> bytes:
    return b",".join(b'"%sa":1' % (b"_" * number) for number in range(count))


@pytest.mark.parametrize(
    "many",
    [
        lambda count: b",".join(b'"k%d":1' % number for number in range(count)),
        lambda count: b'"properties":{' + _chain(count) + b"}," + _chain(count),
        lambda count: b'"properties":{' + _chain(count) + b'},"a":1,' + b",".join([b'"_a":1'] * count),
        lambda count: b'"x":[' + b",".join([b"[[[[1e5]]]]"] * count) + b"]",
        lambda count: b'"x":[' + b",".join([b"{}"] * count) + b",1e999]",
        lambda count: b'"x":[' + b",".join([b"9" * 300] * count) + b"]",
        lambda count: b",".join([b'"event_id":"e"'] * count),
        lambda count: b'"x":"' + b"\\ud83d\\ude00" * count + b'\\ud83d"',
    ],
    ids=[
        "keys",
        "taken names",
        "one taken name",
        "containers",
        "a fault at the end",
        "digits",
        "duplicates",
        "escapes",
    ],
)
def test_twice_as_much_takes_twice_the_steps(many: Callable[[int], bytes]) -> None:
    once, twice = (_steps(raw(many(count)), OWN) for count in (200, 400))
    assert twice <= 2.2 * once


def bad_keys() -> dict[str, type[Event]]:
    """Models whose dicts a producer could fill with keys of one hash, or with one key twice."""

    class Whole(Event, tag="whole"):
        by_number: dict[int, str] | None = None

    class Half(Event, tag="half"):
        by_number: dict[Annotated[int, Meta(ge=0)], str] | None = None

    class Nan(Event, tag="nan"):
        by_number: dict[float, str] | None = None

    class Exact(Event, tag="exact"):
        by_number: list[dict[Decimal, str]] | None = None

    class Either(Event, tag="either"):
        by_either: dict[str | int, str] | None = None

    return {kind.__name__: kind for kind in (Whole, Half, Nan, Exact, Either)}


@pytest.mark.parametrize("kind", bad_keys().values(), ids=bad_keys().keys())
def test_a_model_has_no_dict_whose_keys_can_be_made_to_collide(kind: type[Event]) -> None:
    with pytest.raises(ConfigError, match=r"a dict with such keys is not supported .*give text, or int within limits"):
        make_model(kind)


class Spy(EventValidator):
    """Notes how many bytes are validated at once, and in which turn of the loop."""

    def __init__(self) -> None:
        super().__init__(EventsConfig(), load_model(None))
        self.chunks: list[tuple[int, int]] = []
        self.turn = 0

    def chunk(self, partition: TopicPartition, records: Any) -> Validated:
        self.chunks.append((sum(len(record.value or b"") for record in records), self.turn))
        asyncio.get_running_loop().call_soon(self._next_turn)
        return super().chunk(partition, records)

    def _next_turn(self) -> None:
        self.turn += 1


def test_large_records_are_validated_in_small_chunks_with_turns_for_others_between() -> None:
    sizes = [0, 10, CHUNK_BYTES, 10, *[300_000] * 20, 2 * CHUNK_BYTES, 3 * CHUNK_BYTES, *[0] * 20]
    values = [event(number, size) for number, size in enumerate(sizes)]
    spy = Spy()

    async def main() -> None:
        flow = Flow({TP: [PlainRecord(offset, DAY, value) for offset, value in enumerate(values)]})
        flow.pipeline._validator = spy
        await ended(flow, 1)
        assert await flow.ranges() == [(0, len(values))]

    virtual_time.run(main())
    for size, _ in spy.chunks:
        assert size <= CHUNK_BYTES or size in map(len, values), "a record that is larger comes alone"
    turns = [turn for _, turn in spy.chunks]
    assert len(turns) == len(set(turns)) > 10


# -- the quarantine

_names = st.text(max_size=6)
_bytes = st.binary(max_size=20)
_records = st.builds(
    PlainRecord,
    offset=st.integers(0, 2**63 - 1),
    timestamp=st.integers(-(2**63), 2**63 - 1),
    value=st.none() | _bytes | _soup,
    key=st.none() | _bytes,
    headers=st.lists(st.tuples(_names, st.none() | _bytes), max_size=20).map(tuple),
)


def _wire_bytes(record: Record) -> int:
    """What a record takes at least in Kafka's format."""
    headers = sum(2 + len(name.encode()) + len(value or b"") for name, value in record.headers)
    return len(record.value or b"") + len(record.key or b"") + headers


@given(st.lists(_records, max_size=4))
def test_a_quarantine_line_is_one_line_and_at_most_six_times_its_record(records: list[PlainRecord]) -> None:
    rejected = OWN.chunk(PARTITION, records).rejected
    lines = quarantine.encode(PARTITION, rejected).split(b"\n")
    assert lines.pop() == b""
    for one, line in zip(rejected, lines, strict=True):
        assert len(line) <= 6 * _wire_bytes(one.record) + 6 * (refusals.MESSAGE_MAX + refusals.PATH_MAX) + 500
        assert quarantine.decode(line).value == one.record.value


def test_a_flood_of_headers_is_quarantined_whole() -> None:
    headers = tuple((f"name {number}", b"\xff" * 10) for number in range(10_000))
    rejected = [Rejected(0, PlainRecord(0, 0, None, headers=headers), Reason.NULL_VALUE, "$", "")]
    assert quarantine.decode(quarantine.encode(PARTITION, rejected)).headers == list(headers)
