"""Loads an object into the warehouse: its rows and its name in one transaction, so that a crash leaves both or none.

As Snowpipe does by default: one row that does not fit costs the whole file, which is remembered and not tried again.
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
from ingestd.snowflake.table import FILE_NAME, FILE_ROW_NUMBER, LOADED_AT, Column, identifier

MEMORY = timedelta(days=14)  # how long a name is remembered at least

LOADED, FAILED = "LOADED", "LOAD_FAILED"

_PIECE = 8 << 20  # bytes of rows that are given to DuckDB at once
_MAX_ROW = 128 << 20  # bytes; the most that Snowflake takes
_FORGOTTEN = 1000  # names at once


class LoadedObject(msgspec.Struct, frozen=True):
    """What became of an object."""

    file: str
    rows: int
    loaded_at: datetime  # UTC
    error: str | None = None  # of its first bad row; then no row of it was loaded
    freshness: float | None = None  # seconds from the event to its commit, of the median row; None without rows


class History(msgspec.Struct, frozen=True):
    """What was loaded before."""

    names: set[str]
    files: int  # that were loaded
    rows: int  # of the table
    last: str | None
    last_loaded_at: datetime | None
    failed: list[tuple[str, str]]  # name and error, the latest last


class Loader:
    """Not to be shared by threads at the same time."""

    def __init__(self, warehouse: Warehouse, columns: tuple[Column, ...]) -> None:
        self._warehouse = warehouse
        self._insert = _insert(warehouse, columns)
        self._count = f"SELECT COUNT(*) FROM {warehouse.table}"  # noqa: S608 (a checked name, as below)
        self._median = (
            f"SELECT MEDIAN(EPOCH(loaded_at - event_timestamp)) FROM {warehouse.table} "  # noqa: S608
            "WHERE loaded_at = ? AND file_name = ?"
        )

    def history(self, failures: int) -> History:
        """All names, and the latest so many failures. WarehouseError where the file cannot be read."""
        with self._transaction() as cursor:
            names = {row[0] for row in cursor.execute("SELECT file_name FROM load_history").fetchall()}
            files = cursor.execute("SELECT COUNT(*) FROM load_history WHERE status = ?", [LOADED]).fetchall()[0][0]
            rows = cursor.execute(self._count).fetchall()[0][0]
            last = cursor.execute(_LATEST, [LOADED, 1]).fetchall()
            failed = cursor.execute(_LATEST, [FAILED, failures]).fetchall()
        return History(
            names,
            files,
            rows,
            last[0][0] if last else None,
            last[0][1].replace(tzinfo=UTC) if last else None,
            [(name, error) for name, _, error in reversed(failed)],
        )

    def load(self, name: str, body: bytes) -> LoadedObject | None:
        """Load a gzip body of JSON lines. None where the name is remembered. WarehouseError: nothing was done."""
        loaded_at = datetime.now(UTC)
        try:
            return self._loaded(name, body, loaded_at)
        except (duckdb.DataError, duckdb.IntegrityError, _BadFile) as error:
            return self._failed(name, loaded_at, first_line(error))

    def forget(self, present: set[str]) -> set[str]:
        """Forget old names, but those of objects that are still there. Returns them."""
        oldest = _wall(datetime.now(UTC) - MEMORY)
        with self._transaction() as cursor:
            old = cursor.execute("SELECT file_name FROM load_history WHERE last_load_time < ?", [oldest]).fetchall()
            gone = {row[0] for row in old} - present
            names = iter(gone)
            while some := list(islice(names, _FORGOTTEN)):
                cursor.execute("DELETE FROM load_history WHERE file_name IN (SELECT unnest(?))", [some])
        return gone

    def _loaded(self, name: str, body: bytes, loaded_at: datetime) -> LoadedObject | None:
        rows = 0
        with self._transaction() as cursor:
            if cursor.execute("SELECT 1 FROM load_history WHERE file_name = ?", [name]).fetchall():
                return None
            for lines in _pieces(body):
                cursor.execute(self._insert, [lines, name, rows, _wall(loaded_at)])
                rows += lines.count("\n") + 1
            cursor.execute(_REMEMBER, [name, _wall(loaded_at), LOADED, rows, None])
            # By the time first: DuckDB knows each block's least and greatest one, and reads only the last.
            median = cursor.execute(self._median, [_wall(loaded_at), name]).fetchall()[0][0]
        took = (datetime.now(UTC) - loaded_at).total_seconds()
        return LoadedObject(name, rows, loaded_at, freshness=max(0.0, median + took) if median is not None else None)

    def _failed(self, name: str, loaded_at: datetime, error: str) -> LoadedObject:
        with self._transaction() as cursor:
            cursor.execute(_REMEMBER, [name, _wall(loaded_at), FAILED, 0, error])
        return LoadedObject(name, 0, loaded_at, error=error)

    @contextmanager
    def _transaction(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Committed at the end; where it is not reached, nothing was done. Errors but of data as ours."""
        with self._warehouse.session() as cursor:
            try:
                cursor.execute("BEGIN")
                yield cursor
                cursor.execute("COMMIT")
            except (duckdb.DataError, duckdb.IntegrityError):
                raise
            except duckdb.Error as error:
                raise WarehouseError(f"the warehouse's file cannot be used: {first_line(error)}") from error


