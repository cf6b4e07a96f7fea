"""A schema registry for tests of its client: an HTTP server that gives the answers of a table."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from ingestd.config.model import RegistryConfig
from ingestd.config.types import Seconds
from tests.services.ports import HOST

UNKNOWN = {"error_code": 40403, "message": "Schema not found"}
Answer = tuple[int, Mapping[str, Any] | bytes]


class RegistryServer:
    """Answers by path and query; what it does not know does not exist. With `failing`, each answer has that status."""

    def __init__(self, answers: Mapping[str, Answer]) -> None:
        self.answers = dict(answers)
        self.failing: int | None = None
        self.is_silent = False
        self.asked: list[str] = []
        self.authorizations: list[str | None] = []
        self.url = ""

    async def handle(self, request: web.BaseRequest) -> web.Response:
        self.asked.append(request.path_qs)
        self.authorizations.append(request.headers.get("Authorization"))
        if self.is_silent:
            await asyncio.Event().wait()
        status, body = self.answers.get(request.path_qs, (404, UNKNOWN))
        if self.failing is not None:  # as a careless proxy, with what was sent
            status, body = self.failing, f"no: {self.authorizations[-1]}".encode()
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return web.Response(status=status, body=data, headers={"Location": f"{self.url}/elsewhere"})


@asynccontextmanager
async def serving(answers: Mapping[str, Answer], tls: ssl.SSLContext | None = None) -> AsyncIterator[RegistryServer]:
    """A server on the loopback interface."""
    server = RegistryServer(answers)
    runner = web.ServerRunner(web.Server(server.handle), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, HOST, 0, ssl_context=tls).start()
    try:
        server.url = f"http{'s' if tls else ''}://{HOST}:{runner.addresses[0][1]}"
        yield server
    finally:
        await runner.cleanup()


def config_of(*servers: RegistryServer, **changes: Any) -> RegistryConfig:
    """Of a client that asks these servers."""
    return RegistryConfig(urls=tuple(it.url for it in servers), request_timeout=Seconds(10), **changes)


def schema(text: str = '"string"', *references: tuple[str, int], kind: str | None = None) -> Answer:
    """An answer with a schema. References are named after their subjects."""
    found: dict[str, Any] = {"schema": text}
    if references:
        found["references"] = [{"name": it, "subject": it, "version": version} for it, version in references]
    return 200, found if kind is None else {**found, "schemaType": kind}


def version(subject: str, number: int = 1) -> str:
    """The path of a reference."""
    return f"/subjects/{subject}/versions/{number}?deleted=true"
