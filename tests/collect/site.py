"""A website of another origin than the collector: its pages, and the scripts that they load."""

from pathlib import Path
from typing import Self

from aiohttp import web

from tests.services.ports import HOST


class Site:
    """Serves pages by path. Every page has the same body, and `head` before it."""

    def __init__(self, head: str = "", body: str = "", headers: dict[str, str] | None = None) -> None:
        self.head, self.body = head, body
        self.files: dict[str, Path] = {}
        self.headers = headers or {}
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/{path:.*}", self._serve)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, HOST, 0)
        await site.start()
        self.url = f"http://{HOST}:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner
        await self._runner.cleanup()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        if file := self.files.get(request.path):
            return web.FileResponse(file)
        if request.path == "/favicon.ico":
            return web.Response(status=204)
        title = request.path.strip("/") or "start"
        head = f"<title>{title}</title>{self.head}"
        text = f"<!doctype html><html lang=en><head>{head}</head><body>{self.body}</body></html>"
        return web.Response(text=text, content_type="text/html", headers=self.headers)
