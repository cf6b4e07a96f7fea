"""The Kinesis source in virtual time: shards that split and merge, retention, members that come, go and die."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise

import pytest

from ingestd.core.errors import ConfigError, SourceError
from ingestd.core.records import TopicPartition
from ingestd.sources.kinesis.port import KinesisRefused, KinesisUnavailable
from ingestd.sources.kinesis.state import StreamState
from tests.contract.source_contract import RecordingListener
from tests.fakes.kinesis import HOUR_MS
from tests.kinesis_world import World
from tests.simulation.virtual_time import run

HOUR_S = HOUR_MS / 1000


def shard(number: int) -> TopicPartition:
    return TopicPartition("events", number)


def virtual(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    def in_virtual_time() -> None:
        async def main() -> None:
            await test()

        run(main())

    in_virtual_time.__name__, in_virtual_time.__doc__ = test.__name__, test.__doc__
    return in_virtual_time


@virtual
async def test_lands_every_record_once() -> None:
    world = World(3)
    world.produce(50)
    world.daemon()
    await asyncio.sleep(10)
    world.produce(50)
    await world.settle()
    await world.stop()


@virtual
async def test_goes_on_at_the_end_of_the_chain_after_a_crash() -> None:
    world = World(2)
    world.produce(50)
    daemon = world.daemon()
    await world.settle()
    world.produce(20)
    await daemon.kill()
    world.daemons.clear()
    world.daemon("two")
    await world.settle()
    await world.stop()


@virtual
async def test_reads_the_children_of_a_split_once_their_parent_has_landed() -> None:
    world = World()
    world.produce(20)
    daemon = world.daemon()
    await world.settle()
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
    await world.stop()


@virtual
async def test_lands_what_comes_through_splits_and_merges() -> None:
    world = World(2)
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
    await world.stop()


@virtual
async def test_reads_shards_that_were_closed_before_it_began() -> None:
    world = World()
    world.produce(30)
    world.service.split(0)
    world.produce(30)
    world.daemon()
    await world.settle()
    await world.stop()


@virtual
async def test_members_share_the_shards_and_take_over_those_of_a_dead_one() -> None:
    world = World(4)
    one, two = world.daemon("one"), world.daemon("two")
    await asyncio.sleep(30)
    assert len(one.owned) == len(two.owned) == 2
    assert not one.owned & two.owned
    world.produce(40)
    await one.kill()
    world.daemons.remove(one)
    await world.settle()
    assert len(two.owned) == 4
    await world.stop()


@virtual
async def test_a_member_that_leaves_is_followed_at_once() -> None:
    world = World(4)
    one, two = world.daemon("one"), world.daemon("two")
    await asyncio.sleep(30)
    await one.stop()
    world.daemons.remove(one)
    await asyncio.sleep(11)
    assert len(two.owned) == 4
    await world.stop()


@virtual
async def test_heartbeats_of_former_days_keep_no_shard() -> None:
    world = World(4)
    former = world.daemon("former")
    await asyncio.sleep(30)
    await former.kill()
    world.daemons.clear()
    await asyncio.sleep(100)
    daemon = world.daemon("new")
    await asyncio.sleep(1)
    assert len(daemon.owned) == 4
    await world.stop()


@virtual
async def test_a_heartbeat_that_cannot_be_read_stops_nobody() -> None:
    world = World(2)
    for name, body in (("a", b"{"), ("b", b'{"at_ms": "x"}'), ("c", b"\xff")):
        await world.state.replace(f"members/events/{name}", body)
    daemon = world.daemon()
    await asyncio.sleep(30)
    assert len(daemon.owned) == 2
    await world.stop()


@virtual
async def test_a_pinned_start_that_cannot_be_read_is_an_error_that_names_the_object() -> None:
    world = World()
    await world.state.replace(f"start/events/{world.service.created_ms}/shardId-000000000000", b"{}")
    source, listener = world.source(), RecordingListener()
    await source.start(listener)
    await listener.wait_for({shard(0)})
    with pytest.raises(SourceError, match=r"start/events/\d+/shardId-000000000000 in the sink is not ingestd's"):
        await source.resolve_start(shard(0))
    await source.stop()


@virtual
async def test_tells_records_that_retention_removed_before_they_were_read() -> None:
    world = World(retention_h=1)
    world.produce(10)
    daemon = world.daemon()
    await world.settle()
    await daemon.stop()
    world.daemons.clear()
    world.produce(5)
    await asyncio.sleep(1.2 * HOUR_S)
    world.produce(5)
    daemon = world.daemon("two")
    await asyncio.sleep(30)
    assert daemon.lost == {shard(0)}
    await world.stop()


@virtual
async def test_a_quiet_shard_is_not_taken_for_a_loss() -> None:
    """Its last record has aged out, but it was seen empty since."""
    world = World(retention_h=1)
    world.produce(10)
    daemon = world.daemon()
    await asyncio.sleep(1.2 * HOUR_S)
    assert not world.service.shard(0).records
    await daemon.kill()
    world.daemons.clear()
    world.produce(3)
    daemon = world.daemon("two")
    await world.settle()
    assert not daemon.lost
    await world.stop()


@virtual
async def test_a_quiet_shard_whose_iterator_expires_is_not_taken_for_a_loss() -> None:
    world = World(retention_h=1)
    world.produce(10)
    daemon = world.daemon()
    await asyncio.sleep(1.2 * HOUR_S)
    world.service.fails = outage("GetRecords")
    await asyncio.sleep(400)
    world.service.fails = lambda _operation, _shard: None
    world.produce(3)
    await world.settle()
    assert not daemon.out_of_range
    assert not daemon.lost
    await world.stop()


@virtual
async def test_an_empty_shard_that_was_never_quiet_for_long_counts_as_a_loss() -> None:
    world = World(retention_h=1)
    world.produce(10)
    daemon = world.daemon()
    await world.settle()
    await daemon.kill()
    world.daemons.clear()
    await asyncio.sleep(1.2 * HOUR_S)
    daemon = world.daemon("two")
    await asyncio.sleep(60)
    assert not daemon.lost
    world.produce(3)
    await asyncio.sleep(60)
    assert daemon.lost == {shard(0)}
    await world.stop()


@virtual
async def test_starts_at_the_time_that_was_latest_when_the_first_daemon_came() -> None:
    world = World(2)
    world.service.put(b"before", shard=0)
    await asyncio.sleep(100)
    first = world.daemon("one", start="latest")
    await asyncio.sleep(10)
    await first.kill()
    world.daemons.clear()
    world.produce(20)
    await asyncio.sleep(100)
    world.daemon("two", start="latest")
    await world.settle()
    await world.stop()


@virtual
async def test_refuses_to_start_in_the_future() -> None:
    world = World()
    with pytest.raises(ConfigError, match=r"kinesis\.start = 2099"):
        await world.source(start="2099-01-01T00:00:00Z").start(world)  # type: ignore[arg-type]


@virtual
async def test_says_that_there_is_no_such_stream() -> None:
    world = World()
    world.service.exists = False
    with pytest.raises(KinesisRefused):
        await world.source().start(world)  # type: ignore[arg-type]


@virtual
async def test_reads_nothing_of_another_stream_of_the_name_through_an_old_iterator() -> None:
    world = World(iterators_stay=True)
    world.produce(5)
    daemon = world.daemon()
    await world.settle()
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
    await world.stop()


def outage(*operations: str) -> Callable[[str, str], None]:
    def fail(operation: str, _shard: str) -> None:
        if operation in operations:
            raise KinesisUnavailable("no answer", code="Timeout")

    return fail


@virtual
async def test_outlives_an_outage_of_every_call() -> None:
    world = World(2)
    world.produce(10)
    daemon = world.daemon()
    await world.settle()
    world.service.fails = outage("GetRecords", "GetShardIterator", "ListShards", "DescribeStreamSummary")
    world.produce(10)
    await asyncio.sleep(600)
    assert daemon.source.error is not None
    assert daemon.source.error_since is not None
    world.service.fails = lambda _operation, _shard: None
    await world.settle()
    assert [daemon.source.error, daemon.source.error_since] == [None, None]
    await world.stop()


@virtual
async def test_a_source_that_only_reads_leaves_no_trace() -> None:
    world = World(2)
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
    await world.stop()


@virtual
async def test_reads_at_the_rate_that_aws_allows() -> None:
    world = World(2, page_bytes=100)
    world.daemon()
    await asyncio.sleep(5)
    world.service.throttled.clear()  # by a look at the log's beginning
    world.produce(2000)
    await world.settle()
    assert not world.service.throttled
    await world.stop()


@virtual
async def test_pauses_after_a_large_answer() -> None:
    world, reads = World(), list[float]()
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
    await world.stop()


@virtual
async def test_the_time_of_latest_is_that_of_all_shards() -> None:
    world = World(2)
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


@virtual
async def test_records_of_a_child_that_aged_out_before_it_was_read_are_lost() -> None:
    world = World(retention_h=1)
    world.produce(3)
    daemon = world.daemon()
    await world.settle()
    await daemon.kill()
    world.daemons.clear()
    end = world.chains.end(shard(0))
    assert end is not None
    await StreamState(world.state, "events").mark_done(str(world.service.created_ms), 0, end, world.service.now_ms())
    world.service.split(0)
    world.produce(20)
    await asyncio.sleep(1.2 * HOUR_S)
    world.produce(20)
    daemon = world.daemon("two")
    await asyncio.sleep(30)
    assert daemon.lost == {shard(1), shard(2)}
    await world.stop()


@pytest.mark.parametrize("skip_lost", [False, True])
def test_a_closed_shard_that_retention_has_emptied_counts_as_a_loss(skip_lost: bool) -> None:
    async def main() -> None:
        world = World(retention_h=1)
        world.produce(3)
        daemon = world.daemon()
        await world.settle()
        await daemon.kill()
        world.daemons.clear()
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


@virtual
async def test_tells_records_that_aged_out_while_no_answer_came() -> None:
    world = World(retention_h=1)
    world.produce(3)
    daemon = world.daemon()
    await world.settle()
    world.service.fails = outage("GetRecords")
    await asyncio.sleep(60)
    world.service.put(b"lost", shard=0)
    await asyncio.sleep(1.2 * HOUR_S)
    world.service.fails = lambda _operation, _shard: None
    world.produce(3)
    await asyncio.sleep(60)
    assert daemon.lost == {shard(0)}
    await world.stop()


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
                world.service.fails = lambda _operation, _shard: None
        world.service.fails = lambda _operation, _shard: None
        await world.settle(900)
        await asyncio.gather(*rebuilding)
        assert not any(daemon.lost for daemon in world.daemons)
        await world.stop()

    run(main())
