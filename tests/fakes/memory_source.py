"""A source whose log is in memory, for tests. It rebalances when a test tells it to."""

import asyncio
from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from operator import attrgetter

from ingestd.core.errors import SourceError
from ingestd.core.records import EpochEnd, EpochRecords, LogRange, PlainRecord, Position, TopicPartition
from ingestd.sources.base import Capabilities, Fetched, Listener, OpenTransaction
from tests.fakes.leader_epochs import LeaderEpochs


class MemoryLog:
    """The records and committed positions of one group, as a broker keeps them. It outlives the sources that read it.

    Offsets of a partition ascend and may have gaps. `commits` may be changed from outside, as another tool would.
    """

    def __init__(self, records: Mapping[TopicPartition, Sequence[PlainRecord]]) -> None:
        self.commits: dict[TopicPartition, Position] = {}
        self.stream_id = "1"
        self.transactions: dict[TopicPartition, OpenTransaction] = {}
        self._records = {partition: list(some) for partition, some in records.items()}
        self._starts = {partition: some[0].offset if some else 0 for partition, some in self._records.items()}
        self._ends = {partition: some[-1].offset + 1 if some else 0 for partition, some in self._records.items()}
        self._epochs = {partition: _epochs(some) for partition, some in self._records.items()}
        self._changed: set[asyncio.Event] = set()

    @property
    def partitions(self) -> list[TopicPartition]:
        return list(self._records)

    def range(self, partition: TopicPartition) -> LogRange:
        return LogRange(self._starts[partition], self._ends[partition])

    def append(self, partition: TopicPartition, *records: PlainRecord) -> None:
        """Offsets go on from the end, with gaps if wished. Wakes whoever waits for records."""
        for record in records:
            end = self._ends[partition]
            if record.offset < end:
                raise ValueError(f"offset {record.offset} of {partition} is below the log's end {end}")
            self._records[partition].append(record)
            self._epochs[partition].append(end)
            self._ends[partition] = record.offset + 1
        for event in self._changed:
            event.set()

    def trim(self, partition: TopicPartition, start: int) -> None:
        """Remove the records before `start`, as retention does."""
        records = self._records[partition]
        del records[: bisect_left(records, start, key=attrgetter("offset"))]
        self._starts[partition] = start
        self._epochs[partition].trim(start)
        self._ends[partition] = max(self._ends[partition], start)

    def elect(self, partition: TopicPartition, end: int | None = None) -> None:
        """Elect another leader. Its log ends at `end`: later records are lost, as by an unclean election."""
        if end is not None:
            records = self._records[partition]
            del records[bisect_left(records, end, key=attrgetter("offset")) :]
            self._ends[partition] = end
        self._epochs[partition].elect(self._ends[partition])

    def epoch_end(self, partition: TopicPartition, epoch: int) -> EpochEnd:
        return self._epochs[partition].end(epoch, self._ends[partition])

    def create_again(self) -> None:
        """Delete the stream and create it again under its name, with as many partitions."""
        self.stream_id = str(int(self.stream_id) + 1)
        self._records = {partition: [] for partition in self._records}
        self._starts, self._ends = dict.fromkeys(self._records, 0), dict.fromkeys(self._records, 0)
        self._epochs = {partition: LeaderEpochs() for partition in self._records}
        self.commits.clear()

    def read(self, partition: TopicPartition, offset: int, count: int) -> EpochRecords:
        """At most `count` records of one epoch from `offset` on. ``SourceError`` where the log does not reach."""
        start, end = self.range(partition)
        if not start <= offset <= end:
            raise SourceError(f"offset {offset} of {partition} is outside of the log, which holds [{start}, {end})")
        records = self._records[partition]
        first = bisect_left(records, offset, key=attrgetter("offset"))
        if first == len(records):
            return EpochRecords([])
        epoch = self._epochs[partition].at(records[first].offset)
        return EpochRecords(
            [each for each in records[first : first + count] if self._epochs[partition].at(each.offset) == epoch], epoch
        )

    def watch(self, event: asyncio.Event) -> None:
        self._changed.add(event)

    def unwatch(self, event: asyncio.Event) -> None:
        self._changed.discard(event)


