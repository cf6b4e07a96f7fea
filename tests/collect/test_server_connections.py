"""Connections of the collector: slow clients, garbage, pipelining, too many, too large, and a graceful stop."""

import asyncio
import gzip
import re
import zlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from ingestd.collect import body, server
from ingestd.collect.server import MAX_HEADER_BYTES, MAX_LINE_BYTES
from tests.collect.edge_world import EVENT, World, event, vanish, world

POST = b"POST /v1/events?key=api HTTP/1.1\r\nHost: x\r\n"


def request(content: bytes = EVENT, headers: bytes = b"") -> bytes:
    return POST + headers + b"Content-Length: %d\r\n\r\n" % len(content) + content


async def statuses(reader: asyncio.StreamReader) -> list[int]:
    """Of all responses until the server closes the connection; a reset closes it, too."""
    data = b""
    try:
        async with asyncio.timeout(20):
            while part := await reader.read(65536):
                data += part
    except ConnectionError:
        pass
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] ([0-9]{3}) ", data)]


async def send(it: World, data: bytes) -> list[int]:
    """The statuses of the answers to `data`, until the server closes the connection."""
    reader, writer = await it.connect()
    writer.write(data)
    found = await statuses(reader)
    writer.close()
    return found


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """All deadlines are short."""
    for name in ("HEADERS_S", "LINGER_S", "LOOK_EVERY_S"):
        monkeypatch.setattr(server, name, 0.05)
    monkeypatch.setattr(body, "SLOW_START_S", 0.05)


@pytest.mark.parametrize("beginning", [b"", b"P", POST, POST + b"X-A: b\r\n"])
async def test_headers_that_do_not_come_end_the_connection(hurried: None, beginning: bytes) -> None:
    async with world() as it:
        reader, writer = await it.connect()
        writer.write(beginning)
        assert await statuses(reader) == []
        writer.close()
        await it.until_no_connection()


async def test_headers_that_come_slowly_end_the_connection_after_a_first_request_too(hurried: None) -> None:
    async with world() as it:
        reader, writer = await it.connect()
        writer.write(request())
        await reader.readuntil(b"true}")
        writer.write(b"P")
        assert await statuses(reader) == []
        writer.close()


async def test_a_body_that_comes_slowly_is_408(hurried: None) -> None:
    async with world() as it:
        assert await send(it, POST + b"Content-Length: 1000\r\n\r\n{") == [408]
        assert it.server.bytes_in_flight == 0
        assert ("api", 408, "slow_body") in it.observer.requests


async def test_a_body_that_trickles_is_408_although_each_byte_is_in_time(hurried: None) -> None:
    async with world() as it:
        reader, writer = await it.connect()
        writer.write(POST + b"Content-Length: 1000\r\n\r\n")

        async def trickle() -> None:
            while True:
                writer.write(b" ")
                await asyncio.sleep(0.01)

        task = asyncio.create_task(trickle())
        assert await statuses(reader) == [408]
        task.cancel()
        writer.close()


async def test_a_connection_is_kept_for_many_requests() -> None:
    async with world() as it:
        for number in range(50):
            assert (await it.post("/v1/events?key=api", event(number)))[0] == 200
        assert it.server.connections == 1
        assert it.delivery.values == [event(number) for number in range(50)]


async def test_refused_requests_keep_the_connection() -> None:
    async with world() as it:
        for _ in range(5):
            assert (await it.post("/v1/events?key=none", EVENT))[0] == 401
        assert it.server.connections == 1


async def test_an_idle_connection_ends(hurried: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "IDLE_S", 0.05)
    async with world() as it:
        await it.post("/v1/events?key=api", EVENT)
        await it.until_no_connection()


async def test_a_client_that_sends_no_more_gets_its_answer() -> None:
    async with world() as it:
        reader, writer = await it.connect()
        writer.write(request())
        writer.write_eof()
        assert await statuses(reader) == [200]
        writer.close()
        await it.until_no_connection()


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with world() as it:
        data = b"".join(request(event(number)) for number in range(100))
        assert await send(it, data + POST + b"Connection: close\r\nContent-Length: 2\r\n\r\n[]") == [200] * 101
        assert it.delivery.values == [event(number) for number in range(100)]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", [400]),  # TLS
        (b"GET\r\n\r\n", [400]),
        (b"GET / HTTP/9.9\r\n\r\n", [400]),
        (b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n", [400]),
        (b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", [400]),
        (b"GET /" + b"a" * MAX_LINE_BYTES + b" HTTP/1.1\r\n\r\n", [431]),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * MAX_HEADER_BYTES + b"\r\n\r\n", [431]),
        (b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 200 + b"\r\n", [400]),
        (b"GET /%ff%00?%ff=%00 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", [404]),
        (b"GET http://[::1 HTTP/1.1\r\nHost: x\r\n\r\n", [400]),
        (
            b"POST http://x/v1/events?key=api HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\n[]",
            [200],
        ),
        (POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", [400]),
    ],
)
async def test_what_is_no_request_is_refused_without_a_word_of_it(data: bytes, expected: list[int]) -> None:
    async with world() as it:
        assert await send(it, data) == expected
        assert not it.delivery.batches


@pytest.mark.parametrize(
    "packed",
    [
        EVENT,
        gzip.compress(EVENT, mtime=0),
        zlib.compress(EVENT),
        gzip.compress(EVENT[:20], mtime=0) + gzip.compress(EVENT[20:], mtime=0),
    ],
)
@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "identity", None])
async def test_the_content_decides_how_it_is_compressed(packed: bytes, chunked: bool, encoding: str | None) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for begin in range(0, len(packed), 7):
            yield packed[begin : begin + 7]

    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    if encoding is not None:
        headers["Content-Encoding"] = encoding
    async with world() as it:
        content: Any = chunks() if chunked else packed
        assert (await it.post("/v1/events?key=api", content, headers=headers))[0] == 200
        assert it.delivery.values == [EVENT]


