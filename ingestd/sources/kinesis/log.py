"""Where the log of a shard begins: the oldest record that retention has left, and the start policy."""

import asyncio
from typing import NamedTuple

from ingestd.core.errors import ConfigError
from ingestd.core.records import LogRange
from ingestd.core.start_time import LATEST, start_time_ms
from ingestd.sources.kinesis.aggregates import split_record
from ingestd.sources.kinesis.connection import Connection
from ingestd.sources.kinesis.continuity import CaughtUp, Place, Start, WasOpen
from ingestd.sources.kinesis.look import look
from ingestd.sources.kinesis.port import KinesisRecord, Shard
from ingestd.sources.kinesis.shards import shard_number
from ingestd.sources.kinesis.state import StreamState

END_OF_POSITIONS = 10**60 - 1
FRESH_S = 5.0  # how long the oldest record counts as the oldest


class Oldest(NamedTuple):
    """What a look at a shard from some place on has found."""

    record: KinesisRecord | None  # None where none is there
    position: int | None  # at which it begins, if it is an aggregate
    ended: bool  # the shard is closed, and has no record from there on
    seen_ms: int  # before the look


class ShardLogs:
    """Looks at the logs of shards beside their readers. What is found counts for some seconds."""

    def __init__(self, connection: Connection, state: StreamState, start: str, *, skip_lost: bool) -> None:
        self._connection = connection
        self._state = state
        self._start = start
        self._skip_lost = skip_lost
        self._start_ms = start_time_ms("kinesis.start", start)
        self._oldest: dict[int, tuple[float, Oldest]] = {}
        self.starts: dict[int, Start] = {}  # of the shards that were asked for

    def forget(self, shard: int) -> None:
        """Look again when asked next."""
        self._oldest.pop(shard, None)

    def oldest_position(self, shard: int) -> int | None:
        """The position at which the log begins, as last looked up; None without a record."""
        found = self._oldest.get(shard)
        return found[1].position if found is not None else None

    def check_start(self) -> None:
        """``ConfigError`` where the time to begin at is still to come, which AWS would refuse for each shard."""
        if self._start_ms is not None and self._start_ms > self._connection.now_ms():
            raise ConfigError(f"kinesis.start = {self._start} is in the future", hint="give a time that has passed")

    async def range(self, number: int, shard: Shard, landed: int | None, proof: CaughtUp | None) -> LogRange:
        """From the first position that the log is known to hold on.

        `proof` is the last time at which it was seen empty from a position on: then nothing behind it is missing yet.
        """
        found = await self._look_up(number, shard)
        if found.position is not None:
            start = found.position
        elif found.ended and landed is not None and not self._skip_lost:
            start = max(landed, shard.ending or 0) + 1  # whether there were records behind `landed` is not known
        else:
            start = 0
        if proof is not None and self._connection.holds(proof, proof.position):
            start = min(start, proof.position)
        return LogRange(start, END_OF_POSITIONS)

    async def start(self, number: int, shard: Shard) -> Start:
        """Where a shard without objects begins, pinned for all."""
        created = self._connection.created
        pinned = await self._state.start(created, number)
        if pinned is None:
            start, arrival_ms = await self._policy(shard)
            pinned = await self._state.pin_start(created, number, start, arrival_ms)
        self.starts[number] = pinned
        return pinned

    async def _policy(self, shard: Shard) -> tuple[Start, int | None]:
        created, retention = self._connection.created, self._connection.retention
        parents = [shard_number(parent) for parent in shard.parents]
        starts = [await self._state.start(created, parent) for parent in parents]
        opened = [await self._state.was_open(created, parent) for parent in parents]
        known = [it for it in opened if it is not None]
        if known or not all(start is None or start.closed for start in starts):
            # A child of shards that we began to read while they were open: all its records count, also those that
            # retention removes before us. Where no time is known at which its parents were open, nothing is proven.
            last = max(known, key=sum, default=WasOpen(0))
            return Start(0, None, None, last.at_ms, min(last.retention_ms, retention.since(last.at_ms))), None
        time_ms = self._start_ms
        if self._start == LATEST:
            time_ms = await self._state.pin_policy(created, self._connection.now_ms())
        found = await self._look(shard, time_ms)
        retention_ms = retention.since(found.seen_ms)
        if found.record is None or found.position is None:
            return Start(0, None, time_ms, found.seen_ms, retention_ms, shard.closed), None
        first = found.record
        start = Start(found.position, first.offset, time_ms, found.seen_ms, retention_ms, shard.closed)
        return start, first.timestamp

    async def _look_up(self, number: int, shard: Shard) -> Oldest:
        now = asyncio.get_running_loop().time()
        known = self._oldest.get(number)
        if known is not None and now - known[0] < FRESH_S:
            return known[1]
        found = await self._look(shard, None)
        self._oldest[number] = now, found
        return found

    async def _look(self, shard: Shard, at_ms: int | None) -> Oldest:
        """The first record from a time on, or of all."""
        record, ended, seen_ms = await look(self._connection, shard.id, Place(at_ms=at_ms))
        position = None if record is None else split_record(record, shard)[0].offset
        return Oldest(record, position, ended, seen_ms)