class _BadFile(Exception):
    """An object that is no gzip of JSON lines."""


_REMEMBER = "INSERT INTO load_history VALUES (?, ?, ?, ?, ?)"
_LATEST = """\
SELECT file_name, last_load_time, first_error_message FROM load_history
WHERE status = ? ORDER BY last_load_time DESC LIMIT ?"""


def _insert(warehouse: Warehouse, columns: Iterable[Column]) -> str:
    """INSERT of the lines $1 of file $2, whose first has number $3 + 1, at the time $4."""
    columns = tuple(columns)
    own = [column for column in columns if column.path]
    kinds = {column.name: warehouse.dialect.type(column.type) for column in own}
    # Every scalar as text first: what does not fit its column is then an error, as in Snowflake, and never NULL.
    shape = {column.path: kinds[column.name] if kinds[column.name] == "JSON" else "VARCHAR" for column in own}
    values = {FILE_NAME: "$2", FILE_ROW_NUMBER: "number + $3", LOADED_AT: "$4"}
    for column in own:
        path = column.path.replace('"', '""')
        values[column.name] = f'CAST(item."{path}" AS {kinds[column.name]})'
    names = ", ".join(identifier(column.name) for column in columns)
    listed = ", ".join(values[column.name] for column in columns)
    return f"""\
INSERT INTO {warehouse.table} ({names})
SELECT {listed}
FROM (
    SELECT FROM_JSON(CAST(line AS JSON), {_text(msgspec.json.encode(shape).decode())}) AS item, number
    FROM (
        SELECT UNNEST(lines) AS line, GENERATE_SUBSCRIPTS(lines, 1) AS number
        FROM (SELECT STRING_SPLIT($1, CHR(10)) AS lines)
    )
)"""  # noqa: S608 (names are checked or quoted)


def _text(value: str) -> str:
    """DuckDB's literal; a backslash stands for itself there."""
    return "'" + value.replace("'", "''") + "'"


def _pieces(body: bytes) -> Iterator[str]:
    """The lines of a gzip body, many at once, without the last one's end."""
    rest = b""
    try:
        with GzipFile(fileobj=io.BytesIO(body)) as file:
            while piece := file.read(_PIECE):
                whole, end, tail = piece.rpartition(b"\n")
                if end:
                    yield (rest + whole).decode()
                    rest = tail
                else:
                    rest += tail
                if len(rest) > _MAX_ROW:
                    raise _BadFile(f"a row has more than {_MAX_ROW} bytes")
        if rest:
            yield rest.decode()
    except (BadGzipFile, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise _BadFile(f"it is no gzip file of JSON lines: {error}") from error


def _wall(moment: datetime) -> datetime:
    """UTC without saying so, as the table has it."""
    return moment.astimezone(UTC).replace(tzinfo=None)
