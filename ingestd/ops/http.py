"""A small HTTP server on the daemon's own event loop; connections, their time, requests and streams are bounded."""

import asyncio
import errno
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any, NamedTuple, cast

from aiohttp import web

from ingestd.core.errors import ConfigError

MAX_CONNECTIONS = 64
MAX_STREAMS = 8  # answers without an end, beside the connections above
MAX_LINE_BYTES = 2048  # of the request line, and of one header
MAX_HEADERS = 64
DEADLINE = 10.0  # seconds, for all of a connection: connect, one request, the answer; of a stream, for each piece
BACKLOG = 64

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"
EVENTS = "text/event-stream"
HEADERS = {
    "Server": "ingestd",  # aiohttp would name its version and Python's
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
}

# Malformed requests are the sender's trouble: aiohttp would log each as an error, with a traceback.
_http_log = logging.getLogger(f"{__name__}.http")
_http_log.setLevel(logging.CRITICAL)

log = logging.getLogger(__name__)


class Request(NamedTuple):
    """What was asked. A body is never read."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]  # whatever their case
    remote: str  # the address it comes from


class Answer(NamedTuple):
    """What is answered: all at once."""

    status: int
    body: bytes
    content_type: str
    headers: Mapping[str, str] = {}


class Stream(NamedTuple):
    """What is answered: server-sent events, as they come. The answer ends with the pieces."""

    pieces: AsyncGenerator[bytes, None]
    headers: Mapping[str, str] = {}


class Route(NamedTuple):
    """Who answers on a path, and to which method: GET (HEAD is the same without a body) or POST."""

    answer: Callable[[Request], Awaitable[Answer | Stream]]
    method: str = "GET"

    @property
    def allowed(self) -> tuple[str, ...]:
        return ("GET", "HEAD") if self.method == "GET" else (self.method,)


class HttpServer:
    """Answers on `routes`, a path each."""

    def __init__(self, host: str, port: int, routes: Mapping[str, Route]) -> None:
        self._host = host
        self._port = port
        self._routes = routes
        self._listener: asyncio.Server | None = None
        self._connections: dict[_Connection, None] = {}
        self._streams: dict[_Connection, None] = {}
        self._http: web.Server | None = None

    async def start(self) -> int:
        """Listen. Returns the port, for where 0 was asked for. ConfigError where the address cannot be had."""
        loop = asyncio.get_running_loop()
        server = web.Server(self._handle)
        try:
            self._listener = await loop.create_server(
                lambda: _Connection(self._connections, self._streams, server), self._host, self._port, backlog=BACKLOG
            )
        except OSError as error:
            raise _cannot_listen(self._host, self._port, error) from error
        self._http = server
        bound: int = self._listener.sockets[0].getsockname()[1]
        return bound

    async def stop(self) -> None:
        """Close the port and what is open on it. Without effect when it was not started."""
        if self._listener is None or self._http is None:
            return
        self._listener.close()
        self._http.pre_shutdown()
        await self._http.shutdown(timeout=1.0)
        for connection in (*self._connections, *self._streams):
            connection.abort()
        await self._listener.wait_closed()
        self._listener = None

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        found = await self._answer(request)
        if isinstance(found, Stream):
            return await self._send(request, found)
        response = web.Response(
            status=found.status,
            body=found.body,
            headers={**HEADERS, **found.headers, "Content-Type": found.content_type},
        )
        # One request a connection: probes and scrapes are seconds apart, and an idle connection is one to be held open.
        response.force_close()
        return response

    async def _answer(self, request: web.BaseRequest) -> Answer | Stream:
        route = self._routes.get(request.path)
        if route is None:
            return Answer(404, b"not found: try " + " ".join(self._routes).encode() + b"\n", TEXT)
        if request.method not in route.allowed:
            words = " and ".join(route.allowed)
            return Answer(405, f"only {words}\n".encode(), TEXT, {"Allow": ", ".join(route.allowed)})
        try:
            asked = Request(request.method, request.path, request.query, request.headers, request.remote or "")
            return await route.answer(asked)
        except Exception:
            log.exception("cannot answer %s", request.path)
            return Answer(500, b"internal error: see the log\n", TEXT)

    async def _send(self, request: web.BaseRequest, stream: Stream) -> web.StreamResponse:
        connection = cast(_Connection, request.protocol)
        if len(self._streams) >= MAX_STREAMS:
            # Not the oldest, as with connections: those who lost theirs would come back, and so on in a circle.
            refusal = web.Response(status=503, body=b"too many streams are open\n", headers={**HEADERS})
            refusal.force_close()
            return refusal
        response = web.StreamResponse(headers={**HEADERS, **stream.headers, "Content-Type": EVENTS})
        response.force_close()
        connection.keep_open()
        try:
            await response.prepare(request)
            async with aclosing(stream.pieces):
                async for piece in stream.pieces:
                    # Who does not read is cut off: what waits for him is bounded by the transport's buffer.
                    async with asyncio.timeout(DEADLINE):
                        await response.write(piece)
            await response.write_eof()
        except (ConnectionError, TimeoutError):
            connection.abort()
        except Exception:
            log.exception("cannot go on with %s", request.path)
            connection.abort()
        return response


def _cannot_listen(host: str, port: int, error: OSError) -> ConfigError:
    where = f"cannot listen on {host}:{port}"
    if error.errno == errno.EADDRINUSE:
        return ConfigError(
            f"health.port = {port}: {where}, the port is in use",
            hint="choose another, or 0 for any free one, or set health.enabled = false",
        )
    if error.errno in {errno.EACCES, errno.EPERM}:
        return ConfigError(f"health.port = {port}: {where}: {error.strerror}", hint="choose a port above 1023")
    return ConfigError(
        f"health.host = {host!r}: {where}: {error.strerror or error}", hint="name an address of this host"
    )


class _Connection(web.RequestHandler):
    """One client's connection, with an end to its time. aiohttp itself waits for ever for a first request."""

    __slots__ = ("_client", "_deadline", "_open", "_streams")

    def __init__(
        self,
        open_connections: "dict[_Connection, None]",
        open_streams: "dict[_Connection, None]",
        server: web.Server,
    ) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=_http_log,
            logger=_http_log,
            max_line_size=MAX_LINE_BYTES,
            max_field_size=MAX_LINE_BYTES,
            max_headers=MAX_HEADERS,
            lingering_time=0,
        )
        self._open = open_connections
        self._streams = open_streams
        self._client: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._open[self] = None
        self._client = cast(asyncio.Transport, transport)
        self._deadline = asyncio.get_running_loop().call_later(DEADLINE, self.abort)
        if len(self._open) > MAX_CONNECTIONS:
            # The oldest gives way: it had time for its request, and who holds connections open keeps no probe out.
            next(iter(self._open)).abort()

    def keep_open(self) -> None:
        """It has become a stream: it has all the time, and a number of its own that is bounded."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._open.pop(self, None)
        self._streams[self] = None

    def abort(self) -> None:
        """Close at once, whatever has not been sent."""
        self._forget()
        if self._client is not None:
            self._client.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._forget()
        super().connection_lost(exc)

    def _forget(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._open.pop(self, None)
        self._streams.pop(self, None)

    def handle_error(self, *args: Any, **kwargs: Any) -> web.StreamResponse:
        response = super().handle_error(*args, **kwargs)
        response.headers.update(HEADERS)
        return response
