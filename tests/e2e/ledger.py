"""Reads all that a daemon has written, and says whether each record is there exactly once."""

import gzip
import hashlib
import json
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from ingestd.core import gzip_extra, quarantine
from ingestd.core.object_keys import MEMBERS, OWN, QUARANTINE, ObjectKeys
from ingestd.core.object_metadata import ObjectMetadata
from ingestd.core.quarantine import Quarantined
from ingestd.core.records import TopicPartition
from tests.services.seaweed import S3Store

_MAX_PROBLEMS = 20  # that are put in words
_NO_END = 10**60  # beyond all positions


@dataclass
class Link:
    """One data object: what it says of itself, and the offsets of its rows."""

    key: str
    landed: ObjectMetadata
    offsets: list[int]
    ids: list[str] = field(default_factory=list)  # of the rows' events
    end: int = _NO_END  # from here on Kafka has lost the records, and a later leader epoch has the offsets

    def __post_init__(self) -> None:
        self.end = min(self.end, self.landed.end)

    @property
    def kept(self) -> int:
        """The number of rows whose records Kafka has not lost."""
        return bisect_left(self.offsets, self.end)


@dataclass
class Tally:
    """What is there, against what was written. All is well when there are no problems."""

    records: int = 0  # written
    rows: int = 0
    quarantined: int = 0
    objects: int = 0
    lost: int = 0  # records that are neither in a row nor in quarantine
    doubled: int = 0  # rows too many, in a second row or beside the quarantine
    strange: int = 0  # offsets that nobody wrote
    gaps: int = 0  # between two objects of a chain
    overlaps: int = 0
    problems: list[str] = field(default_factory=list)  # all of the above, and whatever else is wrong, in words

    def demand(self, condition: object, problem: str) -> None:
        """Note the problem where the condition does not hold."""
        if not condition and len(self.problems) < _MAX_PROBLEMS:
            self.problems.append(problem)


