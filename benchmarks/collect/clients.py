"""Senders: as fast as the answers come, at a rate, or slower than any server likes."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from tests.services.ports import HOST

_AT_ONCE = 500  # connections that are being made


class Refused(RuntimeError):
    """A request got another answer than 200."""


class Connection:
    """One connection, for one request after the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, port: int) -> "Connection":
        return cls(*await asyncio.open_connection(HOST, port))

    async def send(self, request: bytes) -> None:
        """Send it and read the answer. Raises ``Refused``, and OSError where the connection has ended."""
        self._writer.write(request)
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        if not head.startswith(b"http/1.1 200 "):
            raise Refused(head.decode(errors="replace"))
        length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
        await self._reader.readexactly(int(length or 0))

    def close(self) -> None:
        self._writer.close()


class Latencies(NamedTuple):
    """Milliseconds, of all requests of a run."""

    p50: float
    p99: float
    most: float

    @classmethod
    def of(cls, taken: list[float]) -> "Latencies":
        """From seconds."""
        taken.sort()
        last = len(taken) - 1
        return cls(*(taken[min(last, int(len(taken) * share))] * 1000 for share in (0.5, 0.99, 1.0)))


async def at_once(port: int, request: bytes, count: int, connections: int) -> float:
    """Seconds in which so many requests are answered, each connection sending the next after an answer."""

    async def one(connection: Connection) -> None:
        for _ in range(count // connections):
            await connection.send(request)

    opened = [await Connection.open(port) for _ in range(connections)]
    began = time.perf_counter()
    await asyncio.gather(*map(one, opened))
    elapsed = time.perf_counter() - began
    for connection in opened:
        connection.close()
    return elapsed


async def at_rate(port: int, request: bytes, rate: float, seconds: float, connections: int) -> Latencies:
    """Latencies from the moment when a request was due: one that waits for a free connection is late, too."""
    free: asyncio.Queue[Connection] = asyncio.Queue()
    for _ in range(connections):
        free.put_nowait(await Connection.open(port))
    taken: list[float] = []

    async def one(due: float, connection: Connection) -> None:
        await connection.send(request)
        taken.append(time.perf_counter() - due)
        free.put_nowait(connection)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(int(rate * seconds)):
            due = began + number / rate
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            group.create_task(one(due, await free.get()))
    while not free.empty():
        free.get_nowait().close()
    return Latencies.of(taken)


@asynccontextmanager
async def held(port: int, begun: bytes, count: int) -> AsyncIterator[None]:
    """So many open connections, each with a request that was begun and does not end."""
    limit = asyncio.Semaphore(_AT_ONCE)

    async def one() -> asyncio.StreamWriter:
        async with limit:
            _, writer = await asyncio.open_connection(HOST, port)
            writer.write(begun)
            await writer.drain()
            return writer

    writers = await asyncio.gather(*(one() for _ in range(count)))
    try:
        yield
    finally:
        for writer in writers:
            writer.transport.abort()
