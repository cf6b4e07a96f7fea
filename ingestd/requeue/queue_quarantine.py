"""Finds the quarantine objects of a queue whose batch has landed."""

from collections.abc import AsyncGenerator

from ingestd.core.object_keys import day_folder
from ingestd.core.queue_keys import QueueKeys, QueueObjectName
from ingestd.core.queue_objects import QueueObjectMetadata, is_fence
from ingestd.core.records import TopicPartition
from ingestd.requeue.requeuer import RequeueCounts
from ingestd.requeue.unfenced import LandedObject
from ingestd.sinks.listing import FIRST_DAY, LAST_DAY, Listing


class QueueQuarantine:
    """The quarantine of one queue and lineage; counts the objects that are not to be requeued."""

    def __init__(self, listing: Listing, keys: QueueKeys, queue: str, counts: RequeueCounts) -> None:
        self._listing = listing
        self._keys = keys
        self._queue = queue
        self._counts = counts

    async def objects(self, since: int | None) -> AsyncGenerator[LandedObject]:
        """Objects from the day of a time (ms) on: that of the first receipts of their messages.

        A message is received after it was sent, up to the retention of the queue later: so no day is the last one that
        may hold a message which was sent before some time.
        """
        first = day_folder(since) if since is not None else FIRST_DAY
        for day in await self._listing.days(self._keys.quarantine, first, LAST_DAY):
            async for key in self._listing.keys(f"{day}{self._queue}+"):
                name = self._keys.parse_quarantine(key)
                if name is not None and await self._is_landed(name):
                    yield LandedObject(key, TopicPartition(self._queue, 0))

    async def _is_landed(self, name: QueueObjectName) -> bool:
        data = await self._listing.head(self._keys.data_key(name.queue, name.batch))
        if data is None:
            self._counts.unlanded_objects += 1
            return False
        metadata = QueueObjectMetadata.from_metadata(data.metadata)
        if is_fence(data.metadata) or (metadata is not None and metadata.quarantine != name.digest):
            self._counts.superseded_objects += 1
            return False
        if metadata is None:
            self._counts.unreadable_objects += 1
            return False
        return True
