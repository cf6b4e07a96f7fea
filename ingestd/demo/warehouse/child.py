"""The warehouse's process: opens the DuckDB file, and loads and queries for the daemon until that closes its sockets.

DuckDB runs here, because a query can neither be interrupted nor bounded in every case: a call of a scalar function
ignores the interrupt, and a result is outside DuckDB's memory limit. A process can be killed, and the system bounds it.
"""

import os
import resource
import signal
import socket
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread, Timer
from typing import Any

import msgspec

from ingestd.config.model import SnowflakeConfig
from ingestd.core.errors import ConfigError, IngestdError, WarehouseError
from ingestd.demo.warehouse import messages
from ingestd.demo.warehouse.database import Warehouse
from ingestd.demo.warehouse.messages import Forget, Load, Open, Query, Reply, Request
from ingestd.demo.warehouse.object_loader import LoadHistory, ObjectLoader

MAX_MEMORY_BYTES = 2 << 30
CLOSE_TIMEOUT_S = 2.0  # for a statement that ignores the interrupt


class _Server:
    """Answers the requests of all channels. The first request is Open."""

    def __init__(self) -> None:
        self.warehouse: Warehouse | None = None
        self.ended = Event()
        self._loader: ObjectLoader | None = None

    def serve(self, channel: socket.socket) -> None:
        """Answers one request after the other until the daemon closes the channel."""
        try:
            while True:
                request: Request = msgspec.json.decode(messages.receive(channel), type=Request)
                body = bytes(messages.receive(channel)) if isinstance(request, Load) else b""
                messages.send(channel, msgspec.json.encode(self._reply(request, body)))
        except (EOFError, OSError):
            pass
        finally:
            self.ended.set()

    def _reply(self, request: Request, body: bytes) -> Reply:
        try:
            return Reply(msgspec.Raw(msgspec.json.encode(self._result(request, body))))
        except IngestdError as error:
            return Reply.of_error(error)
        except MemoryError:
            return Reply.of_error(WarehouseError("the query needs too much memory", hint="query fewer rows"))

    def _result(self, request: Request, body: bytes) -> Any:
        if isinstance(request, Open):
            return self._open(request)
        assert self.warehouse is not None
        match request:
            case Query():
                return self.warehouse.query(request.sql, request.limit, request.timeout_s)
            case Load():
                return self._writer.load(request.name, body)
            case Forget():
                return self._writer.forget(request.present)

    def _open(self, request: Open) -> LoadHistory | None:
        names = SnowflakeConfig(database=request.database, schema=request.schema, table=request.table)
        self.warehouse = warehouse = Warehouse(Path(request.path), names)
        if request.columns is None:
            warehouse.open_for_reading()
            return None
        warehouse.open(request.columns)
        self._loader = ObjectLoader(warehouse, request.columns)
        return self._loader.history(request.failures)

    @property
    def _writer(self) -> ObjectLoader:
        if self._loader is None:
            raise ConfigError("the warehouse is open for reading only")
        return self._loader


def main(channels: list[int]) -> None:
    """Serves the sockets with these file descriptors, and ends the process."""
    # The daemon gets the same signals, and closes the sockets when it has drained.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    _limit(resource.RLIMIT_DATA, MAX_MEMORY_BYTES)
    _limit(resource.RLIMIT_CORE, 0)
    server = _Server()
    for descriptor in channels:
        Thread(target=server.serve, args=(socket.socket(fileno=descriptor),), daemon=True).start()
    server.ended.wait()
    # Also where the daemon was killed: nobody else would end this process.
    timer = Timer(CLOSE_TIMEOUT_S, os._exit, (1,))
    timer.daemon = True
    timer.start()
    if server.warehouse is not None:
        server.warehouse.close()
    os._exit(0)


def _limit(kind: int, value: int) -> None:
    with suppress(OSError, ValueError):  # a sandbox may forbid it, or have set a lower limit
        resource.setrlimit(kind, (value, value))
