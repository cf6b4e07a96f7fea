"""Each record exactly once, whatever happens to the daemons."""

import asyncio
import random
from collections.abc import Sequence

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

MANY_OBJECTS = {"batch.bytes": "256KiB"}


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

    async with load(kafka.bootstrap, topic, 6) as writer, asyncio.TaskGroup() as group:
        group.create_task(write_steadily(writer, total=1_000_000, seconds=60))
        group.create_task(hurt(daemons, kills=8, seed=7))
    await caught_up(kafka.bootstrap, topic, topic, ends(writer.records))

    assert [await daemon.stop() for daemon in daemons] == [0, 0]
    assert sum(map(len, writer.records.values())) == 1_000_000
    read(s3, bucket, topic).check(writer.records, writer.ids)
    assert await committed(kafka.bootstrap, topic, topic) == ends(writer.records)


async def test_a_zombie_does_no_harm(
    kafka: Broker, s3: S3Store, bucket: str, make_topic: MakeTopic, make_daemon: MakeDaemon
) -> None:
    topic = await make_topic(4)
    zombie, other = make_daemon("zombie", topic, MANY_OBJECTS), make_daemon("other", topic, MANY_OBJECTS)
    for daemon in (zombie, other):
        daemon.start()
    for daemon in (zombie, other):
        await daemon.until(lambda status: len(status.partitions) == 2)

    async with load(kafka.bootstrap, topic, 4) as writer:
        written = asyncio.Event()
        writing = asyncio.create_task(write_until(writer, written))
        frozen = await zombie.until(lambda status: all(each.batch_records for each in status.partitions))
        zombie.freeze()
        await other.until(lambda status: has_passed(status, frozen))
        zombie.thaw()
        await zombie.until(lambda status: status.totals.released)
        written.set()
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


async def write_until(writer: Load, enough: asyncio.Event) -> None:
    """Several thousand events a second."""
    while not enough.is_set():
        await writer.write(2000)
        await asyncio.sleep(0.25)


async def write_steadily(writer: Load, total: int, seconds: float) -> None:
    """Spread evenly, so that records are on their way at whatever moment."""
    loop = asyncio.get_running_loop()
    begin, parts = loop.time(), 100
    for part in range(1, parts + 1):
        await writer.write(total // parts)
        await asyncio.sleep(begin + seconds * part / parts - loop.time())


async def hurt(daemons: Sequence[Daemon], kills: int, seed: int) -> None:
    """Kill daemons at random moments, amid a rebalance or not, and restart them; stop one of them in an orderly way."""
    rng = random.Random(seed)
    orderly = rng.randrange(1, kills)
    for number in range(kills + 1):
        await asyncio.sleep(rng.uniform(1, 11))
        victim = daemons[number % len(daemons)]
        if number == orderly:
            assert await victim.stop() == 0
        else:
            victim.kill()
        await asyncio.sleep(rng.uniform(0, 3))
        victim.start()
