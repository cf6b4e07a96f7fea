"""Loads an object into the warehouse: its rows and its name in one transaction, so that each object is loaded once.

As Snowpipe by default: one bad row fails the whole file, and a failed file is not retried.
"""

import io
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from gzip import BadGzipFile, GzipFile
from itertools import islice

import duckdb
import msgspec

from ingestd.core.errors import WarehouseError
from ingestd.demo.warehouse.database import Warehouse, first_line
from ingestd.demo.warehouse.dialect import duckdb_name
from ingestd.snowflake.table import FILE_NAME, FILE_ROW_NUMBER, LOADED_AT, Column

MIN_HISTORY = timedelta(days=14)  # how long names stay in the load history at least

LOADED, FAILED = "LOADED", "LOAD_FAILED"

_CHUNK_BYTES = 8 << 20  # of rows in one INSERT
_MAX_ROW_BYTES = 128 << 20  # Snowflake's limit
_DELETE_NAMES = 1000  # in one DELETE


class LoadResult(msgspec.Struct, frozen=True):
    """The result of loading an object."""

    file: str
    rows: int
    loaded_at: datetime  # UTC
    error: str | None = None  # of the first bad row; no row of the file was loaded
    freshness_s: float | None = None  # from the median row's event to the commit; None without rows


class LoadHistory(msgspec.Struct, frozen=True):
    """The files that earlier runs loaded."""

    names: set[str]
    files: int  # loaded without an error
    rows: int  # in the table
    last_file: str | None
    last_loaded_at: datetime | None
    failed: list[tuple[str, str]]  # name and error, newest last


