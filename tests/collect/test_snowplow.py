"""What Snowplow's trackers send becomes events; no payload spoils another; nothing is lost."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.collect.messages import Client, Collected
from ingestd.collect.pixel import GIF
from ingestd.collect.sdk import SnowplowEndpoint
from ingestd.collect.sdk.snowplow import FIELDS, ROUTES, TP2, TYPES, find_key
from ingestd.config.model import CollectConfig, CollectSource
from tests.collect.requests import NOBODY, check_any, request, rows

ENDPOINT = SnowplowEndpoint("site", CollectSource(kind="snowplow"), CollectConfig())
PAYLOAD_DATA = "iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4"
UNSTRUCT = "iglu:com.snowplowanalytics.snowplow/unstruct_event/jsonschema/1-0-0"
CONTEXTS = "iglu:com.snowplowanalytics.snowplow/contexts/jsonschema/1-0-0"
LINK_CLICK = {
    "schema": "iglu:com.snowplowanalytics.snowplow/link_click/jsonschema/1-0-1",
    "data": {"targetUrl": "http://www.example.com", "elementId": "first header", "elementClasses": ["header"]},
}
SESSION = {
    "schema": "iglu:com.snowplowanalytics.snowplow/client_session/jsonschema/1-0-2",
    "data": {"userId": "phone-1", "sessionId": "s-9", "sessionIndex": 3},
}

#: snowplow-javascript-tracker 3 and 4.
PAGE_VIEW: dict[str, Any] = {
    "e": "pv", "url": "https://www.example.com/tea?utm_campaign=spring%202026", "page": "Tea", "refr": "https://www.google.com/",
    "eid": "4f4d9a9e-6a60-4f4f-8d0a-1f2c5f0c8a11", "tv": "js-3.24.0", "tna": "sp", "aid": "site", "p": "web",
    "cookie": "1", "cs": "UTF-8", "lang": "en-US", "res": "1920x1080", "cd": "24", "tz": "Europe/Berlin",
    "dtm": "1796069990000", "vp": "1200x800", "ds": "1200x2400", "vid": "2",
    "sid": "0c1e5b1a-session", "duid": "b1d0-device", "stm": "1796069995000",
}  # fmt: skip


def encoded(value: Any) -> str:
    """base64 as trackers write it: of URLs, without padding."""
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def mapped(*payloads: Any, **options: Any) -> list[Collected]:
    return ENDPOINT.map(request(TP2, {"schema": PAYLOAD_DATA, "data": list(payloads)}, **options))


def row(**parts: Any) -> dict[str, Any]:
    (only,) = rows(mapped({name: value for name, value in (PAGE_VIEW | parts).items() if value is not None}))
    return only


def test_a_page_view_is_a_web_visit() -> None:
    only = row()
    properties = only.pop("properties")
    assert {name: only[name] for name in ("event_type", "event_id", "client_id", "session_id", "page_url")} == {
        "event_type": "web_visit",
        "event_id": PAGE_VIEW["eid"],
        "client_id": "b1d0-device",
        "session_id": "0c1e5b1a-session",
        "page_url": PAGE_VIEW["url"],
    }
    assert (only["channel"], only["campaign_id"]) == ("web", "spring 2026")
    assert only["event_timestamp"] == "2026-11-30T20:19:55Z"  # 5 seconds before it was sent
    assert properties == {name: value for name, value in PAGE_VIEW.items() if name not in ("eid", "duid")} | {
        "ip": "192.0.2.0",
        "user_agent": "Mozilla/5.0",
    }


@pytest.mark.parametrize(("column", "path"), [(column, path) for column, paths in FIELDS.items() for path in paths])
def test_each_place_of_a_column_is_looked_at(column: str, path: str) -> None:
    first, _, rest = path.partition(".")
    value: Any = {"duration_s": 7, "consent": False}.get(column, "some-value")
    payload: dict[str, Any] = {"e": "new", "duid": "d"} if column != "client_id" else {"e": "new"}
    if first == "client_session":
        payload["co"] = json.dumps({"schema": CONTEXTS, "data": [SESSION | {"data": {rest: value}}]})
    elif first == "data":
        payload |= {"e": "ue", "ue_pr": json.dumps({"data": LINK_CLICK | {"data": {rest: value}}})}
    else:
        payload[first] = value
    (only,) = rows(mapped(payload))
    assert only[column] == value


def test_the_id_of_a_user_comes_before_that_of_a_device() -> None:
    only = row(uid="user-1")
    assert (only["client_id"], only["properties"]["duid"]) == ("user-1", "b1d0-device")


def test_the_true_time_needs_no_correction() -> None:
    assert row(ttm="1796069000000")["event_timestamp"] == "2026-11-30T20:03:20Z"


def test_a_structured_event_has_the_name_of_its_action() -> None:
    only = row(e="se", se_ca="cat", se_ac="Email Opened", se_la="lab", se_pr="prop", se_va="1.50")
    assert only["event_type"] == "email_open"
    assert only["properties"]["se_va"] == "1.50"
    assert row(e="se", se_ca="cat", se_ac="act")["event_type"] == "act"


@pytest.mark.parametrize("parameter", ["ue_pr", "ue_px"])
def test_a_self_describing_event_has_the_name_of_its_schema(parameter: str) -> None:
    outer = {"schema": UNSTRUCT, "data": LINK_CLICK}
    only = row(e="ue", **{parameter: json.dumps(outer) if parameter == "ue_pr" else encoded(outer)})
    assert only["event_type"] == "link_click"
    assert (only["properties"]["schema"], only["properties"]["data"]) == (LINK_CLICK["schema"], LINK_CLICK["data"])
    assert parameter not in only["properties"]


def test_both_alphabets_of_base64_are_read() -> None:
    outer = {"schema": UNSTRUCT, "data": LINK_CLICK | {"data": {"text": "???>>>~~~ üüü"}}}
    text = base64.urlsafe_b64encode(json.dumps(outer, ensure_ascii=False).encode()).decode()
    assert {"-", "_"} <= set(text)
    for ue_px in (text, text.replace("-", "+").replace("_", "/")):
        assert row(e="ue", ue_px=ue_px)["properties"]["data"] == {"text": "???>>>~~~ üüü"}


@pytest.mark.parametrize("parameter", ["co", "cx"])
def test_contexts_are_unpacked_and_an_app_has_its_session_there(parameter: str) -> None:
    outer = {"schema": CONTEXTS, "data": [SESSION]}
    text = json.dumps(outer) if parameter == "co" else encoded(outer)
    only = row(duid=None, sid=None, p="mob", **{parameter: text})
    assert (only["client_id"], only["session_id"], only["channel"]) == ("phone-1", "s-9", "mobile")
    assert only["properties"]["contexts"] == [SESSION]
    assert parameter not in only["properties"]


@pytest.mark.parametrize("parameter", ["co", "cx"])
def test_contexts_that_cannot_be_read_are_kept_as_they_are(parameter: str) -> None:
    assert row(**{parameter: "?{}"})["properties"][parameter] == "?{}"


def test_each_type_of_event_is_mapped() -> None:
    for kind, event_type in TYPES.items():
        if event_type is not None:
            assert row(e=kind)["event_type"] == event_type
    assert row(e="new")["event_type"] == "new"


@pytest.mark.parametrize(
    ("bad", "fault"),
    [
        ({"e": "ue", "duid": "d"}, "missing_field"),
        ({"e": "ue", "duid": "d", "ue_px": "?"}, "wrong_type"),
        ({"e": "ue", "duid": "d", "ue_pr": '{"schema":"x","data":{"schema":"y","data":{}}}'}, "wrong_type"),
        ({"duid": "d"}, "missing_field"),
        ({"e": 5, "duid": "d"}, "wrong_type"),
        ({"e": "pv"}, "missing_field"),
        ({"e": "pv", "uid": ["a"]}, "wrong_type"),
        (5, "wrong_type"),
    ],
)
def test_a_bad_payload_is_kept_as_it_was_and_spoils_no_other(bad: Any, fault: str) -> None:
    events = mapped(PAGE_VIEW, bad, PAGE_VIEW)
    assert [event.fault for event in events] == [None, fault, None]
    assert events[1].value == json.dumps(bad).encode()


@pytest.mark.parametrize(
    ("body", "fault"),
    [(b"{}", "missing_field"), (b'{"data":5}', "wrong_type"), (b"e=pv", "not_json"), (b"[", "truncated")],
)
def test_a_body_without_payloads_is_kept_as_a_whole(body: bytes, fault: str) -> None:
    assert ENDPOINT.map(request(TP2, body)) == [Collected(body, None, fault)]


async def test_a_get_has_its_payload_in_the_query() -> None:
    result = await ENDPOINT.collect(request("/i", method="GET", query=PAGE_VIEW))
    (only,) = rows(result.events)
    assert (only["event_type"], only["event_id"]) == ("web_visit", PAGE_VIEW["eid"])
    assert (result.reply.content_type, result.reply.body) == ("image/gif", GIF)


async def test_a_post_is_answered_ok() -> None:
    result = await ENDPOINT.collect(request(TP2, {"schema": PAYLOAD_DATA, "data": [PAGE_VIEW]}))
    assert (result.reply.status, result.reply.body) == (200, b"ok")


def test_a_payload_is_a_bots_where_the_visitor_is_one() -> None:
    server = Client(None, "python-requests/2.34.2", is_bot=True, anonymous=False)
    (own,), (told,) = (rows(mapped(PAGE_VIEW | more, client=server)) for more in ({}, {"ua": "Googlebot/2.1"}))
    assert "is_bot" not in own["properties"]
    assert told["properties"]["is_bot"] is True


def test_no_address_is_added_where_the_tracker_asks_for_none() -> None:
    (only,) = rows(mapped(PAGE_VIEW, headers={"sp-anonymous": "*"}))
    assert "ip" not in only["properties"]
    assert only["client_id"] == "b1d0-device"


def test_an_anonymous_client_leaves_no_identifier() -> None:
    (only,) = rows(
        mapped(PAGE_VIEW | {"uid": "user-1", "cx": encoded({"schema": CONTEXTS, "data": [SESSION]})}, client=NOBODY)
    )
    assert only["client_id"] == "anonymous"
    text = json.dumps(only)
    assert not [secret for secret in ("user-1", "b1d0", "0c1e5b1a", "phone-1", "s-9") if secret in text]
    assert only["page_url"] == "https://www.example.com/tea"


def test_the_app_id_is_the_key() -> None:
    assert find_key({}, {"aid": "site"}, b"") == "site"
    assert find_key({}, {}, json.dumps({"schema": PAYLOAD_DATA, "data": [PAGE_VIEW]}).encode()) == "site"
    for body in (b"", b"{}", b'{"data":[]}', b'{"data":[{"aid":5}]}', b'{"data":[5]}', b"[" * 5000):
        assert find_key({}, {}, body) is None


def test_each_path_has_a_route() -> None:
    assert {(route.method, route.path) for route in ROUTES} == {("POST", TP2), ("GET", "/i")}


NAMES = st.sampled_from((*PAGE_VIEW, "ue_pr", "ue_px", "co", "cx", "uid", "ttm", "client_session")) | st.text(
    max_size=4
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(("ue", "se", encoded(SESSION))),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=10,
)
DESCRIBED = st.builds(
    lambda data: {"e": "ue", "duid": "d", "ue_px": encoded({"data": data}), "cx": encoded({"data": data})}, JSON
)


@given(st.lists(st.dictionaries(NAMES, JSON, max_size=6) | DESCRIBED | JSON, max_size=4))
def test_any_json_gives_an_event_or_a_fault_for_each_payload(payloads: list[Any]) -> None:
    events = mapped(*payloads)
    assert len(events) == len(payloads)
    for event, payload in zip(events, payloads, strict=True):
        check_any(event, json.dumps(payload).encode())
    assert [event.value for event in mapped(*payloads)] == [event.value for event in events]


@given(st.dictionaries(NAMES, st.text(st.characters(), max_size=20), max_size=6))
async def test_any_query_gives_an_event_or_a_fault(query: dict[str, str]) -> None:
    (only,) = (await ENDPOINT.collect(request("/i", method="GET", query=query))).events
    check_any(only, only.value)
