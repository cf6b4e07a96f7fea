"""The pixel: its query is an event, of a page or of a mail."""

from typing import Any

import msgspec
import pytest

from ingestd.collect.messages import Client, Collected, Incoming
from ingestd.collect.pixel import GIF, PICTURE, PixelEndpoint
from ingestd.core.records import PlainRecord, TopicPartition
from tests.collect.edge_world import NOW, VALIDATOR

ENDPOINT = PixelEndpoint()


async def collect(query: dict[str, str], user_agent: str = "Firefox", **headers: str) -> Collected:
    mapped = await ENDPOINT.collect(
        Incoming(
            source="web",
            method="GET",
            path="/i",
            query={"key": "web", **query},
            url="http://x/i",
            headers=headers,
            raw_body=b"",
            body=b"",
            received_at=int(NOW * 1000),
            client=Client("203.0.113.0", user_agent, is_bot=False, anonymous=False),
        )
    )
    assert mapped.reply is PICTURE
    (event,) = mapped.events
    return event


async def fields(query: dict[str, str], user_agent: str = "Firefox", **headers: str) -> dict[str, Any]:
    event = await collect(query, user_agent, **headers)
    assert event.fault is None
    assert not VALIDATOR.chunk(TopicPartition("t", 0), [PlainRecord(0, 0, event.value)]).rejected
    data: dict[str, Any] = msgspec.json.decode(event.value)
    return data


def test_the_picture_has_one_pixel_and_is_never_kept() -> None:
    assert len(GIF) == 43
    assert GIF.startswith(b"GIF89a\x01\x00\x01\x00")
    assert "no-store" in PICTURE.headers["Cache-Control"]


async def test_a_page_without_our_script() -> None:
    data = await fields({"client_id": "c", "price": "9.90"}, referer="https://www.example.com/a?b")
    assert data["event_type"] == "web_visit"
    assert data["client_id"] == "c"
    assert data["page_url"] == "https://www.example.com/a?b"
    assert data["event_timestamp"].startswith("2026-01-01T00:00:00")
    assert data["properties"] == {"price": "9.90", "ip": "203.0.113.0", "user_agent": "Firefox"}


async def test_the_parameters_are_the_events_fields() -> None:
    data = await fields(
        {
            "type": "web_visit",
            "event_id": "e",
            "client_id": "c",
            "url": "https://u.example",
            "session_id": "s",
            "channel": "web",
            "device_type": "phone",
            "campaign_id": "k",
            "category": "web",
            "duration_s": "12",
            "consent": "1",
            "t": "1700000000000",
        }
    )
    assert data["event_timestamp"].startswith("2023-11-14T22:13:20")
    names = ("event_id", "client_id", "page_url", "session_id", "device_type", "campaign_id", "duration_s", "consent")
    assert [data[name] for name in names] == ["e", "c", "https://u.example", "s", "phone", "k", 12, True]


@pytest.mark.parametrize(
    ("user_agent", "machine"),
    [
        ("Mozilla/5.0", True),
        ("Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)", True),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15", False),
    ],
)
async def test_a_mail_that_a_machine_has_opened_is_flagged(user_agent: str, machine: bool) -> None:
    data = await fields({"type": "email_open", "client_id": "c", "event_id": "m1"}, user_agent, referer="https://mail")
    assert data["event_type"] == "email_open"
    assert data["properties"].get("machine_open", False) is machine
    assert "page_url" not in data


async def test_what_does_not_fit_a_field_is_kept_in_properties() -> None:
    data = await fields({"t": "yesterday", "duration_s": "long", "consent": "maybe", "is_bot": "0"})
    kept = data["properties"]
    assert (kept["t"], kept["duration_s"], kept["consent"], kept["_is_bot"]) == ("yesterday", "long", "maybe", "0")
    assert data["client_id"] == "anonymous"


async def test_what_can_be_no_event_goes_on_as_it_came_without_the_key() -> None:
    event = await collect({"client_id": "c" * 300})
    assert event.fault == "too_long"
    assert msgspec.json.decode(event.value) == {"client_id": "c" * 300}
