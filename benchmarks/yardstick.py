"""The yardstick: the least that a Python program can do between a topic and S3, with no care for faults.

    python -m benchmarks.yardstick BOOTSTRAP TOPIC 0,1,2,3,4,5 --endpoint http://HOST:PORT --bucket NAME [--until gzip]

It fetches whole record batches, decodes each event into a typed struct, adds its origin, encodes JSON lines, compresses
them in threads, PUTs create-only and commits. With ``--kind sdk`` events become dicts, whose numbers keep every digit.
It has no quarantine, no slow path, no lineage, no hash, no retries, no metrics and no bound on memory; aborted
transactions get through. What a daemon takes beside this is the price of its guarantees. With `--until` it does only so
much of it: what is done up to `gzip` no version can avoid.

Prints one JSON line, from the first records to the end.
"""

import argparse
import asyncio
import os
import time
import uuid
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.structs import OffsetAndMetadata
from isal import isal_zlib

from benchmarks.rig.meter import tree
from ingestd import wiring
from ingestd.ops.gc_tuning import calm_collector

STAGES = ("fetch", "decode", "encode", "gzip", "put")
_GZIP = 31  # window bits: 15, and 16 more for a gzip header
_SEAL = 100 << 20  # bytes of rows in an object
_ENOUGH = 1000  # records in a list
_BLOCK = 32  # dicts that are decoded and encoded at once
_UNDERWAY = 32  # chunks that wait for a thread


class Event(msgspec.Struct, gc=False, omit_defaults=True, forbid_unknown_fields=True):
    event_id: str
    client_id: str
    event_timestamp: datetime
    event_type: str
    event_category: str | None = None
    page_url: str | None = None
    session_id: str | None = None
    channel: str | None = None
    device_type: str | None = None
    duration_s: int | None = None
    properties: dict[str, Any] | None = None
    source_topic: str | None = None
    source_partition: int | None = None
    source_offset: int | None = None
    received_at: int | None = None


