"""The way of one request: source, limits, privacy, endpoint, delivery, answer."""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import unquote

import msgspec

from ingestd.collect.body import RETRY_AFTER_S, ByteStream, decompress, read_body
from ingestd.collect.keys import Keys
from ingestd.collect.limits import ByteBudget, Reservation
from ingestd.collect.mapping import unmapped
from ingestd.collect.messages import (
    Collected,
    Delivery,
    Endpoint,
    Incoming,
    Mapped,
    RefusedError,
    Reply,
    Route,
    UnavailableError,
)
from ingestd.collect.observer import DELIVERED, DROPPED, REFUSED, UNAVAILABLE, Observer
from ingestd.collect.origins import Origins, answer_headers, normalise, preflight_headers
from ingestd.collect.privacy import client_of, networks, wish_of
from ingestd.collect.rate_limit import RateLimiter
from ingestd.collect.routes import Found, Place, Routes, parse_query, unauthorized
from ingestd.config.model import CollectConfig

COLLECT_S = 10.0  # for an endpoint: some fetch the certificate of a signature
LOG_EVERY_S = 60.0  # the same trouble of the same source
DISCARDED = "discarded"  # the reason of requests that have no event
ENDPOINT_FAILED = "endpoint_failed"  # the fault of a request whose endpoint failed: it is our mistake, not the sender's

log = logging.getLogger(__name__)


class Received(NamedTuple):
    """A request as the server has it: its headers are complete, its body may still come."""

    method: str
    target: str  # path and query as they were sent
    headers: Mapping[str, str]  # names in lower case
    peer: str  # the IP address of the connection's other end
    stream: ByteStream
    continue_: Callable[[], Awaitable[None]]  # asks for the body of a sender that waits to be asked


class Answer(NamedTuple):
    """What goes back."""

    status: int
    body: bytes
    content_type: str
    headers: Mapping[str, str]


class _Seen:
    """What is known of a request so far, for the answer to a refused one, and what it has in memory."""

    def __init__(self, reservation: Reservation) -> None:
        self.reservation = reservation
        self.source = ""
        self.reason = ""
        self.cors: dict[str, str] = {}
        self.refused: Reply | None = None


