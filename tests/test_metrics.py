"""The metrics, as Prometheus scrapes them."""

import inspect
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from ingestd import __version__
from ingestd.core.counters import MAX_LABEL_VALUES, OTHER
from ingestd.core.records import TopicPartition
from ingestd.core.values.base import RegistryStatus
from ingestd.ops import metrics
from ingestd.ops.collector_status import CollectorStatus, JournalStatus, NotReadyReason
from ingestd.ops.metrics import Metrics, table
from ingestd.ops.queue_status import QueueStatus
from ingestd.ops.readiness import REASONS, Loading, PartitionStatus, Status

QUEUE = QueueStatus(visible=7, in_flight=3, oldest=1.5, held=2, undeleted=1)
REGISTRY = RegistryStatus(requests=5, failures=2, schemas=3)
A0, A1, B0 = TopicPartition("a", 0), TopicPartition("a", 1), TopicPartition("b", 0)


def landed(it: Metrics, partition: TopicPartition, rows: int, rejected: int = 0, **changes: Any) -> None:
    numbers = {"body_bytes": 100, "row_bytes": 400, "freshness": 1.5, **changes}
    it.landed(partition, rows=rows, rejected=rejected, **numbers)


def exercised() -> Metrics:
    """Every method called once or more."""
    it = Metrics()
    it.rebalanced()
    it.assigned(A0)
    it.consumed(A0, 10)
    it.accepted({"web_visit": 6, "email_open": 2})
    it.rejected({"not_json": 2})
    it.sealed("age", 10, 30.0)
    it.uploaded(0.2)
    it.upload_retried("SlowDown")
    landed(it, A0, rows=4, rejected=1, skipped=2)
    it.adopted(A0, 1)
    it.forked(A0, 0)
    it.released(A0, 1)
    it.committed(A0, 0.01)
    it.commit_refused(A0)
    it.lost_upstream(A0, 7)
    it.halted(A0, "misaligned")
    it.revoked(A0)
    it.process.loop_lag(0.001)
    it.source_restarted()
    it.loaded(4, 12.5)
    it.named(1)
    it.collect.request("web", 200, "")
    it.collect.events("web", "delivered", 2)
    it.collect.delivered(0.01)
    it.collect.accepted("kafka", 1, 300)
    it.collect.accepted("journal", 2, 600)
    it.collect.bind(collector)
    it.queue.received_again("landed", 2)
    it.queue.given_up("late")
    it.queue.fenced()
    it.queue.extended(3)
    it.queue.not_deleted(1)
    return it


def collector(**changes: Any) -> CollectorStatus:
    journal = JournalStatus(records=3, at_start=1, appended=4, removed=2, bytes=900, limit_bytes=5000, oldest=2.5)
    fields: dict[str, Any] = {"address": "127.0.0.1:8080", "uses_kafka": True, "journal": journal}
    return CollectorStatus(**{**fields, **changes})


def status(*partitions: PartitionStatus, **changes: Any) -> Status:
    fields: dict[str, Any] = {
        "version": "1",
        "started_at": datetime(2026, 1, 2, tzinfo=UTC),
        "uptime": 1.0,
        "source": "kafka",
        "sink": "s3://b",
        "phase": "running",
        "reasons": [],
    }
    return Status(partitions=list(partitions), **{**fields, **changes})


def partition_status(partition: TopicPartition, **changes: Any) -> PartitionStatus:
    return PartitionStatus(topic=partition.topic, partition=partition.partition, state="filling", **changes)


def loading(**changes: Any) -> Loading:
    numbers = {"unloaded_objects": 2, "unloaded_rows": 7, "failed_files": 1, "unnamed_objects": 0}
    return Loading(**{**numbers, "oldest_unloaded": 3.5, "compared_age": 60.0, **changes})


def families(it: Metrics) -> dict[str, Metric]:
    """The families of a scrape, by the name in the table."""
    body, _ = it.exposition()
    parsed = text_string_to_metric_families(body.decode())
    return {f"{family.name}_total" if family.type == "counter" else family.name: family for family in parsed}


def samples(it: Metrics, name: str) -> Mapping[tuple[str, ...], float]:
    """Values of one metric by its label values, in the table's order of labels."""
    labels = next(row[2] for row in table() if row[0] == name)
    return {tuple(s.labels[label] for label in labels): s.value for s in families(it)[name].samples if s.name == name}


def test_names_follow_prometheus_conventions() -> None:
    for name, kind, labels, help_text in table():
        assert re.fullmatch(r"ingestd_[a-z]+(_[a-z]+)*", name)
        assert name.endswith("_total") == (kind == "counter")
        assert not re.search(r"_(ms|millis|kib|kb|mb|minutes|hours|count|sum|bucket|info_total)$", name)
        assert help_text.endswith(".")
        assert set(labels) <= {
            "topic", "partition", "event_type", "reason", "trigger", "code", "version", "python", "source", "status",
            "outcome", "where", "found",
        }  # fmt: skip
        if kind == "histogram":
            assert re.search(r"_(seconds|bytes|records)$", name)


def test_names_are_unique() -> None:
    names = [row[0] for row in table()]
    assert len(set(names)) == len(names)