class WholeBatches(fetcher.PartitionRecords):  # type: ignore[misc]  # aiokafka has no types
    """Yields lists of records, of several batches where these are small.

    aiokafka's own object for each record is half the cost of its fetch path.
    """

    next_fetch_offset: int

    def _unpack_records(self) -> Iterator[list[Any]]:
        held: list[Any] = []
        while self._records.has_next():
            batch = self._records.next_batch()
            if self._check_crcs and not batch.validate_crc():
                raise ValueError("a damaged batch")
            if not batch.is_control_batch:
                held += [it for it in batch if it.offset >= self.next_fetch_offset]
            self.next_fetch_offset = batch.next_offset
            if len(held) >= _ENOUGH:
                yield held
                held = []
        if held:
            yield held


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What one run took; the units are in the names."""

    events: int
    wall_s: float
    cpu_s: float
    peak_mib: float


class _Batch:
    def __init__(self, start: int) -> None:
        self.start = start
        self.end = start
        self.rows = 0
        self.row_bytes = 0
        self.parts: list[asyncio.Future[bytes]] = []
        self.gzip = isal_zlib.compressobj(1, isal_zlib.DEFLATED, _GZIP)


class Yardstick:
    """One process; it reads the partitions that it is given to their end."""

    def __init__(self, consumer: Any, store: Any, bucket: str, until: str, kind: str) -> None:
        self._consumer = consumer
        self._store = store
        self._bucket = bucket
        self._stages = STAGES.index(until)
        self._is_typed = kind == "flat"
        self._decode = msgspec.json.Decoder(list[Event]).decode
        self._decode_dicts = msgspec.json.Decoder(list[dict[str, Any]], float_hook=Decimal).decode
        self._encode = msgspec.json.Encoder(decimal_format="number").encode_lines
        self._threads = ThreadPoolExecutor(2)
        self._compressing: deque[asyncio.Future[bytes]] = deque()
        self._batches: dict[TopicPartition, _Batch] = {}
        self._uploads: dict[TopicPartition, asyncio.Task[None]] = {}
        self._name = f"yardstick-{uuid.uuid4().hex[:8]}"

    async def run(self, ends: Mapping[TopicPartition, int]) -> Result:
        done, begin = 0, None
        while done < sum(ends.values()):
            fetched = await self._consumer.getmany(timeout_ms=1000, max_records=4)
            if begin is None and fetched:
                begin = time.perf_counter(), time.process_time()
            for partition, chunks in fetched.items():
                for records in chunks:
                    done += len(records)
                    await self._take(partition, records)
        for partition in list(self._batches):
            self._deliver(partition)
        await asyncio.gather(*self._uploads.values())
        assert begin is not None
        wall, cpu = time.perf_counter() - begin[0], time.process_time() - begin[1]
        peak = sum(tree(os.getpid())[1].values()) / 2**20
        return Result(events=done, wall_s=wall, cpu_s=cpu, peak_mib=peak)

    async def _take(self, partition: TopicPartition, records: Sequence[Any]) -> None:
        if self._stages < STAGES.index("decode"):
            return
        rows = self._typed_rows(partition, records) if self._is_typed else self._dict_rows(partition, records)
        if self._stages < STAGES.index("gzip"):
            return
        batch = self._batches.setdefault(partition, _Batch(records[0].offset))
        batch.end = records[-1].offset + 1
        batch.rows += len(records)
        batch.row_bytes += len(rows)
        part = asyncio.get_running_loop().run_in_executor(self._threads, batch.gzip.compress, rows)
        batch.parts.append(part)
        self._compressing.append(part)
        while len(self._compressing) > _UNDERWAY:
            await self._compressing.popleft()
        if batch.row_bytes > _SEAL:
            self._deliver(partition)

    def _typed_rows(self, partition: TopicPartition, records: Sequence[Any]) -> bytes:
        # Decoding all of a batch at once is cheaper than a call for each event.
        events = self._decode(b"[" + b",".join([record.value for record in records]) + b"]")
        topic, number = partition
        for event, record in zip(events, records, strict=True):
            event.source_topic, event.source_partition = topic, number
            event.source_offset, event.received_at = record.offset, record.timestamp
        return self._encode(events) if self._stages >= STAGES.index("encode") else b""

    def _dict_rows(self, partition: TopicPartition, records: Sequence[Any]) -> bytes:
        topic, number = partition
        rows = []
        for begin in range(0, len(records), _BLOCK):  # the objects of a whole batch do not fit into a cache
            block = records[begin : begin + _BLOCK]
            events = self._decode_dicts(b"[" + b",".join([record.value for record in block]) + b"]")
            for event, record in zip(events, block, strict=True):
                event["source_topic"], event["source_partition"] = topic, number
                event["source_offset"], event["received_at"] = record.offset, record.timestamp
            if self._stages >= STAGES.index("encode"):
                rows.append(self._encode(events))
        return b"".join(rows)

    def _deliver(self, partition: TopicPartition) -> None:
        batch, before = self._batches.pop(partition), self._uploads.get(partition)
        self._uploads[partition] = asyncio.create_task(self._upload(partition, batch, before))

    async def _upload(self, partition: TopicPartition, batch: _Batch, before: "asyncio.Task[None] | None") -> None:
        parts = [await part for part in batch.parts]
        parts.append(await asyncio.get_running_loop().run_in_executor(self._threads, batch.gzip.flush))
        if before is not None:
            await before
        if self._stages < STAGES.index("put"):
            return
        await self._store.put_object(
            Bucket=self._bucket,
            Key=f"{self._name}/{partition.topic}+{partition.partition:05d}+{batch.start:020d}.jsonl.gz",
            Body=b"".join(parts),
            IfNoneMatch="*",
            Metadata={"end": str(batch.end), "rows": str(batch.rows)},
        )
        await self._consumer.commit({partition: OffsetAndMetadata(batch.end, "")})


async def main(options: argparse.Namespace) -> Result:
    fetcher.PartitionRecords = WholeBatches
    partitions = [TopicPartition(options.topic, int(number)) for number in options.partitions.split(",")]
    async with AsyncExitStack() as stack:
        config = AioConfig(s3={"addressing_style": "path"})
        client = get_session().create_client("s3", endpoint_url=options.endpoint, config=config)
        store = await stack.enter_async_context(client)
        consumer = AIOKafkaConsumer(
            bootstrap_servers=options.bootstrap,
            group_id=f"yardstick-{uuid.uuid4().hex[:8]}",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_bytes=50 << 20,
            max_partition_fetch_bytes=4 << 20,
        )
        await consumer.start()
        stack.push_async_callback(consumer.stop)
        ends = await consumer.end_offsets(partitions)
        yardstick = Yardstick(consumer, store, options.bucket, options.until, options.kind)
        consumer.assign(partitions)
        with calm_collector():
            return await yardstick.run(ends)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.yardstick", description=__doc__.split("\n")[0])
    parser.add_argument("bootstrap")
    parser.add_argument("topic")
    parser.add_argument("partitions", help="numbers with commas between them")
    parser.add_argument("--endpoint", required=True, help="of the store; AWS's environment variables have credentials")
    parser.add_argument("--bucket", required=True)
    parser.add_argument("--kind", choices=("flat", "sdk"), default="flat", help="of the events")
    parser.add_argument("--until", choices=STAGES, default=STAGES[-1])
    print(msgspec.json.encode(wiring.run(main(parser.parse_args()))).decode())
