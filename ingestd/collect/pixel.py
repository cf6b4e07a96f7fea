"""``GET /i`` and ``/pixel.gif``: a picture of one pixel, by which pages and mails tell that they were seen. Pure.

The query is the event: ``type`` (web_visit, or email_open with which it is a mail; any other name is a type, too),
``event_id``, ``client_id``, ``url``, ``session_id``, ``channel``, ``device_type``, ``campaign_id``, ``category``,
``duration_s``, ``consent`` (1 or 0), ``t`` (milliseconds since the epoch); each other parameter is a property. Pages
need no ``url``: it is the Referer otherwise. A mail's pixel has the ``event_id`` of the one message to the one
recipient, or each time that it is shown is an event of its own. Without a ``client_id`` it is "anonymous".
"""

import base64
import re
from collections.abc import Mapping
from typing import Any

from ingestd.collect.mapping import ANONYMOUS, Draft, as_milliseconds, collect, make_event
from ingestd.collect.messages import Collected, Incoming, Mapped, Reply, Route
from ingestd.core.decoding import ENCODER

GIF = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAICRAEAOw==")  # transparent, 43 bytes
PICTURE = Reply(
    200,
    GIF,
    "image/gif",
    {
        "Cache-Control": "no-store, no-cache, must-revalidate, private",
        "Pragma": "no-cache",
        "Expires": "0",
        "Cross-Origin-Resource-Policy": "cross-origin",
    },
)

#: Parameters, and the parts of an event that they are.
_PARTS = {
    "event_id": "event_id",
    "client_id": "client_id",
    "url": "page_url",
    "session_id": "session_id",
    "channel": "channel",
    "device_type": "device_type",
    "campaign_id": "campaign_id",
    "category": "event_category",
}
_OWN = frozenset(("key", "type", "duration_s", "consent", "t", *_PARTS))
_INTEGER = re.compile("[0-9]{1,18}")
_CONSENT = {"1": True, "true": True, "0": False, "false": False}
#: Programs that fetch the pictures of mails before, or without, anybody who reads them.
_PREFETCH = ("googleimageproxy", "yahoomailproxy", "outlook-ios-prefetch", "barracuda", "mimecast", "proofpoint")
_APPLE_PRIVACY = "Mozilla/5.0"  # all that Apple's Mail Privacy Protection sends


def find_key(headers: Mapping[str, str], query: Mapping[str, str], body: bytes) -> str | None:
    """The key in ``?key=``."""
    del headers, body
    return query.get("key")


ROUTES = tuple(
    Route("GET", path, ("web",), find_key, cross_origin=True, refused=PICTURE) for path in ("/i", "/pixel.gif")
)


class PixelEndpoint:
    """Maps the query of a picture to one event, and answers with the picture."""

    async def collect(self, request: Incoming) -> Mapped:
        """The one event of a request."""
        query = {name: value for name, value in request.query.items() if name != "key"}
        raw = ENCODER.encode(query)
        return Mapped((collect(raw, request.client, lambda: _event(raw, query, request)),), PICTURE)


def _event(raw: bytes, query: Mapping[str, str], request: Incoming) -> Collected:
    event_type = query.get("type") or "web_visit"
    properties: dict[str, Any] = {name: value for name, value in query.items() if name not in _OWN}
    parts: dict[str, Any] = {part: query[name] for name, part in _PARTS.items() if query.get(name)}
    if event_type.startswith("email_"):
        if _is_machine(request.client.user_agent):
            properties["machine_open"] = True
    elif "page_url" not in parts:
        parts["page_url"] = request.headers.get("referer")
    if duration := query.get("duration_s"):
        parts["duration_s"] = (
            int(duration) if duration.isascii() and duration.isdigit() and len(duration) < 19 else duration
        )
    if consent := query.get("consent"):
        parts["consent"] = _CONSENT.get(consent.lower(), consent)
    time = as_milliseconds(query.get("t"))
    if time is None and query.get("t"):
        properties["t"] = query["t"]
    parts.setdefault("client_id", ANONYMOUS)
    draft = Draft(event_type=event_type, timestamp=time, properties=properties, **parts)
    return make_event(raw, request.received_at, request.client, draft)


def _is_machine(user_agent: str) -> bool:
    plain = user_agent.strip()
    return plain == _APPLE_PRIVACY or any(name in plain.lower() for name in _PREFETCH)
