"""The memory budget, with many partitions and a store that stands still."""

from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

import pytest

from ingestd.ops.readiness import Status
from tests.chaos.tcp_proxy import TcpProxy
from tests.conftest import MakeTopic
from tests.e2e.conftest import MakeDaemon
from tests.e2e.daemon import Daemon
from tests.e2e.events import event_id
from tests.e2e.group import caught_up
from tests.e2e.ledger import read
from tests.e2e.watch import has_reason, noise, peak_memory, watched
from tests.services.kafka import KafkaAddress
from tests.services.ports import HOST, free_port
from tests.services.seaweed import S3Store

PARTITIONS = 200
EACH = 60  # events; of all partitions together 145 MB, which is the budget, what may be fetched ahead, and more

BUDGET = 64 << 20
FETCH = 4 << 20
SETTINGS = {
    "batch.memory": str(BUDGET),
    "kafka.fetch_max_bytes": str(FETCH),
    # Of all partitions together more than the budget.
    "kafka.partition_fetch_bytes": "512KiB",
    "kafka.session_timeout": "6s",
    "kafka.heartbeat_interval": "2s",
    "s3.connect_timeout": "1s",
    "s3.read_timeout": "1s",
    "sink.retry_initial": "100ms",
    "sink.retry_max": "1s",
}
# Beside the budget: two answers of the broker are fetched ahead, one on its way is there three times while it is taken
# apart, 4 MiB are handed out, and the rest is code that only load brings in.
BESIDE = 5 * FETCH + (4 << 20) + (24 << 20)
# What the documents say that a process needs beside its budget, for all: the interpreter, what is fetched ahead, and
# holes in the heap, while much is freed and as much is taken.
ROOM = 256 << 20


class Outage(NamedTuple):
    begins: Callable[[TcpProxy], None]
    seconds: float  # that the store has been away, at least


OUTAGES = {
    # For longer than a member that is not heard of keeps its place in the group.
    "answers_nothing": Outage(TcpProxy.black_hole, 7.0),
    "is_gone": Outage(TcpProxy.refuse, 1.0),
}


class Behind(NamedTuple):
    """A daemon whose store is behind a proxy."""

    topic: str
    daemon: Daemon
    proxy: TcpProxy


@pytest.fixture
async def behind(s3: S3Store, make_topic: MakeTopic, make_daemon: MakeDaemon) -> AsyncIterator[Behind]:
    topic = await make_topic(PARTITIONS)
    async with TcpProxy(free_port(), int(s3.endpoint.rpartition(":")[2])) as proxy:
        daemon = make_daemon("a", topic, {**SETTINGS, "s3.endpoint_url": f"http://{HOST}:{proxy.port}"})
        await daemon.start_ready()
        await daemon.until(reads_all)
        yield Behind(topic, daemon, proxy)


@pytest.mark.slow
@pytest.mark.parametrize("outage", OUTAGES.values(), ids=OUTAGES.keys())
async def test_the_budget_holds_with_many_partitions_while_the_store(
    outage: Outage, kafka: KafkaAddress, s3: S3Store, bucket: str, behind: Behind
) -> None:
    topic, daemon, proxy = behind
    total = PARTITIONS * EACH
    before = peak_memory(daemon)

    outage.begins(proxy)
    async with noise(kafka.bootstrap, topic, PARTITIONS) as write, watched(daemon) as seen:
        await write(total)
        held = await daemon.until(lambda status: is_full(status) and (status.sink_error_age or 0.0) > outage.seconds)
        used = peak_memory(daemon) - before
        code, body = await daemon.get("/readyz")
        alive, _ = await daemon.get("/livez")

        await proxy.heal()
        await caught_up(kafka.bootstrap, topic, topic, dict.fromkeys(range(PARTITIONS), EACH))

    assert (alive, code) == (200, 503)
    assert b"sink_unavailable" in body
    assert held.totals.consumed < total, "the budget was never used up"
    assert max(status.buffered_bytes for status in seen) <= BUDGET
    assert used < BUDGET + BESIDE
    assert peak_memory(daemon) < BUDGET + ROOM
    assert not [status for status in seen if has_reason(status, "loop_lagging")]
    assert await daemon.metric("ingestd_rebalances_total") == 1, "it has lost its place in the group"
    assert await daemon.stop() == 0
    ids = {event_id(number) for number in range(total)}
    read(s3, bucket, topic).check(dict.fromkeys(range(PARTITIONS), range(EACH)), ids)


def reads_all(status: Status) -> bool:
    return len(status.partitions) == PARTITIONS and all(it.position is not None for it in status.partitions)


def is_full(status: Status) -> bool:
    """Whether nothing more is fetched until something has landed."""
    return status.buffered_bytes > BUDGET * 9 // 10 and has_reason(status, "sink_unavailable")