class MemorySource:
    """One member of the group. All partitions are assigned to it at start unless `assign` names others."""

    capabilities = Capabilities()
    revoke_timeout = 30.0

    def __init__(
        self,
        log: MemoryLog | Mapping[TopicPartition, Sequence[PlainRecord]],
        *,
        source_id: str = "memory",
        assign: Collection[TopicPartition] | None = None,
        max_records: int = 500,
        moment: float = 0.01,
    ) -> None:
        """`max_records` bounds one partition's records in a fetch; an empty fetch waits `moment` seconds."""
        self.log = log if isinstance(log, MemoryLog) else MemoryLog(log)
        self._source_id = source_id
        self._first = self.log.partitions if assign is None else list(assign)
        self._max_records = max_records
        self._moment = moment
        self._listener: Listener | None = None
        self._owned: set[TopicPartition] = set()
        self._next: dict[TopicPartition, int] = {}  # of partitions that are owned, sought and not paused
        self._epochs: dict[TopicPartition, int | None] = {}  # of the record before
        self._stream_ids: dict[TopicPartition, str] = {}
        self._rebalancing = False
        self._finished = False
        self._wake = asyncio.Event()

    @property
    def source_id(self) -> str:
        return self._source_id

    @property
    def error(self) -> str | None:
        return None

    @property
    def error_since(self) -> float | None:
        return None

    async def start(self, listener: Listener) -> None:
        self._listener = listener
        self.log.watch(self._wake)
        self.assign(self._first)

    async def stop(self) -> None:
        self.log.unwatch(self._wake)
        self._owned.clear()
        self._next.clear()

    def assign(self, partitions: Collection[TopicPartition]) -> None:
        """Assign these partitions, as a rebalance does."""
        self._owned |= set(partitions)
        self._started().on_assigned(partitions)

    async def revoke(self, partitions: Collection[TopicPartition]) -> None:
        """Revoke these partitions after the listener's `on_revoked`; nothing is fetched meanwhile."""
        self._rebalancing = True
        try:
            await self._started().on_revoked(partitions)
        finally:
            self._rebalancing = False
        self.lose(partitions)

    def _started(self) -> Listener:
        if self._listener is None:
            raise RuntimeError("start() comes first")
        return self._listener

    def lose(self, partitions: Collection[TopicPartition]) -> None:
        """Lose these partitions without a revocation, as after a session time-out: commits are refused."""
        for partition in partitions:
            self._owned.discard(partition)
            self._next.pop(partition, None)

    async def fetch(self) -> Fetched | None:
        if not self._finished:
            self._wake.clear()
            if fetched := self._take():
                return fetched
            with suppress(TimeoutError):
                async with asyncio.timeout(self._moment):
                    await self._wake.wait()
        return None if self._finished else self._take()

    def _take(self) -> Fetched:
        fetched: dict[TopicPartition, EpochRecords] = {}
        if self._rebalancing:
            return fetched
        for partition, offset in list(self._next.items()):
            start, end = self.log.range(partition)
            another = self._stream_ids.get(partition, self.log.stream_id) != self.log.stream_id
            if another or not start <= offset <= end or not self._follows(partition, offset):
                self.pause(partition)
                self._started().on_out_of_range(partition)
            elif (found := self.log.read(partition, offset, self._max_records)).records:
                fetched[partition] = found
        for partition, (records, epoch, _) in fetched.items():
            self._next[partition] = records[-1].offset + 1
            self._epochs[partition] = epoch
        return fetched

    def _follows(self, partition: TopicPartition, offset: int) -> bool:
        """Whether the log still has the record before `offset`."""
        epoch = self._epochs.get(partition)
        if epoch is None:
            return True
        found, end = self.log.epoch_end(partition, epoch)
        return found == epoch and end >= offset

    def finish(self) -> None:
        self._finished = True
        self._wake.set()

    def seek(self, partition: TopicPartition, offset: int, leader_epoch: int | None = None) -> None:
        if partition not in self._owned:
            raise SourceError(f"{partition} is not ours to seek")
        self._next[partition] = offset
        self._epochs[partition] = leader_epoch
        self._wake.set()

    def pause(self, partition: TopicPartition) -> None:
        self._next.pop(partition, None)

    async def stream_id(self, partition: TopicPartition) -> str:
        self._stream_ids[partition] = self.log.stream_id
        return self.log.stream_id

    async def committed(self, partition: TopicPartition) -> Position | None:
        return self.log.commits.get(partition)

    async def log_range(self, partition: TopicPartition) -> LogRange:
        return self.log.range(partition)

    async def epoch_end(self, partition: TopicPartition, leader_epoch: int) -> EpochEnd | None:
        return self.log.epoch_end(partition, leader_epoch)

    async def resolve_start(self, partition: TopicPartition) -> Position:
        return Position(self.log.range(partition).start)

    async def commit(self, partition: TopicPartition, position: Position) -> bool:
        if partition not in self._owned:
            return False
        self.log.commits[partition] = position
        return True

    async def rebuild(self) -> None:
        owned = list(self._owned)
        await self.revoke(owned)
        self.assign(owned)

    def end_offset(self, partition: TopicPartition) -> int | None:
        return self.log.range(partition).end

    def behind_s(self, partition: TopicPartition) -> float | None:
        return None

    def open_transaction(self, partition: TopicPartition) -> OpenTransaction | None:
        return self.log.transactions.get(partition)


def _epochs(records: Sequence[PlainRecord]) -> LeaderEpochs:
    epochs = LeaderEpochs()
    if records:
        epochs.append(records[0].offset)
    return epochs
