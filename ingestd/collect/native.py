"""``POST /v1/events``: events of our own model, as one object, an array, or lines. Pure.

What an event is made of goes on byte for byte. Only those of web pages get what the collector knows of the client, and
those of clients that want no identifiers kept lose theirs.
``?verbose=1`` asks for a verdict on each event, by the validation that the daemon itself will apply.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ingestd.collect.anonymous import strip
from ingestd.collect.mapping import ANONYMOUS, OWN_PROPERTIES, keep, unmapped
from ingestd.collect.messages import Client, Collected, Incoming, Mapped, Reply, Route
from ingestd.core.decoding import ENCODER
from ingestd.core.records import PlainRecord, TopicPartition
from ingestd.core.rejections import Reason, RejectedRecord, parse
from ingestd.core.validation import Validator

MAX_EVENTS = 10_000  # of one request
TOO_MANY = "too_many"  # the fault of what follows them
ID_MAX = 256  # characters

_SPACE = b" \t\r\n"
_WHERE = TopicPartition("collect", 0)


class _Peek(msgspec.Struct):
    """What must be known of an event to send it on."""

    client_id: msgspec.Raw = msgspec.Raw(b"")


_peek = msgspec.json.Decoder(_Peek).decode
_elements = msgspec.json.Decoder(list[msgspec.Raw]).decode
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_text = msgspec.json.Decoder(str).decode


def find_key(headers: Mapping[str, str], query: Mapping[str, str], body: bytes) -> str | None:
    """The key in ``Authorization``, as Bearer or as either part of Basic, or in ``?key=``."""
    del body
    scheme, _, value = headers.get("authorization", "").strip().partition(" ")
    value = value.strip()
    if scheme.lower() == "bearer" and value:
        return value
    if scheme.lower() == "basic" and value:
        try:
            user, _, password = base64.b64decode(value, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return ""  # a key that no source has
        return password or user
    return query.get("key")


ROUTES = (Route("POST", "/v1/events", ("native", "web"), find_key, cross_origin=True),)


class NativeEndpoint:
    """Splits a body into events. What is not one goes on, too, and is quarantined with its reason."""

    def __init__(self, validator: Validator, *, of_visitors: bool = False) -> None:
        """`of_visitors`: what is known of the client of a request is part of its events."""
        self._validator = validator
        self._of_visitors = of_visitors

    async def collect(self, request: Incoming) -> Mapped:
        """The events of a request, in their order."""
        events = [_event(value, request.client, of_visitor=self._of_visitors) for value in split(request.body)]
        if request.query.get("verbose") in {"1", "true"}:
            return Mapped(events, self._verdicts(events, request.received_at))
        return Mapped(events)

    def _verdicts(self, events: Sequence[Collected], received_at: int) -> Reply:
        records = [PlainRecord(number, received_at, event.value) for number, event in enumerate(events)]
        rejected = {it.position: it for it in self._validator.chunk(_WHERE, records).rejected}
        verdicts: list[dict[str, object]] = []
        for number in range(len(events)):
            if it := rejected.get(number):
                verdicts.append({"valid": False, "reason": it.reason, "path": it.path, "message": it.message})
            else:
                verdicts.append({"valid": True})
        valid = sum(verdict["valid"] is True for verdict in verdicts)
        body = {"success": True, "valid": valid, "invalid": len(verdicts) - valid, "events": verdicts}
        return Reply(body=msgspec.json.encode(body))


def split(body: bytes) -> list[bytes]:
    """The events in a body: the elements of an array, one object, or lines. Bytes that are none of it stay whole."""
    text = body.strip(_SPACE)
    if not text:
        return []
    if text.startswith(b"["):
        try:
            return _limited([bytes(element) for element in _elements(text)], b",", b"[", b"]")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return [text]
    if b"\n" not in text or _is_object(text):
        return [text]
    return _limited([line for part in text.split(b"\n") if (line := part.strip(_SPACE))], b"\n", b"", b"")


def _limited(events: list[bytes], separator: bytes, before: bytes, after: bytes) -> list[bytes]:
    """At most `MAX_EVENTS`; what follows them stays together, so that it is quarantined as one and can be requeued."""
    if len(events) <= MAX_EVENTS:
        return events
    return [*events[:MAX_EVENTS], before + separator.join(events[MAX_EVENTS:]) + after]


def _is_object(text: bytes) -> bool:
    try:
        _peek(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _event(value: bytes, client: Client, *, of_visitor: bool) -> Collected:
    try:
        peeked = _peek(value)
        if client.anonymous:
            return _anonymous(value, is_bot=of_visitor and client.is_bot)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, RejectedRecord) as error:
        return unmapped(value, _fault(value, error), client)
    return Collected(_with_client(value, client) if of_visitor else value, _key_of(peeked.client_id))


def _fault(value: bytes, error: Exception) -> str:
    try:
        parse(value)
    except RejectedRecord as rejected:
        return str(rejected.args[0])
    return str(Reason.TOO_DEEP if isinstance(error, RecursionError) else Reason.INVALID)


def _key_of(client_id: msgspec.Raw) -> bytes | None:
    """The client's id, as text or a number; None where there is none that could be one."""
    try:
        text = _decode_text(client_id)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return text.encode() if 0 < len(text) <= ID_MAX else None


def _with_client(value: bytes, client: Client) -> bytes:
    """`value` with what is known of the client in its properties, under names that are the collector's own."""
    own = {"ip": client.ip, "user_agent": client.user_agent or None, "is_bot": client.is_bot or None}
    try:
        data = _members(value)
        properties = {} if data.get("properties", b"null") == b"null" else _members(data["properties"])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return value  # its properties are none, as validation will tell
    for name in OWN_PROPERTIES:
        if name in properties:
            keep(properties, f"_{name}", properties.pop(name))
        if (known := own[name]) is not None:
            properties[name] = msgspec.Raw(ENCODER.encode(known))
    if properties:
        data["properties"] = msgspec.Raw(ENCODER.encode(properties))
    return ENCODER.encode(data)


def _anonymous(value: bytes, *, is_bot: bool) -> Collected:
    data: dict[str, Any] = strip(parse(value))
    data["client_id"] = ANONYMOUS
    if is_bot:
        data["properties"] = {**(data.get("properties") or {}), "is_bot": True}
    return Collected(ENCODER.encode(data), None)
