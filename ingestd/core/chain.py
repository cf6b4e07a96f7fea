"""The rules of a partition's chain of objects: what a position, an object and a log range mean for the next step.

Each object is named by the offset where it starts and says in its metadata where it ends; the next one starts there.
The create-only PUT of an object is the commit. Kafka's committed offset is a hint where to resume. The rules decide
and do no I/O: ``pipeline.partition_writer`` asks them in the order in which things happen.

An offset names a record only within a leader epoch: where Kafka truncates its log, as after an unclean leader election,
new records take the offsets of those that are gone. Then the partition halts, or its chain forks: it goes on from the
first offset of the new history. Objects of a chain that may fork have their records' epoch in their names.
"""

from enum import StrEnum
from typing import NamedTuple

import msgspec

from ingestd.core.batch import RecordRef
from ingestd.core.chain_words import KAFKA, ChainWords
from ingestd.core.object_keys import ObjectKeys
from ingestd.core.object_metadata import ObjectMetadata
from ingestd.core.records import EpochEnd, LogRange, Position, TopicPartition
from ingestd.core.stored import ObjectInfo

_NO_ID = "without an id"


class PartitionState(StrEnum):
    """Where a partition stands while it is assigned to this daemon."""

    LOADING = "loading"  # reading the committed position
    PROBING = "probing"  # waiting for the first record, to look for an object that holds the position already
    FILLING = "filling"
    UPLOADING = "uploading"
    LOST = "lost"  # a commit was refused: another member owns the partition
    HALTED = "halted"


