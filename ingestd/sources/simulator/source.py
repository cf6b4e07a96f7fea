"""Simulated events as a source, paced like live ones or as fast as possible."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress

import msgspec

from ingestd.config.model import SimulatorConfig
from ingestd.core.errors import SourceError
from ingestd.core.records import EpochEnd, EpochRecords, LogRange, PlainRecord, Position, TopicPartition
from ingestd.sources.base import Capabilities, Fetched, Listener, OpenTransaction
from ingestd.sources.simulator.events import MAX_EVENTS, Message, Simulation, check, history

Clock = Callable[[], float]

_POLL_S = 0.1  # slept when no event is due
_CATCH_UP_S = 5.0  # of a stall, at most
_NO_END = 2**63 - 1

BURST = 10  # times the rate
BURST_S = 10.0
BAD_EVENTS = 25


class Pace:
    """Counts the events that are due. `rate` is in events per second, 0 for as many as possible; times are seconds."""

    def __init__(self, rate: float, now: float) -> None:
        self._rate = rate
        self._last = now
        self._due = 1.0

    def due(self, now: float) -> int:
        """Events to make now: at most ``MAX_EVENTS``. After a long stall the oldest events are dropped."""
        if not self._rate:
            return MAX_EVENTS
        self._due = min(self._due + (now - self._last) * self._rate, 1.0 + _CATCH_UP_S * self._rate)
        self._last = now
        count = min(int(self._due), MAX_EVENTS)
        self._due -= count
        return count


class EventControls:
    """Pauses live events, multiplies them, adds bad ones, for a demo. `monotonic` gives seconds."""

    def __init__(self, monotonic: Clock = time.monotonic) -> None:
        self._monotonic = monotonic
        self._burst_until = 0.0
        self._bad = 0
        self.paused = False

    def burst(self, seconds: float = BURST_S) -> None:
        """Make ``BURST`` times as many events for so long."""
        self._burst_until = self._monotonic() + seconds

    def spoil(self, count: int = BAD_EVENTS) -> None:
        """Add so many bad events at once; at most ``MAX_EVENTS`` are queued."""
        self._bad = min(self._bad + count, MAX_EVENTS)

    @property
    def burst_left(self) -> float:
        """The seconds until the burst ends."""
        return max(0.0, self._burst_until - self._monotonic())

    def more(self, count: int) -> int:
        """The number of events that a burst adds to `count`, at most ``MAX_EVENTS``."""
        return min((BURST - 1) * count, MAX_EVENTS) if self.burst_left else 0

    def take_bad(self) -> int:
        """The number of bad events to make now. Resets it."""
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
        self.controls = EventControls(monotonic)
        self._burst: Simulation | None = None
        self._chunks = self._past() if config.history else self._live()

    async def next(self) -> list[Message] | None:
        """The next events, a few thousand at most; none where none is due for a moment; None at the end."""
        messages = None if self.finished else next(self._chunks, None)
        if messages is None:
            self.finish()
        elif messages:
            await asyncio.sleep(0)  # other tasks get their turn
        else:
            await self.sleep()
        return messages

    @property
    def finished(self) -> bool:
        return self._finished.is_set()

    def finish(self) -> None:
        """End the stream, and `sleep` with it."""
        self._finished.set()

    async def sleep(self) -> None:
        """Wait for a moment, or until the stream is finished."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_POLL_S):
                await self._finished.wait()

    async def messages(self) -> AsyncIterator[Message]:
        """All events one by one, to be sent elsewhere."""
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
            if self.controls.paused:
                count = 0
            now = self._wall() * 1000
            # Spread over the time that passed; not where the wall clock was set back.
            start = min(before, now)
            yield [
                *simulation.events(count, start, now),
                *self._burst_events(count, start, now),
                *self._bad_events(now),
            ]
            before = now

    def _burst_events(self, count: int, start: float, now: float) -> list[Message]:
        """The events that a burst adds to `count`.

        They are of other clients: the visits that a burst has begun would otherwise fill the time after it.
        """
        more = self.controls.more(count)
        if not self.controls.burst_left:
            self._burst = None
        elif self._burst is None and more:
            self._burst = Simulation(self._config, round(now))
        return self._burst.events(more, start, now) if self._burst is not None else []

    def _bad_events(self, now: float) -> list[Message]:
        """The bad events that were asked for."""
        count = self.controls.take_bad()
        if not count:
            return []
        config = msgspec.structs.replace(self._config, malformed=1.0, late=0.0, duplicate=0.0)
        return Simulation(config, round(now)).events(count, now, now)


