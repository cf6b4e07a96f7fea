"""What the documents say is so. ``python -m tests.test_docs --write`` writes the tables that are made from the code."""

import inspect
import re
import shlex
import subprocess
import sys
import textwrap
import tomllib
from ast import get_docstring, parse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import click
import msgspec
import pytest

import ingestd
from benchmarks.peers.report import Found
from benchmarks.peers.systems import SYSTEMS
from benchmarks.rig.results import median
from ingestd.cli import main
from ingestd.cli.commands import PROGRAM, Command, CommandGroup, Invocation, parse_command_line
from ingestd.config.load import load
from ingestd.config.model import Config, HealthConfig
from ingestd.config.validate import KEYS, variable
from ingestd.core import chain, rejections
from ingestd.core.errors import EXIT_PROBLEMS
from ingestd.core.events import Event
from ingestd.core.flush_policy import FlushReason
from ingestd.core.object_keys import ObjectMetadata
from ingestd.core.quarantine import Quarantined
from ingestd.ops import metrics, readiness
from ingestd.ops.health import HealthServer
from tests.chaos.report import RESULTS, Report, in_words

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
DOCUMENTS = [README, CONTRIBUTING, ROOT / "CHANGELOG.md", ROOT / "deploy" / "runbook.md"]
MAKEFILE = (ROOT / "Makefile").read_text()
TABLES = {key.partition(".")[0] for key in KEYS if "." in key}
#: Everything that a command in a document may begin with.
PROGRAMS = {"make", "ingestd", ".venv/bin/ingestd", ".venv/bin/pytest", "curl", "gzip", "export"}
#: What config/production.toml asks for, and deliberately does not hold.
CREDENTIALS = {"INGESTD__KAFKA__SASL_USERNAME": "me", "INGESTD__KAFKA__SASL_PASSWORD": "secret"}

#: The keys in the README, in its order; the others are in config/ingestd.toml only.
MOST_IMPORTANT = (
    "source", "kafka.bootstrap_servers", "kafka.topics", "kafka.group_id", "kafka.start", "kafka.security_protocol",
    "events.model", "events.unknown_types", "breaker.max_share", "batch.interval", "batch.bytes", "batch.records",
    "batch.memory", "sink.url", "sink.lineage", "sink.delivery", "s3.endpoint_url", "s3.region", "s3.encryption",
    "health.host", "health.port", "grace", "log.level",
)  # fmt: skip
#: Of keys whose names say enough in the reference file.
MEANINGS = {
    "kafka.bootstrap_servers": "brokers to ask first",
    "kafka.topics": "topics to read",
    "kafka.group_id": "consumer group; processes that share it share the partitions",
}


# -- the tables that are made from the code


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def keys_table() -> str:
    """From the reference file, which is tested to equal the code."""
    found: dict[str, list[str]] = {}
    section, entry = "", [""]
    for line in (ROOT / "config" / "ingestd.toml").read_text().splitlines():
        if header := re.match(r"\[(\w+)\]", line):
            section = f"{header[1]}."
        elif match := re.match(r"(# )?([a-z]\w*) = (.*?)(?: +# (.*))?$", line):
            entry = [f"not set; such as `{match[3].strip()}`" if match[1] else f"`{match[3].strip()}`", match[4] or ""]
            found[section + match[2]] = entry
        elif more := re.match(r" +# (.*)", line):
            entry[-1] += f" {more[1]}"
    rows = [[f"`{key}`", found[key][0], found[key][1] or MEANINGS[key]] for key in MOST_IMPORTANT]
    return table(["Key", "Default", "Meaning"], rows)


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


def files_table() -> str:
    """The first paragraph of a file's docstring is what it is."""
    rows = []
    for file in sorted((ROOT / "ingestd").rglob("*.py"), key=lambda file: (len(file.parts), file)):
        text = (get_docstring(parse(file.read_text())) or "").partition("\n\n")[0]
        assert text, f"{file} does not say what it is"
        rows.append([f"`{file.relative_to(ROOT)}`", " ".join(text.replace("``", "`").split())])
    return table(["File", "What it is"], rows)


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}" + ("" if text.endswith(".") else ".")


def faults_table() -> str:
    """What breaks is in the report; a line has what came of it."""
    rows = []
    for result in chaos_report().faults:
        assert result.tally is not None
        assert result.recovery is not None
        tally = result.tally
        counts = [f"{tally.records:,}", f"{tally.lost}", f"{tally.doubled}", f"{result.recovery:.1f}"]
        rows.append([f"`{result.name}`", result.outcome, *counts])
    return table(["Fault", "Outcome", "Records", "Lost", "Doubled", "Seconds to recover"], rows)


