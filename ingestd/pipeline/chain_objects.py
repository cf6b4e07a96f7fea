"""The objects of one partition's chain in the sink: uploads them, looks them up and validates them."""

import asyncio
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Executor

import msgspec

from ingestd.core.batch import Batch, EncodedBatch, ObjectName, RecordRef
from ingestd.core.chain import ChainRules, Fork, LogChanged, LogTruncated, Neighbours
from ingestd.core.flush_policy import FlushReason
from ingestd.core.object_metadata import ObjectMetadata
from ingestd.core.records import LogRange, Position
from ingestd.core.stored import ObjectInfo
from ingestd.ops.metrics import Metrics
from ingestd.pipeline.neighbours import History, find_history, find_neighbours
from ingestd.pipeline.shared_listing import SharedListing
from ingestd.sinks.base import Sink
from ingestd.sinks.create_only import create_or_find
from ingestd.sinks.retry import SinkRetrier
from ingestd.sources.base import Source

LOG_END_LOOKS = 5
LOG_END_INTERVAL_S = 1.0


_Found = tuple[str, ObjectMetadata]


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

    def __init__(self, rules: ChainRules, dependencies: Dependencies, listing: SharedListing) -> None:
        self._rules = rules
        self._partition = rules.partition
        self._keys = rules.policy.keys
        self._sink = dependencies.sink
        self._retrier = dependencies.retrier
        self._listing = listing
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
        return await self._valid(await self._latest((await self._neighbours(None)).before))

    async def at(self, start: int) -> ObjectMetadata | None:
        """The object that starts at `start`, whatever its date: the log no longer tells what that would be."""
        return await self._valid(await self._latest((await self._neighbours(start)).at))

    async def next(self, position: Position, first: RecordRef, log_range: LogRange) -> ObjectMetadata | None:
        """The object that goes on from a position, if there is one. Halts if the position is not a boundary.

        `first` is the log's first record from there on.
        """
        if not self._keys.exactly_once:
            return None
        if self._rules.is_boundary(position) and position.offset >= log_range.start:
            return await self._named(position, first)
        found = await self._neighbours(position.offset)
        before, at, after = [await self._latest(keys) for keys in (found.before, found.at, found.after)]
        if at is None and after is not None and after[1].start <= position.offset:
            at = after  # the first object of a leader epoch, which begins there
        if at is not None:
            return await self._valid(at, first)
        if before is not None:
            await self._valid(before)
            self._rules.check_aligned(position.offset, before[1].end)
        if after is not None and (before is None or _epoch(after) >= _epoch(before)):  # else its records are lost
            self._rules.check_nothing_after(position.offset, after[1])
        return None

    async def next_after_truncation(self, at: int, first: RecordRef) -> ObjectMetadata | None:
        """The object that holds the first record after a truncation of the log at an offset, if there is one.

        Its name has the offset at which its epoch begins; without an epoch in its name, it begins before `at`.
        """
        places = [await self._neighbours(offset + 1) for offset in (at, first.offset)]
        found = await self._latest(dict.fromkeys(key for place in places for key in place.before))
        if found is None or found[1].leader_epoch != first.leader_epoch or found[1].end <= first.offset:
            return None
        return await self._valid(found, first)

    async def name(self, batch: Batch, leader_epoch: int | None) -> ObjectName:
        """What the name of a batch's object says. `leader_epoch` is that of the record before the batch.

        The first object of a leader epoch is named after the offset at which the epoch begins in the log: so all
        writers try the same name, also one that comes from records which the log has lost.
        """
        if not self._rules.policy.fork:
            return ObjectName(batch.start)
        own = batch.leader_epoch
        if own is None or leader_epoch is None or own <= leader_epoch or batch.flush_reason is FlushReason.HOLE:
            return ObjectName(batch.start, own)
        assert batch.first is not None
        return ObjectName(
            await self._beginning(own, Position(batch.start, leader_epoch=leader_epoch), batch.first), own
        )

    async def fork(self, truncated: LogTruncated) -> Fork:
        """Where the chain goes on after a truncation: where its history and the log's part. Halts where it must not.

        The two agree up to the end of an epoch that both have, in the one that has less of it. If the log has lost the
        last epoch in full, it may be the log of a replica that goes back to before it, with more records of an earlier
        epoch than were ever read: then the last epoch is looked for that both have.
        """
        at, epoch = truncated.at, truncated.log_epoch
        if not self._rules.policy.fork or at is None:
            raise truncated
        if epoch == truncated.leader_epoch:
            return self._rules.fork(truncated, at, epoch, read_up_to=truncated.reached)
        history = await find_history(self._listing, self._partition, at)
        while (last := await self._last_of_epoch(epoch, history)) is None:
            earlier = max((each for each in history.last_of if each < epoch), default=None)
            if earlier is None:
                if history.without:
                    raise self._rules.no_common_epoch(truncated)
                return self._rules.fork(truncated, min(at, history.start), None, read_up_to=None)
            end = await self._source.epoch_end(self._partition, earlier)
            if end is None or end.epoch < 0:
                raise truncated
            epoch, at = end.epoch, end.end
        return self._rules.fork(truncated, at, epoch, read_up_to=last.end)

    async def _last_of_epoch(self, leader_epoch: int, history: History) -> ObjectMetadata | None:
        """The last object of a leader epoch; of those without an epoch in their names, one around the truncation."""
        keys = [*history.without]
        if (last := history.last_of.get(leader_epoch)) is not None:
            keys.append(last)
        found = [self._rules.read_object(await self._head(key), key) for key in keys]
        of_epoch = [metadata for metadata in found if metadata.leader_epoch == leader_epoch]
        return max(of_epoch, key=lambda metadata: metadata.end, default=None)

    async def validate(self, info: ObjectInfo | None, key: str, first: RecordRef | None) -> ObjectMetadata:
        """What an object says, once it is certain that it belongs to this chain and this log. Otherwise halts."""
        return await self._check(key, self._rules.read_object(info, key), first)

    async def _check(self, key: str, metadata: ObjectMetadata, first: RecordRef | None) -> ObjectMetadata:
        proven = await self._check_epoch(self._rules.boundary(metadata.end, metadata.leader_epoch)) is not None
        log_range = await (self._source.log_range(self._partition) if proven else self._log_up_to(metadata.end))
        self._rules.check_same_log(metadata, key, log_range, first, proven=proven)
        return metadata

    async def _named(self, position: Position, first: RecordRef) -> ObjectMetadata | None:
        """The object with the name that a batch from this position has, now or where `kafka.on_truncation` was set."""
        names = [ObjectName(position.offset)]
        if (epoch := first.leader_epoch) is not None:
            later = position.leader_epoch is not None and position.leader_epoch < epoch
            begins_at = await self._beginning(epoch, position, first) if later else position.offset
            names.append(ObjectName(begins_at, epoch))
        for start, leader_epoch in names:
            key = self._keys.data_key(self._partition, start, first.timestamp, start, leader_epoch)
            if (info := await self._head(key)) is not None:
                return await self.validate(info, key, first)
        return None

    async def _beginning(self, leader_epoch: int, position: Position, first: RecordRef) -> int:
        """Where the leader epoch of `first` begins in the log, which is at or after a position in an earlier epoch.

        Raises ``LogChanged`` where the log has lost that epoch since `first` was read.
        """
        while True:
            before = await self._source.epoch_end(self._partition, leader_epoch - 1)
            # In this order: as long as the log has the epoch, the one before it ends where that begins.
            end = await self._source.epoch_end(self._partition, leader_epoch)
            if before is None or end is None:
                return position.offset
            if end.epoch == leader_epoch and position.offset <= before.end <= first.offset:
                return before.end
            await self._check_epoch(self._rules.boundary(position.offset, position.leader_epoch))
            if 0 <= end.epoch < leader_epoch:
                raise LogChanged
            # A broker that does not know yet that another one is the leader.
            await asyncio.sleep(LOG_END_INTERVAL_S)

    async def _head(self, key: str) -> ObjectInfo | None:
        return await self._retrier.call(self._sink.head, key)

    async def _latest(self, keys: Iterable[str]) -> _Found | None:
        """Of objects at one place, the one in the chain: that of the latest leader epoch. Not validated."""
        found = [(key, self._rules.read_object(await self._head(key), key)) for key in keys]
        return max(found, key=lambda each: (_epoch(each), each[1].start), default=None)

    async def _valid(self, found: _Found | None, first: RecordRef | None = None) -> ObjectMetadata | None:
        return await self._check(*found, first) if found is not None else None

    async def _neighbours(self, offset: int | None) -> Neighbours:
        if not self._keys.exactly_once:
            return Neighbours()
        return await find_neighbours(self._listing, self._partition, offset)

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


def _epoch(found: _Found) -> int:
    return -1 if found[1].leader_epoch is None else found[1].leader_epoch
