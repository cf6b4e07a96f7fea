"""Segment's messages, as its SDKs send them, become events; no message spoils another; nothing is lost."""

import base64
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.collect.bots import is_bot
from ingestd.collect.messages import Client, Collected, Incoming
from ingestd.collect.routes import Routes
from ingestd.collect.sdk import SegmentEndpoint
from ingestd.collect.sdk.bodies import items, members
from ingestd.collect.sdk.segment import FIELDS, METRICS_PATH, PATHS, ROUTES, SETTINGS_PATHS, find_key
from ingestd.config.model import CollectConfig, CollectSource
from ingestd.core.errors import ConfigError
from tests.collect.requests import NOBODY, RECEIVED_AT, check_any, request, rows, validated

#: @segment/analytics-next, one message by fetch.
PAGE: dict[str, Any] = {
    "timestamp": "2026-11-30T20:19:50.004Z",
    "integrations": {"Segment.io": True},
    "anonymousId": "ba5f2af1-d910-4082-91a0-5a193a8a372a",
    "type": "page",
    "properties": {
        "path": "/pricing", "referrer": "", "search": "?utm_campaign=spring", "title": "Pricing",
        "url": "https://www.example.com/pricing?utm_campaign=spring",
    },
    "context": {
        "page": {
            "path": "/pricing", "referrer": "", "search": "?utm_campaign=spring", "title": "Pricing",
            "url": "https://www.example.com/pricing?utm_campaign=spring",
        },
        "userAgent": "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Safari/537.36",
        "campaign": {"name": "spring", "source": "mail"},
        "locale": "fr-FR",
        "timezone": "Europe/Paris",
        "library": {"name": "analytics.js", "version": "npm:next-1.81.1"},
    },
    "messageId": "ajs-next-1796069990004-1f893e86-ce88-430c-9822-5d37ef1c4a22",
    "writeKey": "key-of-web",
    "sentAt": "2026-11-30T20:19:50.010Z",
    "_metadata": {"bundled": ["Segment.io"], "unbundled": [], "bundledIds": []},
}  # fmt: skip
#: @segment/analytics-node.
TRACK: dict[str, Any] = {
    "userId": "foo-user-id",
    "type": "track",
    "event": "Email Opened",
    "properties": {"foo": "bar"},
    "context": {"library": {"name": "@segment/analytics-node", "version": "2.1.0"}},
    "timestamp": "2026-11-30T20:19:59.000Z",
    "messageId": "node-next-1796069999000-5d37ef1c",
    "integrations": {},
    "_metadata": {"nodeVersion": "20.11.0", "jsRuntime": "node"},
}
#: analytics-kotlin, in a batch of /b.
MOBILE: dict[str, Any] = {
    "properties": {"behaviour": "good"},
    "event": "clicked",
    "type": "track",
    "messageId": "qwerty-1234",
    "anonymousId": "anonId",
    "context": {
        "device": {"id": "d1", "manufacturer": "Google", "type": "android"}, "ip": "203.0.113.77",
        "library": {"name": "analytics-kotlin", "version": "1.16.3"},
    },
    "integrations": {},
    "userId": "",
    "timestamp": "2026-11-30T20:19:58.123Z",
    "_metadata": {"bundled": [], "unbundled": [], "bundledIds": []},
}  # fmt: skip


def endpoint(mapping: Path | None = None, **config: Any) -> SegmentEndpoint:
    source = CollectSource(kind="segment", mapping=str(mapping) if mapping else None)
    return SegmentEndpoint("web", source, CollectConfig(**config))


ENDPOINT = endpoint()


def mapped(body: Any, path: str = "/v1/batch", **options: Any) -> list[Collected]:
    return ENDPOINT.map(request(path, body, **options))


def row(message: Any, path: str = "/v1/t") -> dict[str, Any]:
    (only,) = rows(mapped(message, path))
    return only


# -- messages of real SDKs