@dataclass
class Ledger:
    """What is in the bucket of one topic and lineage.

    Where Kafka truncated its log and the chain has forked, rows and rejected records that Kafka has lost are apart.
    """

    topic: str
    layout: ObjectKeys
    chains: dict[int, list[Link]] = field(default_factory=lambda: defaultdict(list))  # by partition, in order
    quarantined: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    event_ids: list[str] = field(default_factory=list)
    quarantine_objects: int = 0
    lost_by_kafka: dict[int, set[tuple[int, int]]] = field(default_factory=lambda: defaultdict(set))  # epoch, offset
    lost_event_ids: list[str] = field(default_factory=list)  # of rows

    @property
    def objects(self) -> int:
        """Data objects."""
        return sum(map(len, self.chains.values()))

    @property
    def rows(self) -> int:
        return sum(link.kept for chain in self.chains.values() for link in chain)

    def boundaries(self, partition: int) -> list[int]:
        """Where the objects of a partition begin, and the end of the last."""
        chain = self.chains[partition]
        return [*(link.landed.start for link in chain), chain[-1].end]

    def check(self, records: Mapping[int, Collection[int]], ids: Collection[str] | None = None) -> None:
        """Each offset in `records`, and no other, is in one row or in quarantine; `ids` are the events in rows.

        `records` has all partitions of the topic.
        """
        tally = self.tally(records, ids)
        assert not tally.problems, "\n".join(tally.problems)

    def tally(self, records: Mapping[int, Collection[int]], ids: Collection[str] | None = None) -> Tally:
        """The same, counted."""
        tally = Tally(
            records=sum(map(len, records.values())),
            rows=self.rows,
            quarantined=sum(map(len, self.quarantined.values())),
            objects=self.objects,
        )
        strangers = (self.chains.keys() | self.quarantined.keys()) - records.keys()
        tally.demand(not strangers, f"objects of partitions that do not exist: {strangers}")
        for partition, offsets in records.items():
            self._count_records(tally, partition, set(offsets))
            self._count_chain(tally, partition, sorted(offsets))
        if ids is not None:
            tally.demand(len(self.event_ids) == len(ids), f"{len(self.event_ids)} events are in rows, not {len(ids)}")
            tally.demand(set(self.event_ids) == set(ids), "other events than were written are in rows")
        return tally

    def _count_records(self, tally: Tally, partition: int, expected: set[int]) -> None:
        rows = [offset for link in self.chains[partition] for offset in link.offsets[: link.kept]]
        once, quarantined = set(rows), self.quarantined[partition]
        found, both = once | quarantined, once & quarantined
        again, lost, strange = len(rows) - len(once), expected - found, found - expected
        where = f"{self.topic}[{partition}]"
        tally.demand(not again, f"{where}: {again} rows are there more than once")
        tally.demand(not both, f"{where}: in a row and in quarantine: {_some(both)}")
        tally.demand(not lost, f"{where}: lost: {_some(lost)}")
        tally.demand(not strange, f"{where}: never written: {_some(strange)}")
        tally.doubled += again + len(both)
        tally.lost += len(lost)
        tally.strange += len(strange)

    def _count_chain(self, tally: Tally, partition: int, expected: list[int]) -> None:
        chain = self.chains[partition]
        for before, after in pairwise(chain):
            end, start = before.end, after.landed.start
            tally.gaps += end < start
            tally.overlaps += end > start
            tally.demand(end == start, f"gap or overlap between {before.key}, to {end}, and {after.key}")
        if not chain:
            tally.demand(not expected, f"{self.topic}[{partition}]: no objects")
            return
        if expected:
            tally.demand(chain[0].landed.start <= expected[0], f"{chain[0].key}: begins too late")
            tally.demand(chain[-1].end == expected[-1] + 1, f"{chain[-1].key}: not the end, {expected[-1] + 1}")
        begin = 0
        for link in chain:
            end = bisect_left(expected, link.end)
            self._count_link(tally, link, expected[begin:end], partition)
            begin = end

    def _count_link(self, tally: Tally, link: Link, expected: list[int], partition: int) -> None:
        """`expected` are the offsets that the object stands for."""
        landed = link.landed
        place = TopicPartition(self.topic, partition)
        name = self.layout.parse(link.key)
        start, epoch = (name.start, name.leader_epoch) if name is not None else (landed.start, None)
        right = self.layout.data_key(place, start, landed.first_timestamp, landed.end, epoch)
        tally.demand(link.key == right, f"{link.key}: the name should be {right}")
        tally.demand(landed.rows == len(link.offsets), f"{link.key}: {len(link.offsets)} rows, says {landed.rows}")
        tally.demand(link.offsets == sorted(link.offsets), f"{link.key}: rows are not in order")
        if not expected:
            # So it is where retention was first: the object closes the hole, and names the record after it.
            hole = landed.rows == landed.rejected == 0 and landed.first_offset >= landed.end
            tally.demand(hole, f"{link.key}: stands for no record")
            return
        first = landed.start <= expected[0] == landed.first_offset
        tally.demand(first, f"{link.key}: first is {expected[0]}: {landed}")
        if link.end < landed.end:
            return  # Kafka has lost the rest of what its metadata counts
        tally.demand(landed.end == expected[-1] + 1, f"{link.key}: last is {expected[-1]}: {landed}")
        counted = landed.rows + landed.rejected
        tally.demand(counted == len(expected), f"{link.key}: stands for {len(expected)} records, says {counted}")


def read(
    store: S3Store, bucket: str, topic: str, lineage: str | None = None, *, root: str = "", wide: bool = False
) -> Ledger:
    """Everything of one lineage in the bucket, below `root`; what is not as it must be raises AssertionError.

    `wide`: of a source with wide positions.
    """
    with closing(store.client()) as client:
        return _ledger(topic, ObjectKeys(lineage, wide=wide), lineage, _in_bucket(client, bucket, root))


def read_directory(root: Path, topic: str, lineage: str | None = None) -> Ledger:
    """As `read`, of a local sink."""
    return _ledger(topic, ObjectKeys(lineage), lineage, _in_directory(root))


def _ledger(
    topic: str, layout: ObjectKeys, lineage: str | None, objects: Iterable[tuple[str, bytes, Mapping[str, str]]]
) -> Ledger:
    """From keys, bodies and metadata."""
    ledger = Ledger(topic, layout)
    rejected: list[Quarantined] = []
    for key, body, metadata in objects:
        if _lineage(key) != lineage:
            continue
        rows = gzip.decompress(body)
        assert not rows or rows.endswith(b"\n"), f"{key}: the last line has no end"
        if key.startswith(QUARANTINE):
            rejected += _add_quarantine(ledger, key, rows)
        else:
            _add_rows(ledger, key, rows, metadata)
            _check_hash(key, body, metadata)
    for chain in ledger.chains.values():
        chain.sort(key=lambda link: link.landed.start)
    set_lost_apart(ledger, rejected)
    return ledger


