"""The warehouse's DuckDB file: the table, the load history, and the features.

All calls block. Only one thread loads at a time; any thread may query.
"""

import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from decimal import Decimal
from math import isfinite
from pathlib import Path
from threading import Timer
from typing import Any

import duckdb
import msgspec

from ingestd.config.model import SnowflakeConfig
from ingestd.core.errors import ConfigError, WarehouseError
from ingestd.demo.warehouse.dialect import Dialect, duckdb_name
from ingestd.snowflake.features import NOW, SCORE, relations
from ingestd.snowflake.table import Column, create_table, deduplicated, record_columns

MAX_ROWS = 1000  # of a result, unless the caller asks for another number
PAGE_TIMEOUT_S = 5.0  # of a query that the page waits for
COMMAND_TIMEOUT_S = 60.0  # of a query by `ingestd query`
MAX_CELL_CHARS = 64 << 10  # of a cell; the rest is cut
MAX_RESULT_CHARS = 16 << 20  # of all cells; the rows after it are left out

_FETCH_ROWS = 64
_LOCK_TIMEOUT_S = 5.0  # another process may have the file open for a moment to read it
_MEMORY = "512MB"
_DISK = "4GB"  # of temporary files
_THREADS = 2
_ELSEWHERE = "write elsewhere with --sink, or set warehouse.path to another file"

# sqlglot logs what it also raises.
logging.getLogger("sqlglot").setLevel(logging.CRITICAL)


class QueryResult(msgspec.Struct, frozen=True):
    """The result of a query. Cells are None, bool, int, float or str."""

    columns: list[str]
    rows: list[list[Any]]
    truncated: bool = False  # there are more rows


class Warehouse:
    """The DuckDB file, open in one process for writing or in several for reading."""

    def __init__(self, path: Path, snowflake: SnowflakeConfig, *, now: str = NOW) -> None:
        """`now` is the expression in Snowflake's dialect that replaces its clock functions."""
        self.path = path
        self.table = f'"{snowflake.table}"'  # quoted: the name may be a keyword of DuckDB
        self._deduplicated = f'"{snowflake.table}_DEDUPLICATED"'
        self.dialect = Dialect(snowflake, now)
        self._now = now
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._active: set[duckdb.DuckDBPyConnection] = set()

    def open(self, columns: tuple[Column, ...]) -> None:
        """Opens the file; creates it, the table and the features if missing. ConfigError if that fails."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"warehouse.path = {self.path}: cannot create its folder: {error.strerror}",
                hint=_ELSEWHERE,
            ) from error
        self._connection = _connect(self.path, read_only=False)
        _remove_all_temporary(self.path)
        try:
            self._define(self._connection, columns)
        except duckdb.Error as error:
            self.close()
            raise _unusable(self.path, error) from error

    def open_for_reading(self) -> None:
        """Opens the file for reading. ConfigError if it does not exist or is open elsewhere for writing."""
        if not self.path.is_file():
            hint = "run ingestd with --warehouse local first, or name the file with --warehouse-file"
            raise ConfigError(f"warehouse.path = {self.path}: no such file", hint=hint)
        self._connection = _connect(self.path, read_only=True)

    def close(self) -> None:
        """Closes the file. Active queries and loads fail and are rolled back."""
        connection, self._connection = self._connection, None
        while connection is not None:
            for cursor in tuple(self._active):
                _interrupt(cursor)
            try:
                connection.close()
                remove_temporary(self.path, os.getpid())
                break
            except duckdb.ResourceInUseException:
                time.sleep(0.01)  # a statement is ending, or had not started when it was interrupted

    @property
    def busy(self) -> bool:
        """Whether a query or a load is active."""
        return bool(self._active)

    @contextmanager
    def session(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Opens a session; uncommitted changes are rolled back. WarehouseError if the warehouse is closed."""
        connection = self._connection
        if connection is None:
            raise WarehouseError("the warehouse is closed")
        cursor = connection.cursor()
        self._active.add(cursor)
        try:
            yield cursor
        finally:
            self._active.discard(cursor)
            with suppress(duckdb.Error):
                cursor.close()

    def query(self, sql: str, limit: int = MAX_ROWS, timeout_s: float = PAGE_TIMEOUT_S) -> QueryResult:
        """Runs a query in Snowflake's dialect; returns its first `limit` rows.

        WarehouseError if the query is refused, fails, or takes longer than `timeout_s`.
        """
        translated = self.dialect.query(sql)
        with self._read_only_session(timeout_s) as cursor:
            cursor.execute(translated)
            columns = [str(column[0]) for column in cursor.description or ()]
            return _fetch(cursor, columns, limit)

    @contextmanager
    def _read_only_session(self, timeout_s: float) -> Iterator[duckdb.DuckDBPyConnection]:
        """Opens a session that cannot change data, and is interrupted after `timeout_s`."""
        with self.session() as cursor:
            timer = Timer(timeout_s, _interrupt, (cursor,))
            timer.daemon = True
            timer.start()
            try:
                cursor.execute("BEGIN TRANSACTION READ ONLY")
                yield cursor
            except duckdb.Error as error:
                if self._connection is None:
                    raise WarehouseError("the warehouse is closed") from None
                if isinstance(error, duckdb.InterruptException):
                    raise WarehouseError(
                        f"the query took longer than {timeout_s:g} s", hint="query fewer rows"
                    ) from None
                raise WarehouseError(f"the query failed: {first_line(error)}") from error
            finally:
                timer.cancel()

    def _define(self, connection: duckdb.DuckDBPyConnection, columns: tuple[Column, ...]) -> None:
        """Creates the same table and features as in Snowflake, and adds columns that are new in the event model."""
        connection.execute("BEGIN")
        connection.execute(self.dialect.table(create_table(self.table, columns)))
        existing = {row[0].lower() for row in connection.execute(f"DESCRIBE {self.table}").fetchall()}
        for column in columns:
            if column.name not in existing:
                kind = self.dialect.type(column.type)
                connection.execute(f"ALTER TABLE {self.table} ADD COLUMN {duckdb_name(column.name)} {kind}")
        connection.execute(_HISTORY)
        self._create_view(connection, self._deduplicated, deduplicated(self.table, columns))
        arguments = ", ".join(name for name, _ in SCORE.arguments)
        body = self.dialect.expression(SCORE.body)
        connection.execute(f"CREATE OR REPLACE MACRO {SCORE.name}({arguments}) AS ({body})")
        for relation in relations(self.table, now=self._now, record=record_columns(columns)):
            self._create_view(connection, relation.name, relation.sql)
        connection.execute("COMMIT")

    def _create_view(self, connection: duckdb.DuckDBPyConnection, name: str, select: str) -> None:
        connection.execute(f"CREATE OR REPLACE VIEW {name} AS {self.dialect.select(select)}")


