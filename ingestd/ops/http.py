"""The HTTP server: an aiohttp application on the daemon's event loop, with bounds on connections, requests and time."""

import asyncio
import errno
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from ipaddress import IPv6Address, ip_address
from typing import Any, cast
from urllib.parse import urlsplit

from aiohttp import web

from ingestd.ops.listen import cannot_listen, listen, quiet_log

MAX_CONNECTIONS = 64
MAX_STREAMS = 8  # responses without an end, beside the connections above
MAX_OUTSIDE_STREAMS = 6  # of them to other hosts: the rest is for this one
MAX_STREAMS_EACH = 3  # of them to one other host
MAX_LINE_BYTES = 2048  # of the request line
MAX_HEADER_BYTES = 8 << 10  # of one: a browser sends the cookies that other programs on this host have set, too
MAX_HEADERS = 64
DEADLINE_S = 10.0  # for a whole connection: connect, one request, the response; for each event of a stream
STOP_WAIT_S = 1.0  # for handlers that still run when the server stops
BACKLOG = 64
NEXT_PORTS = 20  # that are tried where the port is in use

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"
HEADERS = {
    "Server": "ingestd",  # aiohttp would name its version and Python's
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
}
#: The Content-Security-Policy of pages that load nothing from elsewhere.
OWN_CONTENT = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def host_of(header: str) -> str:
    """Returns the host of a Host header without its port; empty if the header is malformed."""
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""


def is_address(host: str) -> bool:
    """Whether `host` is an IP address and no name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether `host` is this host under a name that no other can have."""
    if host == "localhost":
        return True
    if not is_address(host):
        return False
    address = ip_address(host)
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback


def is_direct(request: web.Request) -> bool:
    """Whether the request names an IP address or localhost: a web page of another origin cannot, by DNS rebinding."""
    host = host_of(request.headers.get("Host", ""))
    return host == "localhost" or is_address(host)


def respond(
    status: int, body: str | bytes, content_type: str = TEXT, headers: Mapping[str, str] | None = None
) -> web.Response:
    """A whole response."""
    data = body.encode() if isinstance(body, str) else body
    return web.Response(status=status, body=data, headers={**(headers or {}), "Content-Type": content_type})


def only_direct(handler: Handler, headers: Mapping[str, str]) -> Handler:
    """Allows requests that name this host by address or as localhost; refuses others, with these `headers`."""

    async def guarded(request: web.Request) -> web.StreamResponse:
        if not is_direct(request):
            return respond(403, "use an IP address or localhost as the host name\n", headers=headers)
        return await handler(request)

    return guarded


async def send_events(
    request: web.Request, events: AsyncGenerator[bytes, None], headers: Mapping[str, str]
) -> web.StreamResponse:
    """Send server-sent events until `events` ends; 503 where too many streams are open."""
    connection = cast(_Connection, request.protocol)
    if not connection.become_stream():
        return respond(503, "too many streams are open\n")
    response = _finish(web.StreamResponse(headers={**headers, "Content-Type": "text/event-stream"}))
    try:
        await response.prepare(request)
        async with aclosing(events):
            async for event in events:
                # A client that does not read is disconnected; the transport's buffer bounds what waits for it.
                async with asyncio.timeout(DEADLINE_S):
                    await response.write(event)
        await response.write_eof()
    except (ConnectionError, TimeoutError):
        connection.abort()
    except Exception:
        log.exception("the stream of %s failed", request.path)
        connection.abort()
    return response


