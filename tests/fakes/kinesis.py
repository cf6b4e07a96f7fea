"""A Kinesis data stream in memory: shards that split and merge, retention, limits, iterators that expire."""

import asyncio
import hashlib
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ingestd.sources.kinesis.port import (
    IteratorExpired,
    KinesisRecord,
    KinesisRefused,
    KinesisUnavailable,
    NumberUnknown,
    Page,
    PutEntry,
    Shard,
    Stream,
)

FIRST_NUMBER = 49_590_338_271_490_256_608_559_692_538_361_571_095_921_575_989_136_588_898
SPACING = 1 << 80  # of the numbers of neighbouring records
HASH_END = (1 << 128) - 1
ITERATOR_S = 300.0
READS_PER_S = 5
WALL_S = 1_700_000_000.0  # the time at which the loop's clock is 0
HOUR_MS = 3_600_000


@dataclass
class FakeShard:
    """One shard. `records` are those that retention has left."""

    id: str
    parents: tuple[str, ...]
    hash_start: int
    hash_end: int
    first: int  # no record has a lower number
    records: list[KinesisRecord] = field(default_factory=list)
    ending: int | None = None
    closed_ms: int = 0
    numbers: set[int] = field(default_factory=set)  # of all records that were put
    reads: list[float] = field(default_factory=list)  # the times of the last second's reads

    @property
    def number(self) -> int:
        return int(self.id.rpartition("-")[2])


class FakeKinesis:
    """The service with one stream. Its clock is the event loop's.

    `fails` is called before each call with the name of the operation and the shard or ""; what it raises is raised.
    `limits=False` allows any number of reads. `empty_pages` come before each page with records, as they do in AWS
    where the records of a shard lie far apart. `page_bytes` bounds a page. With `iterators_stay`, an iterator of a
    stream that was deleted reads the one that was created after it.
    """

    def __init__(
        self,
        shards: int = 1,
        *,
        name: str = "events",
        retention_h: int = 24,
        limits: bool = True,
        empty_pages: int = 0,
        page_bytes: int = 10 << 20,
        iterators_stay: bool = False,
    ) -> None:
        self.name = name
        self.retention_h = retention_h
        self.limits = limits
        self.empty_pages = empty_pages
        self.page_bytes = page_bytes
        self.iterators_stay = iterators_stay
        self.exists = True
        self.fails: Callable[[str, str], None] = lambda _operation, _shard: None
        self.throttled: list[str] = []  # the shards of reads that were refused
        self.calls: list[tuple[str, str]] = []
        self._next_number = FIRST_NUMBER
        self._iterators: dict[str, tuple[str, int, float, int]] = {}
        self._made = 0
        self.created_ms = 0
        self.shards: dict[str, FakeShard] = {}
        self.create(shards)

    # -- what tests do to the stream

    def create(self, shards: int = 1) -> None:
        """Create the stream, after deleting it where it is there."""
        self.created_ms = max(self.now_ms(), self.created_ms + 1000)
        self.shards, self.exists = {}, True
        if not self.iterators_stay:
            self._iterators = {}
        for number in range(shards):
            start, end = (HASH_END + 1) * number // shards, (HASH_END + 1) * (number + 1) // shards - 1
            self._add((), start, end)

    def put(
        self, value: bytes, *, shard: int | None = None, key: str = "k", arrived_ms: int | None = None
    ) -> KinesisRecord:
        """Put one record into the shard of a number, or that of its key."""
        self.trim()
        home = self.shard(shard) if shard is not None else self._home(int(hashlib.md5(key.encode()).hexdigest(), 16))  # noqa: S324
        assert home.ending is None, f"{home.id} is closed"
        now = self.now_ms() if arrived_ms is None else arrived_ms
        record = KinesisRecord(self._number(), value, now / 1000, key)
        home.records.append(record)
        home.numbers.add(record.offset)
        return record

    def split(self, number: int) -> tuple[int, int]:
        """Split a shard at its middle; the numbers of its children."""
        parent = self.shard(number)
        middle = (parent.hash_start + parent.hash_end) // 2
        self._close(parent)
        one = self._add((parent.id,), parent.hash_start, middle)
        return one.number, self._add((parent.id,), middle + 1, parent.hash_end).number

    def merge(self, one: int, other: int) -> int:
        """Merge two shards; the number of the child."""
        parents = self.shard(one), self.shard(other)
        for parent in parents:
            self._close(parent)
        start, end = min(it.hash_start for it in parents), max(it.hash_end for it in parents)
        return self._add((parents[0].id, parents[1].id), start, end).number

    def trim(self, before_ms: int | None = None) -> None:
        """Remove the records that arrived before a time, as retention does; by default those that are too old."""
        horizon = self.now_ms() - self.retention_h * HOUR_MS
        before_ms = max(horizon, before_ms or 0)
        for shard in list(self.shards.values()):
            while shard.records and shard.records[0].timestamp < before_ms:
                del shard.records[0]
            if shard.ending is not None and shard.closed_ms < horizon:
                del self.shards[shard.id]

    def shard(self, number: int) -> FakeShard:
        return self.shards[f"shardId-{number:012}"]

    @property
    def open_shards(self) -> list[int]:
        return [shard.number for shard in self.shards.values() if shard.ending is None]

    def now_ms(self) -> int:
        return round((WALL_S + _loop_time()) * 1000)

    def _number(self) -> int:
        self._next_number += SPACING
        return self._next_number

    def _home(self, at: int) -> FakeShard:
        return next(it for it in self.shards.values() if it.ending is None and it.hash_start <= at <= it.hash_end)

    def _add(self, parents: tuple[str, ...], start: int, end: int) -> FakeShard:
        number = max((it.number for it in self.shards.values()), default=-1) + 1
        shard = FakeShard(f"shardId-{number:012}", parents, start, end, self._number())
        self.shards[shard.id] = shard
        return shard

    def _close(self, shard: FakeShard) -> None:
        assert shard.ending is None
        shard.ending, shard.closed_ms = self._number(), self.now_ms()

    # -- what clients call

    def called(self, operation: str, shard: str = "") -> None:
        self.calls.append((operation, shard))
        self.trim()
        self.fails(operation, shard)
        if not self.exists or (shard and shard not in self.shards):
            raise KinesisRefused(f"no stream {self.name} or no shard {shard}", code="ResourceNotFoundException")

    def listed(self) -> list[Shard]:
        return [
            Shard(it.id, it.parents, it.hash_start, it.hash_end, it.ending is not None, it.ending)
            for it in self.shards.values()
        ]

    def iterator_at(self, shard: FakeShard, number: int, empty_pages: int | None = None) -> str:
        self._made += 1
        left = self.empty_pages if empty_pages is None else empty_pages
        self._iterators[f"i{self._made}"] = (shard.id, number, _loop_time(), left)
        return f"i{self._made}"

    def read(self, iterator: str, limit: int) -> Page:
        if iterator not in self._iterators:
            raise IteratorExpired("the stream was created again", code="ExpiredIteratorException")
        shard_id, number, made_at, empty_pages = self._iterators[iterator]
        self.called("GetRecords", shard_id)
        if _loop_time() - made_at > ITERATOR_S:
            raise IteratorExpired("Iterator expired", code="ExpiredIteratorException")
        shard = self.shards[shard_id]
        self._count_read(shard)
        first = bisect_left(shard.records, number, key=lambda record: record.offset)
        if first < len(shard.records) and empty_pages:
            behind = self.now_ms() - shard.records[first].timestamp
            return Page([], self.iterator_at(shard, number, empty_pages - 1), max(behind, 1), 0)
        taken: list[KinesisRecord] = []
        size = 0
        for record in shard.records[first : first + limit]:
            if taken and size + len(record.value) > self.page_bytes:
                break
            taken.append(record)
            size += len(record.value)
        rest = shard.records[first + len(taken) :]
        behind = max(self.now_ms() - rest[0].timestamp, 1) if rest else 0
        ended = not rest and shard.ending is not None
        after = taken[-1].offset + 1 if taken else number
        copies = [KinesisRecord(it.offset, it.value, it.arrival, it.partition_key) for it in taken]
        return Page(copies, None if ended else self.iterator_at(shard, after), behind, size)

    def _count_read(self, shard: FakeShard) -> None:
        if not self.limits:
            return
        now = _loop_time()
        shard.reads = [at for at in shard.reads if at > now - 1]
        if len(shard.reads) >= READS_PER_S:
            self.throttled.append(shard.id)
            raise KinesisUnavailable("Rate exceeded", code="ProvisionedThroughputExceededException")
        shard.reads.append(now)


