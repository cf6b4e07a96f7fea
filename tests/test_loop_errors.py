"""Errors of tasks that nobody waits for: which of them an operator sees."""

import asyncio
import gc
import sys
from collections.abc import Callable, Iterator
from typing import Any

import aiohttp
import pytest

from ingestd import wiring
from tests.services import streams


class LosingConnector(aiohttp.TCPConnector):
    """Loses each connection just before its request is sent, as to a server that is going down."""

    async def connect(self, *arguments: Any, **named: Any) -> Any:
        connection = await super().connect(*arguments, **named)
        assert connection.transport is not None
        if sys.version_info >= (3, 12):  # aiohttp starts the task that sends the body at once
            connection.transport.close()
        else:
            asyncio.get_running_loop().call_soon(connection.transport.close)
        return connection


@pytest.fixture(autouse=True)
def _all_logs(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    gc.collect()  # what former tests have left tells its errors now, not in these
    with caplog.at_level("DEBUG"):
        yield


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(record.levelname, record.getMessage().splitlines()[0]) for record in caplog.records if record.exc_info]


async def put_over_a_lost_connection() -> None:
    async def never(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await streams.close(writer)

    server = await asyncio.start_server(never, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    async with server, aiohttp.ClientSession(connector=LosingConnector()) as session:
        # S3's client asks for permission before it sends a body.
        with pytest.raises((aiohttp.ClientConnectionError, AttributeError)):  # the latter where the task began at once
            await session.put(f"http://{host}:{port}/key", data=b"body", expect100=True)
    gc.collect()


def test_a_connection_that_is_lost_under_a_request_is_told_by_the_request_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    wiring.run(put_over_a_lost_connection())
    assert set(told(caplog)) == {("DEBUG", "a connection was lost while a request was sent")}


async def lose() -> None:
    raise ConnectionResetError("lost")


async def leave_alone(make: Callable[[], Any]) -> None:
    task = asyncio.ensure_future(make())
    await asyncio.wait({task})
    del task
    gc.collect()


def test_a_lost_connection_of_our_own_task_is_an_error(caplog: pytest.LogCaptureFixture) -> None:
    wiring.run(leave_alone(lose))
    assert told(caplog) == [("ERROR", "Task exception was never retrieved")]


def test_a_defect_in_a_task_of_the_http_client_is_an_error(caplog: pytest.LogCaptureFixture) -> None:
    wiring.run(leave_alone(lambda: aiohttp.payload.BytesPayload(b"").write(None)))  # type: ignore[arg-type]
    assert told(caplog) == [("ERROR", "Task exception was never retrieved")]
