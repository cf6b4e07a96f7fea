"""From record bytes to rows: what is accepted, what becomes of it, and what is rejected and why."""

import itertools
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from msgspec import Meta

from ingestd.config.model import EventsConfig
from ingestd.config.types import Size
from ingestd.core.decoding import EventDecoder
from ingestd.core.events import ORIGIN_FIELDS, Event, load_model, make_model
from ingestd.core.records import PlainRecord, TopicPartition
from ingestd.core.rejections import DEPTH_MAX, MESSAGE_MAX, PATH_MAX, Reason, RejectedRecord, parse
from ingestd.core.validation import EventValidator, Rejected, Validated, Validator
from tests.reference_validator import ReferenceValidator

PARTITION = TopicPartition("marketing_events", 3)
KAFKA_TIME = 1_795_000_000_123  # 2026-11-18T11:06:40.123Z
ORIGIN = (
    b'"source_topic":"marketing_events","source_partition":3,"source_offset":0,'
    b'"received_at":"2026-11-18T11:06:40.123000Z"'
)
GOOD = {
    "event_id": "e-1",
    "client_id": "c-1",
    "event_timestamp": "2026-11-22T10:00:00Z",
    "event_type": "web_visit",
    "event_category": "marketing",
    "channel": "web",
}
MINIMAL = {name: GOOD[name] for name in ("event_type", "event_id", "client_id", "event_timestamp")}
KNOWN = {
    "event_type", "event_id", "client_id", "event_timestamp", "event_category", "page_url", "session_id", "channel",
    "device_type", "campaign_id", "duration_s", "consent", "properties",
}  # fmt: skip
OWN = EventValidator(EventsConfig(), load_model(None))

_ENCODER = msgspec.json.Encoder(decimal_format="number")
_DECODER: msgspec.json.Decoder[dict[str, Any]] = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal)


def chunk(*values: bytes | None, validator: Validator = OWN, timestamp: int = KAFKA_TIME) -> Validated:
    return validator.chunk(PARTITION, [PlainRecord(offset, timestamp, value) for offset, value in enumerate(values)])


def with_fields(**changes: object) -> bytes:
    """A good event with other fields; Ellipsis takes one away."""
    return _ENCODER.encode({name: value for name, value in (GOOD | changes).items() if value is not ...})


def raw(field: bytes) -> bytes:
    """A good event with `field` as its last bytes, not made by any encoder."""
    return with_fields()[:-1] + b"," + field + b"}"


def row(value: bytes, validator: Validator = OWN) -> dict[str, Any]:
    """The row that `value` makes, without its origin."""
    outcome = chunk(value, validator=validator)
    assert not outcome.rejected, outcome.rejected
    (line,) = outcome.rows.splitlines()
    return {name: field for name, field in _DECODER.decode(line).items() if name not in ORIGIN_FIELDS}


def rejection(value: bytes | None, validator: Validator = OWN) -> Rejected:
    outcome = chunk(value, validator=validator)
    assert (outcome.rows, outcome.accepted) == (b"", {})
    (rejected,) = outcome.rejected
    return rejected


def why(value: bytes | None, validator: Validator = OWN) -> tuple[str, str]:
    rejected = rejection(value, validator)
    return rejected.reason, rejected.path


def nested(depth: int) -> Any:
    """`depth` arrays within each other."""
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


# Rows


def test_row_is_canonical_and_carries_its_origin() -> None:
    sloppy = (
        b' { "client_id":"c\\u002d1", "event_type":"email_open",\n'
        b'"event_id":"e-1", "event_timestamp":"2026-11-22T12:00:00.5+02:00"} '
    )
    assert chunk(sloppy).rows == (
        b'{"event_type":"email_open","event_id":"e-1","client_id":"c-1","event_timestamp":"2026-11-22T10:00:00.500000Z",'
        b'"event_category":"email","channel":"email",' + ORIGIN + b"}\n"
    )


def test_rows_keep_the_order_of_records_and_count_by_type() -> None:
    kinds = ["web_visit", "email_open", "webinar", "web_visit", "podcast"]
    values = [with_fields(event_type=kind) for kind in kinds]
    outcome = chunk(values[0], b"", *values[1:])
    lines = [_DECODER.decode(line) for line in outcome.rows.splitlines()]
    assert [(line["event_type"], line["source_offset"]) for line in lines] == list(
        zip(kinds, [0, 2, 3, 4, 5], strict=True)
    )
    assert outcome.accepted == {"web_visit": 2, "email_open": 1, "generic": 2}
    assert [(one.position, one.record.offset) for one in outcome.rejected] == [(1, 1)]