async def test_a_bomb_is_413_whatever_it_is_called() -> None:
    bomb = gzip.compress(bytes(100 << 20))
    small = gzip.compress(bytes(300 << 10))
    async with world() as it:
        for content in (bomb, small + small, zlib.compress(bytes(10 << 20)), gzip.compress(b"") * 100 + small):
            status, answer, _ = await it.post("/v1/events?key=api", content, headers={"Content-Type": "text/plain"})
            assert (status, answer["success"]) == (413, False)
        assert it.server.bytes_in_flight == 0
        assert not it.delivery.batches


async def test_a_body_above_max_body_is_413_before_it_is_read_and_while_it_is() -> None:
    async with world() as it:
        assert await send(it, POST + b"Content-Length: 600000\r\n\r\n") == [413]
        chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
        assert await send(
            it, POST + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk * 9 + b"0\r\n\r\n"
        ) == [413]
        assert await send(it, POST + b"Content-Length: " + b"9" * 300 + b"\r\n\r\n") in ([413], [400])


async def test_a_body_is_asked_for_only_if_it_will_be_read() -> None:
    expect = b"Expect: 100-continue\r\nConnection: close\r\n"
    async with world() as it:
        reader, writer = await it.connect()
        writer.write(POST + expect + b"Content-Length: %d\r\n\r\n" % len(EVENT))
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        writer.write(EVENT)
        assert await statuses(reader) == [200]
        writer.close()
        for refused in (POST.replace(b"=web", b"=none"), POST):
            reader, writer = await it.connect()
            writer.write(refused + expect + b"Content-Length: 900000\r\n\r\n")
            assert (await reader.readuntil(b"}")).split()[1] in {b"401", b"413"}
            writer.close()


async def test_bodies_beyond_the_memory_of_all_are_503_and_it_is_given_back() -> None:
    large = b'{"client_id":"c","x":"' + b"x" * 400_000 + b'"}'
    async with world(body_memory=1 << 20) as it:
        it.delivery.open.clear()
        first = [asyncio.create_task(it.post("/v1/events?key=api", large)) for _ in range(2)]
        async with asyncio.timeout(10):
            while it.server.bytes_in_flight < 2 * len(large):  # noqa: ASYNC110 - sockets
                await asyncio.sleep(0.001)
        status, answer, headers = await it.post("/v1/events?key=api", large)
        assert (status, answer["code"]) == (503, "busy")
        assert int(headers["Retry-After"]) > 0
        assert (await asyncio.wait_for(asyncio.shield(first[0]), 0.01) if first[0].done() else None) is None
        it.delivery.open.set()
        assert [status for status, _, _ in await asyncio.gather(*first)] == [200, 200]
        assert it.server.bytes_in_flight == 0
        assert (await it.post("/v1/events?key=api", large))[0] == 200


async def test_idle_connections_make_room_for_new_ones() -> None:
    async with world(max_connections=16) as it:
        idle = [await it.connect() for _ in range(40)]
        assert (await it.post("/v1/events?key=api", EVENT))[0] == 200
        assert it.server.connections <= 16
        for _, writer in idle:
            writer.close()


async def test_requests_in_flight_are_never_closed_for_new_connections() -> None:
    async with world(max_connections=16) as it:
        it.delivery.open.clear()
        busy = []
        for number in range(16):
            reader, writer = await it.connect()
            writer.write(request(event(number), b"Connection: close\r\n"))
            busy.append((reader, writer))
        async with asyncio.timeout(10):
            while it.server.connections < 16 or it.server.bytes_in_flight < 16 * len(EVENT):  # noqa: ASYNC110 - sockets
                await asyncio.sleep(0.001)
        assert await send(it, request()) == []
        it.delivery.open.set()
        for reader, writer in busy:
            assert await statuses(reader) == [200]
            writer.close()
        assert ("", 503, "connections") in it.observer.requests


async def test_stop_closes_the_port_first_and_lets_requests_end() -> None:
    async with world() as it:
        it.delivery.open.clear()
        idle_reader, idle_writer = await it.connect()
        idle_writer.write(request(b"[]"))
        await idle_reader.readuntil(b"true}")
        reader, writer = await it.connect()
        writer.write(request())
        await it.delivery.entered.wait()
        stop = asyncio.create_task(it.server.stop(30.0))
        assert await idle_reader.read() == b""
        with pytest.raises(ConnectionError):
            await it.connect()
        assert not stop.done()
        it.delivery.open.set()
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"connection: close" in answer.lower()
        await stop
        assert it.delivery.values == [EVENT]
        writer.close()
        idle_writer.close()


async def test_stop_waits_for_the_delivery_of_a_client_that_is_gone() -> None:
    async with world() as it:
        it.delivery.open.clear()
        _, writer = await it.connect()
        writer.write(request())
        await it.delivery.entered.wait()
        vanish(writer)
        await it.until_no_connection()
        stop = asyncio.create_task(it.server.stop(30.0))
        await asyncio.sleep(0)
        it.delivery.open.set()
        await stop
        assert it.delivery.values == [EVENT]


async def test_stop_ends_after_its_grace_without_a_false_200() -> None:
    async with world() as it:
        it.delivery.open.clear()
        reader, writer = await it.connect()
        writer.write(request())
        await it.delivery.entered.wait()
        await it.server.stop(0.05)
        assert await statuses(reader) == []
        assert it.server.connections == 0
        writer.close()
