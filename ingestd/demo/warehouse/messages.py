"""The messages between the daemon and the warehouse's process, and how a socket carries them.

A request and its reply are one frame each: eight bytes with the length, and JSON. The body of a load is a frame more.
"""

import socket
import struct

import msgspec

from ingestd.core.errors import ConfigError, IngestdError, WarehouseError
from ingestd.snowflake.table import Column

_LENGTH = struct.Struct("!Q")


class Open(msgspec.Struct, frozen=True, tag=True):
    """Opens the file. `columns` is None for reading; else for writing, with a table of these columns."""

    path: str
    database: str
    schema: str
    table: str
    columns: tuple[Column, ...] | None
    failures: int  # in the load history that is returned


class Load(msgspec.Struct, frozen=True, tag=True):
    """Loads an object; its body is the next frame."""

    name: str


class Forget(msgspec.Struct, frozen=True, tag=True):
    """Deletes old names from the load history, except those in `present`."""

    present: set[str]


class Query(msgspec.Struct, frozen=True, tag=True):
    """Runs a query."""

    sql: str
    limit: int
    timeout_s: float


Request = Open | Load | Forget | Query


class Reply(msgspec.Struct, frozen=True):
    """What a request returned, or why it failed."""

    result: msgspec.Raw = msgspec.Raw(b"null")
    error: str | None = None
    hint: str = ""
    is_config_error: bool = False

    @classmethod
    def of_error(cls, error: IngestdError) -> "Reply":
        return cls(error=error.message, hint=error.hint, is_config_error=isinstance(error, ConfigError))

    def raise_error(self) -> None:
        """Raises the error, if there is one."""
        if self.error is not None:
            raise (ConfigError if self.is_config_error else WarehouseError)(self.error, hint=self.hint)


def send(channel: socket.socket, data: bytes) -> None:
    """Sends a frame. OSError if the other end is closed."""
    channel.sendall(_LENGTH.pack(len(data)))
    channel.sendall(data)


def receive(channel: socket.socket) -> bytearray:
    """Receives a frame. EOFError if the other end is closed; TimeoutError as the socket is set."""
    (length,) = _LENGTH.unpack(_read(channel, _LENGTH.size))
    return _read(channel, length)


def _read(channel: socket.socket, size: int) -> bytearray:
    data = bytearray(size)
    view, done = memoryview(data), 0
    while done < size:
        count = channel.recv_into(view[done:])
        if not count:
            raise EOFError
        done += count
    view.release()
    return data
