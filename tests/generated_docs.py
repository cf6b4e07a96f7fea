"""Makes the tables in the documents that come from the code. ``python -m tests.generated_docs --write`` writes them."""

import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
from msgspec import inspect as types

from benchmarks.peers.report import Found
from benchmarks.peers.systems import SYSTEMS
from benchmarks.queues import report as queues
from benchmarks.rig.results import median
from ingestd.collect.sdk import names, segment, snowplow
from ingestd.config.keys import Key, find_key, source_key
from ingestd.config.model import CollectSource
from ingestd.core import rejections
from ingestd.ops import metrics, readiness
from tests.chaos.report import RESULTS, Report, in_words

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
DOCS = ROOT / "docs"
REFERENCE = ROOT / "config" / "ingestd.toml"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


class Entry(msgspec.Struct):
    """A key of the reference file; `value` is its default, or an example if it has none."""

    value: str
    is_example: bool
    meaning: str


def reference() -> tuple[dict[str, str], dict[str, Entry]]:
    """What config/ingestd.toml says of its sections and its keys. Another test compares that file with the code."""
    sections: dict[str, str] = {}
    entries: dict[str, Entry] = {}
    section = last = ""
    for line in REFERENCE.read_text().splitlines():
        if header := re.match(r"(?:# )?\[([\w.]+)\](?: +# (.*))?", line):
            section = last = header[1]
            sections[section] = header[2] or ""
        elif match := re.match(r"(# )?([a-z]\w*) = (.*?)(?: +# (.*))?$", line):
            name = f"{section}.{match[2]}" if section else match[2]
            last = name
            entries[name] = Entry(match[3].strip(), bool(match[1]) and not has_default(name), match[4] or "")
        elif (more := re.match(r" +# (.*)", line)) and last == section:
            sections[section] += f" {more[1]}"
        elif more:
            entries[name].meaning += f" {more[1]}"
    return sections, entries


def has_default(name: str) -> bool:
    """Whether a key of a source of the collector, all of which are commented out, has a default."""
    place = source_key(name)
    return place is not None and any(
        field.name == place.key and field.default not in {None, msgspec.NODEFAULT}
        for field in msgspec.structs.fields(CollectSource)
    )


def keys_text() -> str:
    """A table of keys for each section."""
    sections, entries = reference()
    parts = []
    for section in ("", *sections):
        rows = [
            [f"`{name}`", _default(name, entry), _range(_key(name)), entry.meaning]
            for name, entry in entries.items()
            if name.rpartition(".")[0] == section
        ]
        title = f"### `[{section}]`" if section else "### Top level"
        about = f"{_sentence(sections[section])}\n\n" if sections.get(section) else ""
        parts.append(f"{title}\n\n{about}{table(['Key', 'Default', 'Range', 'Meaning'], rows)}")
    return "\n".join(parts)


def _default(name: str, entry: Entry) -> str:
    if not entry.is_example:
        return f"`{entry.value}`"
    if name.endswith(".kind"):
        return f"required; such as `{entry.value}`"
    return "not set" if _key(name).is_secret else f"not set; such as `{entry.value}`"


def _key(name: str) -> Key:
    found = find_key(name)
    assert found is not None, name
    return found


def _range(key: Key) -> str:
    """What a key takes, in the few words that fit into a table."""
    match key.type:
        case types.BoolType():
            words = "`true`, `false`"
        case types.IntType(ge=low, le=high):
            words = f"{low:,} to {high:,}"
        case types.FloatType(ge=low, le=high):
            words = f"{low:,.0f} to {high:,.0f}"
        case types.LiteralType():
            words = ", ".join(f"`{choice}`" for choice in key.choices)
        case types.VarTupleType(min_length=least, max_length=most):
            words = f"{least} to {most:,} items"
        case types.CustomType():
            words = f"{key.low} to {key.high}" if key.low else "secret text"
        case _:
            words = key.words or "text"
    return words


def bad_events_table() -> str:
    """The comment beside each reason is its meaning."""
    described = re.findall(r'^    [A-Z_0-9]+ = "(\w+)"  # (.+)$', inspect.getsource(rejections.Reason), re.MULTILINE)
    assert [name for name, _ in described] == list(rejections.Reason), "each reason has its meaning beside it"
    meanings = {name: text.replace("DEPTH_MAX", str(rejections.DEPTH_MAX)) for name, text in described}
    return table(["Reason", "Meaning"], [[f"`{name}`", _sentence(text)] for name, text in meanings.items()])


def not_ready_table() -> str:
    return table(["Reason", "Meaning"], [[f"`{code}`", text] for code, text in readiness.REASONS.items()])


def metrics_table() -> str:
    rows = [
        [f"`{name}`", kind, ", ".join(f"`{label}`" for label in labels), text]
        for name, kind, labels, text in metrics.table()
    ]
    return table(["Metric", "Type", "Labels", "Meaning"], rows)


def segment_fields_table() -> str:
    first = [
        ["event_id", _places([segment.EVENT_ID])],
        ["event_timestamp", f"{_places(segment.TIMES)}, corrected by `{segment.SENT_TIME}`"],
    ]
    return _fields_table(first, segment.FIELDS)


def segment_types_table() -> str:
    rows = [[f"`{theirs}`", f"`{ours}`"] for theirs, ours in segment.TYPES.items()]
    return table(["Message", "event_type"], [["`track`", "The name of its event"], *rows])


