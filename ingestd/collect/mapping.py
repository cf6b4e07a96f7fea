"""Builds events of the model from what senders send: JSON for the topic, or the sender's bytes and a fault. Pure.

An endpoint decodes a message with `decode`, picks its parts into a `Draft`, and has `make_event` build the event. Both
raise `UnmappableError`; `collect` turns that into the sender's bytes with the fault. What makes no column stays in
``properties``: nothing that was sent is cut or left out, but identifiers of a client that wants none kept.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from ingestd.collect.anonymous import strip
from ingestd.collect.messages import Client, Collected
from ingestd.core.decoding import BOUNDED, ENCODER, is_bounded
from ingestd.core.events import GenericEvent
from ingestd.core.rejections import Reason, RejectedRecord, check_limits, parse
from ingestd.core.validation import FIRST_YEAR

ID_MAX = 256  # characters, as in the model: of event_id, client_id and event_type
TEXT_MAX = 256
URL_MAX = 8192
DUPLICATE_KEY = "duplicate_key"  # the fault that validation does not know
DEFECT = "defect"  # the fault where the mapping itself failed: never expected
#: The client_id of all clients that want no identifiers kept. A hash of the client, be it salted and changed each day,
#: would still tell what one person did that day, which is what the client objects to; it would need a secret that all
#: processes share and forget in time; and the event sent twice around midnight would become two rows. A constant keeps
#: the counts of pages and campaigns, and one condition in SQL leaves it out of what is computed for each client.
ANONYMOUS = "anonymous"
#: What the collector knows itself. These names in ``properties`` are its own: a sender's value moves to "_ip".
OWN_PROPERTIES = ("ip", "user_agent", "is_bot")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST = datetime(FIRST_YEAR, 1, 1, tzinfo=UTC)
_QUICK = msgspec.json.Decoder(dict[str, Any], float_hook=BOUNDED).decode
_INTEGER = re.compile(r"[0-9]{1,18}")


class UnmappableError(Exception):
    """A message cannot become an event. `fault` says why: one of validation's reasons, or `DUPLICATE_KEY`."""

    def __init__(self, fault: str) -> None:
        super().__init__(fault)
        self.fault = str(fault)


class Draft(msgspec.Struct, kw_only=True):
    """The parts of an event, of whatever type the sender gave them. `properties` is changed by `make_event`."""

    event_type: object
    client_id: object
    event_id: object = None  # None: a hash of the message
    timestamp: datetime | None = None  # None: the time of the request
    event_category: object = None
    page_url: object = None
    session_id: object = None
    channel: object = None
    device_type: object = None
    campaign_id: object = None
    duration_s: object = None
    consent: object = None
    properties: dict[str, Any]


def collect(raw: bytes, client: Client, make: Callable[[], Collected]) -> Collected:
    """What `make` builds out of `raw`; `raw` itself, with the fault, where that is not possible."""
    try:
        return make()
    except UnmappableError as error:
        return unmapped(raw, error.fault, client)
    except RejectedRecord as error:
        return unmapped(raw, error.args[0], client)
    except RecursionError:
        return unmapped(raw, Reason.TOO_DEEP, client)
    except UnicodeEncodeError:  # a text that did not come as JSON
        return unmapped(raw, Reason.LONE_SURROGATE, client)
    except Exception:  # noqa: BLE001 - a defect of ours: an answer of 500 would lose the event, or repeat it for ever
        return unmapped(raw, DEFECT, client)


def unmapped(raw: bytes, fault: str, client: Client) -> Collected:
    """The sender's bytes, which ingestion quarantines. Of an anonymous client only their number."""
    if client.anonymous:  # nobody can tell where the identifiers are in bytes that could not be understood
        raw = ENCODER.encode({"fault": str(fault), "anonymous": True, "bytes": len(raw)})
    return Collected(raw, None, str(fault))


def decode(raw: bytes) -> dict[str, Any]:
    """The JSON object in `raw`, with every digit of its numbers. Raises `UnmappableError`."""
    try:
        data = _QUICK(raw)
    except Exception:  # noqa: BLE001 - the exact way tells what it was
        try:
            data = parse(raw)
            check_limits(data, "$", depth=1)
        except RejectedRecord as error:
            raise UnmappableError(error.args[0]) from error
    if _has_duplicate_keys(raw, data):
        raise UnmappableError(DUPLICATE_KEY)
    return data


def make_event(raw: bytes, received_at: int, client: Client, draft: Draft) -> Collected:
    """The event of `draft`, which came in `raw`. Raises `UnmappableError`, and what `collect` expects."""
    properties = draft.properties
    client_id = ANONYMOUS
    if client.anonymous:
        properties = strip(properties)
    else:
        client_id = as_id(draft.client_id)
    event = GenericEvent(
        event_id="",
        client_id=client_id,
        event_type=as_id(draft.event_type),
        event_timestamp=_within_years(draft.timestamp or time_of(received_at)),
        properties=properties,
    )
    for name, convert in COLUMNS.items():
        value = getattr(draft, name)
        if client.anonymous:
            value = strip(value) if name != "session_id" else None
        if value is not None and value != "":
            if (column := convert(value)) is not None:
                setattr(event, name, column)
            else:
                keep(properties, name, value)
    if draft.event_id is not None and draft.event_id != "":
        event.event_id = as_id(draft.event_id)
    else:
        event.event_id = _hash(ENCODER.encode(event) if client.anonymous else raw, draft, received_at)
    _add_client(properties, client)
    if not properties:
        event.properties = None
    value = ENCODER.encode(event)
    if not is_bounded(value, properties):
        check_limits(properties, "$.properties", depth=2)
    return Collected(value, None if client.anonymous else client_id.encode())  # None: no partition gets all of these