def test_no_records_make_no_rows() -> None:
    assert chunk() == Validated([], {}, [])


@pytest.mark.parametrize(
    ("kind", "category", "channel"),
    [
        ("web_visit", "web", "web"),
        ("email_open", "email", "email"),
        ("email_click", "email", "email"),
        ("advisor_call", "advisor", "phone"),
        ("webinar", None, None),
    ],
)
def test_fills_in_category_and_channel_only_where_there_is_none(
    kind: str, category: str | None, channel: str | None
) -> None:
    filled = row(with_fields(event_type=kind, event_category=None, channel=...))
    assert (filled.get("event_category"), filled.get("channel")) == (category, channel)
    kept = row(with_fields(event_type=kind, event_category="", channel="kiosk"))
    assert (kept["event_category"], kept["channel"]) == ("", "kiosk")


@pytest.mark.parametrize("timestamp", [-1, -(2**63), 2**63 - 1, 253_402_300_800_000])
def test_leaves_received_at_out_where_kafka_has_no_usable_time(timestamp: int) -> None:
    assert b"received_at" not in chunk(with_fields(), timestamp=timestamp).rows


def test_each_record_has_its_own_received_at() -> None:
    records = [PlainRecord(offset, time, with_fields()) for offset, time in enumerate([0, 1, 1, -1, 2, 0])]
    lines = OWN.chunk(PARTITION, records).rows.splitlines()
    times = [_DECODER.decode(line).get("received_at", "")[17:] for line in lines]
    assert times == ["00Z", "00.001000Z", "00.001000Z", "", "00.002000Z", "00Z"]


@pytest.mark.parametrize(
    ("time", "written"),
    [
        ("2026-11-22T10:00:00", "2026-11-22T10:00:00Z"),
        ("2026-11-22T10:00:00.123456", "2026-11-22T10:00:00.123456Z"),
        ("2026-11-22 10:00:00-05:30", "2026-11-22T15:30:00Z"),
        ("1582-01-01T00:00:00Z", "1582-01-01T00:00:00Z"),
        ("1581-12-31T23:30:00-01:00", "1582-01-01T00:30:00Z"),
        ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z"),
    ],
)
def test_writes_times_in_utc_and_takes_naive_ones_as_utc(time: str, written: str) -> None:
    assert row(with_fields(event_timestamp=time))["event_timestamp"] == written


# Unknown fields and types


def test_unknown_fields_move_into_properties() -> None:
    moved = row(with_fields(utm="x", deep={"a": [1, None]}, gone=None))
    assert moved == GOOD | {"properties": {"utm": "x", "deep": {"a": [1, None]}, "gone": None}}


def test_moved_fields_are_sorted_after_the_properties_whatever_the_producers_order() -> None:
    moved = row(with_fields(b=1, properties={"c": 2, "B": 3}, a=4))
    assert list(moved["properties"].items()) == [("c", 2), ("B", 3), ("a", 4), ("b", 1)]


def test_a_moved_field_gets_underscores_until_its_name_is_free() -> None:
    moved = row(with_fields(a=1, _a=2, properties={"a": 3, "__a": 4}))
    assert moved["properties"] == {"a": 3, "__a": 4, "_a": 2, "___a": 1}  # "_a" is before "a"


@pytest.mark.parametrize("name", ORIGIN_FIELDS)
@pytest.mark.parametrize("value", ["theirs", 5, None, "2026-01-01T00:00:00Z"])
def test_a_producers_own_origin_moves_and_never_passes_for_ours(name: str, value: object) -> None:
    outcome = chunk(with_fields(**{name: value}))
    assert ORIGIN in outcome.rows
    assert _DECODER.decode(outcome.rows)["properties"] == {name: value}


def test_an_unknown_type_is_kept_as_a_generic_event() -> None:
    assert row(with_fields(event_type="webinar", seats=3)) == GOOD | {
        "event_type": "webinar",
        "properties": {"seats": 3},
    }


def test_an_unknown_type_is_rejected_where_the_configuration_says_so() -> None:
    strict = EventValidator(EventsConfig(unknown_types="reject"), load_model(None))
    assert why(with_fields(event_type="webinar"), strict) == (Reason.UNKNOWN_TYPE, "$.event_type")
    assert why(with_fields(event_type="generic"), strict) == (Reason.UNKNOWN_TYPE, "$.event_type")


