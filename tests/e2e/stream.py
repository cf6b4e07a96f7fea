"""A Kinesis stream for a daemon: written with numbered events, watched until they have landed, and counted."""

import asyncio
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from itertools import islice
from typing import Any, Self

import msgspec
from aws_kinesis_agg.aggregator import RecordAggregator

from ingestd.core.object_keys import EVENTS, ObjectKeys
from ingestd.core.object_metadata import ObjectMetadata
from ingestd.sources.kinesis.shards import shard_number
from ingestd.verify.findings import VerifyReport
from tests.e2e.daemon import DEADLINE, credentials
from tests.e2e.events import event_id, events, is_good
from tests.e2e.ledger import Ledger, Tally, read
from tests.services.kinesis import Kinesalite, KinesisLocal
from tests.services.seaweed import REGION, S3Store

_PER_CALL = 500
_POLL_S = 0.1

Server = Kinesalite | KinesisLocal


def settings(endpoint: str, store: S3Store, bucket: str, stream: str) -> dict[str, str]:
    """Keys for a daemon that brings `stream` into `bucket`, with short times."""
    return {
        "source": "kinesis",
        "kinesis.stream": stream,
        "kinesis.endpoint_url": endpoint,
        "kinesis.region": REGION,
        "kinesis.poll_interval": "200ms",
        "kinesis.heartbeat_interval": "300ms",
        "kinesis.member_timeout": "2s",
        "kinesis.connect_timeout": "1s",
        "kinesis.read_timeout": "3s",
        "sink.url": f"s3://{bucket}",
        "sink.retry_initial": "100ms",
        "sink.retry_max": "1s",
        "s3.endpoint_url": store.endpoint,
        "batch.interval": "500ms",
    }


class Stream:
    """Writes into a stream that is empty, and knows what is where.

    `records` are the positions by shard, `ids` those of the events that must become rows.
    """

    def __init__(self, server: Server, name: str, first: int = 0) -> None:
        self.name = name
        self.records: dict[int, list[int]] = defaultdict(list)
        self.ids: set[str] = set()
        self._server = server
        self._client: Any = server.client()
        self._events = events(first)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    @property
    def total(self) -> int:
        """How many events are written and acknowledged."""
        return sum(map(len, self.records.values()))

    def write(self, total: int) -> None:
        """Write so many events; they are acknowledged when this returns."""
        left = total
        while left > 0:
            some = list(islice(self._events, min(left, _PER_CALL)))
            left -= len(some)
            self._put([(number, {"PartitionKey": key.decode(), "Data": value}) for number, key, value in some])

    def write_aggregates(self, total: int, size: int) -> None:
        """Write so many records of `size` events each, as AWS's own library makes them."""
        for _ in range(total):
            some = list(islice(self._events, size))
            key, aggregator = some[0][1].decode(), RecordAggregator()
            for _, _, value in some:
                aggregator.add_user_record(key, value)
            _, _, body = aggregator.clear_and_get().get_contents()
            answer = self._client.put_record(StreamName=self.name, PartitionKey=key, Data=body)
            number, shard = int(answer["SequenceNumber"]), shard_number(answer["ShardId"])
            self.records[shard] += range(number - size + 1, number + 1)
            self.ids |= {event_id(each) for each, _, _ in some if is_good(each)}

    async def write_until(self, quiet: asyncio.Event, *, rate: int = 1000) -> None:
        """Write evenly until told to stop."""
        while not quiet.is_set():
            await asyncio.to_thread(self.write, rate // 10)
            await asyncio.sleep(0.1)

    def split(self, index: int) -> None:
        """Split one of the open shards."""
        self._server.split(self.name, self._server.open_shards(self.name)[index])

    def merge(self, index: int) -> None:
        """Merge an open shard with the next one."""
        shard, other = self._server.open_shards(self.name)[index : index + 2]
        self._server.merge(self.name, shard, other)

    def _put(self, entries: Sequence[tuple[int, Mapping[str, Any]]]) -> None:
        waiting = list(entries)
        while waiting:
            answer = self._client.put_records(StreamName=self.name, Records=[entry for _, entry in waiting])
            refused = []
            for each, told in zip(waiting, answer["Records"], strict=True):
                if "ErrorCode" in told:
                    refused.append(each)  # so it is while the stream is resharded
                    continue
                self.records[shard_number(told["ShardId"])].append(int(told["SequenceNumber"]))
                if is_good(each[0]):
                    self.ids.add(event_id(each[0]))
            waiting = refused


class Landing:
    """What daemons with these keys make of a stream in a bucket, in the lineage of the keys."""

    def __init__(self, store: S3Store, bucket: str, keys: Mapping[str, str]) -> None:
        self._store, self._bucket, self._keys = store, bucket, dict(keys)
        self._layout = ObjectKeys(keys.get("sink.lineage"), wide=True)
        self._seen: dict[str, ObjectMetadata] = {}

    async def until(self, stream: Stream, deadline: float = DEADLINE) -> None:
        """Wait until all that is written now has landed."""
        wanted = {shard: max(positions) + 1 for shard, positions in stream.records.items() if positions}
        limit = time.monotonic() + deadline
        while any(self._end(shard) < end for shard, end in wanted.items()):
            missing = {shard: end - self._end(shard) for shard, end in wanted.items() if self._end(shard) < end}
            assert time.monotonic() < limit, f"after {deadline:g} s {missing} has not landed"
            await asyncio.sleep(_POLL_S)
            await asyncio.to_thread(self._look)

    def ledger(self, stream: Stream) -> Ledger:
        """All that is there."""
        return read(self._store, self._bucket, stream.name, self._keys.get("sink.lineage"), wide=True)

    def check(self, stream: Stream, *, lost: Mapping[int, Collection[int]] | None = None) -> Tally:
        """Each record, and no other, is in one row or in quarantine, but for `lost`; and ``ingestd verify`` agrees."""
        gone = lost or {}
        records = {shard: set(found) - set(gone.get(shard, ())) for shard, found in stream.records.items()}
        tally = self.ledger(stream).tally(records, None if lost else stream.ids)
        assert not tally.problems, "\n".join(tally.problems)
        report = self.verify("--read")
        assert report.ok, report.problems
        assert report.totals.rows == tally.rows
        return tally

    def verify(self, *flags: str) -> VerifyReport:
        """What ``ingestd verify`` says."""
        return run_verify(self._keys, credentials(self._store), *flags)

    def _end(self, shard: int) -> int:
        return max((each.end for each in self._seen.values() if each.partition == shard), default=0)

    def _look(self) -> None:
        with closing(self._store.client()) as client:
            for page in client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=EVENTS):
                for key in {entry["Key"] for entry in page.get("Contents", [])} - self._seen.keys():
                    if self._layout.parse(key) is None:
                        continue  # of another lineage
                    metadata = client.head_object(Bucket=self._bucket, Key=key)["Metadata"]
                    if (landed := ObjectMetadata.from_metadata(metadata)) is not None:
                        self._seen[key] = landed


def run_verify(keys: Mapping[str, str], environment: Mapping[str, str], *flags: str) -> VerifyReport:
    """What ``ingestd verify`` says of a daemon's settings."""
    settings = [part for key, value in keys.items() for part in ("--set", f"{key}={value}")]
    done = subprocess.run(
        [sys.executable, "-m", "ingestd", "verify", "--json", *flags, *settings],
        capture_output=True,
        text=True,
        timeout=2 * DEADLINE,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode in {0, 4}, done.stderr
    return msgspec.json.decode(done.stdout, type=VerifyReport)
