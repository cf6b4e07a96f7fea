"""Checks each partition's chain by the metadata of its objects, in any order and in bounded memory. Pure.

For each partition it keeps the merged ranges of its objects, their leader epochs, some counts, and the first problems
of each kind. Objects that follow each other merge, whatever days they lie on: a year of them is one range.
"""

from collections.abc import Mapping

import msgspec

from ingestd.core.errors import IngestdError
from ingestd.core.object_keys import DataObjectName, ObjectKeys, QuarantineObjectName
from ingestd.core.object_metadata import ObjectMetadata
from ingestd.core.records import LogRange, Position, TopicPartition
from ingestd.verify.branches import UNKNOWN, Branches, Gap
from ingestd.verify.findings import ChainCounts, Findings, VerifyFinding
from ingestd.verify.ranges import Range
from ingestd.verify.samples import Sample, Samples

MAX_RANGES = 500_000  # unmerged ranges of all partitions together
MAX_PARTITIONS = 20_000
MAX_CLUSTERS = 4  # cluster ids that are counted separately in one partition
MAX_TOPIC_IDS = 4  # the same
MAX_EPOCHS = 1000  # leader epochs that are told apart in one partition; in all together:
MAX_EPOCHS_IN_ALL = 500_000
MAX_SAMPLES = 1000  # objects without a leader epoch that are compared with the log in one partition; in all together:
MAX_SAMPLES_IN_ALL = 100_000

_LAST_EPOCH = 2**31 - 1


class VerifyLimitError(IngestdError):
    """The chains have more partitions or ranges than fit into memory."""


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """What is verified: topics (None: all), and Kafka timestamps ``[since, until)`` in milliseconds."""

    topics: frozenset[str] | None = None
    since: int | None = None
    until: int | None = None

    @property
    def all_times(self) -> bool:
        """Whether objects of all times are verified."""
        return self.since is None and self.until is None

    def includes(self, metadata: ObjectMetadata) -> bool:
        """Whether an object's time, from its first record to its last, overlaps the time range."""
        first, last = sorted((metadata.first_timestamp, metadata.last_timestamp))
        return (self.since is None or last >= self.since) and (self.until is None or first < self.until)


