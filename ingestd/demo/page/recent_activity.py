"""The last events, rejected records and objects of a run, observed at the validator and the sink."""

import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import msgspec

from ingestd.core.errors import SinkUnavailable
from ingestd.core.landed_objects import read_landed
from ingestd.core.object_keys import ObjectKeys
from ingestd.core.queue_objects import is_fence
from ingestd.core.records import Record, TopicPartition
from ingestd.core.row_origin import RowOrigin, record_id
from ingestd.core.stored import ObjectInfo, Stored
from ingestd.core.validation import Rejected, Validated, Validator
from ingestd.core.values.base import ValueSource
from ingestd.sinks.base import Sink

MAX_EVENTS = 16
MAX_REJECTS = 6
MAX_AUDIENCE = 8  # events of the shop's visitors
MAX_VISITORS = 10_000  # that are counted
MAX_OBJECTS = 8
MAX_ROW_BYTES = 16 << 10  # longer rows are not shown
EXCERPT_BYTES = 120  # of a rejected value
OUTAGE_S = 20.0


class RecentEvent(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of a row that the page shows."""

    event_type: str
    client_id: str
    event_timestamp: str
    page_url: Any = None  # a custom event model may give these three other types
    campaign_id: Any = None
    duration_s: Any = None
    source_topic: str | None = None
    source_partition: int | None = None
    source_offset: int | str | None = None
    source_message_id: str | None = None


class RecentReject(msgspec.Struct, frozen=True, kw_only=True):
    """A rejected record."""

    reason: str
    message: str
    excerpt: str
    record: str  # which one it is


class LandedObject(msgspec.Struct, frozen=True, kw_only=True):
    """An object that this run created. `rows` counts its lines."""

    key: str
    quarantine: bool
    rows: int


class RecentAudience:
    """Keeps the last events of the shop's visitors, and counts them."""

    def __init__(self) -> None:
        self._rows: deque[RecentEvent] = deque(maxlen=MAX_AUDIENCE)
        self.visitors: set[str] = set()  # at most MAX_VISITORS
        self.count = 0

    def record_rows(self, rows: Sequence[RecentEvent]) -> None:
        """Records rows, the oldest first."""
        self._rows.extend(rows)
        self.count += len(rows)
        for row in rows:
            if len(self.visitors) < MAX_VISITORS:
                self.visitors.add(row.client_id)

    @property
    def events(self) -> list[RecentEvent]:
        """Newest first."""
        return list(reversed(self._rows))


class RecentActivity:
    """Keeps the last events, rejected records and objects. Visitors' events are those of the topic `shop`."""

    def __init__(self, shop: str | None = None) -> None:
        self._shop = shop
        self.audience = RecentAudience()
        self._rows: deque[bytes] = deque(maxlen=MAX_EVENTS)
        self._rejects: deque[RecentReject] = deque(maxlen=MAX_REJECTS)
        self._objects: deque[LandedObject] = deque(maxlen=MAX_OBJECTS)
        self._decoder = msgspec.json.Decoder(RecentEvent)

    def record_chunk(self, partition: TopicPartition, validated: Validated) -> None:
        """Records the rows and rejected records of a chunk."""
        rows = validated.rows.rsplit(b"\n", MAX_EVENTS + 1)[-MAX_EVENTS - 1 : -1]
        self._rows.extend(row for row in rows if len(row) <= MAX_ROW_BYTES)
        self._rejects.extend(_reject(partition, one) for one in validated.rejected[-MAX_REJECTS:])
        if partition.topic == self._shop:
            self.audience.record_rows([self._decoder.decode(row) for row in validated.rows.splitlines()])

    def record_object(self, key: str, metadata: Mapping[str, str], quarantine: bool) -> None:
        """Records an object that was created; not a fence, which has no records."""
        if is_fence(metadata):
            return
        landed = read_landed(ObjectInfo(key, 0, metadata))
        rows = 0 if landed is None else landed.rejected if quarantine else landed.rows
        self._objects.append(LandedObject(key=key, quarantine=quarantine, rows=rows))

    @property
    def events(self) -> list[RecentEvent]:
        """Newest first."""
        return [self._decoder.decode(row) for row in reversed(self._rows)]

    @property
    def rejects(self) -> list[RecentReject]:
        """Newest first."""
        return list(reversed(self._rejects))

    @property
    def objects(self) -> list[LandedObject]:
        """Newest first."""
        return list(reversed(self._objects))


class ObservedValidator:
    """A validator that records the results of another."""

    def __init__(self, validator: Validator, activity: RecentActivity) -> None:
        self._validator = validator
        self._activity = activity

    @property
    def origin(self) -> RowOrigin:
        return self._validator.origin

    @property
    def values(self) -> ValueSource | None:
        return self._validator.values

    def chunk(self, partition: TopicPartition, records: Sequence[Record]) -> Validated:
        validated = self._validator.chunk(partition, records)
        self._activity.record_chunk(partition, validated)
        return validated


class SimulatedOutage:
    """Makes the store unavailable for a while, on request."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until = 0.0

    def begin(self, seconds: float = OUTAGE_S) -> None:
        self._until = self._clock() + seconds

    @property
    def left(self) -> float:
        """Seconds until the outage ends; 0 without one."""
        return max(0.0, self._until - self._clock())

    def check(self) -> None:
        """Raises ``SinkUnavailable`` during an outage."""
        if left := self.left:
            raise SinkUnavailable(f"the demo simulates an outage for {left:.0f} s more", code="DemoOutage")


class ObservedSink:
    """A sink that records the objects it creates, and fails during a simulated outage."""

    def __init__(self, sink: Sink, layout: ObjectKeys, activity: RecentActivity, outage: SimulatedOutage) -> None:
        self._sink = sink
        self._layout = layout
        self._activity = activity
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
            self._activity.record_object(key, metadata, key.startswith(self._layout.quarantine))
        return stored

    async def replace(self, key: str, body: bytes, metadata: Mapping[str, str]) -> None:
        self._outage.check()
        await self._sink.replace(key, body, metadata)

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

    async def versions(self, prefix: str) -> AsyncIterator[tuple[str, str]]:
        self._outage.check()
        async for found in self._sink.versions(prefix):
            yield found


def _reject(partition: TopicPartition, rejected: Rejected) -> RecentReject:
    value = rejected.record.value or b""
    return RecentReject(
        reason=rejected.reason,
        message=rejected.message,
        excerpt=value[:EXCERPT_BYTES].decode(errors="replace"),
        record=record_id(partition, rejected.record),
    )
