"""The collector's HTTP server: connections with deadlines, and aiohttp around the request path.

A connection has a deadline in each of its phases, so that slow clients cannot keep others out: between requests, for
the headers of a request, and for its body. Where there are too many connections, idle ones are closed first.
"""

import asyncio
import logging
from collections.abc import Mapping
from enum import Enum
from typing import Any, cast

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

from ingestd.collect.assets import Asset, load_assets
from ingestd.collect.observer import Observer
from ingestd.collect.request import Received, RequestPath
from ingestd.config.model import CollectConfig
from ingestd.ops.listen import cannot_listen, listen, quiet_log

MAX_LINE_BYTES = 16 << 10  # of the request line: pixels have their event in it
MAX_HEADER_BYTES = 8 << 10  # of one
MAX_HEADERS = 100
HEADERS_S = 10.0  # from the first byte of a request to the end of its headers
IDLE_S = 75.0  # between requests; longer than proxies keep theirs, which would meet a closed connection otherwise
LINGER_S = 2.0  # the rest of a refused body is read for this long: a sender that still sends would not see the answer
LOOK_EVERY_S = 1.0  # at the deadlines
BACKLOG = 1024
READ_BUFFER_BYTES = 16 << 10  # of each connection; nobody counts what is in it
CANCEL_WAIT_S = 1.0  # for requests that are cancelled at the end of the grace time

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_HEADERS = {"Server": "ingestd", "X-Content-Type-Options": "nosniff"}  # aiohttp would name its version and Python's
_JSON_HEADERS = {**_HEADERS, "Content-Type": "application/json"}
_MALFORMED = b'{"success":false,"code":"malformed","message":"the request is not HTTP, or too long"}'
_INTERNAL = b'{"success":false,"code":"internal","message":"internal error: see the log"}'

log = logging.getLogger(__name__)