def test_of_duplicate_keys_the_last_counts() -> None:
    assert row(raw(b'"client_id":"last"'))["client_id"] == "last"
    assert row(raw(b'"event_type":"email_open"'))["event_type"] == "email_open"
    assert row(raw(b'"properties":{"a":1,"a":2}'))["properties"] == {"a": 2}
    assert row(raw(b'"x":1,"x":2'))["properties"] == {"x": 2}


@pytest.mark.parametrize(
    "number",
    [
        "12345678901234567890", "-1234567890123456789012345678901234567890", "12345678901234567.8912345", "0.10",
        "1.50", "1e5", "1E-7", "-0.0", "1.7976931348623157e308", "-1.7976931348623157e308", "5e-324",
        "1" * 309, str(2**1024 - 2**970 - 1),
        "0." + "3" * 400,
    ],
)  # fmt: skip
@pytest.mark.parametrize("key", ['"amount":%s', '"properties":{"amount":%s}', '"properties":{"deep":[{"amount":%s}]}'])
def test_numbers_keep_every_digit(key: str, number: str) -> None:
    properties = row(raw((key % number).encode()))["properties"]
    amount = properties["amount"] if "amount" in properties else properties["deep"][0]["amount"]
    assert Decimal(amount).as_tuple() == Decimal(number).as_tuple()


# What is rejected

BEYOND_DOUBLE = [
    str(2**1024 - 2**970),
    str(2**970 - 2**1024),
    "1.797693134862315808e308",
    "0e400",
    "2e-324",
    "1e309",
    "-1e400",
    "1.8e308",
    "9" * 309,
    "-" + "9" * 400,
    "9" * 5000,
    "1e-400",
    "1e99999999999999999999",
]


@pytest.mark.parametrize(
    ("value", "reason", "path"),
    [
        (None, "null_value", "$"),
        (b"", "empty_value", "$"),
        (b"   ", "truncated", "$"),
        (b"hello", "not_json", "$"),
        (b"2026-11-22 INFO started", "not_json", "$"),
        (b"<html><body>502</body></html>", "not_json", "$"),
        (b"\xef\xbb\xbf" + with_fields(), "not_json", "$"),
        (with_fields() + with_fields(), "not_json", "$"),
        (with_fields() + b"," + with_fields(), "not_json", "$"),
        (with_fields().decode().encode("utf-16"), "not_json", "$"),
        (raw(b'"duration_s":NaN'), "not_json", "$"),
        (raw(b'"x":Infinity'), "not_json", "$"),
        (raw(b'"x":01'), "not_json", "$"),
        (raw(b'"x":"\n"'), "not_json", "$"),
        (raw(b'"x":"\\u12"'), "not_json", "$"),
        (with_fields()[:-1], "truncated", "$"),
        (with_fields()[:40], "truncated", "$"),
        (b"[1,2]", "wrong_type", "$"),
        (b'"text"', "wrong_type", "$"),
        (b"null", "wrong_type", "$"),
        (b"[" + with_fields() + b"]", "wrong_type", "$"),
        (raw(b'"page_url":"\xff"'), "invalid_utf8", "$"),
        (raw(b'"\xff":1'), "invalid_utf8", "$"),
        (raw(b'"properties":{"a":"\xed\xa0\x80"}'), "invalid_utf8", "$"),
        (raw(b'"page_url":"\\ud800"'), "lone_surrogate", "$"),
        (raw(b'"page_url":"\\ud83d and so on and on"'), "lone_surrogate", "$"),
        (raw(b'"properties":{"\\udc00":1}'), "lone_surrogate", "$"),
        (raw(b'"x":"\\ude00\\ud83d"'), "lone_surrogate", "$"),
        (with_fields(client_id=17), "wrong_type", "$.client_id"),
        (with_fields(client_id=None), "wrong_type", "$.client_id"),
        (with_fields(event_type=5), "wrong_type", "$.event_type"),
        (with_fields(event_type=None), "wrong_type", "$.event_type"),
        (with_fields(event_type=["web_visit"]), "wrong_type", "$.event_type"),
        (with_fields(duration_s=1.5), "wrong_type", "$.duration_s"),
        (with_fields(duration_s="1"), "wrong_type", "$.duration_s"),
        (with_fields(consent="yes"), "wrong_type", "$.consent"),
        (with_fields(properties=[1]), "wrong_type", "$.properties"),
        (with_fields(properties="x", unknown=1), "wrong_type", "$.properties"),
        (with_fields(event_timestamp=1795000000), "wrong_type", "$.event_timestamp"),
        (with_fields(client_id=17, unknown=1), "wrong_type", "$.client_id"),
        (with_fields(client_id=17, event_type="webinar"), "wrong_type", "$.client_id"),
        (with_fields(event_id=...), "missing_field", "$.event_id"),
        (with_fields(client_id=...), "missing_field", "$.client_id"),
        (with_fields(event_timestamp=...), "missing_field", "$.event_timestamp"),
        (with_fields(event_type=...), "missing_field", "$.event_type"),
        (b"{}", "missing_field", "$.event_type"),
        (with_fields(event_id=..., event_type="webinar"), "missing_field", "$.event_id"),
        (with_fields(event_id=""), "too_short", "$.event_id"),
        (with_fields(event_type=""), "too_short", "$.event_type"),
        (with_fields(client_id="x" * 257), "too_long", "$.client_id"),
        (with_fields(page_url="x" * 8193), "too_long", "$.page_url"),
        (with_fields(event_type="x" * 257), "too_long", "$.event_type"),
        (with_fields(duration_s=2**63), "number_out_of_range", "$.duration_s"),
        (with_fields(duration_s=-(2**63) - 1), "number_out_of_range", "$.duration_s"),
        (with_fields(event_timestamp="yesterday"), "invalid_timestamp", "$.event_timestamp"),
        (with_fields(event_timestamp="2026-02-30T00:00:00Z"), "invalid_timestamp", "$.event_timestamp"),
        (with_fields(event_timestamp="30000-01-01T00:00:00Z"), "timestamp_out_of_range", "$.event_timestamp"),
        (with_fields(event_timestamp="+30000-01-01T00:00:00Z"), "timestamp_out_of_range", "$.event_timestamp"),
        (with_fields(event_timestamp="0000-01-01T00:00:00Z"), "timestamp_out_of_range", "$.event_timestamp"),
        (with_fields(event_timestamp="1581-12-31T23:59:59Z"), "timestamp_out_of_range", "$.event_timestamp"),
        (with_fields(event_timestamp="1581-12-31T23:59:59"), "timestamp_out_of_range", "$.event_timestamp"),
        (with_fields(event_timestamp="1582-01-01T00:30:00+01:00"), "timestamp_out_of_range", "$.event_timestamp"),
        (with_fields(event_timestamp="9999-12-31T23:59:59-01:00"), "timestamp_out_of_range", "$.event_timestamp"),
        (with_fields(event_timestamp="0001-01-01T00:00:00+23:00"), "timestamp_out_of_range", "$.event_timestamp"),
        (with_fields(blob="x" * 5_000_000), "too_large", "$"),
        (raw(b'"x":' + b"[" * 100_000), "too_deep", "$"),
    ],
)  # fmt: skip
def test_says_what_is_wrong_and_where(value: bytes | None, reason: str, path: str) -> None:
    assert why(value) == (reason, path)