def test_a_page_of_analytics_next_is_a_web_visit() -> None:
    only = row(PAGE, "/v1/p")
    properties = only.pop("properties")
    assert only == {
        "event_type": "web_visit",
        "event_id": "ajs-next-1796069990004-1f893e86-ce88-430c-9822-5d37ef1c4a22",
        "client_id": "ba5f2af1-d910-4082-91a0-5a193a8a372a",
        "event_timestamp": "2026-11-30T20:19:59.994000Z",  # 6 ms before it was sent
        "event_category": "web",
        "channel": "web",
        "page_url": "https://www.example.com/pricing?utm_campaign=spring",
        "campaign_id": "spring",
        "source_topic": "marketing_events",
        "source_partition": 0,
        "source_offset": 0,
        "received_at": "2026-11-30T20:20:00Z",
    }
    assert properties == {
        **PAGE["properties"],
        **{name: PAGE[name] for name in ("timestamp", "sentAt", "type", "context", "integrations", "_metadata")},
        "ip": "192.0.2.0",
        "user_agent": "Mozilla/5.0",
    }


def test_a_batch_of_analytics_node_keeps_order_and_names() -> None:
    messages = [TRACK | {"messageId": f"m{i}", "event": name} for i, name in enumerate(("Email Opened", "Signed Up"))]
    events = mapped({"batch": messages, "sentAt": "2026-11-30T20:20:00.000Z"})
    first, second = rows(events)
    assert [first["event_type"], second["event_type"]] == ["email_open", "Signed Up"]
    assert [first["event_id"], second["event_id"]] == ["m0", "m1"]
    assert first["properties"]["event"] == "Email Opened"
    assert first["event_timestamp"] == "2026-11-30T20:19:59Z"
    assert [event.key for event in events] == [b"foo-user-id"] * 2


def test_a_batch_of_kotlin_has_the_device_and_a_short_address() -> None:
    body = {"batch": [MOBILE], "sentAt": "2026-11-30T20:20:00.000Z", "writeKey": "key-of-app"}
    (only,) = rows(mapped(body, "/b"))
    assert (only["client_id"], only["event_type"], only["device_type"]) == ("anonId", "clicked", "android")
    assert only["properties"]["context"]["ip"] == "203.0.113.0"
    assert "key-of-app" not in json.dumps(only)


@pytest.mark.parametrize(
    ("rule", "expected"), [("keep", "2001:db8:1:2::3"), ("truncate", "2001:db8:1::"), ("drop", None)]
)
def test_the_rule_for_addresses_covers_what_servers_tell_of_their_visitors(rule: str, expected: str | None) -> None:
    message = TRACK | {"context": {"ip": "2001:db8:1:2::3"}}
    (only,) = rows(endpoint(ip=rule).map(request("/v1/track", message)))
    assert only["properties"].get("context", {}).get("ip") == expected


GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
BROWSER = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Safari/537.36"


@pytest.mark.parametrize(
    ("of_request", "of_message", "expected"),
    [
        ("python-requests/2.34.2", None, None),  # a server's SDK
        ("python-requests/2.34.2", BROWSER, None),
        ("python-requests/2.34.2", GOOGLEBOT, True),
        (GOOGLEBOT, None, True),
        (GOOGLEBOT, GOOGLEBOT, True),
        (BROWSER, GOOGLEBOT, True),
        (BROWSER, 5, None),
    ],
)
def test_a_message_is_a_bots_where_the_visitor_is_one(
    of_request: str, of_message: object, expected: bool | None
) -> None:
    message = TRACK | {"context": {"userAgent": of_message}}
    client = Client(None, of_request, is_bot(of_request), anonymous=False)
    (flagged,) = rows(ENDPOINT.map(request("/v1/t", message, client=client)))
    assert flagged["properties"].get("is_bot") is expected
    client = Client(None, of_request, is_bot=False, anonymous=False)
    (ignored,) = rows(endpoint(bots="ignore").map(request("/v1/t", message, client=client)))
    assert "is_bot" not in ignored["properties"]