class RequestPath:
    """Answers requests. Holds the limits that all requests share."""

    def __init__(
        self,
        config: CollectConfig,
        endpoints: Mapping[str, Endpoint],
        routes: Sequence[Route],
        delivery: Delivery,
        observer: Observer,
        *,
        keys: Mapping[str, Keys],
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`endpoints` and `keys` go by the names in ``config.sources``; sources without a key file have no keys."""
        self._config = config
        self._endpoints = endpoints
        self._delivery = delivery
        self._observer = observer
        self._clock = clock
        self._monotonic = monotonic
        self._routes = Routes(routes, config.sources, keys)
        self._limiters = {name: RateLimiter(source.rate, monotonic) for name, source in config.sources.items()}
        public_url = (config.public_url or "").rstrip("/")
        self._public_url = public_url
        own = [normalise("/".join(public_url.split("/")[:3]))] if public_url else []
        self._origins = {
            name: Origins([*(source.origins or config.origins), *own]) for name, source in config.sources.items()
        }
        self._trusted = networks(config.trusted_proxies)
        self._max_body = int(config.max_body)
        self._budget = ByteBudget(max(int(config.body_memory), 2 * self._max_body))
        self._logged: dict[str, float] = {}

    @property
    def bytes_in_flight(self) -> int:
        """The bodies that are in memory, in bytes."""
        return self._budget.used

    async def answer(self, request: Received) -> Answer:
        """The answer to a request, once its events are safe, or why it is refused."""
        seen = _Seen(self._budget.reserve())
        try:
            with seen.reservation:
                answer = await self._answer(request, seen)
        except RefusedError as refused:
            self._observer.request(seen.source, refused.status, refused.reason)
            return _refusal(refused, seen)
        self._observer.request(seen.source, answer.status, seen.reason)
        return answer

    async def _answer(self, request: Received, seen: _Seen) -> Answer:
        place = self._routes.place(unquote(request.target.partition("?")[0], errors="replace"))
        if place is None:
            raise RefusedError(404, "not_found", "nothing is at this path")
        origin = request.headers.get("origin")
        if origin is not None and place.is_cross_origin:
            seen.cors = self._cors(place, origin)
        if request.method == "OPTIONS":
            return self._preflight(place, request.headers, seen)
        routes = place.by_method.get(request.method)
        if routes is None:
            return _without_event(place, request.method)
        seen.refused = next((route.refused for route in routes if route.refused is not None), None)
        if (reply := routes[0].discarded) is not None:
            return await self._discard(request, reply, seen)
        return await self._take(request, place, routes, seen)

    async def _discard(self, request: Received, reply: Reply, seen: _Seen) -> Answer:
        """Read a request without events. It has no key: pages of all sources may send it."""
        if "origin" in request.headers and not seen.cors:
            raise _origin_refused()
        await self._read(request, seen.reservation)
        seen.reason = DISCARDED
        return Answer(reply.status, reply.body, reply.content_type, {**reply.headers, **seen.cors})

    async def _take(self, request: Received, place: Place, routes: Sequence[Route], seen: _Seen) -> Answer:
        path, _, query_text = request.target.partition("?")
        query = {**parse_query(query_text), **place.parameters}
        headers = request.headers
        raw = body = None
        found = self._routes.find(routes, place.named, headers, query, b"")
        if found is None:  # some senders have the key in the body
            raw, body = await self._read(request, seen.reservation)
            found = self._routes.find(routes, place.named, headers, query, body)
            if found is None:
                raise unauthorized("the request has no key")
        self._admit(found, headers, seen)
        if raw is None or body is None:
            raw, body = await self._read(request, seen.reservation)
        wish = wish_of(headers, self._config)
        incoming = Incoming(
            source=found.name,
            method=request.method,
            path=path,
            query=query,
            url=(self._public_url or f"http://{headers.get('host', '')}") + request.target,
            headers=headers,
            raw_body=raw,
            body=body,
            received_at=int(self._clock() * 1000),
            client=client_of(
                headers,
                request.peer,
                self._trusted,
                self._config,
                anonymous=wish == "anonymise",
                is_visitor=self._config.sources[found.name].kind == "web",
            ),
        )
        mapped = await self._map(incoming, request.target, is_known=found.route.find_key is not None)
        self._limiters[found.name].charge(len(mapped.events))
        if wish == "drop" and mapped.events:
            self._observer.events(found.name, DROPPED, len(mapped.events))
            mapped = Mapped((), mapped.reply)
        acknowledged = await self._deliver(incoming, mapped.events) if mapped.events else {}
        reply = mapped.reply
        return Answer(reply.status, reply.body, reply.content_type, {**reply.headers, **acknowledged, **seen.cors})

    def _admit(self, found: Found, headers: Mapping[str, str], seen: _Seen) -> None:
        """What can be refused before the body is read."""
        seen.source, seen.refused = found.name, found.route.refused
        origin = headers.get("origin")
        if origin is not None and found.route.cross_origin and not self._origins[found.name].allow(origin):
            seen.cors = {}
            raise _origin_refused()
        if wait := self._limiters[found.name].wait_s():
            retry = {"Retry-After": str(max(1, math.ceil(wait)))}
            raise RefusedError(429, "rate", "the source sends more events than its rate allows", retry)

    async def _read(self, request: Received, reservation: Reservation) -> tuple[bytes, bytes]:
        """The body as it was sent, and decompressed."""
        headers = request.headers
        length = headers.get("content-length")
        if "expect" in headers and (length is None or (length.isdigit() and int(length[:20]) <= self._max_body)):
            await request.continue_()
        raw = await read_body(request.stream, length, self._max_body, reservation)
        if not raw:
            return raw, raw
        encoding = headers.get("content-encoding", "").strip().lower()
        return raw, decompress(raw, encoding, self._max_body, reservation)

    async def _map(self, incoming: Incoming, target: str, *, is_known: bool) -> Mapped:
        """The events of a request. `is_known`: a key has proven who sent it; else its endpoint proves a signature."""
        try:
            async with asyncio.timeout(COLLECT_S):
                return await self._endpoints[incoming.source].collect(incoming)
        except RefusedError:
            raise
        except (TimeoutError, MemoryError) as error:
            self._log_sometimes(incoming.source, "the endpoint of source %s was too slow or too large", error)
            raise _unavailable() from error
        except Exception as error:  # the sender's events must not be lost by our mistake
            if not is_known:
                self._log_sometimes(incoming.source, "the endpoint of source %s failed; nothing was taken", error)
                raise _unavailable() from error
            self._log_sometimes(incoming.source, "the endpoint of source %s failed; its requests go on unmapped", error)
            value = incoming.body or target.encode(errors="replace")
            return Mapped((unmapped(value, ENDPOINT_FAILED, incoming.client),))

    async def _deliver(self, incoming: Incoming, events: Sequence[Collected]) -> dict[str, str]:
        began = self._monotonic()
        try:
            where = await self._delivery.deliver(incoming.source, incoming.received_at, events)
        except UnavailableError as error:
            self._observer.events(incoming.source, UNAVAILABLE, len(events))
            raise _unavailable() from error
        except RefusedError:  # by the topic, for good: to send it again would not help
            self._observer.events(incoming.source, REFUSED, len(events))
            raise
        except Exception as error:
            self._log_sometimes(incoming.source, "the delivery for source %s failed", error)
            self._observer.events(incoming.source, UNAVAILABLE, len(events))
            raise _unavailable() from error
        self._observer.delivered(self._monotonic() - began)
        counts: dict[str, int] = {}
        for event in events:
            outcome = event.fault or DELIVERED
            counts[outcome] = counts.get(outcome, 0) + 1
        for outcome, count in counts.items():
            self._observer.events(incoming.source, outcome, count)
        return {"Ingestd-Ack": where}

    def _cors(self, place: Place, origin: str) -> dict[str, str]:
        """The headers for a page that any source of this place allows; empty where none does."""
        allowing = [it for name in self._routes.sources_at(place) if (it := self._origins[name]).allow(origin)]
        if not allowing:
            return {}
        return answer_headers(origin, any_origin=all(it.allows_any for it in allowing))

    def _preflight(self, place: Place, headers: Mapping[str, str], seen: _Seen) -> Answer:
        methods = [*place.methods, "OPTIONS"]
        if "origin" not in headers or "access-control-request-method" not in headers:
            return Answer(204, b"", "", {"Allow": ", ".join(methods)})
        if not seen.cors:
            raise _origin_refused()
        any_origin = seen.cors["Access-Control-Allow-Origin"] == "*"
        return Answer(204, b"", "", preflight_headers(headers, methods, any_origin=any_origin))

    def _log_sometimes(self, source: str, message: str, error: Exception) -> None:
        now = self._monotonic()
        if now - self._logged.get(key := source + message, -math.inf) >= LOG_EVERY_S:
            self._logged[key] = now
            log.error(message, source, exc_info=error)


def _without_event(place: Place, method: str) -> Answer:
    """The answer to a method that brings no event: probes of webhooks, HEAD of a picture."""
    if method == "HEAD" and "GET" in place.by_method:
        reply = next((route.refused for route in place.by_method["GET"] if route.refused), None)
        if reply is not None:
            return Answer(reply.status, reply.body, reply.content_type, reply.headers)
    if place.named is not None and method in {"GET", "HEAD"}:
        return Answer(200, b"", "text/plain", {})
    raise RefusedError(405, "method", "this path has other methods", {"Allow": ", ".join(place.methods)})


def _unavailable() -> RefusedError:
    headers = {"Retry-After": str(RETRY_AFTER_S)}
    return RefusedError(503, "unavailable", "the events cannot be made safe now: send them again", headers)


def _origin_refused() -> RefusedError:
    message = "this origin may not send: add it to collect.origins, or to those of the source"
    return RefusedError(403, "origin", message)


def _refusal(refused: RefusedError, seen: _Seen) -> Answer:
    if seen.refused is not None:  # a picture: its sender has no use for a status, and a mail would show it as broken
        reply = seen.refused
        return Answer(reply.status, reply.body, reply.content_type, {**reply.headers, **seen.cors})
    body = msgspec.json.encode({"success": False, "code": refused.reason, "message": str(refused)})
    return Answer(refused.status, body, "application/json", {**refused.headers, **seen.cors})
