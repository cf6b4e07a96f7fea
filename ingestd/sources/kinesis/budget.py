"""Bounds the bytes of all shards that were read, or are being read, and have not been handed out."""

import asyncio
from collections import deque


class PrefetchBudget:
    """Reservations are served in the order of their requests, so that no shard starves.

    One is granted where nothing else is held, however large it is: no bound may stop a shard for ever.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def used(self) -> int:
        return self._used

    async def reserve(self, size: int) -> None:
        """Wait until `size` bytes are free, and take them."""
        if not self._waiting and self._fits(size):
            self._used += size
            return
        granted = asyncio.get_running_loop().create_future()
        self._waiting.append((size, granted))
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():
                self._used -= size
            self._grant()
            raise

    def change(self, size: int) -> None:
        """Take `size` bytes more without waiting; give them back where it is negative."""
        self._used += size
        self._grant()

    def _fits(self, size: int) -> bool:
        return self._used + size <= self._limit or self._used == 0

    def _grant(self) -> None:
        while self._waiting:
            size, granted = self._waiting[0]
            if not granted.done():
                if not self._fits(size):
                    return
                self._used += size
                granted.set_result(None)
            self._waiting.popleft()
