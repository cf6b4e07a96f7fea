"""What the page sees of the flow: the last events, the last rejects, the last objects."""

import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import msgspec

from ingestd.config.model import EventsConfig
from ingestd.core.errors import SinkUnavailable
from ingestd.core.events import Model
from ingestd.core.object_keys import ObjectKeys, ObjectMetadata
from ingestd.core.records import Record, TopicPartition
from ingestd.core.stored import ObjectInfo, Stored
from ingestd.core.validation import Rejected, Validated, Validator
from ingestd.sinks.base import Sink

MAX_EVENTS = 16
MAX_REJECTS = 6
MAX_OBJECTS = 8
MAX_ROW = 16 << 10  # bytes; what is longer is not shown
EXCERPT = 120  # bytes of a rejected value
OUTAGE_SECONDS = 20.0


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Of a row, what is shown."""

    event_type: str
    client_id: str
    event_timestamp: str
    page_url: Any = None  # a user's model may have its own types for these
    campaign_id: Any = None
    duration_s: Any = None
    source_partition: int
    source_offset: int


class Reject(msgspec.Struct, frozen=True, kw_only=True):
    """A record that made no row."""

    reason: str
    message: str
    excerpt: str
    partition: int
    offset: int


class LandedObject(msgspec.Struct, frozen=True, kw_only=True):
    """An object that was created. `rows` are lines; `at` is in seconds since the epoch."""

    key: str
    quarantine: bool
    rows: int
    bytes: int
    at: float


class RecentActivity:
    """Remembers the last of everything."""

    def __init__(self) -> None:
        self._rows: deque[bytes] = deque(maxlen=MAX_EVENTS)
        self._rejects: deque[Reject] = deque(maxlen=MAX_REJECTS)
        self._objects: deque[LandedObject] = deque(maxlen=MAX_OBJECTS)
        self._decoder = msgspec.json.Decoder(Event)

    def saw(self, partition: TopicPartition, validated: Validated) -> None:
        """A chunk was validated."""
        rows = validated.rows.rsplit(b"\n", MAX_EVENTS + 1)[-MAX_EVENTS - 1 : -1]
        self._rows.extend(row for row in rows if len(row) <= MAX_ROW)
        self._rejects.extend(_reject(partition, one) for one in validated.rejected[-MAX_REJECTS:])

    def created(self, key: str, body: bytes, metadata: Mapping[str, str], quarantine: bool) -> None:
        """An object was created."""
        landed = ObjectMetadata.from_metadata(metadata)
        rows = 0 if landed is None else landed.rejected if quarantine else landed.rows
        self._objects.append(LandedObject(key=key, quarantine=quarantine, rows=rows, bytes=len(body), at=time.time()))

    @property
    def events(self) -> list[Event]:
        """Newest first."""
        return [self._decoder.decode(row) for row in reversed(self._rows)]

    @property
    def rejects(self) -> list[Reject]:
        """Newest first."""
        return list(reversed(self._rejects))

    @property
    def objects(self) -> list[LandedObject]:
        """Newest first."""
        return list(reversed(self._objects))


class ObservedValidator(Validator):
    """A validator that lets a tap see what it has found."""

    def __init__(self, config: EventsConfig, model: Model, tap: RecentActivity) -> None:
        super().__init__(config, model)
        self._tap = tap

    def chunk(self, partition: TopicPartition, records: Sequence[Record]) -> Validated:
        validated = super().chunk(partition, records)
        self._tap.saw(partition, validated)
        return validated


class Outage:
    """A store that is gone for a while, on request."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until = 0.0

    def begin(self, seconds: float = OUTAGE_SECONDS) -> None:
        self._until = self._clock() + seconds

    @property
    def left(self) -> float:
        """Seconds."""
        return max(0.0, self._until - self._clock())

    def check(self) -> None:
        """SinkUnavailable while it lasts."""
        if left := self.left:
            raise SinkUnavailable(f"the demo has cut off the store, for {left:.0f} s more", code="DemoOutage")


class ObservedSink:
    """A sink that lets a tap see what was created, and that has outages."""

    def __init__(self, sink: Sink, layout: ObjectKeys, tap: RecentActivity, outage: Outage) -> None:
        self._sink = sink
        self._layout = layout
        self._tap = tap
        self._outage = outage

    @property
    def url(self) -> str:
        return self._sink.url

    async def start(self) -> None:
        await self._sink.start()

    async def close(self) -> None:
        await self._sink.close()

    async def put_new(self, key: str, body: bytes, metadata: Mapping[str, str]) -> Stored:
        self._outage.check()
        stored = await self._sink.put_new(key, body, metadata)
        if stored is Stored.CREATED and key.startswith((self._layout.events, self._layout.quarantine)):
            self._tap.created(key, body, metadata, key.startswith(self._layout.quarantine))
        return stored

    async def head(self, key: str) -> ObjectInfo | None:
        self._outage.check()
        return await self._sink.head(key)

    async def get(self, key: str, limit: int | None = None) -> bytes:
        self._outage.check()
        return await self._sink.get(key, limit)

    async def folders(self, prefix: str) -> list[str]:
        self._outage.check()
        return await self._sink.folders(prefix)

    async def list(self, prefix: str) -> AsyncIterator[str]:
        self._outage.check()
        async for key in self._sink.list(prefix):
            yield key


def _reject(partition: TopicPartition, rejected: Rejected) -> Reject:
    value = rejected.record.value or b""
    return Reject(
        reason=rejected.reason,
        message=rejected.message,
        excerpt=value[:EXCERPT].decode(errors="replace"),
        partition=partition.partition,
        offset=rejected.record.offset,
    )
