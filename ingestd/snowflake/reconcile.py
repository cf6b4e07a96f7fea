"""Compares objects with loads: missing, late, partial, failed or duplicate ones, and their repair. Pure."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import NamedTuple

import msgspec

from ingestd.core.formatting import clean, number
from ingestd.snowflake.copy_history import REFRESHED, FileLoadState
from ingestd.snowflake.table import FILE_NAME, literal

MAX_KEPT = 5000  # findings; the rest is counted
MAX_SHOWN = 10  # of one kind, in words
MAX_FILES = 1000  # that one COPY takes by name

#: What is wrong with an object, and what to do.
PROBLEMS: dict[str, str] = {
    "missing": "Snowflake has never heard of it: the notification was lost or is not set up, or the pipe was not "
    "there. The statement makes the pipe look.",
    "failed": "Its load failed, and Snowpipe never tries a file again. Mend what the error names, then run "
    "the statement.",
    "partial": "Fewer rows were loaded than it has. The statements replace them by all of them, in one transaction.",
    "twice": "It was loaded more than once, so its rows are there more than once: the pipe was created anew, or a COPY "
    "was run by hand. The statements leave each row once.",
}
#: Worth knowing, and no problem.
NOTES: dict[str, str] = {
    "pending": "Landed lately, and not loaded yet.",
    "empty": "Objects without rows that the history does not name: there is nothing to load.",
    "unknown": "Landed before the history begins, which is kept for 14 days: whether they were loaded cannot be told.",
    "no_object": "Files that were loaded, and are no object of this sink now.",
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


def judge(thing: Object, fate: FileLoadState | None, now: datetime, late_s: float, since: datetime) -> str:
    """``loaded``, or a key of PROBLEMS or NOTES. `since` is the start of the history."""
    if fate is None:
        return _unheard(thing, now, late_s, since)
    if fate.rows > thing.rows:
        return "twice"
    if fate.rows == thing.rows and (thing.rows or not fate.failed):
        return "loaded"
    if fate.in_progress:
        return "pending"
    return "failed" if fate.failed and not fate.rows else "partial"


def _unheard(thing: Object, now: datetime, late_s: float, since: datetime) -> str:
    if not thing.rows:
        return "empty"
    if thing.landed_at < since:
        return "unknown"
    return "missing" if (now - thing.landed_at).total_seconds() > late_s else "pending"


class Reconciliation:
    """Judges objects one by one and keeps those that are not simply loaded."""

    def __init__(self, fates: dict[str, FileLoadState], *, now: datetime, late_s: float, since: datetime) -> None:
        """`fates` by key; each is removed when its object comes."""
        self._fates = fates
        self._now = now
        self._late_s = late_s
        self._since = since
        self._totals: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        self._findings: list[ReconcileFinding] = []

    def take(self, thing: Object) -> str:
        """Judge one object."""
        fate = self._fates.pop(thing.key, None)
        kind = judge(thing, fate, self._now, self._late_s, self._since)
        loaded = fate.rows if fate else 0
        self._totals.update(objects=1, rows=thing.rows, loaded_objects=kind == "loaded", loaded_rows=loaded)
        if kind == "loaded":
            return kind
        self._counts[kind] += 1
        if kind in PROBLEMS and len(self._findings) < MAX_KEPT:
            error = fate.failed if fate else None
            self._findings.append(
                ReconcileFinding(
                    kind=kind,
                    key=thing.key,
                    rows=thing.rows,
                    landed_at=thing.landed_at,
                    loaded=loaded,
                    error=error.error if error else None,
                    line=error.line if error else None,
                )
            )
        return kind

    def suspects(self) -> list[str]:
        """Keys for which the history is not conclusive: rows that were deleted for a repair stay in it."""
        return [it.key for it in self._findings if it.kind in {"partial", "twice"}]

    def settle(self, counts: Mapping[str, int]) -> None:
        """Apply the number of rows in the table per suspect; one that is absent has none."""
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

    def report(self, sink: str, stage: StageScope, *, strangers: bool) -> ReconcileReport:
        """The report, after all objects. With `strangers`, files of the history without an object are listed."""
        left = sum(fate.rows > 0 for fate in self._fates.values())
        if strangers and left:
            self._counts["no_object"] = left
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
    oldest = now - REFRESHED
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
    """Slices of the size that one COPY accepts."""
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
        f"  {'loaded':9} {report.loaded_objects:,} with {number(report.loaded_rows, 'row')} (of all objects together)",
    ]
    lines += [f"  {kind:9} {count:,}: {NOTES[kind]}" for kind, count in report.counts.items() if kind in NOTES]
    for kind, meaning in PROBLEMS.items():
        if kind not in report.counts:
            continue
        lines += ["", f"{kind} ({report.counts[kind]:,}): {meaning}"]
        shown = [it for it in report.findings if it.kind == kind][:MAX_SHOWN]
        lines += [_line(it) for it in shown]
        if rest := report.counts[kind] - len(shown):
            lines.append(f"  and {rest:,} more (--json has more of them)")
    if report.repairs:
        lines += ["", "What repairs them, to be run in this order:", "", *report.repairs]
    if sum(report.counts.get(kind, 0) for kind in PROBLEMS) > MAX_KEPT:
        lines.append(f"-- of the first {MAX_KEPT:,}: run this command again afterwards")
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
        return "Nothing wrong, but there is no object: check the place, the lineage and the time."
    pending = report.counts.get("pending", 0)
    return f"Nothing wrong: {number(report.loaded_objects, 'object')} loaded" + (
        f", {pending:,} pending." if pending else "."
    )
