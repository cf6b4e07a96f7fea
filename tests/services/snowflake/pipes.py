"""A simulation of Snowpipe: small loops that load what they are told of, and answers in the form that is documented.

None of this is Snowflake's. SYSTEM$PIPE_STATUS, SHOW PIPES and COPY_HISTORY answer with the documented fields, filled
from what the loop does; no answer was recorded on a real account.
"""

import json
import re
import threading
from collections import deque
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import unquote_plus

from tests.services.snowflake import derived
from tests.services.snowflake.copy_json import listed
from tests.services.snowflake.integrations import Integrations

CHANNEL = "arn:aws:sqs:us-east-1:000000000000:{queue}"
_CREATE = re.compile(
    r"\s*CREATE\s+(?P<replace>OR\s+REPLACE\s+)?PIPE\s+(?P<exists>IF\s+NOT\s+EXISTS\s+)?(?P<name>[\w.$]+)"
    r"(?P<options>.*?)\bAS\s+(?P<copy>COPY\s+INTO\b.*)",
    re.IGNORECASE | re.DOTALL,
)
_ALTER = re.compile(r"\s*ALTER\s+PIPE\s+(?:IF\s+EXISTS\s+)?(?P<name>[\w.$]+)\s+(?P<rest>.*)", re.IGNORECASE | re.DOTALL)
_DROP = re.compile(r"\s*DROP\s+PIPE\s+(?:IF\s+EXISTS\s+)?(?P<name>[\w.$]+)", re.IGNORECASE)
_SHOW = re.compile(r"\s*SHOW\s+PIPES\b(?:\s+LIKE\s+'(?P<like>[^']*)')?", re.IGNORECASE)
_STATUS = re.compile(r"\s*SELECT\s+SYSTEM\$PIPE_STATUS\(\s*'(?P<name>[^']+)'\s*\)", re.IGNORECASE)
_HISTORY = re.compile(
    r"TABLE\(\s*(?:[\w$]+\.)?INFORMATION_SCHEMA\.COPY_HISTORY\(\s*TABLE_NAME\s*=>\s*'(?P<table>[^']+)'\s*,"
    r"\s*START_TIME\s*=>\s*'(?P<start>[^']+)'::TIMESTAMP_LTZ\s*,\s*END_TIME\s*=>\s*'(?P<end>[^']+)'::TIMESTAMP_LTZ\s*\)\s*\)",
    re.IGNORECASE,
)
#: Said yes to, and nothing done: the stand-in has no roles, no clouds and no clock of its own.
NOTHING = re.compile(
    r"\s*(GRANT|REVOKE|USE\s+(ROLE|WAREHOUSE|SECONDARY)|"
    r"CREATE\s+(OR\s+REPLACE\s+)?(ROLE|STORAGE\s+INTEGRATION|NOTIFICATION\s+INTEGRATION|WAREHOUSE)|"
    r"ALTER\s+(STORAGE\s+INTEGRATION|USER|WAREHOUSE|STAGE))\b",
    re.IGNORECASE,
)


class Load(NamedTuple):
    """A line of COPY_HISTORY."""

    file_name: str
    stage_location: str
    last_load_time: datetime
    row_count: int
    row_parsed: int | None
    file_size: int | None
    first_error_message: str | None
    first_error_line_number: int | None
    error_count: int
    status: str
    table: str  # qualified
    pipe_name: str | None


class Pipe:
    """One pipe. Like the original it never loads a name twice, whatever became of it."""

    def __init__(self, name: str, copy: str, place: tuple[str, str], stage_url: str) -> None:
        self.name = name
        self.copy = copy.rstrip().rstrip(";")
        self.place = place  # database and schema of the session that made it
        self.stage_url = stage_url
        self.paused = False
        self.names: set[str] = set()
        self.waiting: deque[tuple[str, datetime]] = deque()
        self.received: datetime | None = None
        self.ingested: tuple[str, datetime] | None = None
        self.failed_at: datetime | None = None

    def offer(self, path: str) -> bool:
        """Whether the path, relative to the stage, is new."""
        self.received = datetime.now(UTC)
        if path in self.names:
            return False
        self.names.add(path)
        self.waiting.append((path, self.received))
        return True

    def status(self) -> dict[str, object]:
        """In the form of SYSTEM$PIPE_STATUS."""
        document: dict[str, object] = {
            "executionState": "PAUSED" if self.paused else "RUNNING",
            "pendingFileCount": len(self.waiting),
            "notificationChannelName": CHANNEL.format(queue="snowpipe"),
            "numOutstandingMessagesOnChannel": 0,
        }
        if self.waiting:
            document |= {"oldestFileTimestamp": _iso(self.waiting[0][1]), "oldestPendingFilePath": self.waiting[0][0]}
        if self.received:
            document["lastReceivedMessageTimestamp"] = _iso(self.received)
        if self.ingested:
            document |= {"lastIngestedFilePath": self.ingested[0], "lastIngestedTimestamp": _iso(self.ingested[1])}
        if self.failed_at:
            document["lastPipeErrorTimestamp"] = _iso(self.failed_at)
        return document