def test_the_exposition_is_the_table_and_the_process() -> None:
    it = exercised()
    it.bind(lambda: status(partition_status(A0), collector=collector(), queue=QUEUE, registry=REGISTRY))
    body, content_type = it.exposition()
    assert content_type.startswith("text/plain; version=0.0.4")
    found = families(it)
    ours = {name: (family.type, family.documentation) for name, family in found.items() if name.startswith("ingestd_")}
    assert ours == {name: (kind, help_text) for name, kind, _, help_text in table()}
    assert all(name.startswith("process_") for name in found.keys() - ours.keys())
    assert b"_created" not in body


def test_every_metric_carries_the_labels_of_the_table() -> None:
    it = exercised()
    partition = partition_status(A0, position=1, committed=1, landed=1, log_end=1, lag=0, behind=0.0, waiting_offsets=0)
    whole = status(partition, loading=loading(), collector=collector(), queue=QUEUE, registry=REGISTRY)
    it.bind(lambda: whole)
    found = families(it)
    for name, _, labels, _ in table():
        assert found[name].samples, name
        for sample in found[name].samples:
            assert set(sample.labels) - {"le"} == set(labels)


def test_every_method_is_exercised_here() -> None:
    methods = {name for name, _ in inspect.getmembers(Metrics, inspect.isfunction) if not name.startswith("_")}
    source = inspect.getsource(exercised) + inspect.getsource(landed)
    assert {m for m in methods if f"it.{m}(" not in source} == {"bind", "exposition"}


def test_totals_are_what_prometheus_reads() -> None:
    it = exercised()
    it.consumed(B0, 5)
    totals = it.counters.totals()
    assert (totals.consumed, totals.landed, totals.quarantined, totals.skipped) == (15, 4, 1, 2)
    assert (totals.released, totals.in_flight) == (2, 6)
    assert totals.consumed == 4 + 1 + totals.skipped + totals.released + totals.in_flight
    assert (totals.objects, totals.object_bytes, totals.adopted) == (1, 100, 1)
    assert totals.accepted_by_type == {"web_visit": 6, "email_open": 2}
    assert totals.rejected_by_reason == {"not_json": 2}
    for name in ("consumed", "landed", "quarantined", "skipped", "released"):
        assert sum(samples(it, f"ingestd_records_{name}_total").values()) == getattr(totals, name)
    assert samples(it, "ingestd_records_in_flight") == {("a",): 1.0, ("b",): 5.0}


def test_records_lost_upstream_are_not_part_of_what_was_consumed() -> None:
    it = Metrics()
    it.lost_upstream(A0, 9)
    assert it.counters.totals().consumed == 0
    assert samples(it, "ingestd_records_lost_upstream_total") == {("a",): 9.0}


def test_counters_of_an_assigned_topic_begin_at_zero() -> None:
    it = Metrics()
    it.assigned(A0)
    assert samples(it, "ingestd_records_landed_total") == {("a",): 0.0}
    it.assigned(A1)
    landed(it, A1, rows=1)
    it.assigned(A0)
    assert samples(it, "ingestd_records_landed_total") == {("a",): 1.0}


def test_a_revoked_partition_vanishes_and_its_topics_counters_stay() -> None:
    it = Metrics()
    owned = [partition_status(A0, lag=1), partition_status(A1, lag=2, halted="misaligned")]
    it.bind(lambda: status(*owned))
    it.consumed(A1, 3)
    assert samples(it, "ingestd_partition_lag_records") == {("a", "0"): 1.0, ("a", "1"): 2.0}
    assert samples(it, "ingestd_partition_halted") == {("a", "0"): 0.0, ("a", "1"): 1.0}
    del owned[1]
    it.revoked(A1)
    landed(it, A1, rows=3)  # an upload that was under way
    body = it.exposition()[0].decode()
    assert 'partition="0"' in body
    assert 'partition="1"' not in body
    assert samples(it, "ingestd_records_landed_total") == {("a",): 3.0}


def test_what_is_not_known_yet_has_no_sample() -> None:
    it = Metrics()
    it.bind(lambda: status(partition_status(A0, position=5)))
    assert samples(it, "ingestd_partition_position_offset") == {("a", "0"): 5.0}
    for name in ("landed_offset", "committed_offset", "log_end_offset", "lag_records"):
        assert samples(it, f"ingestd_partition_{name}") == {}
    assert samples(it, "ingestd_partition_oldest_unlanded_seconds") == {("a", "0"): 0.0}


def test_a_position_that_no_sample_can_hold_has_none() -> None:
    it = Metrics()
    it.bind(lambda: status(partition_status(A0, position=10**55, landed=10**55, behind=2.5)))
    assert samples(it, "ingestd_partition_position_offset") == {}
    assert samples(it, "ingestd_partition_landed_offset") == {}
    assert samples(it, "ingestd_partition_behind_seconds") == {("a", "0"): 2.5}


def test_what_waits_behind_an_open_transaction_is_shown() -> None:
    it = Metrics()
    it.bind(lambda: status(partition_status(A0, waiting_offsets=6), partition_status(A1)))
    assert samples(it, "ingestd_partition_waiting_for_transaction_offsets") == {("a", "0"): 6.0}