def event_types_table() -> str:
    return table(["Event", "event_type"], [[theirs, f"`{ours}`"] for theirs, ours in names.EVENT_TYPES.items()])


def snowplow_fields_table() -> str:
    times = f"`{snowplow.TRUE_TIME}`; else `{snowplow.DEVICE_TIME}`, corrected by `{snowplow.SENT_TIME}`"
    first = [["event_id", _places([snowplow.EVENT_ID])], ["event_timestamp", times]]
    return _fields_table(first, snowplow.FIELDS)


def snowplow_types_table() -> str:
    by_name = {"se": "Its action, `se_ac`", "ue": "The name in its schema, such as `link_click`"}
    rows = [[f"`{e}`", by_name[e] if ours is None else f"`{ours}`"] for e, ours in snowplow.TYPES.items()]
    return table(["`e`", "event_type"], rows)


def channels_table() -> str:
    rows = [[f"`{platform}`", f"`{channel}`"] for platform, channel in names.CHANNELS.items()]
    return table([f"`{segment.PLATFORM}` of a message, `{snowplow.PLATFORM}` of a payload", "Our channel"], rows)


def _fields_table(first: Sequence[Sequence[str]], fields: Mapping[str, Sequence[str]]) -> str:
    rows = [[column, _places(paths)] for column, paths in fields.items()]
    return table(["Column", "First of"], [[f"`{column}`", places] for column, places in [*first, *rows]])


def _places(paths: Sequence[str]) -> str:
    return ", ".join(f"`{path}`" for path in paths)


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}" + ("" if text.endswith(".") else ".")


def faults_table() -> str:
    """One line for each fault; the report describes the faults."""
    rows = []
    for result in chaos_report().faults:
        assert result.tally is not None
        assert result.recovery is not None
        tally = result.tally
        counts = [f"{tally.records:,}", f"{tally.lost}", f"{tally.doubled}", f"{result.recovery:.1f}"]
        rows.append([f"`{result.name}`", result.outcome, *counts])
    return table(["Fault", "Outcome", "Records", "Lost", "Duplicated", "Seconds to recover"], rows)


def kills_text() -> str:
    report = chaos_report()
    assert report.kills is not None
    return textwrap.fill(in_words(report.kills), 120) + "\n"


class PeersReport(msgspec.Struct):
    runs: Found


def peers_table() -> str:
    found = msgspec.json.decode((RESULTS / "peers.json").read_bytes(), type=PeersReport).runs
    head = ["System", "Events are", "Thousand events/s", "CPU-s per million", "Peak MiB", "Lost / duplicated"]
    rows = []
    for system in SYSTEMS:
        runs = [it for it in found.races if it.system == system.key]
        if runs:
            (killed,) = [it.by_name for it in found.killed if it.system == system.key]
            (tried,) = [it.outcomes for it in found.tried if it.system == system.key]
            rate = median([it.events_per_s for it in runs]) / 1000
            cost = median([it.cpu_s_per_million for it in runs])
            peak = median([it.peak_mib for it in runs])
            figures = [f"{rate:.0f}", f"{cost:.1f}", f"{peak:,.0f}", f"{killed.lost:,} / {killed.doubled:,}"]
            rows.append([system.name, system.variant, *figures, tried["truncated"]])
    return table([*head, "Truncated event"], rows)


class QueuesReport(msgspec.Struct):
    runs: list[queues.Run]


def queues_table() -> str:
    runs = msgspec.json.decode((RESULTS / "queues.json").read_bytes(), type=QueuesReport).runs
    return table(queues.COST_HEAD, queues.cost_rows(runs))


def chaos_report() -> Report:
    return msgspec.json.decode((RESULTS / "chaos.json").read_bytes(), type=Report)


#: Document and name of each generated text, and what makes it.
GENERATED: dict[tuple[Path, str], Callable[[], str]] = {
    (README, "peers"): peers_table,
    (DOCS / "collect" / "mapping.md", "segment-fields"): segment_fields_table,
    (DOCS / "collect" / "mapping.md", "segment-types"): segment_types_table,
    (DOCS / "collect" / "mapping.md", "event-types"): event_types_table,
    (DOCS / "collect" / "mapping.md", "snowplow-fields"): snowplow_fields_table,
    (DOCS / "collect" / "mapping.md", "snowplow-types"): snowplow_types_table,
    (DOCS / "collect" / "mapping.md", "channels"): channels_table,
    (DOCS / "configuration.md", "keys"): keys_text,
    (DOCS / "events.md", "bad-events"): bad_events_table,
    (DOCS / "guarantees.md", "faults"): faults_table,
    (DOCS / "guarantees.md", "kills"): kills_text,
    (DOCS / "performance.md", "queues"): queues_table,
    (DOCS / "operations.md", "not-ready"): not_ready_table,
    (DOCS / "operations.md", "metrics"): metrics_table,
}


def place(document: Path, name: str) -> re.Match[str]:
    """The text of that name in a document, as the second group."""
    pattern = rf"(<!-- \w+: {name} -->\n)(.*?)(<!-- end -->\n)"
    found = re.search(pattern, document.read_text(), re.DOTALL)
    assert found is not None, f"{document.name} has no place for {name}"
    return found


def write() -> None:
    """Put every generated text into its place."""
    for (document, name), make in GENERATED.items():
        text, found = document.read_text(), place(document, name)
        document.write_text(text[: found.start(2)] + make() + text[found.end(2) :])


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("usage: python -m tests.generated_docs --write")
    write()
