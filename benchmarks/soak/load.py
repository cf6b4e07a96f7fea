"""Writes events into a topic at the rates that it is told, one a line of its input; the end of that is the end.

    python -m benchmarks.soak.load BOOTSTRAP TOPIC PARTITIONS

Prints a line of JSON every second, and one at the end: the log's ends, and how many of the events are malformed.
"""

import asyncio
import contextlib
import sys
import threading
import time
from collections import deque
from itertools import cycle
from typing import Any

import msgspec
from aiokafka import AIOKafkaProducer

from tests.e2e.events import events, is_good

TICK = 0.05
BATCH_BYTES = 256 << 10
UNDERWAY = 16  # batches that were sent and not acknowledged
DEBT = 1.0  # seconds of the rate that are made up for where the machine was too slow


class Written(msgspec.Struct):
    """What is acknowledged by now."""

    at: float  # seconds since the epoch
    ends: list[int]  # of the log, by partition
    malformed: int
    last: bool = False


class Writer:
    def __init__(self, producer: Any, topic: str, partitions: int) -> None:
        self._producer = producer
        self._topic = topic
        self._events = events()
        self._turn = cycle(range(partitions))
        self._underway: deque[tuple[int, int, int, Any]] = deque()
        self._ends = [0] * partitions
        self._malformed = 0

    def written(self, *, last: bool = False) -> Written:
        return Written(time.time(), self._ends, self._malformed, last)

    async def write(self, total: int) -> None:
        """Send so many, to each partition in turn."""
        left = total
        while left > 0:
            left -= await self._write_batch(left)

    async def _write_batch(self, most: int) -> int:
        builder, written, size, malformed, now = self._producer.create_batch(), 0, 0, 0, int(time.time() * 1000)
        while written < most and size < BATCH_BYTES - 4096:
            number, key, value = next(self._events)
            builder.append(timestamp=now, key=key, value=value)
            size += len(value) + len(key) + 20
            written += 1
            malformed += not is_good(number)
        partition = next(self._turn)
        sent = await self._producer.send_batch(builder, self._topic, partition=partition)
        self._underway.append((partition, written, malformed, sent))
        while len(self._underway) >= UNDERWAY or (self._underway and self._underway[0][-1].done()):
            await self._acknowledged()
        return written

    async def flush(self) -> None:
        """Wait until all are acknowledged."""
        while self._underway:
            await self._acknowledged()

    async def _acknowledged(self) -> None:
        partition, written, malformed, sent = self._underway.popleft()
        base = (await sent).offset
        if base != self._ends[partition]:
            sys.exit(f"partition {partition} has other records than ours, or ours twice")
        self._ends[partition] += written
        self._malformed += malformed


class Told:
    """The rate of now, read from standard input by a thread; None at its end."""

    def __init__(self) -> None:
        self.rate: float | None = 0.0
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in sys.stdin:
            self.rate = float(line)
        self.rate = None


async def run(writer: Writer, told: Told) -> None:
    """Until the end of the input."""
    before = reported = time.monotonic()
    owed = 0.0
    while (rate := told.rate) is not None:
        now = time.monotonic()
        owed, before = min(owed + rate * (now - before), rate * DEBT), now
        await writer.write(int(owed))
        owed -= int(owed)
        if now - reported >= 1:
            reported = now
            tell(writer.written())
        await asyncio.sleep(max(0.0, TICK - (time.monotonic() - now)))
    await writer.flush()
    tell(writer.written(last=True))


def tell(written: Written) -> None:
    print(msgspec.json.encode(written).decode(), flush=True)


async def main() -> None:
    bootstrap, topic, partitions = sys.argv[1:]
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, enable_idempotence=True, compression_type="lz4", max_batch_size=BATCH_BYTES
    )
    await producer.start()
    try:
        await run(Writer(producer, topic, int(partitions)), Told())
    finally:
        await producer.stop()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
