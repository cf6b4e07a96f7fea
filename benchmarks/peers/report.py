"""The report of a run: what was found, as tables."""

from collections.abc import Callable, Sequence

import msgspec

from benchmarks.peers import hard
from benchmarks.peers.race import Raced
from benchmarks.peers.systems import SYSTEMS
from benchmarks.peers.trials import Killed, Tried
from benchmarks.rig.fill import Kind
from benchmarks.rig.results import Report, Table, markdown, median, spread

QUESTION = "What do other systems need for the same task, and do they lose or duplicate rows?"
OURS = "ingestd"

#: Measured once, on two cores that broker and store shared: 3 M events (335 bytes, 6 partitions, lz4).
ELSEWHERE = (
    ("Kafka Connect 4.3.1, Aiven S3 sink 3.4.2", "parsed, 1 / 2 tasks", "30 k / 37 k", "42 / 43", "4.0 / 3.8 GB"),
    ("Kafka Connect 4.3.1, Aiven S3 sink 3.4.2", "not parsed, 1 / 2 tasks", "49 k / 78 k", "21 / 21",
     "3.2 / 2.9 GB"),
    ("Vector 0.58, built without LTO", "parsed", "33-35 k", "42-45", "0.7-0.9 GB"),
    ("Vector 0.58, built without LTO", "not parsed", "50 k", "29", "0.7-0.9 GB"),
    ("Bento 1.19, to compare with the first table", "not parsed", "185-227 k", "6.7-7.1", "1.7 GB"),
)  # fmt: skip


class Failure(msgspec.Struct, kw_only=True):
    """A system that did not come to an end of something."""

    system: str
    what: str
    reason: str


class Found(msgspec.Struct, kw_only=True):
    """All that a run has found. `missing` gives reasons by system."""

    events: int
    rows: int
    kills: int
    races: list[Raced] = []
    killed: list[Killed] = []
    tried: list[Tried] = []
    failures: list[Failure] = []
    missing: dict[str, str] = {}


def report(found: Found) -> Report:
    """The tables, and every single run."""
    settings = {
        "Race": f"{found.events:,} events of 335 bytes, 6 partitions, lz4, {found.rows:,} rows a file",
        "Race on what SDKs send": f"{found.events // 5:,} events of 1.2 kB, nested, {found.rows // 5:,} rows a file",
        "SIGKILL": f"{found.kills} times while events come, in turn just after and just before the store has a file",
    }
    return Report(
        name="peers",
        question=QUESTION,
        command="make bench-peers",
        settings=settings,
        tables=tables(found),
        runs=found,
        picture="CPU-seconds per million events and peak memory, by system",
    )


def text(found: Found) -> str:
    """The tables alone."""
    return "\n\n".join(
        "\n".join([table.title, "", *markdown(table.head, table.rows), "", table.note]) for table in tables(found)
    )


def tables(found: Found) -> list[Table]:
    titles: dict[Kind, str] = {"flat": "Speed and cost", "sdk": "Speed and cost of events as SDKs send them"}
    raced = {kind: [it for it in found.races if it.kind == kind] for kind in titles}
    made = [_speed(titles[kind], races) for kind, races in raced.items() if races]
    made += [_rows(found.killed)] if found.killed else []
    made += [_hard(found.tried)] if found.tried else []
    if found.failures:
        cells = [[title(it.system), it.what, _cell(it.reason)] for it in found.failures]
        made.append(Table(title="What failed", head=["System", "At", "Seen"], rows=cells))
    if found.missing:
        rows = [[title(key), _cell(reason)] for key, reason in found.missing.items()]
        made.append(Table(title="What could not be installed", head=["System", "Reason"], rows=rows))
    note = (
        "Connect's sink and Vector were built from source. The last row tells how that day compares with the figures "
        "above: ratios hold within a table. One figure moves by 20 % from run to run."
    )
    head = ["System", "Events are", "Events/s", "CPU-s per M", "Peak RSS"]
    return [*made, Table(title="Measured once, elsewhere", head=head, rows=ELSEWHERE, note=note)]


def _speed(name: str, races: Sequence[Raced]) -> Table:
    ours = [it for it in races if it.system == OURS]
    rows = []
    for system in SYSTEMS:
        runs = [it for it in races if it.system == system.key]
        if runs:
            rows.append([
                system.name,
                system.variant,
                spread([it.events_per_s / 1000 for it in runs], 0),
                spread([it.cpu_s_per_million for it in runs]),
                _ratio(runs, ours, lambda it: it.cpu_s_per_million),
                spread([it.peak_mib for it in runs], 0),
                _ratio(runs, ours, lambda it: it.peak_mib),
                f"{median([it.bytes / it.rows for it in runs]):.0f}" if all(it.rows for it in runs) else "",
                _all_there(runs),
            ])  # fmt: skip
    return Table(
        title=name,
        head=[
            "System",
            "Events are",
            "Thousand events/s",
            "CPU-s per M",
            "x ours",
            "Peak MiB",
            "x ours",
            "Bytes a row",
            "Rows",
        ],
        rows=rows,
        note="Medians, with the smallest and the largest value in brackets; measured from when the group works to "
        "the last commit and the end of the process. For a system that was stopped by the time limit, the "
        "rows in the store at that time count.",
    )


def _all_there(runs: Sequence[Raced]) -> str:
    if not all(it.in_time for it in runs):
        return "stopped by time"
    return "all" if all(it.rows == it.events for it in runs) else f"{max(it.rows - it.events for it in runs):+,}"


def _ratio(runs: Sequence[Raced], ours: Sequence[Raced], of: Callable[[Raced], float]) -> str:
    """How many times ours; empty without ours."""
    return f"{median([of(it) for it in runs]) / median([of(it) for it in ours]):.1f}" if ours else ""


def _rows(killed: Sequence[Killed]) -> Table:
    cells = []
    for it in killed:
        counts = [f"{lost:,} / {doubled:,}" for lost, doubled in (it.store, it.by_name, it.by_version)]
        cells.append([title(it.system), f"{it.kills} / {it.events:,}", *counts, f"{it.rewritten:,}"])
    return Table(
        title="Rows lost / doubled after kill -9",
        head=["System", "Kills / events", "In the store", "Loaded by name", "Loaded by version", "Files rewritten"],
        rows=cells,
        note="In the store: at the end. Loaded by name: by a reader that loads each file name once, as Snowpipe "
        "does, after each kill and at the end; it does not see a file that is replaced. Loaded by version: by "
        "a reader that loads every version that is written, or with a unique name for each file instead of "
        "its first record's.",
    )


def _hard(tried: Sequence[Tried]) -> Table:
    return Table(
        title="Records that are hard",
        head=["System", *(kind.title for kind in hard.KINDS)],
        rows=[[title(it.system), *(it.outcomes[kind.key] for kind in hard.KINDS)] for it in tried],
        note="`quarantined`: kept outside of the data, to be sent again. `dropped`: only in a log, or nowhere. "
        "`written as a row`: among the data, where it breaks a load or is garbage in a table. `stops`: no "
        "later record gets through. `over lines`: a valid event with line breaks in it. `digits kept`: "
        "numbers with more digits than a double has.",
    )


def title(key: str) -> str:
    system = next(it for it in SYSTEMS if it.key == key)
    return f"{system.name}, {system.variant}"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "/")
