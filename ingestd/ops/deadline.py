"""The point in time at which a run ends, which signals move while it runs and while it closes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

RESERVE_S = 2.0  # to close what is open, most of all to leave the group


class Deadline:
    """Limits one scope after the other. There is no limit until one is set, and it only ever comes nearer."""

    def __init__(self, grace: float) -> None:
        """`grace` in seconds has the time to close in it, so that the whole of a stop is bounded by it."""
        self._reserve = min(RESERVE_S, grace / 4)
        self._grace = grace
        self._at: float | None = None  # on the loop's clock; the reserve follows it
        self._scope: asyncio.Timeout | None = None
        self._closing = False

    def begin_grace(self) -> None:
        """Everything has to be over when the grace time is."""
        self._set(_now() + self._grace - self._reserve)

    def force(self) -> None:
        """End the current scope. What is left to close has the reserve; a scope that closes ends at once."""
        self._set(_now() - (self._reserve if self._closing else 0.0))

    @asynccontextmanager
    async def limit(self, *, closing: bool = False) -> AsyncIterator[asyncio.Timeout]:
        """A scope that ends with TimeoutError at the deadline; where it closes something, after the reserve."""
        self._closing = closing
        async with asyncio.timeout_at(self._end()) as scope:
            self._scope = scope
            try:
                yield scope
            finally:
                self._scope = None

    async def close(self, close: Callable[[], Awaitable[None]]) -> None:
        """Close a part, in what is left of the grace time."""
        with contextlib.suppress(TimeoutError):
            async with self.limit(closing=True):
                await close()

    def _end(self) -> float | None:
        return None if self._at is None else self._at + (self._reserve if self._closing else 0.0)

    def _set(self, when: float) -> None:
        self._at = when if self._at is None else min(self._at, when)
        # An expired one has cancelled its body already, and cannot be moved.
        if self._scope is not None and not self._scope.expired():
            self._scope.reschedule(self._end())


def _now() -> float:
    return asyncio.get_running_loop().time()
