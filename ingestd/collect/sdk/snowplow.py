"""Snowplow's trackers: its two paths, its parameters and their mapping to events."""

import re
from base64 import b64decode
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec

from ingestd.collect.mapping import (
    Draft,
    UnmappableError,
    as_milliseconds,
    collect,
    corrected,
    decode,
    keep,
    make_event,
    unmapped,
)
from ingestd.collect.messages import Client, Collected, Incoming, Mapped, Reply, Route
from ingestd.collect.pixel import PICTURE
from ingestd.collect.sdk.bodies import items, members
from ingestd.collect.sdk.mapping_file import read_mapping_file
from ingestd.collect.sdk.names import Names, channel_of, make_names
from ingestd.collect.sdk.visitors import visitor
from ingestd.config.model import CollectConfig, CollectSource
from ingestd.core.rejections import Reason

TP2 = "/com.snowplowanalytics.snowplow/tp2"
#: Our column, and the parameter it comes from, in the order in which they are tried.
FIELDS: Mapping[str, tuple[str, ...]] = {
    "client_id": ("uid", "duid", "client_session.userId", "tnuid", "nuid"),
    "page_url": ("url", "data.url"),
    "session_id": ("sid", "client_session.sessionId"),
    "channel": ("data.channel",),
    "device_type": ("data.device_type",),
    "campaign_id": ("data.campaign_id",),
    "duration_s": ("data.duration_s",),
    "consent": ("data.consent",),
}
EVENT_ID = "eid"
PLATFORM = "p"
TRUE_TIME, DEVICE_TIME, SENT_TIME = "ttm", "dtm", "stm"  # the first is of no client's clock
#: What becomes of each value of "e": our event_type. None: the name of the event decides.
TYPES: Mapping[str, str | None] = {
    "pv": "web_visit",
    "pp": "page_ping",
    "se": None,
    "ue": None,
    "tr": "transaction",
    "ti": "transaction_item",
}
_KEY_IN_BODY = re.compile(rb'"aid"\s*+:\s*+"([!#-\[\]-~]{1,256})"')
_SCHEMA = re.compile(r"iglu:[^/]{1,256}/([^/]{1,256})/")
_SESSION = "iglu:com.snowplowanalytics.snowplow/client_session/"
_ENCODE = msgspec.json.Encoder().encode


def find_key(_headers: Mapping[str, str], query: Mapping[str, str], body: bytes) -> str | None:
    """The app id, the only thing by which a tracker says whose it is: "aid" in the query or in the first event."""
    if key := query.get("aid"):
        return key
    match = _KEY_IN_BODY.search(body)
    return match[1].decode() if match else None


class SnowplowEndpoint:
    """Takes what Snowplow's trackers send."""

    def __init__(self, name: str, source: CollectSource, config: CollectConfig) -> None:
        """Raises ``ConfigError`` where the mapping file cannot be used."""
        self._names = make_names(FIELDS, read_mapping_file(name, source.mapping))
        self._flag_bots = config.bots == "flag"

    async def collect(self, request: Incoming) -> Mapped:
        """The events of the request, one for each of its payloads. Never raises."""
        if request.method == "GET":
            query = {name: _clean(value) for name, value in request.query.items()}
            return Mapped([self._one(_ENCODE({_clean(name): query[name] for name in query}), request)], PICTURE)
        return Mapped(self.map(request), Reply(200, b"ok", "text/plain"))

    def map(self, request: Incoming) -> list[Collected]:
        """The events in a body: ``{"schema": ".../payload_data/...", "data": [...]}``."""
        if not request.body.strip():
            return []
        try:
            data = members(request.body).get("data")
            if data is None:
                raise UnmappableError(Reason.MISSING_FIELD)
            payloads = items(data)
        except UnmappableError as error:
            return [unmapped(request.body, error.fault, request.client)]
        except RecursionError:
            return [unmapped(request.body, Reason.TOO_DEEP, request.client)]
        return [self._one(raw, request) for raw in payloads]

    def _one(self, raw: bytes, request: Incoming) -> Collected:
        client = request.client
        if "sp-anonymous" in request.headers:  # the tracker asks that the server adds no identifiers
            client = Client(None, client.user_agent, client.is_bot, client.anonymous)

        def make() -> Collected:
            payload = decode(raw)
            sender = visitor(client, payload.get("ua"), flag_bots=self._flag_bots)
            draft = draft_of(payload, request.received_at, self._names)
            return make_event(raw, request.received_at, sender, draft)

        return collect(raw, client, make)


