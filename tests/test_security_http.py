"""Hostile HTTP clients, over real sockets: each is disconnected at its deadline, and others are served meanwhile."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest

from ingestd.ops import http
from ingestd.ops.http import MAX_CONNECTIONS, MAX_HEADER_BYTES, MAX_HEADERS
from tests.test_health import Daemon

HOST = b"Host: localhost\r\n"
GET = b"GET /livez HTTP/1.1\r\n" + HOST
ALIVE = (200, "alive\n")


@pytest.fixture
async def daemon() -> AsyncIterator[Daemon]:
    it = Daemon()
    it.port = await it.server.start()
    yield it
    await it.server.stop()


@contextlib.asynccontextmanager
async def connected(daemon: Daemon) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", daemon.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def rest(reader: asyncio.StreamReader) -> bytes:
    """All bytes until the server closes; none where the connection is reset."""
    try:
        return await reader.read()
    except ConnectionError:
        return b""


async def exchange(daemon: Daemon, request: bytes) -> bytes:
    """The server's response to bytes that it may not read completely."""
    async with connected(daemon) as (reader, writer):
        writer.write(request)
        return await rest(reader)


# -- slow and silent clients


async def test_a_slow_request_ends_at_the_deadline(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "DEADLINE_S", 0.3)
    answers = 0
    async with connected(daemon) as (reader, writer):
        writer.write(GET)
        ended = asyncio.create_task(rest(reader))
        while not ended.done():
            writer.write(b"X")
            assert (await daemon.request("/livez"))[:2] == ALIVE, "others are served meanwhile"
            answers += 1
        assert await ended == b""
    assert answers > 1


async def test_a_body_that_never_ends_is_not_read(daemon: Daemon) -> None:
    async with connected(daemon) as (reader, writer):
        writer.write(b"GET /livez HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab")
        assert (await rest(reader)).endswith(b"alive\n")


async def test_a_client_that_does_not_read_its_response_is_disconnected(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "DEADLINE_S", 0.3)
    body = b"x" * (32 << 20)  # more than the buffers of both sockets hold
    monkeypatch.setattr(daemon.server, "_exposition", lambda: (body, "text/plain"))
    loop = asyncio.get_running_loop()
    with socket.create_connection(("127.0.0.1", daemon.port)) as deaf:
        deaf.setblocking(False)
        await loop.sock_sendall(deaf, b"GET /metrics HTTP/1.1\r\n" + HOST + b"\r\n")
        assert await answered(daemon) == ALIVE
        slow = next(iter(daemon.server._connections), None)  # None: this test was slower than the deadline
        while slow in daemon.server._connections:
            assert await answered(daemon) == ALIVE, "others are served meanwhile"
        received = 0
        with contextlib.suppress(ConnectionError):
            while part := await loop.sock_recv(deaf, 1 << 20):
                received += len(part)
    assert received < len(body)


async def answered(daemon: Daemon) -> tuple[int, str]:
    status, body, _ = await daemon.request("/livez")
    return status, body


# -- many clients


async def test_idle_connections_keep_no_probe_out(daemon: Daemon) -> None:
    async with contextlib.AsyncExitStack() as stack:
        held = [await stack.enter_async_context(connected(daemon)) for _ in range(4 * MAX_CONNECTIONS)]
        for _ in range(3):
            assert await answered(daemon) == ALIVE
        assert len(daemon.server._connections) <= MAX_CONNECTIONS
        gone = held[:-MAX_CONNECTIONS]
        assert [await rest(reader) for reader, _ in gone] == [b""] * len(gone), "the oldest were closed"


# -- malformed and unusual requests


