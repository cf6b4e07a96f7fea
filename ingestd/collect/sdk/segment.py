"""Segment's API: its paths, its messages and their mapping to events."""

import binascii
import re
from base64 import b64decode
from collections.abc import Mapping
from contextlib import suppress
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import msgspec

from ingestd.collect.mapping import (
    Draft,
    UnmappableError,
    as_time,
    collect,
    corrected,
    decode,
    keep,
    make_event,
    unmapped,
)
from ingestd.collect.messages import Collected, Incoming, Mapped, Reply, Route
from ingestd.collect.privacy import truncate
from ingestd.collect.sdk.bodies import items, members, shared_members
from ingestd.collect.sdk.mapping_file import read_mapping_file
from ingestd.collect.sdk.names import Names, channel_of, make_names
from ingestd.collect.sdk.visitors import visitor
from ingestd.config.model import CollectConfig, CollectSource
from ingestd.core.rejections import Reason

#: The last step of a path, and the type of its messages; None: a batch.
PATHS: Mapping[str, str | None] = {
    "batch": None, "b": None, "import": None, "track": "track", "t": "track", "page": "page", "p": "page",
    "identify": "identify", "i": "identify", "screen": "screen", "s": "screen", "group": "group", "g": "group",
    "alias": "alias", "a": "alias",
}  # fmt: skip
#: On the CDN of an SDK's settings, which is this host: of web pages, and of mobile apps.
SETTINGS_PATHS = ("/v1/projects/{writeKey}/settings", "/projects/{writeKey}/settings")
#: Where the SDK of web pages sends metrics of itself, without a key.
METRICS_PATH = "/v1/m"
#: Our column, and where it is in a message, in the order in which the places are tried.
FIELDS: Mapping[str, tuple[str, ...]] = {
    "client_id": ("userId", "anonymousId"),
    "page_url": ("context.page.url", "properties.url", "properties.page_url"),
    "session_id": ("context.sessionId", "context.session_id", "context.session.id", "properties.session_id"),
    "channel": ("properties.channel",),
    "device_type": ("context.device.type", "properties.device_type"),
    "campaign_id": ("context.campaign.name", "properties.campaign_id"),
    "event_category": ("properties.event_category",),
    "duration_s": ("properties.duration_s",),
    "consent": ("properties.consent",),
}
EVENT_ID = "messageId"
PLATFORM = "channel"  # "web", "mobile", "server": not what marketing calls a channel
TIMES, SENT_TIME = ("timestamp", "originalTimestamp"), "sentAt"
#: What becomes of each type of message: our event_type. A track's is found by the name of its event.
TYPES: Mapping[str, str] = {
    "page": "web_visit", "screen": "web_visit", "identify": "identify", "group": "group", "alias": "alias",
}  # fmt: skip

#: What a batch has that its messages do not share. Its "timestamp" is when it was sent, not when they happened.
_ENVELOPE = ("batch", "writeKey", "timestamp")


#: The first key anywhere in a body: whoever knows it may send.
_KEY_IN_BODY = re.compile(rb'"writeKey"\s*+:\s*+"([!#-\[\]-~]{1,256})"')


class _Keyed(msgspec.Struct):
    writeKey: Any = None  # noqa: N815 - the sender's name


_KEYED = msgspec.json.Decoder(_Keyed).decode


def find_key(headers: Mapping[str, str], query: Mapping[str, str], body: bytes) -> str | None:
    """The write key: the user of Basic, "writeKey" in the query, or in the body, or in a batch's first message."""
    if key := basic_user(headers.get("authorization", "")) or query.get("writeKey"):
        return key
    with suppress(Exception):  # not JSON, or a part of it is not
        found = _KEYED(body).writeKey
        if type(found) is str and found:
            return found
    match = _KEY_IN_BODY.search(body)
    return match[1].decode() if match else None


def basic_user(header: str) -> str | None:
    """The user in an Authorization header of the scheme Basic; None where there is none."""
    scheme, _, credentials = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        return b64decode(credentials.strip(), validate=True).decode().partition(":")[0] or None
    except (binascii.Error, ValueError):
        return None


