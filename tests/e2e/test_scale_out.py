"""From one daemon to three to two while events are written: nothing is lost or doubled, and lag goes down."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random

import pytest

from ingestd.ops.readiness import Status
from tests.chaos.s3_proxy import S3Proxy
from tests.conftest import MakeTopic
from tests.e2e.conftest import MakeDaemon
from tests.e2e.daemon import DEADLINE, Daemon
from tests.e2e.events import Load, load
from tests.e2e.group import caught_up, committed, ends
from tests.e2e.ledger import read
from tests.services.kafka import KafkaAddress, KafkaBroker
from tests.services.ports import HOST, free_port
from tests.services.seaweed import S3Store

Broker = KafkaAddress | KafkaBroker

NAMES = ("ingestd-0", "ingestd-1", "ingestd-2")
PARTITIONS = 6
RATE = 2000  # events a second: more than one daemon brings over, less than three do
PIECES = 20  # writes a second
# One upload at once, of few records, to a store that takes its time: how much a daemon brings over follows from these,
# and not from the machine. A batch is two requests, for there is a rejected event in nearly all of them.
SLOW = {"sink.concurrency": "1", "batch.records": "500", "batch.interval": "2s"}
DELAY = 0.15  # seconds at most, before a request and again after it


@asynccontextmanager
async def slow(s3: S3Store) -> AsyncIterator[str]:
    """The endpoint of the same store, which takes its time."""
    port = free_port()
    async with S3Proxy(port, int(s3.endpoint.rpartition(":")[2])) as proxy:
        proxy.delays(DELAY, Random(7))
        yield f"http://{HOST}:{port}"


@asynccontextmanager
async def written_all_the_time(writer: Load) -> AsyncIterator[None]:
    """Events at RATE, until the end of the block."""
    enough = asyncio.Event()

    async def write() -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while not enough.is_set():
            await writer.write(RATE // PIECES)
            due = max(due + 1 / PIECES, loop.time() - 1)  # what a stall has cost is not made up for
            await asyncio.sleep(due - loop.time())

    async with asyncio.TaskGroup() as group:
        group.create_task(write())
        try:
            yield
        finally:
            enough.set()


@pytest.mark.slow
async def test_from_one_to_three_to_two_under_load_each_record_lands_once_and_lag_goes_down(
    kafka: Broker, s3: S3Store, bucket: str, make_topic: MakeTopic, make_daemon: MakeDaemon
) -> None:
    topic = await make_topic(PARTITIONS)
    async with slow(s3) as endpoint, load(kafka.bootstrap, topic, PARTITIONS) as writer:
        daemons = [make_daemon(name, topic, {**SLOW, "s3.endpoint_url": endpoint}) for name in NAMES]

        async def lag() -> int:
            """As an autoscaler sees it: records that are not committed."""
            found = await committed(kafka.bootstrap, topic, topic)
            return sum(end - found.get(each, 0) for each, end in ends(writer.records).items())

        async with written_all_the_time(writer):
            await daemons[0].start_ready()
            at_first = await lag()
            await until(lag, lambda records: records > at_first + RATE // 2)

            for daemon in daemons[1:]:
                daemon.start()
            await share(daemons, 2)
            at_most = await lag()
            await until(lag, lambda records: records < at_most // 2)

            assert await daemons[2].stop() == 0
            await share(daemons[:2], 3)
            written = sum(ends(writer.records).values())
            await until(lag, lambda records: writer.total - records > written)

        await caught_up(kafka.bootstrap, topic, topic, ends(writer.records))
        for daemon in daemons[:2]:
            assert await daemon.stop() == 0
    read(s3, bucket, topic).check(writer.records, writer.ids)


@pytest.mark.slow
async def test_what_a_static_member_leaves_behind_when_it_is_scaled_away_lands_once(
    kafka: Broker, s3: S3Store, bucket: str, make_topic: MakeTopic, make_daemon: MakeDaemon
) -> None:
    topic = await make_topic(PARTITIONS)
    async with load(kafka.bootstrap, topic, PARTITIONS) as writer, written_all_the_time(writer):
        daemons = [make_daemon(name, topic, {"kafka.group_instance_id": name}) for name in NAMES]
        for daemon in daemons:
            daemon.start()
        await share(daemons, 2)

        assert await daemons[2].stop() == 0  # it does not leave the group: its session has to run out
        await share(daemons[:2], 3)

    await caught_up(kafka.bootstrap, topic, topic, ends(writer.records))
    for daemon in daemons[:2]:
        assert await daemon.stop() == 0
    read(s3, bucket, topic).check(writer.records, writer.ids)


@pytest.mark.slow
async def test_a_static_member_that_restarts_moves_no_partition(
    kafka: Broker, s3: S3Store, bucket: str, make_topic: MakeTopic, make_daemon: MakeDaemon
) -> None:
    topic = await make_topic(PARTITIONS)
    times = {"kafka.session_timeout": "45s", "kafka.rebalance_timeout": "60s"}  # the defaults
    async with load(kafka.bootstrap, topic, PARTITIONS) as writer, written_all_the_time(writer):
        daemons = [make_daemon(name, topic, {**times, "kafka.group_instance_id": name}) for name in NAMES]
        for daemon in daemons:
            daemon.start()
        await share(daemons, 2)
        before = await rebalances(daemons[:2])

        assert await daemons[2].stop() == 0
        await daemons[2].start_ready()
        assert await rebalances(daemons[:2]) == before

    await caught_up(kafka.bootstrap, topic, topic, ends(writer.records))
    for daemon in daemons:
        assert await daemon.stop() == 0
    read(s3, bucket, topic).check(writer.records, writer.ids)


async def rebalances(daemons: list[Daemon]) -> list[float]:
    """How many each of them has seen."""
    return [await daemon.metric("ingestd_rebalances_total") for daemon in daemons]


async def share(daemons: list[Daemon], partitions: int) -> None:
    """Wait until each of them owns so many, and is ready."""

    def settled(status: Status) -> bool:
        return status.ready and len(status.partitions) == partitions

    for daemon in daemons:
        await daemon.until(settled)


async def until(lag: Callable[[], Awaitable[int]], enough: Callable[[int], bool]) -> None:
    """Wait until the lag is as it should be."""
    limit = time.monotonic() + DEADLINE
    while not enough(found := await lag()):
        assert time.monotonic() < limit, f"after {DEADLINE:g} s the lag is {found}"
        await asyncio.sleep(0.2)
