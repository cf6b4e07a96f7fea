"""The findings of `ingestd verify`: each code's meaning and remedy, and the structure of the report. Pure."""

from collections import Counter

import msgspec

from ingestd.core.records import TopicPartition
from ingestd.verify.ranges import Range

#: Codes of what is wrong. They are in the report's JSON and never change.
PROBLEMS: dict[str, str] = {
    "gap": "Offsets between two objects are in none of them: an object was deleted, moved or renamed. Restore it "
    "from the bucket's versions or a backup. If it is lost and the log still has its records, ingest them again "
    "under a new `sink.lineage`.",
    "before_first": "`kafka.start` is earliest and the log has records before the first object: the first objects "
    "were deleted, or the group's offset was set past them. Restore the objects. If this was intended, run this "
    "command with `--set kafka.start=latest`.",
    "overlap": "Two objects have the same offsets, so their rows are in the warehouse twice. One of the objects is a "
    "copy, or was not written by the daemon. Keep the one that fits its neighbours, move the other one away, and "
    "delete its rows from the warehouse.",
    "foreign": "An object below events/ was not written by ingestd. Snowpipe loads it, too: move it away. If its name "
    "is one of ingestd's, a copy lost its metadata: restore the original.",
    "mismatch": "An object's name and metadata contradict each other, or its metadata is impossible: the object was "
    "renamed, copied or rewritten. Its rows are not counted, unless only its day is wrong. Restore the original.",
    "cluster": "Some objects come from another Kafka cluster than the rest: two clusters write into one chain. Give "
    "each cluster its own `sink.url` or `sink.lineage`.",
    "deleted": "An object was listed and no longer existed a moment later: something is deleting objects now. Find "
    "out what (often a lifecycle rule), stop it and restore the object.",
    "content": "The rows in an object are not the ones that were written: the object was overwritten or damaged. "
    "Restore the version with the sha256 of its metadata.",
    "quarantine_missing": "The quarantine object with a data object's rejected records does not exist. Restore it: "
    "no row has these records.",
    "quarantine_content": "A quarantine object does not have the rejected records of its data object: it was "
    "overwritten or damaged. Restore it.",
    "lost": "The group's committed offset is past the end of the chain: no object has the records in between, and no "
    "daemon will read them. If objects were deleted, restore them. If another tool set the offset, stop the daemon "
    "and reset the offset to the end of the chain.",
    "misaligned": "No object begins or ends at the group's committed offset: a daemon that starts there halts that "
    "partition. Stop the daemon and reset the offset to the one in the message.",
    "lost_upstream": "Retention removed records before the daemon read them. The daemon halts that partition; with "
    "`kafka.skip_lost` it writes an empty object for the lost offsets and continues. Set the retention time to more "
    "than the longest outage.",
    "log_truncated": "Kafka has lost records that are in objects: an unclean leader election or a replica restored "
    "from an older state truncated its log. Their rows are kept. New records take their offsets; those in the message "
    "are in no object. A daemon that has just met the truncation halts, or ingests them where `kafka.on_truncation` is "
    "fork. Where the chain went on behind them, ingest these offsets again under a new `sink.lineage`.",
    "recreated_topic": "Objects reach past the end of the log, or belong to a partition that the topic does not have: "
    "the topic was deleted and created again, or this is another cluster. Choose a new `sink.lineage` and reset the "
    "group's offsets.",
    "message_repeated": "A message of the queue is in two data objects, so its row is in the warehouse twice. A "
    "standard queue may have handed it to two receivers at the same moment; else manifests or fences were deleted, or "
    "two daemons do not write to the same place. Delete one of the rows, by `source_message_id`.",
    "manifest_missing": "A data object of a queue has no manifest: manifests were deleted before the queue's retention "
    "was over, or the object is a copy. A message that comes again may land twice. Give the lifecycle rule of "
    "`.ingestd/manifests/` more than 15 days.",
    "manifest_content": "A manifest does not have the messages of its data object: one of the two was overwritten or "
    "damaged. Restore it from the bucket's versions.",
}
#: Codes of what is good to know and harmless.
NOTES: dict[str, str] = {
    "forked": "Kafka truncated its log, and the chain goes on from there with the new records, of a later leader "
    "epoch. Rows of the records that Kafka has lost are kept: leave them out where they must not count.",
    "not_compared": "Objects that were not compared with the log: a truncation there is not found.",
    "trails": "The committed offset is behind the end of the chain. A daemon that starts there continues after the "
    "existing objects.",
    "mark": "The committed offset was not written by a daemon that writes to this place. A daemon that starts there "
    "lists all days once.",
    "no_commit": "The group has no committed offset. A daemon continues at the end of the chain.",
    "no_objects": "The log has records, and there is no object yet.",
    "holes": "Objects without rows: retention had removed their records before the daemon read them.",
    "superseded": "Quarantine objects that no data object names. They were written by attempts that failed, or belong "
    "to a batch that is being uploaded now. Harmless unless a data object is missing.",
    "repeated": 'Offsets that are in more than one object, as `sink.delivery` = "at-least-once" allows.',
    "other_topics": "Objects of topics that were not selected were skipped.",
    "strange_quarantine": "Objects below quarantine/ with names that are not ingestd's. Nothing reads them.",
    "journal_in_use": "A collector has its journal open, so the objects were compared with one another alone. Verify "
    "again while it is stopped to compare them with the journal, too.",
    "fences": "Empty objects that kept the batch of a daemon that was too slow from landing; another one has written "
    "its messages.",
    "unfinished": "Manifests without a data object: their batches are being written now, or were given up.",
    "manifests_expired": "Data objects that are older than a queue's retention and have no manifest any more.",
    "not_asked_again": "Kafka did not answer after the scan. Not known: whether the topic was created again in the "
    "meantime, and how far the group is behind.",
}

