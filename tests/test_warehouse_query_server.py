"""Other processes query the warehouse through the socket of the daemon that has it open."""

import asyncio
import os
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from ingestd.config.model import SnowflakeConfig
from ingestd.core.errors import WarehouseError
from ingestd.demo.warehouse.process import WarehouseProcess
from ingestd.demo.warehouse.query_server import (
    MAX_CONNECTIONS,
    MAX_REQUEST_BYTES,
    QueryRequest,
    QueryResponse,
    QueryServer,
    query_daemon,
    socket_path,
)
from tests.warehouse_world import COLUMNS, batch, key

COUNT = "SELECT COUNT(*) FROM marketing_events"


def opened(path: Path) -> WarehouseProcess:
    warehouse = WarehouseProcess(path, SnowflakeConfig())
    warehouse.open(COLUMNS, 0)
    return warehouse


@pytest.fixture
async def warehouse(tmp_path: Path) -> AsyncIterator[WarehouseProcess]:
    warehouse = opened(tmp_path / "w.duckdb")
    await asyncio.to_thread(warehouse.load, key(0), batch(0, 30))
    task = asyncio.create_task(QueryServer(warehouse).run())
    await until_served(warehouse)
    yield warehouse
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert not socket_path(warehouse.path).exists()
    warehouse.close()


async def until_served(warehouse: WarehouseProcess) -> None:
    async with asyncio.timeout(10):
        while await asyncio.to_thread(query_daemon, warehouse.path, QueryRequest(COUNT)) is None:
            pass


async def query(warehouse: WarehouseProcess, sql: str, limit: int = 10) -> object:
    result = await asyncio.to_thread(query_daemon, warehouse.path, QueryRequest(sql, limit))
    return result.rows if result is not None else None


async def send_line(warehouse: WarehouseProcess, line: bytes) -> bytes:
    """Sends a raw line; returns the response, empty if the connection was closed without one."""
    reader, writer = await asyncio.open_unix_connection(str(socket_path(warehouse.path)), limit=MAX_REQUEST_BYTES)
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


async def test_it_answers_queries(warehouse: WarehouseProcess) -> None:
    assert await query(warehouse, COUNT) == [[30]]
    assert await query(warehouse, "SELECT source_offset FROM marketing_events ORDER BY 1", 2) == [[0], [1]]


async def test_an_error_of_the_warehouse_is_returned(warehouse: WarehouseProcess) -> None:
    with pytest.raises(WarehouseError, match="not a query"):
        await query(warehouse, "DROP TABLE marketing_events")
    assert await query(warehouse, COUNT) == [[30]]


async def test_only_the_owner_can_connect(warehouse: WarehouseProcess) -> None:
    assert stat.S_IMODE(socket_path(warehouse.path).stat().st_mode) == 0o600


@pytest.mark.parametrize("line", [b"\n", b"SELECT 1\n", b"{}\n", b'{"sql": 5}\n', b'{"sql": "SELECT \xff"}\n'])
async def test_an_invalid_request_is_refused(warehouse: WarehouseProcess, line: bytes) -> None:
    answer = msgspec.json.decode(await send_line(warehouse, line), type=QueryResponse)
    assert answer.error
    assert answer.result is None
    assert await query(warehouse, COUNT) == [[30]]


async def test_an_endless_request_is_not_read(warehouse: WarehouseProcess, caplog: pytest.LogCaptureFixture) -> None:
    assert await send_line(warehouse, b"x" * (4 * MAX_REQUEST_BYTES)) == b""
    assert caplog.records == []
    assert await query(warehouse, COUNT) == [[30]]


async def test_the_number_of_connections_is_limited(warehouse: WarehouseProcess) -> None:
    idle = [await asyncio.open_unix_connection(str(socket_path(warehouse.path))) for _ in range(MAX_CONNECTIONS)]
    assert await send_line(warehouse, b'{"sql": "SELECT 1"}\n') == b""
    for _, writer in idle:
        await closed(writer)
    while not await send_line(warehouse, b'{"sql": "SELECT 1"}\n'):
        pass  # the server has not noticed yet that the others are gone


async def test_it_stops_while_a_client_is_connected(tmp_path: Path) -> None:
    warehouse = opened(tmp_path / "w.duckdb")
    task = asyncio.create_task(QueryServer(warehouse).run())
    await until_served(warehouse)
    reader, writer = await asyncio.open_unix_connection(str(socket_path(warehouse.path)))
    writer.write(b'{"sql":')
    await writer.drain()
    task.cancel()
    async with asyncio.timeout(10):
        await asyncio.wait([task])
        with suppress(ConnectionError):
            assert await reader.read() == b""
    await closed(writer)
    warehouse.close()


async def test_it_replaces_a_socket_that_a_dead_process_left(tmp_path: Path) -> None:
    warehouse = opened(tmp_path / "w.duckdb")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(socket_path(warehouse.path)))
    assert await asyncio.to_thread(query_daemon, warehouse.path, QueryRequest(COUNT)) is None
    task = asyncio.create_task(QueryServer(warehouse).run())
    await until_served(warehouse)
    task.cancel()
    await asyncio.wait([task])
    warehouse.close()


async def test_without_a_socket_it_logs_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    warehouse = opened(tmp_path / "w.duckdb")
    socket_path(warehouse.path).mkdir()
    await QueryServer(warehouse).run()
    assert "other processes cannot query the local warehouse" in caplog.text
    warehouse.close()


@pytest.mark.parametrize("kind", ["file", "link", "fifo"])
async def test_only_a_socket_is_replaced(tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str) -> None:
    warehouse = opened(tmp_path / "w.duckdb")
    path, other = socket_path(warehouse.path), tmp_path / "mine"
    other.write_text("precious")
    match kind:
        case "file":
            path.write_text("precious")
        case "link":
            path.symlink_to(other)
        case "fifo":
            os.mkfifo(path)
    before = path.lstat()
    async with asyncio.timeout(10):
        await QueryServer(warehouse).run()
    assert "it is not a socket" in caplog.text
    assert (path.lstat().st_ino, path.lstat().st_mode) == (before.st_ino, before.st_mode)
    warehouse.close()


async def test_a_file_that_took_the_socket_s_place_is_not_removed(tmp_path: Path) -> None:
    warehouse = opened(tmp_path / "w.duckdb")
    task = asyncio.create_task(QueryServer(warehouse).run())
    await until_served(warehouse)
    path = socket_path(warehouse.path)
    path.unlink()
    path.write_text("precious")
    task.cancel()
    await asyncio.wait([task])
    assert path.read_text() == "precious"
    warehouse.close()


def test_without_a_daemon_there_is_no_result(tmp_path: Path) -> None:
    assert query_daemon(tmp_path / "w.duckdb", QueryRequest(COUNT)) is None


def test_a_long_path_is_shortened_where_it_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert socket_path(folder / "w.duckdb") == Path("w.duckdb.sock")
