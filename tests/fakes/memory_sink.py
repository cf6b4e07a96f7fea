"""A sink in memory for tests: it keeps the same contract, fails on request, and records what it overwrote."""

import asyncio
import hashlib
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Mapping
from typing import NamedTuple

from ingestd.core.errors import SinkError, SinkUnavailable
from ingestd.core.stored import ObjectInfo, Stored
from ingestd.sinks.names import check_folder, check_key, check_metadata


class Call(NamedTuple):
    """One request as a fault rule sees it: the method's name, and its key or prefix."""

    operation: str
    key: str


class Fault(NamedTuple):
    """How a call fails: before it has any effect, or `applied` with its reply lost."""

    kind: type[SinkError] = SinkUnavailable
    code: str = "Fault"
    applied: bool = False

    def error(self) -> SinkError:
        return self.kind("the reply was lost" if self.applied else "the request was lost", code=self.code)


class MemorySink:
    """Objects in a dict. `conditional=False` makes it a store that ignores the create-only condition.

    Tests may read and change `objects`; `calls` counts by operation; `overwritten` keeps the bodies that an
    unconditional write replaced with other bytes.
    """

    def __init__(self, *, conditional: bool = True) -> None:
        self.conditional = conditional
        self.objects: dict[str, tuple[bytes, dict[str, str]]] = {}
        self.calls: Counter[str] = Counter()
        self.overwritten: dict[str, list[bytes]] = {}
        self._faults: deque[Fault] = deque()
        self._rule: Callable[[Call], Fault | None] | None = None

    @property
    def url(self) -> str:
        return "memory:///"

    def fail(self, calls: int = 1, *, applied: bool = False, kind: type[SinkError] = SinkUnavailable) -> None:
        """Make the next `calls` calls of any operation fail, after those that are to fail already."""
        self._faults.extend([Fault(kind, applied=applied)] * calls)

    def fail_when(self, rule: Callable[[Call], Fault | None] | None) -> None:
        """Let `rule` decide for each call that ``fail`` does not; None ends that."""
        self._rule = rule

    async def start(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def put_new(self, key: str, body: bytes, metadata: Mapping[str, str]) -> Stored:
        check_key(key)
        check_metadata(metadata)
        fault = await self._call("put_new", key)
        stored = self._apply(key, body, metadata)
        _lose_reply(fault)
        return stored

    async def replace(self, key: str, body: bytes, metadata: Mapping[str, str]) -> None:
        check_key(key)
        check_metadata(metadata)
        fault = await self._call("replace", key)
        self.objects[key] = (body, dict(metadata))
        _lose_reply(fault)

    async def head(self, key: str) -> ObjectInfo | None:
        check_key(key)
        _lose_reply(await self._call("head", key))
        if (found := self.objects.get(key)) is None:
            return None
        body, metadata = found
        return ObjectInfo(key, len(body), dict(metadata))

    async def get(self, key: str, limit: int | None = None) -> bytes:
        check_key(key)
        _lose_reply(await self._call("get", key))
        if (found := self.objects.get(key)) is None:
            raise SinkUnavailable(f"there is no {key}", code="NoSuchKey")
        return found[0][:limit]

    async def folders(self, prefix: str) -> list[str]:
        check_folder(prefix)
        _lose_reply(await self._call("folders", prefix))
        below = (key.removeprefix(prefix) for key in self.objects if key.startswith(prefix))
        return sorted({f"{prefix}{rest.partition('/')[0]}/" for rest in below if "/" in rest})

    async def list(self, prefix: str) -> AsyncIterator[str]:
        _lose_reply(await self._call("list", prefix))
        for key in sorted(self.objects):
            if key.startswith(prefix):
                yield key

    async def versions(self, prefix: str) -> AsyncIterator[tuple[str, str]]:
        _lose_reply(await self._call("versions", prefix))
        for key in sorted(self.objects):
            if key.startswith(prefix):
                yield key, hashlib.sha256(self.objects[key][0]).hexdigest()

    async def _call(self, operation: str, key: str) -> Fault | None:
        """Count the call and yield to other tasks, as a network would. Returns a fault that comes after the effect."""
        self.calls[operation] += 1
        fault: Fault | None = None
        if self._faults:
            fault = self._faults.popleft()
        elif self._rule is not None:
            fault = self._rule(Call(operation, key))
        await asyncio.sleep(0)
        if fault is not None and not fault.applied:
            raise fault.error()
        return fault

    def _apply(self, key: str, body: bytes, metadata: Mapping[str, str]) -> Stored:
        existing = self.objects.get(key)
        if existing is not None and self.conditional:
            return Stored.EXISTS
        if existing is not None and existing[0] != body:
            self.overwritten.setdefault(key, []).append(existing[0])
        self.objects[key] = (body, dict(metadata))
        return Stored.CREATED


def _lose_reply(fault: Fault | None) -> None:
    if fault is not None:
        raise fault.error()


class BrokenOffSink(MemorySink):
    """Breaks every listing off, each time a little later."""

    given = 0

    async def list(self, prefix: str) -> AsyncIterator[str]:
        self.given += 5
        left = self.given
        async for key in super().list(prefix):
            if not left:
                raise SinkUnavailable("the connection was lost", code="Fault")
            left -= 1
            yield key
