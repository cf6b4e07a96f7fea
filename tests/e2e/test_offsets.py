"""Somebody else changes the group's offsets, or the topic, while no daemon runs."""

import pytest

from tests.conftest import MakeTopic
from tests.e2e.conftest import MakeDaemon
from tests.e2e.daemon import Daemon, partition
from tests.e2e.events import Load, fill, load
from tests.e2e.group import caught_up, committed, delete_group, ends, reset
from tests.e2e.ledger import read
from tests.services.kafka import KafkaAddress, KafkaBroker, create_topic, topic_admin
from tests.services.seaweed import S3Store

Broker = KafkaAddress | KafkaBroker

MANY_OBJECTS = {"batch.records": "1000"}


async def bring(daemon: Daemon, bootstrap: str, topic: str, writer: Load) -> None:
    """One run of a daemon that lands all that is there."""
    await daemon.start_ready()
    await caught_up(bootstrap, topic, topic, ends(writer.records))
    assert await daemon.stop() == 0


async def test_goes_on_at_the_end_of_the_chain_where_the_group_is_deleted(
    kafka: Broker, s3: S3Store, bucket: str, make_topic: MakeTopic, make_daemon: MakeDaemon
) -> None:
    topic = await make_topic(2)
    # "latest" would lose what was written while it was stopped, and "earliest" walk through all objects.
    daemon = make_daemon("a", topic, {**MANY_OBJECTS, "kafka.start": "earliest"})
    later = make_daemon("b", topic, {**MANY_OBJECTS, "kafka.start": "latest"})
    async with load(kafka.bootstrap, topic, 2) as writer:
        await writer.write(10_000)
        await bring(daemon, kafka.bootstrap, topic, writer)
        await delete_group(kafka.bootstrap, topic)
        assert await committed(kafka.bootstrap, topic, topic) == {}
        await writer.write(5_000)

    await bring(later, kafka.bootstrap, topic, writer)

    read(s3, bucket, topic).check(writer.records, writer.ids)


async def test_walks_the_chain_from_an_earlier_boundary(
    kafka: Broker, s3: S3Store, bucket: str, make_topic: MakeTopic, make_daemon: MakeDaemon
) -> None:
    topic = await make_topic(2)
    daemon = make_daemon("a", topic, MANY_OBJECTS)
    async with load(kafka.bootstrap, topic, 2) as writer:
        await writer.write(10_000)
        await bring(daemon, kafka.bootstrap, topic, writer)
        first = read(s3, bucket, topic)
        await reset(kafka.bootstrap, topic, topic, {0: first.boundaries(0)[2], 1: 0})
        await writer.write(5_000)

    await daemon.start_ready()
    await caught_up(kafka.bootstrap, topic, topic, ends(writer.records))

    totals = (await daemon.status()).totals
    assert totals.adopted == first.objects - 2
    assert totals.landed + totals.quarantined == 5_000
    assert await daemon.stop() == 0
    read(s3, bucket, topic).check(writer.records, writer.ids)


async def test_halts_one_partition_whose_offset_is_inside_of_an_object(
    kafka: Broker, s3: S3Store, bucket: str, make_topic: MakeTopic, make_daemon: MakeDaemon
) -> None:
    topic = await make_topic(3)
    daemon = make_daemon("a", topic, MANY_OBJECTS)
    async with load(kafka.bootstrap, topic, 3) as writer:
        await writer.write(15_000)
        await bring(daemon, kafka.bootstrap, topic, writer)
        boundaries = read(s3, bucket, topic).boundaries(1)
        await reset(kafka.bootstrap, topic, topic, {1: boundaries[1] + 1})
        await writer.write(5_000)

    daemon.start()
    others = {number: end for number, end in ends(writer.records).items() if number != 1}
    await caught_up(kafka.bootstrap, topic, topic, {**others, 1: boundaries[1] + 1})

    status = await daemon.until(lambda status: (it := partition(status, 1)) and it.halted)
    halted = partition(status, 1)
    assert halted is not None
    assert halted.state == "halted"
    assert f"reset the group's offset for this partition to {boundaries[2]}," in str(halted.halted)
    assert [reason.code for reason in status.reasons] == ["partition_halted"]
    assert (await daemon.get("/readyz"))[0] == 503
    assert await daemon.metric("ingestd_partition_halts_total", topic=topic, code="misaligned") == 1
    assert await daemon.stop() == 0

    await reset(kafka.bootstrap, topic, topic, {1: boundaries[2]})
    await bring(daemon, kafka.bootstrap, topic, writer)

    read(s3, bucket, topic).check(writer.records, writer.ids)


@pytest.mark.parametrize("size", [1_000, 20_000], ids=["shorter", "longer"])
async def test_halts_where_the_topic_was_created_again(
    kafka: Broker, s3: S3Store, bucket: str, make_topic: MakeTopic, make_daemon: MakeDaemon, *, size: int
) -> None:
    topic = await make_topic(2)
    daemon = make_daemon("a", topic, MANY_OBJECTS)
    written = await fill(kafka.bootstrap, topic, 2, 10_000)
    await bring(daemon, kafka.bootstrap, topic, written)
    async with topic_admin(kafka.bootstrap) as admin:
        await admin.delete_topics([topic])
        await create_topic(admin, topic, 2)
    await fill(kafka.bootstrap, topic, 2, size, first=1_000_000)

    daemon.start()
    status = await daemon.until(
        lambda status: len(status.partitions) == 2 and all(it.halted for it in status.partitions)
    )

    assert {reason.code for reason in status.reasons} == {"partition_halted"}
    assert all("set a new sink.lineage" in str(it.halted) for it in status.partitions)
    assert await daemon.metric("ingestd_partition_halts_total", topic=topic, code="recreated_topic") == 2
    assert await daemon.stop() == 0
    read(s3, bucket, topic).check(written.records, written.ids)