class SimulatorSource:
    """All partitions of a simulated topic, for one reader.

    The log has no end: it goes on at any offset that is sought, so that a chain of an earlier run can be extended. It
    keeps no events: after a seek back, other events get the same offsets. Commits last as long as the process. No event
    is made before every partition was sought, and none for a paused partition.
    """

    capabilities = Capabilities(replayable=False, has_commits=False, has_log_end=False)
    revoke_timeout = 0.0  # nothing is ever revoked

    def __init__(self, config: SimulatorConfig, wall: Clock = time.time, monotonic: Clock = time.monotonic) -> None:
        self._stream = EventStream(config, wall, monotonic)
        self._partitions = [TopicPartition(config.topic, number) for number in range(config.partitions)]
        self._next: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()
        self._commits: dict[TopicPartition, Position] = {}

    @property
    def controls(self) -> EventControls:
        return self._stream.controls

    @property
    def source_id(self) -> str:
        return "simulator"

    @property
    def error(self) -> str | None:
        return None

    @property
    def error_since(self) -> float | None:
        return None

    async def start(self, listener: Listener) -> None:
        listener.on_assigned(self._partitions)

    async def stop(self) -> None:
        self.finish()

    async def fetch(self) -> Fetched | None:
        if len(self._next) < len(self._partitions) and not self._stream.finished:
            await self._stream.sleep()
            return {}
        messages = await self._stream.next()
        return None if messages is None else self._records(messages)

    def _records(self, messages: list[Message]) -> Fetched:
        fetched: dict[TopicPartition, list[PlainRecord]] = {}
        for number, key, value, timestamp in messages:
            partition = self._partitions[number]
            if partition in self._paused:
                continue
            offset = self._next[partition]
            self._next[partition] = offset + 1
            fetched.setdefault(partition, []).append(PlainRecord(offset, timestamp, value, key))
        return {partition: EpochRecords(records) for partition, records in fetched.items()}

    def finish(self) -> None:
        self._stream.finish()

    def seek(self, partition: TopicPartition, offset: int, leader_epoch: int | None = None) -> None:  # noqa: ARG002 (there are none)
        if partition not in self._partitions:
            raise SourceError(f"{partition} is not a partition of the simulated topic")
        self._next[partition] = offset
        self._paused.discard(partition)

    def pause(self, partition: TopicPartition) -> None:
        self._paused.add(partition)

    async def stream_id(self, partition: TopicPartition) -> str:  # noqa: ARG002 (all are alike)
        return ""

    async def committed(self, partition: TopicPartition) -> Position | None:
        return self._commits.get(partition)

    async def log_range(self, partition: TopicPartition) -> LogRange:  # noqa: ARG002 (all are alike)
        return LogRange(0, _NO_END)

    async def epoch_end(self, partition: TopicPartition, leader_epoch: int) -> EpochEnd | None:  # noqa: ARG002 (there are none)
        return None

    async def resolve_start(self, partition: TopicPartition) -> Position:  # noqa: ARG002 (all are alike)
        return Position(0)

    async def commit(self, partition: TopicPartition, position: Position) -> bool:
        if partition not in self._partitions:
            return False
        self._commits[partition] = position
        return True

    async def rebuild(self) -> None:
        """Nothing can be stuck."""

    def end_offset(self, partition: TopicPartition) -> int | None:
        return self._next.get(partition)

    def behind_s(self, partition: TopicPartition) -> float | None:  # noqa: ARG002 (offsets tell)
        return None

    def open_transaction(self, partition: TopicPartition) -> OpenTransaction | None:  # noqa: ARG002
        """The simulator has no transactions."""
        return None
