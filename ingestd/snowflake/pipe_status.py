"""The pipe's health: SYSTEM$PIPE_STATUS parsed and judged. Pure."""

from datetime import datetime, timedelta
from typing import Any

import msgspec

from ingestd.core.formatting import clean, number
from ingestd.snowflake.copy_history import CopiedFile

PENDING_MAX = timedelta(minutes=10)  # a file that waits longer is a problem; a minute is normal
MAX_FAILED = 20  # files that are listed

#: What each state means, and what to do. Unknown states are shown without an explanation.
STATES: dict[str, str] = {
    "RUNNING": "it loads the files that it is notified of",
    "PAUSED": "it was paused, or its owner changed: ALTER PIPE ... SET PIPE_EXECUTION_PAUSED = FALSE, and "
    "after a change of owner SELECT SYSTEM$PIPE_FORCE_RESUME",
    "PAUSED_BY_ACCOUNT_ADMIN": "an administrator of the account paused it: ask them to resume it",
    "PAUSED_BY_SNOWFLAKE_ADMIN": "Snowflake paused it: contact Snowflake's support",
    "READ_ONLY": "the pipe or its table is in a read-only secondary database",
    "FAILING_OVER": "it is moving from the primary to the secondary account: wait",
    "STOPPED_BY_SNOWFLAKE_ADMIN": "Snowflake stopped it: contact Snowflake's support",
    "STOPPED_CLONED": "it is a clone: give it its own queue, or resume it with SYSTEM$PIPE_FORCE_RESUME",
    "STOPPED_FEATURE_DISABLED": "Snowpipe is disabled for the account: contact Snowflake's support",
    "STOPPED_FILE_FORMAT_DROPPED": "its file format was dropped: create it again (`ingestd snowflake apply`)",
    "STOPPED_MISSING_PIPE": "the pipe was dropped: create it again (`ingestd snowflake apply`)",
    "STOPPED_MISSING_TABLE": "its table was dropped: create it again (`ingestd snowflake apply`)",
    "STOPPED_NOTIFICATION_INTEGRATION_DROPPED": "its notification integration was dropped: create it again",
    "STOPPED_STAGE_ALTERED": "its stage was changed: create the pipe again",
    "STOPPED_STAGE_DROPPED": "its stage was dropped: create it again (`ingestd snowflake apply`)",
    "STOPPED_STORAGE_INTEGRATION_DROPPED": "its storage integration was dropped: create it again, with its "
    "trust policy",
    "STALLED_COMPILATION_ERROR": "its COPY no longer compiles: see the error, then create the pipe again",
    "STALLED_EXECUTION_ERROR": "its COPY fails: see the error; often a missing grant, or no access to the bucket",
    "STALLED_INITIALIZATION_ERROR": "it did not start: see the error",
    "STALLED_INTERNAL_ERROR": "Snowflake has an internal error: contact Snowflake's support",
    "STALLED_STAGE_PERMISSION_ERROR": "it has no access to the bucket: check the storage integration's role, "
    "trust policy and external id",
}


class PipeStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The document; every field but the state is optional."""

    execution_state: str
    pending_file_count: int = 0
    oldest_file_timestamp: datetime | None = None
    oldest_pending_file_path: str | None = None
    last_ingested_timestamp: datetime | None = None
    last_ingested_file_path: str | None = None
    last_received_message_timestamp: datetime | None = None
    last_forwarded_message_timestamp: datetime | None = None
    last_pipe_error_timestamp: datetime | None = None
    last_pipe_fault_timestamp: datetime | None = None
    num_outstanding_messages_on_channel: int = 0
    notification_channel_name: str | None = None
    error: Any = None
    fault: Any = None


class PipeReport(msgspec.Struct, frozen=True, kw_only=True):
    """The report of `status`. `problems` is empty if the pipe is healthy."""

    pipe: str
    at: datetime
    state: str
    problems: list[str]
    status: PipeStatus
    loaded_files: int  # of the last day, like the next three
    loaded_rows: int
    last_load: datetime | None
    failed: list[CopiedFile]


def query(pipe: str) -> str:
    """The statement for the status. `pipe` is a qualified name."""
    return f"SELECT SYSTEM$PIPE_STATUS('{pipe}')"


def parse(document: str) -> PipeStatus:
    """Parse the answer. Raises ValueError if it is malformed."""
    try:
        return msgspec.json.decode(document, type=PipeStatus, strict=False)
    except msgspec.MsgspecError as error:
        raise ValueError(f"cannot parse the pipe's status: {error}") from None


def judge(pipe: str, status: PipeStatus, loads: list[CopiedFile], now: datetime) -> PipeReport:
    """Make the report. `loads` are those of the last day."""
    good = [load for load in loads if load.rows and not load.failed]
    failed = [load for load in loads if load.failed or load.partial]
    return PipeReport(
        pipe=pipe,
        at=now,
        state=status.execution_state,
        problems=list(_problems(status, failed, now)),
        status=status,
        loaded_files=sum(not load.failed for load in loads),
        loaded_rows=sum(load.rows for load in loads),
        last_load=max((load.at for load in good), default=None),
        failed=failed[:MAX_FAILED],
    )


def _problems(status: PipeStatus, failed: list[CopiedFile], now: datetime) -> list[str]:
    found = []
    if status.execution_state != "RUNNING":
        meaning = STATES.get(status.execution_state, "see Snowflake's documentation of SYSTEM$PIPE_STATUS")
        found.append(f"the pipe is not running: {status.execution_state}: {meaning}")
    found += [f"{name}: {text}" for name, text in (("error", status.error), ("fault", status.fault)) if text]
    oldest = status.oldest_file_timestamp
    if oldest is not None and status.pending_file_count and now - oldest > PENDING_MAX:
        found.append(f"a file has been pending since {_time(oldest)}: {status.oldest_pending_file_path or ''}")
    if failed:
        text = f"{number(len(failed), 'file')} failed in the last day, and Snowpipe does not retry them"
        found.append(f"{text}: `ingestd snowflake reconcile` prints the statements that repair them")
    return found


def text(report: PipeReport) -> str:
    """The report as text; the last line is the verdict."""
    status = report.status
    lines = [f"{report.pipe} at {_time(report.at)}", ""]
    facts = [("state", f"{report.state}: {STATES.get(report.state, 'unknown state')}")]
    pending = number(status.pending_file_count, "file") if status.pending_file_count else "none"
    if status.oldest_file_timestamp and status.pending_file_count:
        pending += f", the oldest since {_time(status.oldest_file_timestamp)}: {status.oldest_pending_file_path or '?'}"
    facts.append(("pending", pending))
    facts.append(
        ("loaded", f"{number(report.loaded_files, 'file')} with {number(report.loaded_rows, 'row')} in the last day")
    )
    if status.last_ingested_timestamp:
        facts.append(("last", f"{_time(status.last_ingested_timestamp)}: {status.last_ingested_file_path or '?'}"))
    if status.last_received_message_timestamp:
        facts.append(("notified", f"last at {_time(status.last_received_message_timestamp)}"))
    if status.num_outstanding_messages_on_channel:
        facts.append(("queue", number(status.num_outstanding_messages_on_channel, "message") + " unread"))
    lines += [f"  {label:9}{clean(fact)}" for label, fact in facts]
    for load in report.failed:
        lines.append(f"  {'failed':9}{_time(load.at)}: {clean(load.file_name)}")
        lines.append(f"  {'':9}{clean(load.error or load.status)}" + (f" (line {load.line})" if load.line else ""))
    verdict = [f"Unhealthy: {clean(problem)}." for problem in report.problems] or ["Healthy."]
    return "\n".join([*lines, "", *verdict]) + "\n"


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S")
