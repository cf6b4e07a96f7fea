"""An object store with the faults of real ones: answers that are lost, writes that land late, refusals for a while."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TypeVar

from ingestd.core.errors import SinkForbidden, SinkUnavailable
from ingestd.core.stored import ObjectInfo, Stored

T = TypeVar("T")


class Store:
    """Shared by all workers; each has a ``Connection``."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.objects: dict[str, tuple[bytes, dict[str, str]]] = {}
        self.overwritten: list[str] = []
        self.calm = False
        self.down = False
        self.forbidden = False
        self.conditional = True
        self.late: set[asyncio.Task[None]] = set()

    def put(self, key: str, body: bytes, metadata: Mapping[str, str]) -> Stored:
        if key in self.objects:
            if self.conditional:
                return Stored.EXISTS
            self.overwritten.append(key)
        self.objects[key] = (body, dict(metadata))
        return Stored.CREATED

    def later(self, put: Callable[[], Stored], seconds: float) -> None:
        """A write that is on its way, and outlives its sender."""

        async def arrive() -> None:
            await asyncio.sleep(seconds)
            put()

        task = asyncio.create_task(arrive())
        self.late.add(task)
        task.add_done_callback(self.late.discard)

    async def settle(self) -> None:
        if self.late:
            await asyncio.gather(*self.late)


class Connection:
    """One worker's ``Sink``."""

    url = "sim://store"

    def __init__(self, store: Store) -> None:
        self._store = store

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def put_new(self, key: str, body: bytes, metadata: Mapping[str, str]) -> Stored:
        store = self._store
        await self._reach()
        if self._fault(0.05):
            raise SinkUnavailable("409", code="ConditionalRequestConflict")
        if self._fault(0.1):  # timed out, and applied much later if at all
            if store.rng.random() < 0.7:
                store.later(lambda: store.put(key, body, metadata), store.rng.expovariate(0.2))
            raise SinkUnavailable("timeout", code="Timeout")
        stored = store.put(key, body, metadata)
        if self._fault(0.1):  # applied, and the answer is lost
            raise SinkUnavailable("connection lost", code="ConnectionLost")
        await asyncio.sleep(store.rng.expovariate(20))
        return stored

    async def replace(self, key: str, body: bytes, metadata: Mapping[str, str]) -> None:
        await self._reach()
        self._store.objects[key] = (body, dict(metadata))

    async def head(self, key: str) -> ObjectInfo | None:
        await self._reach()
        found = self._store.objects.get(key)
        return ObjectInfo(key, len(found[0]), found[1]) if found else None

    async def get(self, key: str, limit: int | None = None) -> bytes:
        await self._reach()
        if key not in self._store.objects:
            raise SinkUnavailable(f"there is no {key}", code="NoSuchKey")
        return self._store.objects[key][0][:limit]

    async def list(self, prefix: str) -> AsyncIterator[str]:
        await self._reach()
        for key in sorted(key for key in self._store.objects if key.startswith(prefix)):
            yield key

    async def versions(self, prefix: str) -> AsyncIterator[tuple[str, str]]:
        await self._reach()
        for key in sorted(key for key in self._store.objects if key.startswith(prefix)):
            yield key, str(hash(self._store.objects[key][0]))

    async def folders(self, prefix: str) -> "list[str]":  # type: ignore[valid-type]
        await self._reach()
        below = {
            key[len(prefix) :].split("/", 1)[0]
            for key in self._store.objects
            if key.startswith(prefix) and "/" in key[len(prefix) :]
        }
        return sorted(f"{prefix}{name}/" for name in below)

    async def _reach(self) -> None:
        await asyncio.sleep(self._store.rng.expovariate(20))
        if self._store.forbidden:
            raise SinkForbidden("403", code="ExpiredToken")
        if self._store.down or self._fault(0.05):
            raise SinkUnavailable("503", code="SlowDown")

    def _fault(self, probability: float) -> bool:
        return not self._store.calm and self._store.rng.random() < probability
