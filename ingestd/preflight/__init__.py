"""What `ingestd check` concludes from what it has tried. Pure: the trials are in ``ingestd.cli.exit_codes``.

cluster    brokers, topics, the group
records    a sample of the topics' records
store      the place where objects go
values     settings that get along badly
estimate   objects a day, and what they cost
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import TypeVar

import msgspec

from ingestd.core.errors import IngestdError

T = TypeVar("T")


class Verdict(StrEnum):
    """What became of a check."""

    OK = "ok"
    NOTE = "note"  # it works; somebody should know
    WRONG = "wrong"  # a run would fail, or break a condition of the guarantee
    NOT_TRIED = "not_tried"  # what it depends on failed


class CheckFinding(msgspec.Struct, frozen=True):
    """One line of the report. `check` is a stable name; `todo` is empty where nothing is to be done."""

    check: str
    verdict: Verdict
    seen: str
    todo: str = ""


def ok(check: str, seen: str) -> CheckFinding:
    return CheckFinding(check, Verdict.OK, seen)


def note(check: str, seen: str, todo: str = "") -> CheckFinding:
    return CheckFinding(check, Verdict.NOTE, seen, todo)


def wrong(check: str, seen: str, todo: str) -> CheckFinding:
    return CheckFinding(check, Verdict.WRONG, seen, todo)


def not_tried(check: str, why: str) -> CheckFinding:
    return CheckFinding(check, Verdict.NOT_TRIED, f"not tried: {why}")


def failed(check: str, error: IngestdError) -> CheckFinding:
    return wrong(check, error.args[0], error.hint or "check the brokers, the network and kafka.bootstrap_servers")


def some(items: Sequence[object], most: int = 3) -> str:
    """The first of them by name, the rest as a number."""
    named = ", ".join(map(str, items[:most]))
    return named + (f" and {len(items) - most} more" if len(items) > most else "")