class FakeKinesisClient:
    """A client of `FakeKinesis`. A call takes `latency` seconds: half before the service does it, half after."""

    def __init__(self, service: FakeKinesis, *, latency: Callable[[], float] = lambda: 0.0) -> None:
        self.service = service
        self.closed = False
        self._latency = latency

    async def describe(self) -> Stream:
        await self._way()
        self.service.called("DescribeStreamSummary")
        await self._way()
        service = self.service
        arn = f"arn:aws:kinesis:eu-central-1:000000000000:stream/{service.name}"
        return Stream(arn, service.created_ms, int(service.retention_h * HOUR_MS), service.now_ms())

    async def list_shards(self) -> Sequence[Shard]:
        await self._way()
        self.service.called("ListShards")
        found = self.service.listed()
        await self._way()
        return found

    async def iterator(self, shard: str, *, number: int | None = None, at_ms: int | None = None) -> str:
        await self._way()
        self.service.called("GetShardIterator", shard)
        home = self.service.shards[shard]
        if number is not None and number not in home.numbers:
            raise NumberUnknown("it did not come from this stream", code="InvalidArgumentException")
        if at_ms is not None:
            assert at_ms <= self.service.now_ms(), "AWS refuses a time in the future"
            later = [record.offset for record in home.records if record.timestamp >= at_ms]
            number = later[0] if later else (home.records[-1].offset + 1 if home.records else 0)
        made = self.service.iterator_at(home, number or 0)
        await self._way()
        return made

    async def get_records(self, iterator: str, limit: int) -> Page:
        await self._way()
        page = self.service.read(iterator, limit)
        await self._way()
        return page

    async def put_records(self, entries: Sequence[PutEntry]) -> Sequence[str | None]:
        await self._way()
        self.service.called("PutRecords")
        for entry in entries:
            self.service.put(entry.value, key=entry.partition_key)
        await self._way()
        return [None] * len(entries)

    async def close(self) -> None:
        self.closed = True

    async def _way(self) -> None:
        await asyncio.sleep(self._latency() / 2)


def _loop_time() -> float:
    return asyncio.get_running_loop().time()


class MemoryState:
    """A ``StateStore`` in memory, which several sources may share."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self._writes: dict[str, int] = {}

    async def create(self, name: str, body: bytes) -> bytes:
        if name not in self.objects:
            await self.replace(name, body)
        return self.objects[name]

    async def read(self, name: str) -> bytes | None:
        return self.objects.get(name)

    async def replace(self, name: str, body: bytes) -> None:
        self.objects[name] = body
        self._writes[name] = self._writes.get(name, 0) + 1

    async def versions(self, prefix: str) -> dict[str, str]:
        return {name: str(count) for name, count in self._writes.items() if name.startswith(prefix)}
