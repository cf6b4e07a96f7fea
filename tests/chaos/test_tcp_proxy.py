"""The TCP proxy does what it is told."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.chaos.tcp_proxy import TcpProxy
from tests.services import streams
from tests.services.ports import HOST, free_port

SILENCE, LONG = 0.2, 10.0  # seconds without an answer, and until there must be one


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """Where a server listens that sends back what it gets."""
    upstream = free_port()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1000):
            writer.write(data)
        await streams.close(writer)

    async with await asyncio.start_server(answer, HOST, upstream):
        yield upstream


@pytest.fixture
async def proxy(port: int) -> AsyncIterator[TcpProxy]:
    async with TcpProxy(free_port(), port) as made:
        yield made


class Client:
    """A connection to the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def of(cls, proxy: TcpProxy) -> "Client":
        return cls(*await asyncio.open_connection(HOST, proxy.port))

    async def says(self, text: bytes) -> None:
        self._writer.write(text)
        await self._writer.drain()

    async def hears(self, within: float = LONG) -> bytes:
        async with asyncio.timeout(within):
            return await self._reader.read(1000)

    def close(self) -> None:
        self._writer.transport.abort()


@pytest.fixture
async def client(proxy: TcpProxy) -> AsyncIterator[Client]:
    made = await Client.of(proxy)
    await made.says(b"hello")
    assert await made.hears() == b"hello"
    yield made
    made.close()


async def test_refuses_until_it_is_healed(proxy: TcpProxy, client: Client) -> None:
    proxy.refuse()

    with pytest.raises(ConnectionResetError):
        await client.hears()
    with pytest.raises(ConnectionRefusedError):
        await Client.of(proxy)

    await proxy.heal()
    again = await Client.of(proxy)
    await again.says(b"again")
    assert await again.hears() == b"again"
    again.close()


async def test_resets_what_is_open_and_passes_on_what_comes(proxy: TcpProxy, client: Client) -> None:
    proxy.reset()

    with pytest.raises(ConnectionResetError):
        await client.hears()
    again = await Client.of(proxy)
    await again.says(b"again")
    assert await again.hears() == b"again"
    again.close()


@pytest.mark.parametrize("answers_only", [False, True])
async def test_what_a_black_hole_kept_back_arrives_when_it_is_healed(
    proxy: TcpProxy, client: Client, *, answers_only: bool
) -> None:
    proxy.black_hole(answers_only=answers_only)
    newcomer = await Client.of(proxy)
    for each in (client, newcomer):
        await each.says(b"anybody?")
        with pytest.raises(TimeoutError):
            await each.hears(SILENCE)

    await proxy.heal()

    for each in (client, newcomer):
        assert await each.hears() == b"anybody?"
    newcomer.close()


async def test_passes_on_slowly(proxy: TcpProxy, client: Client) -> None:
    proxy.slow(SILENCE, bytes_per_second=1000)
    await client.says(b"slow")
    with pytest.raises(TimeoutError):
        await client.hears(SILENCE)

    assert await client.hears() == b"slow"


async def test_a_server_that_is_not_there_resets(proxy: TcpProxy) -> None:
    async with TcpProxy(free_port(), free_port()) as nowhere:
        client = await Client.of(nowhere)
        with pytest.raises(ConnectionResetError):
            await client.hears()
        client.close()
