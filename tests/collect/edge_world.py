"""A collector's server on a port of this host, with a delivery that tests can stop, break and look into."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from aiohttp import ClientSession

from ingestd.collect import web
from ingestd.collect.keys import Keys
from ingestd.collect.messages import (
    Acknowledgement,
    Collected,
    Endpoint,
    Incoming,
    Mapped,
    Route,
)
from ingestd.collect.native import NativeEndpoint, find_key
from ingestd.collect.request import RequestPath
from ingestd.collect.sdk import segment
from ingestd.collect.server import CollectServer
from ingestd.collect.web import WebEndpoint
from ingestd.config.model import CollectConfig, CollectSource, EventsConfig
from ingestd.config.types import Rate
from ingestd.core.events import load_model
from ingestd.core.validation import EventValidator

EVENT = b'{"event_id":"e1","client_id":"c1","event_type":"web_visit","event_timestamp":"2026-01-01T00:00:00Z"}'
NOW = 1_767_225_600.0
VALIDATOR = EventValidator(EventsConfig(), load_model(None))
HOOK_ROUTES = (Route("POST", "/hooks/{source}", ("webhook",)),)


def event(number: int) -> bytes:
    """One of many events."""
    return EVENT.replace(b'"e1"', b'"e%d"' % number)


class FakeDelivery:
    """Keeps what it is given. It can be closed for a time, unavailable, or broken."""

    def __init__(self) -> None:
        self.batches: list[tuple[str, int, list[Collected]]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.entered = asyncio.Event()
        self.left = asyncio.Event()
        self.failure: Exception | None = None

    @property
    def error(self) -> str | None:
        return None

    @property
    def events(self) -> list[Collected]:
        return [it for _, _, events in self.batches for it in events]

    @property
    def values(self) -> list[bytes]:
        return [it.value for it in self.events]

    async def deliver(self, source: str, received_at: int, events: Sequence[Collected]) -> Acknowledgement:
        self.entered.set()
        await self.open.wait()
        if self.failure is not None:
            raise self.failure
        self.batches.append((source, received_at, list(events)))
        self.left.set()
        return "kafka"


class RecordingObserver:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, int, str]] = []
        self.outcomes: list[tuple[str, str, int]] = []
        self.deliveries: list[float] = []

    def request(self, source: str, status: int, reason: str) -> None:
        self.requests.append((source, status, reason))

    def events(self, source: str, outcome: str, count: int) -> None:
        self.outcomes.append((source, outcome, count))

    def delivered(self, seconds: float) -> None:
        self.deliveries.append(seconds)


class KeepingEndpoint:
    """One event for each request: its body. Keeps the requests; it can refuse them, or fail."""

    def __init__(self) -> None:
        self.seen: list[Incoming] = []
        self.failure: Exception | None = None

    async def collect(self, request: Incoming) -> Mapped:
        self.seen.append(request)
        if self.failure is not None:
            raise self.failure
        return Mapped((Collected(request.body, None),) if request.body else ())


class World:
    """A running server and all around it. Its sources: `web`, `api` (with a key file, if given), `crm` (a hook)."""

    def __init__(self, config: CollectConfig, keys: Mapping[str, Keys], clock: "FakeClock | None" = None) -> None:
        self.delivery = FakeDelivery()
        self.observer = RecordingObserver()
        self.hook = KeepingEndpoint()
        self.kept = KeepingEndpoint()
        endpoints: dict[str, Endpoint] = {}
        for name, source in config.sources.items():
            if source.kind == "webhook":
                endpoints[name] = self.hook
            elif source.kind == "segment":
                endpoints[name] = self.kept
            else:
                endpoints[name] = WebEndpoint(VALIDATOR) if source.kind == "web" else NativeEndpoint(VALIDATOR)
        kept = Route("POST", "/kept", ("segment",), key_in_query_or_body, cross_origin=True)
        times: dict[str, Any] = {"monotonic": clock} if clock else {}
        routes = (*web.ROUTES, *segment.ROUTES, *HOOK_ROUTES, kept)
        path = RequestPath(
            config, endpoints, routes, self.delivery, self.observer, keys=keys, clock=lambda: NOW, **times
        )
        self.server = CollectServer(config, path, self.observer)
        self.port = 0
        self.url = ""
        self.session: ClientSession

    async def post(self, path: str, body: Any = b"", **kwargs: Any) -> tuple[int, Any, Mapping[str, str]]:
        """Send a request. Returns the status, the decoded body, and the headers."""
        return await self.request("POST", path, data=body, **kwargs)

    async def request(self, method: str, path: str, **kwargs: Any) -> tuple[int, Any, Mapping[str, str]]:
        async with self.session.request(method, self.url + path, **kwargs) as response:
            data = await response.read()
            is_json = response.headers.get("Content-Type") == "application/json" and data
            return response.status, msgspec.json.decode(data) if is_json else data, response.headers

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection on which anything can be sent."""
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def until_no_connection(self) -> None:
        """Waits until the server knows that all clients are gone."""
        async with asyncio.timeout(10):
            while self.server.connections:  # noqa: ASYNC110 - only the operating system knows when
                await asyncio.sleep(0.001)


class FakeClock:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def key_in_query_or_body(headers: Mapping[str, str], query: Mapping[str, str], body: bytes) -> str | None:
    """As Segment's SDKs do it."""
    if (key := find_key(headers, query, b"")) is not None:
        return key
    return str(msgspec.json.decode(body)["writeKey"]) if body else None


def vanish(writer: asyncio.StreamWriter) -> None:
    """The connection ends by a reset, as with a client that crashes."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def config(**changes: Any) -> CollectConfig:
    """The configuration of a test, on any free port."""
    sources = {
        "web": CollectSource(kind="web"),
        "api": CollectSource(kind="native", rate=Rate(changes.pop("rate", 60_000))),
        "app": CollectSource(kind="segment"),
        "crm": CollectSource(kind="webhook"),
    }
    return CollectConfig(**{"port": 0, "sources": sources, "origins": ("https://www.example.com",), **changes})


@asynccontextmanager
async def world(
    keys: Mapping[str, Keys] | None = None, clock: FakeClock | None = None, **changes: Any
) -> AsyncIterator[World]:
    """A server that runs, and a client."""
    it = World(config(**changes), keys or {}, clock)
    it.port = await it.server.start()
    it.url = f"http://127.0.0.1:{it.port}"
    async with ClientSession() as session:
        it.session = session
        try:
            yield it
        finally:
            it.delivery.open.set()
            await it.server.stop(1.0)