def test_readiness_is_shown_by_reason() -> None:
    it = Metrics()
    it.bind(lambda: status(reasons=[NotReadyReason("stalled", "nothing moves")]))
    assert samples(it, "ingestd_ready") == {(): 0.0}
    assert samples(it, "ingestd_not_ready") == {(code,): float(code == "stalled") for code in REASONS}
    it.bind(status)
    assert samples(it, "ingestd_ready") == {(): 1.0}
    assert set(samples(it, "ingestd_not_ready").values()) == {0.0}


def test_requests_to_the_registry_are_shown_where_there_is_one() -> None:
    it = Metrics()
    it.bind(status)
    assert not any(name.startswith("ingestd_registry_") for name in families(it))
    it.bind(lambda: status(registry=REGISTRY))
    assert samples(it, "ingestd_registry_requests_total") == {(): 5.0}
    assert samples(it, "ingestd_registry_failures_total") == {(): 2.0}
    assert samples(it, "ingestd_registry_cached_schemas") == {(): 3.0}


def test_how_far_the_table_is_behind_is_shown_where_it_is_followed() -> None:
    it = Metrics()
    it.bind(status)
    assert samples(it, "ingestd_snowflake_unloaded_rows") == {}
    it.bind(lambda: status(loading=loading()))
    assert samples(it, "ingestd_snowflake_unloaded_rows") == {(): 7.0}
    assert samples(it, "ingestd_snowflake_oldest_unloaded_seconds") == {(): 3.5}
    assert samples(it, "ingestd_snowflake_failed_files") == {(): 1.0}
    it.bind(lambda: status(loading=loading(oldest_unloaded=None, compared_age=None)))
    assert samples(it, "ingestd_snowflake_oldest_unloaded_seconds") == {(): 0.0}
    assert samples(it, "ingestd_snowflake_compared_seconds") == {}


def test_build_and_buffers_are_exported() -> None:
    it = Metrics()
    it.bind(lambda: status(buffered_bytes=10, budget_bytes=20))
    [(version, python)] = samples(it, "ingestd_build_info")
    assert version == __version__
    assert re.fullmatch(r"3\.\d+\.\d+", python)
    assert samples(it, "ingestd_buffered_bytes") == {(): 10.0}
    assert samples(it, "ingestd_buffer_budget_bytes") == {(): 20.0}
    assert samples(it, "ingestd_start_time_seconds") == {(): datetime(2026, 1, 2, tzinfo=UTC).timestamp()}


def test_a_scrape_before_there_is_a_snapshot_has_the_counters() -> None:
    assert samples(Metrics(), "ingestd_rebalances_total") == {(): 0.0}


@pytest.mark.parametrize(
    ("method", "name"),
    [("upload_retried", "upload_retries"), ("accepted", "events_accepted"), ("rejected", "events_rejected")],
)
def test_labels_that_others_choose_are_bounded(method: str, name: str) -> None:
    it = Metrics()
    for number in range(1000):
        label = f"code{number}"
        getattr(it, method)(label if method == "upload_retried" else {label: 1})
    found = samples(it, f"ingestd_{name}_total")
    assert len(found) == MAX_LABEL_VALUES + 1
    assert found[(OTHER,)] == 1000 - MAX_LABEL_VALUES
    assert found[("code0",)] == 1.0


@pytest.mark.parametrize("label", ["x" * 65, "line\nbreak", "\ud800"])
def test_a_label_that_would_harm_the_exposition_counts_as_other(label: str) -> None:
    it = Metrics()
    it.accepted({label: 2})
    assert samples(it, "ingestd_events_accepted_total") == {(OTHER,): 2.0}


@given(st.dictionaries(st.text(max_size=70), st.integers(1, 10**6), max_size=60))
def test_any_event_type_can_be_scraped_and_none_is_lost(by_type: dict[str, int]) -> None:
    it = Metrics()
    it.accepted(by_type)
    assert sum(samples(it, "ingestd_events_accepted_total").values()) == sum(by_type.values())


@given(st.lists(st.floats(0, 2e5), min_size=1, max_size=30))
def test_a_histogram_counts_each_value_at_and_below_its_bound(values: list[float]) -> None:
    it = Metrics()
    for value in values:
        it.sealed("age", 1, value)
    family = families(it)["ingestd_batch_age_seconds"]
    for sample in family.samples:
        if sample.name.endswith("_bucket"):
            assert sample.value == sum(value <= float(sample.labels["le"]) for value in values)
    assert {s.name: s.value for s in family.samples if s.name.endswith("_count")} == {
        "ingestd_batch_age_seconds_count": len(values)
    }
    [total] = [s.value for s in family.samples if s.name.endswith("_sum")]
    assert total == pytest.approx(sum(values))


def test_two_daemons_in_one_process_do_not_share_numbers() -> None:
    one, two = Metrics(), Metrics()
    one.rebalanced()
    assert samples(two, "ingestd_rebalances_total") == {(): 0.0}
    assert not hasattr(metrics, "REGISTRY")
