"""The embedded warehouse: one DuckDB file with the table, the memory of what was loaded, and the features.

All calls block. Loads come from one thread at a time; queries from any.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from decimal import Decimal
from math import isfinite
from pathlib import Path
from threading import BoundedSemaphore, Timer
from typing import Any

import duckdb
import msgspec

from ingestd.config.model import SnowflakeConfig
from ingestd.core.errors import ConfigError, WarehouseError
from ingestd.demo.warehouse.dialect import Dialect
from ingestd.snowflake.features import NOW, SCORE, relations
from ingestd.snowflake.table import Column, create_table, deduplicated, identifier

LIMIT = 1000  # rows of an answer
TIMEOUT = 5.0  # seconds of a query that a page waits for
PATIENCE = 60.0  # seconds of a query that a person has typed
QUERIES = 4  # at once

_SLOT_PATIENCE = 2.0  # seconds
_LOCK_PATIENCE = 5.0  # seconds; a reader from outside holds the file for a moment
_MEMORY = "512MB"
_THREADS = 2


class QueryResult(msgspec.Struct, frozen=True):
    """What a query found. Cells are None, bool, int, float, or text."""

    columns: list[str]
    rows: list[list[Any]]
    truncated: bool = False  # there are more rows


class Warehouse:
    """Opened by one process at a time for writing, or by several for reading."""

    def __init__(self, path: Path, snowflake: SnowflakeConfig, *, now: str = NOW) -> None:
        """`now` is an expression in Snowflake's dialect that stands for its clocks."""
        self.path = path
        self.table = f'"{snowflake.table}"'  # any name, also one that is a word of DuckDB's
        self._deduplicated = f'"{snowflake.table}_DEDUPLICATED"'
        self.dialect = Dialect(snowflake, now)
        self._now = now
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._slots = BoundedSemaphore(QUERIES)
        self._under_way: set[duckdb.DuckDBPyConnection] = set()

    def open(self, columns: tuple[Column, ...]) -> None:
        """Make the file, the table and the features where they do not exist. ConfigError where that cannot be."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"warehouse.path = {self.path}: cannot make its folder: {error.strerror}") from error
        self._connection = _connect(self.path, read_only=False)
        try:
            self._define(self._connection, columns)
        except duckdb.Error as error:
            self.close()
            raise _unusable(self.path, error) from error

    def open_for_reading(self) -> None:
        """ConfigError where there is no such file, or a process has it open for writing."""
        if not self.path.is_file():
            hint = "run ingestd with --warehouse local first, or name the file with --warehouse-file"
            raise ConfigError(f"warehouse.path = {self.path}: there is no such file", hint=hint)
        self._connection = _connect(self.path, read_only=True)

    def close(self) -> None:
        """Without effect when it is not open. What is under way fails, and has done nothing."""
        connection, self._connection = self._connection, None
        while connection is not None:
            for cursor in tuple(self._under_way):
                _interrupt(cursor)
            try:
                connection.close()
                break
            except duckdb.ResourceInUseException:
                time.sleep(0.01)  # a statement is about to end, or had not begun when it was interrupted

    @property
    def busy(self) -> bool:
        """Whether anything is under way."""
        return bool(self._under_way)

    @contextmanager
    def session(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A session of its own; what it has not committed is taken back. WarehouseError where it is closed."""
        connection = self._connection
        if connection is None:
            raise WarehouseError("the warehouse is closed")
        cursor = connection.cursor()
        self._under_way.add(cursor)
        try:
            yield cursor
        finally:
            self._under_way.discard(cursor)
            with suppress(duckdb.Error):
                cursor.close()

    def query(self, sql: str, limit: int = LIMIT, patience: float = TIMEOUT) -> QueryResult:
        """The first `limit` rows of one query in Snowflake's dialect, which may take `patience` seconds.

        WarehouseError where it is refused or fails.
        """
        translated = self.dialect.query(sql)
        if not self._slots.acquire(timeout=_SLOT_PATIENCE):
            raise WarehouseError("too many queries are under way", hint="try again")
        try:
            with self._reading(patience) as cursor:
                cursor.execute(translated)
                rows = cursor.fetchmany(limit + 1)
                columns = [str(column[0]) for column in cursor.description or ()]
        finally:
            self._slots.release()
        return QueryResult(columns, [[_cell(value) for value in row] for row in rows[:limit]], len(rows) > limit)

    @contextmanager
    def _reading(self, patience: float) -> Iterator[duckdb.DuckDBPyConnection]:
        """A session that can change nothing, and has an end."""
        with self.session() as cursor:
            timer = Timer(patience, _interrupt, (cursor,))
            timer.daemon = True
            timer.start()
            try:
                cursor.execute("BEGIN TRANSACTION READ ONLY")
                yield cursor
            except duckdb.Error as error:
                if self._connection is None:
                    raise WarehouseError("the warehouse is closed") from None
                if isinstance(error, duckdb.InterruptException):
                    raise WarehouseError(f"the query took longer than {patience:g} s", hint="ask for less") from None
                raise WarehouseError(f"the query failed: {first_line(error)}") from error
            finally:
                timer.cancel()

    def _define(self, connection: duckdb.DuckDBPyConnection, columns: tuple[Column, ...]) -> None:
        """The same table and features as in Snowflake; a column that the model has got since is added."""
        connection.execute("BEGIN")
        connection.execute(self.dialect.table(create_table(self.table, columns)))
        there = {row[0].lower() for row in connection.execute(f"DESCRIBE {self.table}").fetchall()}
        for column in columns:
            if column.name not in there:
                kind = self.dialect.type(column.type)
                connection.execute(f"ALTER TABLE {self.table} ADD COLUMN {identifier(column.name)} {kind}")
        connection.execute(_HISTORY)
        self._view(connection, self._deduplicated, deduplicated(self.table, columns))
        arguments = ", ".join(name for name, _ in SCORE.arguments)
        body = self.dialect.expression(SCORE.body)
        connection.execute(f"CREATE OR REPLACE MACRO {SCORE.name}({arguments}) AS ({body})")
        for relation in relations(self.table, now=self._now):
            self._view(connection, relation.name, relation.sql)
        connection.execute("COMMIT")

    def _view(self, connection: duckdb.DuckDBPyConnection, name: str, select: str) -> None:
        connection.execute(f"CREATE OR REPLACE VIEW {name} AS {self.dialect.select(select)}")