def kills_text() -> str:
    report = chaos_report()
    assert report.kills is not None
    return textwrap.fill(in_words(report.kills), 120) + "\n"


def peers_table() -> str:
    found = msgspec.json.decode((RESULTS / "peers.json").read_bytes(), type=PeersReport).runs
    head = ["System", "Events are", "Thousand events/s", "CPU-s per million", "Peak MiB", "Lost / doubled", "Cut off"]
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
    return table(head, rows)


def chaos_report() -> Report:
    return msgspec.json.decode((RESULTS / "chaos.json").read_bytes(), type=Report)


class PeersReport(msgspec.Struct):
    runs: Found


#: Document, name: what makes the text of this place.
GENERATED: dict[tuple[Path, str], Callable[[], str]] = {
    (README, "keys"): keys_table,
    (README, "bad-events"): bad_events_table,
    (README, "not-ready"): not_ready_table,
    (README, "metrics"): metrics_table,
    (README, "faults"): faults_table,
    (README, "kills"): kills_text,
    (README, "peers"): peers_table,
    (CONTRIBUTING, "files"): files_table,
}
_PLACE = r"(<!-- \w+: {} -->\n)(.*?)(<!-- end -->\n)"


def write() -> None:
    """Put every generated text into its place."""
    for (document, name), make in GENERATED.items():
        text = document.read_text()
        place = _place(document, name)
        document.write_text(text[: place.start(2)] + make() + text[place.end(2) :])


def _place(document: Path, name: str) -> re.Match[str]:
    found = re.search(_PLACE.format(name), document.read_text(), re.DOTALL)
    assert found is not None, f"{document.name} has no place for {name}"
    return found


@pytest.mark.parametrize(("document", "name"), GENERATED, ids=lambda part: getattr(part, "name", part))
def test_what_is_made_from_the_code_is_the_code_s(document: Path, name: str) -> None:
    assert _place(document, name)[2] == GENERATED[document, name](), "run `make docs`"


# -- what is written by hand


def codes(heading: str) -> list[str]:
    """The first cells of the first table that follows `heading`, a line."""
    _, found, rest = README.read_text().partition(f"\n{heading}\n")
    assert found, f"the README has no line {heading!r}"
    body = re.search(r"^\|[ -]*---.*\n((?:\|.*\n)+)", rest, re.MULTILINE)
    assert body is not None
    return [re.findall(r"^\| `?([^`|]+?)`? \|", row)[0] for row in body[1].splitlines()]


def test_the_exit_codes_are_those_of_the_command_line() -> None:
    named = [main.CLEAN, main.FAILED, main.USAGE, main.UNDELIVERED, EXIT_PROBLEMS, main.INTERRUPTED]
    assert codes("### Exit codes") == [str(code) for code in named]
    told = re.search(r"exit codes: (.*)\Z", str(PROGRAM.epilog), re.DOTALL)
    assert told is not None
    assert re.findall(r"(?:^|, )(\d+)", told[1]) == ["0", "1", "2", "3", "4", "130"]


def test_the_endpoints_are_those_that_answer() -> None:
    server = HealthServer(HealthConfig(), lambda: pytest.fail("not asked"), lambda: (b"", ""))
    assert codes("## Metrics and endpoints") == server.paths


def test_the_columns_are_those_of_an_event() -> None:
    assert codes("### Row columns") == ["event_type", *Event.__struct_encode_fields__]


def test_the_fields_of_the_quarantine_are_those_of_its_lines() -> None:
    assert codes("### Quarantine line") == list(Quarantined.__struct_encode_fields__)


def test_the_metadata_is_that_of_an_object() -> None:
    assert codes("### Metadata") == [name.replace("_", "-") for name in ObjectMetadata.__struct_fields__]


def test_the_triggers_are_those_of_a_batch() -> None:
    assert codes("What seals a batch, the label `trigger`:") == list(FlushReason)


def test_the_reasons_for_a_halt_are_those_of_the_chain() -> None:
    assert set(codes("Halted partitions, by the label `code` of `ingestd_partition_halts_total`:")) == set(
        re.findall(r'Halt\(\s*"(\w+)"', inspect.getsource(chain))
    )


def test_the_version_has_its_changes() -> None:
    assert f"## [{ingestd.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


# -- what is named


