"""The HTTP endpoints: /livez, /readyz, /metrics, /status.

They are served from the daemon's own event loop on purpose: a loop that hangs must fail the probes.
"""

import asyncio
import errno
import logging
from collections.abc import Callable
from typing import Any, cast

import msgspec
from aiohttp import web

from ingestd import config
from ingestd.errors import ConfigError
from ingestd.status import Status

MAX_CONNECTIONS = 64
MAX_LINE_BYTES = 2048  # of the request line, and of one header
MAX_HEADERS = 64
DEADLINE = 10.0  # seconds, for all of a connection: connect, one request, the answer
BACKLOG = 64

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"
HEADERS = {
    "Server": "ingestd",  # aiohttp would name its version and Python's
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
}

# Malformed requests are the sender's trouble: aiohttp would log each as an error, with a traceback.
_http_log = logging.getLogger(f"{__name__}.http")
_http_log.setLevel(logging.CRITICAL)

log = logging.getLogger(__name__)

Answer = tuple[int, bytes, str]  # status, body, content type


class HealthServer:
    """Answers probes, scrapes and people. Connections, their time, and the size of requests are bounded.

    It only shows: nothing that is asked changes anything, and no answer may be read by a web page of another origin.
    """

    def __init__(
        self, settings: config.Health, snapshot: Callable[[], Status], exposition: Callable[[], tuple[bytes, str]]
    ) -> None:
        self._settings = settings
        self._snapshot = snapshot
        self._exposition = exposition
        self._routes: dict[str, Callable[[], Answer]] = {
            "/livez": self._livez,
            "/readyz": self._readyz,
            "/metrics": self._metrics,
            "/status": self._status,
        }
        self._listener: asyncio.Server | None = None
        self._connections: dict[_Connection, None] = {}
        self._http: web.Server | None = None

    async def start(self) -> int:
        """Listen. Returns the port, for where 0 was asked for. ConfigError where the address cannot be had."""
        loop = asyncio.get_running_loop()
        server = web.Server(self._handle)
        host, port = self._settings.host, self._settings.port
        try:
            self._listener = await loop.create_server(
                lambda: _Connection(self._connections, server), host, port, backlog=BACKLOG
            )
        except OSError as error:
            raise _cannot_listen(host, port, error) from error
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
        for connection in tuple(self._connections):
            connection.abort()
        await self._listener.wait_closed()
        self._listener = None

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        route = self._routes.get(request.path)
        if route is None:
            answer = 404, b"not found: try " + " ".join(self._routes).encode() + b"\n", TEXT
        elif request.method not in {"GET", "HEAD"}:
            answer = 405, b"only GET and HEAD\n", TEXT
        else:
            answer = _answered(request.path, route)
        status, body, content_type = answer
        response = web.Response(status=status, body=body, headers={**HEADERS, "Content-Type": content_type})
        if status == 405:
            response.headers["Allow"] = "GET, HEAD"
        # One request a connection: probes and scrapes are seconds apart, and an idle connection is one to be held open.
        response.force_close()
        return response

    def _livez(self) -> Answer:
        return 200, b"alive\n", TEXT

    def _readyz(self) -> Answer:
        status = self._snapshot()
        body = msgspec.json.encode({"ready": status.ready, "phase": status.phase, "reasons": status.reasons})
        return 200 if status.ready else 503, body + b"\n", JSON

    def _metrics(self) -> Answer:
        return 200, *self._exposition()

    def _status(self) -> Answer:
        return 200, msgspec.json.encode(self._snapshot()) + b"\n", JSON


def _answered(path: str, route: Callable[[], Answer]) -> Answer:
    try:
        return route()
    except Exception:
        log.exception("cannot answer %s", path)
        return 500, b"internal error: see the log\n", TEXT


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

    __slots__ = ("_client", "_deadline", "_open")

    def __init__(self, open_connections: "dict[_Connection, None]", server: web.Server) -> None:
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

    def abort(self) -> None:
        """Close at once, whatever has not been sent."""
        self._open.pop(self, None)
        if self._client is not None:
            self._client.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._open.pop(self, None)
        super().connection_lost(exc)

    def handle_error(self, *args: Any, **kwargs: Any) -> web.StreamResponse:
        response = super().handle_error(*args, **kwargs)
        response.headers.update(HEADERS)
        return response
