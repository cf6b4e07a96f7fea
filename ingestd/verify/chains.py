"""Judges chains by the facts about their objects, in whatever order they come, in bounded memory. Pure.

Kept of each partition are the merged ranges of its objects, some counts, and the first problems of each kind. Objects
that follow each other merge, whatever days they lie on: a year of them is one range.
"""

import msgspec

from ingestd.core.errors import IngestdError
from ingestd.core.object_keys import DataObjectName, ObjectKeys, ObjectMetadata, QuarantineObjectName
from ingestd.core.records import Position, TopicPartition
from ingestd.verify.findings import Findings, Tally, VerifyFinding
from ingestd.verify.ranges import Range, Ranges

MAX_RANGES = 500_000  # of all partitions together, before they have merged
MAX_PARTITIONS = 20_000
MAX_CLUSTERS = 4  # of one partition, by name

_LAST_OFFSET = 2**63 - 1


class AuditError(IngestdError):
    """There is more to remember than there is room for."""


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """What is looked at: topics (None: all), and Kafka timestamps ``[since, until)`` in milliseconds."""

    topics: frozenset[str] | None = None
    since: int | None = None
    until: int | None = None

    @property
    def whole(self) -> bool:
        """Whether all times are looked at."""
        return self.since is None and self.until is None

    def holds(self, landed: ObjectMetadata) -> bool:
        """Whether an object's time, from its first record to its last, meets the range."""
        first, last = sorted((landed.first_timestamp, landed.last_timestamp))
        return (self.since is None or last >= self.since) and (self.until is None or first < self.until)


class Links:
    """The objects of one partition, as far as they were seen."""

    def __init__(self, partition: TopicPartition, commit: Position | None) -> None:
        self.partition = partition
        self.commit = commit
        self.ranges = Ranges()
        self.tally = Tally()
        self.clusters: dict[str, tuple[int, str]] = {}  # how many objects, and the key of the first
        self.boundary = False  # the committed offset is where an object begins or ends
        self.around: tuple[Range, str] | None = None  # the object that has the committed offset inside
        self.before: Range | None = None  # where nothing is in scope: the last object before the committed offset
        self.after: int | None = None  # the same: the start of the next one behind it

    @property
    def extent(self) -> Range | None:
        """From the first object to the last that is known."""
        return self.ranges.whole or self.before

    def link(self, start: int, end: int, key: str) -> list[Range]:
        """Add an object's range; what of it was there already."""
        self.meet(Range(start, end), key)
        return self.ranges.add(start, end)

    def meet(self, found: Range, key: str) -> None:
        """See how an object lies to the committed offset."""
        if self.commit is None:
            return
        offset = self.commit.offset
        if offset in found:  # as a tuple: its start or its end
            self.boundary = True
        elif found.start < offset < found.end:
            self.around = (found, key)

    def count(self, landed: ObjectMetadata, size: int, key: str) -> None:
        tally = self.tally
        tally.objects += 1
        tally.bytes += size
        tally.rows += landed.rows
        tally.rejected += landed.rejected
        tally.meet(landed.first_timestamp)
        tally.meet(landed.last_timestamp)
        if not landed.rows and not landed.rejected:
            tally.holes += 1
            tally.hole_offsets += landed.end - landed.start
        cluster = landed.cluster or ""
        if cluster in self.clusters or len(self.clusters) < MAX_CLUSTERS:
            known, first = self.clusters.get(cluster, (0, key))
            self.clusters[cluster] = (known + 1, first)