def set_lost_apart(ledger: Ledger, rejected: Sequence[Quarantined]) -> None:
    """Fill in what the ledger's rows and the rejected records say, without what Kafka has lost.

    Of a leader epoch it has lost all from the first object of a later epoch on.
    """
    starts: dict[int, dict[int, int]] = {}  # by partition and leader epoch
    for partition, chain in ledger.chains.items():
        begin = starts.setdefault(partition, {})
        for link in chain:
            begin.setdefault(_epoch(link.landed.leader_epoch), link.landed.start)

    def lost_from(partition: int, epoch: int | None) -> int:
        later = [start for each, start in starts.get(partition, {}).items() if epoch is not None and each > epoch]
        return min(later, default=_NO_END)

    for partition, chain in ledger.chains.items():
        for link in chain:
            epoch = link.landed.leader_epoch
            link.end = min(link.end, lost_from(partition, epoch))
            ledger.event_ids += link.ids[: link.kept]
            ledger.lost_event_ids += link.ids[link.kept :]
            ledger.lost_by_kafka[partition] |= {(_epoch(epoch), offset) for offset in link.offsets[link.kept :]}
        chain[:] = [link for link in chain if link.landed.start < link.end]
    for line in rejected:
        if line.offset < lost_from(line.partition, line.leader_epoch):
            ledger.quarantined[line.partition].add(line.offset)
        else:
            ledger.lost_by_kafka[line.partition].add((_epoch(line.leader_epoch), line.offset))


def _epoch(leader_epoch: int | None) -> int:
    return -1 if leader_epoch is None else leader_epoch


def _lineage(key: str) -> str | None:
    folders = key.split("/")[1:-1]
    return folders[0] if len(folders) == len(("lineage", "year", "month", "day")) else None


def _in_bucket(client: Any, bucket: str, root: str) -> Iterator[tuple[str, bytes, Mapping[str, str]]]:
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=root):
        for entry in page.get("Contents", []):
            if not (key := entry["Key"].removeprefix(root)).startswith((OWN, MEMBERS)):
                found = client.get_object(Bucket=bucket, Key=entry["Key"])
                yield key, found["Body"].read(), found["Metadata"]


def _in_directory(root: Path) -> Iterator[tuple[str, bytes, Mapping[str, str]]]:
    for path in root.rglob("*.gz"):
        key = path.relative_to(root).as_posix()
        if not key.startswith((OWN, MEMBERS)):
            body = path.read_bytes()
            yield key, body, gzip_extra.extract(body[: gzip_extra.MAX_HEADER])


def _add_rows(ledger: Ledger, key: str, rows: bytes, metadata: Mapping[str, str]) -> None:
    name, landed = ledger.layout.parse(key), ObjectMetadata.from_metadata(metadata)
    assert name is not None, f"{key}: not the name of a data object"
    assert landed is not None, f"{key}: no metadata of ours: {metadata}"
    assert (landed.topic, landed.partition) == name.partition
    if name.leader_epoch is None:
        assert landed.start == name.start, f"{key}: {landed}"
    else:
        assert landed.start <= name.start <= max(landed.start, landed.first_offset), f"{key}: {landed}"
        assert landed.leader_epoch == name.leader_epoch, f"{key}: {landed}"
    link = Link(key, landed, [])
    for line in rows.split(b"\n")[:-1]:
        row = json.loads(line)
        assert (row["source_topic"], row["source_partition"]) == name.partition, f"{key}: {line!r}"
        assert isinstance(row["source_offset"], str) is ledger.layout.wide, f"{key}: {line!r}"
        link.offsets.append(int(row["source_offset"]))
        link.ids.append(row["event_id"])
    ledger.chains[landed.partition].append(link)


def _check_hash(key: str, body: bytes, metadata: Mapping[str, str]) -> None:
    written = hashlib.sha256(gzip_extra.without(body)).hexdigest()
    assert (metadata["sha256"], metadata["sha256-of"]) == (written, "body"), f"{key}: not the body that was written"


def _add_quarantine(ledger: Ledger, key: str, rows: bytes) -> Iterator[Quarantined]:
    ledger.quarantine_objects += 1
    for line in rows.split(b"\n")[:-1]:
        json.loads(line)
        rejected = quarantine.decode(line)
        assert rejected.topic == ledger.topic, f"{key}: {line!r}"
        yield rejected


def _some(offsets: set[int]) -> str:
    return f"{len(offsets)} offsets, {sorted(offsets)[:5]}"
