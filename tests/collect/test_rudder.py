"""RudderStack's messages, beacon and pixels become events; its SDKs get the configuration they need."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.collect.messages import Incoming
from ingestd.collect.pixel import GIF
from ingestd.collect.sdk import ROUTES, RudderEndpoint
from ingestd.collect.sdk.rudder import pixel_message
from ingestd.config.model import CollectConfig, CollectSource
from tests.collect.requests import NOBODY, check_any, request, rows

ENDPOINT = RudderEndpoint("shop", CollectSource(kind="rudderstack"), CollectConfig())

#: @rudderstack/analytics-js 3.x.
TRACK: dict[str, Any] = {
    "properties": {"revenue": 19.95, "shippingMethod": "Premium"},
    "event": "Item Viewed",
    "type": "track",
    "channel": "web",
    "context": {
        "traits": {"plan": "Free"},
        "sessionId": 1796069900000,
        "sessionStart": True,
        "app": {"name": "RudderLabs JavaScript SDK", "namespace": "com.rudderlabs.javascript", "version": "3.7.0"},
        "library": {"name": "RudderLabs JavaScript SDK", "version": "3.7.0"},
        "page": {"path": "/tea", "url": "https://www.example.com/tea", "title": "Tea", "initial_referrer": "$direct"},
        "campaign": {},
        "locale": "en-US",
    },
    "originalTimestamp": "2026-11-30T20:19:50.000Z",
    "integrations": {"All": True},
    "messageId": "1f893e86-ce88-430c-9822-5d37ef1c4a22",
    "userId": "123456",
    "anonymousId": "a-1",
    "sentAt": "2026-11-30T20:19:55.000Z",
}


async def reply_of(incoming: Incoming) -> bytes:
    return (await ENDPOINT.collect(incoming)).reply.body


async def test_a_track_of_analytics_js_is_an_event_with_its_session() -> None:
    result = await ENDPOINT.collect(request("/v1/track", TRACK))
    (only,) = rows(result.events)
    assert (only["event_type"], only["client_id"], only["session_id"]) == ("Item Viewed", "123456", "1796069900000")
    assert (only["event_timestamp"], only["channel"]) == ("2026-11-30T20:19:55Z", "web")
    assert only["page_url"] == "https://www.example.com/tea"
    assert only["properties"]["originalTimestamp"] == "2026-11-30T20:19:50.000Z"
    assert only["properties"]["revenue"] == 19.95
    assert result.reply.body == b"OK"


@pytest.mark.parametrize(
    ("event", "platform", "channel"),
    [
        ("Order Completed", "web", "web"),
        ("Order Completed", "mobile", "mobile"),
        ("Order Completed", "server", None),
        ("Order Completed", 5, None),
        ("Email Opened", "server", "email"),
        ("Email Opened", "web", "email"),
    ],
)
async def test_the_platform_is_a_channel_where_the_type_has_none(
    event: str, platform: object, channel: str | None
) -> None:
    result = await ENDPOINT.collect(request("/v1/track", TRACK | {"event": event, "channel": platform}))
    (only,) = rows(result.events)
    assert only.get("channel") == channel
    assert only["properties"]["channel"] == platform


async def test_a_beacon_is_a_batch() -> None:
    batch = {"batch": [TRACK, TRACK | {"messageId": "m2"}], "sentAt": "2026-11-30T20:19:55.000Z"}
    result = await ENDPOINT.collect(request("/beacon/v1/batch", batch, query={"writeKey": "k"}))
    assert [it["event_id"] for it in rows(result.events)] == [TRACK["messageId"], "m2"]
    assert result.reply.body == b"OK"


@pytest.mark.parametrize("kind", ["track", "page"])
async def test_a_pixel_has_its_message_in_the_query_and_a_picture_as_its_answer(kind: str) -> None:
    query = {
        "writeKey": "secret", "anonymousId": '"a-1"', "event": "Opened", "name": "Letter",
        "properties.campaign_id": "c9", "context.page.url": "https://www.example.com/letter", "messageId": "p1",
    }  # fmt: skip
    result = await ENDPOINT.collect(request(f"/pixel/v1/{kind}", method="GET", query=query))
    (only,) = rows(result.events)
    assert only["event_type"] == ("Opened" if kind == "track" else "web_visit")
    assert (only["client_id"], only["event_id"], only["campaign_id"]) == ("a-1", "p1", "c9")
    assert only["page_url"] == "https://www.example.com/letter"
    assert "secret" not in json.dumps(only)
    assert (result.reply.status, result.reply.content_type, result.reply.body) == (200, "image/gif", GIF)


async def test_a_pixel_without_a_client_is_kept_with_its_fault_and_still_a_picture() -> None:
    result = await ENDPOINT.collect(request("/pixel/v1/page", method="GET", query={"writeKey": "secret", "a": "b"}))
    assert [(it.value, it.fault) for it in result.events] == [(b'{"a":"b"}', "missing_field")]
    assert result.reply.body == GIF


def test_names_in_a_pixel_that_contradict_each_other_are_all_kept() -> None:
    assert pixel_message({"a": "1", "a.b": "2", "c.d": "3", "c": "4"}) == {
        "a": "1",
        "a.b": "2",
        "c": {"d": "3"},
        "_c": "4",
    }


@pytest.mark.parametrize("path", ["/sourceConfig/", "/sourceConfig"])
async def test_an_sdk_gets_the_configuration_that_it_starts_with(path: str) -> None:
    basic = {"authorization": "Basic " + base64.b64encode(b"key:").decode()}
    result = await ENDPOINT.collect(request(path, method="GET", headers=basic))
    assert not result.events
    source = json.loads(result.reply.body)["source"]
    assert (source["id"], source["writeKey"], source["enabled"], source["destinations"]) == ("shop", "key", True, [])
    assert source["config"]["statsCollection"] == {"errors": {"enabled": False}, "metrics": {"enabled": False}}
    asked = await reply_of(request(path, method="GET", query={"writeKey": "key", "p": "npm", "v": "3.7.0"}))
    assert json.loads(asked)["source"]["writeKey"] == "key"


def test_each_path_has_a_route_for_the_kind() -> None:
    paths = {(route.method, route.path) for route in ROUTES if "rudderstack" in route.kinds}
    assert {
        ("POST", "/v1/batch"), ("POST", "/v1/track"), ("POST", "/beacon/v1/batch"), ("GET", "/sourceConfig/"),
        ("GET", "/pixel/v1/track"), ("GET", "/pixel/v1/page"),
    } <= paths  # fmt: skip


async def test_an_anonymous_client_leaves_no_identifier() -> None:
    result = await ENDPOINT.collect(request("/v1/track", TRACK, client=NOBODY))
    (only,) = rows(result.events)
    assert only["client_id"] == "anonymous"
    text = json.dumps(only)
    assert not [secret for secret in ("123456", "a-1", "1796069900000", "Free") if secret in text]


@given(st.dictionaries(st.text(max_size=6) | st.sampled_from(tuple(TRACK)), st.text(max_size=20), max_size=6))
async def test_any_pixel_gives_an_event_or_a_fault(query: dict[str, str]) -> None:
    result = await ENDPOINT.collect(request("/pixel/v1/track", method="GET", query=query | {"bad": "\udcff"}))
    (only,) = result.events
    check_any(only, only.value)
