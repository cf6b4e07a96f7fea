"""Stores and brokers that go away, come back, or do not keep their word."""

import asyncio
import gzip
import json
import re
import signal
import uuid
from collections.abc import Iterator

import pytest

from ingestd.core.object_keys import EVENTS
from ingestd.sinks.create_only import PROBE_KEY
from tests.conftest import MakeTopic
from tests.e2e.careless_s3 import CarelessS3
from tests.e2e.conftest import MakeDaemon
from tests.e2e.events import event_id, fill, load
from tests.e2e.group import caught_up, committed, reset
from tests.e2e.ledger import read
from tests.e2e.watch import has_reason, noise, peak_memory, watched
from tests.services.kafka import KafkaBroker
from tests.services.ports import HOST, free_port
from tests.services.seaweed import SeaweedFS

HELD = {"batch.interval": "1h"}
QUICK = {"sink.retry_initial": "100ms", "sink.retry_max": "1s"}

BUDGET = 16 << 20
# A budget that some megabytes use up, and little that is on its way into it.
TIGHT = {
    "batch.memory": str(BUDGET),
    "batch.bytes": "1MiB",
    "kafka.fetch_max_bytes": "2MiB",
    "kafka.partition_fetch_bytes": "1MiB",
}


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    """A server of this module's own, to be killed."""
    with SeaweedFS(tmp_path_factory.mktemp("s3")) as store:
        yield store


@pytest.fixture
def bucket(s3: SeaweedFS) -> Iterator[str]:
    """As everywhere; the server runs again after the test."""
    name = f"test-{uuid.uuid4().hex}"
    s3.create_bucket(name)
    yield name
    if not s3.running:
        s3.start()
    s3.delete_bucket(name)


# -- the store


async def test_what_cannot_be_delivered_in_time_is_left_to_the_next_run(
    kafka: KafkaBroker, s3: SeaweedFS, bucket: str, make_topic: MakeTopic, make_daemon: MakeDaemon
) -> None:
    other = f"{bucket}-2"
    s3.create_bucket(other)
    topics = {name: await make_topic(2) for name in (bucket, other)}
    written = {name: await fill(kafka.bootstrap, topic, 2, 3_000) for name, topic in topics.items()}
    patience = {bucket: "1h", other: "1s"}
    daemons = [
        make_daemon(name, topic, {**HELD, **QUICK, "sink.url": f"s3://{name}", "grace": patience[name]})
        for name, topic in topics.items()
    ]
    for daemon in daemons:
        daemon.start()
    for daemon in daemons:
        await daemon.until(lambda status: status.totals.in_flight == 3_000)

    s3.kill()
    for daemon in daemons:
        daemon.signal(signal.SIGTERM)
    forced, patient = daemons
    await forced.until(lambda status: status.phase == "draining" and status.sink_error)
    forced.signal(signal.SIGTERM)

    assert [await forced.ended(), await patient.ended()] == [3, 3]
    assert "stopping immediately" in forced.log_text()
    assert "stopping immediately" not in patient.log_text()
    for daemon in daemons:
        words = "stopped with 3000 records undelivered (they will be read again)"
        assert json.loads(daemon.log_text().splitlines()[-1])["message"] == words
    for topic in topics.values():
        assert await committed(kafka.bootstrap, topic, topic) == {0: 0, 1: 0}

    s3.start()
    for daemon in daemons:
        daemon.start()
    for daemon in daemons:
        await daemon.until(lambda status: status.totals.in_flight == 3_000)
    assert await asyncio.gather(*(daemon.stop() for daemon in daemons)) == [0, 0]
    for name, topic in topics.items():
        read(s3, name, topic).check(written[name].records, written[name].ids)
    s3.delete_bucket(other)


async def test_a_daemon_that_holds_nothing_ends_at_once_where_there_is_no_store(make_daemon: MakeDaemon) -> None:
    nobody = f"http://{HOST}:{free_port()}"
    daemon = make_daemon("a", "whatever", {**QUICK, "s3.endpoint_url": nobody})
    daemon.start()

    status = await daemon.until(lambda status: has_reason(status, "sink_unavailable"))
    assert has_reason(status, "starting")
    assert (await daemon.get("/livez"))[0] == 200

    assert await daemon.stop() == 130
    assert "interrupted before the stream began: cannot" in daemon.log_text()


