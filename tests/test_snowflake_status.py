"""The status of a pipe, from answers in the documented form; none was recorded on a real account."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ingestd.snowflake.copy_history import CopiedFile
from ingestd.snowflake.pipe_status import MAX_FAILED, STATES, PipeReport, judge, parse, query, text

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
#: The fields of Snowflake's documentation, with values as it describes them.
DOCUMENTED = {
    "executionState": "RUNNING",
    "oldestFileTimestamp": "2026-11-23T11:58:00.123Z",
    "oldestPendingFilePath": "year=2026/month=11/day=23/t+00000+00000000000000000007.jsonl.gz",
    "pendingFileCount": 2,
    "lastPipeErrorTimestamp": "2026-11-22T08:00:00Z",
    "lastPipeFaultTimestamp": "2026-11-22T08:00:00Z",
    "lastIngestedTimestamp": "2026-11-23T11:59:01.5Z",
    "lastIngestedFilePath": "year=2026/month=11/day=23/t+00000+00000000000000000003.jsonl.gz",
    "notificationChannelName": "arn:aws:sqs:eu-central-1:123456789012:sf-snowpipe-AAAA",
    "numOutstandingMessagesOnChannel": 3,
    "lastReceivedMessageTimestamp": "2026-11-23T11:59:02.000Z",
    "lastForwardedMessageTimestamp": "2026-11-23T11:59:03.000Z",
    "error": None,
    "fault": None,
    "lastPulledFromChannelTimestamp": "2026-11-23T11:59:59.000Z",
    "lastForwardedFilePath": "s3://b/events/year=2026/month=11/day=23/t+00000+00000000000000000003.jsonl.gz",
    "loadHistoryRemainingEntriesToSync": 0,
}


def load(**changes: Any) -> CopiedFile:
    fields: dict[str, Any] = {
        "file_name": "year=2026/a.jsonl.gz", "stage_location": "s3://b/events/", "at": NOW - timedelta(hours=1),
        "rows": 10, "errors": 0, "error": None, "line": None, "status": "Loaded", "pipe": "P",
    }  # fmt: skip
    return CopiedFile(**{**fields, **changes})


def report(loads: list[CopiedFile] | None = None, **changes: Any) -> PipeReport:
    return judge("DB.S.P", parse(json.dumps({**DOCUMENTED, **changes})), loads or [], NOW)


def test_a_running_pipe_with_fresh_files_is_healthy() -> None:
    found = report([load(), load(rows=5)])
    assert found.problems == []
    assert (found.loaded_files, found.loaded_rows) == (2, 15)
    assert text(found).endswith("Healthy.\n")


def test_only_the_state_is_required() -> None:
    found = judge("DB.S.P", parse('{"executionState":"RUNNING","pendingFileCount":0}'), [], NOW)
    assert found.problems == []
    assert "pending  none" in text(found)


@pytest.mark.parametrize("state", [state for state in STATES if state != "RUNNING"])
def test_each_state_other_than_running_is_a_problem_with_its_meaning(state: str) -> None:
    [problem] = report(executionState=state).problems
    assert state in problem
    assert STATES[state] in problem


def test_an_unknown_state_is_shown() -> None:
    found = report(executionState="STALLED_BY_MOONLIGHT")
    assert "STALLED_BY_MOONLIGHT" in found.problems[0]
    assert "STALLED_BY_MOONLIGHT" in text(found)


@pytest.mark.parametrize("name", ["error", "fault"])
def test_an_error_of_the_pipe_is_a_problem(name: str) -> None:
    changes: dict[str, Any] = {name: "may not read"}
    assert report(**changes).problems == [f"{name}: may not read"]


def test_a_long_pending_file_is_a_problem() -> None:
    [problem] = report(oldestFileTimestamp="2026-11-23T11:00:00Z").problems
    assert "2026-11-23 11:00:00" in problem
    assert str(DOCUMENTED["oldestPendingFilePath"]) in problem


def test_a_file_that_failed_is_a_problem_with_its_name_and_first_error() -> None:
    bad = load(rows=0, status="Load failed", error="String 'x' is too long", line=7, file_name="year=2026/bad.gz")
    found = report([load(), bad])
    assert "1 file failed in the last day" in found.problems[0]
    for word in ("year=2026/bad.gz", "String 'x' is too long", "line 7"):
        assert word in text(found)
    assert (found.loaded_files, found.loaded_rows) == (1, 10)


def test_many_failed_files_are_counted_and_the_first_are_listed() -> None:
    found = report([load(status="Load failed", rows=0)] * (MAX_FAILED + 5))
    assert len(found.failed) == MAX_FAILED
    assert f"{MAX_FAILED + 5} files" in found.problems[0]


def test_control_characters_are_removed() -> None:
    assert "\x1b" not in text(report([load(status="Load failed", file_name="a\x1b[2J")], error="b\x1b[2J"))


@pytest.mark.parametrize("answer", ["", "nothing", "[]", '{"pendingFileCount": 0}', '{"executionState": 1}'])
def test_a_malformed_answer_is_an_error(answer: str) -> None:
    with pytest.raises(ValueError, match="cannot parse the pipe's status"):
        parse(answer)


def test_the_query_has_the_qualified_name() -> None:
    assert query("DB.S.P") == "SELECT SYSTEM$PIPE_STATUS('DB.S.P')"
