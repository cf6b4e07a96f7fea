"""Events that come in over HTTP: what was answered 200 is a row, or in the topic, also where the process is killed."""

import asyncio
import gzip
import json
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from ingestd.core.errors import EXIT_PROBLEMS
from tests.conftest import MakeTopic
from tests.e2e.daemon import Daemon
from tests.e2e.http_sender import Sender, event_ids_in, until_ready
from tests.e2e.ledger import read_directory
from tests.e2e.requeue import Requeue
from tests.e2e.test_bad_input import event
from tests.services.kafka import KafkaAddress, KafkaBroker
from tests.services.ports import HOST, free_port

Broker = KafkaAddress | KafkaBroker
MakeCollector = Callable[..., Daemon]

TOPIC = "collected"
UNKNOWN = 600  # events of a type that the model does not know
SOURCE = {"collect.sources.shop.kind": "native", "collect.sources.shop.rate": "1000000/s"}


@pytest.fixture
def make_collector(tmp_path: Path) -> Iterator[MakeCollector]:
    """Makes processes that are killed after the test; `program` is what Python runs."""
    made: list[Daemon] = []

    def make(keys: Mapping[str, str], *program: str) -> Daemon:
        made.append(Daemon(f"collector-{len(made)}", tmp_path, {**SOURCE, **keys}, {}, ("-m", "ingestd", *program)))
        return made[-1]

    yield make
    for daemon in made:
        daemon.kill()


