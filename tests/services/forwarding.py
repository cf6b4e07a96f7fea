"""A proxy on the loopback address that passes requests on to a server of this machine as the client has signed them."""

import logging
from typing import Self

from aiohttp import ClientError, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector, web
from multidict import CIMultiDict
from yarl import URL

from tests.services.ports import HOST

_LIMIT_S = 60.0  # for one answer of the server; a long poll of SQS takes 20
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "expect"}  # the last is answered here, and not signed
# Clients that are killed, or cut off by us, are what proxies are for; the server takes each for an error.
_QUIET = logging.getLogger(__name__)
_QUIET.setLevel(logging.CRITICAL)


class ForwardingProxy:
    """Listens on `port` while it is open. Subclasses say what becomes of a request."""

    def __init__(self, port: int, upstream: int) -> None:
        self.port = port
        self._upstream = upstream
        # An application, not a bare server: it answers to "Expect: 100-continue".
        application = web.Application(client_max_size=64 << 20)
        application.router.add_route("*", "/{path:.*}", self.answer)
        self._runner = web.AppRunner(application, shutdown_timeout=0.1, access_log=None, logger=_QUIET)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, self.port, reuse_address=True).start()
        # It keeps no cookies, and leaves bodies as they are.
        self._session = ClientSession(
            auto_decompress=False,
            cookie_jar=DummyCookieJar(),
            connector=TCPConnector(limit=0),
            timeout=ClientTimeout(total=_LIMIT_S),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()
        await self._session.close()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """The answer to the client."""
        raise NotImplementedError

    async def forward(self, request: web.Request, body: bytes) -> web.Response:
        """The answer of the server; without one, the client's connection is closed."""
        # With the client's Host, which is part of what it has signed.
        headers = [(name, value) for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP]
        url = URL(f"http://{HOST}:{self._upstream}{request.raw_path}", encoded=True)
        try:
            async with self._session.request(
                request.method, url, headers=CIMultiDict(headers), data=body, allow_redirects=False
            ) as answer:
                answered = await answer.read()
        except (ClientError, OSError):  # the client sees what it would see without us
            return cut(request)
        kept = [(name, value) for name, value in answer.headers.items() if name.lower() not in _HOP_BY_HOP]
        return web.Response(status=answer.status, headers=CIMultiDict(kept), body=answered)


def cut(request: web.Request) -> web.Response:
    """Close the client's connection without an answer."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()
