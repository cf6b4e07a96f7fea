"""The HTTP endpoints: /livez, /readyz, /metrics, /status.

They run on the daemon's own event loop on purpose: a loop that hangs must fail the probes.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec
from aiohttp import web

from ingestd.config import model as config
from ingestd.ops.http import JSON, Handler, HttpServer, host_of, is_direct, respond


class Health(Protocol):
    """A snapshot of the daemon: all of it is in /status."""

    @property
    def phase(self) -> str: ...
    @property
    def ready(self) -> bool: ...
    @property
    def reasons(self) -> Sequence[object]: ...
    @property
    def warnings(self) -> Sequence[object]: ...


class HealthServer(HttpServer):
    """Serves probes, scrapes and people, and the routes in `more`.

    Its own endpoints only show: no request changes anything, and no web page of another origin can read a response.
    /metrics and /status check the Host header, because with DNS rebinding the origin would be the same.
    """

    def __init__(
        self,
        settings: config.HealthConfig,
        snapshot: Callable[[], Health],
        exposition: Callable[[], tuple[bytes, str]],
        more: Sequence[web.RouteDef] = (),
    ) -> None:
        self._allowed_hosts = frozenset(it.lower() for it in (settings.host, *settings.allowed_hosts))
        self._snapshot = snapshot
        self._exposition = exposition
        own = [
            web.get("/livez", self._livez),
            web.get("/readyz", self._readyz),
            web.get("/metrics", self._for_readers(self._metrics)),
            web.get("/status", self._for_readers(self._status)),
        ]
        super().__init__(settings.host, settings.port, [*own, *more])

    def _for_readers(self, handler: Handler) -> Handler:
        async def guarded(request: web.Request) -> web.StreamResponse:
            if is_direct(request) or host_of(request.headers.get("Host", "")) in self._allowed_hosts:
                return await handler(request)
            return respond(403, "use an IP address or localhost as the host name, or set health.allowed_hosts\n")

        return guarded

    async def _livez(self, _: web.Request) -> web.Response:
        return respond(200, "alive\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        status = self._snapshot()
        shown = {"ready": status.ready, "phase": status.phase, "reasons": status.reasons}
        if status.warnings:
            shown["warnings"] = status.warnings
        return respond(200 if status.ready else 503, msgspec.json.encode(shown) + b"\n", JSON)

    async def _metrics(self, _: web.Request) -> web.StreamResponse:
        return respond(200, *self._exposition())

    async def _status(self, _: web.Request) -> web.StreamResponse:
        return respond(200, msgspec.json.encode(self._snapshot()) + b"\n", JSON)
