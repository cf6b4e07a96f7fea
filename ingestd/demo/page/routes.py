"""The page's HTTP routes, and who may use them.

Only this machine may change something: by a loopback name, and from our own page. What only shows may be read by
address too. A web page of another origin can do neither, not even with a DNS name that it rebinds to this host.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
from aiohttp import web

from ingestd.core.errors import SinkError
from ingestd.core.gzip import decompress
from ingestd.core.object_keys import ObjectKeys
from ingestd.demo.page.page_state import PageState
from ingestd.ops.http import JSON, TEXT, respond, send_events
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
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
CONTROL = "/page/control/"
STORE_TIMEOUT_S = 5.0
MAX_VIEWERS = 4  # requests that read an object at the same time
MAX_READ_BYTES = 256 << 10  # of an object
MAX_ROWS_BYTES = 64 << 10  # of its rows
MAX_LINES = 5
MAX_LINE_LENGTH = 2000  # characters


class Contents(msgspec.Struct, frozen=True):
    """An object's size and metadata, and its first lines."""

    key: str
    size: int
    metadata: Mapping[str, str]
    lines: list[str]


class Page:
    """Serves the page, its data and its controls."""

    def __init__(self, board: PageState, sink: Sink, layout: ObjectKeys) -> None:
        self._board = board
        self._sink = sink
        self._layout = layout
        self._viewers = asyncio.Semaphore(MAX_VIEWERS)

    @property
    def routes(self) -> list[web.RouteDef]:
        """Paths and their handlers."""
        found = [web.get(path, _for_readers(_file)) for path in FILES]
        found.append(web.get("/page/events", _for_readers(self._events)))
        found.append(web.get("/page/object", _for_readers(self._object)))
        found.append(web.get("/page/client", _for_readers(self._client)))
        if actions := self._board.controls.actions:
            found.append(web.get("/page/query", _for_presenters(self._query)))
            found += [web.post(CONTROL + name, _for_presenters(self._control)) for name in actions]
        return found

    async def _events(self, request: web.Request) -> web.StreamResponse:
        return await send_events(request, self._board.states(), SECURITY)

    async def _object(self, request: web.Request) -> web.Response:
        key = request.query.get("key", "")
        if self._layout.parse(key) is None and self._layout.parse_quarantine(key) is None:
            return _refusal(404, "that is not the name of an object")
        try:
            async with asyncio.timeout(STORE_TIMEOUT_S), self._viewers:
                info = await self._sink.head(key)
                start = await self._sink.get(key, MAX_READ_BYTES) if info is not None else b""
        except (SinkError, TimeoutError) as error:
            return _refusal(503, str(error) or "the store does not answer")
        if info is None:
            return _refusal(404, "there is no such object")
        lines = await asyncio.to_thread(_lines, start)
        return _json(Contents(key, info.size, info.metadata, lines))

    async def _client(self, request: web.Request) -> web.Response:
        questions = self._board.questions
        if questions is None:
            return _refusal(404, "there is no table: start with --warehouse local")
        return _json(await questions.client(request.query.get("id", "") or await questions.busiest()))

    async def _query(self, request: web.Request) -> web.Response:
        questions = self._board.questions
        if questions is None:
            return _refusal(404, "there is no table: start with --warehouse local")
        return _json(await questions.ask(request.query.get("sql", "")))

    async def _control(self, request: web.Request) -> web.Response:
        controls = self._board.controls
        if not self._board.running:
            return _refusal(409, "the run has ended")
        controls.actions[request.path.removeprefix(CONTROL)]()
        self._board.look()
        return _json(controls.state())


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def _file(request: web.Request) -> web.Response:
    file = FILES[request.path]
    return respond(200, file.read_bytes(), TYPES[file.suffix], SECURITY)


def _for_readers(handler: Handler) -> Handler:
    """For requests by address or as localhost: other names may have been rebound to this host."""

    async def guarded(request: web.Request) -> web.StreamResponse:
        host = _host(request.headers.get("Host", ""))
        if not (_is_loopback(host) or _is_address(host)):
            return _refusal(403, "ask by address, or as localhost")
        return await handler(request)

    return guarded


def _for_presenters(handler: Handler) -> Handler:
    """For this machine alone, and for no web page but ours."""

    async def guarded(request: web.Request) -> web.StreamResponse:
        host = request.headers.get("Host", "")
        if not (_is_loopback(_host(host)) and _is_loopback(request.remote or "")):
            return _refusal(403, "only from the machine itself, as localhost")
        if request.method == "POST" and request.headers.get("Origin", "") != f"http://{host}":
            return _refusal(403, "only from the page itself")
        if request.headers.get("Sec-Fetch-Site", "same-origin") not in {"same-origin", "none"}:
            return _refusal(403, "only from the page itself")
        return await handler(request)

    return guarded


def _host(header: str) -> str:
    """The host without its port; empty where the header is malformed."""
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    return host == "localhost" or (_is_address(host) and ip_address(host).is_loopback)


def _refusal(status: int, why: str) -> web.Response:
    return respond(status, f"{why}\n", TEXT, SECURITY)


def _json(value: object) -> web.Response:
    return respond(200, msgspec.json.encode(value), JSON, SECURITY)


def _lines(start: bytes) -> list[str]:
    """The first lines of an object, from its first bytes."""
    try:
        rows = next(decompress(start, MAX_ROWS_BYTES), b"")
    except ValueError as error:
        return [f"(cannot be unpacked: {error})"]
    lines = rows.split(b"\n", MAX_LINES)[:MAX_LINES]
    return [line[:MAX_LINE_LENGTH].decode(errors="replace") for line in lines if line]
