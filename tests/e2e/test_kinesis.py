"""The daemon on a Kinesis stream: each record in one row or in quarantine, whatever is killed, split or refused."""

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from tests.e2e.aws_worlds import StreamWorld
from tests.e2e.daemon import DEADLINE, Daemon
from tests.e2e.stream import Server
from tests.services.aws_proxy import AwsProxy
from tests.services.kinesis import Kinesalite, KinesisLocal
from tests.services.seaweed import S3Store

pytestmark = pytest.mark.services

BAD_EVERY = 100
DAY_S = 24 * 3600.0
FAULTS = {
    "GetRecords ProvisionedThroughputExceededException",
    "GetRecords ExpiredIteratorException",
    "GetRecords InternalFailure",
    "GetRecords cut",
    "GetRecords lost",
}


class MakeWorld(Protocol):
    def __call__(self, server: Server, shards: int = 2) -> StreamWorld: ...


@pytest.fixture
def make_world(s3: S3Store, bucket: str, tmp_path: Path) -> Iterator[MakeWorld]:
    """A function that makes the world of a test; its daemons are killed after it."""
    made: list[StreamWorld] = []

    def make(server: Server, shards: int = 2) -> StreamWorld:
        made.append(StreamWorld(server, s3, bucket, tmp_path, shards))
        return made[-1]

    yield make
    for world in made:
        world.close()


async def until(condition: Callable[[], object], what: str) -> None:
    limit = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < limit, f"after {DEADLINE:g} s still not: {what}"
        await asyncio.sleep(0.05)


async def halted(daemon: Daemon, reason: str) -> None:
    """Wait until a shard has halted for this reason."""
    await daemon.until(lambda status: any(each.halted for each in status.partitions))
    await until(lambda: f'"reason": "{reason}"' in daemon.log_text(), f"halted for {reason}")


async def test_every_record_is_in_one_row_or_in_quarantine(make_world: MakeWorld, kinesis_local: KinesisLocal) -> None:
    world = make_world(kinesis_local, 3)
    world.stream.write(600)
    daemon = world.daemon("a")

    await daemon.start_ready()
    world.stream.write_aggregates(10, 40)
    await world.landed()

    assert await daemon.stop() == 0
    tally = world.landing.check(world.stream)
    assert (tally.records, tally.quarantined) == (1_000, 1_000 // BAD_EVERY)


async def test_a_daemon_that_is_killed_goes_on_where_the_chain_ends(
    make_world: MakeWorld, kinesalite: Kinesalite
) -> None:
    world = make_world(kinesalite)
    daemon = world.daemon("a", {"batch.interval": "100ms", "batch.records": "100"})
    async with world.writing():
        for pause in (0.5, 0.0, 0.2):
            await daemon.start_ready()
            await asyncio.sleep(pause)
            daemon.kill()
    await daemon.start_ready()
    await world.landed()

    assert await daemon.stop() == 0
    assert world.landing.check(world.stream).objects > 4


async def test_two_daemons_share_shards_that_are_split_and_merged(
    make_world: MakeWorld, kinesis_local: KinesisLocal
) -> None:
    world = make_world(kinesis_local)
    one, other = world.daemon("a"), world.daemon("b")
    one.start()
    await other.start_ready()
    await one.until(lambda status: status.ready and len(status.partitions) == 1)

    await asyncio.to_thread(world.stream.write, 100)  # each shard has records before it is split
    async with world.writing(rate=400):
        for change in (world.stream.split, world.stream.merge):
            await asyncio.to_thread(change, 0)
            await asyncio.sleep(1)
    await world.landed()

    assert [await daemon.stop() for daemon in (one, other)] == [0, 0]
    assert len(world.stream.records) == 5
    world.landing.check(world.stream)


async def test_a_daemon_that_stood_still_meets_the_objects_of_its_heir(
    make_world: MakeWorld, kinesalite: Kinesalite
) -> None:
    world = make_world(kinesalite)
    zombie, heir = world.daemon("a"), world.daemon("b")
    await zombie.start_ready()
    heir.start()
    async with world.writing(rate=400):
        await zombie.until(lambda status: any(each.batch_records for each in status.partitions))
        zombie.freeze()
        await heir.until(lambda status: status.ready and len(status.partitions) == 2)
    await world.landed()
    zombie.thaw()

    assert [await daemon.stop() for daemon in (zombie, heir)] == [0, 0]
    world.landing.check(world.stream)


async def test_a_service_that_is_killed_is_waited_for(make_world: MakeWorld, kinesalite: Kinesalite) -> None:
    world = make_world(kinesalite)
    daemon = world.daemon("a")
    await daemon.start_ready()
    world.stream.write(500)

    kinesalite.kill()
    await daemon.until(lambda status: status.source_error)
    kinesalite.start()
    await asyncio.to_thread(world.stream.write, 500)
    await world.landed()

    assert await daemon.stop() == 0
    assert world.landing.check(world.stream).records == 1_000


async def test_refusals_cuts_and_lost_answers_cost_no_record(make_world: MakeWorld, kinesalite: Kinesalite) -> None:
    world = make_world(kinesalite)
    async with AwsProxy(kinesalite.port) as proxy:
        daemon = world.daemon("a", {"kinesis.endpoint_url": proxy.endpoint})
        proxy.fails("ListShards", times=1)
        proxy.refuses("DescribeStreamSummary", "LimitExceededException", times=1)
        proxy.throttles("GetShardIterator", times=1)
        await daemon.start_ready()
        proxy.throttles("GetRecords", share=0.2)
        proxy.expires_iterators(share=0.2)
        proxy.fails("GetRecords", share=0.2)
        proxy.cuts("GetRecords", share=0.2)
        proxy.loses_answers("GetRecords", share=0.2)
        async with world.writing(rate=500):
            await until(lambda: proxy.fired.keys() >= FAULTS, f"all of {FAULTS}")
        proxy.heal()
        await world.landed()

        assert await daemon.stop() == 0
    assert proxy.fired["ListShards InternalFailure"] == 1
    world.landing.check(world.stream)


async def test_records_that_retention_has_removed_halt_their_shards_until_they_may_be_skipped(
    make_world: MakeWorld, kinesalite: Kinesalite
) -> None:
    kinesalite.set_clock(-2 * DAY_S)
    world = make_world(kinesalite, 1)
    daemon = world.daemon("a")
    world.stream.write(300)
    await daemon.start_ready()
    await world.landed()
    assert await daemon.stop() == 0
    landed = len(world.stream.records[0])
    world.stream.write(200)
    lost = world.stream.records[0][landed:]
    kinesalite.set_clock(0)
    world.stream.write(100)

    daemon.start()
    await halted(daemon, "lost_upstream")
    daemon.kill()
    again = world.daemon("b", {"kinesis.skip_lost": "true"})
    await again.start_ready()
    await world.landed()

    assert await again.stop() == 0
    assert world.landing.check(world.stream, lost={0: lost}).records == 400


async def test_a_stream_that_was_created_again_halts_the_daemon(make_world: MakeWorld, kinesalite: Kinesalite) -> None:
    world = make_world(kinesalite, 1)
    daemon = world.daemon("a")
    world.stream.write(100)
    await daemon.start_ready()
    await world.landed()
    assert await daemon.stop() == 0

    stream, landing = await asyncio.to_thread(world.create_again, 1, "again")
    daemon.start()

    await halted(daemon, "recreated_topic")
    daemon.kill()
    assert landing.ledger(stream).rows == 99
