"""Events are built without losing a value, identifiers of anonymous clients are removed, nothing raises."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.collect.anonymous import strip
from ingestd.collect.mapping import (
    ANONYMOUS,
    COLUMNS,
    Draft,
    UnmappableError,
    as_milliseconds,
    as_time,
    collect,
    corrected,
    decode,
    make_event,
    time_of,
)
from ingestd.collect.messages import Client, Collected
from tests.collect.requests import NOBODY, RECEIVED_AT, VISITOR, check_any, rows

NAME = st.text(max_size=8) | st.sampled_from(("ip", "_ip", "user_agent", "is_bot", "page_url", "email", "device", "id"))
NUMBER = st.integers() | st.floats() | st.sampled_from((10**400, 2**63, 2**64, -(2**63)))
VALUE = st.recursive(
    st.none() | st.booleans() | NUMBER | st.text() | st.sampled_from(("x" * 300, "u" * 9000, "a@b.example")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAME, inner, max_size=4),
    max_leaves=12,
)


def event(
    properties: dict[str, Any] | None = None, client: Client = VISITOR, raw: bytes = b"{}", **parts: Any
) -> Collected:
    draft = Draft(**{"event_type": "order", "client_id": "c1", "properties": properties or {}} | parts)
    return collect(raw, client, lambda: make_event(raw, RECEIVED_AT, client, draft))


def row(properties: dict[str, Any] | None = None, client: Client = VISITOR, **parts: Any) -> dict[str, Any]:
    (only,) = rows([event(properties, client, **parts)])
    return only


def test_numbers_keep_every_digit() -> None:
    raw = b'{"price":0.10000000000000000001,"big":123456789012345678901234567890,"tiny":1.50e-7}'
    value = event(decode(raw)).value
    assert b'"price":0.10000000000000000001' in value
    assert b'"big":123456789012345678901234567890' in value
    assert b'"tiny":1.50E-7' in value


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        (b"", "empty_value"),
        (b"{", "truncated"),
        (b"{'a':1}", "not_json"),
        (b"[]", "wrong_type"),
        (b'"text"', "wrong_type"),
        (b'{"a":"\\ud800"}', "lone_surrogate"),
        (b'{"a":"\xff"}', "invalid_utf8"),
        (b'{"a":1e999}', "number_out_of_range"),
        (b'{"a":' + b"9" * 400 + b"}", None),  # validation of the event finds it
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "too_deep"),
        (b'{"a":1,"a":2}', "duplicate_key"),
        (b'{"x":{"a":1,"\\u0061":2}}', "duplicate_key"),
        (b'{"a":1,"a":2,"b":"\\u0022\\u0022"}', "duplicate_key"),  # as many quotes as without the first
        (b'{"a":"\\u0022","b":"\\"","c":"\\\\"}', None),
        (b'{"a":[{"b":1},{"b":2}]}', None),
    ],
)
def test_decode_names_the_fault_of_bytes(raw: bytes, fault: str | None) -> None:
    if fault is None:
        decode(raw)
    else:
        with pytest.raises(UnmappableError) as caught:
            decode(raw)
        assert caught.value.fault == fault


@pytest.mark.parametrize(
    ("parts", "fault"),
    [
        ({"client_id": None}, "missing_field"),
        ({"client_id": ""}, "too_short"),
        ({"client_id": "c" * 257}, "too_long"),
        ({"client_id": 1.5}, "wrong_type"),
        ({"client_id": True}, "wrong_type"),
        ({"client_id": ["c"]}, "wrong_type"),
        ({"client_id": "\ud800"}, "lone_surrogate"),
        ({"event_id": "e" * 257}, "too_long"),
        ({"event_id": {}}, "wrong_type"),
        ({"event_type": None}, "missing_field"),
        ({"timestamp": as_time("0900-01-01T00:00:00Z")}, "timestamp_out_of_range"),
        ({"properties": {"a": 10**400}}, "number_out_of_range"),
    ],
)
def test_what_the_model_requires_is_a_fault_where_it_does_not_fit(parts: dict[str, Any], fault: str) -> None:
    sent = b'{"as":"sent"}'
    assert event(raw=sent, **parts) == Collected(sent, None, fault)


def test_depth_is_limited_where_validation_limits_it() -> None:
    deep: Any = 1
    for _ in range(98):
        deep = {"a": deep}
    assert event({"a": deep}).fault is None  # with the event and its properties 100 objects
    assert event({"a": {"a": deep}}).fault == "too_deep"


def test_a_value_that_does_not_fit_its_column_is_kept_in_properties() -> None:
    bad: dict[str, Any] = {
        "page_url": "u" * 8193, "session_id": "s" * 257, "channel": {"a": 1}, "device_type": [1], "campaign_id": 1.5,
        "event_category": True, "duration_s": 2**63, "consent": "yes",
    }  # fmt: skip
    assert bad.keys() == COLUMNS.keys()
    only = row(**bad)
    assert {name: only["properties"][name] for name in bad} == bad
    assert not only.keys() & bad.keys()


def test_an_integer_is_text_where_text_is_expected() -> None:
    only = row(client_id=12345, session_id=1700000000000)
    assert (only["client_id"], only["session_id"]) == ("12345", "1700000000000")


def test_a_sender_cannot_pretend_what_the_collector_knows() -> None:
    bot = Client("192.0.2.0", "bot/1", is_bot=True, anonymous=False)
    sent = {"ip": "203.0.113.9", "user_agent": "me", "is_bot": False, "_ip": "other"}
    properties = row(dict(sent), bot)["properties"]
    assert {name: properties[name] for name in ("ip", "user_agent", "is_bot")} == {
        "ip": "192.0.2.0", "user_agent": "bot/1", "is_bot": True,
    }  # fmt: skip
    assert (properties["__ip"], properties["_ip"], properties["_user_agent"], properties["_is_bot"]) == (
        "203.0.113.9", "other", "me", False,
    )  # fmt: skip


def test_a_user_agent_that_is_not_utf_8_spoils_no_event() -> None:
    assert row(client=Client(None, "caf\udce9", is_bot=False, anonymous=False))["properties"] == {"user_agent": "caf?"}


def test_a_message_without_an_id_gets_the_same_id_each_time() -> None:
    timed: dict[str, Any] = {"timestamp": time_of(RECEIVED_AT)}
    first, again, other = (row(raw=raw, **timed)["event_id"] for raw in (b'{"a":1}', b'{"a":1}', b'{"a":2}'))
    assert first == again != other


def test_equal_messages_without_id_and_time_are_two_events() -> None:
    draft = Draft(event_type="hit", client_id="c", properties={})
    first, later = (rows([make_event(b"{}", at, VISITOR, draft)])[0] for at in (RECEIVED_AT, RECEIVED_AT + 1))
    assert first["event_id"] != later["event_id"]


# -- anonymous clients


def test_an_anonymous_client_leaves_no_identifier() -> None:
    sent = {
        "userId": "u-secret", "traits": {"name": "secret"}, "revenue": 5, "note": "write to secret@mail.example please",
        "context": {
            "ip": "203.0.113.77", "session_id": "secret",
            "device": {"id": "secret", "name": "secret", "type": "mobile"},
            "page": {"url": "https://x.example/a?email=secret#secret", "title": "Tea", "search": "?q=secret"},
        },
        "products": [{"id": "p1", "name": "Tea"}, "secret@mail.example"],
        "secret@mail.example": 1,
    }  # fmt: skip
    collected = event(
        sent,
        NOBODY,
        client_id="u-secret",
        session_id="s-secret",
        page_url="https://x.example/a?mail=secret@mail.example",
    )
    assert b"secret" not in collected.value
    assert b"203.0.113" not in collected.value
    assert b"Mozilla" not in collected.value
    assert collected.key is None  # else one partition gets the events of all anonymous clients
    (only,) = rows([collected])
    assert (only["client_id"], only["page_url"]) == (ANONYMOUS, "https://x.example/a")
    assert only["properties"] == {
        "revenue": 5,
        "context": {"device": {"type": "mobile"}, "page": {"url": "https://x.example/a", "title": "Tea"}},
        "products": [{"id": "p1", "name": "Tea"}],
    }


def test_a_column_that_does_not_fit_leaves_no_identifier_either() -> None:
    value = event(client=NOBODY, campaign_id={"email": "secret"}, channel=["secret@mail.example"]).value
    assert b"secret" not in value


def test_what_an_anonymous_client_sent_in_vain_is_not_kept() -> None:
    collected = event(client=NOBODY, raw=b'{"email":"secret"}', event_type=None)
    assert json.loads(collected.value) == {"fault": "missing_field", "anonymous": True, "bytes": 18}
    assert collected.fault == "missing_field"


def test_the_id_of_an_anonymous_message_does_not_depend_on_who_sent_it() -> None:
    one, two = (
        row({"userId": who, "n": 1}, NOBODY, raw=who.encode(), timestamp=time_of(RECEIVED_AT))["event_id"]
        for who in ("a", "b")
    )
    assert one == two


@given(VALUE)
def test_stripping_again_changes_nothing(value: Any) -> None:
    once = strip(value)
    assert repr(strip(once)) == repr(once)


# -- times


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-30T20:20:00Z", RECEIVED_AT),
        ("2026-11-30T21:20:00.000+01:00", RECEIVED_AT),
        ("2026-11-30T20:20:00", RECEIVED_AT),  # no offset: UTC
        ("2026-11-30T20:20:00.000000000Z", RECEIVED_AT),  # Go
        ("yesterday", None),
        ("0001-01-01T00:00:00+14:00", None),
        ("2026-11-30T20:20:00Z" + " " * 99, None),
        (RECEIVED_AT, None),
        (None, None),
    ],
)
def test_times_of_senders(text: object, expected: int | None) -> None:
    assert as_time(text) == (None if expected is None else time_of(expected))


@pytest.mark.parametrize(
    ("value", "known"),
    [(str(RECEIVED_AT), True), (RECEIVED_AT, True), ("-1", False), (10**30, False), ("9" * 18, False), (1.5, False)],
)
def test_milliseconds_of_senders(value: object, known: bool) -> None:
    assert (as_milliseconds(value) is not None) is known


def test_a_wrong_clock_is_corrected() -> None:
    day = 86_400_000
    happened, sent = time_of(RECEIVED_AT + day - 5000), time_of(RECEIVED_AT + day)
    assert corrected(happened, sent, RECEIVED_AT) == time_of(RECEIVED_AT - 5000)
    assert corrected(time_of(5), None, RECEIVED_AT) == time_of(5)


# -- whatever comes


@given(raw=st.binary(max_size=60), client=st.sampled_from((VISITOR, NOBODY)))
def test_any_bytes_give_an_event_or_a_fault(raw: bytes, client: Client) -> None:
    def make() -> Collected:
        return make_event(raw, RECEIVED_AT, client, Draft(event_type="x", client_id="c", properties=decode(raw)))

    collected = collect(raw, client, make)
    check_any(collected, raw if client is VISITOR else collected.value)


@given(
    properties=st.dictionaries(NAME, VALUE, max_size=5),
    parts=st.fixed_dictionaries({}, optional=dict.fromkeys(("event_type", "client_id", "event_id", *COLUMNS), VALUE)),
    client=st.sampled_from((VISITOR, NOBODY)),
)
def test_any_parts_give_an_event_or_a_fault(properties: dict[str, Any], parts: dict[str, Any], client: Client) -> None:
    collected = event(properties, client, **parts)
    check_any(collected, b"{}" if client is VISITOR else collected.value)


def test_a_defect_of_a_mapping_loses_no_event() -> None:
    def make() -> Collected:
        raise KeyError("a bug")

    assert collect(b"sent", VISITOR, make) == Collected(b"sent", None, "defect")
