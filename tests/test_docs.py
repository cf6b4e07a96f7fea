"""The documents are right: generated texts are up to date; commands, keys, flags, metrics and files exist."""

import inspect
import re
import shlex
import subprocess
import tomllib
from ast import parse
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
import pytest

import ingestd
from ingestd.cli import main
from ingestd.cli.commands import PROGRAM, Command, CommandGroup, Invocation, parse_command_line
from ingestd.config.keys import KEYS, SOURCES, find_key, names_of_source, source_variable, variable
from ingestd.config.load import load
from ingestd.config.model import Config, EventsConfig, HealthConfig
from ingestd.core import chain
from ingestd.core.errors import EXIT_INTERRUPTED, EXIT_PROBLEMS
from ingestd.core.events import Event, make_model
from ingestd.core.flush_policy import FlushReason
from ingestd.core.object_metadata import ObjectMetadata
from ingestd.core.quarantine import Quarantined
from ingestd.core.records import PlainRecord, TopicPartition
from ingestd.core.validation import EventValidator
from ingestd.ops import metrics
from ingestd.ops.health import HealthServer
from tests.generated_docs import DOCS, GENERATED, README, ROOT, place, reference

DOCUMENTS = [
    README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", ROOT / "deploy" / "runbook.md", *sorted(DOCS.glob("*.md")),
]  # fmt: skip
DEPLOYMENT = sorted((ROOT / "deploy").glob("*/README.md"))
README_LINES_MAX = 250
MAKEFILE = (ROOT / "Makefile").read_text()
TABLES = {key.partition(".")[0] for key in KEYS if "." in key}
#: Every program that a command in a document may start.
PROGRAMS = {"make", "ingestd", ".venv/bin/ingestd", ".venv/bin/pytest", "curl", "export"}
#: Those of the documents in deploy/, which the tests do not start.
DEPLOYMENT_PROGRAMS = {
    "docker", "install", "sed", "python3.11", "systemctl", "/opt/ingestd/bin/pip",
}  # fmt: skip
#: What config/production.toml needs, and deliberately does not contain.
CREDENTIALS = {"INGESTD__KAFKA__SASL_USERNAME": "me", "INGESTD__KAFKA__SASL_PASSWORD": "secret"}


# -- generated texts


@pytest.mark.parametrize(("document", "name"), GENERATED, ids=lambda part: getattr(part, "name", part))
def test_a_generated_text_is_up_to_date(document: Path, name: str) -> None:
    assert place(document, name)[2] == GENERATED[document, name](), "run `make docs`"


def test_every_key_has_a_meaning() -> None:
    sections, entries = reference()
    assert sorted(entries) == sorted([*KEYS, *names_of_source("web")])
    assert not [name for name, entry in entries.items() if not entry.meaning]
    assert set(sections) == {*TABLES, f"{SOURCES}.web"}


# -- what is written by hand


def codes(page: str, line: str) -> list[str]:
    """The first cells of the first table that follows a line that ends with `line`, in a page of docs/."""
    _, found, rest = (DOCS / page).read_text().partition(f"{line}\n")
    assert found, f"{page} has no line {line!r}"
    body = re.search(r"^\|[ -]*---.*\n((?:\|.*\n)+)", rest, re.MULTILINE)
    assert body is not None
    return [re.findall(r"^\| `?([^`|]+?)`? \|", row)[0] for row in body[1].splitlines()]


def test_the_exit_codes_are_those_of_the_command_line() -> None:
    named = [main.CLEAN, main.FAILED, main.USAGE, main.UNDELIVERED, EXIT_PROBLEMS, EXIT_INTERRUPTED]
    assert codes("operations.md", "## Exit codes") == [str(code) for code in named]
    told = re.search(r"exit codes: (.*)\Z", str(PROGRAM.epilog), re.DOTALL)
    assert told is not None
    assert re.findall(r"(?:^|, )(\d+)", told[1]) == ["0", "1", "2", "3", "4", "130"]


def test_the_endpoints_are_those_that_answer() -> None:
    server = HealthServer(HealthConfig(), lambda: pytest.fail("not asked"), lambda: (b"", ""))
    assert codes("operations.md", "## Endpoints") == server.paths


