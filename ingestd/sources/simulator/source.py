"""Simulated events as a log to read from, paced like live ones or as fast as possible."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress

import msgspec

from ingestd.config.model import SimulatorConfig
from ingestd.core.errors import SourceError
from ingestd.core.records import LogRange, PlainRecord, Position, TopicPartition
from ingestd.sources.base import Listener
from ingestd.sources.simulator.events import MAX_EVENTS, Message, Simulation, check, history

Clock = Callable[[], float]

_STEP = 0.1  # seconds that are slept when nothing is due
_MOST_STALL = 5.0  # seconds of a stall that are caught up with
_ENDLESS = 2**63 - 1

BURST = 10  # times the rate
BURST_SECONDS = 10.0
BAD_EVENTS = 25


class Pace:
    """How many events are due. `rate` is in events per second, 0 for as many as possible; times are seconds."""

    def __init__(self, rate: float, now: float) -> None:
        self._rate = rate
        self._last = now
        self._due = 1.0

    def due(self, now: float) -> int:
        """Events to make now: at most ``MAX_EVENTS``. What a long stall has left undone is dropped."""
        if not self._rate:
            return MAX_EVENTS
        self._due = min(self._due + (now - self._last) * self._rate, 1.0 + _MOST_STALL * self._rate)
        self._last = now
        count = min(int(self._due), MAX_EVENTS)
        self._due -= count
        return count


class Director:
    """What a demo does to live events: holds them up, multiplies them, adds bad ones. `monotonic` gives seconds."""

    def __init__(self, monotonic: Clock = time.monotonic) -> None:
        self._monotonic = monotonic
        self._burst_until = 0.0
        self._bad = 0
        self.paused = False

    def burst(self, seconds: float = BURST_SECONDS) -> None:
        """``BURST`` times the rate from now on, for so long."""
        self._burst_until = self._monotonic() + seconds

    def spoil(self, count: int = BAD_EVENTS) -> None:
        """That many bad events, at once; at most ``MAX_EVENTS`` wait."""
        self._bad = min(self._bad + count, MAX_EVENTS)

    @property
    def burst_left(self) -> float:
        """Seconds."""
        return max(0.0, self._burst_until - self._monotonic())

    def more(self, count: int) -> int:
        """How many events a burst adds to `count`: at most ``MAX_EVENTS``."""
        return min((BURST - 1) * count, MAX_EVENTS) if self.burst_left else 0

    def take_bad(self) -> int:
        """How many bad events are to come now."""
        taken, self._bad = self._bad, 0
        return taken


class EventStream:
    """Events as they become due: live ones, or those of the past where ``simulator.history`` is set.

    `wall` gives seconds since the epoch and stamps the events, `monotonic` paces them. Both are first read by ``next``.
    ``ConfigError`` where keys of `config` do not go together.
    """

    def __init__(self, config: SimulatorConfig, wall: Clock = time.time, monotonic: Clock = time.monotonic) -> None:
        check(config)
        self._config = config
        self._wall = wall
        self._monotonic = monotonic
        self._finished = asyncio.Event()
        self.director = Director(monotonic)
        self._burst: Simulation | None = None
        self._chunks = self._past() if config.history else self._live()

    async def next(self) -> list[Message] | None:
        """The next events, a few thousand at most; none when none is due for a moment; None at the end."""
        messages = None if self.finished else next(self._chunks, None)
        if messages is None:
            self.finish()
        elif messages:
            await asyncio.sleep(0)  # the others on the loop get their turn
        else:
            await self.sleep()
        return messages

    @property
    def finished(self) -> bool:
        return self._finished.is_set()

    def finish(self) -> None:
        """End the stream, waking whoever sleeps."""
        self._finished.set()

    async def sleep(self) -> None:
        """For a moment, or until the stream is finished."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_STEP):
                await self._finished.wait()

    async def messages(self) -> AsyncIterator[Message]:
        """One event after the other, to be sent elsewhere."""
        while (messages := await self.next()) is not None:
            for message in messages:
                yield message

    def _past(self) -> Iterator[list[Message]]:
        now = round(self._wall() * 1000)
        yield from history(self._config, now - round((self._config.history or 0) * 1000), now)

    def _live(self) -> Iterator[list[Message]]:
        pace = Pace(self._config.rate / 60, self._monotonic())
        before = self._wall() * 1000
        simulation = Simulation(self._config, round(before))
        while True:
            count = pace.due(self._monotonic())
            if self.director.paused:
                count = 0
            now = self._wall() * 1000
            # Spread over the time that passed; not where the wall clock was set back.
            start = min(before, now)
            yield [*simulation.events(count, start, now), *self._crowd(count, start, now), *self._bad(now)]
            before = now

    def _crowd(self, count: int, start: float, now: float) -> list[Message]:
        """What a burst adds to `count` events.

        It has clients of its own: what they have begun would otherwise be all that goes on in the time after it.
        """
        more = self.director.more(count)
        if not self.director.burst_left:
            self._burst = None
        elif self._burst is None and more:
            self._burst = Simulation(self._config, round(now))
        return self._burst.events(more, start, now) if self._burst is not None else []

    def _bad(self, now: float) -> list[Message]:
        """What was asked for of them."""
        count = self.director.take_bad()
        if not count:
            return []
        config = msgspec.structs.replace(self._config, malformed=1.0, late=0.0, duplicate=0.0)
        return Simulation(config, round(now)).events(count, now, now)


