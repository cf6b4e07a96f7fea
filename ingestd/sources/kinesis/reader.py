"""Reads one shard from a position on, ahead of the pipeline and within the budget of all shards."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ingestd.core.errors import SourceError
from ingestd.core.records import EpochRecords
from ingestd.sources.kinesis.aggregates import check_room, split_page, split_record
from ingestd.sources.kinesis.budget import PrefetchBudget
from ingestd.sources.kinesis.connection import READ_SPACING_S, Connection
from ingestd.sources.kinesis.continuity import MIN_RETENTION_MS, CaughtUp, Place, Verdict, judge
from ingestd.sources.kinesis.look import look
from ingestd.sources.kinesis.port import IteratorExpired, KinesisRecord, NumberUnknown, Page, Shard

log = logging.getLogger(__name__)

READ_BYTES_PER_S = 2 << 20  # AWS allows so many of a shard to all consumers together
WRITE_BYTES_PER_S = 1 << 20  # and takes so many
ANSWER_BYTES = 10 << 20  # the most that one read brings
RECORD_BYTES = 200  # of memory for each record beside its value


class ReadOptions(NamedTuple):
    """What the readers of all shards share."""

    poll_interval: float
    max_records: int
    skip_lost: bool


class _Gone(Exception):
    """The log does not continue what was read."""


class ShardReader:
    """`on_ready` is called when a page, the end, a loss or a failure can be taken."""

    def __init__(
        self,
        shard: Shard,
        connection: Connection,
        budget: PrefetchBudget,
        options: ReadOptions,
        on_ready: Callable[[], None],
    ) -> None:
        self.shard = shard
        self.created = connection.created  # the stream of which records are handed out
        self.landed: int | None = None  # as last committed
        self.behind_ms: int | None = None  # of what was handed out
        self.caught_up: CaughtUp | None = None
        self.last_ms: int | None = None  # when the last record that was read had arrived
        self.read_ms = 0  # at this time the log still had it, or one before it
        self.ended_at: int | None = None  # the position at the end of the shard, once it was read
        self.is_gone = False  # the log does not continue what was read
        self.failure: SourceError | None = None
        self._connection = connection
        self._budget = budget
        self._options = options
        self._on_ready = on_ready
        self._pages: deque[tuple[EpochRecords, int, int]] = deque()  # with its bytes, and how far it is behind
        self._position = 0  # of the next record to be read
        self._verified = False  # nothing can be missing below the next record to be read
        self._arrived_ms = 0  # of the last record before that one: those behind it arrived later; 0 without one
        self._task: asyncio.Task[None] | None = None

    def seek(self, position: int, place: Place, proof: CaughtUp | None) -> None:
        """Read from `position` on, beginning at `place`. `proof` is the last time at which the log was seen empty."""
        self.pause()
        self._position = position
        self.caught_up = proof
        self._arrived_ms = 0
        self._verified = self._is_proven()
        self._task = asyncio.create_task(self._run(place), name=f"read {self.shard.id}")

    def pause(self) -> None:
        """Read no more, and forget what was not handed out."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        self._budget.change(-sum(size for _, size, _ in self._pages))
        self._pages.clear()
        self.ended_at, self.is_gone = None, False

    @property
    def has_page(self) -> bool:
        return bool(self._pages)

    def take(self) -> tuple[EpochRecords, int]:
        """The next page. Its bytes stay in the budget until the caller gives them back."""
        records, size, self.behind_ms = self._pages.popleft()
        return records, size

    @property
    def is_at_end(self) -> bool:
        """Whether the shard is closed and all of it was handed out."""
        return self.ended_at is not None and not self._pages

    def proof(self) -> CaughtUp | None:
        """The last time at which the log was seen empty, where all before that has landed."""
        is_current = self.created == self._connection.created
        if is_current and self.caught_up is not None and self.caught_up.position == self.landed:
            return self.caught_up
        return None

    def bind(self, created: str) -> None:
        """Hand out records of this stream, by its id, from the next seek on."""
        if created != self.created:
            self.created, self.caught_up, self.last_ms = created, None, None

    def lose(self) -> None:
        """The stream was deleted: what was not handed out is void."""
        self.pause()
        self.is_gone = True
        self._on_ready()

    # -- the task

    async def _run(self, place: Place) -> None:
        try:
            await self._read(place)
        except _Gone:
            self.is_gone = True
        except SourceError as error:
            self.failure = error
        self._on_ready()

    async def _read(self, place: Place) -> None:
        loop = asyncio.get_running_loop()
        iterator: str | None = None
        first_position, expected = self._position, ANSWER_BYTES
        while True:
            opens = iterator is None
            if iterator is None:
                # Where a record was read, that is where to go on, and it has to come again.
                again = Place(self._position - 1) if self._position > first_position else place
                iterator = await self._open(again)
            began, began_ms = loop.time(), self._connection.now_ms()
            try:
                page = await self._get(iterator, expected)
            except IteratorExpired:
                iterator = None
                self._verified = self._is_proven()
                await self._check_stream()
                continue
            if opens:
                self._verified = self._is_proven()  # if at all, by a proof, which may have grown old meanwhile
            elif self._verified and not self._is_fresh() and not await self._continues(page):
                iterator, self._verified = None, False
                continue
            self._add(page, began_ms)
            if page.next_iterator is None:
                self._end()
                return
            iterator = page.next_iterator
            pause = max(READ_SPACING_S, page.size / READ_BYTES_PER_S)
            if not page.behind_ms:
                pause = max(pause, self._options.poll_interval)
            expected = _expected_size(page, pause)
            await asyncio.sleep(max(0.0, began + pause - loop.time()))

    async def _open(self, place: Place) -> str:
        try:
            return await self._connection.iterator(self.shard.id, place.number, place.at_ms)
        except NumberUnknown as error:
            await self._check_stream()
            raise SourceError(
                f"{self.shard.id} does not know sequence number {place.number}, which was read from it: {error}",
                hint="the stream is not the one that was read: use a new sink.lineage to begin a new chain",
            ) from error

    async def _check_stream(self) -> None:
        """Raise where the stream was deleted and created again."""
        await self._connection.describe()
        if self._connection.created != self.created:
            raise _Gone

    async def _get(self, iterator: str, expected: int) -> Page:
        """One read; the bytes of its page stay in the budget."""
        await self._budget.reserve(expected)
        kept, times_gone = 0, self._connection.times_gone
        try:
            page = await self._connection.get_records(iterator, self._options.max_records)
            if self._connection.times_gone != times_gone:
                await self._check_stream()  # the iterator may be good for another stream of this name, too
            kept = page.size
            return page
        finally:
            self._budget.change(kept - expected)

    def _add(self, page: Page, began_ms: int) -> None:
        records = page.records
        if records:
            last_ms = records[-1].timestamp
            self.last_ms = last_ms if self.last_ms is None else max(self.last_ms, last_ms)
            self.read_ms = began_ms
            size = 0
            try:
                if records := self._wanted(records):
                    split = split_page(records, self.shard)
                    self._check_room(records, split)
                    size = page.size + RECORD_BYTES * len(split.records)
                    self._pages.append((split, size, page.behind_ms))
                    self._position = records[-1].offset + 1
                    self._arrived_ms = records[-1].timestamp
                    self._on_ready()
            finally:
                self._budget.change(size - page.size)
        elif not page.behind_ms and self._verified:
            self.caught_up = CaughtUp(self._position, began_ms, self._connection.retention.since(began_ms))
        if not self._pages:
            self.behind_ms = page.behind_ms

    def _wanted(self, records: Sequence[KinesisRecord]) -> Sequence[KinesisRecord]:
        """The records from the position on, once it is certain that none is missing."""
        for index, record in enumerate(records):
            first = split_record(record, self.shard)[0].offset if not self._verified else record.offset
            verdict = judge(self._position, record.offset, first)
            if verdict in {Verdict.PREVIOUS, Verdict.NEXT}:
                self._verified = True
            if verdict is Verdict.PREVIOUS:  # a page may have this record alone
                self._arrived_ms = record.timestamp
            if verdict is Verdict.LATER and not self._verified:
                raise _Gone
            if record.offset >= self._position:
                return records[index:] if index else records
        return []

    def _check_room(self, records: Sequence[KinesisRecord], split: EpochRecords) -> None:
        before, begin = self._position - 1, 0
        for record, end in zip(records, split.cuts or (), strict=False):
            check_room(before, record, end - begin)
            before, begin = record.offset, end

    def _end(self) -> None:
        if not self._verified:
            if not self._options.skip_lost:
                raise _Gone
            log.warning(
                "%s is closed, and retention has removed all of it; whether records behind position %d were read is "
                "not known, and kinesis.skip_lost says to go on",
                self.shard.id,
                self._position,
            )
        self.ended_at = self._position

    def _is_fresh(self) -> bool:
        """Whether retention cannot have reached what comes behind the last record that was read."""
        # When it was read the log still had it, and all behind it: a shorter retention of former days does not count.
        # It may have been shortened since the stream was described.
        shortest_ms = min(self._connection.retention.since(self.read_ms), MIN_RETENTION_MS)
        last = CaughtUp(self._position, self._arrived_ms, shortest_ms)
        return self._is_proven() or last.proves(self._position, self._connection.now_ms(), shortest_ms)

    def _is_proven(self) -> bool:
        return self.caught_up is not None and self._connection.holds(self.caught_up, self._position)

    async def _continues(self, page: Page) -> bool:
        """Whether retention has removed nothing between the last record that was read and a page that came later.

        Else the page is given up. This costs a read for each page, but is the only way on where each has one record.
        """
        continues = False
        try:
            await asyncio.sleep(READ_SPACING_S)
            has_last = await self._has_last_record()
            await asyncio.sleep(READ_SPACING_S)
            continues = has_last
        finally:
            if not continues:
                self._budget.change(-page.size)
        return continues

    async def _has_last_record(self) -> bool:
        """Whether the log still has the last record that was read: then it has all that come after it, too."""
        if not self._arrived_ms:
            return False
        try:
            found = await look(self._connection, self.shard.id, Place(self._position - 1))
        except NumberUnknown:
            return False  # opened anew, it tells why
        return found.record is not None and found.record.offset == self._position - 1


def _expected_size(page: Page, pause: float) -> int:
    """The bytes that the next read brings at most, as a rule: a shard takes no more in the time since the last one."""
    if page.behind_ms:
        return ANSWER_BYTES
    return min(ANSWER_BYTES, int(WRITE_BYTES_PER_S * pause))