class SegmentEndpoint:
    """Takes what Segment's SDKs send."""

    reply = Reply()

    def __init__(self, name: str, source: CollectSource, config: CollectConfig) -> None:
        """Raises ``ConfigError`` where the mapping file cannot be used."""
        self._names = make_names(FIELDS, read_mapping_file(name, source.mapping))
        self._ip_rule = config.ip
        self._flag_bots = config.bots == "flag"

    async def collect(self, request: Incoming) -> Mapped:
        """The events of the request, one for each of its messages; none of a question for the settings."""
        if request.path.endswith("/settings"):
            return Mapped((), Reply(200, settings(request), headers={"Cache-Control": "no-store"}))
        return Mapped(self.map(request), self.reply)

    def map(self, request: Incoming) -> list[Collected]:
        """The events of the request, one for each of its messages."""
        body = request.body
        if not body.strip():
            return []
        kind = PATHS.get(request.path.rstrip("/").rpartition("/")[2])
        try:
            parts = members(body)
            if "batch" not in parts:
                return [self._one(body, {}, kind, request)]
            messages = items(parts["batch"])
            shared = shared_members(parts, *_ENVELOPE)
        except UnmappableError as error:
            return [unmapped(body, error.fault, request.client)]
        except RecursionError:
            return [unmapped(body, Reason.TOO_DEEP, request.client)]
        return [self._one(raw, shared, None, request) for raw in messages]

    def _one(self, raw: bytes, shared: dict[str, Any], kind: str | None, request: Incoming) -> Collected:
        def make() -> Collected:
            message = decode(raw)
            if shared:
                message = merge(shared, message)
            return self.event(raw, message, kind, request)

        return collect(raw, request.client, make)

    def event(self, raw: bytes, message: dict[str, Any], kind: str | None, request: Incoming) -> Collected:
        """The event of a message, which is used up. Raises what `collect` expects."""
        context = message.get("context")
        agent = context.get("userAgent") if type(context) is dict else None
        client = visitor(request.client, agent, flag_bots=self._flag_bots)
        draft = self._draft(message, kind, request.received_at)
        return make_event(raw, request.received_at, client, draft)

    def _draft(self, message: dict[str, Any], kind: str | None, received_at: int) -> Draft:
        if self._ip_rule != "keep":
            _limit_ip(message, self._ip_rule)
        return draft_of(message, kind, received_at, self._names)


def draft_of(message: dict[str, Any], kind: str | None, received_at: int, names: Names) -> Draft:
    """The parts of a message's event. What makes the ids and the time is left out of ``properties``, nothing else."""
    columns = names.columns(message)
    client_id: Any = None
    if path := names.find_client(message):
        holder: Any = message
        for step in path[:-1]:
            holder = holder[step]
        client_id = holder[path[-1]] if len(path) > 1 else holder.pop(path[-1])
    given = message.pop("type", None)
    kind = given if type(given) is str and given else kind or "track"
    name = message.get("event")
    if kind == "track":
        event_type = names.event_type(name) if type(name) is str and 0 < len(name) <= 256 else "track"
    else:
        event_type = names.event_types.get(kind) or TYPES.get(kind, kind)
    if "channel" not in columns and (channel := channel_of(message.get(PLATFORM), event_type)):
        columns["channel"] = channel
    message.pop("writeKey", None)
    event_id = message.pop(EVENT_ID, None)

    timestamp = as_time(next(filter(None, map(message.get, TIMES)), None))
    if timestamp is not None:
        timestamp = corrected(timestamp, as_time(message.get(SENT_TIME)), received_at)

    own = message.pop("properties", None)
    properties: dict[str, Any] = own if type(own) is dict else {}
    if own is not None and own is not properties:
        keep(properties, "properties", own)
    if (kept := kind if given is None else given) != event_type:
        keep(properties, "type", kept)
    if name == event_type:
        del message["event"]
    for member, value in message.items():
        if value is not None and value != {}:
            keep(properties, member, value)
    return Draft(
        event_type=event_type,
        event_id=event_id,
        client_id=client_id,
        timestamp=timestamp,
        properties=properties,
        **columns,
    )


def settings(request: Incoming) -> bytes:
    """What an SDK needs to start: that it sends here. Without an answer, the Kotlin SDK sends to Segment's own host.

    So would SDKs send the metrics of themselves.
    """
    host = urlsplit(request.url).netloc
    sending = {"apiKey": request.query.get("writeKey", ""), "apiHost": f"{host}/v1"}
    return msgspec.json.encode(
        {"integrations": {"Segment.io": sending}, "plan": {}, "edgeFunction": {}, "metrics": {"sampleRate": 0}}
    )


def merge(shared: dict[str, Any], message: dict[str, Any]) -> dict[str, Any]:
    """`message` with what its batch says of all; the message's own members win, also within context and the like."""
    merged = shared | message
    for name, value in shared.items():
        own = message.get(name)
        if type(value) is dict and (own is None or type(own) is dict):
            merged[name] = value | (own or {})
    return merged


def _limit_ip(message: dict[str, Any], rule: str) -> None:
    """Apply the rule for addresses to ``context.ip``, too: servers and apps send a person's address there."""
    context = message.get("context")
    if type(context) is not dict or "ip" not in context:
        return
    sent = context.pop("ip")
    if rule == "truncate" and type(sent) is str:
        try:
            context["ip"] = str(truncate(ip_address(sent)))
        except ValueError:
            return


ROUTES = (
    *(Route("POST", f"/v1/{last}", ("segment", "rudderstack"), find_key, cross_origin=True) for last in PATHS),
    Route("POST", "/b", ("segment", "rudderstack"), find_key, cross_origin=True),
    Route("POST", METRICS_PATH, ("segment",), cross_origin=True, discarded=Reply()),
    *(Route("GET", path, ("segment",), find_key, cross_origin=True) for path in SETTINGS_PATHS),
)
