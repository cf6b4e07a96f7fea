"""What the page answers on, and to whom.

Nothing but a loopback name may be asked to change something, from this machine and from a page of ours; what only shows
may also be asked by address. A web page of another origin can do neither, not even by a name of its own that it makes
lead here.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from ingestd.core.errors import SinkError
from ingestd.core.gzip import decompress
from ingestd.core.object_keys import ObjectKeys
from ingestd.demo.page.page_state import PageState
from ingestd.ops.http import JSON, TEXT, Answer, Request, Route, Stream
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
PATIENCE = 5.0  # seconds, for the store
LINES = 5
MAX_OBJECT = 64 << 20  # bytes; of a larger one no lines are shown
CONTROL = "/page/control/"
MAX_LINE = 2000  # characters
PIECE = 64 << 10  # bytes of an object that are unpacked


class Contents(msgspec.Struct, frozen=True):
    """What an object says of itself, and its first lines."""

    key: str
    size: int
    metadata: Mapping[str, str]
    lines: list[str]


class Page:
    """Serves the page, what it shows, and what it may do."""

    def __init__(self, board: PageState, sink: Sink, layout: ObjectKeys) -> None:
        self._board = board
        self._sink = sink
        self._layout = layout

    @property
    def routes(self) -> dict[str, Route]:
        """By path."""
        found = {path: Route(_for_readers(_file)) for path in FILES}
        found["/page/events"] = Route(_for_readers(self._events))
        found["/page/object"] = Route(_for_readers(self._object))
        found["/page/client"] = Route(_for_readers(self._client))
        if actions := self._board.controls.actions:
            found["/page/query"] = Route(_for_presenters(self._query))
            for name in actions:
                found[CONTROL + name] = Route(_for_presenters(self._control), "POST")
        return found

    async def _events(self, _: Request) -> Stream:
        return Stream(self._board.states(), SECURITY)

    async def _object(self, request: Request) -> Answer:
        key = request.query.get("key", "")
        if self._layout.parse(key) is None and self._layout.parse_quarantine(key) is None:
            return _refusal(404, "that is not the name of an object")
        try:
            async with asyncio.timeout(PATIENCE):
                info = await self._sink.head(key)
                body = await self._sink.get(key) if info is not None and info.size <= MAX_OBJECT else b""
        except (SinkError, TimeoutError) as error:
            return _refusal(503, str(error) or "the store does not answer")
        if info is None:
            return _refusal(404, "there is no such object")
        lines = await asyncio.to_thread(_lines, body) if body else []
        return _json(Contents(key, info.size, info.metadata, lines))

    async def _client(self, request: Request) -> Answer:
        questions = self._board.questions
        if questions is None:
            return _refusal(404, "there is no table: start with --warehouse local")
        return _json(await questions.client(request.query.get("id", "") or await questions.busiest()))

    async def _query(self, request: Request) -> Answer:
        questions = self._board.questions
        if questions is None:
            return _refusal(404, "there is no table: start with --warehouse local")
        return _json(await questions.ask(request.query.get("sql", "")))

    async def _control(self, request: Request) -> Answer:
        controls = self._board.controls
        if not self._board.running:
            return _refusal(409, "the run has ended")
        controls.actions[request.path.removeprefix(CONTROL)]()
        self._board.look()
        return _json(controls.state())


Handler = Callable[[Request], Awaitable[Answer | Stream]]


async def _file(request: Request) -> Answer:
    file = FILES[request.path]
    return Answer(200, file.read_bytes(), TYPES[file.suffix], SECURITY)


def _for_readers(handler: Handler) -> Handler:
    """For whoever may show it: a name that somebody else has made lead here is turned away."""

    async def guarded(request: Request) -> Answer | Stream:
        host = _host(request.headers.get("Host", ""))
        if not (_is_loopback(host) or _is_address(host)):
            return _refusal(403, "ask by address, or as localhost")
        return await handler(request)

    return guarded


def _for_presenters(handler: Handler) -> Handler:
    """For this machine, and for no page but ours."""

    async def guarded(request: Request) -> Answer | Stream:
        host = request.headers.get("Host", "")
        if not (_is_loopback(_host(host)) and _is_loopback(request.remote)):
            return _refusal(403, "only from the machine itself, as localhost")
        if request.method == "POST" and request.headers.get("Origin", "") != f"http://{host}":
            return _refusal(403, "only from the page itself")
        if request.headers.get("Sec-Fetch-Site", "same-origin") not in {"same-origin", "none"}:
            return _refusal(403, "only from the page itself")
        return await handler(request)

    return guarded


def _host(header: str) -> str:
    """Without its port; empty where it is none."""
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


def _refusal(status: int, why: str) -> Answer:
    return Answer(status, f"{why}\n".encode(), TEXT, SECURITY)


def _json(value: object) -> Answer:
    return Answer(200, msgspec.json.encode(value), JSON, SECURITY)


def _lines(body: bytes) -> list[str]:
    """The first ones of an object."""
    try:
        beginning = next(decompress(body, PIECE), b"")
    except ValueError as error:
        return [f"(cannot be unpacked: {error})"]
    return [line[:MAX_LINE].decode(errors="replace") for line in beginning.split(b"\n", LINES)[:LINES] if line]
