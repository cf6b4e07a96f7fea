"""Compares objects with loads: missing, late, partial, failed or duplicate ones, and their repair. Pure."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import NamedTuple

import msgspec

from ingestd.core.formatting import clean, number
from ingestd.snowflake.copy_history import REFRESH_AGE, FileLoadState
from ingestd.snowflake.table import FILE_NAME, literal

MAX_FINDINGS = 5000  # findings in the report; further ones are only counted
MAX_EXAMPLES = 10  # examples of one kind in the text
MAX_FILES = 1000  # in FILES of one COPY

#: What is wrong with an object, and what to do.
PROBLEMS: dict[str, str] = {
    "missing": "Snowflake was never notified of it: the notification was lost or is not set up, or the pipe did not "
    "exist. The statement makes the pipe load it.",
    "failed": "Its load failed, and Snowpipe does not retry a failed file. Fix the cause of the error, then run the "
    "statement.",
    "partial": "Only some of its rows were loaded. The statements replace them with all rows, in one transaction.",
    "twice": "It was loaded more than once, so the table has its rows more than once: the pipe was created again, or a "
    "COPY was run by hand. The statements replace them with one copy of each row, in one transaction.",
}
#: Kinds that are reported but are not problems.
NOTES: dict[str, str] = {
    "pending": "Landed recently and not loaded yet.",
    "empty": "Objects without rows that the copy history does not list: there is nothing to load.",
    "unknown": "Landed before the start of the copy history, which covers 14 days: not known whether they were loaded.",
    "no_object": "Files that were loaded but are not in this sink now.",
}


class Object(NamedTuple):
    """A data object: its key in the sink, its rows, and when it landed."""

    key: str
    rows: int
    landed_at: datetime


class ReconcileFinding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One object that is not loaded once and completely."""

    kind: str
    key: str
    rows: int
    landed_at: datetime
    loaded: int = 0
    error: str | None = None
    line: int | None = None


class ReconcileReport(msgspec.Struct, frozen=True, kw_only=True):
    """The report of `reconcile`. `ok` if nothing is wrong."""

    sink: str
    table: str
    ok: bool
    objects: int
    rows: int
    loaded_objects: int
    loaded_rows: int  # of these objects; duplicates count twice
    counts: dict[str, int]  # problems and notes
    findings: list[ReconcileFinding]
    repairs: list[str]


class StageScope(NamedTuple):
    """Names for the statements. `root` and `events` as in ``load_states``; `copy` is the pipe's COPY without files."""

    table: str
    pipe: str
    root: str
    events: str
    copy: str


def judge(item: Object, state: FileLoadState | None, now: datetime, late_s: float, since: datetime) -> str:
    """``loaded``, or a key of PROBLEMS or NOTES. `since` is the start of the history."""
    if state is None:
        return _judge_unlisted(item, now, late_s, since)
    if state.rows > item.rows:
        return "twice"
    if state.rows == item.rows and (item.rows or not state.failed):
        return "loaded"
    if state.in_progress:
        return "pending"
    return "failed" if state.failed and not state.rows else "partial"


def _judge_unlisted(item: Object, now: datetime, late_s: float, since: datetime) -> str:
    if not item.rows:
        return "empty"
    if item.landed_at < since:
        return "unknown"
    return "missing" if (now - item.landed_at).total_seconds() > late_s else "pending"


class Reconciliation:
    """Judges objects one by one and keeps those that have a problem."""

    def __init__(self, states: dict[str, FileLoadState], *, now: datetime, late_s: float, since: datetime) -> None:
        """`states` by key; each is removed when its object is added."""
        self._states = states
        self._now = now
        self._late_s = late_s
        self._since = since
        self._totals: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        self._findings: list[ReconcileFinding] = []

    def add(self, item: Object) -> str:
        """Judge one object."""
        state = self._states.pop(item.key, None)
        kind = judge(item, state, self._now, self._late_s, self._since)
        loaded = state.rows if state else 0
        self._totals.update(objects=1, rows=item.rows, loaded_objects=kind == "loaded", loaded_rows=loaded)
        if kind == "loaded":
            return kind
        self._counts[kind] += 1
        if kind in PROBLEMS and len(self._findings) < MAX_FINDINGS:
            error = state.failed if state else None
            self._findings.append(
                ReconcileFinding(
                    kind=kind,
                    key=item.key,
                    rows=item.rows,
                    landed_at=item.landed_at,
                    loaded=loaded,
                    error=error.error if error else None,
                    line=error.line if error else None,
                )
            )
        return kind

    def keys_to_count(self) -> list[str]:
        """Keys whose rows must be counted in the table: the history still lists loads whose rows a repair deleted."""
        return [it.key for it in self._findings if it.kind in {"partial", "twice"}]

    def apply_row_counts(self, counts: Mapping[str, int]) -> None:
        """Apply the number of rows in the table, for each of `keys_to_count`; an absent key has no rows."""
        kept = []
        for finding in self._findings:
            if finding.kind not in {"partial", "twice"}:
                kept.append(finding)
                continue
            there = counts.get(finding.key, 0)
            self._counts[finding.kind] -= 1
            self._totals["loaded_rows"] += there - finding.loaded
            if there == finding.rows:
                self._totals["loaded_objects"] += 1
                continue
            kind = "twice" if there > finding.rows else "partial"
            self._counts[kind] += 1
            kept.append(msgspec.structs.replace(finding, kind=kind, loaded=there))
        self._findings = kept

    def report(self, sink: str, stage: StageScope, *, complete: bool) -> ReconcileReport:
        """The report, after the last object. If `complete`, loaded files without an object are counted."""
        without_object = sum(state.rows > 0 for state in self._states.values())
        if complete and without_object:
            self._counts["no_object"] = without_object
        return ReconcileReport(
            sink=sink,
            table=stage.table,
            ok=not any(self._counts[kind] for kind in PROBLEMS),
            objects=self._totals["objects"],
            rows=self._totals["rows"],
            loaded_objects=self._totals["loaded_objects"],
            loaded_rows=self._totals["loaded_rows"],
            counts={kind: self._counts[kind] for kind in (*PROBLEMS, *NOTES) if self._counts[kind]},
            findings=self._findings,
            repairs=list(repairs(self._findings, stage, self._now)),
        )


