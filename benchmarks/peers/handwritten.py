"""What a careful team writes in a day: confluent-kafka, json, gzip, boto3. A peer: it runs in its own environment.

    python handwritten.py json|bytes

At least once: a file is put before its offsets are committed, and it is named after its first record, so that one that
is written again from there replaces it. `json` decodes and encodes each event and leaves out what it cannot decode,
with a line in the log; `bytes` looks at nothing.
"""

import gzip
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import boto3
from botocore.config import Config
from confluent_kafka import Consumer, Message, TopicPartition

ROWS = int(os.environ["ROWS"])
FLUSH_S = float(os.environ["FLUSH_S"])
FETCH = 2000
LEVEL = 1
log = logging.getLogger("handwritten")


class File(NamedTuple):
    """Open, of one partition, since a time."""

    first: int
    since: float
    rows: list[bytes]


class Files:
    """One open file per partition; a full or an old one is put and then committed."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        self._open: dict[int, File] = {}
        self._ends: dict[int, int] = {}  # of what was read, also where it made no row
        config = Config(s3={"addressing_style": "path"})
        self._s3 = boto3.client("s3", endpoint_url=os.environ["S3_ENDPOINT"], config=config)

    def add(self, partition: int, offset: int, row: bytes | None) -> None:
        self._ends[partition] = offset + 1
        file = self._open.get(partition)
        if file is None:
            file = self._open[partition] = File(offset, time.monotonic(), [])
        if row is not None:
            file.rows.append(row)
        if len(file.rows) >= ROWS:
            self._put(partition)

    def put_old(self) -> None:
        limit = time.monotonic() - FLUSH_S
        for partition in [it for it, file in self._open.items() if file.since <= limit]:
            self._put(partition)

    def drop(self, *_: object) -> None:
        """A rebalance: what was not put is read again by whoever gets the partition."""
        self._open.clear()

    def _put(self, partition: int) -> None:
        file, end = self._open.pop(partition), self._ends[partition]
        if file.rows:
            body = gzip.compress(b"\n".join(file.rows) + b"\n", LEVEL)
            key = f"{os.environ['PREFIX']}/{partition}/{file.first:020d}.jsonl.gz"
            self._s3.put_object(Bucket=os.environ["BUCKET"], Key=key, Body=body)
        self._consumer.commit(offsets=[TopicPartition(os.environ["TOPIC"], partition, end)], asynchronous=False)


def same(message: Message) -> bytes | None:
    value: bytes | None = message.value()
    return value


def parsed(message: Message) -> bytes | None:
    try:
        return json.dumps(json.loads(message.value() or b""), separators=(",", ":"), ensure_ascii=False).encode()
    except (TypeError, ValueError) as error:
        log.warning("skipped %s[%d]@%d: %s", message.topic(), message.partition(), message.offset(), error)
        return None


def run(row_of: Callable[[Message], bytes | None]) -> None:
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopping.append(number))
    consumer = Consumer({
        "bootstrap.servers": os.environ["BOOTSTRAP"],
        "group.id": os.environ["GROUP"],
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "session.timeout.ms": 6000,
        "max.partition.fetch.bytes": 4 << 20,
        "queued.max.messages.kbytes": 65536,
    })  # fmt: skip
    files = Files(consumer)
    consumer.subscribe([os.environ["TOPIC"]], on_revoke=files.drop)
    while not stopping:
        for message in consumer.consume(FETCH, timeout=0.1):
            if message.error():
                raise SystemExit(str(message.error()))
            partition, offset = message.partition(), message.offset()
            assert partition is not None
            assert offset is not None
            files.add(partition, offset, row_of(message))
        files.put_old()
    consumer.close()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    run({"json": parsed, "bytes": same}[sys.argv[1]])
