"""COPY_HISTORY: the query, its rows, and the state of each file. Pure."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from ingestd.config.model import SnowflakeConfig
from ingestd.snowflake.connection import StatementResult
from ingestd.snowflake.table import object_name, qualified

HISTORY_AGE = timedelta(days=14)  # how far back COPY_HISTORY goes
REFRESH_AGE = timedelta(days=7)  # how far back ALTER PIPE ... REFRESH looks
SLICE = timedelta(days=1)
MAX_LINES = 500_000  # rows of one answer
MAX_FILES = 2_000_000  # tracked at once
_NOT_YET = datetime(9999, 12, 31, tzinfo=UTC)  # the time of a load in progress
_MARGIN = timedelta(minutes=5)  # for clock differences

_COLUMNS = (
    "file_name", "stage_location", "last_load_time", "row_count", "row_parsed", "error_count", "first_error_message",
    "first_error_line_number", "status", "pipe_name",
)  # fmt: skip


class CopiedFile(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the history: a file, and the outcome of one load."""

    file_name: str
    stage_location: str
    at: datetime  # UTC
    rows: int
    errors: int
    error: str | None
    line: int | None  # of the first error
    status: str
    pipe: str | None  # None: loaded by a COPY statement

    @property
    def failed(self) -> bool:
        return _normalized(self.status) == "load failed"

    @property
    def partial(self) -> bool:
        return _normalized(self.status) == "partially loaded"

    @property
    def in_progress(self) -> bool:
        return _normalized(self.status) == "load in progress"

    @property
    def skipped(self) -> bool:
        return _normalized(self.status) == "load skipped"


class FileLoadState(msgspec.Struct):
    """The outcome of all rows of one file."""

    loads: dict[tuple[datetime, str | None], int] = msgspec.field(
        default_factory=dict
    )  # rows by load: a load may be reported repeatedly
    failed: CopiedFile | None = None  # the last failure
    last: CopiedFile | None = None
    in_progress: bool = False

    @property
    def rows(self) -> int:
        return sum(self.loads.values())

    def add(self, load: CopiedFile) -> None:
        """Add one row of the history, in any order."""
        if load.skipped:
            return
        if not load.in_progress:
            self.loads[load.at, load.pipe] = load.rows
        if self.last is None or load.at >= self.last.at:
            self.last = load
            self.in_progress = load.in_progress
        if load.failed and (self.failed is None or load.at >= self.failed.at):
            self.failed = load


def slices(since: datetime, now: datetime) -> list[tuple[datetime, datetime]]:
    """Splits the time from `since` to `now`, limited to the age of the history, into one slice per query."""
    begin, found = max(since, now - HISTORY_AGE + _MARGIN), []
    while begin < now:
        end = min(begin + SLICE, now)
        found.append((begin, end))
        begin = end
    return found


def query(snowflake: SnowflakeConfig, start: datetime, end: datetime) -> str:
    """The statement for the loads from `start` to `end`, inclusive."""
    table = qualified(snowflake, snowflake.table).upper()
    times = f"START_TIME => {_time(start)}, END_TIME => {_time(end)}"
    arguments = f"TABLE_NAME => '{table}', {times}"
    function = f"{object_name(snowflake.database)}.INFORMATION_SCHEMA.COPY_HISTORY({arguments})"
    return f"SELECT {', '.join(_COLUMNS)} FROM TABLE({function}) LIMIT {MAX_LINES}"  # noqa: S608  checked names


def loads(result: StatementResult) -> list[CopiedFile]:
    """The rows of the answer. ValueError if it is malformed or truncated."""
    if len(result.rows) >= MAX_LINES:
        raise ValueError(f"COPY_HISTORY has more than {MAX_LINES:,} loads in one day: make the batches larger")
    missing = set(_COLUMNS) - set(result.columns)
    if missing:
        raise ValueError(f"COPY_HISTORY lacks columns: {', '.join(sorted(missing))}")
    return [_load(dict(zip(result.columns, row, strict=True))) for row in result.rows]


def _load(row: dict[str, Any]) -> CopiedFile:
    at = row["last_load_time"] or _NOT_YET
    return CopiedFile(
        file_name=str(row["file_name"]),
        stage_location=str(row["stage_location"] or ""),
        at=at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC),
        rows=int(row["row_count"] or 0),
        errors=int(row["error_count"] or 0),
        error=row["first_error_message"] or None,
        line=int(row["first_error_line_number"]) if row["first_error_line_number"] else None,
        status=str(row["status"]),
        pipe=row["pipe_name"] or None,
    )


def load_states(history: Iterable[CopiedFile], root: str, events: str) -> dict[str, FileLoadState]:
    """The state of each file by its key in the sink.

    `root` is the prefix of all keys of the sink in the bucket, `events` the stage's prefix in the sink; both end with
    "/" or are "".
    """
    found: dict[str, FileLoadState] = {}
    for load in history:
        if len(found) >= MAX_FILES:
            raise ValueError(f"the copy history has more than {MAX_FILES:,} files: choose a shorter time range")
        found.setdefault(key_of(load, root, events), FileLoadState()).add(load)
    return found


def key_of(load: CopiedFile, root: str, events: str) -> str:
    """The key in the sink. File names in the history are relative to the stage, or whole keys or URLs."""
    name = load.file_name.lstrip("/")
    if "://" in name:
        name = name.partition("://")[2].partition("/")[2]
    if name.startswith(root + events):
        return name.removeprefix(root)
    folder = root + events
    if "://" in load.stage_location:
        folder = load.stage_location.partition("://")[2].partition("/")[2].strip("/")
        folder = f"{folder}/" if folder else ""
    return (folder + name).removeprefix(root)


def _time(moment: datetime) -> str:
    return f"'{moment.astimezone(UTC).isoformat(timespec='milliseconds')}'::TIMESTAMP_LTZ"


def _normalized(status: str) -> str:
    return status.replace("_", " ").casefold()