class Audit:
    """All partitions. `commits` are the group's positions, read before the first listing."""

    def __init__(self, layout: ObjectKeys, scope: Scope, commits: dict[TopicPartition, Position | None]) -> None:
        self.layout = layout
        self.scope = scope
        self.problems = Findings()
        self.notes = Findings()
        self.objects = 0  # looked at
        self.other_topics = 0
        self.strange_quarantine = 0
        self.links: dict[TopicPartition, Links] = {}
        self.overlaps: dict[TopicPartition, list[VerifyFinding]] = {}  # those that are kept
        self._commits = commits
        self._ranges = 0
        for partition in commits:
            self.of(partition)

    def of(self, partition: TopicPartition) -> Links:
        """What is known of a partition. ``AuditError`` where there are too many of them."""
        links = self.links.get(partition)
        if links is None:
            if len(self.links) >= MAX_PARTITIONS:
                raise AuditError(
                    f"there are objects of more than {MAX_PARTITIONS} partitions", hint="look at one topic: --topic"
                )
            links = self.links[partition] = Links(partition, self._commits.get(partition))
        return links

    def wants(self, partition: TopicPartition) -> bool:
        """Whether its objects are looked at."""
        if self.scope.topics is None or partition.topic in self.scope.topics:
            return True
        self.other_topics += 1
        return False

    # -- what is found

    def foreign(self, key: str, partition: TopicPartition | None = None) -> None:
        """An object whose name, or whose metadata, is not ours."""
        what = "has a name of ingestd's, and no metadata of it" if partition else "is no name of ingestd's"
        self._problem("foreign", f"{key} {what}", partition, key=key)

    def deleted(self, name: DataObjectName) -> None:
        """An object that was listed and then was not there."""
        self.objects += 1
        self._problem("deleted", f"{name.key} is not there any more", name.partition, key=name.key)

    def take(self, name: DataObjectName, landed: ObjectMetadata, size: int, *, filling: bool = False) -> bool:
        """An object of ours; whether it counts. One that is `filling` a hole belongs to the chain whatever its time."""
        if not filling:
            self.objects += 1
        if wrong := self._untrue(name, landed):
            if not filling:
                self._problem("mismatch", f"{name.key}: {wrong}", name.partition, key=name.key)
            return False
        counts = self.scope.holds(landed)
        if counts or filling:
            self._link(name, landed)
        if counts:
            self.of(name.partition).count(landed, size, name.key)
            if name.key != (key := self._key(name, landed)):
                self._problem("mismatch", f"{name.key} should be {key}", name.partition, key=name.key, other=key)
        return counts

    def content(self, code: str, name: DataObjectName, key: str, wrong: str) -> None:
        """What is wrong with a body: with that of the data object `name`, or of the quarantine object beside it."""
        self._problem(code, f"{key}: {wrong}", name.partition, key=key, other=name.key if key != name.key else None)

    def quarantined(self, partition: TopicPartition, named: int, superseded: int) -> None:
        """Quarantine objects: how many a data object names, and how many none does."""
        tally = self.of(partition).tally
        tally.quarantine_objects += named
        tally.superseded += superseded

    def gap(self, partition: TopicPartition, hole: Range, before: str | None, after: str | None) -> None:
        """Offsets in no object, and the objects around them."""
        between = f", between {before} and {after}" if before and after else ""
        message = f"{hole} ({hole.end - hole.start} offsets) in no object{between}"
        self._problem("gap", message, partition, key=before, other=after, start=hole.start, end=hole.end)

    def _link(self, name: DataObjectName, landed: ObjectMetadata) -> None:
        links = self.of(name.partition)
        before = len(links.ranges)
        shared = links.link(landed.start, landed.end, name.key)
        self._ranges += len(links.ranges) - before
        if self._ranges > MAX_RANGES:
            raise AuditError(
                f"more than {MAX_RANGES} pieces of chains do not meet: their records' timestamps have no order",
                hint="look at less at a time: --topic, --since and --until",
            )
        if shared and self.layout.exactly_once:
            self._overlap(name, Range(shared[0].start, shared[-1].end))
        elif shared:
            links.tally.repeated_offsets += sum(each.end - each.start for each in shared)

    def _overlap(self, name: DataObjectName, shared: Range) -> None:
        message = f"{name.key} has {shared} ({shared.end - shared.start} offsets) that another object has, too"
        kept = len(self.problems.kept)
        self._problem("overlap", message, name.partition, key=name.key, start=shared.start, end=shared.end)
        if len(self.problems.kept) > kept:
            self.overlaps.setdefault(name.partition, []).append(self.problems.kept[-1])

    def _untrue(self, name: DataObjectName, landed: ObjectMetadata) -> str:
        """What is not as an object of this name can be; empty where nothing is."""
        said = TopicPartition(landed.topic, landed.partition)
        if (said, landed.start) != (name.partition, name.start):
            return f"the metadata says {said} from {landed.start}"
        if not 0 <= landed.start < landed.end <= _LAST_OFFSET:
            return f"the metadata says {landed.start}-{landed.end}"
        records = landed.rows + landed.rejected
        if min(landed.rows, landed.rejected) < 0 or records > landed.end - landed.start:
            return f"{landed.rows} rows and {landed.rejected} rejected do not fit into {landed.start}-{landed.end}"
        # The first record after a hole that retention has left is behind it.
        if records and not landed.start <= landed.first_offset < landed.end:
            return f"the first record, {landed.first_offset}, is not in {landed.start}-{landed.end}"
        if landed.quarantine is not None and self._quarantine(name, landed) is None:
            return f"{landed.quarantine!r} names no quarantine object"
        return ""

    def _quarantine(self, name: DataObjectName, landed: ObjectMetadata) -> QuarantineObjectName | None:
        key = self.layout.quarantine_key(name.partition, name.start, landed.first_timestamp, landed.quarantine or "")
        return self.layout.parse_quarantine(key)

    def _key(self, name: DataObjectName, landed: ObjectMetadata) -> str:
        return self.layout.data_key(name.partition, landed.start, landed.first_timestamp, landed.end)

    def _problem(
        self,
        code: str,
        message: str,
        partition: TopicPartition | None,
        *,
        key: str | None = None,
        other: str | None = None,
        start: int | None = None,
        end: int | None = None,
    ) -> None:
        topic, number = partition or (None, None)
        self.problems.add(
            VerifyFinding(
                code=code, message=message, topic=topic, partition=number, key=key, other=other, start=start, end=end
            )
        )