@pytest.mark.parametrize(("message", "event_type"), [
    ({"type": "identify", "traits": {"plan": "Free"}}, "identify"),
    ({"type": "group", "groupId": "g1", "traits": {"name": "libraries"}}, "group"),
    ({"type": "alias", "previousId": "from"}, "alias"),
    ({"type": "screen", "name": "Home", "category": "Start", "properties": {"variation": "local"}}, "web_visit"),
])  # fmt: skip
def test_the_other_calls_keep_what_they_say(message: dict[str, Any], event_type: str) -> None:
    only = row({"userId": "u1", "messageId": "m1"} | message, "/v1/batch")
    assert (only["event_type"], only["client_id"]) == (event_type, "u1")
    for name, value in message.items():
        if name == "properties":
            assert value.items() <= only["properties"].items()
        elif name != "type" or value != event_type:
            assert only["properties"][name] == value


def test_the_path_tells_the_type_where_the_message_does_not() -> None:
    for last, kind in PATHS.items():
        only = row({"userId": "u", "event": "Signed Up"}, f"/v1/{last}")
        expected = {None: "Signed Up", "track": "Signed Up", "page": "web_visit", "screen": "web_visit"}.get(kind, kind)
        assert only["event_type"] == expected, last


def test_each_path_has_a_route() -> None:
    assert {route.path for route in ROUTES} == {f"/v1/{last}" for last in PATHS} | {"/b", METRICS_PATH, *SETTINGS_PATHS}


async def test_an_sdk_gets_the_settings_with_which_it_sends_here() -> None:
    asked = request("/v1/projects/the-key/settings", method="GET", query={"writeKey": "the-key"})
    result = await ENDPOINT.collect(asked)
    assert not result.events
    settings = json.loads(result.reply.body)
    sending = settings["integrations"]["Segment.io"]
    assert sending == {"apiKey": "the-key", "apiHost": f"{urlsplit(asked.url).netloc}/v1"}
    assert settings["metrics"] == {"sampleRate": 0}, "they would go to Segment's own host"


def test_the_key_of_the_settings_is_in_the_path() -> None:
    sources = {"shop": CollectSource(kind="segment"), "other": CollectSource(kind="segment")}
    routes = Routes(ROUTES, sources, {})
    for path in SETTINGS_PATHS:
        place = routes.place(path.replace("{writeKey}", "shop"))
        assert place is not None
        found = routes.find(place.by_method["GET"], place.named, {}, place.parameters, b"")
        assert found is not None
        assert found.name == "shop"
    assert routes.place("/v1/projects/a/b/settings") is None


@pytest.mark.parametrize(("column", "path"), [(column, path) for column, paths in FIELDS.items() for path in paths])
def test_each_place_of_a_column_is_looked_at(column: str, path: str) -> None:
    value: Any = {"duration_s": 7, "consent": False}.get(column, "some-value")
    message: Any = value
    for step in reversed(path.split(".")):
        message = {step: message}
    only = row({"userId": "u", "event": "x"} | message if column != "client_id" else message)
    assert only[column] == value


@pytest.mark.parametrize("column", [column for column, paths in FIELDS.items() if len(paths) > 1])
def test_the_first_place_that_has_a_value_that_fits_counts(column: str) -> None:
    first, second = FIELDS[column][:2]

    def sent(value: object) -> dict[str, Any]:
        message: dict[str, Any] = {"event": "x", "type": "track"}
        for path, it in ((second, "second"), (first, value)):
            *steps, last = path.split(".")
            holder = message
            for step in steps:
                holder = holder.setdefault(step, {})
            holder[last] = it
        return message if column == "client_id" else {"userId": "u"} | message

    assert row(sent("first"))[column] == "first"
    assert row(sent(""))[column] == "second"
    if column != "client_id":
        assert row(sent({"a": 1}))[column] == "second"


