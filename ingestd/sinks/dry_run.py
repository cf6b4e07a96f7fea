"""A sink that writes nothing: it reports what would be written, and reads from another sink."""

from collections.abc import AsyncIterator, Callable, Mapping

from ingestd.core.stored import ObjectInfo, Stored
from ingestd.sinks.base import Sink
from ingestd.sinks.names import check_key, check_metadata

MAX_NAMES = 10_000


class DrySink:
    """Calls `would_write` with each object that `sink` does not have: its key, size in bytes and metadata.

    The latest `MAX_NAMES` of their keys count as taken from then on, and ``head`` answers for them. Bodies are dropped.
    """

    def __init__(self, sink: Sink, would_write: Callable[[ObjectInfo], None]) -> None:
        self._sink = sink
        self._would_write = would_write
        self._names: dict[str, ObjectInfo] = {}

    @property
    def url(self) -> str:
        return self._sink.url

    async def start(self) -> None:
        await self._sink.start()

    async def close(self) -> None:
        await self._sink.close()

    async def put_new(self, key: str, body: bytes, metadata: Mapping[str, str]) -> Stored:
        check_key(key)
        check_metadata(metadata)
        # Twice, because the key may be taken while the sink is asked.
        if key in self._names or await self._sink.head(key) is not None or key in self._names:
            return Stored.EXISTS
        info = ObjectInfo(key, len(body), dict(metadata))
        self._names[key] = info
        if len(self._names) > MAX_NAMES:
            del self._names[next(iter(self._names))]
        self._would_write(info)
        return Stored.CREATED

    async def replace(self, key: str, body: bytes, metadata: Mapping[str, str]) -> None:
        """Nothing: what a source tells other daemons is not theirs to hear of a run that writes nothing."""

    async def head(self, key: str) -> ObjectInfo | None:
        return self._names.get(key) or await self._sink.head(key)

    async def get(self, key: str, limit: int | None = None) -> bytes:
        return await self._sink.get(key, limit)

    async def folders(self, prefix: str) -> list[str]:
        return await self._sink.folders(prefix)

    def list(self, prefix: str) -> AsyncIterator[str]:
        return self._sink.list(prefix)

    def versions(self, prefix: str) -> AsyncIterator[tuple[str, str]]:
        return self._sink.versions(prefix)
