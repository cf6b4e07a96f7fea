"""Reads the bodies of objects and compares them with their metadata; bounds the memory for bodies."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from ingestd.core.errors import SinkUnavailable
from ingestd.core.object_keys import DataObjectName
from ingestd.core.object_metadata import ObjectMetadata
from ingestd.sinks.base import Sink
from ingestd.sinks.retry import SinkRetrier
from ingestd.verify.chains import ChainVerifier
from ingestd.verify.contents import ContentError, check_rejected, check_rows

MAX_BODIES_BYTES = 64 << 20  # compressed bodies in memory at once; a larger body is read alone


class BodyVerifier:
    """Fetches whole bodies and decompresses them in a thread, in chunks of lines."""

    def __init__(self, sink: Sink, retrier: SinkRetrier, chains: ChainVerifier, patience_s: float) -> None:
        """`patience_s` bounds the time for one body, retries included."""
        self._sink = sink
        self._retrier = retrier
        self._chains = chains
        self._wide = chains.layout.wide
        self._patience_s = patience_s
        self._reserved = 0
        self._freed = asyncio.Condition()

    async def verify(self, name: DataObjectName, metadata: ObjectMetadata, size: int, quarantine: str | None) -> None:
        """Compare an object, and the quarantine object (by its key) that belongs to it, with the metadata."""
        rejected: Sequence[int] | None = None if metadata.rejected else ()
        if quarantine is not None and metadata.quarantine is not None:
            rejected = await self._verify_quarantine(name, metadata, metadata.quarantine, quarantine)
        async with self._reserve(size):
            body = await self._get(name.key)
            if body is None:
                self._chains.add_content_problem("deleted", name, name.key, "it no longer exists")
                return
            try:
                await asyncio.to_thread(check_rows, body, metadata, rejected, wide=self._wide)
            except ContentError as error:
                self._chains.add_content_problem("content", name, name.key, str(error))

    async def _verify_quarantine(
        self, name: DataObjectName, metadata: ObjectMetadata, digest: str, key: str
    ) -> Sequence[int] | None:
        """The offsets of the rejected records; None where the quarantine object is missing or wrong."""
        info = await self._retrier.call_briefly(self._sink.head, key, patience_s=self._patience_s)
        async with self._reserve(info.size if info is not None else 0):
            body = await self._get(key)
            if body is None:
                self._chains.add_content_problem("quarantine_missing", name, key, "it no longer exists")
                return None
            try:
                return await asyncio.to_thread(check_rejected, body, metadata, digest, wide=self._wide)
            except ContentError as error:
                self._chains.add_content_problem("quarantine_content", name, key, str(error))
                return None

    async def _get(self, key: str) -> bytes | None:
        """An object's body; None where the object does not exist."""

        async def get() -> bytes | None:
            try:
                return await self._sink.get(key)
            except SinkUnavailable:
                if await self._sink.head(key) is None:
                    return None
                raise

        return await self._retrier.call_briefly(get, patience_s=self._patience_s)

    @asynccontextmanager
    async def _reserve(self, size: int) -> AsyncIterator[None]:
        """Wait until a body of `size` bytes fits into memory, or until it is the only one."""
        async with self._freed:
            await self._freed.wait_for(lambda: not self._reserved or self._reserved + size <= MAX_BODIES_BYTES)
            self._reserved += size
        try:
            yield
        finally:
            async with self._freed:
                self._reserved -= size
                self._freed.notify_all()
