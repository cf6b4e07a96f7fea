"""The HTTP endpoints, over real sockets."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import aiohttp
import msgspec
import pytest

from ingestd.config.model import HealthConfig
from ingestd.core.errors import ConfigError
from ingestd.ops import http
from ingestd.ops.collector_status import NotReadyReason
from ingestd.ops.health import HealthServer
from ingestd.ops.readiness import Status

RUNNING = Status(
    version="1.2.3",
    started_at=datetime(2026, 1, 2, tzinfo=UTC),
    uptime=5.0,
    source="kafka",
    sink="s3://bucket/prefix",
    phase="running",
    assigned=True,
    reasons=[],
)


class Daemon:
    """A server with a status that a test may change."""

    def __init__(self) -> None:
        self.status = RUNNING
        self.server = HealthServer(HealthConfig(port=0), self._snapshot, lambda: (b"ingestd_ready 1\n", "text/plain"))
        self.snapshot: Callable[[], Status] = lambda: self.status
        self.port = 0

    def _snapshot(self) -> Status:
        return self.snapshot()

    async def request(self, path: str, method: str = "GET") -> tuple[int, str, Mapping[str, str]]:
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, f"http://127.0.0.1:{self.port}{path}") as response,
        ):
            return response.status, await response.text(), response.headers

    async def raw(self, request: bytes) -> bytes:
        """The server's response to these bytes, until it closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(request)
            return await reader.read()
        finally:
            await _close(writer)


@pytest.fixture
async def daemon() -> AsyncIterator[Daemon]:
    it = Daemon()
    it.port = await it.server.start()
    yield it
    await it.server.stop()


async def test_alive_while_the_loop_runs(daemon: Daemon) -> None:
    assert (await daemon.request("/livez"))[:2] == (200, "alive\n")


async def test_alive_though_not_ready(daemon: Daemon) -> None:
    daemon.status = msgspec.structs.replace(RUNNING, reasons=[NotReadyReason("stalled", "nothing moves")])
    assert (await daemon.request("/livez"))[0] == 200


async def test_ready_is_200(daemon: Daemon) -> None:
    status, body, headers = await daemon.request("/readyz")
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert json.loads(body) == {"ready": True, "phase": "running", "reasons": []}


async def test_not_ready_is_503_and_says_why(daemon: Daemon) -> None:
    daemon.status = msgspec.structs.replace(RUNNING, reasons=[NotReadyReason("sink_forbidden", "no such bucket")])
    status, body, _ = await daemon.request("/readyz")
    assert status == 503
    assert json.loads(body)["reasons"] == [{"code": "sink_forbidden", "message": "no such bucket"}]


async def test_metrics_have_their_content_type(daemon: Daemon) -> None:
    status, body, headers = await daemon.request("/metrics")
    assert (status, body, headers["Content-Type"]) == (200, "ingestd_ready 1\n", "text/plain")


async def test_status_is_the_snapshot_as_json(daemon: Daemon) -> None:
    status, body, _ = await daemon.request("/status")
    assert status == 200
    assert msgspec.json.decode(body, type=Status) == RUNNING


HOSTS = [
    ("127.0.0.1", 200), ("localhost:9464", 200), ("10.0.0.7:9464", 200), ("[fd00::7]:9464", 200),
    ("Scraped.Example:9464", 200), ("evil.example", 403), ("127.0.0.1.evil.example", 403),
    ("scraped.example.evil.example", 403), ("[", 403), ("", 403),
]  # fmt: skip


@pytest.mark.parametrize(("host", "status"), HOSTS)
@pytest.mark.parametrize("path", ["/metrics", "/status"])
async def test_a_rebound_host_name_reads_nothing(path: str, host: str, status: int) -> None:
    server = _server(port=0, allowed_hosts=("scraped.example",))
    port = await server.start()
    try:
        async with aiohttp.ClientSession() as session:
            url = f"http://127.0.0.1:{port}"
            async with session.get(url + path, headers={"Host": host}) as response:
                assert response.status == status
            async with session.get(f"{url}/livez", headers={"Host": host}) as response:
                assert response.status == 200
    finally:
        await server.stop()


