"""Looks at the data objects of a sink: lists the days, and asks for each object's metadata, many at once."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from ingestd.core.object_keys import ObjectKeys, ObjectMetadata, day_folder
from ingestd.core.stored import ObjectInfo
from ingestd.sinks.base import Sink
from ingestd.sinks.listing import days, keys
from ingestd.sinks.retry import SinkRetrier
from ingestd.snowflake.reconcile import Object

AT_ONCE = 32  # calls
PATIENCE = 60.0  # seconds for an answer, with all tries
DAY_MS = 86_400_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

T = TypeVar("T")


class Objects:
    """The data objects whose first record is of a range of time, by Kafka's timestamps (ms, None is open)."""

    def __init__(
        self, sink: Sink, guard: SinkRetrier, layout: ObjectKeys, since: int | None, until: int | None
    ) -> None:
        self._sink = sink
        self._guard = guard
        self._layout = layout
        self._since = since
        self._until = until

    async def each(self) -> AsyncIterator[Object]:
        """All of them. Errors: ``SinkError`` where the store gives no answer for a minute."""
        first = day_folder(self._since) if self._since is not None else ""
        last = day_folder(self._until - 1) if self._until is not None else "~"
        for folder in await self._ask(lambda: days(self._sink, self._layout.events)):
            if first <= folder.removeprefix(self._layout.events) <= last:
                async for thing in self._day(folder):
                    yield thing

    async def _day(self, folder: str) -> AsyncIterator[Object]:
        batch: list[str] = []
        async for key in keys(self._sink, self._ask, folder):
            if self._layout.parse(key) is not None:
                batch.append(key)
            if len(batch) == AT_ONCE:
                for thing in await self._look(batch):
                    yield thing
                batch = []
        for thing in await self._look(batch):
            yield thing

    async def _look(self, batch: list[str]) -> list[Object]:
        found = await asyncio.gather(*(self._one(key) for key in batch))
        return [thing for thing in found if thing is not None]

    async def _one(self, key: str) -> Object | None:
        info = await self._ask(lambda: self._sink.head(key))
        if info is None or (landed := ObjectMetadata.from_metadata(info.metadata)) is None:
            return None
        after = self._since is None or landed.first_timestamp >= self._since
        before = self._until is None or landed.first_timestamp < self._until
        return read(info, landed) if after and before else None

    async def _ask(self, operation: Callable[[], Awaitable[T]]) -> T:
        return await self._guard.call_briefly(operation, PATIENCE)


def read(info: ObjectInfo, landed: ObjectMetadata) -> Object:
    """An object as it is compared. A store that does not say when it came: when its last record did, by Kafka."""
    if info.landed_at is not None:
        return Object(info.key, landed.rows, datetime.fromtimestamp(info.landed_at, UTC))
    return Object(info.key, landed.rows, EPOCH + timedelta(milliseconds=max(0, landed.last_timestamp)))
