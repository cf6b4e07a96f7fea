"""Fills topics with numbered events, a million in some seconds."""

import time
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from itertools import count, cycle
from typing import Any

from aiokafka import AIOKafkaProducer

from ingestd.config.model import SimulatorConfig
from ingestd.sources.simulator.events import MALFORMATIONS, Simulation

BAD_EVERY = 100  # one event of so many is malformed

_TEMPLATES = 4000
_BATCH_BYTES = 256 << 10
_UNDERWAY = 16  # batches that were sent and not acknowledged
_ID = b'"event_id":"'


def event_id(number: int) -> str:
    """The id of the event of this number: a UUID in shape."""
    return f"00000000-0000-4000-8000-{number:012x}"


def events(first: int = 0) -> Iterator[tuple[int, bytes, bytes]]:
    """Number, key and value of events from number `first` on, of some 350 bytes. One of `BAD_EVERY` is malformed."""
    made = Simulation(SimulatorConfig(), start=1_750_000_000_000).events(_TEMPLATES, 1.75e12, 1.75e12 + 3_600_000)
    templates = []
    for message in made:
        head, found, rest = message.value.partition(_ID)
        assert found
        templates.append((message.key, head + found, rest[len(event_id(0)) :]))
    malformed = cycle(MALFORMATIONS.values())
    for number, (key, head, tail) in zip(count(first), cycle(templates), strict=False):
        value = b"%b00000000-0000-4000-8000-%012x%b" % (head, number, tail)
        yield number, key, value if is_good(number) else next(malformed)(value)


def is_good(number: int) -> bool:
    """Whether the event of this number becomes a row."""
    return number % BAD_EVERY != BAD_EVERY - 1


class Load:
    """Writes events into a topic, and knows what it has written.

    `records` are the offsets by partition, `ids` those of the events that must become rows.
    """

    def __init__(self, producer: Any, topic: str, partitions: int, first: int = 0) -> None:
        self._producer = producer
        self.topic = topic
        self._events = events(first)
        self._turn = cycle(range(partitions))
        self._underway: deque[tuple[int, int, Any]] = deque()
        self._malformed = cycle(MALFORMATIONS.values())
        self._to_spoil = 0
        self.records: dict[int, Sequence[int]] = {number: range(0) for number in range(partitions)}
        self.ids: set[str] = set()

    @property
    def total(self) -> int:
        """How many events are written and acknowledged."""
        return sum(map(len, self.records.values()))

    @property
    def spoiling(self) -> bool:
        """Whether events are still to be written that are malformed by `spoil`."""
        return self._to_spoil > 0

    def spoil(self, total: int) -> None:
        """The next so many events are malformed, whatever their number."""
        self._to_spoil = total

    async def grow(self, partitions: int) -> None:
        """The topic has so many partitions now: all of them get events from now on."""
        await self._producer.client.force_metadata_update()
        self.records |= {number: range(0) for number in range(len(self.records), partitions)}
        self._turn = cycle(range(partitions))

    def again(self, first: int) -> "Load":
        """A writer into the topic that was created again, with as many partitions."""
        return Load(self._producer, self.topic, len(self.records), first)

    async def write(self, total: int) -> None:
        """Write so many events, in batches to each partition in turn; they are acknowledged when this returns."""
        left = total
        while left:
            left -= await self._write_batch(left)
        while self._underway:
            await self._acknowledged()

    async def _write_batch(self, most: int) -> int:
        builder, written, now = self._producer.create_batch(), 0, int(time.time() * 1000)
        size = 0
        # By our own count: the builder refuses what does not fit, and then the event would be lost.
        while written < most and size < _BATCH_BYTES - 4096:
            number, key, value = next(self._events)
            good = is_good(number)
            if good and self._to_spoil:
                good, value = False, next(self._malformed)(value)
            self._to_spoil = max(0, self._to_spoil - 1)
            builder.append(timestamp=now, key=key, value=value)
            size += len(value) + len(key) + 20
            written += 1
            if good:
                self.ids.add(event_id(number))
        partition = next(self._turn)
        sent = await self._producer.send_batch(builder, self.topic, partition=partition)
        self._underway.append((partition, written, sent))
        if len(self._underway) >= _UNDERWAY:
            await self._acknowledged()
        return written

    async def _acknowledged(self) -> None:
        partition, written, sent = self._underway.popleft()
        base = (await sent).offset
        before = self.records[partition]
        assert base == len(before), f"partition {partition} has other records than ours, or ours twice"
        self.records[partition] = range(base + written)


@asynccontextmanager
async def load(bootstrap: str, topic: str, partitions: int, first: int = 0, **options: Any) -> AsyncIterator[Load]:
    """A writer into an empty topic. Events are numbered from `first` on."""
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap,
        enable_idempotence=True,
        compression_type="lz4",
        max_batch_size=_BATCH_BYTES,
        max_request_size=4 * _BATCH_BYTES,
        **options,
    )
    await producer.start()
    try:
        yield Load(producer, topic, partitions, first)
    finally:
        await producer.stop()


async def fill(bootstrap: str, topic: str, partitions: int, total: int, first: int = 0, **options: Any) -> Load:
    """Write `total` events into an empty topic."""
    async with load(bootstrap, topic, partitions, first, **options) as writer:
        await writer.write(total)
    return writer