@pytest.mark.parametrize("path", ["/", "/health", "/livez/", "/../etc/passwd", "/status%00"])
async def test_anything_else_is_404(daemon: Daemon, path: str) -> None:
    assert (await daemon.request(path))[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
async def test_only_get_and_head(daemon: Daemon, method: str) -> None:
    status, _, headers = await daemon.request("/livez", method)
    assert (status, headers["Allow"]) == (405, "GET, HEAD")


async def test_head_has_the_headers_and_no_body(daemon: Daemon) -> None:
    status, body, headers = await daemon.request("/readyz", "HEAD")
    assert (status, body) == (200, "")
    assert int(headers["Content-Length"]) > 0


@pytest.mark.parametrize(
    "request_bytes",
    [b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n", b"GET / HTTP/9\r\n\r\n"],
)
async def test_responses_show_no_versions_and_are_not_cached(daemon: Daemon, request_bytes: bytes) -> None:
    answer = (await daemon.raw(request_bytes)).lower()
    assert b"\r\nserver: ingestd\r\n" in answer
    assert b"aiohttp" not in answer
    assert b"python" not in answer
    assert b"\r\ncache-control: no-store\r\n" in answer


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /" + b"x" * 10_000 + b" HTTP/1.1\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nX: " + b"x" * 10_000 + b"\r\n\r\n",
        b"GET /livez HTTP/1.1\r\n" + b"".join(b"X%d: 1\r\n" % i for i in range(500)) + b"\r\n",
    ],
)
async def test_oversized_requests_are_refused_and_not_logged(
    daemon: Daemon, request_bytes: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    assert b" 400 Bad Request" in (await daemon.raw(request_bytes)).splitlines()[0]
    assert caplog.records == []
    assert (await daemon.request("/livez"))[0] == 200


async def test_a_body_is_not_read(daemon: Daemon) -> None:
    answer = await daemon.raw(b"POST /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\nabc")
    assert answer.startswith(b"HTTP/1.1 405")


async def test_closes_after_each_answer(daemon: Daemon) -> None:
    answer = await daemon.raw(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
    assert answer.count(b"HTTP/1.1 200") == 1


async def test_a_silent_client_is_disconnected(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "DEADLINE_S", 0.05)
    for beginning in (b"", b"GET /livez HT"):
        assert await daemon.raw(beginning) == b""


async def test_connections_are_bounded(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MAX_CONNECTIONS", 2)
    (oldest, first), (younger, second) = [await asyncio.open_connection("127.0.0.1", daemon.port) for _ in range(2)]
    assert (await daemon.raw(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")).endswith(b"alive\n")
    assert await oldest.read() == b"", "the oldest is closed"
    second.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await younger.read()).endswith(b"alive\n")
    for writer in (first, second):
        await _close(writer)


async def test_an_error_inside_is_500_without_its_text(daemon: Daemon, caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> Status:
        raise RuntimeError("secret")

    daemon.snapshot = broken
    status, body, _ = await daemon.request("/status")
    assert status == 500
    assert "secret" not in body
    assert "cannot answer /status" in caplog.text


async def test_an_occupied_port_is_a_configuration_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"health\.port = {port}: .* in use"):
            await _server(port=port).start()


async def _status(host: str, port: int) -> bytes:
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    line = await reader.readline()
    writer.close()
    return line


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this host has no IPv6")
async def test_the_host_of_both_families_serves_both() -> None:
    server = _server(host="::", port=0)
    port = await server.start()
    try:
        for host in ("127.0.0.1", "::1"):
            assert b" 200 " in await _status(host, port)
        with pytest.raises(ConfigError, match=rf"cannot listen on \[::\]:{port}, the port is in use"):
            await _server(host="::", port=port).start()
    finally:
        await server.stop()


async def test_a_host_without_ipv6_serves_ipv4_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    server = _server(host="::", port=0)
    port = await server.start()
    try:
        assert b" 200 " in await _status("127.0.0.1", port)
    finally:
        await server.stop()
    assert "listens on 0.0.0.0 only" in caplog.text


async def test_a_demo_takes_the_next_port_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    first = _server(port=0)
    port = await first.start()
    second = _server(port=port)
    try:
        taken = await second.start(take_next=True)
        assert port < taken <= port + http.NEXT_PORTS
        assert f"port {port} is in use; listening on port {taken}" in caplog.text
    finally:
        await first.stop()
        await second.stop()


async def test_an_unusable_host_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match=r"health\.host = '192\.0\.2\.1'"):
        await _server(host="192.0.2.1", port=0).start()


async def test_stop_frees_the_port_though_clients_stay() -> None:
    server = _server(port=0)
    port = await server.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await server.stop()
    assert await reader.read() == b""
    await _close(writer)
    again = _server(port=port)
    assert await again.start() == port
    await again.stop()


async def test_stop_without_start_is_harmless() -> None:
    await _server(port=0).stop()


def test_listens_on_loopback_by_default() -> None:
    assert HealthConfig().host == "127.0.0.1"


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


def _server(**settings: Any) -> HealthServer:
    return HealthServer(HealthConfig(**settings), lambda: RUNNING, lambda: (b"", "text/plain"))
