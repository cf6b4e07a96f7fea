"""The memory budget is the back-pressure: reading stops where buffered bytes reach it, and Kafka keeps the rest."""

import asyncio
from collections.abc import Callable


class MemoryBudget:
    """A bound on all buffered bytes, over all partitions."""

    def __init__(self, limit: int, used: Callable[[], int], flush_largest: Callable[[], None]) -> None:
        """`used` sums the bytes of all partitions; `flush_largest` flushes open batches so that memory gets free."""
        self.is_full = False  # reading waits
        self._limit = limit
        self._used = used
        self._flush_largest = flush_largest
        self._estimate = self._recount_at = 0
        self._freed = asyncio.Event()

    def freed(self) -> None:
        """Less memory is used than before. Compression frees memory, too; in an outage nothing else does."""
        self._freed.set()

    async def wait_for(self, incoming: int) -> None:
        """Wait until `incoming` bytes fit. A chunk that is larger than the whole budget goes in alone.

        The estimate is an upper bound, since compressing and landing only make it less. The exact sum is expensive with
        hundreds of partitions, so it is made again after every sixteenth of the budget.
        """
        self._estimate += incoming
        if self._estimate <= self._recount_at:
            return
        while True:
            self._freed.clear()
            self._flush_largest()
            used = self._used()
            if not used or used + incoming <= self._limit:
                break
            self.is_full = True
            await self._freed.wait()
            self.is_full = False
        self._estimate = used + incoming
        self._recount_at = min(self._estimate + self._limit // 16, self._limit)
