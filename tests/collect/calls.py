"""The calls that every SDK sends in the tests, and what must become of each."""

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
            "title": "Preise – 価格",
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
        "properties": {"category": "video", "label": "intro – 紹介", "property": "seconds", "value": 12.5},
    },
    {"type": "track", "userId": USER, "event": "Order Completed", "properties": {"order_id": "o-1", "total": 12.5}},
)


def numbered(count: int, start: int = 0) -> list[Call]:
    """Calls that can be told apart."""
    return [
        {"type": "track", "userId": USER, "event": "Counted", "properties": {"n": number}}
        for number in range(start, start + count)
    ]
