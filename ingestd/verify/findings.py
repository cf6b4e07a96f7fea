"""What `ingestd verify` can find: each code with what it means and what to do, and the report as a document. Pure."""

from collections import Counter

import msgspec

from ingestd.core.records import TopicPartition

#: Something is wrong. The codes are in the report's JSON, and stay.
PROBLEMS: dict[str, str] = {
    "gap": "Offsets between two objects are in none of them: an object was deleted, moved or renamed. Restore it,"
    " from the bucket's versions or a backup. Where it is gone, and the log still has its records, ingest them "
    "again under a new `sink.lineage`.",
    "before_first": "`kafka.start` is earliest, and the log still has records before the first object: the first "
    "objects were deleted, or the group was set past them. Restore them. If it was on purpose, give this command "
    "`--set kafka.start=latest`.",
    "overlap": "The same offsets are in two objects, so their rows are there twice: one is no work of the daemon,"
    " or was copied. Find out which one the neighbours fit, move the other away, and remove its rows from the "
    "warehouse.",
    "foreign": "An object below events/ that is not ingestd's. Snowpipe loads it, too: move it away. If its name "
    "is one of ours, its metadata was lost, as by a copy: restore the original.",
    "mismatch": "An object's name and its metadata do not agree, or the metadata cannot be true: it was renamed, "
    "copied or rewritten. Its rows are not counted, except where only the day is wrong. Restore the original.",
    "cluster": "Objects of another Kafka cluster than the others': two clusters write into one chain. Give each "
    "of them a `sink.url` or a `sink.lineage` of its own.",
    "deleted": "An object was listed, and a moment later was not there: something deletes objects now. Find out "
    "what, such as a lifecycle rule, and restore it.",
    "content": "The rows in an object are not those that were written: it was overwritten or damaged. Restore the"
    " version that has the sha256 of the metadata.",
    "quarantine_missing": "The object with the rejected records of a data object is not there. Restore it: the "
    "records themselves are in no row.",
    "quarantine_content": "A quarantine object does not hold the rejected records of its data object: it was "
    "overwritten or damaged. Restore it.",
    "lost": "The group's committed offset is past the end of the chain: records before it are in no object, and "
    "no daemon will read them. Objects were deleted (restore them), or the offset was set by another tool: set it"
    " back to the end of the chain while no daemon runs.",
    "misaligned": "The group's committed offset is not a boundary of the chain: a daemon that starts there halts "
    "that partition. Reset the offset to the one that the message names, while no daemon runs.",
    "lost_upstream": "Retention has removed records before they were read. The daemon halts that partition, or "
    "with `kafka.skip_lost` seals the hole with an empty object. Make retention longer than the longest outage.",
    "recreated_topic": "Objects reach past the end of the log, or are of a partition that the topic does not "
    "have: it was deleted and created again, or this is another cluster. Begin a new `sink.lineage` and reset the"
    " group.",
}
#: Worth knowing, and harmless.
NOTES: dict[str, str] = {
    "trails": "The committed offset is behind the end of the chain. A daemon that starts there adopts the objects"
    " after it.",
    "mark": "The committed offset was not written by a daemon that writes to this place. A daemon that starts "
    "there looks through all days once.",
    "no_commit": "The group has no committed offset. A daemon goes on at the end of the chain.",
    "no_objects": "The log has records, and there is no object yet.",
    "holes": "Objects without rows stand for records that retention had removed before they were read.",
    "superseded": "Quarantine objects that no data object names: left by attempts that did not land, or of a "
    "batch that is landing now. Harmless where no object is missing.",
    "repeated": 'Offsets that are in more than one object, as `sink.delivery` = "at-least-once" allows.',
    "other_topics": "Objects of topics that were not asked for were passed by.",
    "strange_quarantine": "Objects below quarantine/ whose names are not ingestd's. Nothing reads them.",
    "not_asked_again": "Kafka did not answer after the walk: whether the log was created anew meanwhile, and how far "
    "the group is behind, is not known.",
}

MAX_KEPT = 20  # findings of one code and partition; the rest is counted
MAX_KEPT_IN_ALL = 2000


class VerifyFinding(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A problem or a note. Offsets ``[start, end)``; `key` is the object's, `other` that of whom it is at odds with."""

    code: str
    message: str
    topic: str | None = None
    partition: int | None = None
    key: str | None = None
    other: str | None = None
    start: int | None = None
    end: int | None = None


class Findings:
    """Findings as they come: all are counted, the first ones are kept."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.kept: list[VerifyFinding] = []
        self._by_place: Counter[tuple[str, str | None, int | None]] = Counter()
        self._by_partition: Counter[tuple[str | None, int | None]] = Counter()

    def add(self, finding: VerifyFinding) -> None:
        place = (finding.code, finding.topic, finding.partition)
        self.counts[finding.code] += 1
        self._by_place[place] += 1
        self._by_partition[place[1:]] += 1
        if self._by_place[place] <= MAX_KEPT and len(self.kept) < MAX_KEPT_IN_ALL:
            self.kept.append(finding)

    def of(self, partition: TopicPartition) -> int:
        """How many there are of one partition."""
        return self._by_partition[partition]


class Tally(msgspec.Struct, kw_only=True):
    """What was counted of one partition, or of all of them."""

    objects: int = 0
    bytes: int = 0  # of data objects, as they are stored
    rows: int = 0
    rejected: int = 0  # records
    quarantine_objects: int = 0  # that data objects name
    superseded: int = 0  # quarantine objects that none names
    holes: int = 0  # objects that stand for records which were gone before they were read
    hole_offsets: int = 0
    repeated_offsets: int = 0  # in more than one object, where delivery is at-least-once
    first_timestamp: int | None = None  # Kafka's, milliseconds; as the next
    last_timestamp: int | None = None

    def add(self, other: "Tally") -> None:
        """Count what `other` has counted."""
        for name in self.__struct_fields__:
            if not name.endswith("_timestamp"):
                setattr(self, name, getattr(self, name) + getattr(other, name))
        self.meet(other.first_timestamp)
        self.meet(other.last_timestamp)

    def meet(self, timestamp: int | None) -> None:
        """Widen the time to a timestamp."""
        if timestamp is None:
            return
        first, last = self.first_timestamp, self.last_timestamp
        self.first_timestamp = timestamp if first is None else min(first, timestamp)
        self.last_timestamp = timestamp if last is None else max(last, timestamp)


class PartitionReport(msgspec.Struct, kw_only=True):
    """One partition. Offsets are None where they are not known or were not asked for."""

    topic: str
    partition: int
    start: int | None = None  # of the first object
    end: int | None = None  # of the last
    committed: int | None = None
    log_start: int | None = None
    log_end: int | None = None
    lag: int | None = None  # offsets from the end of the chain to that of the log, when the command began
    problems: int = 0
    counts: Tally = msgspec.field(default_factory=Tally)


class VerifyReport(msgspec.Struct, kw_only=True):
    """The whole; ``--json`` prints it."""

    version: str
    sink: str
    lineage: str | None
    delivery: str
    since: int | None  # Kafka timestamps, milliseconds
    until: int | None
    read: bool  # whether the rows were read
    cluster: str | None  # of Kafka, where it was asked
    group: str | None
    days: int  # folders that were looked through
    ok: bool
    totals: Tally
    problem_counts: dict[str, int]
    problems: list[VerifyFinding]  # at most 20 of each code and partition
    note_counts: dict[str, int]
    notes: list[VerifyFinding]
    partitions: list[PartitionReport]
