"""Other processes ask the one that has the warehouse's file open, through a socket of its owner's."""

import asyncio
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from ingestd.core.errors import WarehouseError
from ingestd.demo.warehouse.database import QUERIES, Warehouse
from ingestd.demo.warehouse.query_server import MAX_LINE, Answer, QueryServer, Question, ask, beside
from tests.warehouse_world import batch, key, loader, opened

COUNT = "SELECT COUNT(*) FROM marketing_events"


@pytest.fixture
async def warehouse(tmp_path: Path) -> AsyncIterator[Warehouse]:
    warehouse = opened(tmp_path / "w.duckdb")
    loader(warehouse).load(key(0), batch(0, 30))
    task = asyncio.create_task(QueryServer(warehouse).run())
    await at_the_door(warehouse)
    yield warehouse
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert not beside(warehouse.path).exists()
    warehouse.close()


async def at_the_door(warehouse: Warehouse) -> None:
    async with asyncio.timeout(10):
        while await asyncio.to_thread(ask, warehouse.path, Question(COUNT)) is None:
            pass


async def asked(warehouse: Warehouse, sql: str, limit: int = 10) -> object:
    result = await asyncio.to_thread(ask, warehouse.path, Question(sql, limit))
    return result.rows if result is not None else None


async def said(warehouse: Warehouse, line: bytes) -> bytes:
    """What comes back for a line as it is; empty where the connection was ended without an answer."""
    reader, writer = await asyncio.open_unix_connection(str(beside(warehouse.path)), limit=MAX_LINE)
    with suppress(ConnectionError):
        writer.write(line)
        await writer.drain()
    try:
        return await reader.readline()
    except ConnectionError:
        return b""
    finally:
        await closed(writer)


async def closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


async def test_answers(warehouse: Warehouse) -> None:
    assert await asked(warehouse, COUNT) == [[30]]
    assert await asked(warehouse, "SELECT source_offset FROM marketing_events ORDER BY 1", 2) == [[0], [1]]


async def test_refuses_with_the_warehouse_s_words(warehouse: Warehouse) -> None:
    with pytest.raises(WarehouseError, match="this is no query"):
        await asked(warehouse, "DROP TABLE marketing_events")
    assert await asked(warehouse, COUNT) == [[30]]


async def test_is_its_owner_s_alone(warehouse: Warehouse) -> None:
    assert stat.S_IMODE(beside(warehouse.path).stat().st_mode) == 0o600


@pytest.mark.parametrize("line", [b"\n", b"SELECT 1\n", b"{}\n", b'{"sql": 5}\n', b'{"sql": "SELECT \xff"}\n'])
async def test_what_is_no_question_is_refused(warehouse: Warehouse, line: bytes) -> None:
    answer = msgspec.json.decode(await said(warehouse, line), type=Answer)
    assert answer.error
    assert answer.result is None
    assert await asked(warehouse, COUNT) == [[30]]


async def test_a_question_without_end_is_not_read(warehouse: Warehouse, caplog: pytest.LogCaptureFixture) -> None:
    assert await said(warehouse, b"x" * (4 * MAX_LINE)) == b""
    assert caplog.records == []
    assert await asked(warehouse, COUNT) == [[30]]


async def test_no_more_are_served_than_can_be(warehouse: Warehouse) -> None:
    idle = [await asyncio.open_unix_connection(str(beside(warehouse.path))) for _ in range(2 * QUERIES)]
    assert await said(warehouse, b'{"sql": "SELECT 1"}\n') == b""
    for _, writer in idle:
        await closed(writer)
    while not await said(warehouse, b'{"sql": "SELECT 1"}\n'):
        pass  # the server has not seen yet that they are gone


async def test_ends_while_somebody_is_connected(tmp_path: Path) -> None:
    warehouse = opened(tmp_path / "w.duckdb")
    task = asyncio.create_task(QueryServer(warehouse).run())
    await at_the_door(warehouse)
    reader, writer = await asyncio.open_unix_connection(str(beside(warehouse.path)))
    writer.write(b'{"sql":')
    await writer.drain()
    task.cancel()
    async with asyncio.timeout(10):
        await asyncio.wait([task])
        with suppress(ConnectionError):
            assert await reader.read() == b""
    await closed(writer)
    warehouse.close()


async def test_takes_the_place_of_a_socket_that_a_dead_process_left(tmp_path: Path) -> None:
    warehouse = opened(tmp_path / "w.duckdb")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(beside(warehouse.path)))
    assert await asyncio.to_thread(ask, warehouse.path, Question(COUNT)) is None
    task = asyncio.create_task(QueryServer(warehouse).run())
    await at_the_door(warehouse)
    task.cancel()
    await asyncio.wait([task])
    warehouse.close()


async def test_says_where_there_can_be_no_socket_and_the_rest_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    warehouse = opened(tmp_path / "w.duckdb")
    beside(warehouse.path).mkdir()
    await QueryServer(warehouse).run()
    assert "other processes cannot query the local warehouse" in caplog.text
    warehouse.close()


def test_there_is_nobody_to_ask(tmp_path: Path) -> None:
    assert ask(tmp_path / "w.duckdb", Question(COUNT)) is None


def test_a_long_path_is_shortened_where_it_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert beside(folder / "w.duckdb") == Path("w.duckdb.sock")