@pytest.mark.parametrize(
    ("request_bytes", "first_line"),
    [
        (b"\0" * 3000, b"HTTP/1.0 400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 200, b"HTTP/1.0 400"),  # TLS
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"HTTP/1.0 400"),
        (b"HELLO /livez HTTP/1.1\r\n" + HOST + b"\r\n", b"HTTP/1.0 400"),
        (b"GET /livez HTTP/1.1\n" + HOST + b"\n", b"HTTP/1.0 400"),
        (b"GET /livez\xff HTTP/1.1\r\n" + HOST + b"\r\n", b"HTTP/1.0 400"),
        (b"GET http://[::1 HTTP/1.1\r\n" + HOST + b"\r\n", b"HTTP/1.0 400"),
        (GET + b" folded\r\n\r\n", b"HTTP/1.0 400"),
        (GET + b": no name\r\n\r\n", b"HTTP/1.0 400"),
        (GET + b"Content-Length: -1\r\n\r\n", b"HTTP/1.0 400"),
        (GET + b"Content-Length: " + b"9" * 400 + b"\r\n\r\n", b"HTTP/1.0 400"),
        (GET + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", b"HTTP/1.0 400"),
        (GET + b"X: " + b"x" * (MAX_HEADER_BYTES + 1) + b"\r\n\r\n", b"HTTP/1.0 400"),
        (GET + b"X: x\r\n" * MAX_HEADERS + b"\r\n", b"HTTP/1.0 400"),
        (GET + b"Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n" + b"x" * 5000, b"HTTP/1.1 200"),
        (GET + b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AA\r\n\r\n", b"HTTP/1.1 200"),
        (b"POST" + GET[3:] + b"Expect: 100-continue\r\nContent-Length: 10\r\n\r\n", b"HTTP/1.1 405"),
        (b"POST" + GET[3:] + b"Transfer-Encoding: chunked\r\n\r\nffffffff\r\n" + b"x" * 5000, b"HTTP/1.1 405"),
        (b"TRACE" + GET[3:] + b"\r\n", b"HTTP/1.1 405"),
        (b"CONNECT x:1 HTTP/1.1\r\n" + HOST + b"\r\n", b"HTTP/1.1 404"),
    ],
)
async def test_a_malformed_request_gets_one_response_and_no_log_line(
    daemon: Daemon, caplog: pytest.LogCaptureFixture, request_bytes: bytes, first_line: bytes
) -> None:
    answer = await exchange(daemon, request_bytes)
    assert answer.startswith(first_line), answer
    assert answer.count(b"\r\nContent-Length: ") == 1
    assert b"\r\nContent-Type: text/plain" in answer, "what it quotes of a request no browser takes for a page"
    assert caplog.records == []
    assert await answered(daemon) == ALIVE


async def test_a_request_at_the_limits_is_served(daemon: Daemon) -> None:
    field = b"X: " + b"x" * (MAX_HEADER_BYTES - 10) + b"\r\n"
    assert (await exchange(daemon, GET + field * (MAX_HEADERS - 1) + b"\r\n")).endswith(b"alive\n")


async def test_the_cookies_of_other_programs_on_the_host_are_no_error(daemon: Daemon) -> None:
    cookie = b"Cookie: session=" + b"x" * 4_000 + b"\r\n"
    assert (await exchange(daemon, GET + cookie + b"\r\n")).endswith(b"alive\n")


async def test_only_the_first_of_pipelined_requests_is_answered(daemon: Daemon) -> None:
    assert (await exchange(daemon, (GET + b"\r\n") * 5_000)).count(b"alive") <= 1
    assert await answered(daemon) == ALIVE


# -- what is served, and to whom


@pytest.mark.parametrize(
    "target",
    [
        b"//status", b"/status/", b"/status;x", b"/status%00", b"/status%0d%0aX:%20y", b"/livez/../status", b"/STATUS",
        b"/./status", b"/..%2f..%2fetc%2fpasswd", b"/static/../../etc/passwd", b"x", b"file:///etc/passwd",
    ],
)  # fmt: skip
async def test_there_is_nothing_but_the_four_endpoints(daemon: Daemon, target: bytes) -> None:
    answer = await exchange(daemon, b"GET " + target + b" HTTP/1.1\r\n" + HOST + b"\r\n")
    assert answer.split(b" ")[1] in {b"400", b"404"}
    assert b"s3://bucket" not in answer
    assert b"root:" not in answer


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/status", "/elsewhere"])
async def test_no_other_origin_may_read_a_response(daemon: Daemon, path: str) -> None:
    preflight = b"Origin: http://evil.example\r\nAccess-Control-Request-Method: GET\r\n\r\n"
    for method in ("GET", "OPTIONS"):
        answer = await exchange(daemon, f"{method} {path} HTTP/1.1\r\n".encode() + HOST + preflight)
        assert b"access-control-" not in answer.lower()
        assert b"\r\nX-Content-Type-Options: nosniff\r\n" in answer