def as_id(value: object) -> str:
    """An id as text: an integer is one, too. Raises `UnmappableError`, since an id is never cut."""
    if type(value) is str:
        if 0 < len(value) <= ID_MAX:
            return value
        raise UnmappableError(Reason.TOO_LONG if value else Reason.TOO_SHORT)
    if value is None:
        raise UnmappableError(Reason.MISSING_FIELD)
    if type(value) is int and abs(value) < 2**64:
        return str(value)
    raise UnmappableError(Reason.WRONG_TYPE)


def as_text(value: object) -> str | None:
    """A column's text, of an integer too; None where `value` does not fit."""
    if type(value) is str:
        return value if len(value) <= TEXT_MAX else None
    if type(value) is int and abs(value) < 2**64:
        return str(value)
    return None


def as_url(value: object) -> str | None:
    """A column's URL; None where `value` does not fit."""
    return value if type(value) is str and len(value) <= URL_MAX else None


def as_seconds(value: object) -> int | None:
    """A column's integer; None where `value` does not fit."""
    return value if type(value) is int and -(2**63) <= value < 2**63 else None


def as_bool(value: object) -> bool | None:
    """A column's truth value; None where `value` is none."""
    return value if type(value) is bool else None


def as_time(value: object) -> datetime | None:
    """An ISO 8601 time in UTC, which is assumed where no offset is given; None where it is none."""
    if type(value) is not str or len(value) > 64:
        return None
    try:
        time = datetime.fromisoformat(value)
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def as_milliseconds(value: object) -> datetime | None:
    """A time in milliseconds since the epoch, as a number or its text; None where it is none."""
    if type(value) is str and _INTEGER.fullmatch(value):
        value = int(value)
    if type(value) is not int:
        return None
    try:
        return time_of(value)
    except OverflowError:
        return None


def time_of(milliseconds: int) -> datetime:
    """Milliseconds since the epoch as a time."""
    return _EPOCH + timedelta(milliseconds=milliseconds)


def corrected(timestamp: datetime, sent_at: datetime | None, received_at: int) -> datetime:
    """`timestamp` by our clock, since `sent_at` tells what the sender's clock was when it sent."""
    if sent_at is None:
        return timestamp
    try:
        return timestamp + (time_of(received_at) - sent_at)
    except OverflowError:
        return timestamp


#: The optional columns, and what makes a value fit; of what does not, the value is kept in ``properties``.
COLUMNS: Mapping[str, Callable[[object], object]] = {
    "page_url": as_url, "session_id": as_text, "device_type": as_text, "campaign_id": as_text, "channel": as_text,
    "event_category": as_text, "duration_s": as_seconds, "consent": as_bool,
}  # fmt: skip


def keep(properties: dict[str, Any], name: str, value: Any) -> None:
    """Add a value under the first free of `name`, "_name", "__name"."""
    while name in properties:
        name = f"_{name}"
    properties[name] = value


def _add_client(properties: dict[str, Any], client: Client) -> None:
    """What the collector knows of the client. It takes the name, so that no sender can pretend to be another."""
    own: dict[str, object] = {"is_bot": client.is_bot or None}
    if not client.anonymous:
        own["ip"] = client.ip
        # Headers may have bytes that are not UTF-8, which come as surrogates.
        own["user_agent"] = client.user_agent.encode("utf-8", "replace").decode() or None
    for name in OWN_PROPERTIES:
        if name in properties:
            sent = properties.pop(name)
            keep(properties, f"_{name}", sent)
        if (value := own.get(name)) is not None:
            properties[name] = value


def _within_years(time: datetime) -> datetime:
    if time < _FIRST:
        raise UnmappableError(Reason.TIMESTAMP_OUT_OF_RANGE)
    return time


def _hash(content: bytes, draft: Draft, received_at: int) -> str:
    """An id for a message without one: the same bytes, sent again, get the same id.

    Without a time in the message equal bytes are two events as often as a repeat, so the time of the request counts:
    a doubled row is found later, a lost one is not.
    """
    digest = hashlib.blake2b(content, digest_size=16)
    if draft.timestamp is None:
        digest.update(b"%d" % received_at)
    return digest.hexdigest()


def _has_duplicate_keys(raw: bytes, data: dict[str, Any]) -> bool:
    """Whether the decoder took the last of several equal keys. Encoded again, `data` has fewer quotes then."""
    again = ENCODER.encode(data)
    if again == raw:  # as JavaScript writes it
        return False
    if b"\\u0022" not in raw and raw.count(b'"') == again.count(b'"'):  # the escape of a quote counts as none
        return False
    try:
        json.loads(raw, object_pairs_hook=_unique, parse_int=str, parse_float=str)
    except _DuplicateKeyError:
        return True
    return False


class _DuplicateKeyError(Exception):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> None:
    if len({name for name, _ in pairs}) != len(pairs):
        raise _DuplicateKeyError
