"""Runs the warehouse in a process of its own, and starts that again after a query had to be killed.

All calls block; any thread may make them. Only one thread loads at a time.
"""

import os
import socket
import subprocess
import sys
from collections import deque
from contextlib import suppress
from pathlib import Path
from threading import BoundedSemaphore, Lock

import msgspec

from ingestd.config.model import SnowflakeConfig
from ingestd.core.errors import ConfigError, WarehouseError
from ingestd.demo.warehouse import messages
from ingestd.demo.warehouse.database import MAX_ROWS, PAGE_TIMEOUT_S, QueryResult, remove_temporary
from ingestd.demo.warehouse.messages import Forget, Load, Open, Query, Reply, Request
from ingestd.demo.warehouse.object_loader import LoadHistory, LoadResult
from ingestd.snowflake.table import Column

MAX_QUERIES = 5  # at the same time: three of the page's lanes and two of the query server
KILL_AFTER_S = 1.0  # after a query's time-out: it ignores the interrupt

_SLOT_TIMEOUT_S = 2.0
_EXIT_TIMEOUT_S = 3.0

#: The child needs no more of the environment, which may hold secrets that a query must not reach.
_ENVIRONMENT = ("HOME", "LD_LIBRARY_PATH", "PATH", "PYTHONHOME", "TZ")
#: With the same import path, and not the working directory, which is not ours.
_PROGRAM = """\
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from ingestd.demo.warehouse.child import main
main(json.loads(sys.argv[2]))"""


class WarehouseProcess:
    """The warehouse at `path`. After ``open`` it is open until ``close``, though its process may be another one."""

    def __init__(self, path: Path, snowflake: SnowflakeConfig) -> None:
        self.path = path
        self._snowflake = snowflake
        self._slots = BoundedSemaphore(MAX_QUERIES)
        self._lock = Lock()  # of the two below
        self._request: Open | None = None  # None while it is closed
        self._child: _Child | None = None

    def open(self, columns: tuple[Column, ...], failures: int) -> LoadHistory:
        """Opens the file; creates it, the table and the features if missing. ConfigError if that fails."""
        return msgspec.json.decode(self._open(columns, failures), type=LoadHistory)

    def open_for_reading(self) -> None:
        """Opens the file for reading. ConfigError if it does not exist or is open elsewhere for writing."""
        self._open(None, 0)

    def close(self) -> None:
        """Closes the file. Active queries and loads fail and are rolled back."""
        with self._lock:
            child, self._child, self._request = self._child, None, None
        if child is not None:
            child.stop()

    def load(self, name: str, body: bytes) -> LoadResult | None:
        """Loads an object. None if `name` was loaded before. WarehouseError: nothing was changed."""
        return msgspec.json.decode(self._ask(Load(name), body), type=LoadResult | None)

    def forget(self, present: set[str]) -> set[str]:
        """Deletes old names from the load history, except those in `present`. Returns the deleted names."""
        return msgspec.json.decode(self._ask(Forget(present)), type=set[str])

    def query(self, sql: str, limit: int = MAX_ROWS, timeout_s: float = PAGE_TIMEOUT_S) -> QueryResult:
        """Runs a query in Snowflake's dialect; returns its first `limit` rows.

        WarehouseError if the query is refused, fails, or takes longer than `timeout_s`.
        """
        if not self._slots.acquire(timeout=_SLOT_TIMEOUT_S):
            raise WarehouseError("too many queries at the same time", hint="try again")
        try:
            answer = self._ask(Query(sql, limit, timeout_s), timeout_s=timeout_s)
        finally:
            self._slots.release()
        return msgspec.json.decode(answer, type=QueryResult)

    def _open(self, columns: tuple[Column, ...] | None, failures: int) -> bytes:
        names = self._snowflake
        request = Open(str(self.path), names.database, names.schema, names.table, columns, failures)
        self.close()
        with self._lock:
            self._child, answer = _start(request)
            self._request = request
        return answer

    def _ask(self, request: Request, body: bytes | None = None, timeout_s: float | None = None) -> bytes:
        """Sends a request; a query once more where the process ended because of another one.

        A load is not repeated here: it may have been committed, and only the history tells.
        """
        if isinstance(request, Query):
            with suppress(EOFError):
                return self._running().ask(request, body, timeout_s)
        try:
            return self._running().ask(request, body, timeout_s)
        except EOFError:
            if self._request is None:
                raise WarehouseError("the warehouse is closed") from None
            raise WarehouseError("the warehouse's process ended", hint="if a query did it, query fewer rows") from None

    def _running(self) -> "_Child":
        with self._lock:
            if self._request is None:
                raise WarehouseError("the warehouse is closed")
            if self._child is None or self._child.has_ended:
                self._child, _ = _start(self._request)
            return self._child


class _Child:
    """A running process and its sockets: each carries one request at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        pairs = [socket.socketpair() for _ in range(MAX_QUERIES + 1)]  # one for the loads
        theirs = [pair[1].fileno() for pair in pairs]
        arguments = [msgspec.json.encode(value).decode() for value in (sys.path, theirs)]
        try:
            self._process = subprocess.Popen(  # noqa: S603 - this interpreter with a fixed program
                [sys.executable, "-c", _PROGRAM, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
                pass_fds=theirs,
            )
        finally:
            for _, their in pairs:
                their.close()
        self._all = [ours for ours, _ in pairs]
        self._free = deque(self._all)
        self.has_ended = False

    def ask(self, request: Request, body: bytes | None, timeout_s: float | None) -> bytes:
        """Returns the result. EOFError if the process ended or ends; WarehouseError after `timeout_s` and a kill."""
        channel = self._free.popleft()
        try:
            channel.settimeout(None)
            messages.send(channel, msgspec.json.encode(request))
            if body is not None:
                messages.send(channel, body)
            if timeout_s is not None:
                channel.settimeout(timeout_s + KILL_AFTER_S)
            reply = msgspec.json.decode(messages.receive(channel), type=Reply)
        except TimeoutError:
            self.kill()
            raise WarehouseError(f"the query took longer than {timeout_s:g} s", hint="query fewer rows") from None
        except (EOFError, OSError):
            self.kill()
            raise EOFError from None
        finally:
            self._free.append(channel)
            if self.has_ended:
                self._close_free()
        reply.raise_error()
        return bytes(reply.result)

    def stop(self) -> None:
        """Ends the process after it has closed the file; kills it where a statement goes on."""
        self._disconnect()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_EXIT_TIMEOUT_S)
        self.kill()

    def kill(self) -> None:
        """Ends the process at once. All its requests end with EOFError."""
        self._process.kill()
        self._disconnect()
        self._process.wait()
        remove_temporary(self._path, self._process.pid)

    def _disconnect(self) -> None:
        self.has_ended = True
        for channel in self._all:
            with suppress(OSError):  # it may be disconnected already
                channel.shutdown(socket.SHUT_RDWR)  # not close(): a request's own thread does that
        self._close_free()

    def _close_free(self) -> None:
        with suppress(IndexError):
            while True:
                self._free.pop().close()


def _start(request: Open) -> tuple[_Child, bytes]:
    child = _Child(Path(request.path))
    try:
        return child, child.ask(request, None, None)
    except EOFError:
        child.kill()
        raise ConfigError("the warehouse's process does not start", hint="is there enough memory?") from None
    except (ConfigError, WarehouseError):
        child.stop()
        raise
