"""The Kinesis source in virtual time: shards that split and merge, retention, members that come, go and die."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Any

import pytest

from ingestd.core.errors import ConfigError, SourceError
from ingestd.core.records import TopicPartition
from ingestd.sources.kinesis.continuity import WasOpen
from ingestd.sources.kinesis.port import KinesisRefused, KinesisUnavailable
from ingestd.sources.kinesis.state import StreamState
from tests.contract.source_contract import RecordingListener
from tests.fakes.kinesis import HOUR_MS
from tests.kinesis_world import World
from tests.simulation.virtual_time import run

HOUR_S = HOUR_MS / 1000


def shard(number: int) -> TopicPartition:
    return TopicPartition("events", number)


def in_world(shards: int = 1, **options: Any) -> Callable[[Callable[[World], Awaitable[None]]], Callable[[], None]]:
    """Runs a test in virtual time, in a world of its own, whose daemons are stopped at the end."""

    async def main(test: Callable[[World], Awaitable[None]]) -> None:
        world = World(shards, **options)
        await test(world)
        await world.stop()

    def decorate(test: Callable[[World], Awaitable[None]]) -> Callable[[], None]:
        def in_virtual_time() -> None:
            run(main(test))

        in_virtual_time.__name__, in_virtual_time.__doc__ = test.__name__, test.__doc__
        return in_virtual_time

    return decorate


@in_world(3)
async def test_lands_every_record_once(world: World) -> None:
    world.produce(50)
    world.daemon()
    await asyncio.sleep(10)
    world.produce(50)
    await world.settle()


@in_world(2)
async def test_goes_on_at_the_end_of_the_chain_after_a_crash(world: World) -> None:
    await world.daemon_with_landed(50)
    world.produce(20)
    await world.crash()
    world.daemon("two")
    await world.settle()


@in_world()
async def test_goes_on_where_the_last_landed_record_comes_in_an_answer_of_its_own(world: World) -> None:
    """As AWS may answer, and as no heartbeat says that nothing is missing behind it."""
    await world.daemon_with_landed(20)
    await world.crash()
    for name in [name for name in world.state.objects if "members" in name]:
        del world.state.objects[name]
    world.produce(5)
    world.daemon("two", max_records=1)
    await world.settle()


@in_world(retention_h=1)
async def test_goes_on_where_retention_is_about_to_remove_the_last_landed_record(world: World) -> None:
    """And where that comes in an answer of its own."""
    await world.daemon_with_landed(20)
    await world.crash()
    for name in [name for name in world.state.objects if "members" in name]:
        del world.state.objects[name]
    await asyncio.sleep(0.9 * HOUR_S)
    world.produce(5)
    daemon = world.daemon("two", max_records=1)
    await world.settle(60)
    assert not daemon.lost


@in_world(retention_h=1)
async def test_tells_records_that_aged_out_between_two_answers(world: World) -> None:
    world.produce(20)
    await asyncio.sleep(0.9 * HOUR_S)
    daemon = world.daemon("one", max_records=1)
    await asyncio.sleep(5)
    assert world.chains.values()
    world.service.trim(world.service.now_ms())
    world.produce(3)
    await asyncio.sleep(60)
    assert daemon.lost == {shard(0)}


@in_world()
async def test_reads_the_children_of_a_split_once_their_parent_has_landed(world: World) -> None:
    daemon = await world.daemon_with_landed(20)
    daemon.landing = False
    world.produce(10)
    await asyncio.sleep(10)
    world.service.split(0)
    world.produce(10)
    await asyncio.sleep(60)
    assert daemon.owned == {shard(0)}
    daemon.landing = True
    await world.settle()
    assert daemon.owned == {shard(1), shard(2)}


@in_world(2)
async def test_lands_what_comes_through_splits_and_merges(world: World) -> None:
    world.daemon()
    for _ in range(4):
        world.produce(20)
        await asyncio.sleep(7)
        one, other = world.service.split(world.service.open_shards[0])
        world.produce(20)
        await asyncio.sleep(1)
        world.service.merge(one, other)
        world.produce(20)
    await world.settle()


@in_world()
async def test_reads_shards_that_were_closed_before_it_began(world: World) -> None:
    world.produce(30)
    world.service.split(0)
    await world.daemon_with_landed(30)


@in_world(4)
async def test_members_share_the_shards_and_take_over_those_of_a_dead_one(world: World) -> None:
    one, two = world.daemon("one"), world.daemon("two")
    await asyncio.sleep(30)
    assert len(one.owned) == len(two.owned) == 2
    assert not one.owned & two.owned
    world.produce(40)
    await one.kill()
    world.daemons.remove(one)
    await world.settle()
    assert len(two.owned) == 4


@in_world(4)
async def test_a_member_that_leaves_is_followed_at_once(world: World) -> None:
    one, two = world.daemon("one"), world.daemon("two")
    await asyncio.sleep(30)
    await one.stop()
    world.daemons.remove(one)
    await asyncio.sleep(11)
    assert len(two.owned) == 4


@in_world(4)
async def test_heartbeats_of_former_days_keep_no_shard(world: World) -> None:
    world.daemon("former")
    await asyncio.sleep(30)
    await world.crash()
    await asyncio.sleep(100)
    daemon = world.daemon("new")
    await asyncio.sleep(1)
    assert len(daemon.owned) == 4


@in_world(2)
async def test_a_heartbeat_that_cannot_be_read_stops_nobody(world: World) -> None:
    for name, body in (("a", b"{"), ("b", b'{"at_ms": "x"}'), ("c", b"\xff")):
        await world.state.replace(f"members/events/{name}", body)
    daemon = world.daemon()
    await asyncio.sleep(30)
    assert len(daemon.owned) == 2


@in_world()
async def test_a_pinned_start_that_cannot_be_read_is_an_error_that_names_the_object(world: World) -> None:
    await world.state.replace(f"start/events/{world.service.created_ms}/shardId-000000000000", b"{}")
    source, listener = world.source(), RecordingListener()
    await source.start(listener)
    await listener.wait_for({shard(0)})
    with pytest.raises(SourceError, match=r"start/events/\d+/shardId-000000000000 in the sink is not ingestd's"):
        await source.resolve_start(shard(0))
    await source.stop()


@in_world(retention_h=1)
async def test_tells_records_that_retention_removed_before_they_were_read(world: World) -> None:
    daemon = await world.daemon_with_landed(10)
    await daemon.stop()
    world.daemons.clear()
    world.produce(5)
    await asyncio.sleep(1.2 * HOUR_S)
    world.produce(5)
    daemon = world.daemon("two")
    await asyncio.sleep(30)
    assert daemon.lost == {shard(0)}


@in_world(retention_h=1)
async def test_a_quiet_shard_is_not_taken_for_a_loss(world: World) -> None:
    """Its last record has aged out, but it was seen empty since."""
    world.produce(10)
    daemon = world.daemon()
    await asyncio.sleep(1.2 * HOUR_S)
    assert not world.service.shard(0).records
    await world.crash()
    world.produce(3)
    daemon = world.daemon("two")
    await world.settle()
    assert not daemon.lost


@in_world(retention_h=1)
async def test_a_quiet_shard_whose_iterator_expires_is_not_taken_for_a_loss(world: World) -> None:
    world.produce(10)
    daemon = world.daemon()
    await asyncio.sleep(1.2 * HOUR_S)
    world.service.fails = outage("GetRecords")
    await asyncio.sleep(400)
    world.service.fails = outage()
    world.produce(3)
    await world.settle()
    assert not daemon.out_of_range
    assert not daemon.lost


@in_world(retention_h=1)
async def test_an_empty_shard_that_was_never_quiet_for_long_counts_as_a_loss(world: World) -> None:
    daemon = await world.daemon_with_landed(10)
    await world.crash()
    await asyncio.sleep(1.2 * HOUR_S)
    daemon = world.daemon("two")
    await asyncio.sleep(60)
    assert not daemon.lost
    world.produce(3)
    await asyncio.sleep(60)
    assert daemon.lost == {shard(0)}


@in_world(2)
async def test_starts_at_the_time_that_was_latest_when_the_first_daemon_came(world: World) -> None:
    world.service.put(b"before", shard=0)
    await asyncio.sleep(100)
    world.daemon("one", start="latest")
    await asyncio.sleep(10)
    await world.crash()
    world.produce(20)
    await asyncio.sleep(100)
    world.daemon("two", start="latest")
    await world.settle()


@in_world()
async def test_refuses_to_start_in_the_future(world: World) -> None:
    with pytest.raises(ConfigError, match=r"kinesis\.start = 2099"):
        await world.source(start="2099-01-01T00:00:00Z").start(world)  # type: ignore[arg-type]


@in_world()
async def test_says_that_there_is_no_such_stream(world: World) -> None:
    world.service.exists = False
    with pytest.raises(KinesisRefused):
        await world.source().start(world)  # type: ignore[arg-type]


@in_world(iterators_stay=True)
async def test_reads_nothing_of_another_stream_of_the_name_through_an_old_iterator(world: World) -> None:
    daemon = await world.daemon_with_landed(5)
    world.service.fails = outage("ListShards")  # or else a look at the shards would find out
    await asyncio.sleep(60)
    world.service.exists = False
    await asyncio.sleep(60)
    world.service.create()
    for _ in range(10):
        world.service.put(b"another", shard=0)
    await asyncio.sleep(40)
    assert daemon.out_of_range
    assert daemon.lost == {shard(0)}  # a chain knows that by the stream's id, and halts
    assert world.is_complete()


def outage(*operations: str) -> Callable[[str, str], None]:
    def fail(operation: str, _shard: str) -> None:
        if operation in operations:
            raise KinesisUnavailable("no answer", code="Timeout")

    return fail


@in_world(2)
async def test_outlives_an_outage_of_every_call(world: World) -> None:
    daemon = await world.daemon_with_landed(10)
    world.service.fails = outage("GetRecords", "GetShardIterator", "ListShards", "DescribeStreamSummary")
    world.produce(10)
    await asyncio.sleep(600)
    assert daemon.source.error is not None
    assert daemon.source.error_since is not None
    world.service.fails = outage()
    await world.settle()
    assert [daemon.source.error, daemon.source.error_since] == [None, None]


@in_world(2)
async def test_a_source_that_only_reads_leaves_no_trace(world: World) -> None:
    world.produce(10)
    world.daemon("one")
    await world.settle()
    before = {name: body for name, body in world.state.objects.items() if not name.startswith("members/")}
    daemon = world.daemon("two")
    daemon.source = world.source("three", read_only=True)
    world.produce(10)
    await world.settle()
    assert {name: body for name, body in world.state.objects.items() if not name.startswith("members/")} == before
    assert "members/events/three" not in world.state.objects


@in_world(2, page_bytes=100)
async def test_reads_at_the_rate_that_aws_allows(world: World) -> None:
    world.daemon()
    await asyncio.sleep(5)
    world.service.throttled.clear()  # by a look at the log's beginning
    world.produce(2000)
    await world.settle()
    assert not world.service.throttled


@in_world()
async def test_pauses_after_a_large_answer(world: World) -> None:
    reads: list[float] = []
    world.daemon()
    await asyncio.sleep(5)
    for _ in range(30):
        world.service.put(bytes(1 << 20), shard=0)
    world.service.fails = lambda operation, _: (
        reads.append(asyncio.get_running_loop().time()) if operation == "GetRecords" else None
    )
    await asyncio.sleep(30)
    assert len(world.chains.values()) == 30
    # From request to request, whose latencies differ.
    assert [later - earlier > 4.9 for earlier, later in pairwise(reads)].count(True) == 3


@in_world(2)
async def test_the_time_of_latest_is_that_of_all_shards(world: World) -> None:
    for member, number in (("one", 0), ("two", 1)):
        source, listener = world.source(member, start="latest"), RecordingListener()
        await source.start(listener)
        await listener.wait_for({shard(0), shard(1)})
        start = await source.resolve_start(shard(number))
        await source.stop()
        if not number:
            await asyncio.sleep(10)
            put = world.service.put(b"later", shard=1)
            await asyncio.sleep(10)
    assert start.offset == put.offset


@pytest.mark.parametrize("retention_h", [1, 24])
def test_records_of_a_child_that_aged_out_before_it_was_read_are_lost(retention_h: int) -> None:
    """Also where retention was raised afterwards."""

    async def main() -> None:
        world = World(retention_h=1)
        daemon = await world.daemon_with_landed(3)
        await world.crash()
        end = world.chains.end(shard(0))
        assert end is not None
        open_ms, created = world.service.now_ms(), str(world.service.created_ms)
        await StreamState(world.state, "events").mark_done(created, 0, end, WasOpen(open_ms, HOUR_MS))
        world.service.split(0)
        world.produce(20)
        await asyncio.sleep(1.2 * HOUR_S)
        world.service.retention_h = retention_h
        world.produce(20)
        daemon = world.daemon("two")
        await asyncio.sleep(30)
        assert daemon.lost == {shard(1), shard(2)}
        await world.stop()

    run(main())


@pytest.mark.parametrize("skip_lost", [False, True])
def test_a_closed_shard_that_retention_has_emptied_counts_as_a_loss(skip_lost: bool) -> None:
    async def main() -> None:
        world = World(retention_h=1)
        daemon = await world.daemon_with_landed(3)
        await world.crash()
        world.service.put(b"lost", shard=0)
        await asyncio.sleep(0.5 * HOUR_S)
        world.service.split(0)
        await asyncio.sleep(0.6 * HOUR_S)
        daemon = world.daemon("two", skip_lost=skip_lost)
        await asyncio.sleep(60)
        assert daemon.lost == (set() if skip_lost else {shard(0)})
        assert daemon.owned == ({shard(1), shard(2)} if skip_lost else {shard(0)})
        await world.stop()

    run(main())


@in_world(retention_h=1)
async def test_tells_records_that_aged_out_while_no_answer_came(world: World) -> None:
    daemon = await world.daemon_with_landed(3)
    world.service.fails = outage("GetRecords")
    await asyncio.sleep(60)
    world.service.put(b"lost", shard=0)
    await asyncio.sleep(1.2 * HOUR_S)
    world.service.fails = outage()
    world.produce(3)
    await asyncio.sleep(60)
    assert daemon.lost == {shard(0)}


@pytest.mark.parametrize("crashes", [False, True])
def test_tells_records_that_a_retention_has_removed_that_was_lowered_for_a_while(crashes: bool) -> None:
    """A daemon that comes later knows it from the heartbeats."""

    async def main() -> None:
        world = World(retention_h=5)
        daemon = await world.daemon_with_landed(3)
        world.service.fails = outage("GetRecords")
        await asyncio.sleep(60)
        world.service.put(b"lost", shard=0)
        await asyncio.sleep(1.5 * HOUR_S)
        for retention_h in (1, 5):
            world.service.retention_h = retention_h
            await asyncio.sleep(60)
        if crashes:
            await world.crash()
            daemon = world.daemon("two")
        world.service.fails = outage()
        world.produce(3)
        await asyncio.sleep(60)
        assert daemon.lost == {shard(0)}
        await world.stop()

    run(main())


@pytest.mark.parametrize("seed", range(10))
def test_loses_and_doubles_nothing_whatever_happens(seed: int) -> None:
    async def main() -> None:
        world = World(2, seed, empty_pages=1)
        chance = world.random
        for number in range(2):
            world.daemon(f"m{number}")
        born, rebuilding = 2, []
        for _ in range(60):
            world.produce(chance.randrange(8))
            await asyncio.sleep(chance.uniform(0, 8))
            action = chance.randrange(12)
            if action < 3 and len(world.daemons) > 1:
                victim = world.daemons.pop(chance.randrange(len(world.daemons)))
                await (victim.kill() if chance.random() < 0.7 else victim.stop())
            elif action < 5 and len(world.daemons) < 4:
                world.daemon(f"m{born}")
                born += 1
            elif action == 5 and len(world.service.open_shards) < 6:
                world.service.split(chance.choice(world.service.open_shards))
            elif action == 6 and len(world.service.open_shards) > 1:
                world.service.merge(*chance.sample(world.service.open_shards, 2))
            elif action == 7:
                rebuilding.append(asyncio.create_task(chance.choice(world.daemons).source.rebuild()))
            elif action == 8:
                world.service.fails = outage(chance.choice(["GetRecords", "GetShardIterator", "ListShards"]))
            else:
                world.service.fails = outage()
        world.service.fails = outage()
        await world.settle(900)
        await asyncio.gather(*rebuilding)
        assert not any(daemon.lost for daemon in world.daemons)
        await world.stop()

    run(main())