def verify(sink: Path, journal: Path) -> dict[str, Any]:
    """The report of `ingestd verify`."""
    keys = {**SOURCE, "source": "collector", "sink.url": str(sink), "collect.journal": str(journal)}
    keys["collect.topic"] = TOPIC
    flags = [part for key, value in keys.items() for part in ("--set", f"{key}={value}")]
    ran = subprocess.run(
        [sys.executable, "-m", "ingestd", "verify", "--read", "--json", *flags],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert ran.returncode in {0, EXIT_PROBLEMS}, ran.stdout + ran.stderr
    report: dict[str, Any] = json.loads(ran.stdout)
    return report


def assert_verified(sink: Path, journal: Path) -> None:
    """Objects and journal agree, and all of it has landed."""
    report = verify(sink, journal)
    assert report["ok"], report
    assert report["cluster"].startswith("journal:"), "compared with it"
    [partition] = report["partitions"]
    assert partition["committed"] == partition["end"] == partition["log_end"]


@pytest.fixture
def keys(tmp_path: Path) -> dict[str, str]:
    """Of a daemon without Kafka."""
    return {
        "source": "collector",
        "collect.port": str(free_port()),
        "collect.topic": TOPIC,
        "collect.journal": str(tmp_path / "journal.sqlite"),
        "sink.url": str(tmp_path / "sink"),
        "batch.interval": "500ms",
    }


@pytest.mark.services
async def test_each_event_that_was_answered_200_is_one_row(
    tmp_path: Path, keys: dict[str, str], make_collector: MakeCollector
) -> None:
    daemon = make_collector(keys)
    sender = Sender(int(keys["collect.port"]), "shop")
    await daemon.start_ready()
    async with sender.sending():
        await sender.until_accepted(2000)
    assert await daemon.stop() == 0
    await daemon_has_landed_all(daemon, make_collector, keys)
    ledger = read_directory(tmp_path / "sink", TOPIC)
    ledger.check({0: range(len(sender.accepted))}, sender.accepted)
    assert sender.acknowledged.keys() == {"journal"}
    assert_verified(tmp_path / "sink", tmp_path / "journal.sqlite")


@pytest.mark.services
async def test_what_was_quarantined_lands_once_although_requeue_is_killed(
    tmp_path: Path, keys: dict[str, str], make_collector: MakeCollector
) -> None:
    sink, journal = tmp_path / "sink", tmp_path / "journal.sqlite"
    keys |= {"collect.journal_bytes": "1MiB"}  # so requeue makes many small transactions
    unknown = {f"unknown {number}": event(f"unknown {number}", event_type="card_payment") for number in range(UNKNOWN)}
    values = [*unknown.values(), event("good"), event("broken", client_id=7)]
    daemon = make_collector({**keys, "events.unknown_types": "reject", "breaker.max_share": "1"})
    await daemon.start_ready()
    await post(int(keys["collect.port"]), values)
    await daemon.until(lambda it: it.totals.consumed == len(values) and not it.totals.in_flight)
    requeue = Requeue(tmp_path, {**SOURCE, **keys}, {})
    try:
        assert (await requeue.run("--dry-run"))["good"] == UNKNOWN, "beside the daemon"
        assert await (await requeue.start()).wait() == 1
        assert "stop the daemon" in (tmp_path / "requeue-1.log").read_text()
        assert await daemon.stop() == 0

        await requeue.run_killed(random.Random(5), most=3, pause_s=0.01)
        again = await requeue.run()
    finally:
        await requeue.close()
    assert (again["already_requeued"], again["produced"], again["failing"]) == (UNKNOWN, 0, {"wrong_type": 1})
    assert await daemon_has_landed_all(daemon, make_collector, keys) == len(values) + UNKNOWN
    rows = Counter(row["event_id"] for row in rows_of(sink))
    assert rows == dict.fromkeys([*unknown, "good"], 1)
    assert_verified(sink, journal)


async def post(port: int, values: list[bytes]) -> None:
    async with aiohttp.ClientSession() as session:
        for first in range(0, len(values), 100):
            body = b"\n".join(values[first : first + 100])
            async with session.post(f"http://{HOST}:{port}/v1/events?key=shop", data=body) as response:
                assert response.status == 200


def receipts(sink: Path) -> list[Path]:
    return [path for path in sink.glob("requeued/**/*.json.gz") if path.name != "identity.json.gz"]


def rows_of(sink: Path) -> Iterator[dict[str, Any]]:
    for path in sink.glob("events/**/*.jsonl.gz"):
        yield from map(json.loads, gzip.decompress(path.read_bytes()).splitlines())


async def daemon_has_landed_all(daemon: Daemon, make_collector: MakeCollector, keys: dict[str, str]) -> int:
    """Run once more until the journal is empty; the number of offsets that it has given."""
    again = make_collector(keys)
    await again.start_ready()
    status = await again.until(
        lambda it: it.collector is not None and it.collector.journal is not None and it.collector.journal.records == 0
    )
    assert await again.stop() == 0
    [partition] = status.partitions
    assert partition.log_end is not None
    return partition.log_end


async def test_verify_finds_events_that_neither_the_journal_nor_an_object_has(
    tmp_path: Path, keys: dict[str, str], make_collector: MakeCollector
) -> None:
    daemon, sink = make_collector(keys), tmp_path / "sink"
    sender = Sender(int(keys["collect.port"]), "shop")
    await daemon.start_ready()
    async with sender.sending():
        await sender.until_accepted(100)
    report = await asyncio.to_thread(verify, sink, tmp_path / "journal.sqlite")
    assert report["note_counts"] == {"journal_in_use": 1}
    assert report["ok"]
    await daemon.until(lambda it: it.totals.in_flight == 0 and it.totals.landed >= len(sender.accepted))
    assert await daemon.stop() == 0
    assert_verified(sink, tmp_path / "journal.sqlite")
    last = max(sink.glob("events/**/*.gz"), key=lambda path: path.name)
    last.unlink()
    assert not verify(sink, tmp_path / "journal.sqlite")["ok"]


async def test_what_is_accepted_while_the_store_is_away_lands_when_it_is_back(
    tmp_path: Path, keys: dict[str, str], make_collector: MakeCollector
) -> None:
    (tmp_path / "sink").write_text("a file where the directory should be")
    daemon = make_collector(keys)
    sender = Sender(int(keys["collect.port"]), "shop")
    daemon.start()
    async with sender.sending():
        await sender.until_accepted(100)
    assert (await daemon.status()).sink_error
    (tmp_path / "sink").unlink()
    await daemon.until(lambda it: it.totals.landed == len(sender.accepted))
    assert await daemon.stop() == 0
    read_directory(tmp_path / "sink", TOPIC).check({0: range(len(sender.accepted))}, sender.accepted)


@pytest.mark.services
async def test_events_are_in_the_topic_when_they_are_answered(
    kafka: Broker, make_topic: MakeTopic, make_collector: MakeCollector
) -> None:
    topic, port = await make_topic(3), free_port()
    keys = {"collect.port": str(port), "collect.topic": topic, "kafka.bootstrap_servers": kafka.bootstrap}
    collector = make_collector(keys, "collect")
    collector.start()
    await until_ready(collector)
    sender = Sender(port, "shop")
    async with sender.sending():
        await sender.until_accepted(1000)
    status = json.loads((await collector.get("/status"))[1])["collector"]
    assert status["accepted"] == status["produced"] == status["safe"] == len(sender.accepted)
    await end(collector)
    assert sorted(await event_ids_in(kafka.bootstrap, topic)) == sorted(sender.accepted)
    assert sender.acknowledged.keys() == {"kafka"}


async def end(collector: Daemon) -> None:
    collector.signal(signal.SIGTERM)
    assert await collector.ended() == 0