class CollectServer:
    """Takes requests and answers them once their events are safe. A client that goes away cancels nothing."""

    def __init__(self, config: CollectConfig, path: RequestPath, observer: Observer) -> None:
        self._config = config
        self._path = path
        self._observer = observer
        self._assets = load_assets()
        self._connections: dict[_Connection, None] = {}  # the longest idle first
        self._running: set[asyncio.Task[Any]] = set()  # requests, also those of clients that are gone
        self._listener: asyncio.Server | None = None
        self._server: web.Server | None = None
        self._look: asyncio.TimerHandle | None = None
        self._stopping = False
        self._changed = asyncio.Event()  # a connection or a request has ended

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._connections)

    @property
    def bytes_in_flight(self) -> int:
        """The bodies that are in memory, in bytes."""
        return self._path.bytes_in_flight

    async def start(self) -> int:
        """Listen. Returns the port, which matters where 0 is configured. ConfigError where it cannot listen."""
        host, port = self._config.host, self._config.port
        self._server = web.Server(self._handle)
        try:
            self._listener = await listen(self._connect, host, port, "collect", backlog=BACKLOG)
        except OSError as error:
            raise cannot_listen(host, port, "collect", error) from error
        self._look_at_deadlines()
        taken: int = self._listener.sockets[0].getsockname()[1]
        return taken

    async def stop(self, grace: float) -> None:
        """Close the port, and end after the requests in flight, after `grace` seconds at the latest."""
        if self._listener is None:
            return
        self._stopping = True
        self._listener.close()
        for connection in list(self._connections):
            connection.close_if_idle()
        try:
            async with asyncio.timeout(grace):
                while self._connections or self._running:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            log.warning("the grace time is over with %d requests in flight: they get no answer", len(self._running))
            for task in self._running:
                task.cancel()
            await asyncio.wait(self._running, timeout=CANCEL_WAIT_S) if self._running else None
        for connection in list(self._connections):
            connection.abort()
        if self._look is not None:
            self._look.cancel()
        await self._listener.wait_closed()
        self._listener = None

    def _connect(self) -> "_Connection":
        assert self._server is not None
        return _Connection(self, self._server)

    def add(self, connection: "_Connection") -> None:
        """A connection was made."""
        if self._stopping:
            connection.abort()
            return
        if len(self._connections) >= self._config.max_connections:
            waiting = (_Phase.IDLE, _Phase.HEADERS)
            oldest = next((it for phase in waiting for it in self._connections if it.phase is phase), None)
            (oldest or connection).abort()
            if oldest is None:  # all are in the middle of a request
                self._observer.request("", 503, "connections")
                return
        self._connections[connection] = None

    def became_idle(self, connection: "_Connection") -> None:
        """A request was answered: its connection is now the last to be closed."""
        if self._connections.pop(connection, connection) is None:
            self._connections[connection] = None

    def remove(self, connection: "_Connection") -> None:
        """A connection has ended."""
        self._connections.pop(connection, None)
        self._changed.set()

    def refused(self, status: int) -> None:
        """Something came that is no request."""
        self._observer.request("", status, "malformed")

    def _look_at_deadlines(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for connection in [it for it in self._connections if it.deadline <= now]:
            connection.abort()
        self._look = loop.call_later(LOOK_EVERY_S, self._look_at_deadlines)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = cast(_Connection, request.protocol)
        connection.begin_request()
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        try:
            response = await self._respond(request, connection.peer)
        except Exception:
            log.exception("cannot answer a request")
            response = web.Response(
                status=500, body=_INTERNAL, headers={**_HEADERS, "Content-Type": "application/json"}
            )
            response.force_close()
        finally:
            self._running.discard(task)
            self._changed.set()
        connection.end_request()
        if self._stopping:
            response.force_close()
        return response

    async def _respond(self, request: web.BaseRequest, peer: str) -> web.Response:
        target = _text(request.raw_path)
        if not target.startswith("/"):  # a proxy's form of a request
            target = request.rel_url.raw_path_qs
        headers = lower_headers(request.headers.items())
        if (asset := self._assets.get(target.partition("?")[0])) and request.method in {"GET", "HEAD"}:
            return _asset_response(asset, headers)

        async def continue_() -> None:
            if headers["expect"].lower() == "100-continue":
                await request.writer.write(_CONTINUE)
                request.writer.output_size = 0  # the response itself has not begun

        answer = await self._path.answer(Received(request.method, target, headers, peer, request.content, continue_))
        content_type = {"Content-Type": answer.content_type} if answer.content_type else {}
        return web.Response(
            status=answer.status, body=answer.body, headers={**_HEADERS, **content_type, **answer.headers}
        )


def lower_headers(items: Any) -> dict[str, str]:
    """Headers with names in lower case; of a header that came several times, the values with commas, in order."""
    headers: dict[str, str] = {}
    for name, value in items:
        lower = name.lower()
        text = value if value.isascii() else _text(value)
        headers[lower] = f"{headers[lower]}, {text}" if lower in headers else text
    return headers


def _text(text: str) -> str:
    """Without the halves of surrogate pairs by which aiohttp stands for bytes that are not UTF-8."""
    return text if text.isascii() else text.encode(errors="surrogateescape").decode(errors="replace")


def _asset_response(asset: Asset, headers: Mapping[str, str]) -> web.Response:
    if headers.get("if-none-match") == asset.etag:
        return web.Response(status=304, headers={**_HEADERS, **asset.headers})
    if "gzip" in headers.get("accept-encoding", ""):
        return web.Response(body=asset.gzipped, headers={**_HEADERS, **asset.headers, "Content-Encoding": "gzip"})
    return web.Response(body=asset.body, headers={**_HEADERS, **asset.headers})


class _Phase(Enum):
    """What a connection does."""

    IDLE = "idle"
    HEADERS = "headers"  # a request has begun
    REQUEST = "request"  # its headers are complete: what follows has time limits of its own


class _Connection(web.RequestHandler):
    """A client's connection."""

    __slots__ = ("_owner", "deadline", "peer", "phase")

    def __init__(self, owner: CollectServer, server: web.Server) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=quiet_log,
            logger=quiet_log,
            keepalive_timeout=2 * IDLE_S,  # never reached: the deadlines here are stricter
            max_line_size=MAX_LINE_BYTES,
            max_field_size=MAX_HEADER_BYTES,
            max_headers=MAX_HEADERS,
            lingering_time=LINGER_S,
            read_bufsize=READ_BUFFER_BYTES,
            auto_decompress=False,  # it would go by the header, and has no bound
        )
        self._owner = owner
        self.phase = _Phase.HEADERS  # who connects has something to send
        self.deadline = asyncio.get_running_loop().time() + HEADERS_S
        self.peer = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.peer = str((transport.get_extra_info("peername") or ("",))[0])
        self._owner.add(self)

    def data_received(self, data: bytes) -> None:
        if self.phase is _Phase.IDLE and data:
            self.phase = _Phase.HEADERS
            self.deadline = asyncio.get_running_loop().time() + HEADERS_S
        super().data_received(data)

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """The client sends no more: it gets its answer, if there is a request, and the connection ends."""
        if self._waiter is not None and not self._waiter.done():  # for a request
            return None
        if self._current_request is not None and not self._current_request.content.is_eof():
            return None  # the rest of its body will not come
        self.close()
        return True

    def begin_request(self) -> None:
        self.phase = _Phase.REQUEST
        self.deadline = float("inf")

    def end_request(self) -> None:
        """The response can be sent. Until the next request's first byte the connection is idle."""
        self.phase = _Phase.IDLE
        self.deadline = asyncio.get_running_loop().time() + IDLE_S
        self._owner.became_idle(self)

    def close_if_idle(self) -> None:
        if self.phase is _Phase.IDLE:
            self.force_close()  # sends what is still to be sent

    def abort(self) -> None:
        """Close at once, and discard what has not been sent."""
        transport = self.transport
        self._owner.remove(self)
        if transport is not None:
            transport.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._owner.remove(self)
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what is not HTTP; aiohttp's own would repeat it."""
        del message
        if request.writer.output_size > 0:
            raise ConnectionError("the response has begun")
        status = 431 if isinstance(exc, LineTooLong) else status
        self._owner.refused(status)
        body = _INTERNAL if status == 500 else _MALFORMED
        response = web.Response(status=status, body=body, headers=_JSON_HEADERS)
        response.force_close()
        return response
