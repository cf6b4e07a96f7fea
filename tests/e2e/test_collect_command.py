"""How `ingestd collect` starts, ends, and says how it is, also while no broker answers."""

import json
import signal
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.e2e.daemon import Daemon
from tests.e2e.http_sender import Sender, until_answers
from tests.services.ports import HOST, free_port

SOURCE = {"collect.sources.shop.kind": "native"}


class Edge(Daemon):
    """One process, for whose port of events nobody else waits."""

    def __init__(self, directory: Path, more: Mapping[str, str]) -> None:
        self.port = free_port()
        keys = {"kafka.bootstrap_servers": f"{HOST}:{free_port()}", "collect.port": str(self.port), **more}
        super().__init__("edge", directory, keys, {}, ("-m", "ingestd", "collect"))

    async def readiness(self) -> tuple[int, dict[str, Any]]:
        code, body = await self.get("/readyz")
        return code, json.loads(body)


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[Edge]:
    """Without a broker and without a journal."""
    found = Edge(tmp_path, {**SOURCE, "collect.ack_timeout": "500ms"})
    yield found
    found.kill()


@pytest.fixture
def with_journal(tmp_path: Path) -> Iterator[Edge]:
    """Without a broker."""
    found = Edge(tmp_path, {**SOURCE, "collect.ack_timeout": "2s", "collect.journal": str(tmp_path / "journal.sqlite")})
    yield found
    found.kill()


async def test_without_kafka_and_without_a_journal_it_is_not_ready_and_answers_503(edge: Edge) -> None:
    edge.start()
    await until_answers(edge)
    code, readiness = await edge.readiness()
    assert code == 503
    assert [reason["code"] for reason in readiness["reasons"]] == ["kafka_unavailable"]
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"http://{HOST}:{edge.port}/v1/events?key=shop", data=b"{}") as response,
    ):
        assert response.status == 503
        assert response.headers["Retry-After"]
    assert await edge.metric("ingestd_collect_events_total", source="shop", outcome="unavailable") == 1
    assert await edge.metric("ingestd_collect_available") == 0
    edge.signal(signal.SIGTERM)
    assert await edge.ended() == 0


async def test_with_a_journal_it_takes_events_and_warns_that_kafka_is_away(with_journal: Edge) -> None:
    with_journal.start()
    await until_answers(with_journal)
    sender = Sender(with_journal.port, "shop")
    async with sender.sending():
        await sender.until_accepted(50)
    code, readiness = await with_journal.readiness()
    assert code == 200
    assert [warning["code"] for warning in readiness["warnings"]] == ["kafka_unavailable"]
    assert sender.acknowledged.keys() == {"journal"}
    collector = json.loads((await with_journal.get("/status"))[1])["collector"]
    assert collector["accepted"] == collector["safe"] == collector["journal"]["records"] == len(sender.accepted)
    with_journal.signal(signal.SIGTERM)
    assert await with_journal.ended() == 0


async def test_what_is_in_the_journal_is_there_after_a_kill(with_journal: Edge) -> None:
    with_journal.start()
    await until_answers(with_journal)
    sender = Sender(with_journal.port, "shop")
    async with sender.sending():
        await sender.until_accepted(50)
    with_journal.kill()
    with_journal.start()
    await until_answers(with_journal)
    collector = json.loads((await with_journal.get("/status"))[1])["collector"]
    assert collector["journal"]["at_start"] == collector["journal"]["records"] == len(sender.accepted)


async def test_without_a_source_it_says_what_to_add(tmp_path: Path) -> None:
    edge = Edge(tmp_path, {})
    edge.start()
    assert await edge.ended() == 2
    assert "collect.sources has no table, but `ingestd collect` needs at least one" in edge.log_text()
    assert "set INGESTD__COLLECT__SOURCES__WEB__KIND=web" in edge.log_text()


async def test_a_port_that_is_in_use_is_told_with_its_key(edge: Edge) -> None:
    with socket.create_server((HOST, edge.port)):
        edge.start()
        assert await edge.ended() == 2
    assert f"collect.port = {edge.port}: cannot listen on {HOST}:{edge.port}" in edge.log_text()
