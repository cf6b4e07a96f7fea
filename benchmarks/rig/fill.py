"""Fills topics with events of a kind that is chosen: how large, how many, in what batches, how many of them bad."""

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from itertools import count, cycle
from typing import Any, Literal

import msgspec
from aiokafka import AIOKafkaProducer

from benchmarks.rig import sdk_events
from benchmarks.rig.services import create

Kind = Literal["flat", "sdk"]  # fields that the model knows, or events as SDKs send them
Codec = Literal["none", "gzip", "snappy", "lz4", "zstd"]

TYPICAL = 335  # bytes of an event whose fields the model all knows
SMALL = 112  # bytes of one with the four required fields alone, whose names take 66 of them
_TEMPLATES = 3000
_TEMPLATE_BYTES = 1_500_000  # of all of them, far more than a codec looks back
_BATCH_BYTES = 500_000
_UNDERWAY = 16  # batches that were sent and not acknowledged
_PRODUCERS = 8  # for small batches, of which a producer sends one for each partition at a time
_BEGIN = datetime(2026, 11, 22, tzinfo=UTC)
_PAGES = [f"/products/funds/{number}" for number in range(200)] + ["/pricing", "/about", "/login", "/accounts/overview"]
_KINDS = ("web_visit",) * 60 + ("email_open",) * 25 + ("email_click",) * 10 + ("advisor_call",) * 5
_WORDS = ("pension", "savings", "spring", "newsletter", "advisor", "report", "Zürich", "fund", "yield", "growth")

