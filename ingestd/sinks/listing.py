"""Reads what is in a sink: its day folders, the keys of a folder, and objects with their metadata, many at once."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import TypeVar, TypeVarTuple

from ingestd.core.stored import ObjectInfo
from ingestd.sinks.base import Sink
from ingestd.sinks.retry import SinkRetrier

FIRST_DAY, LAST_DAY = "", "~"  # before and after every day folder's name

_PAGE_KEYS = 1000

T = TypeVar("T")
U = TypeVar("U")
Ts = TypeVarTuple("Ts")


class Listing:
    """Looks through a sink; each call is repeated until it is answered.

    With `patience_s`, a call that gets no answer for so long raises ``SinkError``.
    """

    def __init__(self, sink: Sink, retrier: SinkRetrier, patience_s: float | None = None) -> None:
        self._sink = sink
        self._retrier = retrier
        self._patience_s = patience_s

    async def days(self, root: str, first: str = FIRST_DAY, last: str = LAST_DAY) -> list[str]:
        """The day folders below `root` that exist, in order, each as root + "year=.../month=.../day=.../".

        `first` and `last` bound them, both inclusive, by their names without `root`. Three levels of a delimited
        listing: no object is listed.
        """
        level = [root]
        for name in ("year=", "month=", "day="):
            level = [
                below
                for folder in level
                for below in await self._call(self._sink.folders, folder)
                if below.startswith(f"{folder}{name}")
            ]
        return [folder for folder in level if first <= folder.removeprefix(root) <= last]

    async def keys(self, prefix: str) -> AsyncGenerator[str]:
        """The keys of one folder that begin with `prefix`, in order.

        A listing that breaks off is repeated, and goes on behind the last key that was handed out.
        """
        last = ""
        listing: AsyncIterator[str] | None = None

        async def list_page() -> list[str]:
            nonlocal listing
            found: list[str] = []
            try:
                if listing is None:
                    listing = self._sink.list(prefix)
                async for key in listing:
                    if key > last:
                        found.append(key)
                    if len(found) == _PAGE_KEYS:
                        break
            except BaseException:
                listing = None
                raise
            return found

        while found := await self._call(list_page):
            last = found[-1]
            for key in found:
                yield key

    async def head(self, key: str) -> ObjectInfo | None:
        """The object's metadata, or None where there is no such object."""
        return await self._call(self._sink.head, key)

    async def get(self, key: str) -> bytes:
        """The object's body as it was stored."""
        return await self._call(self._sink.get, key)

    async def objects(self, keys: AsyncIterable[str], at_once: int) -> AsyncGenerator[tuple[str, ObjectInfo | None]]:
        """Each of `keys`, in order, with its object's metadata; None where the object is gone meanwhile."""

        async def look(key: str) -> tuple[str, ObjectInfo | None]:
            return key, await self.head(key)

        async with aclosing(map_ordered(keys, look, at_once)) as found:
            async for pair in found:
                yield pair

    async def _call(self, method: Callable[[*Ts], Awaitable[T]], *arguments: *Ts) -> T:
        if self._patience_s is None:
            return await self._retrier.call(method, *arguments)
        return await self._retrier.call_briefly(method, *arguments, patience_s=self._patience_s)


async def map_ordered(
    items: AsyncIterable[T], work: Callable[[T], Awaitable[U]], at_once: int
) -> AsyncGenerator[U, None]:
    """The results of `work` on each item, in the items' order; at most `at_once` are begun and not yet handed out."""
    underway: deque[asyncio.Future[U]] = deque()
    try:
        async for item in items:
            underway.append(asyncio.ensure_future(work(item)))
            if len(underway) >= at_once:
                yield await underway[0]
                underway.popleft()
        while underway:
            yield await underway[0]
            underway.popleft()
    finally:
        for task in underway:
            task.cancel()
        await asyncio.gather(*underway, return_exceptions=True)
