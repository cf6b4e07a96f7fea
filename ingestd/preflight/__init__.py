"""`ingestd check`: what it asks Kafka and the sink, and what it concludes from the answers.

Conclusions, which do no I/O:
cluster       brokers, topics, the group
stream        a Kinesis stream
queue         an SQS queue
producing     the topic that the collector produces to
records       a sample of the topics' records
renames       names of fields that a sample suggests
store         the sink
values        settings that are valid and do not go together
volume        objects a day, and what they cost

Probes, which do:
kafka_probe   asks Kafka
kinesis_probe  asks Kinesis
sqs_probe     asks SQS
sink_probe    tries the sink
collector_probe  tries the collector's keys, mappings, port and journal
produce_probe    asks Kafka whether the collector could produce
dry_run       runs the daemon's own pipeline without writing
queue_dry_run  the same of a queue, whose messages are given back
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import TypeVar

import msgspec

from ingestd.core.errors import IngestdError

T = TypeVar("T")


class Verdict(StrEnum):
    """The outcome of a check."""

    OK = "ok"
    NOTE = "note"  # it works; an operator should know
    WRONG = "wrong"  # a run would fail, or could break the guarantee
    NOT_TRIED = "not_tried"  # an earlier check that it depends on failed


class CheckFinding(msgspec.Struct, frozen=True):
    """One line of the report. `check` is a stable name; `todo` is empty if there is nothing to do."""

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
    """The first `most` items, and how many more there are."""
    named = ", ".join(map(str, items[:most]))
    return named + (f" and {len(items) - most} more" if len(items) > most else "")
