"""An HTTP server that records what an SDK sends and was answered: it answers itself, or passes requests on."""

import asyncio
import base64
import gzip
import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Self

import aiohttp
import msgspec
from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy

from tests.e2e.daemon import DEADLINE
from tests.services.ports import HOST

_LIMIT_BYTES = 16 << 20
_CORS = {
    "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
    "Access-Control-Max-Age": "600",
}
#: What differs from run to run, or belongs to the connection.
_UNRECORDED = {"host", "content-length", "connection", "keep-alive"}


class Exchange(msgspec.Struct, kw_only=True):
    """A request, and its answer: None where the connection ended without one."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]  # names in lower case
    body: bytes
    status: int | None = None

    def text(self) -> bytes:
        """The body, decompressed."""
        return gzip.decompress(self.body) if self.body.startswith(b"\x1f\x8b") else self.body


class Recorder:
    """Records every request. It passes them on to `target` where it is set; otherwise it answers `status`.

    Where `target` does not answer, the connection ends, as the sender would have seen it. `before` is called with the
    number of posts so far before each is passed on, `after` before its answer is; a ConnectionError ends the
    connection.
    """

    def __init__(self, target: str | None = None) -> None:
        self.target = target
        self.status = 200
        self.files: dict[str, Path] = {}  # by path
        self.exchanges: list[Exchange] = []
        self.before: Callable[[int], Awaitable[None]] = _nothing
        self.after: Callable[[int], Awaitable[None]] = _nothing
        self._changed = asyncio.Event()
        self._runner: web.AppRunner | None = None
        self._session: aiohttp.ClientSession | None = None
        self.url = ""

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=_LIMIT_BYTES)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, auto_decompress=False)
        await self._runner.setup()
        site = web.TCPSite(self._runner, HOST, 0)
        await site.start()
        self.url = f"http://{HOST}:{self._runner.addresses[0][1]}"
        self._session = aiohttp.ClientSession(auto_decompress=False)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner
        assert self._session
        await self._runner.cleanup()
        await self._session.close()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        exchange = Exchange(
            method=request.method,
            path=request.path,
            query=dict(request.query),
            headers={name.lower(): value for name, value in request.headers.items()},
            body=await request.read(),
        )
        self.exchanges.append(exchange)
        self._changed.set()
        answer: web.StreamResponse
        if file := self.files.get(request.path):
            answer = web.FileResponse(file)
        elif not self.target:
            answer = self._answer(request)
        else:
            try:
                answer = await self._pass_on(request, exchange)
            except (aiohttp.ClientError, ConnectionError):
                if request.transport is not None:
                    request.transport.abort()
                return web.Response(status=502)
        exchange.status = answer.status
        self._changed.set()
        return answer

    async def _pass_on(self, request: web.Request, exchange: Exchange) -> web.StreamResponse:
        assert self._session
        number = len(self.posts())
        if request.method == "POST":
            await self.before(number)
        async with self._session.request(
            request.method,
            f"{self.target}{request.raw_path}",
            headers=_without_connection(request.headers),
            data=exchange.body,
        ) as answer:
            body = await answer.read()
        if request.method == "POST":
            await self.after(number)
        return web.Response(status=answer.status, body=body, headers=_without_connection(answer.headers))

    async def until(self, condition: Callable[[], object], deadline: float = DEADLINE) -> None:
        """Wait for what a request or its answer brings about. Where it does not come, the error has all that came."""
        try:
            async with asyncio.timeout(deadline):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            seen = [(it.method, it.path, it.status, it.text()[:100]) for it in self.exchanges]
            raise AssertionError(f"nothing more in {deadline:g} s after {seen}") from None

    def posts(self) -> list[Exchange]:
        """The requests that bring events."""
        return [it for it in self.exchanges if it.method == "POST"]

    def _answer(self, request: web.Request) -> web.Response:
        headers = {**_CORS, "Access-Control-Allow-Origin": request.headers.get("Origin", "*")}
        if "Origin" in request.headers:
            headers["Access-Control-Allow-Credentials"] = "true"
        if request.method == "OPTIONS":
            headers["Access-Control-Allow-Headers"] = request.headers.get("Access-Control-Request-Headers", "*")
            return web.Response(status=204, headers=headers)
        body = json.dumps({"success": self.status == 200})
        return web.Response(status=self.status, text=body, content_type="application/json", headers=headers)


async def _nothing(_: int) -> None:
    pass


def _without_connection(headers: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    kept = headers.copy()
    for name in ("Connection", "Transfer-Encoding", "Content-Length"):
        kept.popall(name, None)
    return kept


def write_recording(file: Path, name: str, version: str, exchanges: list[Exchange]) -> None:
    """Write what an SDK has sent, for tests without it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    requests = [_recorded(it) for it in exchanges]
    text = json.dumps({"sdk": name, "version": version, "requests": requests}, indent=2, ensure_ascii=False)
    file.write_text(f"{text}\n")


def _recorded(exchange: Exchange) -> Mapping[str, Any]:
    headers = {name: value for name, value in exchange.headers.items() if name not in _UNRECORDED}
    found: dict[str, Any] = {"method": exchange.method, "path": exchange.path, "query": exchange.query}
    found["headers"] = headers
    if exchange.text() != exchange.body:
        found["body_base64"] = base64.b64encode(exchange.body).decode()
    found["text"] = exchange.text().decode()
    return found
