"""An S3 proxy that can be told to misbehave, and to behave again, while requests go through it.

Our own: the one on PyPI that knows AWS' errors (microburst) signs requests anew for a store that checks signatures, so
that wrong credentials and a wrong clock would never show, and it cannot apply a PUT late. Here a request arrives as the
client has signed it.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from random import Random

from aiohttp import web

from ingestd.core.object_keys import EVENTS
from tests.services.forwarding import ForwardingProxy, cut

_MOST_KEPT = 1000  # PUTs that are kept back


class Exchange:
    """One request, read whole, and what can be done with it."""

    def __init__(
        self, request: web.Request, body: bytes, upstream: Callable[["Exchange"], Awaitable[web.Response]]
    ) -> None:
        self.request = request
        self.body = body
        self._upstream = upstream

    @property
    def is_data(self) -> bool:
        """Whether it would create a data object."""
        return self.request.method == "PUT" and f"/{EVENTS}" in self.request.path

    @property
    def access_key(self) -> str:
        """Of the credentials that it is signed with."""
        return self.request.headers.get("Authorization", "").partition("Credential=")[2].partition("/")[0]

    async def apply(self) -> web.Response:
        """Have the store carry it out; its answer."""
        return await self._upstream(self)

    def refuse(self, status: int, code: str) -> web.Response:
        """An error as S3 tells it."""
        text = f"<Error><Code>{code}</Code><Message>told to say so</Message><RequestId>0</RequestId></Error>"
        if self.request.method == "HEAD":
            return web.Response(status=status)
        return web.Response(status=status, text=text, content_type="application/xml")

    def cut(self) -> web.Response:
        """Close the client's connection without an answer."""
        return cut(self.request)


Behaviour = Callable[[Exchange], Awaitable[web.Response]]


class S3Proxy(ForwardingProxy):
    """Passes requests on from `port` to `upstream`, both on the loopback address. It starts well.

    `fired` counts what was done to requests that were not just passed on.
    """

    def __init__(self, port: int, upstream: int) -> None:
        super().__init__(port, upstream)
        self._behaviour: Behaviour | None = None
        self._kept: list[Exchange] = []
        self.fired: Counter[str] = Counter()

    # -- what it is told

    def heal(self) -> None:
        """Pass everything on again."""
        self._behaviour = None

    def refuses(self, status: int, code: str, *, share: float = 1.0, rng: Random | None = None) -> None:
        """A share of all requests is answered with an error, and the store never sees them."""

        async def behave(exchange: Exchange) -> web.Response:
            if rng is not None and rng.random() >= share:
                return await exchange.apply()
            self.fired[code] += 1
            return exchange.refuse(status, code)

        self._behaviour = behave

    def expires(self, access_key: str) -> None:
        """Requests that are signed with these credentials are refused as those of expired ones are."""

        async def behave(exchange: Exchange) -> web.Response:
            if exchange.access_key != access_key:
                return await exchange.apply()
            self.fired["ExpiredToken"] += 1
            return exchange.refuse(400, "ExpiredToken")

        self._behaviour = behave

    def delays(self, at_most: float, rng: Random) -> None:
        """Each request waits for up to so many seconds, and so does its answer."""

        async def behave(exchange: Exchange) -> web.Response:
            self.fired["delayed"] += 1
            await asyncio.sleep(rng.uniform(0, at_most))
            answer = await exchange.apply()
            await asyncio.sleep(rng.uniform(0, at_most))
            return answer

        self._behaviour = behave

    def cuts_after_applying(self, share: float, rng: Random) -> None:
        """The store creates the object, and the client's connection is closed without an answer."""

        async def behave(exchange: Exchange) -> web.Response:
            if not exchange.is_data or rng.random() >= share:
                return await exchange.apply()
            self.fired["cut"] += 1
            await exchange.apply()
            return exchange.cut()

        self._behaviour = behave

    def keeps_back(self, *, retries: bool) -> None:
        """PUTs of data objects are kept until `release`, and the client's connection is closed without an answer.

        All of them, or only the first for each name.
        """
        names: set[str] = set()

        async def behave(exchange: Exchange) -> web.Response:
            name = exchange.request.path
            if not exchange.is_data or (name in names and not retries) or len(self._kept) >= _MOST_KEPT:
                return await exchange.apply()
            names.add(name)
            self.fired["kept back"] += 1
            self._kept.append(exchange)
            return exchange.cut()

        self._behaviour = behave

    @property
    def kept(self) -> list[str]:
        """The names of what is kept back."""
        return [exchange.request.path for exchange in self._kept]

    async def release(self) -> list[int]:
        """Give the store what was kept back, in its order; what it answered."""
        kept, self._kept = self._kept, []
        return [(await exchange.apply()).status for exchange in kept]

    # -- requests

    async def answer(self, request: web.Request) -> web.StreamResponse:
        exchange = Exchange(request, await request.read(), self._apply)
        return await (exchange.apply() if self._behaviour is None else self._behaviour(exchange))

    async def _apply(self, exchange: Exchange) -> web.Response:
        return await self.forward(exchange.request, exchange.body)
