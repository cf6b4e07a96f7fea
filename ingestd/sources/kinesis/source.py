"""Kinesis as a source: the shards of one data stream, shared among the daemons of a lineage.

A shard is a partition. A position is a sequence number: all records with lower numbers were read. There are no commits:
how far a shard has landed is what the objects in the sink say.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

from ingestd.config.model import KinesisConfig
from ingestd.core.errors import SourceError
from ingestd.core.records import EpochEnd, EpochRecords, LogRange, Position, TopicPartition
from ingestd.sources.base import Capabilities, Fetched, Listener, OpenTransaction
from ingestd.sources.error_state import ErrorState
from ingestd.sources.kinesis.assignment import Assignment
from ingestd.sources.kinesis.budget import PrefetchBudget
from ingestd.sources.kinesis.client import AwsKinesisClient
from ingestd.sources.kinesis.connection import Connection
from ingestd.sources.kinesis.continuity import CaughtUp, place_of
from ingestd.sources.kinesis.log import ShardLogs
from ingestd.sources.kinesis.membership import Membership, default_member_id
from ingestd.sources.kinesis.port import KinesisClient, Shard
from ingestd.sources.kinesis.reader import ReadOptions, ShardReader
from ingestd.sources.kinesis.state import ReadOnlyState, StreamState
from ingestd.sources.state_store import StateStore

log = logging.getLogger(__name__)

POLL_S = 1.0
FETCH_BYTES = 4 << 20  # of all shards in one fetch, as a rule; a page is never divided
LEAVE_S = 10.0  # for the last heartbeat
STREAM_ID_AGE_S = 1.0  # shards that are assigned together ask for the stream's id once


class KinesisSource:
    """Reads the configured stream. The promises of `ingestd.sources.base.Source` hold; docstrings here add to them."""

    capabilities = Capabilities(replayable=True, has_commits=False, has_log_end=False, wide_positions=True)
    revoke_timeout = 30.0  # others do not wait for it: reading a shard twice does no harm

    def __init__(
        self,
        config: KinesisConfig,
        state: StateStore | None,
        lineage: str | None,
        *,
        read_only: bool = False,
        connect: Callable[[], KinesisClient] | None = None,
        wall_clock: Callable[[], float] = time.time,
        rng: random.Random | None = None,
    ) -> None:
        """`read_only`, and always without a `state`: reads all shards beside the others, who do not notice it."""
        self._config = config
        self._lineage = lineage
        store = ReadOnlyState(state) if read_only or state is None else state
        self._errors = ErrorState()
        self._budget = PrefetchBudget(config.prefetch_bytes)
        self._options = ReadOptions(config.poll_interval, config.max_records, config.skip_lost)
        self._connection = Connection(
            connect or partial(AwsKinesisClient, config),
            self._errors,
            wall_clock,
            rng or random.Random(),
            self._stream_gone,
        )
        shared = StreamState(store, config.stream)
        self._logs = ShardLogs(self._connection, shared, config.start, skip_lost=config.skip_lost)
        member_id = config.member_id or default_member_id()
        self._assignment = Assignment(
            config.stream,
            self._connection,
            shared,
            member_id,
            members=lambda: self._membership.members,
            new_reader=self._new_reader,
            done_interval_s=config.heartbeat_interval,
        )
        self._membership = Membership(
            shared,
            member_id,
            interval_s=config.heartbeat_interval,
            timeout_s=config.member_timeout,
            now_ms=self._connection.now_ms,
            created=lambda: self._connection.created,
            proofs=self._assignment.proofs,
            on_proofs=self._assignment.add_proofs,
            on_change=self._assignment.wake,
        )
        self._tasks: list[asyncio.Task[None]] = []
        self._ready: dict[int, None] = {}  # the shards that have something to take, in the order in which they wait
        self._wake = asyncio.Event()
        self._handed = 0  # bytes of the last fetch: they are in use until the next one
        self._failure: BaseException | None = None
        self._finished = False

    @property
    def source_id(self) -> str:
        """The stream's ARN."""
        return self._connection.arn

    @property
    def error(self) -> str | None:
        return self._errors.error

    @property
    def error_since(self) -> float | None:
        return self._errors.since

    # -- life cycle

    async def start(self, listener: Listener) -> None:
        """Waits until AWS answers. Raises where there is no such stream."""
        await self._connection.describe(must_exist=True)
        self._logs.check_start()
        log.info("sharing stream %s with the daemons of lineage %s", self._connection.arn, self._lineage or "(none)")
        self._tasks = [
            asyncio.create_task(self._guard(partial(self._share, listener)), name="assign shards"),
            asyncio.create_task(self._guard(self._membership.run), name="heartbeat"),
        ]

    async def _share(self, listener: Listener) -> None:
        await self._membership.has_looked.wait()
        await self._assignment.run(listener)

    async def _guard(self, run: Callable[[], Awaitable[None]]) -> None:
        try:
            await run()
        except Exception as error:  # noqa: BLE001 - raised by the next fetch
            self._failure = error
            self._wake.set()

    async def rebuild(self) -> None:
        """Opens new connections, with credentials that are read again. Waits until AWS answers."""
        if self._tasks:
            log.warning("rebuilding the connections to Kinesis; buffered records are written first")
            await self._connection.reconnect()  # calls that fail now go on with the new client
            await self._assignment.revoke_all()
            if not self._tasks:  # stopped meanwhile
                await self._connection.close()

    async def stop(self) -> None:
        """Takes at most about ``LEAVE_S``: the other daemons are told to go on at once."""
        self.finish()
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if tasks:
            with suppress(TimeoutError):
                async with asyncio.timeout(LEAVE_S):
                    await self._membership.leave()
        self._assignment.close()
        await self._connection.close()

    def finish(self) -> None:
        self._finished = True
        self._wake.set()

    # -- reading

    async def fetch(self) -> Fetched | None:
        """Of each shard at most what one read has brought. ``SourceError`` where a shard cannot be read on."""
        self._budget.change(-self._handed)
        self._handed = 0
        if not self._ready and not self._finished and self._failure is None:
            self._wake.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._wake.wait()
        if self._failure is not None:
            raise self._failure
        return None if self._finished else self._take()

    def _take(self) -> Fetched:
        fetched: dict[TopicPartition, EpochRecords] = {}
        for number in list(self._ready):
            if self._handed >= FETCH_BYTES:
                break
            del self._ready[number]
            reader = self._assignment.readers.get(number)
            if reader is None:
                continue
            if reader.has_page:
                records, size = reader.take()
                fetched[TopicPartition(self._config.stream, number)] = records
                self._handed += size
                self._ready[number] = None  # what comes after it waits behind the other shards
            else:
                self._take_event(number, reader)
        return fetched

    def _take_event(self, number: int, reader: ShardReader) -> None:
        if reader.failure is not None:
            raise reader.failure
        if reader.is_gone:
            reader.pause()
            self._logs.forget(number)
            self._assignment.out_of_range(number)
        elif reader.is_at_end:
            self._assignment.ended(number)

    def seek(self, partition: TopicPartition, offset: int, leader_epoch: int | None = None) -> None:  # noqa: ARG002
        """Ignored where the shard is not ours: it may be revoked first."""
        if (reader := self._reader(partition)) is None:
            return
        number = partition.partition
        start, proof = self._logs.starts.get(number), self._proof(number)
        if start is None and offset == 0:
            # Nobody has said where to begin.
            now_ms = self._connection.now_ms()
            proof = CaughtUp(0, now_ms, self._connection.retention.since(now_ms))
        reader.seek(offset, place_of(offset, self._logs.oldest_position(number), start), proof)

    def pause(self, partition: TopicPartition) -> None:
        """Ignored where the shard is not ours: it may be revoked first."""
        if (reader := self._reader(partition)) is not None:
            reader.pause()

    def end_offset(self, partition: TopicPartition) -> int | None:  # noqa: ARG002
        """Kinesis does not tell; see `behind_s`."""
        return None

    def behind_s(self, partition: TopicPartition) -> float | None:
        """How far what was handed out is behind the shard's newest record, in seconds; None before the first answer."""
        reader = self._reader(partition)
        return reader.behind_ms / 1000 if reader is not None and reader.behind_ms is not None else None

    def open_transaction(self, partition: TopicPartition) -> OpenTransaction | None:  # noqa: ARG002
        """Kinesis has no transactions."""
        return None

    # -- positions

    async def stream_id(self, partition: TopicPartition) -> str:
        """When the stream was created, in milliseconds."""
        await self._connection.describe(max_age_s=STREAM_ID_AGE_S)
        if (reader := self._reader(partition)) is not None:
            reader.bind(self._connection.created)
        return self._connection.created

    async def committed(self, partition: TopicPartition) -> Position | None:  # noqa: ARG002
        """The objects in the sink say how far a shard has landed."""
        return None

    async def log_range(self, partition: TopicPartition) -> LogRange:
        """From the first record that retention has left. Where the log ends is not known."""
        reader, number = self._owned(partition), partition.partition
        return await self._logs.range(number, reader.shard, reader.landed, self._proof(number))

    async def epoch_end(self, partition: TopicPartition, leader_epoch: int) -> EpochEnd | None:  # noqa: ARG002
        """There are no epochs."""
        return None

    async def resolve_start(self, partition: TopicPartition) -> Position:
        """The start policy, applied once for all daemons of the lineage."""
        start = await self._logs.start(partition.partition, self._owned(partition).shard)
        return Position(start.position)

    async def commit(self, partition: TopicPartition, position: Position) -> bool:
        """Nothing is written: the object that ends here is the commit. False where the shard is no longer ours."""
        if (reader := self._reader(partition)) is None:
            return False
        reader.landed = position.offset
        return True

    # -- shards

    def _proof(self, number: int) -> CaughtUp | None:
        """When the log of a shard was last seen empty behind what has landed."""
        proof, start = self._assignment.proofs().get(number), self._logs.starts.get(number)
        return start.caught_up if proof is None and start is not None else proof

    def _new_reader(self, number: int, shard: Shard) -> ShardReader:
        self._logs.forget(number)
        return ShardReader(shard, self._connection, self._budget, self._options, partial(self._on_ready, number))

    def _on_ready(self, number: int) -> None:
        self._ready[number] = None
        self._wake.set()

    def _reader(self, partition: TopicPartition) -> ShardReader | None:
        return self._assignment.readers.get(partition.partition) if partition.topic == self._config.stream else None

    def _owned(self, partition: TopicPartition) -> ShardReader:
        if (reader := self._reader(partition)) is None:
            raise SourceError(f"{partition} is not ours")
        return reader

    def _stream_gone(self) -> None:
        self._assignment.list_again()