class ObjectLoader:
    """Loads objects. Used by one thread at a time."""

    def __init__(self, warehouse: Warehouse, columns: tuple[Column, ...]) -> None:
        self._warehouse = warehouse
        self._insert = _insert_statement(warehouse, columns)
        self._count = f"SELECT COUNT(*) FROM {warehouse.table}"  # noqa: S608 (a checked name, as below)
        self._median = (
            f"SELECT MEDIAN(EPOCH(loaded_at - event_timestamp)) FROM {warehouse.table} "  # noqa: S608
            "WHERE loaded_at = ? AND file_name = ?"
        )

    def history(self, failures: int) -> LoadHistory:
        """Reads all names and the latest `failures`. WarehouseError if the warehouse cannot be read."""
        with self._transaction() as cursor:
            names = {row[0] for row in cursor.execute("SELECT file_name FROM load_history").fetchall()}
            files = cursor.execute("SELECT COUNT(*) FROM load_history WHERE status = ?", [LOADED]).fetchall()[0][0]
            rows = cursor.execute(self._count).fetchall()[0][0]
            last = cursor.execute(_LATEST_LOADS, [LOADED, 1]).fetchall()
            failed = cursor.execute(_LATEST_LOADS, [FAILED, failures]).fetchall()
        return LoadHistory(
            names,
            files,
            rows,
            last[0][0] if last else None,
            last[0][1].replace(tzinfo=UTC) if last else None,
            [(name, error) for name, _, error in reversed(failed)],
        )

    def load(self, name: str, body: bytes) -> LoadResult | None:
        """Loads a gzip body of JSON lines. None if `name` was loaded before. WarehouseError: nothing was changed."""
        loaded_at = datetime.now(UTC)
        try:
            return self._insert_rows(name, body, loaded_at)
        except (duckdb.DataError, duckdb.IntegrityError, _BadFile) as error:
            return self._record_failure(name, loaded_at, first_line(error))

    def forget(self, present: set[str]) -> set[str]:
        """Deletes old names from the history, except those of the objects in `present`. Returns the deleted names."""
        oldest = _naive_utc(datetime.now(UTC) - MIN_HISTORY)
        with self._transaction() as cursor:
            old = cursor.execute("SELECT file_name FROM load_history WHERE last_load_time < ?", [oldest]).fetchall()
            gone = {row[0] for row in old} - present
            names = iter(gone)
            while part := list(islice(names, _DELETE_NAMES)):
                cursor.execute("DELETE FROM load_history WHERE file_name IN (SELECT unnest(?))", [part])
        return gone

    def _insert_rows(self, name: str, body: bytes, loaded_at: datetime) -> LoadResult | None:
        rows = 0
        with self._transaction() as cursor:
            if cursor.execute("SELECT 1 FROM load_history WHERE file_name = ?", [name]).fetchall():
                return None
            for lines in _line_chunks(body):
                cursor.execute(self._insert, [lines, name, rows, _naive_utc(loaded_at)])
                rows += lines.count("\n") + 1
            cursor.execute(_RECORD_LOAD, [name, _naive_utc(loaded_at), LOADED, rows, None])
            # loaded_at first: DuckDB keeps its range for each block, and reads only the last block.
            median = cursor.execute(self._median, [_naive_utc(loaded_at), name]).fetchall()[0][0]
        took = (datetime.now(UTC) - loaded_at).total_seconds()
        return LoadResult(name, rows, loaded_at, freshness_s=max(0.0, median + took) if median is not None else None)

    def _record_failure(self, name: str, loaded_at: datetime, error: str) -> LoadResult:
        with self._transaction() as cursor:
            cursor.execute(_RECORD_LOAD, [name, _naive_utc(loaded_at), FAILED, 0, error])
        return LoadResult(name, 0, loaded_at, error=error)

    @contextmanager
    def _transaction(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Commits at the end, rolls back on an error. Errors of the data stay DuckDB's, others are WarehouseError."""
        with self._warehouse.session() as cursor:
            try:
                cursor.execute("BEGIN")
                yield cursor
                cursor.execute("COMMIT")
            except (duckdb.DataError, duckdb.IntegrityError):
                raise
            except duckdb.Error as error:
                raise WarehouseError(f"cannot use the warehouse's file: {first_line(error)}") from error


class _BadFile(Exception):
    """The object is not a gzip file of JSON lines."""


_RECORD_LOAD = "INSERT INTO load_history VALUES (?, ?, ?, ?, ?)"
_LATEST_LOADS = """\
SELECT file_name, last_load_time, first_error_message FROM load_history
WHERE status = ? ORDER BY last_load_time DESC LIMIT ?"""


def _insert_statement(warehouse: Warehouse, columns: Iterable[Column]) -> str:
    """The INSERT of the lines $1 of file $2, the first of which is line $3 + 1, at the time $4."""
    columns = tuple(columns)
    event_columns = [column for column in columns if column.path]
    types = {column.name: warehouse.dialect.type(column.type) for column in event_columns}
    # Scalars are read as text and then cast: a value of another type is an error, as in Snowflake, and never NULL.
    json_shape = {
        column.path: types[column.name] if types[column.name] == "JSON" else "VARCHAR" for column in event_columns
    }
    values = {FILE_NAME: "$2", FILE_ROW_NUMBER: "number + $3", LOADED_AT: "$4"}
    for column in event_columns:
        path = column.path.replace('"', '""')
        values[column.name] = f'CAST(item."{path}" AS {types[column.name]})'
    names = ", ".join(duckdb_name(column.name) for column in columns)
    expressions = ", ".join(values[column.name] for column in columns)
    return f"""\
INSERT INTO {warehouse.table} ({names})
SELECT {expressions}
FROM (
    SELECT FROM_JSON(CAST(line AS JSON), {_literal(msgspec.json.encode(json_shape).decode())}) AS item, number
    FROM (
        SELECT UNNEST(lines) AS line, GENERATE_SUBSCRIPTS(lines, 1) AS number
        FROM (SELECT STRING_SPLIT($1, CHR(10)) AS lines)
    )
)"""  # noqa: S608 (names are checked or quoted)


def _literal(value: str) -> str:
    """Quotes a DuckDB string, in which a backslash is an ordinary character."""
    return "'" + value.replace("'", "''") + "'"


def _line_chunks(body: bytes) -> Iterator[str]:
    """Decompresses the lines of a gzip body in chunks, each without its last newline."""
    rest = b""
    try:
        with GzipFile(fileobj=io.BytesIO(body)) as file:
            while chunk := file.read(_CHUNK_BYTES):
                complete, newline, tail = chunk.rpartition(b"\n")
                if newline:
                    yield (rest + complete).decode()
                    rest = tail
                else:
                    rest += tail
                if len(rest) > _MAX_ROW_BYTES:
                    raise _BadFile(f"a row has more than {_MAX_ROW_BYTES} bytes")
        if rest:
            yield rest.decode()
    except (BadGzipFile, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise _BadFile(f"not a gzip file of JSON lines: {error}") from error


def _naive_utc(moment: datetime) -> datetime:
    """UTC without a time zone, as in the table."""
    return moment.astimezone(UTC).replace(tzinfo=None)