class PartitionChain:
    """One partition's committed offset and the objects seen so far."""

    def __init__(
        self,
        partition: TopicPartition,
        commit: Position | None,
        log: LogRange | None,
        *,
        max_epochs: int,
        samples: int,
        wide: bool,
    ) -> None:
        self.partition = partition
        self._wide = wide
        self.commit = commit
        self.log = log  # before the scan
        self.branches = Branches(max_epochs)
        self.counts = ChainCounts()
        self.clusters: dict[str, tuple[int, str]] = {}  # number of objects, and the key of the first
        self.topic_ids: dict[str, Range] = {}  # from the first object to the last
        self.samples = Samples(samples)
        # By leader epoch: an object begins at the committed offset, ends there, or has it inside.
        self.commit_at_start: set[int] = set()
        self.commit_at_end: set[int] = set()
        self.commit_inside: dict[int, tuple[Range, str]] = {}
        # Only where no object is in scope: the last object before the committed offset, the start of the next one.
        self.before_commit: ObjectMetadata | None = None
        self.next_start: int | None = None

    @property
    def extent(self) -> Range | None:
        """From the first known object of the chain to the last one."""
        before = self.before_commit
        return self.branches.extent or (Range(before.start, before.end) if before is not None else None)

    @property
    def epochs(self) -> list[tuple[int, Range]]:
        """The leader epochs that can be compared with the log's, in ascending order of offsets."""
        before = self.before_commit
        if self.branches or before is None or before.leader_epoch is None:
            return self.branches.epochs()
        return [(before.leader_epoch, Range(before.start, before.end))]

    @property
    def commit_unplaced(self) -> bool:
        """Whether no object seen so far that may be of the commit begins at, ends at or contains its offset."""
        if self.commit is None:
            return False
        at_boundary, epoch = self.commit_at_start | self.commit_at_end, self.commit.leader_epoch
        if epoch is None:
            return not at_boundary and not self.commit_inside
        return at_boundary.isdisjoint({UNKNOWN, epoch}) and epoch not in self.commit_inside

    def add_object(self, name: DataObjectName, metadata: ObjectMetadata) -> list[Range]:
        """Add an object; returns the parts of it that another object has, too."""
        added, epoch = Range(metadata.start, metadata.end), metadata.leader_epoch
        self.note_commit(metadata, name.key)
        shared = self.branches.add(epoch, added)
        if epoch is None and self.log is not None and (sample := self._sample(added, metadata)) is not None:
            self.samples.add(sample)
        self._note_topic_id(metadata)
        return shared

    def _sample(self, offsets: Range, metadata: ObjectMetadata) -> Sample | None:
        """A record of an object that the log may still have; None without one.

        Of wide positions only an object's last one is certain to be a number of the log: an aggregate has one number.
        """
        sample = Sample(offsets, metadata.first_offset, metadata.first_timestamp)
        if self._wide:
            if not metadata.records:
                return None
            sample = Sample(offsets, metadata.end - 1, metadata.last_timestamp)
        assert self.log is not None, "there is a log to compare with"
        return sample if self.log.start <= sample.offset < self.log.end else None

    def add_before_commit(self, metadata: ObjectMetadata) -> None:
        """Take an object as the last one before the committed offset, where none is in scope."""
        self.before_commit = metadata
        self._note_topic_id(metadata)

    def note_commit(self, metadata: ObjectMetadata, key: str) -> None:
        """Note whether an object begins at, ends at or contains the committed offset."""
        if self.commit is None:
            return
        offset, epoch = self.commit.offset, UNKNOWN if metadata.leader_epoch is None else metadata.leader_epoch
        if offset == metadata.start:
            self.commit_at_start.add(epoch)
        elif offset == metadata.end:
            self.commit_at_end.add(epoch)
        elif metadata.start < offset < metadata.end:
            self.commit_inside[epoch] = (Range(metadata.start, metadata.end), key)

    def _note_topic_id(self, metadata: ObjectMetadata) -> None:
        if (topic_id := metadata.topic_id) is None:
            return
        known = self.topic_ids.get(topic_id, Range(metadata.start, metadata.end))
        if topic_id in self.topic_ids or len(self.topic_ids) < MAX_TOPIC_IDS:
            self.topic_ids[topic_id] = Range(min(known.start, metadata.start), max(known.end, metadata.end))

    def count(self, metadata: ObjectMetadata, size: int, key: str) -> None:
        """Count an object that is in scope."""
        counts = self.counts
        counts.objects += 1
        counts.bytes += size
        counts.rows += metadata.rows
        counts.rejected += metadata.rejected
        counts.skipped += metadata.skipped or 0
        counts.add_timestamp(metadata.first_timestamp)
        counts.add_timestamp(metadata.last_timestamp)
        if not metadata.records:
            counts.holes += 1
            counts.hole_offsets += 0 if self._wide else metadata.end - metadata.start  # wide ones count nothing
        cluster = metadata.cluster or ""
        if cluster in self.clusters or len(self.clusters) < MAX_CLUSTERS:
            known, first = self.clusters.get(cluster, (0, key))
            self.clusters[cluster] = (known + 1, first)