#: What codes mean otherwise, by the source.
MEANINGS: dict[str, dict[str, str]] = {
    "kinesis": {
        "before_first": "Where a shard begins is on record below `.ingestd/kinesis/`, and its first object begins "
        "later: the first objects were deleted. Restore them.",
        "cluster": "Some objects come from another stream than the rest: two streams write into one chain. Give each "
        "stream its own `sink.url` or `sink.lineage`.",
        "lost": "A shard is closed, and had landed to its end, but its last objects are missing: they were deleted. "
        "Restore them.",
        "lost_upstream": "Retention may have removed records before the daemon read them: the last record that landed "
        "is not in the stream any more, and no daemon has seen the shard empty behind it since. The daemon halts that "
        "shard; with `kinesis.skip_lost` it writes an empty object for the hole and continues. Set the retention time "
        "of the stream to more than the longest outage.",
        "recreated_topic": "Objects have records that the stream does not have at their sequence numbers: it was "
        "deleted and created again, or this is another stream. Choose a new `sink.lineage`.",
        "no_objects": "The stream has records of a shard, and there is no object of it yet.",
        "not_compared": "Objects that were not compared with the stream.",
        "holes": "Objects without rows: retention had removed their records before the daemon read them.",
        "other_topics": "Objects of streams that were not selected were skipped.",
        "not_asked_again": "Kinesis did not answer after the scan, so the objects' records were not compared with the "
        "stream's.",
    }
}

MAX_KEPT = 20  # findings of one code and partition that are kept; all are counted
MAX_KEPT_IN_ALL = 2000


