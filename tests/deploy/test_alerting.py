"""A real Prometheus and Alertmanager watch a real daemon: an alert arrives, and resolves; every panel has data."""

import asyncio
import json
import threading
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.conftest import MakeTopic
from tests.deploy.board import BOARD
from tests.deploy.picture import ask, draw
from tests.e2e.collector import KafkaCollector
from tests.e2e.conftest import MakeDaemon
from tests.e2e.daemon import DEADLINE, Daemon
from tests.e2e.events import load
from tests.e2e.http_sender import Sender, until_ready
from tests.e2e.ledger import read
from tests.services.kafka import KafkaAddress
from tests.services.ports import HOST
from tests.services.prometheus import Alertmanager, Prometheus
from tests.services.seaweed import SeaweedFS

DEPLOY = Path(__file__).parents[2] / "deploy" / "prometheus"
RULES = DEPLOY / "rules.yml"
QUICK = {"sink.retry_initial": "100ms", "sink.retry_max": "1s"}
ALERT = "IngestdUploadsFailing"


class Services(NamedTuple):
    """What both tests need of everybody else's."""

    kafka: KafkaAddress
    s3: SeaweedFS
    bucket: str
    topic: str
    daemon: Daemon


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


@pytest.fixture
async def services(
    kafka: KafkaAddress, s3: SeaweedFS, bucket: str, make_topic: MakeTopic, make_daemon: MakeDaemon
) -> Services:
    """A daemon that is ready, and all around it."""
    topic = await make_topic(2)
    daemon = make_daemon("a", topic, QUICK)
    await daemon.start_ready()
    return Services(kafka, s3, bucket, topic, daemon)


class Webhook:
    """What an on-call service would be: it takes Alertmanager's messages."""

    def __init__(self) -> None:
        self.alerts: list[dict[str, Any]] = []
        taken = self.alerts

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                taken.extend({**alert, "receiver": self.path} for alert in json.loads(body)["alerts"])
                self.send_response(200)
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                """Not into the tests' output."""

        self._server = ThreadingHTTPServer((HOST, 0), Handler)
        self.url = f"http://{HOST}:{self._server.server_port}/"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    async def until(self, name: str, state: str) -> dict[str, Any]:
        """Wait for an alert in this state ("firing" or "resolved")."""
        limit = time.monotonic() + DEADLINE
        while True:
            for alert in self.alerts:
                if alert["labels"]["alertname"] == name and alert["status"] == state:
                    return alert
            assert time.monotonic() < limit, f"{name} is not {state}: {self.alerts}"
            await asyncio.sleep(0.1)


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    hook = Webhook()
    yield hook
    hook.close()


@pytest.fixture
def impatient(tmp_path: Path) -> Path:
    """The rules as they are, but that nothing must last for longer than a second."""
    rules = yaml.safe_load(RULES.read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            if "for" in rule:
                rule["for"] = "1s"
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump(rules))
    return file


async def test_an_outage_of_the_store_alerts_somebody_and_its_end_says_so(
    services: Services, webhook: Webhook, impatient: Path, tmp_path: Path
) -> None:
    kafka, s3, bucket, topic, daemon = services
    with (
        Alertmanager(tmp_path / "alertmanager", DEPLOY / "alertmanager.yml", webhook.url) as manager,
        Prometheus(tmp_path / "prometheus", [daemon.address], impatient, manager) as prometheus,
    ):
        async with load(kafka.bootstrap, topic, 2) as writer:
            await writer.write(1_000)
            landed = f'ingestd_records_landed_total{{topic="{topic}"}} == 990'
            await asyncio.to_thread(prometheus.until, landed, bool, DEADLINE)
            # Before the first scrape there is no daemon, and that is an alert.
            await asyncio.to_thread(prometheus.until, "ALERTS", lambda found: not found, DEADLINE)
            webhook.alerts.clear()

            s3.kill()
            await writer.write(1_000)
            alert = await webhook.until(ALERT, "firing")
            assert alert["receiver"] == "/page"
            assert alert["labels"]["severity"] == "critical"
            assert alert["labels"]["instance"] == daemon.address
            assert alert["annotations"] == {
                "summary": f"The store does not answer {daemon.address} (sink_unavailable = 1).",
                "runbook_url": "deploy/runbook.md#ingestduploadsfailing",
            }

            s3.start()
            assert (await webhook.until(ALERT, "resolved"))["annotations"] == alert["annotations"]
            await daemon.until(lambda status: status.totals.landed == 1_980)
    assert await daemon.stop() == 0
    read(s3, bucket, topic).check(writer.records, writer.ids)


@pytest.fixture
async def collector(kafka: KafkaAddress, make_topic: MakeTopic, tmp_path: Path) -> AsyncIterator[KafkaCollector]:
    """One in front of a topic of its own, with a journal."""
    it = KafkaCollector(tmp_path, kafka.bootstrap, await make_topic(2), journal=True)
    it.start()
    await until_ready(it)
    yield it
    it.kill()


async def test_every_panel_of_the_dashboard_shows_a_daemon_and_a_collector_under_load_and_faults(
    services: Services, collector: KafkaCollector, tmp_path: Path
) -> None:
    kafka, s3, _, topic, daemon = services
    began = time.monotonic()
    targets = [daemon.address, collector.address]
    with Prometheus(tmp_path / "prometheus", targets, RULES, None) as prometheus:
        async with Sender(collector.port, "native").sending(), load(kafka.bootstrap, topic, 2) as writer:
            for fault in (lambda: None, s3.kill, s3.start, lambda: None):
                await asyncio.to_thread(fault)
                for _ in range(4):
                    await writer.write(500)
                    await asyncio.sleep(0.5)
                if not s3.running:
                    await asyncio.to_thread(prometheus.until, "ingestd_not_ready == 1", bool, DEADLINE)
        await daemon.until(lambda status: status.totals.in_flight == 0 and status.ready)
        await asyncio.to_thread(
            prometheus.until, f"sum(ingestd_records_consumed_total) == {writer.total}", bool, DEADLINE
        )
        answers = await asyncio.to_thread(ask, BOARD, prometheus.query_range, time.monotonic() - began)

    empty = {panel.title for panel in BOARD.panels if not any(answers[query.expr] for query in panel.queries)}
    assert empty == {panel.title for panel in BOARD.panels if panel.elsewhere}, "exactly those have no data here"
    picture = tmp_path / "dashboard.png"
    draw(BOARD, answers, picture)
    assert picture.read_bytes().startswith(b"\x89PNG")
