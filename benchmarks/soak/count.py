"""Counts what is in a bucket against what was written, one object after the other, so that any number fits."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

import msgspec

from ingestd.core.gzip import decompress
from ingestd.core.object_keys import EVENTS, ObjectKeys
from ingestd.core.object_metadata import ObjectMetadata
from ingestd.core.records import TopicPartition
from tests.e2e.ledger import Tally
from tests.services.seaweed import S3Store

LAYOUT = ObjectKeys()


class _Row(msgspec.Struct):
    source_offset: int


class _Rejected(msgspec.Struct):
    offset: int


_ROW, _REJECTED = msgspec.json.Decoder(_Row), msgspec.json.Decoder(_Rejected)


def count(store: S3Store, bucket: str, topic: str, ends: Sequence[int]) -> Tally:
    """`ends` are the log's, by partition: each offset below is in one row, or in the quarantine."""
    tally = Tally(records=sum(ends))
    with closing(store.client()) as client:
        keys = _keys(client, bucket)
        for partition, end in enumerate(ends):
            _count_chain(tally, client, bucket, keys.get(TopicPartition(topic, partition), []), end)
    return tally


def _keys(client: Any, bucket: str) -> dict[TopicPartition, list[str]]:
    """Of the data objects, by partition and in order."""
    found: dict[TopicPartition, list[tuple[int, str]]] = {}
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=EVENTS):
        for entry in page.get("Contents", []):
            name = LAYOUT.parse(entry["Key"])
            assert name is not None, entry["Key"]
            found.setdefault(name.partition, []).append((name.start, name.key))
    return {partition: [key for _, key in sorted(keys)] for partition, keys in found.items()}


def _count_chain(tally: Tally, client: Any, bucket: str, keys: Sequence[str], end: int) -> None:
    reached = 0
    for key in keys:
        answer = client.get_object(Bucket=bucket, Key=key)
        landed = ObjectMetadata.from_metadata(answer["Metadata"])
        assert landed is not None, f"{key}: no metadata of ours"
        tally.objects += 1
        tally.gaps += landed.start > reached
        tally.overlaps += landed.start < reached
        tally.lost += max(0, landed.start - reached)
        tally.demand(landed.start == reached, f"{key}: begins at {landed.start}, the one before ends at {reached}")
        _count_object(tally, client, bucket, landed, answer["Body"].read())
        reached = max(reached, landed.end)
    tally.lost += max(0, end - reached)
    tally.strange += max(0, reached - end)
    tally.demand(reached == end, f"the chain ends at {reached}, the log at {end}")


def _count_object(tally: Tally, client: Any, bucket: str, landed: ObjectMetadata, body: bytes) -> None:
    """Its rows and its rejected records are together each offset of its range once."""
    rows = [_ROW.decode(line).source_offset for line in _lines(body)]
    found = Counter(rows)
    rejected: list[int] = []
    if landed.quarantine is not None:
        place = TopicPartition(landed.topic, landed.partition)
        key = LAYOUT.quarantine_key(place, landed.start, landed.first_timestamp, landed.quarantine)
        lines = _lines(client.get_object(Bucket=bucket, Key=key)["Body"].read())
        rejected = [_REJECTED.decode(line).offset for line in lines]
    found.update(rejected)
    tally.rows += len(rows)
    tally.quarantined += len(rejected)
    lost = (landed.end - landed.start) - sum(landed.start <= it < landed.end for it in found)
    doubled = len(rows) + len(rejected) - len(found)
    tally.lost += lost
    tally.doubled += doubled
    tally.strange += sum(not landed.start <= it < landed.end for it in found)
    said = (landed.rows, landed.rejected)
    where = f"{landed.topic}[{landed.partition}] {landed.start}-{landed.end}"
    tally.demand(not lost and not doubled, f"{where}: {lost} offsets are lost, {doubled} are there twice")
    tally.demand(said == (len(rows), len(rejected)), f"{where}: {len(rows)} rows, {len(rejected)} rejected, not {said}")


def _lines(body: bytes) -> Iterator[bytes]:
    rest = b""
    for piece in decompress(body):
        *whole, rest = (rest + piece).split(b"\n")
        yield from whole
    assert not rest, "the last line has no end"