def fences(document: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", document.read_text(), re.DOTALL | re.MULTILINE)


def spans(document: Path) -> list[str]:
    """Every `code span` outside of code blocks."""
    text = re.sub(r"^```.*?^```$", "", document.read_text(), flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"`([^`\n]+)`", text)


def commands(document: Path) -> Iterator[list[str]]:
    """Every command in code blocks and spans as its words, with no part of a pipe but the first."""
    blocks = [block.replace("\\\n", " ") for block in fences(document, "bash")]
    lines = [line for block in blocks for line in block.splitlines() if not line.startswith(" ")]
    for line in [*lines, *(span for span in spans(document) if re.match(r"(make|ingestd|\.venv/bin/\w+) ", span))]:
        words = shlex.split(line, comments=True)
        words = words[: words.index("|")] if "|" in words else words
        while words and re.match(r"[A-Z_]+=", words[0]):
            words = words[1:]
        if words:
            yield words


per_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: file.name)


@per_document
def test_blocks_of_commands_are_shell(document: Path) -> None:
    for block in fences(document, "bash"):
        outcome = subprocess.run(["bash", "-n"], input=block, text=True, capture_output=True, check=False)
        assert not outcome.stderr, block


@per_document
def test_blocks_of_data_are_what_they_say(document: Path) -> None:
    for block in fences(document, "json"):
        for line in block.splitlines():
            msgspec.json.decode(line)
    for block in fences(document, "toml"):
        msgspec.convert(tomllib.loads(block), dict[str, dict[str, object]])
    for block in fences(document, "python"):
        parse(block)


@per_document
def test_every_command_can_be_typed(document: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for program, *arguments in commands(document):
        assert program in PROGRAMS, f"unknown program {program}"
        if program.endswith("ingestd") and len(arguments) == 1 and not arguments[0].startswith("-"):
            assert arguments[0] in COMMANDS, arguments  # named, not typed: some need more
        elif program.endswith("ingestd"):
            asked = parse_command_line(arguments)
            if isinstance(asked, Invocation):
                load(path=asked.config, environ=CREDENTIALS, flags=asked.flags)
        elif program == "make":
            for word in arguments:
                name, is_variable, _ = word.partition("=")
                kind = r" \?=" if is_variable else ":.*## "
                assert re.search(f"^{name}{kind}", MAKEFILE, re.MULTILINE), word
        elif program.endswith("pytest"):
            paths = [word for word in arguments if word.startswith("tests")]
            assert all((ROOT / path).exists() for path in paths), arguments


@per_document
def test_every_key_flag_and_metric_exists(document: Path) -> None:
    flags = {"--help"} | {flag for command in _commands(PROGRAM) for it in command.params for flag in it.opts}
    variables = {variable(key) for key in KEYS} | {"INGESTD_CONFIG", "INGESTD_TEST_KAFKA", "INGESTD_TEST_S3"}
    names = {name for name, *_ in metrics.table()}
    for span in spans(document):
        key = re.match(r"(\w+)\.\w+", span)
        if key and key[1] in TABLES and not span.endswith((".py", ".toml", ".md")):
            assert key[0] in KEYS, span
        elif span.startswith("--"):
            assert span.split()[0] in flags, span
        elif span.startswith("INGESTD_"):
            assert span.partition("=")[0] in variables, span
        elif (name := re.match(r"ingestd_\w+", span)) and name[0] != "ingestd_version":
            assert name[0] in names, span


def _commands(group: CommandGroup) -> Iterator[click.Command]:
    yield group
    for command in group.commands.values():
        if isinstance(command, CommandGroup):
            yield from _commands(command)
            continue
        if isinstance(command, Command):
            command.load()
        yield command


#: Every command by its name.
COMMANDS = {command.name for command in _commands(PROGRAM)}


@per_document
def test_every_file_and_link_leads_somewhere(document: Path) -> None:
    top = {file.name for file in ROOT.iterdir() if file.name not in {".venv", ".cache", ".git", "data"}}
    text = document.read_text()
    anchors = {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in _headings(text)}
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("#"):
            assert target[1:] in anchors, target
        elif "://" not in target:
            assert (ROOT / target).exists(), target
    for span in spans(document):
        if re.fullmatch(r"[\w.-]+(/[\w.-]+)*/?", span) and "/" in span and span.split("/")[0] in top:
            assert (ROOT / span).exists(), span
        elif re.fullmatch(r"[A-Za-z_]+\.(md|toml|py)", span):
            assert list(ROOT.glob(span)) + list(ROOT.glob(f"*/{span}")), span


def _headings(text: str) -> list[str]:
    return re.findall(r"^#+ (.*)$", text, re.MULTILINE)


def test_defaults_in_prose_are_the_defaults() -> None:
    config = Config()
    assert f"`{config.health.host}:{config.health.port}`" in README.read_text()


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("usage: python -m tests.test_docs --write")
    write()
