"""Reads the data objects of a sink with their metadata, for the comparison with loads."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

from ingestd.core.landed_objects import DataObject, is_data_key, read_landed
from ingestd.core.object_keys import ObjectKeys, day_folder
from ingestd.core.stored import ObjectInfo
from ingestd.sinks.base import Sink
from ingestd.sinks.listing import FIRST_DAY, LAST_DAY, Listing
from ingestd.sinks.retry import SinkRetrier
from ingestd.snowflake.reconcile import Object

AT_ONCE = 32  # parallel calls
PATIENCE_S = 60.0  # for an answer, with all attempts
DAY_MS = 86_400_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Objects:
    """The data objects whose first record is within a range of Kafka timestamps (ms; None is open)."""

    def __init__(
        self, sink: Sink, retrier: SinkRetrier, layout: ObjectKeys, since: int | None, until: int | None
    ) -> None:
        self._listing = Listing(sink, retrier, PATIENCE_S)
        self._layout = layout
        self._since = since
        self._until = until

    async def each(self) -> AsyncIterator[Object]:
        """Yield all of them. Raises ``SinkError`` if the store does not answer for a minute."""
        async with aclosing(self._listing.objects(self._keys(), AT_ONCE)) as objects:
            async for _, info in objects:
                landed = read_landed(info) if info is not None else None
                if info is not None and landed is not None and self._in_range(landed.first_timestamp):
                    yield read(info, landed)

    async def _keys(self) -> AsyncIterator[str]:
        first = day_folder(self._since) if self._since is not None else FIRST_DAY
        last = day_folder(self._until - 1) if self._until is not None else LAST_DAY
        for folder in await self._listing.days(self._layout.events, first, last):
            async for key in self._listing.keys(folder):
                if is_data_key(self._layout, key):
                    yield key

    def _in_range(self, timestamp: int) -> bool:
        return (self._since is None or timestamp >= self._since) and (self._until is None or timestamp < self._until)


def read(info: ObjectInfo, landed: DataObject) -> Object:
    """The object for the comparison. Without a time from the store, the Kafka timestamp of its last record counts."""
    if info.landed_at is not None:
        return Object(info.key, landed.rows, datetime.fromtimestamp(info.landed_at, UTC))
    return Object(info.key, landed.rows, EPOCH + timedelta(milliseconds=max(0, landed.last_timestamp)))