def test_a_user_id_comes_before_an_anonymous_one_which_is_kept() -> None:
    only = row(PAGE | {"userId": 4711})
    assert only["client_id"] == "4711"
    assert only["properties"]["anonymousId"] == PAGE["anonymousId"]


def test_what_a_batch_says_of_all_is_merged_and_the_message_wins() -> None:
    body = {
        "batch": [{"userId": "u", "event": "a", "context": {"locale": "de"}}, {"userId": "u", "event": "b"}],
        "context": {"locale": "en", "app": {"name": "shop"}}, "integrations": {"All": True}, "x": 1,
    }  # fmt: skip
    first, second = (it["properties"] for it in rows(mapped(body)))
    assert first["context"] == {"locale": "de", "app": {"name": "shop"}}
    assert second["context"] == {"locale": "en", "app": {"name": "shop"}}
    assert [(it["x"], it["integrations"]) for it in (first, second)] == [(1, {"All": True})] * 2


def test_members_of_a_message_and_its_properties_do_not_collide() -> None:
    properties = row(PAGE | {"properties": {"context": "mine", "type": "mine", "_type": "mine"}})["properties"]
    assert (properties["context"], properties["_context"]) == ("mine", PAGE["context"])
    assert (properties["type"], properties["_type"], properties["__type"]) == ("mine", "mine", "page")


def test_properties_that_are_no_object_are_kept() -> None:
    assert row(PAGE | {"properties": [1]})["properties"]["properties"] == [1]


def test_the_time_of_rudder_node_is_the_messages_and_not_the_batchs() -> None:
    sent = "2026-11-30T20:20:00.000Z"
    message = {"userId": "u", "type": "alias", "originalTimestamp": "2026-11-30T20:19:50.000Z", "sentAt": sent}
    (only,) = rows(mapped({"batch": [message], "timestamp": sent, "sentAt": sent}))
    assert only["event_timestamp"] == "2026-11-30T20:19:50Z"


def test_a_time_that_is_none_is_kept_and_the_request_has_one() -> None:
    only = row(TRACK | {"timestamp": "soon"})
    assert (only["event_timestamp"], only["properties"]["timestamp"]) == ("2026-11-30T20:20:00Z", "soon")


# -- faults


@pytest.mark.parametrize(
    ("bad", "fault"),
    [
        (b'{"a":"\\ud83d"}', "lone_surrogate"),  # half of an emoji, cut by JavaScript's substr
        (b'{"a":01}', "not_json"),
        (b'{"userId":"u","userId":"v"}', "duplicate_key"),
        (b'{"a":"\xff"}', "invalid_utf8"),
        (b'{"a":' + b"[" * 60_000 + b"]" * 60_000 + b"}", "too_deep"),
        (b'"text"', "wrong_type"),
        (b"null", "wrong_type"),
        (b"{}", "missing_field"),
        (b'{"userId":{}}', "wrong_type"),
        (b'{"userId":"u","messageId":' + b'"%s"}' % (b"m" * 300), "too_long"),
    ],
)
def test_a_bad_message_is_kept_as_it_was_and_spoils_no_other(bad: bytes, fault: str) -> None:
    good = json.dumps(TRACK).encode()
    events = mapped(b'{"batch":[' + good + b" , " + bad + b"\n,\t" + good + b'],"sentAt":"2026-11-30T20:20:00Z"}')
    assert [event.fault for event in events] == [None, fault, None]
    assert events[1] == Collected(bad, None, fault)
    assert len(rows([events[0], events[2]])) == 2


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (b'{"batch":[{"userId":"u"}', "truncated"),
        (b'{"batch":{"userId":"u"}}', "wrong_type"),
        (b'{"batch":"x"}', "wrong_type"),
        (b'{"batch":[],"batch":[{"userId":"u"}]}', "duplicate_key"),
        (b'{"batch":[{"userId":"u"}],"context":{"a":"\\ud800"}}', "lone_surrogate"),
        (b"batch=1", "not_json"),
        (b"[1]", "wrong_type"),
        (b"\x1f\x8b", "not_json"),
    ],
)
def test_a_body_that_has_no_messages_is_kept_as_a_whole(body: bytes, fault: str) -> None:
    (only,) = mapped(body)
    assert (only.value, only.fault) in {(body, fault), (body.strip(), fault)}


