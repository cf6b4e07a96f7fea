"""When the daemon is ready, and why not."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.config.model import BatchConfig, Config, HealthConfig, SinkConfig
from ingestd.config.types import Seconds
from ingestd.core.counters import Totals
from ingestd.ops.readiness import REASONS, PartitionStatus, Status, reasons, with_reasons

CONFIG = Config(
    batch=BatchConfig(interval=Seconds(30)),
    health=HealthConfig(
        stall=Seconds(120), no_partition=Seconds(60), source_unavailable=Seconds(40), loop_lag=Seconds(3)
    ),
    sink=SinkConfig(retry_max=Seconds(30)),
)


def status(**changes: Any) -> Status:
    fields: dict[str, Any] = {
        "version": "1",
        "started_at": datetime(2026, 1, 2, tzinfo=UTC),
        "uptime": 100.0,
        "source": "kafka",
        "sink": "s3://bucket/prefix",
        "phase": "running",
        "assigned": True,
        "partitions": [partition()],
    }
    return Status(**{**fields, **changes})


def partition(**changes: Any) -> PartitionStatus:
    return PartitionStatus(**{"topic": "events", "partition": 0, "state": "filling", **changes})


def codes(it: Status) -> list[str]:
    return [reason.code for reason in reasons(it, CONFIG)]


def test_ready_while_it_makes_progress() -> None:
    it = status(partitions=[partition(position=10, landed=5, log_end=1000, lag=995, oldest_unlanded=29.0)])
    assert reasons(it, CONFIG) == []


def test_ready_at_the_logs_end_however_long_nothing_comes() -> None:
    it = status(uptime=1e6, partitions=[partition(position=10, committed=10, landed=10, log_end=10, lag=0)])
    assert reasons(it, CONFIG) == []


def test_a_snapshot_without_an_evaluation_is_not_ready() -> None:
    assert not status().ready
    assert with_reasons(status(), CONFIG).ready


@pytest.mark.parametrize(
    ("within", "beyond", "code"),
    [
        ({"phase": "running"}, {"phase": "starting"}, "starting"),
        ({"phase": "running"}, {"phase": "draining"}, "draining"),
        ({"phase": "running"}, {"phase": "stopped"}, "draining"),
        (
            {"assigned": False, "unassigned_age": 60.0, "partitions": []},
            {"assigned": False, "unassigned_age": 60.1, "partitions": []},
            "no_assignment",
        ),
        (
            {"sink_error": "503", "sink_error_age": 30.0},
            {"sink_error": "503", "sink_error_age": 30.1},
            "sink_unavailable",
        ),
        (
            {"source_error": "no broker", "source_error_age": 40.0},
            {"source_error": "no broker", "source_error_age": 40.1},
            "source_unavailable",
        ),
        ({"loop_lag": 3.0}, {"loop_lag": 3.1}, "loop_lagging"),
        (
            {"partitions": [partition(oldest_unlanded=150.0)]},
            {"partitions": [partition(oldest_unlanded=150.1)]},
            "stalled",
        ),
        (
            {"partitions": [partition(waiting=150.0, waiting_offsets=6)]},
            {"partitions": [partition(waiting=150.1, waiting_offsets=6)]},
            "waiting_for_transaction",
        ),
        ({"partitions": [partition(starved=150.0)]}, {"partitions": [partition(starved=150.1)]}, "stalled"),
    ],
)
def test_not_ready_from_the_limit_on(within: dict[str, Any], beyond: dict[str, Any], code: str) -> None:
    assert codes(status(**within)) == []
    assert codes(status(**beyond)) == [code]


def test_a_source_that_fails_before_any_partition_is_assigned_is_unavailable_within_seconds() -> None:
    fields: dict[str, Any] = {"assigned": False, "partitions": [], "source_error": "no coordinator"}
    assert codes(status(**fields, source_error_age=5.0, unassigned_age=5.0)) == []
    assert codes(status(**fields, source_error_age=5.1, unassigned_age=5.1)) == ["source_unavailable"]


def test_no_assignment_which_may_be_harmless_is_not_told_where_the_source_fails() -> None:
    it = status(
        assigned=False, partitions=[], source_error="no coordinator", source_error_age=70.0, unassigned_age=70.0
    )
    assert codes(it) == ["source_unavailable"]


def test_a_denied_access_is_not_ready_at_once() -> None:
    it = status(sink_error="NoSuchBucket", sink_error_age=0.0, sink_forbidden=True)
    assert [(reason.code, reason.message) for reason in reasons(it, CONFIG)] == [("sink_forbidden", "NoSuchBucket")]


def test_errors_of_sink_and_source_are_reported_while_starting_and_draining_too() -> None:
    for phase, code in (("starting", "starting"), ("draining", "draining")):
        assert codes(status(phase=phase, sink_error="403", sink_forbidden=True)) == [code, "sink_forbidden"]


def test_a_halted_partition_is_named_with_its_remedy_and_is_not_stalled_as_well() -> None:
    it = status(
        partitions=[partition(state="halted", halted="misaligned: reset to 7", oldest_unlanded=1e6, starved=1e6)]
    )
    [reason] = reasons(it, CONFIG)
    assert (reason.code, reason.message) == ("partition_halted", "events[0]: misaligned: reset to 7")


def test_one_stall_is_reported_however_many_partitions_stall() -> None:
    it = status(partitions=[partition(partition=n, oldest_unlanded=1000.0 + n) for n in range(200)])
    [reason] = reasons(it, CONFIG)
    assert reason.message == "events[199] (and 199 more): no progress for 1199 s, the limit is 150 s"


def test_an_open_transaction_is_one_reason_that_says_how_much_waits() -> None:
    it = status(partitions=[partition(partition=n, waiting=200.0 + n, waiting_offsets=6) for n in range(3)])
    [reason] = reasons(it, CONFIG)
    assert reason.message == (
        "events[2] (and 2 more): 6 offsets wait for the end of a transaction that has been open for 202 s, "
        "the limit is 150 s"
    )


AGES = st.none() | st.floats(0, 1e7)
STATUSES = st.builds(
    status,
    phase=st.sampled_from(["starting", "running", "draining", "stopped"]),
    assigned=st.booleans(),
    unassigned_age=AGES,
    sink_error=st.none() | st.just("e"),
    sink_error_age=AGES,
    sink_forbidden=st.booleans(),
    source_error=st.none() | st.just("e"),
    source_error_age=AGES,
    loop_lag=st.floats(0, 100),
    partitions=st.lists(
        st.builds(partition, oldest_unlanded=AGES, starved=AGES, halted=st.none() | st.just("h")), max_size=3
    ),
)


@given(STATUSES)
def test_every_reason_is_documented_and_every_snapshot_survives_json(it: Status) -> None:
    whole = with_reasons(it, CONFIG)
    assert {reason.code for reason in whole.reasons} <= REASONS.keys()
    assert msgspec.json.decode(msgspec.json.encode(whole), type=Status) == whole


def test_every_documented_reason_says_what_to_do() -> None:
    for code, meaning in REASONS.items():
        assert code == code.lower()
        assert meaning.endswith(".")
        assert len(meaning) > 40


def test_totals_begin_at_nothing() -> None:
    assert Totals() == Totals(consumed=0, landed=0, rejected_by_reason={}, accepted_by_type={})
