"""Fields that producers name otherwise, with `events.rename`: the rows and reasons of events with the right names."""

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ingestd.config.model import EventsConfig
from ingestd.config.types import Size
from ingestd.core.errors import ConfigError
from ingestd.core.events import Event, load_model, make_model
from ingestd.core.records import PlainRecord, TopicPartition
from ingestd.core.renaming import faults, parse_path, path_text
from ingestd.core.validation import EventValidator, Validated
from tests.reference_validator import ReferenceValidator

PARTITION = TopicPartition("foreign_events", 3)
RENAME = {
    "type": "event_type",
    "id": "event_id",
    "user.id": "client_id",
    "meta.sent.at": "event_timestamp",
    r"session\.id": "session_id",
    "traits": "properties",
    "duration_s": "campaign_id",  # a field of the model itself
}
#: The names in each path of `RENAME`, written out.
MOVES: list[tuple[list[str], str]] = [
    (["type"], "event_type"),
    (["id"], "event_id"),
    (["user", "id"], "client_id"),
    (["meta", "sent", "at"], "event_timestamp"),
    (["session.id"], "session_id"),
    (["traits"], "properties"),
    (["duration_s"], "campaign_id"),
]
FOREIGN: dict[str, Any] = {
    "type": "web_visit",
    "id": "e-1",
    "user": {"id": "c-1"},
    "meta": {"sent": {"at": "2026-11-22T10:00:00Z"}},
}
RIGHT = {"event_type": "web_visit", "event_id": "e-1", "client_id": "c-1", "event_timestamp": "2026-11-22T10:00:00Z"}

_ENCODER = msgspec.json.Encoder(decimal_format="number")
_DECODER: msgspec.json.Decoder[Any] = msgspec.json.Decoder(Any, float_hook=Decimal)


class Call(Event, tag="call"):
    minutes: int
    phone: str | None = None


def chunk(*values: bytes, rename: Mapping[str, str] = RENAME, **rules: Any) -> Validated:
    validator = EventValidator(EventsConfig(rename=rename, **rules), load_model(None))
    return validator.chunk(PARTITION, [PlainRecord(at, 0, value) for at, value in enumerate(values)])


def row(event: Mapping[str, Any], rename: Mapping[str, str] = RENAME) -> dict[str, Any]:
    """The fields of the row that the producer gave."""
    found = chunk(json.dumps(event).encode(), rename=rename)
    assert not found.rejected, found.rejected
    added = {"source_topic", "source_partition", "source_offset", "received_at", "event_category", "channel"}
    return {name: value for name, value in json.loads(found.rows).items() if name not in added}


def why(value: bytes, **rules: Any) -> tuple[str, str]:
    (rejected,) = chunk(value, **rules).rejected
    return rejected.reason, rejected.path


# -- what moves, and what stays


def test_values_move_to_the_fields_of_the_model_and_leave_nothing_behind() -> None:
    assert row(FOREIGN) == RIGHT


def test_what_is_beside_a_value_that_moves_stays_where_it_is() -> None:
    sent = {"at": RIGHT["event_timestamp"], "by": 1}
    event = FOREIGN | {"user": {"id": "c-1", "name": "Ada"}, "meta": {"sent": sent}}
    assert row(event) == RIGHT | {"properties": {"user": {"name": "Ada"}, "meta": {"sent": {"by": 1}}}}


def test_a_field_that_an_event_has_already_keeps_its_value_and_the_other_is_a_property() -> None:
    assert row(FOREIGN | {"event_id": "own"}) == RIGHT | {"event_id": "own", "properties": {"id": "e-1"}}
    event = FOREIGN | {"client_id": "own"}
    assert row(event) == RIGHT | {"client_id": "own", "properties": {"user": {"id": "c-1"}}}


def test_events_with_the_right_names_stay_as_they_are() -> None:
    assert row(RIGHT | {"device_type": "phone"}) == RIGHT | {"device_type": "phone"}


