"""The endpoint of one webhook: verifies a request, splits it into events, and builds each of them."""

from collections.abc import Awaitable, Callable, Sequence
from typing import ClassVar, Protocol

import msgspec

from ingestd.collect.hooks.apply import EventBuilder
from ingestd.collect.hooks.json_paths import Path
from ingestd.collect.hooks.replay import UsedTokens
from ingestd.collect.hooks.signatures import (
    MAILGUN_WINDOW_MS,
    REPLAYED,
    Refusal,
    Verifier,
    form,
    mailgun_signature,
)
from ingestd.collect.messages import Incoming, Mapped, RefusedError
from ingestd.ops.http_client import HttpAnswer

TOO_MANY = "too_many_events"
EVENTS_MAX = 20_000  # of one request; within 16 MiB there are not more of any vendor's

_RAW_LIST = msgspec.json.Decoder(list[msgspec.Raw])
_RAW_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_EMPTY = (b"", b"[]")

Fetch = Callable[[str], Awaitable[HttpAnswer]]
"""GETs a URL without following redirects. Raises HttpFailure."""


class KeyRing(Protocol):
    """The keys of a source."""

    def all(self) -> tuple[bytes, ...]:
        """Those that are valid now."""
        ...


def refused(refusal: Refusal) -> RefusedError:
    """The exception of a refusal."""
    return RefusedError(refusal.status, refusal.reason, refusal.message, refusal.headers)


class WebhookEndpoint:
    """A vendor that posts one JSON object, or an array of them, with a proof that the request alone can verify."""

    id_headers: ClassVar[tuple[str, ...]] = ()  # that have the id of the message, for an event without one

    def __init__(self, verify: Verifier, keys: KeyRing, builder: EventBuilder, events: Path | None = None) -> None:
        self._verify = verify
        self._keys = keys
        self._builder = builder
        self._events = events

    async def collect(self, request: Incoming) -> Mapped:
        """Verify the request and map its events. Raises `RefusedError`."""
        if refusal := self._verify(request, self._keys.all()):
            raise refused(refusal)
        self.check(request)
        raws = self.split(request)
        if len(raws) > EVENTS_MAX:
            raise RefusedError(413, TOO_MANY, f"more than {EVENTS_MAX} events in a request")
        ids = [request.headers[name] for name in self.id_headers if name in request.headers]
        message_id = ids[0] if ids and len(raws) == 1 else None
        events = [event for raw in raws for event in self._builder.build(request, raw, message_id)]
        return Mapped(events)

    def check(self, request: Incoming) -> None:
        """What a vendor demands beside its signature."""

    def split(self, request: Incoming) -> Sequence[bytes]:
        """The bytes of each event."""
        if request.body.strip() in _EMPTY:
            return ()
        return split_array(find_raw(request.body, self._events))


class StandardEndpoint(WebhookEndpoint):
    """Standard Webhooks, whose id stays the same when a message is sent again."""

    id_headers = ("webhook-id", "svix-id")


class MailgunEndpoint(WebhookEndpoint):
    """Mailgun: its signature covers a token, which is good for one body; its event is a member of the body."""

    def __init__(self, verify: Verifier, keys: KeyRing, builder: EventBuilder) -> None:
        super().__init__(verify, keys, builder)
        self._tokens = UsedTokens()

    def check(self, request: Incoming) -> None:
        block = mailgun_signature(request.body)
        assert block is not None, "it was verified"
        until = int(block.timestamp) * 1000 + MAILGUN_WINDOW_MS
        event = find_raw(request.body, ("event-data",))
        if not self._tokens.use(block.token.encode(), event, request.received_at, until):
            raise refused(Refusal(REPLAYED, "the token was used for another event", 406))

    def split(self, request: Incoming) -> Sequence[bytes]:
        return [find_raw(request.body, ("event-data",))]


class MandrillEndpoint(WebhookEndpoint):
    """Mandrill: the events are an array in a field of a form."""

    def split(self, request: Incoming) -> Sequence[bytes]:
        values = [value for name, value in form(request.body) or () if name == "mandrill_events"]
        return [raw for value in values for raw in split_array(value.encode(errors="surrogateescape")) if value != "[]"]


def split_array(body: bytes) -> list[bytes]:
    """The bytes of each item of a JSON array; the body itself where it is none."""
    if not body.lstrip().startswith(b"["):
        return [body]
    try:
        return [bytes(item) for item in _RAW_LIST.decode(body)]
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return [body]


def find_raw(body: bytes, path: Path | None) -> bytes:
    """The bytes at `path`; the body itself where there is nothing."""
    raw = body
    for step in path or ():
        try:
            members = _RAW_MEMBERS.decode(raw) if type(step) is str else {}
        except (msgspec.DecodeError, RecursionError, UnicodeError):
            return body
        if step not in members:
            return body
        raw = bytes(members[str(step)])
    return raw
