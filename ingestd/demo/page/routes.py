"""The page's HTTP routes, and who may use them.

Routes that change something answer only to the page itself, on this machine, under a loopback name. Routes that read
also answer to an IP address as host. A web page of another origin can use neither, not even by DNS rebinding.
"""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import msgspec
from aiohttp import web

from ingestd.core.errors import SinkError
from ingestd.core.gzip import decompress
from ingestd.core.landed_objects import is_data_key, is_quarantine_key
from ingestd.core.object_keys import ObjectKeys
from ingestd.demo.page.page_state import PageState
from ingestd.demo.page.queries import Lane
from ingestd.ops.http import JSON, OWN_CONTENT, TEXT, Handler, host_of, is_loopback, only_direct, respond, send_events
from ingestd.sinks.base import Sink

STATIC = Path(__file__).parent / "static"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}
FILES = {"/": STATIC / "index.html"} | {
    f"/page/{it.name}": it for it in STATIC.iterdir() if it.suffix in {".css", ".js"}
}
SECURITY = {
    "Content-Security-Policy": OWN_CONTENT,
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
CONTROL = "/page/control/"
STORE_TIMEOUT_S = 5.0
MAX_VIEWERS = 4  # requests that read an object at the same time, of this host and of all others
MAX_READ_BYTES = 256 << 10  # of an object
MAX_ROWS_BYTES = 64 << 10  # of its rows
MAX_LINES = 5
MAX_LINE_LENGTH = 2000  # characters


class ObjectContents(msgspec.Struct, frozen=True):
    """An object's size, metadata and first lines."""

    key: str
    size: int
    metadata: Mapping[str, str]
    lines: list[str]


class Page:
    """Serves the page's files, its data and its controls."""

    def __init__(self, state: PageState, sink: Sink, layout: ObjectKeys) -> None:
        self._state = state
        self._sink = sink
        self._layout = layout
        self._viewers = {is_presenter: asyncio.Semaphore(MAX_VIEWERS) for is_presenter in (True, False)}

    @property
    def routes(self) -> list[web.RouteDef]:
        """The routes."""
        found = [web.get(path, _for_readers(_file)) for path in FILES]
        found.append(web.get("/page/events", _for_readers(self._events)))
        found.append(web.get("/page/object", _for_readers(self._object)))
        found.append(web.get("/page/client", _for_readers(self._client)))
        if actions := self._state.controls.actions:
            found.append(web.get("/page/query", _for_presenters(self._query)))
            found += [web.post(CONTROL + name, _for_presenters(self._control)) for name in actions]
        return found

    async def _events(self, request: web.Request) -> web.StreamResponse:
        return await send_events(request, self._state.stream(), SECURITY)

    async def _object(self, request: web.Request) -> web.Response:
        key = request.query.get("key", "")
        if not is_data_key(self._layout, key) and not is_quarantine_key(self._layout, key):
            return _refusal(404, "not the key of an object")
        try:
            async with asyncio.timeout(STORE_TIMEOUT_S), self._viewers[_is_presenter(request)]:
                info = await self._sink.head(key)
                start = await self._sink.get(key, MAX_READ_BYTES) if info is not None else b""
        except (SinkError, TimeoutError) as error:
            return _refusal(503, str(error) or "the store does not answer")
        if info is None:
            return _refusal(404, "no such object")
        lines = await asyncio.to_thread(_lines, start)
        return _json(ObjectContents(key, info.size, info.metadata, lines))

    async def _client(self, request: web.Request) -> web.Response:
        queries = self._state.queries
        if queries is None:
            return _refusal(404, "no local table: start ingestd with --warehouse local")
        lane = Lane.PRESENTER if _is_presenter(request) else Lane.VISITOR
        return _json(await queries.client(request.query.get("id", ""), lane))

    async def _query(self, request: web.Request) -> web.Response:
        queries = self._state.queries
        if queries is None:
            return _refusal(404, "no local table: start ingestd with --warehouse local")
        return _json(await queries.run(request.query.get("sql", ""), Lane.PRESENTER))

    async def _control(self, request: web.Request) -> web.Response:
        controls = self._state.controls
        if not self._state.running:
            return _refusal(409, "the run has ended")
        controls.actions[request.path.removeprefix(CONTROL)]()
        self._state.update()
        return _json(controls.state())


async def _file(request: web.Request) -> web.Response:
    file = FILES[request.path]
    return respond(200, file.read_bytes(), TYPES[file.suffix], SECURITY)


def _for_readers(handler: Handler) -> Handler:
    return only_direct(handler, SECURITY)


def _for_presenters(handler: Handler) -> Handler:
    """Allows requests from this machine and, in a browser, from this page only."""

    async def guarded(request: web.Request) -> web.StreamResponse:
        host = request.headers.get("Host", "")
        if not (is_loopback(host_of(host)) and _is_presenter(request)):
            return _refusal(403, "allowed only on this machine, as localhost")
        if request.method == "POST" and request.headers.get("Origin", "") != f"http://{host}":
            return _refusal(403, "allowed only from the page itself")
        if request.headers.get("Sec-Fetch-Site", "same-origin") not in {"same-origin", "none"}:
            return _refusal(403, "allowed only from the page itself")
        return await handler(request)

    return guarded


def _is_presenter(request: web.Request) -> bool:
    return is_loopback(request.remote or "")


def _refusal(status: int, why: str) -> web.Response:
    return respond(status, f"{why}\n", TEXT, SECURITY)


def _json(value: object) -> web.Response:
    return respond(200, msgspec.json.encode(value), JSON, SECURITY)


def _lines(start: bytes) -> list[str]:
    """The first lines of an object, out of its first bytes."""
    try:
        rows = next(decompress(start, MAX_ROWS_BYTES), b"")
    except ValueError as error:
        return [f"(cannot decompress: {error})"]
    lines = rows.split(b"\n", MAX_LINES)[:MAX_LINES]
    return [line[:MAX_LINE_LENGTH].decode(errors="replace") for line in lines if line]