def test_a_dot_in_a_name_is_written_with_a_backslash() -> None:
    assert row(FOREIGN | {"session.id": "s-1"}) == RIGHT | {"session_id": "s-1"}
    assert row(FOREIGN | {"session": {"id": "s-1"}}) == RIGHT | {"properties": {"session": {"id": "s-1"}}}


def test_an_object_can_become_the_properties_and_unknown_fields_join_it() -> None:
    assert row(FOREIGN | {"traits": {"plan": "pro"}, "x": 1}) == RIGHT | {"properties": {"plan": "pro", "x": 1}}


def test_a_value_can_come_out_of_the_properties() -> None:
    event = {**RIGHT, "properties": {"sid": "s-1"}}
    assert row(event, {"properties.sid": "session_id"}) == RIGHT | {"session_id": "s-1"}


def test_a_field_of_the_model_can_be_renamed_too() -> None:
    assert row(FOREIGN | {"duration_s": "spring"}) == RIGHT | {"campaign_id": "spring"}


def test_an_empty_object_that_nothing_was_taken_from_stays() -> None:
    assert row(FOREIGN | {"more": {}}) == RIGHT | {"properties": {"more": {}}}


def test_numbers_keep_every_digit_beside_a_rename() -> None:
    value = _ENCODER.encode(FOREIGN)[:-1] + b',"total":12345678901234567890.10}'
    assert b'"total":12345678901234567890.10' in chunk(value).rows


def test_a_number_that_the_quick_ways_leave_to_the_exact_one_does_not_stop_a_rename() -> None:
    value = _ENCODER.encode(RIGHT | {"session_id": "s", "properties": {"x": Decimal("1e-250")}})
    found = json.loads(chunk(value, rename={"session_id": "campaign_id"}).rows)
    assert (found["campaign_id"], "session_id" in found) == ("s", False)


# -- what is rejected


@pytest.mark.parametrize(
    ("change", "reason", "path"),
    [
        ({"id": ...}, "missing_field", "$.event_id"),
        ({"id": None}, "wrong_type", "$.event_id"),
        ({"id": 7}, "wrong_type", "$.event_id"),
        ({"id": ""}, "too_short", "$.event_id"),
        ({"user": "c-1"}, "missing_field", "$.client_id"),
        ({"user": {"ID": "c-1"}}, "missing_field", "$.client_id"),
        ({"user": [{"id": "c-1"}]}, "missing_field", "$.client_id"),
        ({"meta": {"sent": {"at": "yesterday"}}}, "invalid_timestamp", "$.event_timestamp"),
        ({"meta": {"sent": {"at": "12026-01-01T00:00:00Z"}}}, "timestamp_out_of_range", "$.event_timestamp"),
        ({"type": 5}, "wrong_type", "$.event_type"),
        ({"x": Decimal("1e400")}, "number_out_of_range", "$.x"),
        ({"traits": "none"}, "wrong_type", "$.properties"),
    ],
)
def test_a_reason_names_the_field_of_the_model(change: dict[str, Any], reason: str, path: str) -> None:
    event = {name: value for name, value in (FOREIGN | change).items() if value is not ...}
    assert why(_ENCODER.encode(event)) == (reason, path)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "empty_value"), (b"[]", "wrong_type"), (b'{"id": "e', "truncated"), (b"<html>", "not_json"),
        (b'{"id": "\xff"}', "invalid_utf8"), (rb'{"id": "\ud800"}', "lone_surrogate"),
        (b'{"user":' + b'{"id":' * 2000 + b"1" + b"}" * 2001, "too_deep"),
    ],
)  # fmt: skip
def test_what_is_no_event_is_rejected_for_its_own_reason(value: bytes, reason: str) -> None:
    assert why(value)[0] == reason


