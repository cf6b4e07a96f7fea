"""When a collector is ready, why not, and what it warns of."""

from datetime import UTC, datetime
from typing import Any

import pytest

from ingestd.config.model import Config
from ingestd.ops.collector_status import (
    COLLECTOR_REASONS,
    EDGE_REASONS,
    CollectorStatus,
    EdgeStatus,
    JournalStatus,
    collector_reasons,
    collector_warnings,
    edge_reasons,
)
from ingestd.ops.readiness import REASONS, Status, with_reasons


def journal(**changes: Any) -> JournalStatus:
    fields: dict[str, Any] = {"records": 3, "at_start": 0, "appended": 3, "removed": 0, "bytes": 10, "limit_bytes": 100}
    return JournalStatus(**{**fields, "oldest": 1.0, **changes})


def collector(**changes: Any) -> CollectorStatus:
    return CollectorStatus(address="127.0.0.1:8080", **changes)


def edge(collector: CollectorStatus, **changes: Any) -> EdgeStatus:
    fields: dict[str, Any] = {"version": "1", "started_at": datetime(2026, 1, 2, tzinfo=UTC), "uptime": 1.0}
    return EdgeStatus(
        **{**fields, "topic": "t", "phase": "running", "loop_lag": 0.0, "collector": collector, **changes}
    )


FAILING = {"uses_kafka": True, "kafka_error": "no broker", "error": "no broker"}
BEHIND = {"uses_kafka": True, "kafka_error": "no broker", "journal": journal()}
FULL = {"journal": journal(bytes=97, error="the journal is full"), "error": "the journal is full"}
BROKEN = {"journal": journal(error="the disk is broken"), "error": "the disk is broken"}


@pytest.mark.parametrize(
    ("changes", "code"),
    [({}, None), (FAILING, "kafka_unavailable"), (BEHIND, None), (FULL, "journal_full"), (BROKEN, "journal_failed")],
)
def test_it_is_ready_while_events_can_be_made_safe(changes: dict[str, Any], code: str | None) -> None:
    found = collector_reasons(collector(**changes))
    assert [reason.code for reason in found] == ([code] if code else [])
    assert {reason.code for reason in edge_reasons(edge(collector(**changes)), 3.0)} == ({code} if code else set())


def test_kafka_s_outage_is_a_warning_while_the_journal_takes_events() -> None:
    [warning] = collector_warnings(collector(**BEHIND))
    assert warning.code == "kafka_unavailable"
    assert warning.message == "no broker; 3 events in the journal wait for it, 10 of 100 bytes"
    assert not collector_warnings(collector())
    assert not collector_warnings(collector(**FAILING)), "it is a reason then"


@pytest.mark.parametrize(
    ("changes", "code"),
    [({"phase": "starting"}, "starting"), ({"phase": "draining"}, "draining"), ({"loop_lag": 3.1}, "loop_lagging")],
)
def test_the_process_itself_may_not_be_ready(changes: dict[str, Any], code: str) -> None:
    [reason] = edge_reasons(edge(collector(), **changes), 3.0)
    assert reason.code == code
    assert code in EDGE_REASONS


def test_a_daemon_with_a_collector_has_its_reasons_too() -> None:
    status = Status(
        version="1", started_at=datetime(2026, 1, 2, tzinfo=UTC), uptime=1.0, source="collector", sink="s3://b",
        phase="running", assigned=True, collector=collector(**FULL),
    )  # fmt: skip
    assert [reason.code for reason in with_reasons(status, Config()).reasons] == ["journal_full"]


def test_every_code_has_its_meaning() -> None:
    assert COLLECTOR_REASONS.keys() | set(EDGE_REASONS) <= REASONS.keys()
