"""Answers queries of other processes while the daemon has the DuckDB file open, which only one process can write.

Uses a Unix socket beside the file, not HTTP: a web page cannot reach it, and only the file's owner can connect.
A request and its response are one line of JSON each.
"""

import asyncio
import errno
import logging
import os
import socket
import stat
from contextlib import suppress
from pathlib import Path

import msgspec

from ingestd.core.errors import ConfigError, IngestdError, WarehouseError
from ingestd.demo.warehouse.database import COMMAND_TIMEOUT_S, MAX_ROWS, QueryResult
from ingestd.demo.warehouse.process import WarehouseProcess

log = logging.getLogger(__name__)

MAX_REQUEST_BYTES = 1 << 20
MAX_LIMIT = 10_000  # rows of a result
MAX_ACTIVE = 2  # queries at the same time; the page has the others
MAX_CONNECTIONS = 8

_CONNECTION_TIMEOUT_S = COMMAND_TIMEOUT_S + 10.0
_MAX_PATH_BYTES = 100  # of a socket; systems allow 103 to 107
_MAX_RESPONSE_BYTES = 256 << 20


class QueryRequest(msgspec.Struct, frozen=True):
    """A query in Snowflake's dialect."""

    sql: str
    limit: int = MAX_ROWS


class QueryResponse(msgspec.Struct, frozen=True):
    """A result or an error."""

    result: QueryResult | None = None
    error: str | None = None


def socket_path(path: Path) -> Path:
    """The socket of the warehouse at `path`. ConfigError if its path is too long for a socket."""
    full = Path(f"{path}.sock")
    shortest = min((str(full), os.path.relpath(full)), key=lambda name: len(os.fsencode(name)))
    if len(os.fsencode(shortest)) > _MAX_PATH_BYTES:
        raise ConfigError(
            f"warehouse.path = {path} is too long: with .sock it may have {_MAX_PATH_BYTES} bytes",
            hint="choose a shorter path, or one relative to the directory that ingestd starts in",
        )
    return Path(shortest)


class QueryServer:
    """Serves queries on the socket of a warehouse."""

    def __init__(self, warehouse: WarehouseProcess) -> None:
        self._warehouse = warehouse
        self._path = socket_path(warehouse.path)
        self._writers: set[asyncio.StreamWriter] = set()
        self._active = asyncio.Semaphore(MAX_ACTIVE)
        self._is_closed = False  # asyncio may still hand over a connection after the server closed

    async def run(self) -> None:
        """Serves until cancelled."""
        listener = socket.socket(socket.AF_UNIX)
        try:
            # We hold the lock on the DuckDB file, so an existing socket was left by a dead process.
            _remove_socket(self._path)
            listener.bind(str(self._path))
            self._path.chmod(0o600)  # before it listens, so that nobody has connected
        except OSError as error:
            listener.close()
            log.warning("other processes cannot query the local warehouse: no socket at %s: %s", self._path, error)
            return
        server = await asyncio.start_unix_server(self._serve, sock=listener, limit=MAX_REQUEST_BYTES)
        try:
            await asyncio.Event().wait()
        finally:
            # Not server.wait_closed(): from Python 3.12 on it waits for open connections.
            self._is_closed = True
            server.close()
            for writer in self._writers:
                writer.transport.abort()
            with suppress(OSError):
                _remove_socket(self._path)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            if len(self._writers) <= MAX_CONNECTIONS and not self._is_closed:
                with suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                    async with asyncio.timeout(_CONNECTION_TIMEOUT_S):
                        response = await self._respond(await reader.readuntil(b"\n"))
                        writer.write(msgspec.json.encode(response) + b"\n")
                        await writer.drain()
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _respond(self, line: bytes) -> QueryResponse:
        try:
            request = msgspec.json.decode(line, type=QueryRequest)
            limit = max(1, min(request.limit, MAX_LIMIT))
            async with self._active:
                result = await asyncio.to_thread(self._warehouse.query, request.sql, limit, COMMAND_TIMEOUT_S)
            return QueryResponse(result=result)
        except (IngestdError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            return QueryResponse(error=str(error))


def _remove_socket(path: Path) -> None:
    """Removes the socket if there is one. OSError if something else is in its place, which is not ours."""
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise OSError(errno.EEXIST, "it is not a socket", str(path))
        path.unlink()


def query_daemon(path: Path, request: QueryRequest) -> QueryResult | None:
    """Sends a query to the daemon that has the warehouse at `path` open. None without a daemon; WarehouseError."""
    line = msgspec.json.encode(request) + b"\n"
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_CONNECTION_TIMEOUT_S)
        try:
            connection.connect(str(socket_path(path)))
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        try:
            connection.sendall(line)
            with connection.makefile("rb") as stream:
                received = stream.readline(_MAX_RESPONSE_BYTES)
        except OSError as error:
            raise WarehouseError(f"the daemon does not answer: {error}", hint="try again") from error
    if not received.endswith(b"\n"):
        raise WarehouseError("the daemon closed the connection without a response", hint="try again")
    response = msgspec.json.decode(received, type=QueryResponse)
    if response.result is None:
        raise WarehouseError(response.error or "the daemon sent an empty response")
    return response.result