class SimulatorSource:
    """All partitions of a simulated topic, for one reader.

    Such a log has no end: whatever offset is sought is where it goes on, so a chain of an earlier run can be extended.
    It keeps nothing either: after a seek back other events take the offsets. Commits last as long as the process.
    Nothing is made before every partition was sought; a paused partition has no events.
    """

    def __init__(self, config: SimulatorConfig, wall: Clock = time.time, monotonic: Clock = time.monotonic) -> None:
        self._stream = EventStream(config, wall, monotonic)
        self._partitions = [TopicPartition(config.topic, number) for number in range(config.partitions)]
        self._next: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()
        self._commits: dict[TopicPartition, Position] = {}

    @property
    def director(self) -> Director:
        return self._stream.director

    @property
    def cluster_id(self) -> str:
        return "simulator"

    @property
    def error(self) -> str | None:
        return None

    async def start(self, listener: Listener) -> None:
        listener.on_assigned(self._partitions)

    async def stop(self) -> None:
        self.finish()

    async def fetch(self) -> dict[TopicPartition, list[PlainRecord]] | None:
        if len(self._next) < len(self._partitions) and not self._stream.finished:
            await self._stream.sleep()
            return {}
        messages = await self._stream.next()
        return None if messages is None else self._records(messages)

    def _records(self, messages: list[Message]) -> dict[TopicPartition, list[PlainRecord]]:
        fetched: dict[TopicPartition, list[PlainRecord]] = {}
        for number, key, value, timestamp in messages:
            partition = self._partitions[number]
            if partition in self._paused:
                continue
            offset = self._next[partition]
            self._next[partition] = offset + 1
            fetched.setdefault(partition, []).append(PlainRecord(offset, timestamp, value, key))
        return fetched

    def finish(self) -> None:
        self._stream.finish()

    def seek(self, partition: TopicPartition, offset: int) -> None:
        if partition not in self._partitions:
            raise SourceError(f"{partition} is not a partition of the simulated topic")
        self._next[partition] = offset
        self._paused.discard(partition)

    def pause(self, partition: TopicPartition) -> None:
        self._paused.add(partition)

    async def topic_id(self, partition: TopicPartition) -> str:  # noqa: ARG002 (all are alike)
        return ""

    async def committed(self, partition: TopicPartition) -> Position | None:
        return self._commits.get(partition)

    async def log_range(self, partition: TopicPartition) -> LogRange:  # noqa: ARG002 (all are alike)
        return LogRange(0, _ENDLESS)

    async def resolve_start(self, partition: TopicPartition) -> int:  # noqa: ARG002 (all are alike)
        return 0

    async def commit(self, partition: TopicPartition, position: Position) -> bool:
        if partition not in self._partitions:
            return False
        self._commits[partition] = position
        return True

    async def rebuild(self) -> None:
        """There is nothing that could be stuck."""

    def end_offset(self, partition: TopicPartition) -> int | None:
        return self._next.get(partition)
