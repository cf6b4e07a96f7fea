"""Chains of objects written by hand, for tests of what reads them."""

from collections.abc import Collection
from itertools import pairwise
from typing import Any

import msgspec

from ingestd.core import quarantine
from ingestd.core.gzip import compress
from ingestd.core.object_keys import ObjectKeys, digest_of
from ingestd.core.object_metadata import ObjectMetadata
from ingestd.core.records import PlainRecord, TopicPartition
from ingestd.core.rejections import Reason
from ingestd.core.row_origin import RowOrigin
from ingestd.core.validation import Rejected
from tests.fakes.memory_sink import MemorySink

P0, P1 = TopicPartition("marketing_events", 0), TopicPartition("marketing_events", 1)
DAY = 86_400_000
NOON = 20_000 * DAY + DAY // 2  # of a day, in milliseconds
CLUSTER = "a-cluster"


def row(partition: TopicPartition, offset: int, *, wide: bool = False) -> bytes:
    """A row as far as it says which record it is."""
    origin = {"source_topic": partition.topic, "source_partition": partition.partition}
    named = str(offset) if wide else offset
    return msgspec.json.encode({"event_id": f"e{offset}", **origin, "source_offset": named}) + b"\n"


def rows(partition: TopicPartition, offsets: Collection[int], *, wide: bool = False) -> bytes:
    return b"".join(row(partition, offset, wide=wide) for offset in offsets)


def rejects(partition: TopicPartition, offsets: Collection[int], origin: RowOrigin = RowOrigin.OFFSET) -> bytes:
    """A quarantine object's body."""
    records = [PlainRecord(offset, NOON, b"{") for offset in offsets]
    lines = [Rejected(0, record, Reason.TRUNCATED, "$", "it stops") for record in records]
    return compress(quarantine.encode(partition, lines, origin=origin)).data


class Archive:
    """A sink with chains in it, as daemons write them."""

    def __init__(
        self,
        lineage: str | None = None,
        *,
        exactly_once: bool = True,
        wide: bool = False,
        sink: MemorySink | None = None,
    ) -> None:
        self.sink = sink or MemorySink()
        self.layout = ObjectKeys(lineage, exactly_once=exactly_once, wide=wide)

    def add(
        self,
        partition: TopicPartition,
        start: int,
        end: int,
        time: int = NOON,
        *,
        rejected: Collection[int] = (),
        named: int | None = None,
        **changes: Any,
    ) -> str:
        """An object of all offsets from `start` to `end`, its first record at `time`. Returns its key.

        Of `rejected` those count that are in it; `changes` are what its metadata says otherwise. Where it is `named`
        after an offset, its name has its leader epoch.
        """
        rejected = [offset for offset in rejected if start <= offset < end]
        wide = self.layout.wide
        good = [start + number for number in range(end - start) if start + number not in rejected]
        body = compress(rows(partition, good, wide=wide))
        bad = rejects(partition, sorted(rejected), RowOrigin.WIDE_OFFSET if wide else RowOrigin.OFFSET)
        fields: dict[str, Any] = {
            "topic": partition.topic,
            "partition": partition.partition,
            "start": start,
            "end": end,
            "rows": end - start - len(rejected),
            "rejected": len(rejected),
            "sha256": body.sha256,
            "sha256_of": "body",
            "first_offset": start,
            "first_timestamp": time,
            "last_timestamp": time + 1000,
            "cluster": CLUSTER,
            "version": "0",
            "quarantine": digest_of(bad) if rejected else None,
        }
        landed = ObjectMetadata(**{**fields, **changes})
        name, epoch = (start, None) if named is None else (named, landed.leader_epoch)
        if rejected:
            self.put(self.layout.quarantine_key(partition, name, time, digest_of(bad)), bad, landed)
        key = self.layout.data_key(partition, name, time, end, epoch)
        self.put(key, body.data, landed)
        return key

    def hole(self, partition: TopicPartition, start: int, end: int, time: int = NOON) -> str:
        """An object that stands for offsets which retention had removed."""
        nothing = compress(b"")
        says: dict[str, Any] = {"rows": 0, "first_offset": end, "last_timestamp": time, "sha256": nothing.sha256}
        key = self.add(partition, start, end, time, **says)
        self.overwrite(key, nothing.data)
        return key

    def chain(self, partition: TopicPartition, *bounds: int, step: int = DAY // 4, **more: Any) -> list[str]:
        """Objects from bound to bound, each some time after the one before."""
        spans = enumerate(pairwise(bounds))
        return [self.add(partition, start, end, NOON + at * step, **more) for at, (start, end) in spans]

    def put(self, key: str, body: bytes, landed: ObjectMetadata | None) -> None:
        """Any object."""
        self.sink.objects[key] = (body, landed.to_user_metadata() if landed is not None else {})

    def landed(self, key: str) -> ObjectMetadata:
        """What an object says of itself."""
        found = ObjectMetadata.from_metadata(self.sink.objects[key][1])
        assert found is not None
        return found

    def move(self, key: str, to: str) -> None:
        self.sink.objects[to] = self.sink.objects.pop(key)

    def say(self, key: str, **changes: Any) -> None:
        """Have an object say something else of itself."""
        self.put(key, self.sink.objects[key][0], msgspec.structs.replace(self.landed(key), **changes))

    def overwrite(self, key: str, body: bytes) -> None:
        self.sink.objects[key] = (body, self.sink.objects[key][1])

    def delete(self, key: str) -> None:
        del self.sink.objects[key]
