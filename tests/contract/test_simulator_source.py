"""The simulator keeps the contract of sources, except where its log that nothing is written to cannot."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.config.model import EventsConfig, SimulatorConfig
from ingestd.config.types import Rate, Seconds
from ingestd.core.errors import ConfigError, SourceError
from ingestd.core.events import load_model
from ingestd.core.records import PlainRecord, Position, TopicPartition
from ingestd.core.validation import EventValidator
from ingestd.sources.simulator.events import MAX_EVENTS
from ingestd.sources.simulator.source import BAD_EVENTS, BURST, BURST_S, EventStream, Pace, SimulatorSource
from tests.contract.source_contract import Reader, RecordingListener, SourceContract, World, offsets

P0, P1 = TopicPartition("marketing_events", 0), TopicPartition("marketing_events", 1)
START = 1_740_398_400.0  # 2025-02-24T12:00:00Z


class Clock:
    """Time that stands still until a test moves it."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def makes_its_own(promise: str) -> pytest.MarkDecorator:
    return pytest.mark.xfail(strict=True, reason=f"the simulator makes its own records, {promise}")


class TestSimulatorSource(SourceContract):
    """As fast as possible, so that there are always records; `append` has nothing to do."""

    @pytest.fixture
    async def world(self) -> AsyncIterator[World]:
        config, listener = SimulatorConfig(rate=Rate(0)), RecordingListener()
        source = SimulatorSource(config)

        async def append(partition: TopicPartition, values: Sequence[bytes]) -> None:
            pass

        async def create_again() -> None:
            raise NotImplementedError

        await source.start(listener)
        yield World(source, listener, (P0, P1), append, create_again, lambda: SimulatorSource(config))
        await source.stop()

    @makes_its_own("so it hands out no others")
    async def test_hands_out_what_the_log_holds(self, world: World) -> None:
        await super().test_hands_out_what_the_log_holds(world)

    @makes_its_own("so there is no topic to be deleted")
    async def test_hands_out_nothing_of_a_topic_that_was_created_again(self, world: World) -> None:
        await world.create_again()

    @makes_its_own("so there is always one")
    async def test_fetches_nothing_where_there_is_nothing(self, world: World) -> None:
        await super().test_fetches_nothing_where_there_is_nothing(world)


class Running:
    """A simulator that was started and sought, with clocks that stand still."""

    def __init__(self, config: SimulatorConfig) -> None:
        self.wall, self.monotonic = Clock(START), Clock(50.0)
        self.source = SimulatorSource(config, self.wall, self.monotonic)

    async def start(self) -> "Running":
        listener = RecordingListener()
        await self.source.start(listener)
        for partition in listener.owned:
            self.source.seek(partition, 0)
        return self

    def pass_time(self, seconds: float) -> None:
        self.wall.now += seconds
        self.monotonic.now += seconds

    async def timestamps(self) -> list[float]:
        """Of the events of one fetch, in seconds since the start."""
        fetched = await self.source.fetch()
        assert fetched is not None
        return sorted(record.timestamp / 1000 - START for records, *_ in fetched.values() for record in records)


async def test_makes_nothing_before_every_partition_is_sought() -> None:
    source = SimulatorSource(SimulatorConfig(rate=Rate(0)))
    await source.start(RecordingListener())
    source.seek(P0, 0)
    assert await source.fetch() == {}
    source.seek(P1, 7)
    reader = Reader(source)
    assert offsets(await reader.take(P0, 1)) == [0]
    assert offsets(await reader.take(P1, 1)) == [7]


async def test_live_events_come_at_the_rate_and_are_stamped_with_the_time_that_passed() -> None:
    running = await Running(SimulatorConfig(rate=Rate(600))).start()
    assert len(await running.timestamps()) == 1  # at once, so that a slow demo begins with something
    running.pass_time(2)
    times = await running.timestamps()
    assert len(times) == 20
    assert all(0 <= time <= 2 for time in times)
    assert times[-1] - times[0] > 1.5
    assert await running.timestamps() == []


async def test_a_long_stall_is_caught_up_with_in_part() -> None:
    running = await Running(SimulatorConfig(rate=Rate(600))).start()
    await running.timestamps()
    running.pass_time(3600)
    assert len(await running.timestamps()) == 51  # five seconds, and one that may have been nearly due


async def test_goes_on_where_the_wall_clock_is_set_back() -> None:
    running = await Running(SimulatorConfig(rate=Rate(600))).start()
    await running.timestamps()
    running.pass_time(1)
    running.wall.now -= 60
    assert await running.timestamps() == [pytest.approx(-59)] * 10


async def test_without_a_rate_every_fetch_is_full() -> None:
    running = await Running(SimulatorConfig(rate=Rate(0))).start()
    for _ in range(3):
        assert len(await running.timestamps()) == MAX_EVENTS


async def test_history_ends_with_the_present_and_by_itself() -> None:
    running = await Running(SimulatorConfig(rate=Rate(60), history=Seconds(86_400))).start()
    times: list[float] = []
    while (fetched := await running.source.fetch()) is not None:
        times += [record.timestamp / 1000 - START for records, *_ in fetched.values() for record in records]
    assert len(times) == pytest.approx(86_400, rel=0.5)
    assert -86_400 <= min(times) < -86_000
    assert -100 < max(times) < 0
    assert await running.source.fetch() is None


