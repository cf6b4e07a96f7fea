"""Events as SDKs send them: fields that the model does not know, nested objects, floats, arrays, text of all kinds.

The order of keys varies from event to event. A quarter has spaces after separators, as Python's json writes them, a
fifth has ``\\u`` escapes, one in fifty a number of more digits than 64 bits or a double keep.
"""

import json
import random
from datetime import UTC, datetime, timedelta
from typing import Any

_COMPACT = (",", ":")
_BEGIN = datetime(2026, 11, 22, tzinfo=UTC)
_KINDS = ("web_visit",) * 60 + ("email_open",) * 25 + ("email_click",) * 10 + ("advisor_call",) * 5
_TITLES = (
    "Vermögensaufbau für Ihre Ziele",
    "Épargne & retraite",
    "Investing for growth",
    "退職金の運用",
    "Portfolio",
)
_WORDS = ("pension", "savings", "spring", "newsletter", "advisor", "report", "Zürich", "fund", "yield", "größe")
_AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"
_LONG = ("12345678901234567890123", "-98765432109876543210", "0.12345678901234567890123", "1234.50", "1e21")


def tail(size: int, number: int, made: random.Random) -> bytes:
    """An event of about `size` bytes without its brace and its id, so that both can be put before it."""
    event = _event(size, number, made)
    keys = list(event)
    made.shuffle(keys)
    spaced = made.random() < 0.25
    text = json.dumps(
        {key: event[key] for key in keys},
        ensure_ascii=made.random() < 0.2,
        separators=None if spaced else _COMPACT,
    )
    if made.random() < 0.02:
        text = text.replace('"LONG"', made.choice(_LONG))
    return text.replace('"LONG"', "0.5").encode()[1:]


def _event(size: int, number: int, made: random.Random) -> dict[str, Any]:
    seen = _BEGIN + timedelta(milliseconds=10 * number)
    page = f"/funds/{made.choice(_WORDS)}/{made.randrange(200)}"
    event: dict[str, Any] = {
        "client_id": f"CLIENT_{made.randrange(50_000):06d}",
        "event_timestamp": f"{seen:%Y-%m-%dT%H:%M:%S}.{number * 10 % 1000:03d}Z",
        "event_type": made.choice(_KINDS),
        "page_url": f"https://www.example.com{page}",
        "session_id": f"{made.getrandbits(64):016x}",
        "anonymousId": f"{made.getrandbits(32):08x}-{made.getrandbits(16):04x}-4a3f-a0b1-{made.getrandbits(48):012x}",
        "sentAt": f"{seen:%Y-%m-%dT%H:%M:%S}.987Z",
        "version": 2,
        "context": {
            "library": {"name": "analytics.js", "version": "5.2.1"},
            "locale": made.choice(("de-DE", "en-GB", "fr-CH", "ja-JP")),
            "screen": {"width": 1920, "height": 1080, "density": 1.5},
        },
        "properties": {
            "scroll_depth": round(made.random(), 4),
            "value": "LONG",
            "logged_in": made.random() < 0.5,
            "experiment": None,
            "tags": made.sample(_WORDS, 2),
        },
    }
    _fill(event, size, page, made)
    return event


def _fill(event: dict[str, Any], size: int, page: str, made: random.Random) -> None:
    """Add parts, the usual ones first, until it has about `size` bytes."""
    context, properties = event["context"], event["properties"]
    if size >= 1000:
        context["page"] = {"path": page, "title": made.choice(_TITLES), "referrer": "https://www.google.com/"}
        context["userAgent"] = _AGENT
        context["location"] = {
            "latitude": round(made.uniform(40, 60), 6),
            "longitude": round(made.uniform(5, 15), 6),
            "timezone": "Europe/Berlin",
        }
        properties["amounts"] = [round(made.uniform(0, 5000), 2) for _ in range(5)]
    products = properties["products"] = []
    left = size - len('{"event_id":"00000000-0000-4000-a000-000000000000"') - _size(event)
    while left > 0:
        product = {
            "sku": f"F-{made.randrange(1000)}",
            "name": " ".join(made.choices(_WORDS, k=3)),
            "price": round(made.uniform(1, 99), 2),
            "quantity": made.randrange(9),
        }
        products.append(product)
        left -= _size(product) + 1


def _size(value: object) -> int:
    return len(json.dumps(value, separators=_COMPACT))