def draft_of(payload: dict[str, Any], received_at: int, names: Names) -> Draft:
    """The parts of a payload's event. `payload` is used up and becomes the properties."""
    kind = payload.get("e")
    name = _unpack(payload) if kind == "ue" else payload.get("se_ac") if kind == "se" else None
    visible = payload | {"client_session": _unpack_contexts(payload)}
    columns = names.columns(visible)
    path = names.find_client(visible)
    client_id: Any = visible
    for step in path or ():
        client_id = client_id[step]
    if path is not None and len(path) == 1:
        payload.pop(path[0], None)
    if type(kind) is not str or not kind:
        raise UnmappableError(Reason.MISSING_FIELD if kind is None else Reason.WRONG_TYPE)
    if name is not None:
        event_type = names.event_type(name) if type(name) is str and 0 < len(name) <= 256 else kind
    else:
        event_type = names.event_types.get(kind) or TYPES.get(kind) or kind
    if "channel" not in columns and (channel := channel_of(payload.get(PLATFORM), event_type)):
        columns["channel"] = channel
    if "campaign_id" not in columns and (campaign := _campaign(columns.get("page_url"))):
        columns["campaign_id"] = campaign
    timestamp = as_milliseconds(payload.get(TRUE_TIME))
    if timestamp is None and (timestamp := as_milliseconds(payload.get(DEVICE_TIME))) is not None:
        timestamp = corrected(timestamp, as_milliseconds(payload.get(SENT_TIME)), received_at)
    return Draft(
        event_type=event_type,
        event_id=payload.pop(EVENT_ID, None),
        client_id=None if path is None else client_id,
        timestamp=timestamp,
        properties={name: value for name, value in payload.items() if value is not None},
        **columns,
    )


def _unpack(payload: dict[str, Any]) -> str | None:
    """Put a self-describing event's "schema" and "data" in the place of "ue_pr" or "ue_px". Returns its name."""
    for parameter in ("ue_pr", "ue_px"):
        if parameter in payload:
            outer = _described(payload[parameter], is_base64=parameter == "ue_px")
            inner: Any = outer.get("data") if outer else None
            schema = inner.get("schema") if type(inner) is dict else None
            match = _SCHEMA.match(schema) if type(schema) is str else None
            if match is None:
                raise UnmappableError(Reason.WRONG_TYPE)
            del payload[parameter]
            keep(payload, "schema", schema)
            keep(payload, "data", inner.get("data"))
            return match[1]
    raise UnmappableError(Reason.MISSING_FIELD)


def _unpack_contexts(payload: dict[str, Any]) -> Any:
    """Put the list of contexts in the place of "co" or "cx", where they can be read. Returns the session's data."""
    session: Any = None
    for parameter in ("co", "cx"):
        if parameter in payload:
            outer = _described(payload[parameter], is_base64=parameter == "cx")
            contexts: Any = outer.get("data") if outer else None
            if type(contexts) is not list:
                continue
            del payload[parameter]
            keep(payload, "contexts", contexts)
            for context in contexts:
                if type(context) is dict and str(context.get("schema")).startswith(_SESSION):
                    session = context.get("data")
    return session


def _described(text: object, *, is_base64: bool) -> dict[str, Any] | None:
    """The self-describing JSON in a parameter; None where it is none."""
    if type(text) is not str:
        return None
    try:
        if not is_base64:
            return decode(text.encode())
        return decode(b64decode(text + "=" * (-len(text) % 4), altchars=b"-_"))
    except (UnmappableError, ValueError):
        return None


def _campaign(url: object) -> str | None:
    """The value of utm_campaign in the page's URL."""
    if type(url) is not str or "utm_campaign=" not in url:
        return None
    try:
        return parse_qs(urlsplit(url).query, max_num_fields=200).get("utm_campaign", [None])[0]
    except ValueError:
        return None


def _clean(text: str) -> str:
    """`text` without surrogates, which bytes of a URL that are not UTF-8 may have become."""
    return text.encode("utf-8", "replace").decode()


ROUTES = (
    Route("POST", TP2, ("snowplow",), find_key, cross_origin=True),
    Route("GET", "/i", ("snowplow",), find_key, cross_origin=True, refused=PICTURE),
)