def test_the_depth_counts_where_a_value_has_moved_to() -> None:
    deep: Any = 1
    for _ in range(98):
        deep = {"x": deep}
    value = json.dumps(FOREIGN | {"meta": {"sent": {"at": RIGHT["event_timestamp"]}}, "more": deep}).encode()
    assert not chunk(value).rejected
    assert why(json.dumps(FOREIGN | {"more": {"x": {"x": deep}}}).encode())[0] == "too_deep"
    outer = {"type": "web_visit", "outer": FOREIGN["user"] | {"traits": deep}}
    moved = {"outer.traits": "properties", **{k: v for k, v in RENAME.items() if k in ("type", "id", "meta.sent.at")}}
    assert not chunk(json.dumps(FOREIGN | outer | {"client_id": "c"}).encode(), rename=moved).rejected


def test_the_size_limit_is_that_of_the_producers_bytes() -> None:
    value = json.dumps(FOREIGN).encode().ljust(1 << 10)
    assert not chunk(value, max_bytes=Size(1 << 10)).rejected
    assert why(value + b" ", max_bytes=Size(1 << 10)) == ("too_large", "$")


def test_a_rejected_record_has_the_bytes_that_came() -> None:
    value = json.dumps(FOREIGN | {"id": 7}).encode()
    assert chunk(value).rejected[0].record.value == value


def test_an_unknown_type_is_rejected_by_its_renamed_name() -> None:
    value = json.dumps(FOREIGN | {"type": "webinar"}).encode()
    assert chunk(value).accepted == {"generic": 1}
    assert why(value, unknown_types="reject") == ("unknown_type", "$.event_type")


# -- any event


def put_right(data: dict[str, Any]) -> dict[str, Any]:
    """`data` as its producer should have sent it."""
    for names, field in sorted(MOVES):
        holders: list[Any] = [data]
        for name in names[:-1]:
            holders.append(holders[-1].get(name) if isinstance(holders[-1], dict) else None)
        if field in data or not isinstance(holders[-1], dict) or names[-1] not in holders[-1]:
            continue
        data[field] = holders[-1].pop(names[-1])
        for at in range(len(holders) - 1, 0, -1):
            if not holders[at]:
                del holders[at - 1][names[at - 1]]
    return data


plain: st.SearchStrategy[Any] = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text(max_size=6)
plain |= st.sampled_from(["1e400", "-1e308", "0.10", "1e-320", "123456789012345678901234567890.5"]).map(Decimal)
names = st.sampled_from(["id", "at", "sent", "x", "session.id"]) | st.text(max_size=4)
anything = st.recursive(
    plain, lambda it: st.lists(it, max_size=2) | st.dictionaries(names, it, max_size=3), max_leaves=6
)
parts = st.lists(st.sampled_from([*(".".join(path) for path, _ in MOVES), *(field for _, field in MOVES)]), max_size=3)


