"""Finds out whether a message that comes again has landed: which manifests have its id, and the fate of their batches.

The manifests of one hour of first receipts are in one folder, so a question costs one listing (two near the hour's
end), one for all messages that wait for it. Each manifest whose name says that it may hold a message is read once; each
batch that holds one is looked at, or fenced, once. Both are remembered, within bounds.

An answer "has not landed" is never remembered: it holds only for the batches that existed when it was given.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Sequence
from contextlib import aclosing
from typing import TypeVar

from ingestd.core.errors import SourceError
from ingestd.core.queue_keys import QueueObjectName
from ingestd.core.queue_objects import FENCE_BODY, FENCE_METADATA, Fate, Manifest, MessageIds, is_fence
from ingestd.pipeline.queue.dependencies import QueueDependencies
from ingestd.pipeline.queue.shared_calls import SharedCalls
from ingestd.sinks.create_only import create_or_find
from ingestd.sinks.listing import Listing
from ingestd.sources.sqs.port import Message

MAX_IDS = 2_000_000  # of manifests that are remembered, 16 bytes each
MAX_FATES = 100_000
LISTINGS_AT_ONCE = 2
READS_AT_ONCE = 8

T = TypeVar("T")


class Manifests:
    """The manifests of one queue, as written by all daemons."""

    def __init__(self, dependencies: QueueDependencies) -> None:
        self._queue = dependencies.source.queue
        self._keys = dependencies.keys
        self._sink = dependencies.sink
        self._retrier = dependencies.retrier
        self._executor = dependencies.executor
        self._metrics = dependencies.metrics.queue
        self._listing = Listing(dependencies.sink, dependencies.retrier)
        self._listings = SharedCalls(self._list, LISTINGS_AT_ONCE)
        self._reads = SharedCalls(self._read, READS_AT_ONCE, fixed=True)
        self._settlings = SharedCalls(self._settle, READS_AT_ONCE, fixed=True)
        self._ids: OrderedDict[str, MessageIds] = OrderedDict()  # by the manifest's key, the latest used last
        self._ids_count = 0
        self._fates: OrderedDict[str, Fate] = OrderedDict()  # by the data object's key

    async def landed(self, messages: Sequence[Message], group: asyncio.TaskGroup) -> set[str]:
        """The ids of those messages that have landed. No batch with one of the others can land from now on.

        Call it after the messages were received: only then is every manifest there that could hold them.
        """
        folders = [self._keys.manifest_folders(self._queue, message.first_received_ms) for message in messages]
        wanted = list(dict.fromkeys(folder for some in folders for folder in some))
        found = dict(zip(wanted, await _gather([self._listings.get(it, group) for it in wanted]), strict=True))
        landed: set[str] = set()
        for message, some in zip(messages, folders, strict=True):
            if await self._has_landed(message, [name for folder in some for name in found[folder]], group):
                landed.add(message.message_id)
        return landed

    async def _has_landed(self, message: Message, names: Sequence[QueueObjectName], group: asyncio.TaskGroup) -> bool:
        near = [name for name in names if name.batch.may_hold(message.first_received_ms)]
        manifests = await _gather([self._ids_of(name.key, group) for name in near])
        holding = [name for name, ids in zip(near, manifests, strict=True) if ids.has(message.message_id)]
        fates = await _gather([self._fate_of(name, group) for name in holding])
        return Fate.LANDED in fates

    async def _list(self, folder: str) -> list[QueueObjectName]:
        async with aclosing(self._listing.keys(folder)) as keys:
            return [name async for key in keys if (name := self._keys.parse_manifest(key)) is not None]

    async def _ids_of(self, key: str, group: asyncio.TaskGroup) -> MessageIds:
        if (known := self._ids.get(key)) is not None:
            self._ids.move_to_end(key)
            return known
        return await self._reads.get(key, group)

    async def _read(self, key: str) -> MessageIds:
        body = await self._listing.get(key)
        try:
            ids = await asyncio.get_running_loop().run_in_executor(self._executor, _message_ids, body)
        except ValueError as error:
            raise SourceError(
                f"the manifest {key} is damaged: {error}",
                hint="restore it from the bucket's versions: without it, messages may land twice",
            ) from error
        self._remember(key, ids)
        return ids

    def _remember(self, key: str, ids: MessageIds) -> None:
        self._ids[key] = ids
        self._ids_count += len(ids)
        while self._ids_count > MAX_IDS and len(self._ids) > 1:
            self._ids_count -= len(self._ids.popitem(last=False)[1])

    async def _fate_of(self, name: QueueObjectName, group: asyncio.TaskGroup) -> Fate:
        key = self._keys.data_key(self._queue, name.batch)
        if (known := self._fates.get(key)) is not None:
            self._fates.move_to_end(key)
            return known
        return await self._settlings.get(key, group)

    async def _settle(self, data_key: str) -> Fate:
        """What became of a batch; if nothing has yet, it never lands."""
        existing = await create_or_find(self._sink, self._retrier, data_key, FENCE_BODY, FENCE_METADATA)
        if existing is None:
            self._metrics.fenced()
        fate = Fate.FENCED if existing is None or is_fence(existing.metadata) else Fate.LANDED
        self._fates[data_key] = fate
        if len(self._fates) > MAX_FATES:
            self._fates.popitem(last=False)
        return fate


def _message_ids(body: bytes) -> MessageIds:
    return MessageIds(Manifest.decode(body).message_ids)


async def _gather(calls: Sequence[Awaitable[T]]) -> list[T]:
    return list(await asyncio.gather(*calls))