@pytest.mark.parametrize("number", BEYOND_DOUBLE)
def test_rejects_numbers_beyond_a_doubles_range_with_their_path(number: str) -> None:
    places = {
        '"amount":%s': "$.amount",
        '"properties":{"amount":%s}': "$.properties.amount",
        '"properties":{"list":[1,{"a b":%s}]}': '$.properties.list[1]["a b"]',
    }
    for field, path in places.items():
        reason, found = why(raw((field % number).encode()))
        assert reason == Reason.NUMBER_OUT_OF_RANGE
        # msgspec refuses integers of more than 4300 digits itself, and has no keys in its paths.
        assert found == path or (len(number) > 4300 and "[...]" in found)


def test_rejects_naive_times_where_the_configuration_says_so() -> None:
    strict = EventValidator(EventsConfig(naive_timestamps="reject"), load_model(None))
    assert why(with_fields(event_timestamp="2026-11-22T10:00:00"), strict) == ("naive_timestamp", "$.event_timestamp")
    assert row(with_fields(), strict) == GOOD


def test_size_limit_is_the_configured_one_and_inclusive() -> None:
    value = with_fields()
    assert row(value, EventValidator(EventsConfig(max_bytes=Size(len(value))), load_model(None)))
    tight = rejection(value, EventValidator(EventsConfig(max_bytes=Size(len(value) - 1)), load_model(None)))
    assert tight.reason == Reason.TOO_LARGE
    assert tight.message == f"{len(value)} bytes, above events.max_bytes = {len(value) - 1}"


