"""A TCP proxy that can be told to misbehave, and to behave again, while connections go through it.

Our own, as the known one (toxiproxy) would have everybody who runs the tests install Go.
"""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Self

from tests.services.ports import HOST

_CHUNK = 64 << 10


class TcpProxy:
    """Passes connections on from `port` to `upstream`, both on the loopback address. It starts well."""

    def __init__(self, port: int, upstream: int) -> None:
        self.port = port
        self._upstream = upstream
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()  # to clients and to the upstream
        self._requests, self._answers = asyncio.Event(), asyncio.Event()  # set while that direction passes
        self._latency = 0.0
        self._bytes_per_second = float("inf")

    async def __aenter__(self) -> Self:
        await self.heal()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.refuse()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    # -- what it is told

    async def heal(self) -> None:
        """Be good again. What a black hole has kept back arrives now, as it does when a lost route comes back."""
        self._latency, self._bytes_per_second = 0.0, float("inf")
        self._requests.set()
        self._answers.set()
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, HOST, self.port, limit=_CHUNK)

    def refuse(self) -> None:
        """Accept no connection any more, and reset those that are open."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.reset()

    def reset(self) -> None:
        """Reset the connections that are open; new ones are passed on."""
        for writer in self._writers:
            _reset(writer)

    def black_hole(self, *, answers_only: bool = False) -> None:
        """Connections are accepted and stay open, and nothing arrives: in neither direction, or only no answer."""
        self._answers.clear()
        if not answers_only:
            self._requests.clear()

    def slow(self, latency: float, bytes_per_second: float = float("inf")) -> None:
        """Each piece takes `latency` seconds in each direction, and its share of the bandwidth."""
        self._latency, self._bytes_per_second = latency, bytes_per_second

    # -- connections

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            await self._pass_on(reader, writer)
        except asyncio.CancelledError:
            pass  # we are closed; asyncio 3.11 takes a handler that was cancelled for an error
        finally:
            self._writers.discard(writer)
            writer.transport.abort()
            self._tasks.discard(task)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._requests.wait()
        try:
            upstream_reader, upstream_writer = await asyncio.open_connection(HOST, self._upstream, limit=_CHUNK)
        except OSError:
            _reset(writer)
            return
        self._writers.add(upstream_writer)
        try:
            requests, answers = self._streams(reader, upstream_reader)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(requests, upstream_writer, self._requests))
                both.create_task(self._pump(answers, writer, self._answers))
        except* OSError:  # one side has reset its connection, so the other's ends as well
            _reset(writer)
        finally:
            self._writers.discard(upstream_writer)
            upstream_writer.transport.abort()

    def _streams(
        self, client: asyncio.StreamReader, upstream: asyncio.StreamReader
    ) -> tuple[AsyncIterator[bytes], AsyncIterator[bytes]]:
        """What comes from both; who knows the protocol looks into it here."""
        return _pieces(client), _pieces(upstream)

    async def _pump(self, pieces: AsyncIterator[bytes], writer: asyncio.StreamWriter, passes: asyncio.Event) -> None:
        async for piece in pieces:
            if delay := self._latency + len(piece) / self._bytes_per_second:
                await asyncio.sleep(delay)
            await passes.wait()
            writer.write(piece)
            await writer.drain()
        await passes.wait()
        writer.write_eof()


async def _pieces(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while piece := await reader.read(_CHUNK):
        yield piece


def _reset(writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):  # it is closed already
        linger = struct.pack("ii", 1, 0)  # what makes a close a reset
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()