async def test_the_budget_holds_while_a_store_is_away(
    kafka: KafkaBroker, s3: SeaweedFS, bucket: str, make_topic: MakeTopic, make_daemon: MakeDaemon
) -> None:
    topic = await make_topic(2)
    daemon = make_daemon("a", topic, {**QUICK, **TIGHT})
    await daemon.start_ready()
    before = peak_memory(daemon)
    async with noise(kafka.bootstrap, topic, 2) as write, watched(daemon) as seen:
        await write(300)
        await daemon.until(lambda status: status.totals.objects)
        writing = asyncio.create_task(write(3_000))
        await daemon.until(lambda status: status.totals.in_flight > 50)

        s3.kill()
        await writing
        held = await daemon.until(
            lambda status: status.buffered_bytes > BUDGET * 3 // 4 and has_reason(status, "sink_unavailable")
        )
        code, body = await daemon.get("/readyz")
        s3.start()
        await caught_up(kafka.bootstrap, topic, topic, {0: 1_650, 1: 1_650})

    assert code == 503
    assert b"cannot write s3://" in body
    assert held.totals.consumed < 3_300, "the budget was never used up"
    assert max(status.buffered_bytes for status in seen) <= BUDGET
    assert peak_memory(daemon) - before < 4 * BUDGET
    await daemon.until(lambda status: status.ready)
    assert await daemon.stop() == 0
    log = daemon.log_text()
    assert log.count("sink unavailable; buffering and retrying") == 1, "one line when it begins"
    assert log.count("sink recovered after") == 1, "and one when it ends"
    read(s3, bucket, topic).check({0: range(1_650), 1: range(1_650)}, {event_id(number) for number in range(3_300)})


# -- a store that overwrites


async def test_a_store_that_overwrites_is_refused(make_daemon: MakeDaemon) -> None:
    async with CarelessS3() as store:
        daemon = make_daemon("a", "whatever", {"source": "simulator", **store.settings}, store.environment)
        daemon.start()

        assert await daemon.ended() == 2

    last = json.loads(daemon.log_text().splitlines()[-1])
    assert last["level"] == "ERROR"
    assert "ignores If-None-Match" in last["message"]
    assert 'sink.delivery = "at-least-once"' in last["message"]
    assert store.objects.keys() == {PROBE_KEY}, "nothing was consumed"


async def test_a_store_that_overwrites_takes_everything_at_least_once(
    kafka: KafkaBroker, make_topic: MakeTopic, make_daemon: MakeDaemon
) -> None:
    topic = await make_topic(1)
    async with CarelessS3() as store, load(kafka.bootstrap, topic, 1) as writer:
        daemon = make_daemon("a", topic, {**store.settings, "sink.delivery": "at-least-once"}, store.environment)
        await writer.write(1_000)
        await daemon.start_ready()
        await caught_up(kafka.bootstrap, topic, topic, {0: 1_000})
        assert await daemon.stop() == 0
        first = data_objects(store)

        await reset(kafka.bootstrap, topic, topic, {0: 0})
        await writer.write(500)
        await daemon.start_ready()
        await caught_up(kafka.bootstrap, topic, topic, {0: 1_500})
        assert await daemon.stop() == 0
        both = data_objects(store)

    assert first.keys() < both.keys()
    assert all(both[span] == first[span] for span in first), "an object was overwritten"
    ids = [row["event_id"] for body in both.values() for row in map(json.loads, gzip.decompress(body).splitlines())]
    assert set(ids) == writer.ids
    assert len(ids) > len(writer.ids)
    check_spans(first, 1_000)


def data_objects(store: CarelessS3) -> dict[tuple[int, int], bytes]:
    """Bodies by start and end, as their keys say."""
    found = {}
    for key, kept in store.objects.items():
        if key.startswith(EVENTS):
            match = re.fullmatch(r".*\+00000\+(\d{20})\+(\d{20})\.jsonl\.gz", key)
            assert match, key
            assert (kept.metadata["start"], kept.metadata["end"]) == (str(int(match[1])), str(int(match[2])))
            found[int(match[1]), int(match[2])] = kept.body
    return found


def check_spans(spans: dict[tuple[int, int], bytes], end: int) -> None:
    """One after the other, from 0 to `end`."""
    reached = 0
    for start, stop in sorted(spans):
        assert start == reached
        reached = stop
    assert reached == end
