"""The shop's HTTP routes: its pages, our script, and the collector's endpoint that the script sends to.

They are on the server of the live page: visitors need one address, and the script sends to the origin of its page.
"""

import asyncio
from pathlib import Path

from aiohttp import web

from ingestd.collect.assets import load_assets
from ingestd.collect.request import Received, RequestPath
from ingestd.collect.server import lower_headers
from ingestd.demo.shop.qr_code import qr_code, shop_url
from ingestd.ops.http import OWN_CONTENT, TEXT, Handler, only_direct, respond

STATIC = Path(__file__).parent / "static"
PAGES = ("/shop", "/shop/savings", "/shop/funds", "/shop/pension", "/shop/inbox")
TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"}
SCRIPT = "/ingestd.js"
SECURITY = {
    "Content-Security-Policy": OWN_CONTENT,
    "Referrer-Policy": "same-origin",
}


class ShopServer:
    """Takes the visitors' events once it is started. Its routes are served by somebody else."""

    def __init__(self, collector: RequestPath) -> None:
        self._collector = collector
        self._script = load_assets()[SCRIPT]
        self._port = 0
        self._is_open = False
        self._requests: set[asyncio.Task[web.Response]] = set()
        self.url: str | None = None  # for phones; None where they cannot reach it

    def listens_at(self, host: str, port: int) -> None:
        """Note where the routes are served."""
        self._port = port
        self.url = shop_url(host, port)

    async def start(self) -> int:
        """Take events from now on. Returns the port."""
        self._is_open = True
        return self._port

    async def stop(self, grace: float) -> None:
        """Answer what is in flight, within `grace` seconds; everything else is refused."""
        self._is_open = False
        if self._requests:
            await asyncio.wait(self._requests, timeout=grace)

    @property
    def routes(self) -> list[web.RouteDef]:
        """The routes."""
        files = [f"/shop/{it.name}" for it in STATIC.iterdir() if it.suffix in TYPES]
        return [
            *(web.get(path, _for_visitors(_page)) for path in PAGES),
            *(web.get(path, _for_visitors(_file)) for path in files),
            web.get("/shop/qr.svg", _for_visitors(self._qr_code)),
            web.get(SCRIPT, _for_visitors(self._send_script)),
            web.post("/v1/events", _for_visitors(self._collect)),
        ]

    async def _send_script(self, _: web.Request) -> web.Response:
        return respond(200, self._script.body, self._script.headers["Content-Type"])

    async def _qr_code(self, _: web.Request) -> web.Response:
        if self.url is None:
            return respond(404, "only this machine can reach the shop: run with --host 0.0.0.0\n")
        return respond(200, qr_code(self.url), "image/svg+xml", SECURITY)

    async def _collect(self, request: web.Request) -> web.Response:
        if request.headers.get("Origin", "") != f"http://{request.headers.get('Host', '')}":
            return respond(403, "only the shop's own pages may send\n")
        if not self._is_open:
            return respond(503, "the demo has ended, or is not ready yet\n", headers={"Retry-After": "5"})
        task = asyncio.create_task(self._answer(request), name="shop request")
        self._requests.add(task)
        task.add_done_callback(self._requests.discard)
        return await asyncio.shield(task)  # a visitor who goes away cancels nothing

    async def _answer(self, request: web.Request) -> web.Response:
        headers = lower_headers(request.headers.items())
        received = Received("POST", request.path_qs, headers, request.remote or "", request.content, _never_asked)
        answer = await self._collector.answer(received)
        return respond(answer.status, answer.body, answer.content_type or TEXT, answer.headers)


async def _never_asked() -> None:
    """No browser waits to be asked for a body."""


async def _page(_: web.Request) -> web.Response:
    return respond(200, (STATIC / "index.html").read_bytes(), "text/html; charset=utf-8", SECURITY)


async def _file(request: web.Request) -> web.Response:
    file = STATIC / request.path.removeprefix("/shop/")
    return respond(200, file.read_bytes(), TYPES[file.suffix], SECURITY)


def _for_visitors(handler: Handler) -> Handler:
    return only_direct(handler, SECURITY)