def repairs(findings: Sequence[ReconcileFinding], stage: StageScope, now: datetime) -> Iterator[str]:
    """The statements that repair all findings, in the order to run them."""
    oldest = now - REFRESH_AGE
    missing = [it.key for it in findings if it.kind == "missing" and it.landed_at > oldest]
    for folder, _ in groupby(sorted(missing), lambda key: key.rpartition("/")[0] + "/"):
        yield f"ALTER PIPE {stage.pipe} REFRESH PREFIX = {literal(folder.removeprefix(stage.events))};"
    by_name = [it.key for it in findings if it.kind == "failed" or (it.kind == "missing" and it.landed_at <= oldest)]
    yield from (f"{_copy(keys, stage)};" for keys in batches(by_name))
    again = [it.key for it in findings if it.kind in {"partial", "twice"}]
    for keys in batches(again):
        names = ", ".join(literal(stage.root + key) for key in keys)
        delete = f"DELETE FROM {stage.table} WHERE {FILE_NAME} IN ({names});"  # noqa: S608  checked names and escaped keys
        yield f"BEGIN;\n{delete}\n{_copy(keys, stage)}\nFORCE = TRUE;\nCOMMIT;"


def batches(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    """Splits keys into the number of files that one COPY accepts."""
    return (keys[begin : begin + MAX_FILES] for begin in range(0, len(keys), MAX_FILES))


def _copy(keys: Iterable[str], stage: StageScope) -> str:
    names = ", ".join(literal(key.removeprefix(stage.events)) for key in keys)
    return f"{stage.copy}\nFILES = ({names})"


def text(report: ReconcileReport) -> str:
    """The report as text: totals, problems with examples, the statements; the last line is the verdict."""
    lines = [
        f"{clean(report.sink)} against {report.table}",
        "",
        f"  {'objects':9} {report.objects:,} with {number(report.rows, 'row')}",
        f"  {'loaded':9} {report.loaded_objects:,} with {number(report.loaded_rows, 'row')} (all objects together)",
    ]
    lines += [f"  {kind:9} {count:,}: {NOTES[kind]}" for kind, count in report.counts.items() if kind in NOTES]
    for kind, meaning in PROBLEMS.items():
        if kind not in report.counts:
            continue
        lines += ["", f"{kind} ({report.counts[kind]:,}): {meaning}"]
        shown = [it for it in report.findings if it.kind == kind][:MAX_EXAMPLES]
        lines += [_line(it) for it in shown]
        if rest := report.counts[kind] - len(shown):
            lines.append(f"  and {rest:,} more; --json shows up to {MAX_FINDINGS:,} in total")
    if report.repairs:
        lines += ["", "Run these statements in this order to repair them:", "", *report.repairs]
    if sum(report.counts.get(kind, 0) for kind in PROBLEMS) > MAX_FINDINGS:
        lines.append(f"-- these repair the first {MAX_FINDINGS:,} problems: run this command again afterwards")
    return "\n".join([*lines, "", verdict(report)]) + "\n"


def _line(finding: ReconcileFinding) -> str:
    landed = finding.landed_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
    error = f": {clean(finding.error)}" if finding.error else ""
    line = f" (line {finding.line})" if finding.error and finding.line else ""
    return f"  {clean(finding.key)}, landed {landed}, {finding.loaded:,} of {number(finding.rows, 'row')}{error}{line}"


def verdict(report: ReconcileReport) -> str:
    """The verdict in one line."""
    problems = [f"{kind} {report.counts[kind]:,}" for kind in PROBLEMS if kind in report.counts]
    if problems:
        return f"{number(sum(report.counts.get(kind, 0) for kind in PROBLEMS), 'problem')}: {', '.join(problems)}"
    if not report.objects:
        return "Nothing wrong, but there are no objects: check the sink, the lineage and the time range."
    pending = report.counts.get("pending", 0)
    return f"Nothing wrong: {number(report.loaded_objects, 'object')} loaded" + (
        f", {pending:,} pending." if pending else "."
    )