@st.composite
def events(draw: st.DrawFn) -> bytes:
    """An event with each field under the producer's name, ours, both or none, and other fields beside them."""
    times = st.sampled_from(["2026-11-22T10:00:00Z", "2026-11-22T10:00:00", "1500-01-01T00:00:00Z", "soon"])
    ids = st.text(min_size=1, max_size=4)
    good: dict[str, Any] = {
        "event_type": draw(st.sampled_from(["web_visit", "call", "webinar"])),
        "event_id": draw(ids),
        "client_id": draw(ids),
        "event_timestamp": draw(times),
    }
    more = {"session_id": plain, "properties": anything, "campaign_id": plain}
    good |= draw(st.fixed_dictionaries({}, optional=more))
    data: dict[str, Any] = draw(st.dictionaries(names, anything, max_size=2))
    for path, field in MOVES:
        if field not in good:
            continue
        where = draw(st.sampled_from(["theirs"] * 6 + ["ours", "both", "none"]))
        if where in ("ours", "both"):
            data[field] = good[field]
        if where in ("theirs", "both"):
            inner = data
            for name in path[:-1]:
                if not isinstance(inner.get(name), dict):
                    inner[name] = draw(st.dictionaries(names, plain, max_size=1))
                inner = inner[name]
            inner[path[-1]] = good[field]
    for name in draw(parts):
        data[name] = draw(anything)
    order = draw(st.permutations(sorted(data)))
    order += draw(st.lists(st.sampled_from(order), max_size=1)) if order else []  # a duplicate
    value = b"{" + b", ".join(_ENCODER.encode(name) + b": " + _ENCODER.encode(data[name]) for name in order) + b"}"
    cut = draw(st.sampled_from([0] * 9 + [1]))
    return value[: len(value) // 2] if cut else value


CASES = [
    (
        EventValidator(EventsConfig(rename=RENAME, **rules), model),  # type: ignore[arg-type]
        ReferenceValidator(EventsConfig(**rules), model),  # type: ignore[arg-type]
    )
    for rules in ({}, {"unknown_types": "reject", "naive_timestamps": "reject"})
    for model in (load_model(None), make_model(Call))
]


@given(st.lists(events(), min_size=1, max_size=8))
@example([_ENCODER.encode(FOREIGN)])
@example([_ENCODER.encode(FOREIGN | {"duration_s": 5})])
@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example])
def test_renaming_gives_the_rows_and_reasons_of_events_that_were_put_right_before(values: list[bytes]) -> None:
    right = []
    for value in values:
        try:
            right.append(_ENCODER.encode(put_right(_DECODER.decode(value))))
        except msgspec.DecodeError:
            right.append(value)
    for validator, reference in CASES:
        found = validator.chunk(PARTITION, [PlainRecord(at, at, value) for at, value in enumerate(values)])
        expected = reference.chunk(PARTITION, [PlainRecord(at, at, value) for at, value in enumerate(right)])
        assert (found.rows, found.accepted) == (expected.rows, expected.accepted)
        assert [it[:1] + it[2:] for it in found.rejected] == [it[:1] + it[2:] for it in expected.rejected]
        assert [it.record.value for it in found.rejected] == [values[it.position] for it in expected.rejected]


@given(st.permutations(list(RENAME.items())), events())
def test_the_order_of_renames_does_not_matter(order: list[tuple[str, str]], value: bytes) -> None:
    found, expected = chunk(value, rename=dict(order)), chunk(value)
    assert [it[2:] for it in found.rejected] == [it[2:] for it in expected.rejected]
    assert [json.loads(line) for line in found.rows.splitlines()] == [
        json.loads(line) for line in expected.rows.splitlines()
    ]


# -- paths and fields


@given(st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=5).map(tuple))
def test_the_text_of_a_path_reads_back(path: tuple[str, ...]) -> None:
    assert parse_path(path_text(path)) == path
    assert not list(faults({path_text(path): "no such field"}))


@pytest.mark.parametrize("text", ["", ".", "a.", ".a", "a..b", "a\\", "a\\b", ".".join("a" * 21), "a" * 201])
def test_what_is_no_path_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^"):
        parse_path(text)
    ((reason, remedy),) = faults({text: "event_id"})
    assert "which is not a path" in reason
    assert "such as user.id" in remedy


def test_a_field_that_the_model_does_not_have_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(ConfigError) as raised:
        chunk(rename={"type": "eventtype"})
    assert raised.value.args[0] == 'events.rename: "type" = "eventtype": the model has no field eventtype'
    assert raised.value.hint == "did you mean event_type?"
    for field in ("source_topic", "received_at", "zzz"):
        with pytest.raises(ConfigError, match="the model has no field"):
            chunk(rename={"type": field})


def test_a_field_of_any_type_of_a_users_model_can_be_named() -> None:
    validator = EventValidator(EventsConfig(rename={"min": "minutes", "tel.no": "phone"}), make_model(Call))
    value = json.dumps(RIGHT | {"event_type": "call", "min": 3, "tel": {"no": "0800"}}).encode()
    found = json.loads(validator.chunk(PARTITION, [PlainRecord(0, 0, value)]).rows)
    assert (found["minutes"], found["phone"]) == (3, "0800")
