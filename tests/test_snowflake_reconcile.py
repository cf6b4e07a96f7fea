"""Objects compared with a copy history in the documented form; none was recorded on a real account."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.config.model import SnowflakeConfig
from ingestd.snowflake import copy_history as history
from ingestd.snowflake.connection import StatementResult
from ingestd.snowflake.copy_history import CopiedFile, FileLoadState, key_of, load_states
from ingestd.snowflake.reconcile import (
    MAX_FILES,
    MAX_FINDINGS,
    NOTES,
    PROBLEMS,
    Object,
    ReconcileReport,
    Reconciliation,
    StageScope,
    judge,
    text,
)

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
SINCE = NOW - timedelta(days=14)
HOUR = timedelta(hours=1)
STAGE = StageScope(
    "DB.S.T", "DB.S.P", "some/where/", "events/", "COPY INTO DB.S.T (a)\nFROM (SELECT $1:a FROM @DB.S.ST)"
)
DAY = "events/year=2026/month=11/day=23/"


def load(key: str = "events/a", rows: int = 10, **changes: Any) -> CopiedFile:
    fields: dict[str, Any] = {
        "file_name": key.removeprefix("events/"), "stage_location": "s3://b/some/where/events/", "at": NOW,
        "rows": rows, "errors": 0, "error": None, "line": None, "status": "Loaded", "pipe": "P",
    }  # fmt: skip
    return CopiedFile(**{**fields, **changes})


def failed(key: str = "events/a", **changes: Any) -> CopiedFile:
    return load(key, 0, status="Load failed", error="too long", line=3, **changes)


def state_of(*loads: CopiedFile) -> FileLoadState:
    found = FileLoadState()
    for each in loads:
        found.add(each)
    return found


def item(key: str = "events/a", rows: int = 10, age: timedelta = 2 * HOUR) -> Object:
    return Object(key, rows, NOW - age)


def reconciled(objects: list[Object], loads: list[CopiedFile], counts: dict[str, int] | None = None) -> ReconcileReport:
    """`counts` are the rows in the table, for the keys that must be counted."""
    reconciliation = Reconciliation(load_states(loads, STAGE.root, STAGE.events), now=NOW, late_s=3600, since=SINCE)
    for each in objects:
        reconciliation.add(each)
    if counts is not None:
        reconciliation.apply_row_counts(counts)
    return reconciliation.report("s3://b/some/where", STAGE, complete=True)


@pytest.mark.parametrize(
    ("what", "loads", "kind"),
    [
        (item(), [load()], "loaded"),
        (item(), [], "missing"),
        (item(age=HOUR / 2), [], "pending"),
        (item(), [load(rows=0, status="Load in progress")], "pending"),
        (item(), [failed()], "failed"),
        (item(), [failed(), load(pipe=None)], "loaded"),
        (item(), [load(rows=4, status="Partially loaded")], "partial"),
        (item(), [load(rows=4)], "partial"),
        (item(), [load(), load(at=NOW - HOUR)], "twice"),
        (item(), [load(), load(rows=0, status="Load skipped")], "loaded"),
        (item(), [load(rows=0)], "partial"),
        (item(rows=0), [load(rows=0)], "loaded"),
        (item(rows=0), [], "empty"),
        (item(rows=0), [failed()], "failed"),
        (item(age=timedelta(days=20)), [], "unknown"),
    ],
)
def test_an_object_is_judged_by_the_history(what: Object, loads: list[CopiedFile], kind: str) -> None:
    assert judge(what, state_of(*loads) if loads else None, NOW, 3600, SINCE) == kind


@given(st.integers(0, 3), st.permutations([failed(at=NOW - HOUR), load(rows=4), load(rows=6, at=NOW - HOUR / 2)]))
def test_the_order_of_the_history_does_not_matter(cut: int, lines: list[CopiedFile]) -> None:
    assert state_of(*lines[cut:], *lines[:cut]) == state_of(*sorted(lines, key=lambda it: it.at))


@pytest.mark.parametrize(
    ("file", "location"),
    [
        ("year=2026/a", "s3://b/some/where/events/"),
        ("/year=2026/a", "s3://b/some/where/events"),
        ("some/where/events/year=2026/a", "s3://b/some/where/events/"),
        ("s3://b/some/where/events/year=2026/a", "s3://b/some/where/events/"),
        ("year=2026/a", "DB.S.ST"),
        ("year=2026/a", ""),
        ("where/events/year=2026/a", "s3://b/some/"),
        ("some/where/events/year=2026/a", "s3://b"),
    ],
)
def test_every_notation_of_a_file_gives_its_key(file: str, location: str) -> None:
    assert key_of(load(file_name=file, stage_location=location), "some/where/", "events/") == "events/year=2026/a"


def test_a_file_of_another_lineage_keeps_its_key() -> None:
    of_all = load(file_name="old/year=2026/a", stage_location="s3://b/events/")
    assert key_of(of_all, "", "events/new/") == "events/old/year=2026/a"


def test_everything_loaded_is_no_problem() -> None:
    report = reconciled([item("events/a"), item("events/b", 3)], [load("events/a"), load("events/b", 3)])
    assert (report.ok, report.counts, report.repairs) == (True, {}, [])
    assert (report.objects, report.rows, report.loaded_rows) == (2, 13, 13)
    assert text(report).endswith("Nothing wrong: 2 objects loaded.\n")


def test_missing_objects_are_refreshed_by_day() -> None:
    report = reconciled([item(f"{DAY}a"), item(f"{DAY}b"), item(f"{DAY}c")], [load(f"{DAY}b")])
    assert report.counts == {"missing": 2}
    assert report.repairs == ["ALTER PIPE DB.S.P REFRESH PREFIX = 'year=2026/month=11/day=23/';"]


def test_objects_too_old_for_a_refresh_are_copied_by_name() -> None:
    report = reconciled([item("events/a", age=timedelta(days=9))], [])
    assert report.repairs == [f"{STAGE.copy}\nFILES = ('a');"]


def test_a_failed_file_is_copied_by_name_and_its_error_is_shown() -> None:
    report = reconciled([item()], [failed()])
    assert report.repairs == [f"{STAGE.copy}\nFILES = ('a');"]
    assert "too long (line 3)" in text(report)
    assert not report.ok


@pytest.mark.parametrize("loads", [[load(), load(at=NOW - HOUR)], [load(rows=4)]])
def test_duplicate_or_partial_rows_are_replaced_in_one_transaction(loads: list[CopiedFile]) -> None:
    report = reconciled([item()], loads)
    [repair] = report.repairs
    delete = "DELETE FROM DB.S.T WHERE file_name IN ('some/where/events/a');"
    assert repair == f"BEGIN;\n{delete}\n{STAGE.copy}\nFILES = ('a')\nFORCE = TRUE;\nCOMMIT;"


def test_row_counts_of_the_table_override_the_history() -> None:
    twice = [load(), load(at=NOW - HOUR)]
    report = reconciled([item()], twice, {"events/a": 10})
    assert (report.ok, report.loaded_objects, report.loaded_rows, report.findings) == (True, 1, 10, [])
    assert reconciled([item()], twice, {"events/a": 20}).counts == {"twice": 1}
    assert reconciled([item()], twice, {}).counts == {"partial": 1}


def test_loaded_files_without_an_object_are_noted() -> None:
    report = reconciled([], [load("events/gone")])
    assert (report.ok, report.counts) == (True, {"no_object": 1})


def test_many_problems_are_counted_and_the_first_are_kept() -> None:
    report = reconciled([item(f"{DAY}{number}") for number in range(MAX_FINDINGS + 10)], [])
    assert report.counts == {"missing": MAX_FINDINGS + 10}
    assert len(report.findings) == MAX_FINDINGS
    assert "and 5,000 more; --json shows up to" in text(report)


def test_a_copy_has_at_most_the_allowed_number_of_files() -> None:
    objects = [item(f"events/{number}") for number in range(MAX_FILES + 1)]
    report = reconciled(objects, [failed(it.key) for it in objects])
    assert [repair.count("', '") + 1 for repair in report.repairs] == [MAX_FILES, 1]


def test_a_name_with_a_quote_cannot_leave_its_literal() -> None:
    report = reconciled([item("events/a'); DROP")], [failed("events/a'); DROP")])
    assert "FILES = ('a''); DROP')" in report.repairs[0]


def test_every_note_is_explained() -> None:
    report = reconciled([item(age=HOUR / 2), item("events/old", age=timedelta(days=20))], [])
    assert all(NOTES[kind] in text(report) for kind in report.counts)
    assert not PROBLEMS.keys() & NOTES.keys()


def test_no_objects_at_all_are_reported() -> None:
    assert "there are no objects" in text(reconciled([], []))


# -- the query of the copy history, and its answer

ANSWER = {
    "file_name": "year=2026/a.jsonl.gz", "stage_location": "s3://b/events/", "last_load_time": NOW, "row_count": 10,
    "row_parsed": 10, "error_count": 0, "first_error_message": None, "first_error_line_number": None,
    "status": "Loaded", "pipe_name": "P",
}  # fmt: skip


def answered(**changes: Any) -> list[CopiedFile]:
    row = {**ANSWER, **changes}
    return history.loads(StatementResult(tuple(row), [tuple(row.values())]))


def test_queries_cover_the_age_of_the_history_and_no_more() -> None:
    parts = history.slices(datetime(2020, 1, 1, tzinfo=UTC), NOW)
    assert parts[0][0] == NOW - timedelta(days=14) + timedelta(minutes=5)
    assert parts[-1][1] == NOW
    assert all(before[1] == after[0] for before, after in pairwise(parts))
    assert history.slices(NOW, NOW) == []


def test_the_statement_is_in_the_documented_form() -> None:
    sql = history.query(SnowflakeConfig(database="db", schema="s", table="t"), NOW - HOUR, NOW)
    assert "FROM TABLE(db.INFORMATION_SCHEMA.COPY_HISTORY(TABLE_NAME => 'DB.S.T'" in sql
    assert "START_TIME => '2026-11-23T11:00:00.000+00:00'::TIMESTAMP_LTZ" in sql
    assert "END_TIME => '2026-11-23T12:00:00.000+00:00'::TIMESTAMP_LTZ" in sql


def test_a_load_that_is_in_two_answers_counts_once() -> None:
    assert state_of(load(), load()).rows == 10


def test_too_many_loads_or_files_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "MAX_LINES", 1)
    with pytest.raises(ValueError, match="more than 1 loads"):
        answered()
    monkeypatch.setattr(history, "MAX_FILES", 1)
    with pytest.raises(ValueError, match="choose a shorter time range"):
        load_states([load("events/a"), load("events/b")], "", "events/")


def test_an_answer_is_parsed() -> None:
    [found] = answered()
    assert (found.rows, found.at, found.pipe, found.error) == (10, NOW, "P", None)
    [found] = answered(last_load_time=None, row_count=3, row_parsed=None, status="Load in progress")
    assert (found.in_progress, state_of(found).rows) == (True, 0)
    [found] = answered(row_count=None, pipe_name=None, last_load_time=NOW.replace(tzinfo=None), status="LOAD_FAILED")
    assert (found.rows, found.at, found.pipe, found.failed) == (0, NOW, None, True)


def test_an_answer_without_a_column_is_an_error() -> None:
    with pytest.raises(ValueError, match="lacks columns: status"):
        history.loads(StatementResult(tuple(name for name in ANSWER if name != "status"), []))
