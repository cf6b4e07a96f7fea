"""Any JSON object as a row: the value stays what it is, and what Snowflake cannot load is rejected."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ingestd.config.keys import variable
from ingestd.config.load import load
from ingestd.config.model import EventsConfig
from ingestd.config.types import Size
from ingestd.core import json_validation
from ingestd.core.errors import ConfigError
from ingestd.core.events import ANY_JSON, load_model
from ingestd.core.json_validation import COUNTED_AS, JsonValidator, make_validator
from ingestd.core.records import PlainRecord, SourceRefusal, TopicPartition
from ingestd.core.rejections import Reason, parse
from ingestd.core.row_origin import RowOrigin
from ingestd.core.validation import EventValidator, Validated
from ingestd.snowflake.table import columns, create_table
from tests.reference_validator import ReferenceJsonValidator
from tests.test_validation import as_sdks_send_it, damaged, nested, times

P1 = TopicPartition("orders", 1)
SENT = 1_795_000_000_123  # milliseconds


def validated(*values: bytes | None, path: str | None = None, **rules: Any) -> Validated:
    validator = JsonValidator(EventsConfig(model="json", timestamp_field=path, **rules))
    return validator.chunk(P1, [PlainRecord(7 + number, SENT, value) for number, value in enumerate(values)])


def row(value: bytes, path: str | None = None) -> dict[str, Any]:
    found = validated(value, path=path)
    assert not found.rejected
    decoded: dict[str, Any] = json.loads(found.rows, parse_float=Decimal)
    return decoded


def reason(value: bytes | None, path: str | None = None, **rules: Any) -> tuple[Reason, str]:
    (one,) = validated(value, path=path, **rules).rejected
    return one.reason, one.path


def test_a_row_has_the_object_and_its_origin() -> None:
    assert row(b'{"order": 5, "lines": [{"sku": "a"}], "source_offset": "mine"}') == {
        "record": {"order": 5, "lines": [{"sku": "a"}], "source_offset": "mine"},
        "source_topic": "orders",
        "source_partition": 1,
        "source_offset": 7,
        "received_at": "2026-11-18T11:06:40.123000Z",
    }


def test_accepted_rows_are_counted_as_json() -> None:
    found = validated(b"{}", b"[]", b'{"a": 1}')
    assert found.accepted == {COUNTED_AS: 2}
    assert [(it.position, it.reason) for it in found.rejected] == [(1, Reason.WRONG_TYPE)]
    assert found.rows.count(b"\n") == 2


SCALARS = st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.text() | st.decimals(-(10**20), 10**20)
VALUES = st.recursive(
    SCALARS, lambda it: st.lists(it, max_size=4) | st.dictionaries(st.text(), it, max_size=4), max_leaves=20
)


@given(st.dictionaries(st.text(), VALUES, max_size=5))
def test_every_value_keeps_its_digits_and_its_structure(value: dict[str, Any]) -> None:
    class Number(float):
        def __init__(self, number: Decimal) -> None:
            self.text = format(number, "f")

        def __repr__(self) -> str:
            return self.text

    def writable(it: Any) -> Any:
        match it:
            case Decimal():
                return Number(it)
            case dict():
                return {key: writable(inner) for key, inner in it.items()}
            case list():
                return [writable(inner) for inner in it]
        return it

    text = json.dumps(writable(value))
    expected = json.loads(text, parse_float=Decimal)
    assert row(text.encode())["record"] == expected


UNSOUND: list[tuple[bytes | None, Reason]] = [
    (None, Reason.NULL_VALUE),
    (b"", Reason.EMPTY_VALUE),
    (b"[1]", Reason.WRONG_TYPE),
    (b'{"a": 1', Reason.TRUNCATED),
    (b"{'a': 1}", Reason.NOT_JSON),
    (b'{"a": 1},{"a": 2}', Reason.NOT_JSON),
    (b'{"a": "\xff"}', Reason.INVALID_UTF8),
    (b'{"\xff": 1}', Reason.INVALID_UTF8),
    (b'{"a": "\\ud800"}', Reason.LONE_SURROGATE),
    (b'{"a": 1e999}', Reason.NUMBER_OUT_OF_RANGE),
    (b'{"a": ' + b"9" * 309 + b"}", Reason.NUMBER_OUT_OF_RANGE),
    (b'{"a":' * 101 + b"1" + b"}" * 101, Reason.TOO_DEEP),
    (b'{"":' * 100 + b"{}" + b"}" * 100, Reason.TOO_DEEP),
    (b'{"a":' + b"[" * 100 + b"]" * 100 + b"}", Reason.TOO_DEEP),
    (b'{"a": "' + b"x" * (1 << 20) + b'"}', Reason.TOO_LARGE),
]


@pytest.mark.parametrize(("value", "why"), UNSOUND)
def test_what_cannot_be_loaded_is_rejected_with_its_reason(value: bytes | None, why: Reason) -> None:
    assert reason(value)[0] is why


def test_a_hundred_levels_are_a_row_and_one_more_is_none() -> None:
    deep = b'{"a":' * 100 + b"1" + b"}" * 100
    assert not validated(deep).rejected
    assert reason(b'{"b":' + deep + b"}")[0] is Reason.TOO_DEEP


@pytest.mark.parametrize(
    ("value", "time"),
    [
        (b'{"meta": {"at": "2026-01-02T03:04:05.5+01:00"}}', "2026-01-02T02:04:05.500000Z"),
        (b'{"meta": {"at": "2026-01-02T03:04:05"}}', "2026-01-02T03:04:05Z"),
        (b'{"meta": {"at": 1767323045}}', "2026-01-02T03:04:05Z"),
        (b'{"meta": {"at": 1767323045123}}', "2026-01-02T03:04:05.123000Z"),
        (b'{"meta": {"at": 1767323045.25}}', "2026-01-02T03:04:05.250000Z"),
    ],
)
def test_the_event_s_time_is_where_it_is_said_to_be(value: bytes, time: str) -> None:
    found = row(value, "meta.at")
    assert found["event_timestamp"] == time
    assert found["record"] == json.loads(value, parse_float=Decimal)


@pytest.mark.parametrize(
    ("value", "why", "path"),
    [
        (b'{"meta": {}}', Reason.MISSING_FIELD, "$.meta.at"),
        (b'{"meta": 5}', Reason.MISSING_FIELD, "$.meta.at"),
        (b'{"meta": {"at": "yesterday"}}', Reason.INVALID_TIMESTAMP, "$.meta.at"),
        (b'{"meta": {"at": true}}', Reason.INVALID_TIMESTAMP, "$.meta.at"),
        (b'{"meta": {"at": null}}', Reason.INVALID_TIMESTAMP, "$.meta.at"),
        (b'{"meta": {"at": 1e30}}', Reason.TIMESTAMP_OUT_OF_RANGE, "$.meta.at"),
        (b'{"meta": {"at": "1500-01-01T00:00:00Z"}}', Reason.TIMESTAMP_OUT_OF_RANGE, "$.meta.at"),
    ],
)
def test_a_record_without_such_a_time_is_rejected_with_its_path(value: bytes, why: Reason, path: str) -> None:
    assert reason(value, "meta.at") == (why, path)


def test_a_time_without_offset_is_rejected_where_it_may_not_be() -> None:
    value = b'{"at": "2026-01-02T03:04:05"}'
    assert reason(value, "at", naive_timestamps="reject") == (Reason.NAIVE_TIMESTAMP, "$.at")


@given(st.integers(-(10**13), 10**13))
def test_a_number_is_seconds_until_the_year_5138_and_milliseconds_from_then_on(number: int) -> None:
    found = validated(b'{"at": %d}' % number, path="at")
    seconds = number if abs(number) < 10**11 else number / 1000
    try:
        expected = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError):
        expected = None
    if expected is None or expected.year < 1582:
        assert found.rejected[0].reason is Reason.TIMESTAMP_OUT_OF_RANGE
    else:
        assert abs(datetime.fromisoformat(json.loads(found.rows)["event_timestamp"]).timestamp() - seconds) < 1e-3


def test_offsets_are_text_where_they_are_long_and_a_queue_has_the_message_id() -> None:
    wide = JsonValidator(EventsConfig(model="json"), RowOrigin.WIDE_OFFSET)
    found = wide.chunk(P1, [PlainRecord(2**100, SENT, b"{}")])
    assert json.loads(found.rows)["source_offset"] == str(2**100)


def test_the_configuration_chooses_it() -> None:
    assert load_model("json") is ANY_JSON
    assert isinstance(make_validator(EventsConfig(model="json"), ANY_JSON), JsonValidator)
    assert isinstance(make_validator(EventsConfig(), load_model(None)), EventValidator)


def test_the_table_has_the_record_in_one_column() -> None:
    text = create_table("orders", columns(ANY_JSON))
    assert "record VARIANT NOT NULL" in text
    assert "event_timestamp TIMESTAMP_NTZ(6) COMMENT" in text
    assert "event_id" not in text


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"events.model": "json", "page.enabled": "true"}, r"page\.enabled = true .*event_type and client_id"),
        ({"events.model": "json", "warehouse.kind": "local"}, r"warehouse\.kind = local .*event_type and client_id"),
        ({"events.timestamp_field": "at"}, r"events\.timestamp_field = at .*events\.model = json only"),
        ({"events.model": "json", "events.timestamp_field": "a..b"}, r"events\.timestamp_field = a\.\.b"),
    ],
)
def test_what_does_not_go_together_is_named(keys: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(environ={variable(key): value for key, value in keys.items()})


# Many at once, as each by itself

flat_objects = st.dictionaries(st.text(max_size=3), SCALARS, max_size=6).map(
    lambda it: msgspec.json.encode(it, enc_hook=str)
)
near_the_limits = st.sampled_from([value for value, _ in UNSOUND if value is None or len(value) < 1000]) | st.builds(
    lambda digits, depth: b'{"a":%s,"b":%s}' % (b"9" * digits, msgspec.json.encode(nested(depth))),
    st.integers(300, 312),
    st.integers(1, 102),
)
with_times = (times | st.text(max_size=3) | st.none()).map(lambda time: msgspec.json.encode({"sent_at": time}))
REFERENCES = [
    (JsonValidator(rules), ReferenceJsonValidator(rules))
    for rules in (
        EventsConfig(model="json"),
        EventsConfig(model="json", tombstones="row", max_bytes=Size(300)),
        EventsConfig(model="json", timestamp_field="sent_at"),
        EventsConfig(model="json", timestamp_field="sent_at", naive_timestamps="reject"),
    )
]


@given(
    st.lists(flat_objects, min_size=1, max_size=40)
    | st.lists(times.map(lambda time: msgspec.json.encode({"sent_at": time})), min_size=1, max_size=3)
    | st.lists(flat_objects | with_times | as_sdks_send_it() | damaged() | near_the_limits, min_size=1, max_size=40),
    st.sampled_from([-1, 0, 1, 999, 1001, 86_400_000]),
)
@example([value for value, _ in UNSOUND for value in (b'{"a":1}', value, b'{"a":1.50}')], 1)
@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example])
def test_a_block_of_objects_has_the_rows_and_rejects_of_each_by_itself(values: list[bytes | None], step: int) -> None:
    records = [PlainRecord(offset, SENT * (step > 0) + offset * step, value) for offset, value in enumerate(values)]
    for validator, reference in REFERENCES:
        found, expected = validator.chunk(P1, records), reference.chunk(P1, records)
        assert (found.rows, found.accepted, found.rejected) == (expected.rows, expected.accepted, expected.rejected)


@pytest.mark.parametrize("unsound", [value for value, _ in UNSOUND])
def test_one_bad_value_rejects_itself_and_no_neighbour(unsound: bytes | None) -> None:
    found = validated(*[b'{"a": 1}'] * 50, unsound, *[b'{"a": 2}'] * 50)
    assert [it.position for it in found.rejected] == [50]
    assert [json.loads(line)["source_offset"] for line in found.rows.splitlines()] == [
        7 + number for number in range(101) if number != 50
    ]


@pytest.mark.parametrize("at", range(50))
def test_no_integer_beyond_a_doubles_range_hides_among_short_values(at: int) -> None:
    """Only some bytes of a block are looked at: whatever stands before the number, enough of them are its digits."""
    long = b'{"a":"' + b"x" * at + b'","b":' + b"9" * 309 + b"}"
    assert [it.reason for it in validated(b"{}", long, b"{}").rejected] == [Reason.NUMBER_OUT_OF_RANGE]


def test_the_size_limit_is_the_configured_one_and_inclusive() -> None:
    value = b'{"a": 1}'
    assert not validated(value, max_bytes=Size(len(value))).rejected
    assert reason(value, max_bytes=Size(len(value) - 1)) == (Reason.TOO_LARGE, "$")


class Refused(msgspec.Struct):
    """A record that its source may have refused."""

    offset: int
    refused: SourceRefusal | None
    timestamp: int = SENT
    value: bytes | None = b'{"a": 1}'
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = ()


def test_what_its_source_has_refused_is_rejected_though_its_value_is_sound() -> None:
    records = [Refused(0, None), Refused(1, SourceRefusal(Reason.POINTER, "only a name"))]
    found = JsonValidator(EventsConfig(model="json")).chunk(P1, records)
    assert found.accepted == {COUNTED_AS: 1}
    assert [(it.position, it.reason, it.message) for it in found.rejected] == [(1, Reason.POINTER, "only a name")]


@pytest.fixture
def parsed_slowly(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The values that only the exact way could judge."""
    found: list[bytes] = []

    def counting(value: bytes) -> dict[str, Any]:
        found.append(value)
        return parse(value)

    monkeypatch.setattr(json_validation, "parse", counting)
    return found


@pytest.mark.parametrize(
    "sound",
    [b'{"a": 1}', b'{"a": "' + b"x" * 1000 + b'"}', b'{"a": [1.50]}', b'{"a": ' + b"[" * 90 + b"]" * 90 + b"}"],
    ids=["short", "long", "array", "deep"],
)
def test_the_neighbours_of_a_bad_value_are_decoded_quickly(sound: bytes, parsed_slowly: list[bytes]) -> None:
    assert len(validated(*[sound] * 5, b"{", *[sound] * 5).rejected) == 1
    assert parsed_slowly == [b"{"]
