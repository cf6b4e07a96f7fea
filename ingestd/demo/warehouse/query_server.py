"""Queries from other processes while the daemon has the file open: a Unix socket beside it, for its owner alone.

DuckDB's file is open in one process. A socket rather than HTTP: no page in a browser can reach it, and who may read
the file may ask. One JSON line in, one out.
"""

import asyncio
import logging
import os
import socket
from contextlib import suppress
from pathlib import Path

import msgspec

from ingestd.core.errors import ConfigError, WarehouseError
from ingestd.demo.warehouse.database import LIMIT, PATIENCE, QUERIES, QueryResult, Warehouse

log = logging.getLogger(__name__)

MAX_LINE = 1 << 20  # bytes of a question
MAX_LIMIT = 10_000  # rows of an answer

_LONGEST = PATIENCE + 10.0  # seconds of a connection

_MAX_PATH = 100  # bytes; systems take 103 to 107
_MAX_ANSWER = 256 << 20  # bytes


class Question(msgspec.Struct, frozen=True):
    """A query in Snowflake's dialect."""

    sql: str
    limit: int = LIMIT


class Answer(msgspec.Struct, frozen=True):
    """One of the two is there."""

    result: QueryResult | None = None
    error: str | None = None


def beside(path: Path) -> Path:
    """Where the socket of the warehouse at `path` is. ConfigError where that is more than a socket's name may have."""
    full = Path(f"{path}.sock")
    shortest = min((str(full), os.path.relpath(full)), key=lambda name: len(os.fsencode(name)))
    if len(os.fsencode(shortest)) > _MAX_PATH:
        raise ConfigError(
            f"warehouse.path = {path} is too long: with .sock it may have {_MAX_PATH} bytes",
            hint="choose a shorter one, or one relative to the directory that ingestd is started in",
        )
    return Path(shortest)


class QueryServer:
    """Answers while it runs."""

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse
        self._path = beside(warehouse.path)
        self._writers: set[asyncio.StreamWriter] = set()
        self._is_closed = False  # who was being connected meanwhile is served all the same

    async def run(self) -> None:
        """Runs until it is cancelled."""
        listener = socket.socket(socket.AF_UNIX)
        try:
            # The file is locked by us: what is there was left by a process that died.
            self._path.unlink(missing_ok=True)
            listener.bind(str(self._path))
            self._path.chmod(0o600)  # before it listens: nobody can have connected
        except OSError as error:
            listener.close()
            log.warning("other processes cannot query the local warehouse: no socket at %s: %s", self._path, error)
            return
        server = await asyncio.start_unix_server(self._serve, sock=listener, limit=MAX_LINE)
        try:
            await asyncio.Event().wait()
        finally:
            # Not server.wait_closed(): from Python 3.12 on it waits for whoever is connected.
            self._is_closed = True
            server.close()
            for writer in self._writers:
                writer.transport.abort()
            self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            if len(self._writers) <= 2 * QUERIES and not self._is_closed:
                with suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                    async with asyncio.timeout(_LONGEST):
                        answer = await self._answer(await reader.readuntil(b"\n"))
                        writer.write(msgspec.json.encode(answer) + b"\n")
                        await writer.drain()
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answer(self, line: bytes) -> Answer:
        try:
            asked = msgspec.json.decode(line, type=Question)
            limit = max(1, min(asked.limit, MAX_LIMIT))
            return Answer(result=await asyncio.to_thread(self._warehouse.query, asked.sql, limit, PATIENCE))
        except (WarehouseError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            return Answer(error=str(error))


def ask(path: Path, question: Question) -> QueryResult | None:
    """Ask the process that has the warehouse at `path` open; None where there is none. WarehouseError: it refuses."""
    line = msgspec.json.encode(question) + b"\n"
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_LONGEST)
        try:
            connection.connect(str(beside(path)))
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        try:
            connection.sendall(line)
            with connection.makefile("rb") as stream:
                got = stream.readline(_MAX_ANSWER)
        except OSError as error:
            raise WarehouseError(f"the daemon does not answer: {error}", hint="try again") from error
    if not got.endswith(b"\n"):
        raise WarehouseError("the daemon ended the connection without an answer", hint="try again")
    answer = msgspec.json.decode(got, type=Answer)
    if answer.result is None:
        raise WarehouseError(answer.error or "the daemon gave no answer")
    return answer.result