class ChainVerifier:
    """The chains of all partitions. Commits and logs are the group's and Kafka's, read before the first listing."""

    def __init__(
        self,
        layout: ObjectKeys,
        scope: Scope,
        commits: Mapping[TopicPartition, Position | None],
        logs: Mapping[TopicPartition, LogRange],
    ) -> None:
        self.layout = layout
        self.scope = scope
        self.problems = Findings()
        self.notes = Findings()
        self.scanned = 0  # objects
        self.other_topics = 0
        self.strange_quarantine = 0
        self.partitions: dict[TopicPartition, PartitionChain] = {}
        self.overlaps: dict[TopicPartition, list[VerifyFinding]] = {}  # those that are in `problems.kept`
        self._commits = commits
        self._logs = logs
        self._ranges = 0
        self._max_epochs = min(MAX_EPOCHS, MAX_EPOCHS_IN_ALL // max(1, len(commits)))
        self._max_samples = min(MAX_SAMPLES, MAX_SAMPLES_IN_ALL // max(1, len(commits)))
        for partition in commits:
            self.partition(partition)

    def partition(self, partition: TopicPartition) -> PartitionChain:
        """The partition's chain, created at the first call. ``VerifyLimitError`` where there are too many."""
        chain = self.partitions.get(partition)
        if chain is None:
            if len(self.partitions) >= MAX_PARTITIONS:
                raise VerifyLimitError(
                    f"the sink has objects of more than {MAX_PARTITIONS} partitions",
                    hint="verify one topic at a time: --topic",
                )
            chain = self.partitions[partition] = PartitionChain(
                partition,
                self._commits.get(partition),
                self._logs.get(partition),
                max_epochs=self._max_epochs,
                samples=self._max_samples,
                wide=self.layout.wide,
            )
        return chain

    def selects(self, partition: TopicPartition) -> bool:
        """Whether the partition's topic is in scope; counts the object where it is not."""
        if self.scope.topics is None or partition.topic in self.scope.topics:
            return True
        self.other_topics += 1
        return False

    # -- what the scanner found

    def add_foreign(self, key: str, partition: TopicPartition | None = None) -> None:
        """An object without a name, or (where `partition` is given) without metadata, of ingestd."""
        what = "has a name of ingestd but not its metadata" if partition else "does not have a name of ingestd"
        self.problems.add("foreign", f"{key} {what}", partition, key=key)

    def add_deleted(self, name: DataObjectName) -> None:
        """An object that was listed and then no longer existed."""
        self.scanned += 1
        self.problems.add("deleted", f"{name.key} no longer exists", name.partition, key=name.key)

    def add_object(self, name: DataObjectName, metadata: ObjectMetadata, size: int) -> bool:
        """Add a data object with valid metadata to its chain; returns whether it is in scope."""
        self.scanned += 1
        if wrong := self._invalid(name, metadata):
            self.problems.add("mismatch", f"{name.key}: {wrong}", name.partition, key=name.key)
            return False
        return self._add(name, metadata, size, in_scope=self.scope.includes(metadata))

    def fill_gap(self, name: DataObjectName, metadata: ObjectMetadata, size: int) -> None:
        """Add an object to its chain although it may be out of the time range: it closes a gap of those in range."""
        known = self.partition(name.partition).branches.has(metadata.leader_epoch, metadata.start)
        if not known and not self._invalid(name, metadata):
            self._add(name, metadata, size, in_scope=self.scope.includes(metadata), fills=True)

    def add_content_problem(self, code: str, name: DataObjectName, key: str, wrong: str) -> None:
        """A wrong body: of the data object `name`, or of the quarantine object `key` that belongs to it."""
        other = name.key if key != name.key else None
        self.problems.add(code, f"{key}: {wrong}", name.partition, key=key, other=other)

    def count_quarantine(self, partition: TopicPartition, *, named: int = 0, superseded: int = 0) -> None:
        """Count quarantine objects that a data object names, and those that none names."""
        counts = self.partition(partition).counts
        counts.quarantine_objects += named
        counts.superseded += superseded

    def add_gap(self, partition: TopicPartition, gap: Gap, before: str | None, after: str | None) -> None:
        """Offsets in no object, with the keys of the objects before and after them."""
        between = f", between {before} and {after}" if before and after else ""
        offsets, lost = gap.offsets, ""
        if gap.lost_epoch is not None:
            lost = f" of leader epoch {gap.lost_epoch}, and Kafka has lost their records"
        message = f"{self._text(offsets)} in no object{lost}{between}"
        self.problems.add(
            "gap", message, partition, key=before, other=after, offsets=offsets, leader_epoch=gap.lost_epoch
        )

    def note_lost(self) -> None:
        """Note and count what Kafka has lost of each chain, once all objects were added."""
        for partition, chain in sorted(self.partitions.items()):
            for epoch, offsets, later, forked_at in chain.branches.lost():
                count = offsets.end - offsets.start
                chain.counts.lost_offsets += count
                text = f"{partition}: forked at {forked_at}, by leader epoch {later}: Kafka lost offsets {offsets} "
                text += f"({count}) of leader epoch {epoch}; their rows are kept"
                self.notes.add("forked", text, partition, offsets=offsets, leader_epoch=epoch)
            if chain.branches.merged != UNKNOWN:
                text = f"{partition}: more than {self._max_epochs} leader epochs; the oldest ones count as one"
                self.notes.add("not_compared", text, partition)

    def _add(
        self, name: DataObjectName, metadata: ObjectMetadata, size: int, *, in_scope: bool, fills: bool = False
    ) -> bool:
        if in_scope or fills:
            self._add_range(name, metadata)
        if in_scope:
            self.partition(name.partition).count(metadata, size, name.key)
            key = self.layout.data_key(
                name.partition, name.start, metadata.first_timestamp, metadata.end, name.leader_epoch
            )
            if name.key != key:
                self.problems.add("mismatch", f"{name.key} should be {key}", name.partition, key=name.key, other=key)
        return in_scope

    def _add_range(self, name: DataObjectName, metadata: ObjectMetadata) -> None:
        chain = self.partition(name.partition)
        before = chain.branches.size
        shared = chain.add_object(name, metadata)
        self._ranges += chain.branches.size - before
        if self._ranges > MAX_RANGES:
            raise VerifyLimitError(
                f"more than {MAX_RANGES} ranges of offsets do not touch: the records' timestamps are in no order",
                hint="verify less at a time: --topic, --since and --until",
            )
        if shared and self.layout.exactly_once:
            self._add_overlap(name, Range(shared[0].start, shared[-1].end), metadata.leader_epoch)
        elif shared:
            chain.counts.repeated_offsets += 0 if self.layout.wide else sum(each.end - each.start for each in shared)

    def _add_overlap(self, name: DataObjectName, shared: Range, epoch: int | None) -> None:
        message = f"{name.key} has {self._text(shared)}, which another object also has"
        kept = self.problems.add("overlap", message, name.partition, key=name.key, offsets=shared, leader_epoch=epoch)
        if kept is not None:
            self.overlaps.setdefault(name.partition, []).append(kept)

    def _text(self, offsets: Range) -> str:
        """Offsets with their number, where it says how many records they may be."""
        return f"{offsets}" if self.layout.wide else f"{offsets} ({offsets.end - offsets.start} offsets)"

    def _invalid(self, name: DataObjectName, metadata: ObjectMetadata) -> str:
        """Why the metadata cannot be that of an object of this name; empty where it can."""
        if wrong := _invalid_place(name, metadata, self.layout.last_position):
            return wrong
        offsets = Range(metadata.start, metadata.end)
        records, skipped = metadata.records, metadata.skipped or 0
        if min(metadata.rows, metadata.rejected, skipped) < 0 or records > metadata.end - metadata.start:
            others = f"{metadata.rejected} rejected" + (f" and {skipped} skipped" if skipped else "")
            return f"{metadata.rows} rows and {others} records do not fit into {offsets}"
        # An object may begin with offsets that retention had removed: then its first record comes after them.
        if records and not metadata.start <= metadata.first_offset < metadata.end:
            return f"its first record, {metadata.first_offset}, is not in {offsets}"
        if metadata.quarantine is not None and self._quarantine(name, metadata) is None:
            return f"{metadata.quarantine!r} is not a digest of a quarantine object"
        return ""

    def _quarantine(self, name: DataObjectName, metadata: ObjectMetadata) -> QuarantineObjectName | None:
        digest = metadata.quarantine or ""
        key = self.layout.quarantine_key(name.partition, name.start, metadata.first_timestamp, digest)
        return self.layout.parse_quarantine(key)


def _invalid_place(name: DataObjectName, metadata: ObjectMetadata, last: int) -> str:
    """Why the partition, the offsets or the leader epoch cannot be those of an object of this name."""
    partition, epoch = TopicPartition(metadata.topic, metadata.partition), metadata.leader_epoch
    if partition != name.partition or not _starts_as_named(name, metadata):
        return f"its metadata says {partition} from {metadata.start}"
    if not 0 <= metadata.start < metadata.end <= last:
        return f"its metadata says offsets {metadata.start}-{metadata.end}"
    if name.leader_epoch not in {None, epoch} or (epoch is not None and not 0 <= epoch <= _LAST_EPOCH):
        return f"its metadata says leader epoch {epoch}"
    return ""


def _starts_as_named(name: DataObjectName, metadata: ObjectMetadata) -> bool:
    """The first object of an epoch may be named after its first batch: no record is before it."""
    if name.leader_epoch is None:
        return name.start == metadata.start
    return metadata.start <= name.start <= max(metadata.start, metadata.first_offset)