def test_a_comma_too_many_is_forgiven() -> None:
    assert len(rows(mapped(b'{"batch":[{"userId":"u"},]}'))) == 1


def test_an_empty_batch_has_no_events() -> None:
    assert mapped({"batch": []}) == mapped(b" ") == []


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":"' + b'\\"' * 200_000,
        b'{"a":"' + b'\\"' * 200_000 + b"}",
        b'{"a":' + b'"" ' * 200_000 + b"}",
        b'{"batch":[' + b"," * 400_000,
        b'{"batch":[' + b"," * 400_000 + b'"\\ud800"]}',
        b"{" * 400_000 + b"}" * 400_000,
        b'{"batch":[' + b"{}," * 100_000 + b"{}]}",
        b'{"writeKey":' * 40_000,
    ],
)
def test_a_hostile_body_is_kept_as_a_whole(body: bytes) -> None:
    """In linear time: what is quadratic would not end here."""
    (only,) = mapped(body)
    assert only.value == body
    assert only.fault
    assert find_key({}, {}, body) is None


@pytest.mark.parametrize(
    "text", ["a" * 30_000 + " @", "a%40" * 8_000, "a@" * 15_000, "a@" + "." * 30_000, "@" + "a." * 9000]
)
def test_a_hostile_text_of_an_anonymous_client_costs_linear_time(text: str) -> None:
    (only,) = mapped({"userId": "u", "event": "x", "properties": {"n": 1, "text": text}}, "/v1/t", client=NOBODY)
    assert rows([only])[0]["properties"]["n"] == 1


async def test_an_anonymous_client_leaves_no_identifier() -> None:
    result = await ENDPOINT.collect(request("/v1/p", PAGE | {"traits": {"email": "a@b.example"}}, client=NOBODY))
    (only,) = rows(result.events)
    assert only["client_id"] == "anonymous"
    assert PAGE["anonymousId"] not in json.dumps(only)
    assert "a@b" not in json.dumps(only)
    assert only["event_id"] == PAGE["messageId"]
    assert only["page_url"] == "https://www.example.com/pricing"


async def test_the_answer_is_segments() -> None:
    reply = (await ENDPOINT.collect(request("/v1/batch", {"batch": [{}]}))).reply
    assert (reply.status, json.loads(reply.body)) == (200, {"success": True})


# -- keys


def test_the_key_is_found_wherever_sdks_put_it() -> None:
    basic = {"authorization": "Basic " + base64.b64encode(b"abc:").decode()}
    assert find_key(basic, {}, b"") == "abc"
    assert find_key({}, {"writeKey": "abc"}, b"") == "abc"
    assert find_key({}, {}, json.dumps(PAGE).encode()) == "key-of-web"
    assert find_key({}, {}, json.dumps({"batch": [MOBILE], "writeKey": "abc"}).encode()) == "abc"
    assert find_key({}, {}, json.dumps({"batch": [PAGE]}).encode()) == "key-of-web"
    assert find_key({}, {}, b'{"batch":[{"a":"\\ud800"}],"writeKey":"abc"}') == "abc"


@pytest.mark.parametrize(
    "header", ["Basic", "Basic ?", "Basic " + base64.b64encode(b"\xff").decode(), "Bearer x", "Basic Og=="]
)
def test_no_key_is_found_in_a_bad_header(header: str) -> None:
    assert find_key({"authorization": header}, {}, b'{"writeKey":5}') is None


# -- mapping file