def test_the_columns_are_those_of_an_event() -> None:
    assert codes("objects.md", "## Row columns") == ["event_type", *Event.__struct_encode_fields__]


def test_the_fields_of_the_quarantine_are_those_of_its_lines() -> None:
    assert codes("objects.md", "## Quarantine line") == list(Quarantined.__struct_encode_fields__)


def test_the_metadata_is_that_of_an_object() -> None:
    assert codes("objects.md", "## Metadata") == [name.replace("_", "-") for name in ObjectMetadata.__struct_fields__]


def test_the_triggers_are_those_of_a_batch() -> None:
    assert codes("operations.md", "The label `trigger` says why:") == list(FlushReason)


def test_the_reasons_for_a_halt_are_those_of_the_chain() -> None:
    assert set(codes("guarantees.md", "`code` of `ingestd_partition_halts_total`:")) == set(
        re.findall(r'(?:Halt|super\(\).__init__)\(\s*"(\w+)"', inspect.getsource(chain))
    )


def test_the_readme_is_for_the_first_ten_minutes() -> None:
    assert README.read_text().count("\n") <= README_LINES_MAX


def test_the_index_and_the_readme_list_every_page() -> None:
    for index, folder in ((README, "docs/"), (DOCS / "README.md", "")):
        for page in DOCS.glob("*.md"):
            assert page.name == "README.md" or f"]({folder}{page.name})" in index.read_text(), page.name


def test_the_readme_names_every_command() -> None:
    (listed,) = re.findall(r"^The commands are (.*?)\. Each$", README.read_text(), re.MULTILINE | re.DOTALL)
    assert set(re.findall(r"`(\w+)`", listed)) == set(PROGRAM.commands) - {"help"}


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


def name(document: Path) -> str:
    return document.relative_to(ROOT).as_posix()


per_document = pytest.mark.parametrize("document", DOCUMENTS, ids=name)
per_document_with_commands = pytest.mark.parametrize("document", [*DOCUMENTS, *DEPLOYMENT], ids=name)


@per_document_with_commands
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


def test_the_example_of_a_model_is_a_model() -> None:
    (block,) = fences(DOCS / "events.md", "python")
    names: dict[str, object] = {}
    exec(block, names)  # noqa: S102 - our own document
    model = make_model(names["OrderPlaced"])
    (example,) = fences(DOCS / "events.md", "json")
    validated = EventValidator(EventsConfig(), model).chunk(
        TopicPartition("orders", 0), [PlainRecord(0, 0, example.strip().encode())]
    )
    assert (validated.accepted, validated.rejected) == ({"order_placed": 1}, [])
    assert b'"properties":' not in validated.rows, "the model has all fields of the example"


@per_document_with_commands
def test_every_command_can_be_typed(document: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for program, *arguments in commands(document):
        assert program in PROGRAMS or (document in DEPLOYMENT and program in DEPLOYMENT_PROGRAMS), program
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
        key = re.match(rf"{re.escape(SOURCES)}\.\w+\.\w+|(\w+)\.\w+", span)
        if key and key[1] in {None, *TABLES} and not span.endswith((".py", ".toml", ".md")):
            assert find_key(key[0]), span
        elif span.startswith("--"):
            assert span.split()[0] in flags, span
        elif span.startswith("INGESTD_"):
            given = span.partition("=")[0]
            assert given in variables or find_key(source_variable(given) or ""), span
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
def test_every_file_that_is_named_exists(document: Path) -> None:
    top = {file.name for file in ROOT.iterdir() if file.name not in {".venv", ".cache", ".git", "data"}}
    for span in spans(document):
        if re.fullmatch(r"[\w.-]+(/[\w.-]+)*/?", span) and "/" in span and span.split("/")[0] in top:
            assert (ROOT / span).exists(), span
        elif re.fullmatch(r"[A-Za-z_]+\.(md|toml|py)", span):
            assert list(ROOT.glob(span)) + list(ROOT.glob(f"*/{span}")), span


def test_defaults_in_prose_are_the_defaults() -> None:
    config = Config()
    assert f"`{config.health.host}:{config.health.port}`" in (DOCS / "operations.md").read_text()