class Halt(Exception):
    """The chain is inconsistent: going on could lose or duplicate records. An operator must act.

    `code` is a metric label; `message` names the remedy.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class LogTruncated(Halt):
    """Kafka's log no longer holds records that are in objects. Records that it has written there since are not read.

    Records up to `reached` were read, the last one in `leader_epoch`. `at` is the first offset of the log's new
    history, and `log_epoch` the last leader epoch before it. None and -1 where the log does not tell.
    """

    def __init__(
        self,
        message: str,
        *,
        leader_epoch: int | None = None,
        reached: int | None = None,
        at: int | None = None,
        log_epoch: int = -1,
    ) -> None:
        super().__init__("log_truncated", message)
        self.leader_epoch = leader_epoch
        self.reached = reached
        self.at = at
        self.log_epoch = log_epoch


class LogChanged(Exception):
    """Kafka has lost records that were read and have not landed, or has got back lost ones: what was read is void."""


class Fork(NamedTuple):
    """Where a chain goes on after a truncation of the log."""

    position: Position
    truncated: LogTruncated
    chain_has_more: bool  # of the position's epoch than the log


class Neighbours(msgspec.Struct, frozen=True):
    """The keys of the data objects around an offset: the last before it, the one at it, the first after it.

    Several where names do not tell which of them is in the chain: with a leader epoch and without, or of two days.
    """

    before: tuple[str, ...] = ()
    at: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


class ChainPolicy(NamedTuple):
    """What all partitions of a daemon share."""

    keys: ObjectKeys
    commit_tag: str  # in the metadata of our commits: this offset is a boundary of the chain in this sink
    skip_lost: bool = False
    replayable: bool = True  # False where a seek back does not bring the same records again
    fork: bool = False  # go on after a truncation of the log; names have leader epochs
    has_commits: bool = True  # False where nothing but the chain says how far it has come
    words: ChainWords = KAFKA


class ChainRules:
    """The rules for one partition. The ids of its source and its stream are "" where none are known."""

    def __init__(self, partition: TopicPartition, policy: ChainPolicy, source_id: str) -> None:
        self.partition = partition
        self.policy = policy
        self.source_id = source_id
        self._words = policy.words
        self.stream_id = ""

    def boundary(self, offset: int, leader_epoch: int | None) -> Position:
        """The position to commit where an object ends. The leader epoch is that of the object's records."""
        return Position(offset, self.policy.commit_tag, self.stream_id, leader_epoch)

    def start(self, position: Position) -> Position:
        """The position to commit where the start policy begins: without the tag, since no object ends there."""
        return Position(position.offset, "", self.stream_id, position.leader_epoch)

    def is_boundary(self, position: Position) -> bool:
        """Whether our own commit says that the position is a boundary of this chain."""
        return position.commit_tag == self.policy.commit_tag

    def is_ours(self, position: Position) -> bool:
        """Whether ingestd committed the position: where an object ends, or where the start policy begins."""
        return bool(position.commit_tag or position.topic_id)

    def check_committed(self, position: Position) -> None:
        """Halt if the position was committed for a deleted topic of this name.

        Kafka forgets a deleted topic's offsets, but one may be committed afterwards, for records still buffered.
        """
        ours = self.is_boundary(position) or not position.commit_tag
        if ours and self._is_of_another_topic(position.topic_id):
            raise self._recreated(f"{self._at(position.offset)} is of a deleted {self._words.stream} of this name")

    def position_after(self, last: ObjectMetadata) -> Position:
        """Where to go on at the chain's last object when nothing is committed.

        Where nothing ever is, the object's end is the checkpoint. Else without the tag, since nothing confirms yet that
        this is a boundary. The object's start, not its end, so that the probe compares its first record with the log's:
        a topic that was created again has lost the group's offsets, too, and may be longer than the old one. A source
        that cannot replay has nothing to compare.
        """
        if not self.policy.has_commits:
            return self.boundary(last.end, last.leader_epoch)
        return Position(last.start if self.policy.replayable else last.end)

    def check_epoch(self, position: Position, end: EpochEnd) -> None:
        """Halt if the log no longer holds the records before the position. `end` is where their last epoch ends now.

        Records that Kafka writes after a truncation have a later epoch than those it has lost, so an epoch that ends
        before the position was truncated; one that is missing was truncated in full. At the start, no record was read
        yet, so an epoch may be missing as long as the log reaches the position: that of a leader whose records were all
        lost to a replica with more of an earlier epoch, or one that had no records (sources name another, where they
        can).
        """
        epoch, at = position.leader_epoch, end.end
        if at >= position.offset and (end.epoch == epoch or not self.is_boundary(position)):
            return
        if end.epoch < 0:
            raise LogTruncated(
                f"the log of {self.partition} knows no leader epoch {epoch}, in which the records before "
                f"{position.offset} were written: its cluster was restored from an older state; their rows are kept, "
                f"and what Kafka has written at their offsets since is in no object; {self._words.new_chain}",
                leader_epoch=epoch,
            )
        raise LogTruncated(
            f"Kafka has lost records of {self.partition}: its log was truncated at {at}, and leader epoch {epoch} had "
            f"reached {position.offset}; rows of {at}-{position.offset} that are in objects are kept, and what Kafka "
            f'has written from {at} on since is in none; set kafka.on_truncation = "fork" to ingest it from {at} on, '
            f"under names of its own",
            leader_epoch=epoch,
            reached=position.offset,
            at=at,
            log_epoch=end.epoch,
        )

    def check_within_log(self, position: Position, log: LogRange, chain_end: int | None) -> None:
        """Halt if the log ends before a position of which it cannot be told by leader epochs whether it was read."""
        offset = position.offset
        if offset <= log.end:
            return
        if not self.is_ours(position):
            where = f"{chain_end}, the end of the chain" if chain_end is not None else f"at most {log.end}"
            raise Halt(
                "misaligned",
                f"{self._at(offset)} is past the log's end {log.end}, and ingestd did not commit it; "
                f"{self._words.realign.format(end=where)}",
            )
        raise self._another_log(f"{self._at(offset)} is past the log's end {log.end}", position.topic_id)

    def fork(self, truncated: LogTruncated, at: int, leader_epoch: int | None, *, read_up_to: int | None) -> Fork:
        """The fork at the end of the last leader epoch that the chain and the log have in common.

        Its objects reach `read_up_to`, and the log's records `at`; None where there is no such epoch.
        """
        offset = at if read_up_to is None else min(at, read_up_to)
        has_more = read_up_to is not None and read_up_to > offset
        return Fork(Position(offset, "", self.stream_id, leader_epoch), truncated, chain_has_more=has_more)

    def check_unread(self, fork: Fork, first: RecordRef) -> None:
        """Raise ``LogChanged`` if the first record from a fork on may have been read before.

        The log may have got a lost epoch back while nothing came, by the election of the leader that had it.
        """
        epoch, lost = first.leader_epoch, fork.truncated.leader_epoch
        if epoch is None or lost is None or fork.truncated.log_epoch < epoch <= lost:
            raise LogChanged
        if epoch == fork.position.leader_epoch and fork.chain_has_more:
            raise LogChanged

    def no_common_epoch(self, truncated: LogTruncated) -> LogTruncated:
        """The halt where names do not tell up to where the log is the one that was read."""
        return LogTruncated(
            f"{truncated.message}; but the log goes back to leader epoch {truncated.log_epoch}, and no object before "
            f"{truncated.at} is known to have records of it; {self._words.new_chain}"
        )

    def check_position(self, end: int) -> None:
        """Halt where the names of objects have no room for a position."""
        if end > (last := self.policy.keys.last_position):
            raise Halt(
                "position_too_large",
                f"position {end} of {self.partition} has {len(str(end))} digits, and names of objects have room for "
                f"{len(str(last))}; nothing was lost: this version of ingestd cannot go on here",
            )

    def check_retention(self, start: int, log: LogRange) -> None:
        """Halt if retention has removed records that were not read yet, unless the operator allows to skip them."""
        if start < log.start and not self.policy.skip_lost:
            words, count = self._words, log.start - start
            lost = words.lost.format(count=count, start=start, end=log.start, partition=self.partition)
            go_on = f"set {words.skip_lost} = true to go on from {log.start}, with the hole on record"
            raise Halt("lost_upstream", f"{lost}; {go_on}")

    def lost_records(self, start: int, end: int) -> int:
        """How many records a hole counts for in metrics: at most its positions, or 1 where these count nothing."""
        return 1 if self.policy.keys.wide else end - start

    def read_object(self, info: ObjectInfo | None, key: str) -> ObjectMetadata:
        """The metadata of an object under a name of this chain. Halt if it is not an object of this chain."""
        metadata = ObjectMetadata.from_metadata(info.metadata) if info is not None else None
        if metadata is None:
            raise Halt("foreign_object", f"{key} exists, but was not written by ingestd: it has no metadata of ours")
        expected, system = (*self.partition, self.source_id), self._words.system
        actual = (metadata.topic, metadata.partition, metadata.cluster or "")
        if actual != expected or not self._has_name(metadata, key) or metadata.end <= metadata.start:
            raise Halt(
                "foreign_object",
                f"{key} says it is {metadata.topic}[{metadata.partition}] {metadata.start}-{metadata.end} of {system} "
                f"{metadata.cluster or _NO_ID}, not {self.partition} of {system} {self.source_id or _NO_ID}; "
                f"set a new sink.lineage to begin a new chain",
            )
        if self._is_of_another_topic(metadata.topic_id):
            what = f"{key} holds {metadata.start}-{metadata.end} of a deleted {self._words.stream} of this name"
            raise self._recreated(what)
        return metadata

    def check_same_log(
        self, metadata: ObjectMetadata, key: str, log: LogRange, first: RecordRef | None, *, proven: bool
    ) -> None:
        """Halt if the object holds records of another log than today's.

        A topic that was deleted and created again has the same name and the same offsets. Without topic ids an object
        of the old one is known by an end past the new log's, or by another timestamp of the same record. `first` is
        the log's first record at or after the object's start, where that is known. An earlier first record than the
        object's proves nothing: retention may have overtaken its writer, not us. `proven`: leader epochs say that the
        log reaches the object's end, whatever it reports as its end at the moment.
        """
        same_place = first is not None and first.offset == metadata.first_offset
        if same_place and proven and first is not None and first.leader_epoch != metadata.leader_epoch:
            raise LogChanged  # between the fetch and the answer on the epoch
        differs = same_place and first is not None and first.timestamp != metadata.first_timestamp
        if differs or (metadata.end > log.end and not proven):
            raise self._another_log(
                f"{key} holds {metadata.start}-{metadata.end}, which is not of this log ({log.start}-{log.end})",
                metadata.topic_id,
            )

    def check_aligned(self, start: int, end: int) -> None:
        """Halt if the position is not the end of the object before it."""
        if start == end:
            return
        if start < end:
            where, purpose = f"inside of an object that ends at {end}", "to ingest again on purpose"
        else:
            where, purpose = f"past the end of the chain, {end}", "to skip the records in between on purpose"
        raise Halt(
            "misaligned",
            f"{self._at(start)} is {where}; {self._words.realign.format(end=end)}, or use a new sink.lineage {purpose}",
        )

    def check_nothing_after(self, start: int, after: ObjectMetadata | None) -> None:
        """Halt if the chain goes on after a position at which no object starts."""
        if after is not None:
            raise Halt(
                "misaligned",
                f"{self._at(start)} is before an object that exists, {after.start}-{after.end}, and no object starts "
                f"there; {self._words.forget}, or use a new sink.lineage to ingest again on purpose",
            )

    def _has_name(self, metadata: ObjectMetadata, key: str) -> bool:
        """Whether the name says what the metadata says. The first object of an epoch is named after its beginning."""
        name = self.policy.keys.parse(key)
        if name is None or name.leader_epoch is None:
            return name is not None and name.start == metadata.start
        in_gap = metadata.start <= name.start <= metadata.first_offset
        return in_gap and name.leader_epoch == metadata.leader_epoch

    def _is_of_another_topic(self, topic_id: str | None) -> bool:
        """False where one of the two ids is not known."""
        return bool(topic_id and self.stream_id) and topic_id != self.stream_id

    def _another_log(self, what: str, topic_id: str | None) -> Halt:
        """The halt for records that are not in the log: a topic with their id has lost them."""
        if topic_id and topic_id == self.stream_id:
            lost = f"{self._words.log} has lost records that are in objects; their rows are kept"
            return LogTruncated(f"{what}: {lost}; {self._words.new_chain}")
        return self._recreated(f"{what}: was the {self._words.stream} deleted and created again?")

    def _recreated(self, what: str) -> Halt:
        return Halt("recreated_topic", f"{what}; {self._words.new_chain}")

    def _at(self, offset: int) -> str:
        return f"{self._words.position} {offset} of {self.partition}"
