"""Reads the bodies of objects, to compare them with what their metadata says; so many bytes of them at once."""

import asyncio
from array import array
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ingestd.core.errors import SinkUnavailable
from ingestd.core.object_keys import DataObjectName, ObjectMetadata
from ingestd.sinks.base import Sink
from ingestd.sinks.retry import SinkRetrier
from ingestd.verify.chains import Audit
from ingestd.verify.contents import ContentError, check_rejected, check_rows

HELD_BYTES = 64 << 20  # of bodies, as they are stored; a larger one is read alone


class BodyVerifier:
    """Bodies are fetched whole, and unpacked in a thread, line by line."""

    def __init__(self, sink: Sink, guard: SinkRetrier, audit: Audit, patience: float) -> None:
        """`patience` is how many seconds one body may take."""
        self._sink = sink
        self._guard = guard
        self._audit = audit
        self._patience = patience
        self._held = 0
        self._room = asyncio.Condition()

    async def read(self, name: DataObjectName, landed: ObjectMetadata, size: int, quarantine: str | None) -> None:
        """Compare an object, and the quarantine object that belongs to it, with its metadata."""
        rejected: array[int] | None = None if landed.rejected else array("q")
        if quarantine is not None and landed.quarantine is not None:
            rejected = await self._read_rejected(name, landed, landed.quarantine, quarantine)
        async with self._holding(size):
            body = await self._body(name.key)
            if body is None:
                self._audit.content("deleted", name, name.key, "it is not there any more")
                return
            try:
                await asyncio.to_thread(check_rows, body, landed, rejected)
            except ContentError as error:
                self._audit.content("content", name, name.key, str(error))

    async def _read_rejected(
        self, name: DataObjectName, landed: ObjectMetadata, digest: str, key: str
    ) -> "array[int] | None":
        info = await self._guard.call_briefly(self._sink.head, key, patience_s=self._patience)
        async with self._holding(info.size if info is not None else 0):
            body = await self._body(key)
            if body is None:
                self._audit.content("quarantine_missing", name, key, "it is not there any more")
                return None
            try:
                return await asyncio.to_thread(check_rejected, body, landed, digest)
            except ContentError as error:
                self._audit.content("quarantine_content", name, key, str(error))
                return None

    async def _body(self, key: str) -> bytes | None:
        """None where there is no such object."""

        async def get() -> bytes | None:
            try:
                return await self._sink.get(key)
            except SinkUnavailable:
                if await self._sink.head(key) is None:
                    return None
                raise

        return await self._guard.call_briefly(get, patience_s=self._patience)

    @asynccontextmanager
    async def _holding(self, size: int) -> AsyncIterator[None]:
        """Wait until there is room for a body of `size` bytes, or until there is no other."""
        async with self._room:
            await self._room.wait_for(lambda: not self._held or self._held + size <= HELD_BYTES)
            self._held += size
        try:
            yield
        finally:
            async with self._room:
                self._held -= size
                self._room.notify_all()
