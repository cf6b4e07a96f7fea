"""Each record exactly once, whatever happens to the daemons."""

import asyncio
import random
from collections.abc import Callable, Sequence

import pytest

from ingestd.status import Status
from tests.conftest import MakeTopic
from tests.e2e.conftest import MakeDaemon
from tests.e2e.daemon import Daemon, partition
from tests.e2e.events import Load, fill, load
from tests.e2e.group import caught_up, committed, ends
from tests.e2e.ledger import read
from tests.services.kafka import KafkaAddress, KafkaBroker
from tests.services.seaweed import S3Store

Broker = KafkaAddress | KafkaBroker

# Small batches, so that a kill often comes between two steps of one.
MANY_OBJECTS = {"batch.bytes": "256KiB", "batch.interval": "200ms"}
MILLION = 1_000_000


async def test_every_record_is_in_one_row_or_in_quarantine(
    kafka: Broker, s3: S3Store, bucket: str, make_topic: MakeTopic, make_daemon: MakeDaemon
) -> None:
    topic = await make_topic(3)
    written = await fill(kafka.bootstrap, topic, 2, 20_000)
    records = {**written.records, 2: range(0)}
    daemon = make_daemon("a", topic)

    await daemon.start_ready()
    await caught_up(kafka.bootstrap, topic, topic, ends(records))

    assert await daemon.stop() == 0
    read(s3, bucket, topic).check(records, written.ids)


@pytest.mark.slow
async def test_a_million_events_survive_kills_and_restarts(
    kafka: Broker, s3: S3Store, bucket: str, make_topic: MakeTopic, make_daemon: MakeDaemon
) -> None:
    topic = await make_topic(6)
    daemons = [make_daemon(name, topic, MANY_OBJECTS) for name in ("a", "b")]
    for daemon in daemons:
        daemon.start()

    async with load(kafka.bootstrap, topic, 6) as writer:
        hurt_enough = asyncio.create_task(hurt(daemons, kills=10, seed=7))
        await write_until(writer, hurt_enough.done, rate=15_000)
        await hurt_enough
        await writer.write(max(0, MILLION - writer.total))
    await caught_up(kafka.bootstrap, topic, topic, ends(writer.records))

    assert [await daemon.stop() for daemon in daemons] == [0, 0]
    assert writer.total >= MILLION
    read(s3, bucket, topic).check(writer.records, writer.ids)
    assert await committed(kafka.bootstrap, topic, topic) == ends(writer.records)


async def test_a_zombie_does_no_harm(
    kafka: Broker, s3: S3Store, bucket: str, make_topic: MakeTopic, make_daemon: MakeDaemon
) -> None:
    topic = await make_topic(4)
    zombie, other = make_daemon("zombie", topic), make_daemon("other", topic)
    for daemon in (zombie, other):
        daemon.start()
    for daemon in (zombie, other):
        await daemon.until(lambda status: len(status.partitions) == 2)

    async with load(kafka.bootstrap, topic, 4) as writer:
        thawed = asyncio.Event()
        writing = asyncio.create_task(write_until(writer, thawed.is_set, rate=8_000))
        frozen = await zombie.until(lambda status: all(each.batch_records for each in status.partitions))
        zombie.freeze()
        await other.until(lambda status: has_passed(status, frozen))
        zombie.thaw()
        await zombie.until(lambda status: status.totals.released)
        thawed.set()
        await writing
    await caught_up(kafka.bootstrap, topic, topic, ends(writer.records))

    adopted = [(await daemon.status()).totals.adopted for daemon in (zombie, other)]
    assert sum(adopted) >= 1, "the zombie did not try"
    assert [await zombie.stop(), await other.stop()] == [0, 0]
    read(s3, bucket, topic).check(writer.records, writer.ids)


def has_passed(status: Status, earlier: Status) -> bool:
    """Whether all partitions of `earlier` have changed hands, and something landed that was held then."""
    return all(
        (now := partition(status, then.partition)) is not None and (now.landed or 0) > (then.landed or 0)
        for then in earlier.partitions
    )


async def write_until(writer: Load, enough: Callable[[], bool], rate: int) -> None:
    """Evenly, so many events a second, so that some are on their way at whatever moment."""
    loop = asyncio.get_running_loop()
    begin, before = loop.time(), writer.total
    while not enough():
        await writer.write(rate // 4)
        await asyncio.sleep(begin + (writer.total - before) / rate - loop.time())


async def hurt(daemons: Sequence[Daemon], kills: int, seed: int) -> None:
    """Kill daemons and restart them: at random moments, amid a rebalance or not, and amid uploads. Once, stop one."""
    rng = random.Random(seed)
    orderly = rng.randrange(1, kills)
    for number in range(kills + 1):
        victim = daemons[number % len(daemons)]
        await asyncio.sleep(rng.uniform(0, 8))
        if number == orderly:
            assert await victim.stop() == 0
        else:
            if number % 3:
                await victim.until(lambda status: any(each.state == "uploading" for each in status.partitions))
            victim.kill()
        await asyncio.sleep(rng.uniform(0, 3))
        victim.start()