#: What Snowpipe remembers of each file, named as in Snowflake's LOAD_HISTORY.
_HISTORY = """\
CREATE TABLE IF NOT EXISTS load_history (
    file_name VARCHAR PRIMARY KEY,
    last_load_time TIMESTAMP NOT NULL,
    status VARCHAR NOT NULL,
    row_count BIGINT NOT NULL,
    first_error_message VARCHAR
)"""


def _connect(path: Path, *, read_only: bool) -> duckdb.DuckDBPyConnection:
    """Without access to any other file, to the network, or to Python's variables: queries may come from anybody."""
    config: dict[str, Any] = {
        "enable_external_access": "false",
        "python_enable_replacements": "false",
        "memory_limit": _MEMORY,
        "threads": str(_THREADS),
    }
    deadline = time.monotonic() + _LOCK_PATIENCE
    while True:
        try:
            connection = duckdb.connect(str(path), read_only=read_only, config=config)
            break
        except duckdb.Error as error:
            if "lock" not in str(error).lower():
                raise _unusable(path, error) from error
            if time.monotonic() > deadline:
                raise _locked(path, error) from error
        time.sleep(0.1)
    # Not in `config`: the zones are an extension, which is loaded with the first connection.
    connection.execute("SET GLOBAL TimeZone = 'UTC'")
    connection.execute("SET lock_configuration = true")
    return connection


def _interrupt(cursor: duckdb.DuckDBPyConnection) -> None:
    with suppress(duckdb.Error):  # it may have been closed just now
        cursor.interrupt()


def _locked(path: Path, error: Exception) -> ConfigError:
    return ConfigError(
        f"warehouse.path = {path}: another process has it open: {first_line(error)}",
        hint="stop that process, or give each daemon a file of its own",
    )


def _unusable(path: Path, error: Exception) -> ConfigError:
    return ConfigError(
        f"warehouse.path = {path}: it cannot be used: {first_line(error)}",
        hint="move it away to begin anew: everything is loaded again from the objects that are there",
    )


def first_line(error: Exception) -> str:
    """DuckDB's words without the piece of SQL that it adds."""
    return str(error).strip().partition("\n")[0][:300] or type(error).__name__


def _cell(value: Any) -> Any:
    """As JSON has it; what it does not have, as text."""
    match value:
        case None | bool() | int() | str():
            return value
        case float() if isfinite(value):
            return value
        case Decimal() if value == value.to_integral_value():
            return int(value)
        case datetime():
            return value.isoformat(" ")
        case dict() | list():
            return msgspec.json.encode(_inner(value)).decode()
    return value.hex().upper() if isinstance(value, bytes) else str(value)


def _inner(value: Any) -> Any:
    match value:
        case dict():
            return {str(name): _inner(inner) for name, inner in value.items()}
        case list():
            return [_inner(inner) for inner in value]
    return _cell(value)
