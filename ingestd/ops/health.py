"""The HTTP endpoints: /livez, /readyz, /metrics, /status.

They are served from the daemon's own event loop on purpose: a loop that hangs must fail the probes.
"""

from collections.abc import Callable, Mapping

import msgspec

from ingestd.config import model as config
from ingestd.ops.http import JSON, TEXT, Answer, HttpServer, Request, Route
from ingestd.ops.readiness import Status


class HealthServer:
    """Answers probes, scrapes and people, and whatever is in `more`: paths and who answers there.

    Its own endpoints only show: nothing that is asked changes anything, and no answer may be read by a web page of
    another origin.
    """

    def __init__(
        self,
        settings: config.HealthConfig,
        snapshot: Callable[[], Status],
        exposition: Callable[[], tuple[bytes, str]],
        more: Mapping[str, Route] | None = None,
    ) -> None:
        self._snapshot = snapshot
        self._exposition = exposition
        self._routes: dict[str, Route] = {
            "/livez": Route(self._livez),
            "/readyz": Route(self._readyz),
            "/metrics": Route(self._metrics),
            "/status": Route(self._status),
            **(more or {}),
        }
        self._server = HttpServer(settings.host, settings.port, self._routes)

    async def start(self) -> int:
        """Listen. Returns the port, for where 0 was asked for. ConfigError where the address cannot be had."""
        return await self._server.start()

    async def stop(self) -> None:
        """Close the port and what is open on it. Without effect when it was not started."""
        await self._server.stop()

    async def _livez(self, _: Request) -> Answer:
        return Answer(200, b"alive\n", TEXT)

    async def _readyz(self, _: Request) -> Answer:
        status = self._snapshot()
        body = msgspec.json.encode({"ready": status.ready, "phase": status.phase, "reasons": status.reasons})
        return Answer(200 if status.ready else 503, body + b"\n", JSON)

    async def _metrics(self, _: Request) -> Answer:
        return Answer(200, *self._exposition())

    async def _status(self, _: Request) -> Answer:
        return Answer(200, msgspec.json.encode(self._snapshot()) + b"\n", JSON)
