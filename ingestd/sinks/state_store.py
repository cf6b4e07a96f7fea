"""Keeps a source's state in the sink: small objects below ``.ingestd/`` that the daemons of one lineage share.

Each body has a line of its own in front, which differs with every write: some stores tell versions by contents.
"""

import uuid
from collections.abc import Mapping

from ingestd.core.errors import SinkForbidden
from ingestd.core.gzip import compress, decompress
from ingestd.core.stored import Stored
from ingestd.sinks.base import Sink
from ingestd.sinks.retry import SinkRetrier

MAX_BODY_BYTES = 1 << 20
MAX_NAMES = 100_000  # of one listing: each shard that ever was has a few
_SUFFIX = ".gz"
_METADATA = {"purpose": "state of a source"}


class SinkStateStore:
    """The objects below one folder, which ends with "/". Calls are repeated until they are answered or cancelled."""

    def __init__(self, sink: Sink, retrier: SinkRetrier, folder: str, *, conditional: bool = True) -> None:
        """`conditional`: the sink creates an object only where its name is free."""
        self._sink = sink
        self._retrier = retrier
        self._folder = folder
        self._conditional = conditional

    async def create(self, name: str, body: bytes) -> bytes:
        """Create the object unless the name is taken; returns the body that the name has from now on."""
        key, content = self._key(name), _wrapped(body)

        async def create() -> bytes:
            if not self._conditional and await self._sink.head(key) is not None:
                return await self._read(key)
            if await self._sink.put_new(key, content, _METADATA) is Stored.CREATED:
                return body
            return await self._read(key)

        return await self._retrier.call(create)

    async def read(self, name: str) -> bytes | None:
        """The body of an object; None if there is none."""
        key = self._key(name)

        async def read() -> bytes | None:
            return await self._read(key) if await self._sink.head(key) is not None else None

        return await self._retrier.call(read)

    async def replace(self, name: str, body: bytes) -> None:
        """Write the object, whether it is there or not."""
        await self._retrier.call(self._sink.replace, self._key(name), _wrapped(body), _METADATA)

    async def versions(self, prefix: str) -> Mapping[str, str]:
        """The names that begin with `prefix`, each with a text that changes with every write of it."""
        root = self._folder + prefix

        async def versions() -> dict[str, str]:
            found: dict[str, str] = {}
            async for key, version in self._sink.versions(root):
                if key.endswith(_SUFFIX):
                    found[key.removeprefix(self._folder).removesuffix(_SUFFIX)] = version
                if len(found) > MAX_NAMES:
                    raise SinkForbidden(
                        f"there are more than {MAX_NAMES} objects whose names begin with {root}",
                        code="TooManyObjects",
                        hint="delete those of shards and daemons that are long gone",
                    )
            return found

        return await self._retrier.call(versions)

    def _key(self, name: str) -> str:
        return f"{self._folder}{name}{_SUFFIX}"

    async def _read(self, key: str) -> bytes:
        try:
            found = _unwrapped(await self._sink.get(key))
        except ValueError as error:
            raise SinkForbidden(
                f"{key} is not what ingestd has written there: {error}",
                code="NotState",
                hint="if another program writes below .ingestd/, stop it and delete this object",
            ) from error
        return found


def _wrapped(body: bytes) -> bytes:
    return compress(uuid.uuid4().hex.encode() + b"\n" + body).data


def _unwrapped(content: bytes) -> bytes:
    """ValueError if it is not what ``_wrapped`` makes."""
    found = b""
    for part in decompress(content):
        found += part
        if len(found) > MAX_BODY_BYTES:
            raise ValueError(f"it has more than {MAX_BODY_BYTES} bytes")
    _, separator, body = found.partition(b"\n")
    if not separator:
        raise ValueError("it has no first line")
    return body