class HttpServer:
    """Serves `routes`. A handler is cancelled when its client disconnects. Only the shop reads request bodies."""

    def __init__(self, host: str, port: int, routes: Sequence[web.RouteDef]) -> None:
        self._host = host
        self._port = port
        self._methods = {it.path: ("GET", "HEAD") if it.method == "GET" else (it.method,) for it in routes}
        self._connections: dict[_Connection, None] = {}  # the oldest first, without the streams
        self._streams: set[_Connection] = set()
        self._listener: asyncio.Server | None = None
        app = web.Application(middlewares=[_complete])
        for route in routes:
            for method in self._methods[route.path]:
                app.router.add_route(method, route.path, route.handler, expect_handler=_ignore_expect)
        app.router.add_route("*", "/{path:.*}", self._refuse, expect_handler=_ignore_expect)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=STOP_WAIT_S)

    @property
    def paths(self) -> list[str]:
        return list(self._methods)

    async def start(self, *, take_next: bool = False) -> int:
        """Listen. Returns the port, which matters where 0 is configured. ConfigError where it cannot listen.

        With `take_next` one of the next ports is used, and logged, where the port is in use.
        """
        await self._runner.setup()
        last = min(self._port + NEXT_PORTS, 65535) if take_next and self._port else self._port
        for port in range(self._port, last + 1):
            try:
                self._listener = await self._listen(port)
                break
            except OSError as error:
                if error.errno != errno.EADDRINUSE or port == last:
                    await self._runner.cleanup()
                    otherwise = ", or set health.enabled = false"
                    raise cannot_listen(self._host, self._port, "health", error, otherwise=otherwise) from error
        assert self._listener is not None
        taken: int = self._listener.sockets[0].getsockname()[1]
        if self._port not in {0, taken}:
            log.warning("port %d is in use; listening on port %d", self._port, taken)
        return taken

    async def _listen(self, port: int) -> asyncio.Server:
        server = self._runner.server
        assert server is not None
        # Not one of aiohttp's sites: they have no bound on connections and none on the time of a request.
        return await listen(
            lambda: _Connection(self._connections, self._streams, server),
            self._host,
            port,
            "health",
            backlog=BACKLOG,
        )

    async def stop(self) -> None:
        """Close the port and all connections. Without effect when it was not started."""
        if self._listener is None:
            return
        self._listener.close()
        await self._runner.cleanup()
        for connection in (*self._connections, *self._streams):
            connection.abort()
        await self._listener.wait_closed()
        self._listener = None

    async def _refuse(self, request: web.Request) -> web.Response:
        """Answers whatever no route answers."""
        if methods := self._methods.get(request.path):
            return respond(405, f"only {' and '.join(methods)}\n", headers={"Allow": ", ".join(methods)})
        return respond(404, f"not found: try {' '.join(self._methods)}\n")


@web.middleware
async def _complete(request: web.Request, handler: Any) -> web.StreamResponse:
    """Turns errors into responses that do not show them, and adds what every response has."""
    try:
        response: web.StreamResponse = await handler(request)
    except web.HTTPException as error:  # the request target is not a path
        response = respond(error.status, f"{error.reason}\n")
    except Exception:
        log.exception("cannot answer %s", request.path)
        response = respond(500, "internal error: see the log\n")
    return response if response.prepared else _finish(response)


def _finish(response: web.StreamResponse) -> web.StreamResponse:
    response.headers.update(HEADERS)
    # One request a connection: probes and scrapes are seconds apart, and an idle connection would have to be kept.
    response.force_close()
    return response


async def _ignore_expect(_: web.Request) -> None:
    """No "100 Continue": bodies are not read."""


class _Connection(web.RequestHandler):
    """A client's connection, which ends at its deadline. aiohttp alone waits for ever for a first request."""

    __slots__ = ("_client", "_connections", "_deadline", "_peer", "_streams")

    def __init__(self, connections: "dict[_Connection, None]", streams: "set[_Connection]", server: web.Server) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=quiet_log,
            logger=quiet_log,
            max_line_size=MAX_LINE_BYTES,
            max_field_size=MAX_HEADER_BYTES,
            max_headers=MAX_HEADERS,
            lingering_time=0,
        )
        self._connections = connections
        self._streams = streams
        self._client: asyncio.Transport | None = None
        self._peer = ""  # its IP address; empty while it is not connected
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._connections[self] = None
        self._client = cast(asyncio.Transport, transport)
        self._peer = (transport.get_extra_info("peername") or ("",))[0]
        self._deadline = asyncio.get_running_loop().call_later(DEADLINE_S, self.abort)
        if len(self._connections) > MAX_CONNECTIONS:
            # The oldest is closed: it had time for its request, and idle connections must not keep probes out.
            # Other hosts come first, so that they cannot close a connection of this one.
            outside = (it for it in self._connections if it.is_outside)
            next(outside, next(iter(self._connections))).abort()

    @property
    def is_outside(self) -> bool:
        """Whether the client is on another host."""
        return not is_loopback(self._peer)

    def become_stream(self) -> bool:
        """Lift the deadline. False where there are as many streams as there may be."""
        # Not the oldest is closed, as with connections: its client would come back, and so on in a circle.
        if len(self._streams) >= MAX_STREAMS:
            return False
        if self.is_outside:
            others = [it._peer for it in self._streams if it.is_outside]
            if len(others) >= MAX_OUTSIDE_STREAMS or others.count(self._peer) >= MAX_STREAMS_EACH:
                return False
        self._forget()
        self._streams.add(self)
        return True

    def abort(self) -> None:
        """Close at once, and discard what has not been sent."""
        self._forget()
        if self._client is not None:
            self._client.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._forget()
        super().connection_lost(exc)

    def _forget(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._connections.pop(self, None)
        self._streams.discard(self)

    def handle_error(self, *args: Any, **kwargs: Any) -> web.StreamResponse:
        response = super().handle_error(*args, **kwargs)
        response.headers.update(HEADERS)
        return response
