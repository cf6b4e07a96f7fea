"""The chain of one partition: what is known of it, what is held for it, and the next I/O to do. Pure.

``Chain.run`` is the whole life of a partition that is ours, in the order in which it happens. It does no I/O: it yields
a step, and is sent the answer. Whoever drives it may be cancelled between two steps without leaving anything torn.

    LOAD    learn which topic it is, and the committed position; where there is none, go on at the chain's own tip, else
            apply the start policy
    PROBE   at the first record: is the next object there already?  Then adopt it: commit its end, go on from there
    FILL    records are batched meanwhile; a sealed batch is uploaded, then its end is committed
    HALT    something is not as a chain can be; a person must look

The object's create-only PUT is the commit. Kafka's committed offset is a hint for where to resume.
"""

from collections import deque

import msgspec

from ingestd.core.batch import Batch, EncodedBatch, RecordRef
from ingestd.core.chain_steps import (
    Adopted,
    AwaitBatch,
    AwaitFirst,
    Commit,
    Encode,
    FindNeighbours,
    GetTopicId,
    Halt,
    HeadObject,
    Landed,
    Neighbours,
    ReadCommitted,
    ReadLog,
    ResolveStart,
    Seek,
    Steps,
    Upload,
    Wait,
)
from ingestd.core.flush_policy import FlushReason
from ingestd.core.object_keys import ObjectKeys, ObjectMetadata
from ingestd.core.records import LogRange, Position, TopicPartition
from ingestd.core.stored import ObjectInfo, Stored

LOOKS = 5
LOOK_SECONDS = 1.0


class ChainPolicy(msgspec.Struct, frozen=True):
    """What all partitions of a daemon share."""

    layout: ObjectKeys
    mark: str
    skip_lost: bool = False
    replayable: bool = True  # False where a seek back does not bring the same records again


