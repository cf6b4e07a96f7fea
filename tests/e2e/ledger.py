"""Reads all that a daemon has written, and says whether each record is there exactly once."""

import gzip
import hashlib
import json
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from ingestd import quarantine
from ingestd.layout import PROBE, QUARANTINE, Landed, Layout
from ingestd.records import TopicPartition
from tests.services.seaweed import S3Store


@dataclass
class Link:
    """One data object: what it says of itself, and the offsets of its rows."""

    key: str
    landed: Landed
    offsets: list[int]


@dataclass
class Ledger:
    """What is in the bucket of one topic and lineage."""

    topic: str
    layout: Layout
    chains: dict[int, list[Link]] = field(default_factory=lambda: defaultdict(list))  # by partition, in order
    quarantined: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    event_ids: list[str] = field(default_factory=list)
    quarantine_objects: int = 0

    @property
    def objects(self) -> int:
        """Data objects."""
        return sum(map(len, self.chains.values()))

    @property
    def rows(self) -> int:
        return sum(len(link.offsets) for chain in self.chains.values() for link in chain)

    def boundaries(self, partition: int) -> list[int]:
        """Where the objects of a partition begin, and the end of the last."""
        chain = self.chains[partition]
        return [*(link.landed.start for link in chain), chain[-1].landed.end]

    def check(self, records: Mapping[int, Collection[int]], ids: Collection[str] | None = None) -> None:
        """Each offset in `records`, and no other, is in one row or in quarantine; `ids` are the events in rows.

        `records` has all partitions of the topic.
        """
        strangers = (self.chains.keys() | self.quarantined.keys()) - records.keys()
        assert not strangers, f"objects of partitions that do not exist: {strangers}"
        for partition, offsets in records.items():
            self._check_records(partition, set(offsets))
            self._check_chain(partition, sorted(offsets))
        if ids is not None:
            assert len(self.event_ids) == len(ids)
            assert set(self.event_ids) == set(ids)

    def _check_records(self, partition: int, expected: set[int]) -> None:
        rows = [offset for link in self.chains[partition] for offset in link.offsets]
        once, quarantined = set(rows), self.quarantined[partition]
        where = f"{self.topic}[{partition}]"
        assert len(rows) == len(once), f"{where}: {len(rows) - len(once)} rows are there more than once"
        assert not once & quarantined, f"{where}: in a row and in quarantine: {_some(once & quarantined)}"
        found = once | quarantined
        assert not expected - found, f"{where}: lost: {_some(expected - found)}"
        assert not found - expected, f"{where}: never written: {_some(found - expected)}"

    def _check_chain(self, partition: int, expected: list[int]) -> None:
        chain = self.chains[partition]
        for before, after in pairwise(chain):
            assert before.landed.end == after.landed.start, f"gap or overlap between {before.key} and {after.key}"
        if expected:
            assert chain, f"{self.topic}[{partition}]: no objects"
            assert chain[0].landed.start <= expected[0]
            assert chain[-1].landed.end == expected[-1] + 1
        begin = 0
        for link in chain:
            end = bisect_left(expected, link.landed.end)
            self._check_link(link, expected[begin:end], partition)
            begin = end

    def _check_link(self, link: Link, expected: list[int], partition: int) -> None:
        """`expected` are the offsets that the object stands for."""
        landed = link.landed
        place = TopicPartition(self.topic, partition)
        assert link.key == self.layout.data_key(place, landed.start, landed.first_timestamp, landed.end)
        assert expected, f"{link.key}: stands for no record"
        assert landed.start <= expected[0] == landed.first_offset, link
        assert landed.end == expected[-1] + 1
        assert landed.rows == len(link.offsets)
        assert landed.rows + landed.rejected == len(expected)
        assert link.offsets == sorted(link.offsets)


def read(store: S3Store, bucket: str, topic: str, lineage: str | None = None) -> Ledger:
    """Everything in the bucket; what is not as it must be raises AssertionError."""
    ledger = Ledger(topic, Layout(lineage))
    with closing(store.client()) as client:
        for key in sorted(_keys(client, bucket)):
            if key == PROBE:
                continue
            found = client.get_object(Bucket=bucket, Key=key)
            rows = gzip.decompress(found["Body"].read())
            assert not rows or rows.endswith(b"\n"), f"{key}: the last line has no end"
            if key.startswith(QUARANTINE):
                _add_quarantine(ledger, key, rows)
            else:
                _add_rows(ledger, key, rows, found["Metadata"])
    for chain in ledger.chains.values():
        chain.sort(key=lambda link: link.landed.start)
    return ledger


def _keys(client: Any, bucket: str) -> Iterator[str]:
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for found in page.get("Contents", []):
            yield found["Key"]


def _add_rows(ledger: Ledger, key: str, rows: bytes, metadata: Mapping[str, str]) -> None:
    name, landed = ledger.layout.parse(key), Landed.from_metadata(metadata)
    assert name is not None, f"{key}: not the name of a data object"
    assert landed is not None, f"{key}: no metadata of ours: {metadata}"
    assert (landed.topic, landed.partition, landed.start) == (*name.partition, name.start)
    assert landed.sha256 == hashlib.sha256(rows).hexdigest(), f"{key}: other rows than its metadata says"
    offsets = []
    for line in rows.split(b"\n")[:-1]:
        row = json.loads(line)
        assert (row["source_topic"], row["source_partition"]) == name.partition, f"{key}: {line!r}"
        offsets.append(row["source_offset"])
        ledger.event_ids.append(row["event_id"])
    ledger.chains[landed.partition].append(Link(key, landed, offsets))


def _add_quarantine(ledger: Ledger, key: str, rows: bytes) -> None:
    ledger.quarantine_objects += 1
    for line in rows.split(b"\n")[:-1]:
        json.loads(line)
        rejected = quarantine.decode(line)
        assert rejected.topic == ledger.topic, f"{key}: {line!r}"
        ledger.quarantined[rejected.partition].add(rejected.offset)


def _some(offsets: set[int]) -> str:
    return f"{len(offsets)} offsets, {sorted(offsets)[:5]}"