class VerifyFinding(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A problem or a note about offsets ``[start, end)``, the object `key`, and the object `other` related to it.

    `leader_epoch` is that of the records at these offsets.
    """

    code: str
    message: str
    topic: str | None = None
    partition: int | None = None
    key: str | None = None
    other: str | None = None
    start: int | None = None
    end: int | None = None
    leader_epoch: int | None = None


class Findings:
    """Collects findings: counts all of them and keeps the first ones of each code and partition."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.kept: list[VerifyFinding] = []
        self._by_code: Counter[tuple[str, str | None, int | None]] = Counter()
        self._by_partition: Counter[tuple[str | None, int | None]] = Counter()

    def add(
        self,
        code: str,
        message: str,
        partition: TopicPartition | None = None,
        *,
        key: str | None = None,
        other: str | None = None,
        offsets: Range | None = None,
        leader_epoch: int | None = None,
    ) -> VerifyFinding | None:
        """Count a finding; returns it if it is kept as one of the first."""
        topic, number = partition or (None, None)
        start, end = offsets or (None, None)
        self.counts[code] += 1
        self._by_code[code, topic, number] += 1
        self._by_partition[topic, number] += 1
        if self._by_code[code, topic, number] > MAX_KEPT or len(self.kept) >= MAX_KEPT_IN_ALL:
            return None
        finding = VerifyFinding(
            code=code,
            message=message,
            topic=topic,
            partition=number,
            key=key,
            other=other,
            start=start,
            end=end,
            leader_epoch=leader_epoch,
        )
        self.kept.append(finding)
        return finding

    def count(self, partition: TopicPartition) -> int:
        """The number of findings about one partition."""
        return self._by_partition[partition]


class ChainCounts(msgspec.Struct, kw_only=True):
    """Counts of one partition, or of all partitions."""

    objects: int = 0
    bytes: int = 0  # of data objects, compressed
    rows: int = 0
    rejected: int = 0  # records
    skipped: int = 0  # tombstones that are neither, as the objects' metadata say
    quarantine_objects: int = 0  # that data objects name
    superseded: int = 0  # quarantine objects that no data object names
    holes: int = 0  # empty objects, for records that retention removed before they were read
    hole_offsets: int = 0
    lost_offsets: int = 0  # that Kafka has lost and new records have taken: their rows are in older branches
    repeated_offsets: int = 0  # in more than one object, where delivery is at-least-once
    first_timestamp: int | None = None  # Kafka's, in milliseconds
    last_timestamp: int | None = None

    def add(self, other: "ChainCounts") -> None:
        """Add the counts of `other`."""
        for name in self.__struct_fields__:
            if not name.endswith("_timestamp"):
                setattr(self, name, getattr(self, name) + getattr(other, name))
        self.add_timestamp(other.first_timestamp)
        self.add_timestamp(other.last_timestamp)

    def add_timestamp(self, timestamp: int | None) -> None:
        """Extend the time range to a timestamp."""
        if timestamp is None:
            return
        first, last = self.first_timestamp, self.last_timestamp
        self.first_timestamp = timestamp if first is None else min(first, timestamp)
        self.last_timestamp = timestamp if last is None else max(last, timestamp)


class ForkReport(msgspec.Struct, frozen=True, kw_only=True):
    """Offsets ``[start, end)`` of a leader epoch that Kafka has lost, and the later one that the chain forked to."""

    leader_epoch: int
    start: int
    end: int
    later_epoch: int


class PartitionReport(msgspec.Struct, kw_only=True):
    """One partition. Offsets are None where they are not known or were not asked for."""

    topic: str
    partition: int
    start: int | None = None  # of the first object
    end: int | None = None  # of the last object of the chain
    leader_epoch: int | None = None  # of that object
    forks: list[ForkReport] = []  # what Kafka has lost, the oldest leader epoch first
    committed: int | None = None
    committed_epoch: int | None = None  # the leader epoch of the record before it
    log_start: int | None = None
    log_end: int | None = None
    lag: int | None = None  # offsets from the end of the chain to the end of the log, when the command began
    problems: int = 0
    counts: ChainCounts = msgspec.field(default_factory=ChainCounts)


class VerifyReport(msgspec.Struct, kw_only=True):
    """The whole report; ``--json`` prints it."""

    version: str
    sink: str
    lineage: str | None
    delivery: str
    since: int | None  # Kafka timestamps in milliseconds
    until: int | None
    read: bool  # whether the bodies were read
    source: str = "kafka"
    cluster: str | None  # Kafka's, where Kafka was asked
    group: str | None
    days: int  # day folders that were scanned
    ok: bool
    totals: ChainCounts
    problem_counts: dict[str, int]
    problems: list[VerifyFinding]  # at most 20 of each code and partition
    note_counts: dict[str, int]
    notes: list[VerifyFinding]
    partitions: list[PartitionReport]
