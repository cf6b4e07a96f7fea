"""What the parts of the collector hand to each other: a request, its events, its reply. Pure."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol

import msgspec

Acknowledgement = Literal["kafka", "journal"]  # which of the two has the events


class Client(msgspec.Struct, frozen=True):
    """Who sent a request, after the rules of privacy were applied."""

    ip: str | None  # truncated as configured; None where it must not be kept
    user_agent: str
    is_bot: bool
    anonymous: bool  # identifiers must not be kept: the client asked for it, and the configuration honours that


class Incoming(msgspec.Struct, frozen=True):
    """A request that is within all limits, and whose source is known."""

    source: str  # the name in [collect.sources]
    method: str
    path: str  # without the query
    query: Mapping[str, str]
    url: str  # as the sender knows it: some vendors sign it
    headers: Mapping[str, str]  # names in lower case
    raw_body: bytes  # as it was received: signatures cover it
    body: bytes  # decompressed
    received_at: int  # milliseconds since the epoch
    client: Client


class Collected(msgspec.Struct, frozen=True, gc=False):
    """One event for the topic: JSON of the event model, or the sender's bytes where they could not be mapped."""

    value: bytes
    key: bytes | None  # the client's id: events of one client stay in order
    fault: str | None = None  # why it could not be mapped, as a label of metrics: ingestion quarantines it


class Reply(msgspec.Struct, frozen=True):
    """The answer once every event is safe."""

    status: int = 200
    body: bytes = b'{"success":true}'
    content_type: str = "application/json"
    headers: Mapping[str, str] = {}


class Mapped(msgspec.Struct, frozen=True):
    """The events of a request, in its order, and the answer to it."""

    events: Sequence[Collected]
    reply: Reply = Reply()


class RefusedError(Exception):
    """The request as a whole is refused: none of it is kept, but where a `Delivery` refuses some of its events."""

    def __init__(self, status: int, reason: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason  # a label of metrics
        self.headers = headers or {}


class Endpoint(Protocol):
    """Understands the requests of one kind of sender."""

    async def collect(self, request: Incoming) -> Mapped:
        """Verify the request and map its events. Raises `RefusedError`; one bad event never refuses the others."""
        ...


#: Finds the key in the headers (names in lower case), the query and the decompressed body; None where there is none.
FindKey = Callable[[Mapping[str, str], Mapping[str, str], bytes], str | None]


class Route(msgspec.Struct, frozen=True):
    """Where senders of some kinds send to. The key tells which source it is, or the path does: ``{source}``."""

    method: str
    path: str  # may have one parameter: ``{source}``, or another, which counts as one of the query
    kinds: tuple[str, ...]  # of `CollectSource`
    find_key: FindKey | None = None  # None: the path has the source's name
    cross_origin: bool = False  # web pages of other origins send to it: preflights are answered, origins are checked
    refused: Reply | None = None  # the answer to requests that are refused, of senders that cannot use a status
    discarded: Reply | None = None  # the answer to what has no event and no key: it is read, counted and not kept


class UnavailableError(Exception):
    """The events may not be safe: the sender must send them again."""


class Delivery(Protocol):
    """Makes events safe."""

    @property
    def error(self) -> str | None:
        """Why events cannot be made safe now, for people; None while they can."""
        ...

    async def deliver(self, source: str, received_at: int, events: Sequence[Collected]) -> Acknowledgement:
        """Returns once every event is safe, in order, and where. Raises `UnavailableError` after `ack_timeout`."""
        ...
