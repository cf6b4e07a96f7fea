"""The runbook explains every alert, reason, error and warning of the daemon, and nothing that it does not say."""

import ast
import errno
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingestd.ops import readiness
from ingestd.sinks import local, s3_errors
from tests.chaos.all_faults import FAULTS
from tests.syntax import parsed

ROOT = Path(__file__).parent.parent
RUNBOOK = (ROOT / "deploy" / "runbook.md").read_text()
CODE = ROOT / "ingestd"
#: What ends a daemon, or is worth a look in its log.
ERRORS = {"SourceError", "DeadlineExceeded"}
LOGGED = {"error", "warning", "exception"}
#: Of commands that people run by hand, and of the simulator: their messages are not in the runbook.
ELSEWHERE = (
    "cli/", "requeue/", "preflight/", "sources/simulator/", "sources/kafka/inspector.py", "sources/kafka/producer.py",
    "sources/kafka/bootstrap_check.py", "sources/kafka/transactions.py",
    "sources/kinesis/inspector.py", "sources/kinesis/sender.py", "sources/sqs/sender.py",
)  # fmt: skip


def section(title: str) -> str:
    match = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", RUNBOOK, re.MULTILINE | re.DOTALL)
    assert match, title
    return match[1]


def headings(title: str) -> set[str]:
    return set(re.findall(r"^### `(\w+)`$", section(title), re.MULTILINE))


def messages(title: str) -> list[str]:
    """What stands in the first column of a section's table."""
    return re.findall(r"^\| `([^`]+)` \|", section(title), re.MULTILINE)


def said() -> Iterator[tuple[str, str]]:
    """Each message of the daemon, as (file, text); what is filled in is left out."""
    for file in sorted(CODE.rglob("*.py")):
        name = file.relative_to(CODE).as_posix()
        if name.startswith(ELSEWHERE):
            continue
        for node in ast.walk(parsed(file.read_text())):
            if isinstance(node, ast.Call) and node.args and _speaks(node.func):
                parts = ast.walk(node.args[0])
                text = "".join(it.value for it in parts if isinstance(it, ast.Constant) and isinstance(it.value, str))
                if text:
                    yield name, text


def _speaks(function: ast.expr) -> bool:
    if isinstance(function, ast.Attribute):
        return function.attr in LOGGED and isinstance(function.value, ast.Name) and function.value.id == "log"
    return isinstance(function, ast.Name) and function.id in ERRORS


def test_every_reason_not_to_be_ready_has_its_place() -> None:
    assert headings("Not ready") == set(readiness.REASONS)


def test_every_reason_to_halt_has_its_place() -> None:
    codes = re.findall(r'(?:Halt|super\(\).__init__)\(\s*"(\w+)"', (CODE / "core" / "chain.py").read_text())
    assert headings("Halted partitions") == set(codes)


def test_every_refusal_of_a_store_has_its_place() -> None:
    column = re.findall(r"^\|([^|]+)\|", section("The store denies access"), re.MULTILINE)
    codes = set(re.findall(r"`([\w.…]+)`", "".join(column)))
    assert set(s3_errors.HINTS) <= codes
    assert {errno.errorcode[number] for number in local._HINTS} <= codes


@pytest.mark.parametrize(("file", "text"), sorted(set(said())))
def test_every_message_has_its_place(file: str, text: str) -> None:
    known = [*messages("What ends the daemon"), *messages("Warnings")]
    assert any(message in text for message in known), f"{file} says {text!r}"


@pytest.mark.parametrize("message", [*messages("What ends the daemon"), *messages("Warnings")])
def test_nothing_is_in_the_runbook_that_is_never_said(message: str) -> None:
    code = " ".join(file.read_text() for file in CODE.rglob("*.py"))
    assert message in re.sub(r'"\s+f?"', "", code)


def test_every_fault_of_the_matrix_has_its_remedy() -> None:
    rows = re.findall(r"^\| (`\w+`[^|]*) \|", section("Procedures"), re.MULTILINE)
    assert sorted(re.findall(r"`(\w+)`", "".join(rows))) == sorted(FAULTS)


def test_every_link_leads_somewhere() -> None:
    anchors = {
        re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-")
        for title in re.findall(r"^#+ (.+)$", RUNBOOK, re.MULTILINE)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", RUNBOOK)) <= anchors
