"""Objects against a history in the documented form: none of it was recorded on a real account."""

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
    MAX_KEPT,
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


def fate(*loads: CopiedFile) -> FileLoadState:
    found = FileLoadState()
    for each in loads:
        found.add(each)
    return found


def thing(key: str = "events/a", rows: int = 10, age: timedelta = 2 * HOUR) -> Object:
    return Object(key, rows, NOW - age)


def reconciled(objects: list[Object], loads: list[CopiedFile], counts: dict[str, int] | None = None) -> ReconcileReport:
    """`counts` are rows in the table, of those that the history cannot tell of."""
    work = Reconciliation(load_states(loads, STAGE.root, STAGE.events), now=NOW, late_s=3600, since=SINCE)
    for each in objects:
        work.take(each)
    if counts is not None:
        work.settle(counts)
    return work.report("s3://b/some/where", STAGE, strangers=True)


@pytest.mark.parametrize(
    ("what", "loads", "kind"),
    [
        (thing(), [load()], "loaded"),
        (thing(), [], "missing"),
        (thing(age=HOUR / 2), [], "pending"),
        (thing(), [load(rows=0, status="Load in progress")], "pending"),
        (thing(), [failed()], "failed"),
        (thing(), [failed(), load(pipe=None)], "loaded"),
        (thing(), [load(rows=4, status="Partially loaded")], "partial"),
        (thing(), [load(rows=4)], "partial"),
        (thing(), [load(), load(at=NOW - HOUR)], "twice"),
        (thing(), [load(), load(rows=0, status="Load skipped")], "loaded"),
        (thing(), [load(rows=0)], "partial"),
        (thing(rows=0), [load(rows=0)], "loaded"),
        (thing(rows=0), [], "empty"),
        (thing(rows=0), [failed()], "failed"),
        (thing(age=timedelta(days=20)), [], "unknown"),
    ],
)
def test_an_object_is_what_the_history_says_of_it(what: Object, loads: list[CopiedFile], kind: str) -> None:
    assert judge(what, fate(*loads) if loads else None, NOW, 3600, SINCE) == kind


@given(st.integers(0, 3), st.permutations([failed(at=NOW - HOUR), load(rows=4), load(rows=6, at=NOW - HOUR / 2)]))
def test_the_order_of_the_lines_says_nothing(cut: int, lines: list[CopiedFile]) -> None:
    assert fate(*lines[cut:], *lines[:cut]) == fate(*sorted(lines, key=lambda it: it.at))


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
def test_a_file_of_the_history_is_found_by_its_key_however_it_is_written(file: str, location: str) -> None:
    assert key_of(load(file_name=file, stage_location=location), "some/where/", "events/") == "events/year=2026/a"


def test_a_file_of_another_lineage_is_not_taken_for_ours() -> None:
    of_all = load(file_name="old/year=2026/a", stage_location="s3://b/events/")
    assert key_of(of_all, "", "events/new/") == "events/old/year=2026/a"


def test_everything_loaded_is_no_problem() -> None:
    report = reconciled([thing("events/a"), thing("events/b", 3)], [load("events/a"), load("events/b", 3)])
    assert (report.ok, report.counts, report.repairs) == (True, {}, [])
    assert (report.objects, report.rows, report.loaded_rows) == (2, 13, 13)
    assert text(report).endswith("Nothing wrong: 2 objects loaded.\n")


def test_what_is_missing_is_refreshed_by_its_day() -> None:
    report = reconciled([thing(f"{DAY}a"), thing(f"{DAY}b"), thing(f"{DAY}c")], [load(f"{DAY}b")])
    assert report.counts == {"missing": 2}
    assert report.repairs == ["ALTER PIPE DB.S.P REFRESH PREFIX = 'year=2026/month=11/day=23/';"]


def test_what_a_refresh_would_not_look_at_is_copied_by_name() -> None:
    report = reconciled([thing("events/a", age=timedelta(days=9))], [])
    assert report.repairs == [f"{STAGE.copy}\nFILES = ('a');"]


def test_a_failed_file_is_copied_by_name_and_its_error_is_shown() -> None:
    report = reconciled([thing()], [failed()])
    assert report.repairs == [f"{STAGE.copy}\nFILES = ('a');"]
    assert "too long (line 3)" in text(report)
    assert not report.ok