class Chain:
    """One partition while it is ours."""

    def __init__(self, partition: TopicPartition, policy: ChainPolicy, cluster: str) -> None:
        self.partition = partition
        self.policy = policy
        self.cluster = cluster
        self.topic_id = ""
        self.state = "loading"
        self.epoch = 0  # changes whenever what was read so far is void
        self.position: int | None = None  # the next offset to take; None while no record is wanted
        self.committed: int | None = None
        self.landed: int | None = None  # all offsets below are in objects
        self.open: Batch | None = None
        self.sealed: deque[Batch] = deque()
        self.first: RecordRef | None = None  # first record of this epoch

    # -- what comes in, called between steps

    def batch_for(self, offset: int) -> Batch:
        """The open batch, for records from `offset` on; made where there is none."""
        assert self.position is not None
        assert offset >= self.position, (self.partition, offset, self.position)
        if self.open is None:
            self.open = Batch(self.partition, self.position)
        return self.open

    def advance(self, first: RecordRef, end: int) -> None:
        """Records up to `end` are in the open batch now."""
        if self.first is None:
            self.first = first
        self.position = end

    def seal(self, trigger: FlushReason) -> Batch | None:
        """Close the open batch and queue it for upload; None where nothing is held in it."""
        batch, self.open = self.open, None
        if batch is None or batch.first is None:
            return None
        batch.trigger = trigger
        self.sealed.append(batch)
        return batch

    def reset(self) -> int:
        """Forget everything that is held and has not landed: always safe. Returns how many records that were."""
        self.epoch += 1
        held = self.held_records
        self.open, self.first, self.position = None, None, None
        self.sealed.clear()
        return held

    @property
    def batches(self) -> list[Batch]:
        """All that is held, oldest first."""
        return [*self.sealed, *([self.open] if self.open else [])]

    @property
    def held_records(self) -> int:
        return sum(batch.records for batch in self.batches)

    @property
    def held_bytes(self) -> int:
        return sum(batch.held_bytes for batch in self.batches)

    # -- what goes out

    def run(self) -> Steps:
        """Yields steps until ``Halt``, or for as long as it is driven."""
        position = yield from self._load()
        while True:
            position = yield from self._run_from(position)

    def _load(self) -> Steps:
        # Before anything that is asked by the topic's name: what is created again from here on is noticed.
        self.topic_id = yield GetTopicId()
        found: Position | None = yield ReadCommitted()
        if found is not None:
            # Kafka forgets a deleted topic's offsets, but one may be committed afterwards, for what was still held.
            if found.mark == self.policy.mark and self._of_another_topic(found.topic_id):
                yield self._committed_for_another_topic(found.offset)
            self.committed = found.offset
            return found
        tip: ObjectMetadata | None = yield from self._last_object()
        # Without the mark: nothing says yet that this is a boundary. The tip's start, not its end, so that the probe
        # compares its first record with the log's: a topic that was created again has lost the group's offsets, too,
        # and may be longer than the old one. Where no log is kept there is nothing to compare.
        if tip is None:
            position = Position((yield ResolveStart()))
        else:
            position = Position(tip.start if self.policy.replayable else tip.end)
        yield from self._commit(position)
        return position

    def _last_object(self) -> Steps:
        """The last object of the chain.

        A group that expired or was deleted must not fall back to a start policy where the chain itself knows how far it
        has come: `latest` would skip records, `earliest` would walk through every object.
        """
        if not self.policy.layout.exactly_once:
            return None
        neighbours: Neighbours = yield FindNeighbours(2**63 - 1)
        if neighbours.before is None:
            return None
        return (yield from self._validate_object((yield HeadObject(neighbours.before)), neighbours.before, None))

    def _run_from(self, position: Position) -> Steps:
        """Extend the chain from a position. Returns the next one to begin from, when somebody else got ahead of us."""
        start = position.offset
        log: LogRange = yield from self._log_up_to(start)
        if start > log.end:
            yield self._past_the_end(start, log)
        if start < log.start and (taken := (yield from self._at(start))) is not None:
            return (yield from self._adopt(taken))
        if start < log.start and not self.policy.skip_lost:
            yield self._overtaken(start, log)
        self.state = "probing"
        self.position = resume_at = max(start, log.start)
        yield Seek(resume_at)
        first: RecordRef = yield AwaitFirst()
        if self.policy.layout.exactly_once:
            winner = yield from self._probe(position, first, log)
            if winner is not None:
                return (yield from self._adopt(winner))
        if start < log.start:
            self.sealed.appendleft(Batch.hole(self.partition, start, log.start, first))
        while True:
            self.state = "filling"
            batch: Batch = yield AwaitBatch()
            self.state = "uploading"
            winner = yield from self._land(batch)
            if winner is not None:
                return (yield from self._adopt(winner))
            end = batch.end
            del batch  # it would be held until the next one is sealed
            yield from self._commit(self._boundary(end))

    def _land(self, batch: Batch) -> Steps:
        """Upload the oldest batch. Returns the winner where another object, with another end, has its name."""
        sealed: EncodedBatch = yield Encode(batch)
        while True:
            stored: Stored = yield Upload(sealed, batch)
            if stored is Stored.CREATED:
                break
            found: ObjectInfo | None = yield HeadObject(sealed.data_key)
            if found is None:
                continue  # refused as existing and yet not there: it has been deleted since
            winner = yield from self._validate_object(found, sealed.data_key, batch.first)
            if winner.end != batch.end:
                return winner
            break  # our own earlier attempt whose answer was lost, or a twin that cut at the same record
        self.sealed.popleft()
        self.landed = batch.end
        yield Landed(sealed, batch)
        return None

    def _probe(self, position: Position, first: RecordRef, log: LogRange) -> Steps:
        """The object that holds `position` already, if there is one; halts where the position is inside of one."""
        start = position.offset
        key = self.policy.layout.data_key(self.partition, start, first.timestamp, start)
        found: ObjectInfo | None = yield HeadObject(key)
        if found is not None:
            return (yield from self._validate_object(found, key, first))
        if position.mark == self.policy.mark and start >= log.start:
            return None
        neighbours: Neighbours = yield FindNeighbours(start)
        if neighbours.at is not None:
            return (yield from self._validate_object((yield HeadObject(neighbours.at)), neighbours.at, first))
        if neighbours.before is not None:
            before = yield from self._validate_object((yield HeadObject(neighbours.before)), neighbours.before, None)
            if before.end != start:
                yield self._misaligned(start, before.end)
        if neighbours.after is not None:
            yield self._before_others(start, neighbours.after)
        return None

    def _at(self, start: int) -> Steps:
        """The object that starts at `start` whatever its date: the log no longer says what that would be."""
        if not self.policy.layout.exactly_once:
            return None
        neighbours: Neighbours = yield FindNeighbours(start)
        if neighbours.at is None:
            return None
        return (yield from self._validate_object((yield HeadObject(neighbours.at)), neighbours.at, None))

    def _adopt(self, winner: ObjectMetadata) -> Steps:
        """Another writer has extended the chain: go on from the end of its object."""
        released = self.reset()
        self.landed = winner.end
        yield Adopted(winner, released)
        position = self._boundary(winner.end)
        yield from self._commit(position)
        return position

    def _boundary(self, offset: int) -> Position:
        return Position(offset, self.policy.mark, self.topic_id)

    def _of_another_topic(self, topic_id: str | None) -> bool:
        """Where both are known."""
        return bool(topic_id and self.topic_id) and topic_id != self.topic_id

    def _commit(self, position: Position) -> Steps:
        yield Commit(position)
        self.committed = position.offset

    def _validate_object(self, found: ObjectInfo | None, key: str, first: RecordRef | None) -> Steps:
        """What an object says, once it is sure that it belongs to this chain; otherwise halts.

        A topic that was deleted and created again has the same name and the same offsets. An object of the old one
        is known by the topic's id; where there is none, by an end past the new log's, or by another timestamp of the
        same record. `first` is the first record of the log at or after the object's start, where that is known.
        """
        landed = ObjectMetadata.from_metadata(found.metadata) if found is not None else None
        if landed is None:
            yield Halt("foreign_object", f"{key} exists, but was not written by ingestd: it has no metadata of ours")
            raise AssertionError("unreachable: a halted run is not driven on")
        name, no_id = self.policy.layout.parse(key), "without an id"
        expected = (*self.partition, name.start if name else -1, self.cluster)
        if (
            landed.topic,
            landed.partition,
            landed.start,
            landed.cluster or "",
        ) != expected or landed.end <= landed.start:
            yield Halt(
                "foreign_object",
                f"{key} says it is {landed.topic}[{landed.partition}] {landed.start}-{landed.end} of cluster "
                f"{landed.cluster or no_id}, not {self.partition} of cluster {self.cluster or no_id}; {_NEW_LINEAGE}",
            )
        if self._of_another_topic(landed.topic_id):
            yield self._recreated(f"{key} holds {landed.start}-{landed.end} of a topic of this name that was deleted")
        log: LogRange = yield from self._log_up_to(landed.end)
        # An earlier first record than the object's proves nothing: retention may have overtaken its writer, not us.
        other = first is not None and (
            first.offset == landed.first_offset and first.timestamp != landed.first_timestamp
        )
        if landed.end > log.end or other:
            yield self._recreated(
                f"{key} holds {landed.start}-{landed.end}, which is not of this log ({log.start}-{log.end}): was the "
                f"topic deleted and created again?"
            )
        return landed

    def _log_up_to(self, offset: int) -> Steps:
        """The log's range, once it reaches `offset`, or else as it is after some looks.

        A broker that has just become the leader may not know yet how far the log was acknowledged.
        """
        log: LogRange = yield ReadLog()
        for _ in range(LOOKS):
            if log.end >= offset:
                break
            yield Wait(LOOK_SECONDS)
            log = yield ReadLog()
        return log

    # -- words for an operator

    def _recreated(self, what: str) -> Halt:
        remedy = f"{_NEW_LINEAGE}, and reset the group's offsets to where it is to begin, or use a new kafka.group_id"
        return Halt("recreated_topic", f"{what}; {remedy}")

    def _past_the_end(self, start: int, log: LogRange) -> Halt:
        return self._recreated(
            f"the committed offset {start} of {self.partition} is past the log's end {log.end}: was the topic deleted "
            f"and created again?"
        )

    def _committed_for_another_topic(self, start: int) -> Halt:
        return self._recreated(
            f"the committed offset {start} of {self.partition} is of a topic of this name that was deleted"
        )

    def _overtaken(self, start: int, log: LogRange) -> Halt:
        return Halt(
            "lost_upstream",
            f"retention has removed {log.start - start} offsets of {self.partition} before they were read "
            f"({start}-{log.start}); set kafka.skip_lost = true to go on from {log.start} with the hole on record",
        )

    def _misaligned(self, start: int, end: int) -> Halt:
        """`end` is that of the object before `start`."""
        if start < end:
            where, purpose = f"inside of an object that ends at {end}", "to ingest again on purpose"
        else:
            where, purpose = f"past the end of the chain, {end}", "to leave out on purpose what is between"
        return Halt(
            "misaligned",
            f"the committed offset {start} of {self.partition} is {where}; reset the group's offset for this partition "
            f"to {end}, or use a new sink.lineage {purpose}",
        )

    def _before_others(self, start: int, after: str) -> Halt:
        return Halt(
            "misaligned",
            f"the committed offset {start} of {self.partition} is before objects that exist ({after}) and is not the "
            f"start of one; delete the group's offset for this partition to go on at the end of the chain, or use a "
            f"new sink.lineage to ingest again on purpose",
        )


_NEW_LINEAGE = "set a new sink.lineage to begin a new chain"