#: One row for each file, with the column names of Snowflake's LOAD_HISTORY.
_HISTORY = """\
CREATE TABLE IF NOT EXISTS load_history (
    file_name VARCHAR PRIMARY KEY,
    last_load_time TIMESTAMP NOT NULL,
    status VARCHAR NOT NULL,
    row_count BIGINT NOT NULL,
    first_error_message VARCHAR
)"""


def _connect(path: Path, *, read_only: bool) -> duckdb.DuckDBPyConnection:
    """Connects without access to other files, the network or Python variables: anybody may send queries."""
    config: dict[str, Any] = {
        "enable_external_access": "false",
        "python_enable_replacements": "false",
        "memory_limit": _MEMORY,
        "threads": str(_THREADS),
        "temp_directory": _temporary(path, os.getpid()),
        "max_temp_directory_size": _DISK,
    }
    deadline = time.monotonic() + _LOCK_TIMEOUT_S
    while True:
        try:
            connection = duckdb.connect(str(path), read_only=read_only, config=config)
            break
        except duckdb.Error as error:
            if "lock" not in str(error).lower():
                raise _unusable(path, error) from error
            if time.monotonic() > deadline:
                raise _locked(path) from error
        time.sleep(0.1)
    # Not in `config`: time zones are an extension that the first connection loads.
    connection.execute("SET GLOBAL TimeZone = 'UTC'")
    connection.execute("SET lock_configuration = true")
    return connection


def _temporary(path: Path, pid: int) -> str:
    """The folder of DuckDB's temporary files: a process that is killed leaves them."""
    return f"{path}.tmp.{pid}"


def remove_temporary(path: Path, pid: int) -> None:
    """Removes the temporary files of a process that has ended."""
    shutil.rmtree(_temporary(path, pid), ignore_errors=True)


def _remove_all_temporary(path: Path) -> None:
    """Removes what ended processes left. Only for the writer: it has the file alone."""
    for folder in path.parent.iterdir():
        if folder.name.startswith(f"{path.name}.tmp.") and folder.suffix[1:].isdigit():
            shutil.rmtree(folder, ignore_errors=True)


def _interrupt(cursor: duckdb.DuckDBPyConnection) -> None:
    with suppress(duckdb.Error):  # it may be closed already
        cursor.interrupt()


def _locked(path: Path) -> ConfigError:
    # DuckDB names a process, but not the daemon, which would start it again.
    return ConfigError(
        f"warehouse.path = {path}: another daemon has the file open, or a query reads it",
        hint="wait until it has ended, or give this one a sink of its own, as with --sink ./data2",
    )


def _unusable(path: Path, error: Exception) -> ConfigError:
    hint = "move the file away: a new one is filled from the objects in the sink"
    if isinstance(error, duckdb.IOException) and not _is_writable(path):
        hint = f"it is read-only for this user: {_ELSEWHERE}"
    return ConfigError(f"warehouse.path = {path}: cannot use the file: {first_line(error)}", hint=hint)


def _is_writable(path: Path) -> bool:
    return os.access(path.parent, os.W_OK) and (os.access(path, os.W_OK) or not path.exists())


def first_line(error: Exception) -> str:
    """The first line of DuckDB's message; the others quote the SQL."""
    return str(error).strip().partition("\n")[0][:300] or type(error).__name__


def _fetch(cursor: duckdb.DuckDBPyConnection, columns: list[str], limit: int) -> QueryResult:
    """Fetches up to `limit` rows and MAX_RESULT_CHARS, a few rows at a time: a row may be large."""
    rows: list[list[Any]] = []
    size = 0
    while some := cursor.fetchmany(min(_FETCH_ROWS, limit + 1 - len(rows))):
        for row in some:
            if len(rows) == limit or size > MAX_RESULT_CHARS:
                return QueryResult(columns, rows, truncated=True)
            rows.append([_cut(_cell(value)) for value in row])
            size += sum(len(cell) for cell in rows[-1] if isinstance(cell, str))
    return QueryResult(columns, rows)


def _cut(cell: Any) -> Any:
    if isinstance(cell, str) and len(cell) > MAX_CELL_CHARS:
        return cell[: MAX_CELL_CHARS - 1] + "…"
    return cell


def _cell(value: Any) -> Any:
    """Converts a value to a JSON scalar; types that JSON lacks become text."""
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
            return msgspec.json.encode(_json_value(value)).decode()
    return value.hex().upper() if isinstance(value, bytes) else str(value)


def _json_value(value: Any) -> Any:
    match value:
        case dict():
            return {str(name): _json_value(inner) for name, inner in value.items()}
        case list():
            return [_json_value(inner) for inner in value]
    return _cell(value)