async def test_a_paused_partition_has_no_events_and_the_others_go_on() -> None:
    running = await Running(SimulatorConfig(rate=Rate(0))).start()
    running.source.pause(P0)
    fetched = await running.source.fetch()
    assert fetched is not None
    assert set(fetched) == {P1}
    assert running.source.end_offset(P0) == 0
    assert running.source.end_offset(P1) == len(fetched[P1].records)


async def test_extends_the_log_of_an_earlier_run() -> None:
    running = await Running(SimulatorConfig(rate=Rate(0))).start()
    running.source.seek(P0, 10**12)
    assert (await running.source.log_range(P0)).end > 10**12
    assert offsets(await Reader(running.source).take(P0, 2)) == [10**12, 10**12 + 1]


async def test_refuses_what_is_not_its_own() -> None:
    running = await Running(SimulatorConfig()).start()
    other = TopicPartition("marketing_events", 2)
    assert not await running.source.commit(other, Position(1))
    with pytest.raises(SourceError, match=r"marketing_events\[2\] is not a partition"):
        running.source.seek(other, 0)


def test_refuses_a_configuration_before_anything_is_started() -> None:
    with pytest.raises(ConfigError, match="add up to 2"):
        SimulatorSource(SimulatorConfig(late=1, malformed=1))


async def test_streams_the_same_messages_that_the_source_hands_out() -> None:
    config = SimulatorConfig(rate=Rate(60), history=Seconds(3600), malformed=0.1, duplicate=0.1)
    running = await Running(config).start()
    expected = []
    while (fetched := await running.source.fetch()) is not None:
        expected += [(p.partition, r.key, r.value, r.timestamp) for p, (found, *_) in fetched.items() for r in found]
    stream = EventStream(config, Clock(START), Clock(0))
    assert sorted(expected) == sorted([tuple(message) async for message in stream.messages()])


async def test_a_stream_of_messages_ends_when_told_to() -> None:
    stream = EventStream(SimulatorConfig(rate=Rate(0)))
    count = 0
    async for _ in stream.messages():
        count += 1
        stream.finish()
    assert count == MAX_EVENTS


async def test_a_stream_lets_others_run() -> None:
    stream = EventStream(SimulatorConfig(rate=Rate(0)))
    stopper = asyncio.create_task(asyncio.sleep(0))
    stopper.add_done_callback(lambda _: stream.finish())
    async for _ in stream.messages():
        pass
    assert stopper.done()


@given(rate=st.floats(0.01, 1e4), steps=st.lists(st.floats(0, 4.9), max_size=20))
def test_a_pace_makes_neither_more_nor_fewer_than_are_due(rate: float, steps: list[float]) -> None:
    now = 100.0
    pace, made = Pace(rate, now), 0
    for step in steps:
        now += step
        while count := pace.due(now):
            assert count <= MAX_EVENTS
            made += count
    assert abs(made - (now - 100.0) * rate) <= 1.0 + 1e-6 * made  # one is due at once


async def made(stream: EventStream, clock: Clock, seconds: int) -> int:
    """How many events come in so many seconds."""
    count = 0
    for _ in range(seconds):
        clock.now += 1.0
        count += len(await stream.next() or [])
    return count


@pytest.fixture
async def directed() -> tuple[EventStream, Clock]:
    """A stream of ten events a second, which has begun."""
    clock = Clock(START)
    stream = EventStream(SimulatorConfig(rate=Rate(600)), clock, clock)
    await stream.next()
    return stream, clock


async def test_a_pause_makes_nothing_and_is_not_caught_up_with(directed: tuple[EventStream, Clock]) -> None:
    stream, clock = directed
    stream.controls.paused = True
    assert await made(stream, clock, 5) == 0
    stream.controls.paused = False
    assert await made(stream, clock, 2) == 20


async def test_a_burst_multiplies_the_rate_for_its_time(directed: tuple[EventStream, Clock]) -> None:
    stream, clock = directed
    stream.controls.burst()
    assert await made(stream, clock, int(BURST_S) - 1) == (BURST_S - 1) * 10 * BURST
    assert await made(stream, clock, 5) == 50


async def test_a_burst_makes_no_event_twice(directed: tuple[EventStream, Clock]) -> None:
    stream, clock = directed
    ids: list[str] = []
    for _ in range(2):
        stream.controls.burst()
        for _ in range(int(BURST_S) + 3):
            clock.now += 1.0
            ids += [msgspec.json.decode(it.value)["event_id"] for it in await stream.next() or []]
    assert len(ids) == len(set(ids)) > 1000


async def test_bad_events_are_all_bad_and_come_once(directed: tuple[EventStream, Clock]) -> None:
    stream, clock = directed
    stream.controls.paused = True
    stream.controls.spoil()
    messages = await stream.next() or []
    records = [PlainRecord(offset, it.timestamp, it.value, it.key) for offset, it in enumerate(messages)]
    assert (
        len(EventValidator(EventsConfig(), load_model(None)).chunk(P0, records).rejected) == len(records) == BAD_EVENTS
    )
    assert await made(stream, clock, 3) == 0


async def test_what_is_left_undirected_is_what_it_always_was() -> None:
    clocks = Clock(START), Clock(START)
    left, right = (EventStream(SimulatorConfig(rate=Rate(600)), clock, clock) for clock in clocks)
    right.controls.burst(0.0)
    for _ in range(5):
        for clock in clocks:
            clock.now += 1.0
        assert await left.next() == await right.next()
