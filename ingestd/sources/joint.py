"""Several sources as one: each has topics of its own, and nobody behind it knows that there are several."""

import asyncio
from collections.abc import Collection, Sequence

from ingestd.core.records import EpochEnd, LogRange, Position, TopicPartition
from ingestd.sources.base import Capabilities, Fetched, Listener, OpenTransaction, Source


class JointSource:
    """The promises of `ingestd.sources.base.Source` hold where they hold for each part.

    `capabilities` are what all parts can do. Each part is fetched from by a task of its own, so that none waits for
    another.
    """

    def __init__(self, source_id: str, capabilities: Capabilities, parts: Sequence[Source]) -> None:
        self.source_id = source_id
        self.capabilities = capabilities
        self.parts = parts
        self._owners: dict[str, Source] = {}  # by topic
        self._fetched: dict[Source, Fetched] = {}  # not handed out yet
        self._fetching: dict[Source, asyncio.Task[None]] = {}
        self._ended: set[Source] = set()

    @property
    def revoke_timeout(self) -> float:
        return max(part.revoke_timeout for part in self.parts)

    @property
    def error(self) -> str | None:
        return next((part.error for part in self.parts if part.error is not None), None)

    @property
    def error_since(self) -> float | None:
        return min((part.error_since for part in self.parts if part.error_since is not None), default=None)

    async def start(self, listener: Listener) -> None:
        for part in self.parts:
            await part.start(_Owner(self._owners, part, listener))

    async def stop(self) -> None:
        self.finish()
        for part in self.parts:
            await part.stop()
        for task in self._fetching.values():
            task.cancel()
        await asyncio.gather(*self._fetching.values(), return_exceptions=True)

    async def rebuild(self) -> None:
        for part in self.parts:
            await part.rebuild()

    async def fetch(self) -> Fetched | None:
        for part in self.parts:
            if part not in self._ended and part not in self._fetching:
                self._fetching[part] = asyncio.create_task(self._fetch(part), name="fetch")
        if self._fetching:
            done, _ = await asyncio.wait(self._fetching.values(), return_when=asyncio.FIRST_COMPLETED)
            for part in [it for it, task in self._fetching.items() if task in done]:
                self._fetching.pop(part).result()
        elif not self._fetched:
            return None
        fetched: Fetched = {}
        for found in self._fetched.values():
            fetched = {**fetched, **found}
        self._fetched.clear()
        return fetched

    async def _fetch(self, part: Source) -> None:
        """What comes is in `_fetched` at once, so that a seek can remove it until it is handed out."""
        fetched = await part.fetch()
        if fetched is None:
            self._ended.add(part)
        else:
            self._fetched[part] = fetched

    def finish(self) -> None:
        for part in self.parts:
            part.finish()

    def seek(self, partition: TopicPartition, offset: int, leader_epoch: int | None = None) -> None:
        self._forget(partition)
        self._owner(partition).seek(partition, offset, leader_epoch)

    def pause(self, partition: TopicPartition) -> None:
        self._forget(partition)
        self._owner(partition).pause(partition)

    def _forget(self, partition: TopicPartition) -> None:
        owner = self._owner(partition)
        if partition in self._fetched.get(owner, {}):
            self._fetched[owner] = {key: found for key, found in self._fetched[owner].items() if key != partition}

    def _owner(self, partition: TopicPartition) -> Source:
        return self._owners[partition.topic]

    async def stream_id(self, partition: TopicPartition) -> str:
        return await self._owner(partition).stream_id(partition)

    async def committed(self, partition: TopicPartition) -> Position | None:
        return await self._owner(partition).committed(partition)

    async def log_range(self, partition: TopicPartition) -> LogRange:
        return await self._owner(partition).log_range(partition)

    async def epoch_end(self, partition: TopicPartition, leader_epoch: int) -> EpochEnd | None:
        return await self._owner(partition).epoch_end(partition, leader_epoch)

    async def resolve_start(self, partition: TopicPartition) -> Position:
        return await self._owner(partition).resolve_start(partition)

    async def commit(self, partition: TopicPartition, position: Position) -> bool:
        return await self._owner(partition).commit(partition, position)

    def end_offset(self, partition: TopicPartition) -> int | None:
        return self._owner(partition).end_offset(partition)

    def behind_s(self, partition: TopicPartition) -> float | None:
        return self._owner(partition).behind_s(partition)

    def open_transaction(self, partition: TopicPartition) -> OpenTransaction | None:
        return self._owner(partition).open_transaction(partition)


class _Owner:
    """Notes whose a topic is, before the listener asks for anything."""

    def __init__(self, owners: dict[str, Source], part: Source, listener: Listener) -> None:
        self._owners, self._part, self._listener = owners, part, listener

    def on_assigned(self, partitions: Collection[TopicPartition]) -> None:
        self._owners |= {it.topic: self._part for it in partitions}
        self._listener.on_assigned(partitions)

    async def on_revoked(self, partitions: Collection[TopicPartition]) -> None:
        await self._listener.on_revoked(partitions)

    def on_out_of_range(self, partition: TopicPartition) -> None:
        self._listener.on_out_of_range(partition)
