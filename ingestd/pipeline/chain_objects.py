"""The objects of one partition's chain in the sink: uploads them, looks them up and validates them."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Executor

import msgspec

from ingestd.core.batch import EncodedBatch, RecordRef
from ingestd.core.chain import ChainRules, LogTruncated, Neighbours
from ingestd.core.object_metadata import ObjectMetadata
from ingestd.core.records import LogRange, Position
from ingestd.core.stored import ObjectInfo
from ingestd.ops.metrics import Metrics
from ingestd.pipeline.neighbours import find_fork, find_neighbours
from ingestd.sinks.base import Sink
from ingestd.sinks.create_only import create_or_find
from ingestd.sinks.listing import Listing
from ingestd.sinks.retry import SinkRetrier
from ingestd.sources.base import Source

LOG_END_LOOKS = 5
LOG_END_INTERVAL_S = 1.0


def _ignore(_key: str) -> None: ...


class Dependencies(msgspec.Struct, frozen=True):
    """What the writers of all partitions share."""

    source: Source
    sink: Sink
    retrier: SinkRetrier
    metrics: Metrics
    executor: Executor  # for compression
    wall_clock: Callable[[], float]
    landed: Callable[[str], None] = _ignore  # called with the key of each data object; neither blocks nor raises


class ChainObjects:
    """Every call to the sink is repeated until it is answered; a call that timed out may have been applied."""

    def __init__(self, rules: ChainRules, dependencies: Dependencies) -> None:
        self._rules = rules
        self._partition = rules.partition
        self._keys = rules.policy.keys
        self._sink = dependencies.sink
        self._retrier = dependencies.retrier
        self._listing = Listing(dependencies.sink, dependencies.retrier)
        self._source = dependencies.source
        self._metrics = dependencies.metrics

    async def upload(self, encoded: EncodedBatch) -> ObjectInfo | None:
        """Create the objects of a batch. Returns the data object that has its name already, None if it was created.

        The quarantine first: a crash in between repeats rejected records, the other order could lose them.
        """
        metadata = encoded.metadata.to_user_metadata()
        started = time.perf_counter()
        if encoded.quarantine_key is not None and encoded.quarantine is not None:
            await self._retrier.call(self._sink.put_new, encoded.quarantine_key, encoded.quarantine, metadata)
        existing = await create_or_find(self._sink, self._retrier, encoded.data_key, encoded.data, metadata)
        self._metrics.uploaded(time.perf_counter() - started)
        return existing

    async def last(self) -> ObjectMetadata | None:
        """The last object of the chain.

        A group that expired or was deleted must not fall back to a start policy where the chain itself knows how far it
        has come: `latest` would skip records, `earliest` would walk through every object.
        """
        if not self._keys.exactly_once:
            return None
        found = await self.neighbours(None)
        return await self.validated(found.before) if found.before is not None else None

    async def at(self, start: int) -> ObjectMetadata | None:
        """The object that starts at `start`, whatever its date: the log no longer tells what that would be."""
        if not self._keys.exactly_once:
            return None
        found = await self.neighbours(start)
        return await self.validated(found.at) if found.at is not None else None

    async def validated(self, key: str, first: RecordRef | None = None) -> ObjectMetadata:
        return await self.validate(await self.head(key), key, first)

    async def validate(self, info: ObjectInfo | None, key: str, first: RecordRef | None) -> ObjectMetadata:
        """What an object says, once it is certain that it belongs to this chain and this log. Otherwise halts."""
        metadata = self._rules.read_object(info, key)
        end = self._rules.boundary(metadata.end, metadata.leader_epoch, metadata.fork)
        proven = await self._check_epoch(end) is not None
        log_range = await (self._source.log_range(self._partition) if proven else self._log_up_to(metadata.end))
        self._rules.check_same_log(metadata, key, log_range, first, proven=proven)
        return metadata

    async def head(self, key: str) -> ObjectInfo | None:
        return await self._retrier.call(self._sink.head, key)

    async def neighbours(self, offset: int | None) -> Neighbours:
        return await find_neighbours(self._listing, self._keys, self._partition, offset)

    async def fork_after(self, truncated: LogTruncated, first: RecordRef) -> ObjectMetadata | None:
        """The first object of the fork that begins where the log was truncated, if there is one."""
        if truncated.at is None or truncated.leader_epoch is None or not self._keys.exactly_once:
            return None
        key = await find_fork(self._listing, self._keys, self._partition, truncated.at, truncated.leader_epoch)
        return await self.validated(key, first) if key is not None else None

    async def fork_at(self, truncated: LogTruncated) -> Position:
        """Where the chain goes on after a truncation of the log. Halts where it must not."""
        covering = None
        if truncated.at is not None and self._keys.exactly_once:
            found = await self.neighbours(truncated.at)
            if found.before is not None:
                covering = self._rules.read_object(await self.head(found.before), found.before)
        return self._rules.fork_at(truncated, covering)

    async def log_at(self, position: Position) -> tuple[LogRange, int | None]:
        """The log's range, once it holds what was read before the position, and the leader epoch there. Else halts."""
        if (epoch := await self._check_epoch(position)) is not None:
            return await self._source.log_range(self._partition), epoch
        log_range = await self._log_up_to(position.offset)
        chain_end = None
        if position.offset > log_range.end and not self._rules.is_ours(position):
            last = await self.last()
            chain_end = last.end if last is not None else None
        self._rules.check_within_log(position, log_range, chain_end)
        return log_range, None

    async def _check_epoch(self, position: Position) -> int | None:
        """The leader epoch of the record before the position; None if not known. Halts if the log has lost it."""
        if position.leader_epoch is None:
            return None
        end = await self._source.epoch_end(self._partition, position.leader_epoch)
        for _ in range(LOG_END_LOOKS):
            if end is None or end.epoch >= 0:
                break
            # A broker that does not know yet that another one is the leader knows no later epoch either.
            await asyncio.sleep(LOG_END_INTERVAL_S)
            end = await self._source.epoch_end(self._partition, position.leader_epoch)
        if end is None:
            return None
        self._rules.check_epoch(position, end)
        return end.epoch

    async def _log_up_to(self, offset: int) -> LogRange:
        """The log's range once it reaches `offset`, else as it is after some looks.

        A broker that has just become the leader may not know yet how far the log was acknowledged.
        """
        log_range = await self._source.log_range(self._partition)
        for _ in range(LOG_END_LOOKS):
            if log_range.end >= offset:
                break
            await asyncio.sleep(LOG_END_INTERVAL_S)
            log_range = await self._source.log_range(self._partition)
        return log_range