class Pipes:
    """All pipes of a server, and the one history."""

    def __init__(self, snow: Any) -> None:
        self._snow = snow
        self._lock = threading.RLock()
        self.pipes: dict[str, Pipe] = {}
        self.integrations = Integrations()
        self.history: list[Load] = []

    # -- statements

    def answer(self, sql: str, place: tuple[str, str]) -> str | None:
        """Another statement that fakesnow can run in place of `sql`; None where it is to run `sql` itself."""
        for other in (self.integrations.answer(sql), derived.answer(sql, self._snow.duck_conn)):
            if other is not None:
                return other
        if NOTHING.match(sql):
            return _row({"status": "Statement executed successfully."})
        for pattern, method in (
            (_CREATE, self._create),
            (_ALTER, self._alter),
            (_DROP, self._drop),
            (_SHOW, self._show),
            (_STATUS, self._status),
        ):
            if match := pattern.match(sql):
                with self._lock:
                    return method(match, place)
        if _HISTORY.search(sql):
            return _HISTORY.sub(self._table, sql)
        return None

    def _create(self, match: re.Match[str], place: tuple[str, str]) -> str:
        name = _qualified(match["name"], place)
        if match["exists"] and name in self.pipes:
            return _row({"status": f"{name} already exists, statement succeeded."})
        stage = re.search(r"@([\w.$]+)", match["copy"])
        assert stage, "a pipe copies from a stage"
        self.pipes[name] = Pipe(name, match["copy"], place, self._stage_url(stage[1], place))
        return _row({"status": f"Pipe {name} successfully created."})

    def _alter(self, match: re.Match[str], place: tuple[str, str]) -> str:
        pipe, rest = self._pipe(match["name"], place), match["rest"].upper()
        if "PIPE_EXECUTION_PAUSED" in rest:
            pipe.paused = "TRUE" in rest
        elif rest.startswith("REFRESH"):
            prefix = re.search(r"PREFIX\s*=\s*'([^']*)'", match["rest"], re.IGNORECASE)
            return self._refresh(pipe, prefix[1] if prefix else "")
        return _row({"status": "Statement executed successfully."})

    def _refresh(self, pipe: Pipe, prefix: str) -> str:
        """Looks at the history of the table, too, as the original does."""
        loaded = {it.file_name for it in self.history if it.stage_location == pipe.stage_url}
        sent = []
        for url in listed(f"{pipe.stage_url}{prefix}"):
            path = url.removeprefix(pipe.stage_url)
            if path not in loaded and pipe.offer(path):
                sent.append(path)
        return _row({"file": ", ".join(sent), "status": "SENT"})

    def _drop(self, match: re.Match[str], place: tuple[str, str]) -> str:
        self.pipes.pop(_qualified(match["name"], place), None)
        return _row({"status": "dropped"})

    def _show(self, match: re.Match[str], _: tuple[str, str]) -> str:
        like = re.escape(match["like"] or "%").replace("%", ".*")
        rows = [
            {
                "created_on": "2026-01-01", "name": name.rpartition(".")[2], "database_name": name.split(".")[0],
                "schema_name": name.split(".")[1], "definition": pipe.copy, "owner": "SYSADMIN",
                "notification_channel": CHANNEL.format(queue="snowpipe"),
            }
            for name, pipe in self.pipes.items()
            if re.fullmatch(like, name.rpartition(".")[2], re.IGNORECASE)
        ]  # fmt: skip
        nobody = dict.fromkeys(("created_on", "name", "database_name", "schema_name", "definition", "owner",
                                "notification_channel"), "")  # fmt: skip
        return " UNION ALL ".join(map(_row, rows)) or f"{_row(nobody)} WHERE FALSE"

    def _status(self, match: re.Match[str], place: tuple[str, str]) -> str:
        pipe = self._pipe(match["name"], place)
        return _row({"status": json.dumps(pipe.status())})

    def _table(self, match: re.Match[str]) -> str:
        start, end = datetime.fromisoformat(match["start"]), datetime.fromisoformat(match["end"])
        with self._lock:
            of_table = [it for it in self.history if it.table == match["table"].upper()]
            loads = [it for it in of_table if start <= it.last_load_time <= end]
        rows = [_row(_fields(it)) for it in loads]
        nothing = Load("", "", start, 0, 0, 0, "", 0, 0, "", "", "")
        return f"({' UNION ALL '.join(rows) or _row(_fields(nothing)) + ' WHERE FALSE'})"

    def _pipe(self, name: str, place: tuple[str, str]) -> Pipe:
        name = _qualified(name, place)
        if name not in self.pipes:
            raise LookupError(f"Pipe '{name}' does not exist or not authorized.")
        return self.pipes[name]

    def _stage_url(self, name: str, place: tuple[str, str]) -> str:
        connection = self._snow.connect(*place)
        row = connection.cursor()._duck_conn.execute(
            "SELECT url FROM _fs_global._fs_information_schema._fs_stages "
            "WHERE concat_ws('.', database_name, schema_name, name) = ?",
            [_qualified(name, place)],
        ).fetchone()  # fmt: skip
        if row is None:
            raise LookupError(f"Stage '{name}' does not exist or not authorized.")
        return str(row[0]).rstrip("/") + "/"

    # -- files

    def notified(self, message: str) -> None:
        """A message of a bucket to a queue; keys are encoded as S3 does."""
        with self._lock:
            for record in json.loads(message).get("Records", []):
                bucket, key = record["s3"]["bucket"]["name"], unquote_plus(record["s3"]["object"]["key"])
                for pipe in self.pipes.values():
                    url = f"s3://{bucket}/{key}"
                    if url.startswith(pipe.stage_url):
                        pipe.offer(url.removeprefix(pipe.stage_url))

    def insert_files(self, name: str, paths: list[str]) -> bool:
        """The REST call; False where there is no such pipe. Its name is as the caller has written it."""
        with self._lock:
            if (pipe := self.pipes.get(name)) is None:
                return False
            for path in paths:
                pipe.offer(path)
        return True

    def load(self) -> bool:
        """Load one file of one pipe; False where nothing waits."""
        with self._lock:
            ready = [pipe for pipe in self.pipes.values() if pipe.waiting and not pipe.paused]
            if not ready:
                return False
            pipe = ready[0]
            path = pipe.waiting[0][0]
            # A pipe does not look at what COPY statements have loaded, hence FORCE.
            cursor = self._snow.connect(*pipe.place).cursor()
            try:
                cursor.execute(f"{pipe.copy} FILES = ('{path}') FORCE = TRUE")
                self.copied(cursor, pipe.copy, pipe.place, pipe)
            except Exception as error:  # noqa: BLE001 - whatever is wrong with the file: it is skipped, and told
                self._failed(pipe, path, str(error))
            pipe.ingested = path, datetime.now(UTC)
            pipe.waiting.popleft()
        return True

    def copied(self, cursor: Any, sql: str, place: tuple[str, str], pipe: Pipe | None = None) -> None:
        """Remember what a COPY has loaded."""
        stage = re.search(r"@([\w.$]+)", sql)
        table = re.search(r"COPY\s+INTO\s+([\w.$]+)", sql, re.IGNORECASE)
        if stage is None or table is None or "file" not in cursor._arrow_table.column_names:
            return
        url = self._stage_url(stage[1], place)
        with self._lock:
            for row in cursor._arrow_table.to_pylist():
                if row["status"] == "LOADED":
                    self.history.append(
                        Load(
                            file_name=row["file"].removeprefix(url),
                            stage_location=url,
                            last_load_time=datetime.now(UTC),
                            row_count=row["rows_loaded"],
                            row_parsed=row["rows_parsed"],
                            file_size=None,
                            first_error_message=None,
                            first_error_line_number=None,
                            error_count=0,
                            status="Loaded",
                            table=_qualified(table[1], place),
                            pipe_name=pipe.name.rpartition(".")[2] if pipe else None,
                        )
                    )

    def _failed(self, pipe: Pipe, path: str, why: str) -> None:
        pipe.failed_at = datetime.now(UTC)
        table = re.search(r"COPY\s+INTO\s+([\w.$]+)", pipe.copy, re.IGNORECASE)
        assert table
        self.history.append(
            Load(
                file_name=path,
                stage_location=pipe.stage_url,
                last_load_time=pipe.failed_at,
                row_count=0,
                row_parsed=0,
                file_size=None,
                first_error_message=" ".join(why.split())[:300],
                first_error_line_number=1,
                error_count=1,
                status="Load failed",
                table=_qualified(table[1], pipe.place),
                pipe_name=pipe.name.rpartition(".")[2],
            )
        )


def _qualified(name: str, place: tuple[str, str]) -> str:
    parts = name.upper().split(".")
    return ".".join([*place[: 3 - len(parts)], *parts])


def _fields(load: Load) -> dict[str, object]:
    database, schema, table = load.table.split(".") if load.table else ("", "", "")
    return {
        **{name: value for name, value in load._asdict().items() if name != "table"},
        "table_catalog_name": database,
        "table_schema_name": schema,
        "table_name": table,
    }


def _row(fields: dict[str, Any]) -> str:
    """A SELECT of one row."""
    return "SELECT " + ", ".join(f"{_literal(value)} AS {name}" for name, value in fields.items())


def _literal(value: object) -> str:
    match value:
        case None:
            return "NULL"
        case int():
            return str(value)
        case datetime():
            return f"'{value.isoformat()}'::TIMESTAMP_LTZ"
    text = str(value).replace("\\", "\\\\").replace("'", "''")
    return f"'{text}'"


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
