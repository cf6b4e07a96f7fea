"""The port of a sink: write-once objects, each with a key, a body and a little metadata.

A sink knows nothing of batches, partitions or Kafka. To add one, implement this in a file of its own and name it in
``wiring._SINKS``.
"""

from collections.abc import AsyncIterator, Mapping
from typing import Protocol

from ingestd.core.stored import ObjectInfo, Stored


class Sink(Protocol):
    """A store of write-once objects. Keys are relative to the sink's root and use "/".

    Errors: ``SinkUnavailable`` (try again; a write may have been applied) and ``SinkForbidden`` (the same, but an
    operator must act first). Whatever a store answers, no other error is raised.
    """

    @property
    def url(self) -> str:
        """The root, for people and for the tag in commits: ``s3://bucket/prefix`` or ``file:///dir``."""
        ...

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def put_new(self, key: str, body: bytes, metadata: Mapping[str, str]) -> Stored:
        """Create the object unless the key is taken. It is durable when this returns CREATED.

        Body and metadata appear together or not at all. `body` is gzip.
        """
        ...

    async def replace(self, key: str, body: bytes, metadata: Mapping[str, str]) -> None:
        """Write the object, whether the key is taken or not: for a source's state alone.

        A reader sees the whole object before or the whole one after. A crash of the store may lose it. `body` is gzip.
        """
        ...

    async def head(self, key: str) -> ObjectInfo | None:
        """The object's metadata, or None if there is no such object. Read-after-write."""
        ...

    async def get(self, key: str, limit: int | None = None) -> bytes:
        """The object's body as it was stored, or its first `limit` bytes. ``SinkUnavailable`` where there is none."""
        ...

    async def folders(self, prefix: str) -> list[str]:
        """The distinct next path segments below `prefix` (which is "" or ends with "/"), each as prefix + "name/"."""
        ...

    def list(self, prefix: str) -> AsyncIterator[str]:
        """The keys that begin with `prefix`, at any depth, each folder's in code-point order. Read-after-write."""
        ...

    def versions(self, prefix: str) -> AsyncIterator[tuple[str, str]]:
        """The keys that ``list`` gives, each with a text that changes where the object gets other contents."""
        ...