@pytest.mark.parametrize("loads", [[load(), load(at=NOW - HOUR)], [load(rows=4)]])
def test_rows_that_are_too_many_or_too_few_are_replaced_in_one_transaction(loads: list[CopiedFile]) -> None:
    report = reconciled([thing()], loads)
    [repair] = report.repairs
    delete = "DELETE FROM DB.S.T WHERE file_name IN ('some/where/events/a');"
    assert repair == f"BEGIN;\n{delete}\n{STAGE.copy}\nFILES = ('a')\nFORCE = TRUE;\nCOMMIT;"


def test_the_table_has_the_last_word_on_what_was_repaired() -> None:
    twice = [load(), load(at=NOW - HOUR)]
    report = reconciled([thing()], twice, {"events/a": 10})
    assert (report.ok, report.loaded_objects, report.loaded_rows, report.findings) == (True, 1, 10, [])
    assert reconciled([thing()], twice, {"events/a": 20}).counts == {"twice": 1}
    assert reconciled([thing()], twice, {}).counts == {"partial": 1}


def test_files_that_are_no_objects_are_noted() -> None:
    report = reconciled([], [load("events/gone")])
    assert (report.ok, report.counts) == (True, {"no_object": 1})


def test_many_problems_are_counted_and_the_first_are_kept() -> None:
    report = reconciled([thing(f"{DAY}{number}") for number in range(MAX_KEPT + 10)], [])
    assert report.counts == {"missing": MAX_KEPT + 10}
    assert len(report.findings) == MAX_KEPT
    assert "and 5,000 more (--json has more of them)" in text(report)


def test_a_copy_names_no_more_files_than_it_may() -> None:
    objects = [thing(f"events/{number}") for number in range(MAX_FILES + 1)]
    report = reconciled(objects, [failed(it.key) for it in objects])
    assert [repair.count("', '") + 1 for repair in report.repairs] == [MAX_FILES, 1]


def test_a_name_with_a_quote_cannot_leave_its_literal() -> None:
    report = reconciled([thing("events/a'); DROP")], [failed("events/a'); DROP")])
    assert "FILES = ('a''); DROP')" in report.repairs[0]


def test_what_is_found_has_words() -> None:
    report = reconciled([thing(age=HOUR / 2), thing("events/old", age=timedelta(days=20))], [])
    assert all(NOTES[kind] in text(report) for kind in report.counts)
    assert not PROBLEMS.keys() & NOTES.keys()


def test_nothing_at_all_is_said_to_be_nothing() -> None:
    assert "there is no object" in text(reconciled([], []))


# -- how Snowflake is asked, and its answer

ANSWER = {
    "file_name": "year=2026/a.jsonl.gz", "stage_location": "s3://b/events/", "last_load_time": NOW, "row_count": 10,
    "row_parsed": 10, "error_count": 0, "first_error_message": None, "first_error_line_number": None,
    "status": "Loaded", "pipe_name": "P",
}  # fmt: skip


def answered(**changes: Any) -> list[CopiedFile]:
    row = {**ANSWER, **changes}
    return history.loads(StatementResult(tuple(row), [tuple(row.values())]))


def test_the_history_is_asked_for_as_far_back_as_it_goes_and_no_further() -> None:
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


def test_a_line_that_lies_between_two_answers_counts_once() -> None:
    assert fate(load(), load()).rows == 10


def test_more_than_can_be_held_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "MAX_LINES", 1)
    with pytest.raises(ValueError, match="more than 1 files"):
        answered()
    monkeypatch.setattr(history, "MAX_FILES", 1)
    with pytest.raises(ValueError, match="look at less"):
        load_states([load("events/a"), load("events/b")], "", "events/")


def test_an_answer_is_read() -> None:
    [found] = answered()
    assert (found.rows, found.at, found.pipe, found.error) == (10, NOW, "P", None)
    [found] = answered(last_load_time=None, row_count=3, row_parsed=None, status="Load in progress")
    assert (found.in_progress, fate(found).rows) == (True, 0)
    [found] = answered(row_count=None, pipe_name=None, last_load_time=NOW.replace(tzinfo=None), status="LOAD_FAILED")
    assert (found.rows, found.at, found.pipe, found.failed) == (0, NOW, None, True)


def test_an_answer_without_a_column_is_said() -> None:
    with pytest.raises(ValueError, match="has no status"):
        history.loads(StatementResult(tuple(name for name in ANSWER if name != "status"), []))
