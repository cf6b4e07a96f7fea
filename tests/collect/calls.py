"""The calls that every SDK sends in the tests, and what must become of each."""

import base64
import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from tests.collect.recorder import Exchange
from tests.services.clients import Call

USER = "CLIENT_0042"
ANONYMOUS = "3a5f1c9e-6d2b-4f0a-9c58-0b1f2e3d4c5b"
PAGE_URL = "https://www.example.com/pricing?utm_campaign=spring"

#: One of each kind, with text that is not ASCII and numbers that are not whole.
CALLS: tuple[Call, ...] = (
    {"type": "identify", "userId": USER, "traits": {"name": "Zoë Müller", "plan": "gold"}},
    {
        "type": "page",
        "anonymousId": ANONYMOUS,
        "name": "Pricing",
        "properties": {
            "url": PAGE_URL,
            "title": "Preise · 価格",
            "path": "/pricing",
            "referrer": "https://example.org/",
        },
    },
    {
        "type": "track",
        "userId": USER,
        "event": "Order Completed",
        "properties": {"order_id": "o-1", "total": 12.5, "products": [{"sku": "a", "quantity": 2}]},
    },
    {
        "type": "track",
        "userId": USER,
        "event": "Email Opened",
        "properties": {"campaign_id": "spring", "email_id": "m-7"},
    },
    {"type": "screen", "userId": USER, "name": "Portfolio", "properties": {"tab": "bonds"}},
    {"type": "group", "userId": USER, "groupId": "household-7", "traits": {"members": 3}},
    {"type": "alias", "userId": USER, "previousId": ANONYMOUS},
)

SNOWPLOW_CALLS: tuple[Call, ...] = (
    CALLS[1],
    {
        "type": "struct",
        "userId": USER,
        "event": "play",
        "properties": {"category": "video", "label": "intro · 紹介", "property": "seconds", "value": 12.5},
    },
    {"type": "track", "userId": USER, "event": "Order Completed", "properties": {"order_id": "o-1", "total": 12.5}},
)


def numbered(count: int, start: int = 0) -> list[Call]:
    """Calls that can be told apart."""
    return [
        {"type": "track", "userId": USER, "event": "Counted", "properties": {"n": number}}
        for number in range(start, start + count)
    ]


#: The columns of the rows that `CALLS` must become, in order. None: the column is absent.
COLUMNS: tuple[dict[str, object], ...] = (
    {"event_type": "identify", "client_id": USER, "page_url": None},
    {"event_type": "web_visit", "client_id": ANONYMOUS, "page_url": PAGE_URL, "event_category": "web"},
    {"event_type": "Order Completed", "client_id": USER, "event_category": None},
    {"event_type": "email_open", "client_id": USER, "campaign_id": "spring", "event_category": "email"},
    {"event_type": "web_visit", "client_id": USER, "page_url": None},
    {"event_type": "group", "client_id": USER},
    {"event_type": "alias", "client_id": USER},
)
#: What of each call is found in the row's properties.
PROPERTIES: tuple[dict[str, object], ...] = (
    {"traits": {"name": "Zoë Müller", "plan": "gold"}},
    {"name": "Pricing", "title": "Preise · 価格", "path": "/pricing", "referrer": "https://example.org/"},
    {"order_id": "o-1", "total": 12.5, "products": [{"sku": "a", "quantity": 2}]},
    {"email_id": "m-7"},
    {"name": "Portfolio", "tab": "bonds"},
    {"groupId": "household-7", "traits": {"members": 3}},
    {"previousId": ANONYMOUS},
)
SNOWPLOW_COLUMNS: tuple[dict[str, object], ...] = (
    {"event_type": "web_visit", "client_id": ANONYMOUS, "page_url": PAGE_URL, "campaign_id": "spring"},
    {"event_type": "play", "client_id": USER},
    {"event_type": "call", "client_id": USER},
)
SNOWPLOW_PROPERTIES: tuple[dict[str, object], ...] = (
    {"page": "Preise · 価格", "refr": "https://example.org/"},
    {"se_ca": "video", "se_la": "intro · 紹介", "se_pr": "seconds"},
    {"data": {"call": "track", "name": "Order Completed", "order_id": "o-1", "total": 12.5}},
)


class Case(NamedTuple):
    """A call, and what is in its row."""

    call: Call
    columns: dict[str, object]
    properties: dict[str, object]


def cases_of(name: str) -> list[Case]:
    """What an SDK sends in the tests."""
    if name.startswith("snowplow"):
        return list(map(Case, SNOWPLOW_CALLS, SNOWPLOW_COLUMNS, SNOWPLOW_PROPERTIES))
    cases = list(map(Case, CALLS, COLUMNS, PROPERTIES))
    # That of apps has no pages, and its alias is to the user that it knew before.
    return [it for it in cases if name != "segment-kotlin" or it.call["type"] not in {"page", "alias"}]


def ids(exchange: Exchange) -> list[str]:
    """The ids of the events in a request, as the SDK made them."""
    return [
        str(message.get("messageId") or message.get("eid") or message["event_id"]) for message in messages(exchange)
    ]


def messages(exchange: Exchange) -> list[dict[str, Any]]:
    """The events in a request, as the SDK sent them."""
    body = json.loads(exchange.text())
    if isinstance(body, list):
        return body
    found: list[dict[str, Any]] = body.get("batch") or body.get("data") or [body]
    return found


def numbers(exchanges: Iterable[Exchange]) -> Iterator[tuple[int, str]]:
    """The number of each call of `numbered`, as often as it was sent, and the id with which it was."""
    for exchange in exchanges:
        for message, event_id in zip(messages(exchange), ids(exchange), strict=True):
            if (number := _number(message)) is not None:
                yield number, event_id


def _number(message: dict[str, Any]) -> int | None:
    properties = message.get("properties", {})
    if encoded := message.get("ue_px"):
        properties = json.loads(base64.urlsafe_b64decode(encoded))["data"]["data"]
    found: int | None = properties.get("n")
    return found