def test_depth_limit_counts_the_row_and_names_a_path() -> None:
    deepest = nested(DEPTH_MAX - 2)
    for good in (with_fields(properties={"a": deepest}), with_fields(a=deepest)):
        assert row(good)["properties"] == {"a": deepest}
    for bad in (with_fields(properties={"a": [deepest]}), with_fields(a=[deepest]), with_fields(a=[[deepest]])):
        reason, path = why(bad)
        assert reason == Reason.TOO_DEEP
        assert path.endswith("a" + "[0]" * 95) or len(path) == PATH_MAX


def test_depth_limit_does_not_depend_on_the_callers_stack() -> None:
    values = [with_fields(a=nested(DEPTH_MAX - 2)), with_fields(a=nested(DEPTH_MAX - 1))]

    def called_from(depth: int) -> Validated:
        return chunk(*values) if depth == 0 else called_from(depth - 1)

    assert called_from(500).rows == chunk(*values).rows
    assert [one.position for one in called_from(500).rejected] == [1]


def test_messages_and_paths_are_bounded() -> None:
    strict = EventValidator(EventsConfig(unknown_types="reject"), load_model(None))
    assert len(rejection(with_fields(event_type="x" * 100_000), strict).message) == MESSAGE_MAX
    assert len(rejection(raw(b'"properties":{"%s":1e400}' % (b"x" * 100_000))).path) == PATH_MAX


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("event_id", 256),
        ("client_id", 256),
        ("event_type", 256),
        ("event_category", 256),
        ("page_url", 8192),
        ("session_id", 256),
        ("channel", 256),
        ("device_type", 256),
        ("campaign_id", 256),
    ],
)
def test_text_is_limited_in_characters_not_bytes(name: str, limit: int) -> None:
    assert row(with_fields(**{name: "\N{GRINNING FACE}" * limit}))[name] == "\N{GRINNING FACE}" * limit
    assert why(with_fields(**{name: "x" * (limit + 1)})) == (Reason.TOO_LONG, f"$.{name}")


@pytest.mark.parametrize("number", [-(2**63), -1, 0, 2**63 - 1])
def test_a_duration_has_64_bits(number: int) -> None:
    assert row(with_fields(duration_s=number))["duration_s"] == number


# A user's own model


class Limits(msgspec.Struct, forbid_unknown_fields=True):
    low: int
    inner: "Limits | None" = None


class Trade(Event, tag="trade"):
    amount: Decimal | None = None
    count: int | None = None
    settled_at: datetime | None = None
    opened_at: Annotated[datetime, Meta(tz=True)] | None = None
    limits: Limits | tuple[Decimal, ...] | None = None
    isin: Annotated[str, Meta(pattern="^[A-Z]{2}")] | None = None
    by_day: dict[Annotated[int, Meta(ge=1, le=366)], float] | None = None

    def __post_init__(self) -> None:
        if self.count == 13:
            raise ValueError("13 brings bad luck")
        if self.count == 14:
            raise KeyError("a mistake of the model's")


class Picky(Event, tag="web_visit"):
    """Its check needs the properties."""

    def __post_init__(self) -> None:
        if self.properties and "a" in self.properties:
            raise ValueError("a is not wanted")


TRADES = EventValidator(EventsConfig(), make_model(Trade))
STRICT_TRADES = EventValidator(EventsConfig(unknown_types="reject", naive_timestamps="reject"), make_model(Trade))


def trade(**fields: object) -> bytes:
    return with_fields(**{"event_type": "trade"} | fields)


def test_a_users_fields_are_columns_and_the_rest_moves() -> None:
    value = trade(amount=Decimal("12.50"), by_day={"1": 0.5}, seats=3)
    assert row(value, TRADES) == GOOD | {
        "event_type": "trade", "amount": Decimal("12.50"), "by_day": {"1": Decimal("0.5")}, "properties": {"seats": 3}
    }  # fmt: skip


def test_a_model_of_one_type_needs_the_event_type_too() -> None:
    assert why(trade(event_type=...), TRADES) == (Reason.MISSING_FIELD, "$.event_type")
    assert chunk(with_fields(), trade(), validator=TRADES).accepted == {"generic": 1, "trade": 1}


def test_counts_add_up_where_a_users_tag_is_the_word_for_unknown_types() -> None:
    class Odd(Event, tag="generic"):
        pass

    validator = EventValidator(EventsConfig(), make_model(Odd))
    outcome = chunk(with_fields(event_type="generic"), with_fields(event_type="webinar"), validator=validator)
    assert outcome.accepted == {"generic": 2}


def quick_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: EventDecoder, value: bytes) -> Event:
        raise AssertionError(f"decoded exactly: {value!r}")

    monkeypatch.setattr(EventDecoder, "exact", refuse)


