"""Faults of the topic: partitions added, created again under the same name, overtaken by retention."""

import asyncio
import re
from collections.abc import Callable, Mapping
from random import Random

from aiokafka import TopicPartition
from aiokafka.admin import NewPartitions, RecordsToDelete

from ingestd.ops.readiness import Status
from tests.chaos.fault import fault
from tests.chaos.offset_faults import halted
from tests.chaos.rig import Rig
from tests.e2e.daemon import DEADLINE
from tests.e2e.events import Load
from tests.e2e.group import ends, reset
from tests.e2e.ledger import read
from tests.services.kafka import create_topic, delete_topic, topic_admin

# Records of each partition, of which retention removes some: written within a session of the short form.
_WRITTEN, _REMOVED = 300, 200


@fault(partitions=2, settings={"kafka.start": "latest"}, started=False)
async def partitions_added(rig: Rig, _: Random) -> str:
    """Partitions are added, and written to before the daemon knows of them: while it runs, and while it is stopped."""
    daemon = rig.daemon("a")
    async with rig.writing:  # what was there before would not be read: "latest"
        await rig.start()
        await daemon.until(lambda status: all(each.committed == 0 for each in status.partitions))
    await rig.landed()
    await _add_partitions(rig, 4)
    await _noticed(rig, lambda status: len(status.partitions) == 4)
    await rig.landed()
    assert await daemon.stop() == 0
    await _add_partitions(rig, 6)
    rig.over()
    daemon.start()
    await daemon.until(lambda status: len(status.partitions) == 6)
    return "found, and read from their beginning despite kafka.start = latest"


async def _noticed(rig: Rig, condition: Callable[[Status], object]) -> None:
    """Wait until the daemon has learnt anew what the topic is: within a minute, or when a connection breaks."""
    (daemon,) = rig.daemons
    if rig.long:
        await daemon.until(condition, 2 * DEADLINE)
        return
    while not condition(await daemon.status()):
        rig.kafka_proxy.reset()
        await asyncio.sleep(1)


async def _add_partitions(rig: Rig, total: int) -> None:
    async with topic_admin(rig.kafka.bootstrap) as admin:
        await admin.create_partitions({rig.topic: NewPartitions(total)})
    async with rig.writing:
        await rig.load.grow(total)
    await rig.until(lambda: all(map(len, rig.load.records.values())), "events in the new partitions")


@fault(partitions=2)
async def topic_recreated(rig: Rig, _: Random) -> str:
    """The topic is deleted and created again while the daemon is stopped; then as the message says."""
    (daemon,) = rig.daemons
    async with rig.writing:
        await rig.landed()
        assert await daemon.stop() == 0
        former = await _create_again(rig)
    daemon.start()
    await halted(rig, daemon, "recreated_topic", [0, 1])
    assert await daemon.stop() == 0
    await rig.until(lambda: _outgrown(rig, former), "as many events as before")
    daemon.start()
    message = await halted(rig, daemon, "recreated_topic", [0, 1])
    await _new_lineage_as_told(rig, message)
    await _unchanged(rig, former)
    return "halted (recreated_topic), while the new log was shorter and when it was longer; landed in a new lineage"


@fault(partitions=2)
async def topic_recreated_unnoticed(rig: Rig, _: Random) -> str:
    """The topic is deleted, created again and outgrows the former one, all between two looks of a running daemon."""
    (daemon,) = rig.daemons
    async with rig.writing:
        await rig.landed()
        daemon.freeze()
        former = await _create_again(rig)
        while not _outgrown(rig, former):
            await rig.load.write(1000)
        daemon.thaw()
    message = await halted(rig, daemon, "recreated_topic", [0, 1])
    await _new_lineage_as_told(rig, message)
    await _unchanged(rig, former)
    return "halted (recreated_topic); landed in a new lineage"


@fault(partitions=2)
async def topic_recreated_under_load(rig: Rig, _: Random) -> str:
    """The topic is deleted and created again while the daemon runs and holds records of the former one."""
    (daemon,) = rig.daemons
    rig.s3.refuses(503, "SlowDown")
    await daemon.until(lambda status: all(each.sealed_batches and each.batch_records for each in status.partitions))
    async with rig.writing:
        held = await _taken(rig)
        former = await _create_again(rig)
    rig.s3.heal()
    await _noticed(rig, lambda status: status.assigned and all(each.halted for each in status.partitions))
    message = await halted(rig, daemon, "recreated_topic", [0, 1])
    landed = (await asyncio.to_thread(rig.read)).boundaries
    assert {number: landed(number)[-1] for number in held} == held, "what was held did not land"
    await _new_lineage_as_told(rig, message)
    await _unchanged(rig, former)
    return "buffered records landed, then halted (recreated_topic); landed in a new lineage"


async def _taken(rig: Rig) -> dict[int, int]:
    """Wait until the daemon has taken all that is written; where it will go on, by partition."""
    wanted = ends(rig.load.records)
    await rig.taken(wanted)
    return wanted


