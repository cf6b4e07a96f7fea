"""A journal in memory: it outlives the delivery that uses it, as a file does."""

import asyncio
from collections.abc import Sequence

from ingestd.core.errors import SourceError
from ingestd.core.records import PlainRecord, UnsentRecord


class MemoryJournal:
    """Takes `delay_s` for each append. With a `failure`, nothing can be appended; beyond `capacity` records neither."""

    def __init__(self, capacity: int = 1 << 30, delay_s: float = 0.001) -> None:
        self.capacity = capacity
        self.delay_s = delay_s
        self.failure: str | None = None
        self.records: list[PlainRecord] = []
        self.next_offset = 0
        self._order = asyncio.Lock()
        self._appended = asyncio.Event()

    @property
    def error(self) -> str | None:
        return self.failure or ("the journal is full" if len(self.records) >= self.capacity else None)

    @property
    def first_offset(self) -> int:
        return self.records[0].offset if self.records else self.next_offset

    async def append(self, records: Sequence[UnsentRecord]) -> range:
        async with self._order:
            await asyncio.sleep(self.delay_s)
            if self.failure is not None:
                raise SourceError(self.failure)
            if len(self.records) + len(records) > self.capacity:
                raise SourceError("the journal is full")
            first = self.next_offset
            for record in records:
                plain = PlainRecord(self.next_offset, record.timestamp, record.value, record.key, record.headers)
                self.records.append(plain)
                self.next_offset += 1
        self._appended.set()
        self._appended = asyncio.Event()
        return range(first, self.next_offset)

    async def read(self, offset: int, max_records: int, max_bytes: int) -> list[PlainRecord]:
        await asyncio.sleep(0)
        return [record for record in self.records if record.offset >= offset][:max_records]

    async def discard(self, below: int) -> None:
        await asyncio.sleep(0)
        self.records = [record for record in self.records if record.offset >= below]

    async def wait_for(self, offset: int) -> None:
        while self.next_offset <= offset:
            await self._appended.wait()