@pytest.mark.parametrize(
    "fields",
    [
        {"context": {"page": {"path": "/", "tags": ["a", 1, None]}}, "utm": "x", "properties": {"price": 1.5}},
        {"event_type": "webinar", "seats": 3},
        {"event_timestamp": "2026-11-22T12:00:00+02:00", "utm": "x"},
        {"total": 12345678901234567890123, "long": Decimal("0.12345678901234567890123"), "large": Decimal("1e21")},
        {"products": [{"sku": f"F-{number}"} for number in range(300)]},
        {"text": "[{" * 300, "properties": {"[": "{"}},
    ],
)
def test_what_sdks_send_is_decoded_quickly(monkeypatch: pytest.MonkeyPatch, fields: dict[str, object]) -> None:
    expected = chunk(with_fields(**fields)).rows
    quick_only(monkeypatch)
    assert chunk(with_fields(**fields)).rows == expected
    mixed = chunk(*[with_fields(), with_fields(**fields)] * 40)
    assert sum(mixed.accepted.values()) == 80


def test_a_models_own_check_sees_properties_beside_unknown_fields() -> None:
    picky = EventValidator(EventsConfig(), make_model(Picky))
    assert why(with_fields(utm="x", properties={"a": 1}), picky) == (Reason.INVALID, "$")
    assert row(with_fields(utm="x", properties={"b": 1}), picky)["properties"] == {"b": 1, "utm": "x"}


def test_a_users_times_are_written_in_utc() -> None:
    assert row(trade(settled_at="2026-11-22T01:00:00+02:00"), TRADES)["settled_at"] == "2026-11-21T23:00:00Z"


@pytest.mark.parametrize(
    ("field", "reason", "path"),
    [
        (b'"amount":1e400', "number_out_of_range", "$.amount"),
        (b'"amount":"NaN"', "number_out_of_range", "$.amount"),
        (b'"amount":"sNaN"', "number_out_of_range", "$.amount"),
        (b'"amount":"-Infinity"', "number_out_of_range", "$.amount"),
        (b'"count":' + b"9" * 400, "number_out_of_range", "$.count"),
        (b'"by_day":{"1":1e400}', "number_out_of_range", '$.by_day["1"]'),
        (b'"limits":[1,1e400]', "number_out_of_range", "$.limits[1]"),
        (b'"limits":{"low":1,"inner":{"low":%s}}' % (b"9" * 400), "number_out_of_range", "$.limits.inner.low"),
        (b'"limits":' + b'{"low":1,"inner":' * 200 + b"null" + b"}" * 200, "too_deep", "$.limits" + ".inner" * 99),
        (b'"limits":{"low":1,"high":2}', "unknown_field", "$.limits"),
        (b'"limits":{}', "missing_field", "$.limits.low"),
        (b'"settled_at":"1500-01-01T00:00:00Z"', "timestamp_out_of_range", "$.settled_at"),
        (b'"opened_at":"2026-01-01T00:00:00"', "naive_timestamp", "$.opened_at"),
        (b'"isin":"de"', "invalid", "$.isin"),
        (b'"count":13', "invalid", "$"),
        (b'"count":14', "invalid", "$"),
    ],
)
def test_a_users_types_are_held_to_the_same_limits(field: bytes, reason: str, path: str) -> None:
    found_reason, found_path = why(trade()[:-1] + b"," + field + b"}", TRADES)
    assert found_reason == reason
    assert found_path == path[:PATH_MAX]


# Whatever comes

