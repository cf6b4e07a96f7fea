"""What the daemons of a lineage know together about a stream: its starts, its ends, and who lives.

start/STREAM/CREATED/SHARD     where a shard without objects begins (create-only)
start/STREAM/CREATED/policy    the time that `kinesis.start` stands for (create-only)
done/STREAM/CREATED/SHARD      the shard is closed, and was read and landed to its end (create-only)
members/STREAM/MEMBER          the heartbeat of one daemon
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import TypeVar

import msgspec

from ingestd.core.errors import SourceError
from ingestd.sources.kinesis.continuity import MIN_RETENTION_MS, CaughtUp, Start, WasOpen
from ingestd.sources.kinesis.shards import shard_id
from ingestd.sources.state_store import StateStore

T = TypeVar("T")


class _StartBody(msgspec.Struct, frozen=True, omit_defaults=True):
    position: str  # text: longer than the integers of JSON's other readers
    seen_ms: int
    retention_ms: int
    number: str | None = None
    time_ms: int | None = None
    arrival_ms: int | None = None  # of the first record, for people
    closed: bool = False


class _PolicyBody(msgspec.Struct, frozen=True):
    time_ms: int


class _DoneBody(msgspec.Struct, frozen=True, omit_defaults=True):
    end: str
    open_ms: int | None = None  # the shard was open then: its children were made later; None where that is not known
    retention_ms: int = MIN_RETENTION_MS  # the shortest since then; former versions did not write it


class Heartbeat(msgspec.Struct, frozen=True):
    """What a daemon tells the others."""

    at_ms: int
    created: str  # the id of the stream
    left: bool = False
    # By shard: the position up to which all has landed, when, and the stream's shortest retention since then.
    caught_up: dict[str, tuple[str, int, int]] = {}

    def proofs(self) -> dict[int, CaughtUp]:
        return {int(shard): CaughtUp(int(position), *when) for shard, (position, *when) in self.caught_up.items()}


def heartbeat(at_ms: int, created: str, proofs: Mapping[int, CaughtUp], *, left: bool = False) -> Heartbeat:
    """The heartbeat that tells these proofs."""
    told = {str(shard): (str(it.position), it.at_ms, it.retention_ms) for shard, it in proofs.items()}
    return Heartbeat(at_ms, created, left, told)


class StreamState:
    """The objects of one stream; `created` tells it from a deleted one of the same name."""

    def __init__(self, store: StateStore, stream: str) -> None:
        self._store = store
        self._stream = stream

    async def pin_start(self, created: str, shard: int, start: Start, arrival_ms: int | None) -> Start:
        """Where the shard begins: `start`, unless another daemon has pinned it before."""
        number = None if start.number is None else str(start.number)
        body = _StartBody(
            str(start.position), start.seen_ms, start.retention_ms, number, start.time_ms, arrival_ms, start.closed
        )
        name = self._name("start", created, shard)
        return _start(await self._create(name, body))

    async def start(self, created: str, shard: int) -> Start | None:
        """Where the shard was pinned to begin; None where nobody has done so yet."""
        body = await self._read(self._name("start", created, shard), _StartBody)
        return None if body is None else _start(body)

    async def pin_policy(self, created: str, time_ms: int) -> int:
        """The time from which shards are read; `time_ms`, unless another daemon has pinned it before."""
        return (await self._create(f"start/{self._stream}/{created}/policy", _PolicyBody(time_ms))).time_ms

    async def mark_done(self, created: str, shard: int, end: int, was_open: WasOpen | None) -> None:
        """The shard has landed up to `end`, its last position. `was_open` is None where no such time is known."""
        body = _DoneBody(str(end)) if was_open is None else _DoneBody(str(end), *was_open)
        await self._create(self._name("done", created, shard), body)

    async def done(self, created: str) -> set[int]:
        """The shards that have landed to their ends."""
        prefix = f"done/{self._stream}/{created}/"
        names = [name.removeprefix(prefix) for name in await self._store.versions(prefix)]
        return {int(name.removeprefix("shardId-")) for name in names}

    async def was_open(self, created: str, shard: int) -> WasOpen | None:
        """When a shard that is done was still open; None where it is not done, or that is not known."""
        body = await self._read(self._name("done", created, shard), _DoneBody)
        return None if body is None or body.open_ms is None else WasOpen(body.open_ms, body.retention_ms)

    async def end(self, created: str, shard: int) -> int | None:
        """The end to which a shard has landed; None where it is not done."""
        body = await self._read(self._name("done", created, shard), _DoneBody)
        return None if body is None else int(body.end)

    # -- members

    async def beat(self, member: str, body: Heartbeat) -> None:
        await self._store.replace(f"members/{self._stream}/{member}", msgspec.json.encode(body))

    async def heard(self, member: str) -> Heartbeat | None:
        """The last heartbeat; None where it cannot be read: that of another version must not stop this daemon."""
        with suppress(SourceError):
            return await self._read(f"members/{self._stream}/{member}", Heartbeat)
        return None

    async def beats(self) -> dict[str, str]:
        """The members that ever were, each with a text that changes with every heartbeat."""
        prefix = f"members/{self._stream}/"
        return {name.removeprefix(prefix): text for name, text in (await self._store.versions(prefix)).items()}

    def _name(self, kind: str, created: str, shard: int) -> str:
        return f"{kind}/{self._stream}/{created}/{shard_id(shard)}"

    async def _create(self, name: str, body: T) -> T:
        return _decode(name, await self._store.create(name, msgspec.json.encode(body)), type(body))

    async def _read(self, name: str, kind: type[T]) -> T | None:
        body = await self._store.read(name)
        return None if body is None else _decode(name, body, kind)


class ReadOnlyState:
    """A ``StateStore`` that others do not notice: it reads what is in another, and keeps to itself what is written."""

    def __init__(self, store: StateStore | None) -> None:
        self._store = store
        self._own: dict[str, bytes] = {}

    async def create(self, name: str, body: bytes) -> bytes:
        found = await self.read(name)
        return self._own.setdefault(name, body) if found is None else found

    async def read(self, name: str) -> bytes | None:
        if name in self._own or self._store is None or name.startswith("members/"):
            return self._own.get(name)
        return await self._store.read(name)

    async def replace(self, name: str, body: bytes) -> None:
        self._own[name] = body

    async def versions(self, prefix: str) -> Mapping[str, str]:
        own = {name: "" for name in self._own if name.startswith(prefix)}
        if self._store is None or prefix.startswith("members/"):
            return own
        return {**await self._store.versions(prefix), **own}


def _start(body: _StartBody) -> Start:
    number = None if body.number is None else int(body.number)
    return Start(int(body.position), number, body.time_ms, body.seen_ms, body.retention_ms, body.closed)


def _decode(name: str, body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SourceError(
            f"the state {name} in the sink is not ingestd's: {error}",
            hint="restore the object from a version of it, or use a new sink.lineage",
        ) from None