# Leaders that are not there yet right after a topic was created: it repeats, and tells of each time.
logging.getLogger("aiokafka.producer").setLevel(logging.ERROR)


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What a topic is filled with."""

    events: int
    partitions: int = 6
    codec: Codec = "lz4"
    kind: Kind = "flat"
    size: int = TYPICAL  # bytes of an event: `SMALL`, `TYPICAL`, or more, and then the rest is in its properties
    batch: int = 10_000  # records in a producer's batch, at most; 500 kB is the other limit
    slow: float = 0.0  # share of events with a field that the model does not know, so that they are decoded twice
    bad: float = 0.0  # share of events that make no row

    @property
    def bad_events(self) -> int:
        return self.events // every if (every := _every(self.bad)) else 0


def events(load: Load) -> Iterator[bytes]:
    """Without end, and the same ones for the same load. Each has an id of its own."""
    made = random.Random(7)
    templates = min(_TEMPLATES, _TEMPLATE_BYTES // load.size)
    make = sdk_events.tail if load.kind == "sdk" else _tail
    tails = [make(load.size, number, made) for number in range(templates)]
    slow, bad, bits = _every(load.slow), _every(load.bad), made.getrandbits
    head = b'{"event_id":"%08x",' if load.size < TYPICAL else b'{"event_id":"%08x-%04x-4%03x-a%03x-%012x",'
    for number, tail in enumerate(cycle(tails), 1):
        if load.size < TYPICAL:
            value = head % number + tail
        else:
            value = head % (bits(32), bits(16), bits(12), number & 0xFFF, bits(36) << 12 | number >> 12) + tail
        if bad and number % bad == 0:
            value = _broken(value, number // bad)
        elif slow and number % slow == 0:
            value = value[:-1] + b',"utm_source":"newsletter"}'
        yield value


def _every(share: float) -> int:
    """One of how many; 0: none."""
    return round(1 / share) if share else 0


def _broken(value: bytes, number: int) -> bytes:
    return value[: len(value) // 2] if number % 2 else value.replace(b'"client_id"', b'"client_no"')


def _tail(size: int, number: int, made: random.Random) -> bytes:
    """An event without its brace and its id, so that both can be put before it."""
    return msgspec.json.encode(_flat(size, number, made))[1:]


def _flat(size: int, number: int, made: random.Random) -> dict[str, object]:
    time_of_it = _BEGIN + timedelta(milliseconds=10 * number)
    kind, client = made.choice(_KINDS), int(50_000 * made.random() ** 2)
    if size < TYPICAL:
        seconds = f"{time_of_it:%Y-%m-%dT%H:%M:%S}Z"
        return {"client_id": f"C{client:06d}", "event_timestamp": seconds, "event_type": kind}
    event: dict[str, object] = {
        "client_id": f"CLIENT_{client:06d}",
        "event_timestamp": f"{time_of_it:%Y-%m-%dT%H:%M:%S}.{number * 10 % 1000:03d}Z",
        "event_type": kind,
        "event_category": "marketing",
        "page_url": f"https://www.example.com{made.choice(_PAGES)}",
        "session_id": "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}".format(*map(made.getrandbits, (32, 16, 12, 12, 40))),
        "channel": made.choice(("web", "email", "phone")),
        "device_type": made.choice(("mobile", "desktop", "tablet")),
        "duration_s": made.randrange(600),
    }
    if size > TYPICAL:
        event["properties"] = _properties(size - TYPICAL, made)
    return event


def _properties(size: int, made: random.Random) -> dict[str, object]:
    """Text and numbers of about so many bytes."""
    found: dict[str, object] = {}
    left = size - len(',"properties":{}')
    while left > len('"detail_000":0,'):
        number = len(found)
        text = " ".join(made.choices(_WORDS, k=6))[: max(1, left - 16)]
        value = made.randrange(10**6) if number % 4 == 3 else text
        found[f"detail_{number:03d}"] = value
        left -= len('"detail_000":,') + len(msgspec.json.encode(value))
    return found


# -- into a topic


async def fill(bootstrap: str, topic: str, load: Load, encode: Callable[[bytes], bytes] = bytes) -> None:
    """Create the topic and write the events into it, to each partition in turn; all of them are acknowledged."""
    await create(bootstrap, topic, load.partitions)
    values = map(encode, events(load))
    left = load.events
    async with AsyncExitStack() as stack:
        writers = [await stack.enter_async_context(_Writer(bootstrap, topic, load)) for _ in range(_writers(load))]
        turn = cycle(writers)
        while left:
            left -= await next(turn).write(values, left)


def _writers(load: Load) -> int:
    return _PRODUCERS if load.batch <= 100 else 1


class _Writer:
    def __init__(self, bootstrap: str, topic: str, load: Load) -> None:
        self._topic = topic
        self._most = min(load.batch, -(-load.events // load.partitions))
        self._turn = cycle(range(load.partitions))
        self._underway: deque[asyncio.Future[Any]] = deque()
        # One a millisecond, up to now: of those that share a timestamp, only the first would take what each takes.
        self._timestamps = count(int(time.time() * 1000) - load.events)
        self._producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap,
            enable_idempotence=True,  # each event once, so that an offset is a number of events
            compression_type=None if load.codec == "none" else load.codec,
            max_batch_size=_BATCH_BYTES,
            max_request_size=8 * _BATCH_BYTES,
        )

    async def __aenter__(self) -> "_Writer":
        await self._producer.start()
        return self

    async def __aexit__(self, *failure: object) -> None:
        try:
            if failure == (None, None, None):
                await asyncio.gather(*self._underway)
        finally:
            await self._producer.stop()

    async def write(self, values: Iterator[bytes], most: int) -> int:
        """One batch; how many events are in it."""
        builder, size, written = self._producer.create_batch(), 0, 0
        most = min(most, self._most)
        # By our own count: the builder refuses what does not fit, and then the event would be lost.
        while written < most and size < _BATCH_BYTES - 16384:
            value = next(values)
            builder.append(timestamp=next(self._timestamps), key=None, value=value)
            size += len(value) + 20
            written += 1
        self._underway.append(await self._producer.send_batch(builder, self._topic, partition=next(self._turn)))
        if len(self._underway) >= _UNDERWAY:
            await self._underway.popleft()
        return written