nasty_numbers = st.sampled_from(
    ["1e308", "1e309", "-1e309", "1e-323", "1e-400", "0e400", "-0.0", "1.50", "1e99999999999999999999"]
)
leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**320), 10**320)
    | st.decimals(allow_nan=False, allow_infinity=False)
    | nasty_numbers.map(msgspec.Raw)
    | st.text(max_size=6)
)
names = st.sampled_from(
    ["a", "_a", "__a", "", "never", "generic", "_source_topic", *ORIGIN_FIELDS, *sorted(KNOWN)]
) | st.text(max_size=3)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4), max_leaves=8
)
EARLIEST = datetime(1581, 12, 30)  # noqa: DTZ001
offsets = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
times = (st.datetimes(EARLIEST) | st.datetimes(EARLIEST, timezones=offsets)).map(datetime.isoformat)
texts = st.text(max_size=6) | st.none()
good_fields = st.fixed_dictionaries(
    {
        "event_id": st.text(min_size=1, max_size=6),
        "client_id": st.text(min_size=1, max_size=6),
        "event_timestamp": times,
        "event_type": st.sampled_from(["web_visit", "email_open", "advisor_call", "webinar", "trade"]),
    },
    optional={
        "event_category": texts,
        "channel": texts,
        "page_url": texts,
        "duration_s": st.none() | st.integers(-(2**63), 2**63 - 1),
        "consent": st.none() | st.booleans(),
        "properties": st.none() | st.dictionaries(names, values, max_size=4),
    },
)
unknown_fields = st.dictionaries(names.filter(lambda name: name not in KNOWN), values, max_size=4)
mostly_good = st.builds(lambda good, unknown: _ENCODER.encode(good | unknown), good_fields, unknown_fields)
any_objects = st.builds(
    lambda good, changes: _ENCODER.encode(good | changes), good_fields, st.dictionaries(names, values, max_size=3)
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    value = draw(mostly_good)
    start = draw(st.integers(0, len(value)))
    end = draw(st.integers(start, len(value)))
    return value[:start] + draw(st.binary(max_size=4)) + value[end:]


def exact(value: Any) -> Any:
    """`value`, in a form that is equal only where every digit is."""
    match value:
        case dict():
            return {key: exact(item) for key, item in value.items()}
        case list():
            return [exact(item) for item in value]
        case Decimal():
            return value.as_tuple()
        case bool():
            return str(value)
    return value


def assert_sound(outcome: Validated, values: Sequence[bytes | None]) -> list[dict[str, Any]]:
    """What holds for every outcome, whatever the input; gives the rows."""
    rejected = {one.position for one in outcome.rejected}
    assert [one.record.value for one in outcome.rejected] == [
        value for at, value in enumerate(values) if at in rejected
    ]
    assert sum(outcome.accepted.values()) + len(rejected) == len(values)
    assert outcome.rows.endswith(b"\n") or not outcome.rows
    lines = outcome.rows.split(b"\n")[:-1]
    rows = [_DECODER.decode(line) for line in lines]
    assert [found["source_offset"] for found in rows] == [at for at in range(len(values)) if at not in rejected]
    for line, found in zip(lines, rows, strict=True):
        msgspec.json.decode(line)  # as doubles: refuses what is beyond their range
        assert len(_ENCODER.encode(found)) == len(line)  # so no key is there twice
        assert (found["source_topic"], found["source_partition"]) == PARTITION
        assert found["received_at"] == "2026-11-18T11:06:40.123000Z"
        assert found["event_timestamp"].endswith("Z")
        assert datetime.fromisoformat(found["event_timestamp"]).year >= 1582
        assert found.keys() <= KNOWN | set(ORIGIN_FIELDS)
    return rows


@pytest.mark.parametrize(
    "value",
    [
        with_fields(client_id=3),
        with_fields(client_id=3, more=[1]),
        with_fields(event_id=...),
        b"{",
        b"",
        raw(b'"x":1e999'),
    ],
    ids=["wrong type", "wrong type beside an unknown field", "missing", "not JSON", "empty", "number"],
)
def test_keeps_nothing_of_a_chunk_once_its_outcome_is_gone(value: bytes) -> None:
    """Events are not tracked by the garbage collector, so a cycle of references would hold their chunk for ever."""
    records = [PlainRecord(0, KAFKA_TIME, with_fields()), PlainRecord(1, KAFKA_TIME, value)]
    OWN.chunk(PARTITION, records)  # what is made once and kept
    before = sys.getrefcount(records[0]), sys.getrefcount(records[1])
    assert len(OWN.chunk(PARTITION, records).rejected) == 1
    assert (sys.getrefcount(records[0]), sys.getrefcount(records[1])) == before


@given(st.lists(st.none() | st.binary(max_size=60) | damaged() | any_objects, max_size=4))
def test_never_raises_and_accounts_for_every_record(values: list[bytes | None]) -> None:
    assert_sound(chunk(*values), values)
    assert_sound(chunk(*values, validator=STRICT_TRADES), values)


@given(any_objects)
@example(with_fields(a=1, _a=2, properties={"a": 3}))
def test_a_row_is_its_own_canonical_form(value: bytes) -> None:
    for found in assert_sound(chunk(value), [value]):
        again = _ENCODER.encode({name: field for name, field in found.items() if name not in ORIGIN_FIELDS})
        assert chunk(again).rows == chunk(value).rows


@given(any_objects)
def test_a_field_that_was_overridden_by_a_duplicate_leaves_no_trace(value: bytes) -> None:
    # The type of the first event_id makes the fast path refuse it, so this compares it with the second look.
    duplicate = b'{"event_id":0,' + value[1:]
    assert chunk(duplicate).rows == chunk(value).rows


@given(mostly_good)
def test_no_value_is_lost(value: bytes) -> None:
    for found in assert_sound(chunk(value), [value]):
        sent = _DECODER.decode(value)
        properties = dict(found.get("properties") or {})
        for name, field in (sent.get("properties") or {}).items():
            assert exact(properties.pop(name)) == exact(field)
        for name, field in sent.items():
            if name not in KNOWN:
                kept = next(moved for moved in (("_" * n) + name for n in itertools.count()) if moved in properties)
                assert exact(properties.pop(kept)) == exact(field)
            elif name == "event_timestamp":
                time = datetime.fromisoformat(field)
                assert datetime.fromisoformat(found[name]) == (time if time.tzinfo else time.replace(tzinfo=UTC))
            elif field is not None and name != "properties":
                assert exact(found[name]) == exact(field)
        assert not properties


@given(good_fields)
def test_rejects_no_event_for_anything_but_its_time_or_its_numbers(fields: dict[str, Any]) -> None:
    reasons = {one.reason for one in chunk(_ENCODER.encode(fields)).rejected}
    assert reasons <= {Reason.TIMESTAMP_OUT_OF_RANGE, Reason.NUMBER_OUT_OF_RANGE, Reason.NOT_JSON}


def test_a_lone_surrogate_is_not_called_truncated() -> None:
    """msgspec says so of one at the end of a string."""
    with pytest.raises(RejectedRecord) as failure:
        parse(raw(b'"page_url":"\\ud800"'))
    assert failure.value.args[2] == "half of an escaped surrogate pair, which UTF-8 cannot encode"


# Quick ways and the reference

raw_numbers = st.from_regex(r"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,25})?([eE][-+]?[0-9]{1,3})?", fullmatch=True).filter(
    lambda text: not re.fullmatch(r"-0[eE].*", text)  # of the integer -0 the reference makes 0, and of this one -0
)
raw_leaves = leaves | raw_numbers.map(lambda text: msgspec.Raw(text.encode()))
raw_values = st.recursive(
    raw_leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4), max_leaves=12
)