def test_a_mapping_file_names_events_and_places(tmp_path: Path) -> None:
    file = tmp_path / "web.toml"
    file.write_text(
        '[event_types]\n"Call Ended" = "advisor_call"\npage = "landing"\n[fields]\n'
        'duration_s = ["properties.no", "properties.s"]\nclient_id = "traits.customer"\nconsent = "$.context.ok"\n'
    )
    call = {
        "userId": "u", "type": "track", "event": "Call Ended", "properties": {"s": 61},
        "traits": {"customer": "c7"}, "context": {"ok": True},
    }  # fmt: skip
    (only,) = rows(endpoint(file).map(request("/v1/t", call)))
    assert (only["event_type"], only["duration_s"], only["client_id"], only["consent"]) == (
        "advisor_call",
        61,
        "c7",
        True,
    )
    assert only["properties"]["userId"] == "u"
    (page,) = rows(endpoint(file).map(request("/v1/p", PAGE)))
    assert page["event_type"] == "landing"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[fields]\nclient = 'a'\n", "no column"),
        ("[fields]\nchannel = 'a..b'\n", "a..b"),
        ("[event_types]\na = ''\n", "1 to 256"),
        ("[other]\n", "other"),
        ("[event_types", "mapping"),
    ],
)
def test_a_mapping_file_that_cannot_be_used_is_an_error_at_the_start(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "web.toml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        endpoint(tmp_path / "web.toml")


def test_a_mapping_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"collect.sources.web.mapping"):
        endpoint(tmp_path / "none.toml")


# -- whatever comes


NAMES = st.sampled_from((*PAGE, *TRACK, "batch", "properties", "sessionId", "ip", "traits", "x")) | st.text(max_size=5)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.sampled_from(("u" * 300,)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=15,
)
MESSAGE = st.dictionaries(NAMES, JSON, max_size=8) | st.builds(
    lambda more: PAGE | more, st.dictionaries(NAMES.filter(lambda it: it != "batch"), JSON, max_size=3)
)


@given(st.lists(MESSAGE | JSON, max_size=4), st.dictionaries(NAMES.filter(lambda it: it != "batch"), JSON, max_size=2))
def test_any_json_gives_an_event_or_a_fault_for_each_message(messages: list[Any], rest: dict[str, Any]) -> None:
    body = json.dumps({"batch": messages} | rest).encode()
    events = mapped(body)
    if len(events) == 1 and events[0].value == body:
        assert events[0].fault
        return
    assert len(events) == len(messages)
    for event, message in zip(events, messages, strict=True):
        check_any(event, json.dumps(message).encode())
    assert [event.value for event in mapped(body)] == [event.value for event in events]


@given(
    st.binary(max_size=80) | st.text(alphabet='{}[]",:\\ab1u', max_size=40).map(str.encode),
    st.sampled_from(tuple(PATHS)),
)
def test_any_bytes_give_events_or_a_fault(body: bytes, last: str) -> None:
    for event in mapped(body, f"/v1/{last}"):
        assert event.fault is None or event.value in body
        assert event.fault is not None or not validated([event]).rejected
    find_key({"authorization": body.decode("latin-1")}, {}, body)


@given(st.lists(JSON, max_size=5))
def test_splitting_by_hand_finds_what_the_decoder_finds(values: list[Any]) -> None:
    whole = json.dumps(values).encode()
    broken = whole.removesuffix(b"]") + (b"," if values else b"") + b'"\\ud800"]'
    assert items(broken)[:-1] == items(whole)
    named = b'{"a" : %s, "b":"\\ud800"}' % whole
    assert members(named) == {"a": whole, "b": b'"\\ud800"'}


def test_the_same_message_gets_the_same_id_when_it_is_sent_again() -> None:
    message = {"userId": "u", "event": "Signed Up", "timestamp": "2026-11-30T20:19:50Z"}  # no messageId

    def sent(at: int) -> Incoming:
        return request("/v1/batch", {"batch": [message], "sentAt": "2026-11-30T20:19:59Z"}, received_at=at)

    (first,), (again,) = (rows(ENDPOINT.map(sent(at))) for at in (RECEIVED_AT, RECEIVED_AT + 60_000))
    assert first["event_id"] == again["event_id"]
