"""Keeps a source's state in the sink: small objects that the daemons of one lineage share.

What is written once is below ``.ingestd/``, and the heartbeats, which alone are written again, below ``.members/``: so
a bucket's policy can deny every other overwrite. Each body has a line of its own in front, which differs with every
write: some stores tell versions by contents.
"""

import uuid
from collections.abc import Mapping
from typing import Protocol

from ingestd.core.errors import SinkForbidden
from ingestd.core.gzip import compress, decompress
from ingestd.core.stored import Stored
from ingestd.sinks.base import Sink
from ingestd.sinks.retry import SinkRetrier

MAX_BODY_BYTES = 1 << 20
MAX_NAMES = 100_000  # of one listing: each shard that ever was has a few
MEMBERS = "members/"  # what the names of heartbeats begin with
_SUFFIX = ".gz"
_METADATA = {"purpose": "state of a source"}


class StateKeys(Protocol):
    """Where the objects are."""

    @property
    def exactly_once(self) -> bool: ...
    def state_folder(self, source: str) -> str: ...
    def members_folder(self, source: str) -> str: ...


class SinkStateStore:
    """The state of one kind of source in one lineage. Calls are repeated until they are answered or cancelled."""

    def __init__(self, sink: Sink, retrier: SinkRetrier, keys: StateKeys, source: str) -> None:
        self._sink = sink
        self._retrier = retrier
        self._folder = keys.state_folder(source)
        self._members = keys.members_folder(source)
        self._conditional = keys.exactly_once  # the sink creates an object only where its name is free

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
        """Write the object, whether it is there or not. Its name begins with "members/"."""
        if not name.startswith(MEMBERS):
            raise ValueError(f"{name!r} is written once: only names that begin with {MEMBERS!r} are written again")
        await self._retrier.call(self._sink.replace, self._key(name), _wrapped(body), _METADATA)

    async def versions(self, prefix: str) -> Mapping[str, str]:
        """The names that begin with `prefix`, each with a text that changes with every write of it.

        Names that begin with "members/" are found by such a prefix only.
        """
        root = self._path(prefix)

        async def versions() -> dict[str, str]:
            found: dict[str, str] = {}
            async for key, version in self._sink.versions(root):
                if key.endswith(_SUFFIX):
                    found[prefix + key.removeprefix(root).removesuffix(_SUFFIX)] = version
                if len(found) > MAX_NAMES:
                    raise SinkForbidden(
                        f"there are more than {MAX_NAMES} objects whose names begin with {root}",
                        code="TooManyObjects",
                        hint="delete those of shards and daemons that are long gone",
                    )
            return found

        return await self._retrier.call(versions)

    def _key(self, name: str) -> str:
        return f"{self._path(name)}{_SUFFIX}"

    def _path(self, name: str) -> str:
        if name.startswith(MEMBERS):
            return self._members + name.removeprefix(MEMBERS)
        return self._folder + name

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