@st.composite
def as_sdks_send_it(draw: st.DrawFn, more: st.SearchStrategy[str] = names) -> bytes:
    """An event with nested fields named as `more`, in any order, with or without spaces, escapes and duplicate keys."""
    fields = draw(good_fields) | draw(st.dictionaries(more, raw_values, max_size=4))
    for name in draw(st.sets(st.sampled_from(sorted(fields)), max_size=1)):
        fields[name] = draw(raw_values)
    order = draw(st.permutations(sorted(fields)))
    order += draw(st.lists(st.sampled_from(order), max_size=1))
    comma, colon = draw(st.sampled_from([(b",", b":"), (b", ", b": "), (b",\n ", b" : ")]))
    parts = [_ENCODER.encode(name) + colon + _ENCODER.encode(fields[name]) for name in order]
    value = b"{" + comma.join(parts) + b"}"
    if draw(st.booleans()):
        value = (
            b"".join(b"\\u%04x" % ord(letter) if ord(letter) > 0x7F else letter.encode() for letter in value.decode())
            if all(ord(letter) <= 0xFFFF for letter in value.decode())
            else value
        )
    return value


REFERENCES = [
    (EventValidator(rules, model), ReferenceValidator(rules, model))
    for rules in (EventsConfig(), EventsConfig(unknown_types="reject", naive_timestamps="reject"))
    for model in (load_model(None), make_model(Picky))
]


@given(st.lists(as_sdks_send_it() | damaged() | st.none(), min_size=1, max_size=40))
@example([with_fields(event_type=None), with_fields(event_type=5), with_fields(event_type=["web_visit"])])
@example([with_fields(a=1, properties=[]), with_fields(a=1, properties=5), with_fields(a=1, client_id=17)])
@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example])
def test_quick_ways_give_the_rows_and_rejects_of_the_reference(values: list[bytes | None]) -> None:
    records = [PlainRecord(offset, KAFKA_TIME + offset, value) for offset, value in enumerate(values)]
    for validator, reference in REFERENCES:
        found, expected = validator.chunk(PARTITION, records), reference.chunk(PARTITION, records)
        assert (found.rows, found.accepted, found.rejected) == (expected.rows, expected.accepted, expected.rejected)