async def _create_again(rig: Rig) -> Load:
    """The writer into the former topic; the rig has the one into the new topic from now on."""
    former = rig.load
    async with topic_admin(rig.kafka.bootstrap) as admin:
        await delete_topic(admin, rig.topic)
        await create_topic(admin, rig.topic, len(former.records))
    rig.load = former.again(first=1_000_000)
    return former


def _outgrown(rig: Rig, former: Load) -> bool:
    before, now = ends(former.records), ends(rig.load.records)
    return all(now[number] > end for number, end in before.items())


async def _new_lineage_as_told(rig: Rig, message: str) -> None:
    """Do what the message says: stop, set another lineage, reset the group's offsets, start."""
    (daemon,) = rig.daemons
    assert "set a new sink.lineage to begin a new chain" in message, message
    assert "reset the group's offsets to where it is to begin" in message, message
    assert await daemon.stop() == 0
    await reset(rig.kafka.bootstrap, rig.topic, rig.topic, dict.fromkeys(rig.load.records, 0))
    rig.lineage = "again"
    daemon.configure({**rig.settings, "sink.lineage": rig.lineage})
    rig.over()
    await daemon.start_ready()


async def _unchanged(rig: Rig, former: Load) -> None:
    """In the former lineage is what was read of the former topic before it was deleted, and nothing else."""
    ledger = await asyncio.to_thread(read, rig.store, rig.bucket, rig.topic)
    read_until = {number: ledger.boundaries(number)[-1] for number in former.records}
    ledger.check({number: offsets[: read_until[number]] for number, offsets in former.records.items()})
    assert set(ledger.event_ids) <= former.ids, "events of the new topic are in the former lineage"


@fault(partitions=2)
async def retention_overtakes_stopped(rig: Rig, _: Random) -> str:
    """Retention removes records that a stopped daemon has not read; then as the message says."""
    (daemon,) = rig.daemons
    async with rig.writing:
        await rig.landed()
        assert await daemon.stop() == 0
        landed = ends(rig.load.records)
    await _until_written(rig, landed, _WRITTEN)
    start = {number: end + _REMOVED for number, end in landed.items()}
    await _remove(rig, start)
    daemon.start()
    await halted(rig, daemon, "lost_upstream", [0, 1])
    await _skip_as_told(rig, landed, start)
    return "halted (lost_upstream); with kafka.skip_lost continued, and an object without rows covers the gap"


@fault(partitions=2)
async def retention_overtakes_running(rig: Rig, _: Random) -> str:
    """Retention removes records that a running daemon has not read, as it is cut off; then as the message says."""
    (daemon,) = rig.daemons
    rig.s3.refuses(503, "SlowDown")
    await daemon.until(lambda status: all(each.sealed_batches and each.batch_records for each in status.partitions))
    async with rig.writing:
        held = await _taken(rig)
        rig.kafka_proxy.black_hole()
    await _until_written(rig, held, _WRITTEN)
    start = {number: end + _REMOVED for number, end in held.items()}
    await _remove(rig, start)
    rig.s3.heal()
    await rig.kafka_proxy.heal()
    await halted(rig, daemon, "lost_upstream", [0, 1])
    read_until = {each.partition: _lost_from(each.halted or "") for each in (await daemon.status()).partitions}
    # An answer that was on its way brings some more, later.
    assert all(read_until[number] >= end for number, end in held.items()), f"of {held} not all landed: {read_until}"
    await _skip_as_told(rig, read_until, start)
    return (
        "buffered records landed, then halted (lost_upstream); with kafka.skip_lost continued, and an object without "
        "rows covers the gap"
    )


def _lost_from(message: str) -> int:
    match = re.search(r"before they were read \((\d+)-\d+\)", message)
    assert match, message
    return int(match[1])


async def _until_written(rig: Rig, after: Mapping[int, int], more: int) -> None:
    wanted = {number: end + more for number, end in after.items()}
    await rig.until(lambda: all(ends(rig.load.records)[number] >= end for number, end in wanted.items()), "more events")


async def _remove(rig: Rig, start: Mapping[int, int]) -> None:
    async with topic_admin(rig.kafka.bootstrap) as admin:
        await admin.delete_records(
            {TopicPartition(rig.topic, number): RecordsToDelete(offset) for number, offset in start.items()}
        )


async def _skip_as_told(rig: Rig, read_until: Mapping[int, int], start: Mapping[int, int]) -> None:
    """Do what the message says. What is missing between is forgiven, and nothing else."""
    (daemon,) = rig.daemons
    assert all("set kafka.skip_lost = true" in str(each.halted) for each in (await daemon.status()).partitions)
    assert await daemon.stop() == 0
    rig.forgiven = {number: set(range(end, start[number])) for number, end in read_until.items()}
    daemon.configure({**rig.settings, "kafka.skip_lost": "true"})
    rig.over()
    await daemon.start_ready()
    await rig.landed()
    told = await daemon.metric("ingestd_records_lost_upstream_total", topic=rig.topic)
    assert told == sum(map(len, rig.forgiven.values())), f"{told} records are said to be lost"
