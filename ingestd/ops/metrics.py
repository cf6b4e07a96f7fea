"""The metrics that Prometheus scrapes.

Counters and histograms are updated when something happens, gauges are read from the status at each scrape. Records and
objects are counted in ``FlowCounters``; this file only exports them.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Literal, NamedTuple

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from ingestd import __version__
from ingestd.core.counters import FlowCounters, bounded_label
from ingestd.core.records import TopicPartition
from ingestd.ops.histogram import Histogram
from ingestd.ops.readiness import REASONS, Loading, PartitionStatus, Status

PREFIX = "ingestd_"

_SECOND_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
_AGE_BOUNDS = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0, 21600.0, 86400.0)
_RECORD_BOUNDS = (0.0, 1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6, 1e7)
_BYTE_BOUNDS = tuple(float(1 << power) for power in range(10, 31, 2))  # 1 KiB ... 1 GiB


class MetricRow(NamedTuple):
    """One line of the table of metrics."""

    name: str
    type: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    help: str
    bounds: tuple[float, ...] = ()


def _counter(name: str, help_text: str, *labels: str) -> MetricRow:
    return MetricRow(f"{PREFIX}{name}_total", "counter", labels, help_text)


def _gauge(name: str, help_text: str, *labels: str) -> MetricRow:
    return MetricRow(PREFIX + name, "gauge", labels, help_text)


def _histogram(name: str, help_text: str, bounds: tuple[float, ...], *labels: str) -> MetricRow:
    return MetricRow(PREFIX + name, "histogram", labels, help_text, bounds)


class M(Enum):
    """All metrics, in the order of the exposition."""

    # consumed = landed + quarantined + released + in flight, at every scrape
    CONSUMED = _counter("records_consumed", "Records read from the source.", "topic")
    LANDED = _counter("records_landed", "Records written as rows of data objects by this process.", "topic")
    QUARANTINED = _counter("records_quarantined", "Rejected records written to quarantine objects.", "topic")
    RELEASED = _counter(
        "records_released", "Records dropped on a change of owner: landed by the new one, or read again.", "topic"
    )
    IN_FLIGHT = _gauge("records_in_flight", "Records that are buffered and have not landed.", "topic")
    LOST = _counter("records_lost_upstream", "Records that retention removed before they were read.", "topic")
    ACCEPTED = _counter("events_accepted", "Events that passed validation; after 30 types: other.", "event_type")
    REJECTED = _counter("events_rejected", "Events that failed validation, by reason.", "reason")

    SEALED = _counter("batches_sealed", "Batches closed, by what closed them.", "trigger")
    BATCH_RECORDS = _histogram("batch_records", "Records of a closed batch.", _RECORD_BOUNDS, "trigger")
    BATCH_AGE = _histogram("batch_age_seconds", "From a batch's first record to its closing.", _AGE_BOUNDS, "trigger")

    OBJECTS = _counter("objects_landed", "Data objects written by this process.", "topic")
    ADOPTED = _counter("objects_adopted", "Data objects that another daemon wrote first.", "topic")
    OBJECT_BYTES = _histogram("object_size_bytes", "Compressed size of a data object.", _BYTE_BOUNDS)
    ROW_BYTES = _counter("row_bytes", "Uncompressed bytes of the rows landed, which Snowpipe bills.", "topic")
    UPLOAD = _histogram(
        "upload_duration_seconds", "Time to upload a batch, quarantine and retries included.", _SECOND_BOUNDS
    )
    UPLOAD_RETRIES = _counter("upload_retries", "Failed calls to the sink that are retried, by error code.", "code")
    FRESHNESS = _histogram(
        "landing_delay_seconds", "Landing time minus Kafka timestamp of a batch's last record.", _AGE_BOUNDS
    )

    COMMIT = _histogram("commit_duration_seconds", "Duration of successful commits.", _SECOND_BOUNDS)
    COMMITS = _counter("commits", "Successful commits.", "topic")
    REFUSED = _counter("commits_refused", "Commits refused because the partition had been revoked.", "topic")
    ASSIGNMENTS = _counter("partition_assignments", "Partitions assigned to this process.", "topic")
    REVOCATIONS = _counter("partition_revocations", "Partitions revoked from this process.", "topic")
    HALTS = _counter("partition_halts", "Partitions halted because continuing was not safe.", "topic", "code")
    FORKS = _counter("partition_forks", "Chains that went on after a truncation of the log.", "topic")
    REBALANCES = _counter("rebalances", "Changes of the group's assignment.")
    SOURCE_RESTARTS = _counter("source_restarts", "Times the source was rebuilt because it made no progress.")
    LOOP_LAG = _histogram("loop_lag_seconds", "How late the event loop wakes a sleeping task.", _SECOND_BOUNDS)

    ROWS_LOADED = _counter("snowflake_rows_loaded", "Rows of objects that Snowflake has loaded completely.")
    NAMED = _counter("snowflake_objects_named", "Objects submitted to the pipe (snowflake.delivery = rest).")
    LOADING = _histogram(
        "snowflake_loading_delay_seconds", "Load time in Snowflake minus Kafka timestamp of an object's last record.",
        _AGE_BOUNDS,
    )  # fmt: skip
    UNLOADED = _gauge("snowflake_unloaded_objects", "Objects landed and not confirmed in the table.")
    UNLOADED_ROWS = _gauge("snowflake_unloaded_rows", "Rows landed minus rows confirmed in the table.")
    OLDEST_UNLOADED = _gauge(
        "snowflake_oldest_unloaded_seconds", "Time since the oldest of them landed; 0 without one."
    )
    FAILED_FILES = _gauge("snowflake_failed_files", "Files that Snowflake could not load completely.")
    UNNAMED = _gauge("snowflake_unnamed_objects", "Objects not yet submitted to the pipe.")
    COMPARED = _gauge("snowflake_compared_seconds", "Time since the last comparison with Snowflake.")

    PARTITIONS = _gauge("partitions", "Partitions assigned to this process now.")
    POSITION = _gauge("partition_position_offset", "Next offset to read.", "topic", "partition")
    LANDED_OFFSET = _gauge("partition_landed_offset", "All lower offsets are in objects.", "topic", "partition")
    COMMITTED = _gauge("partition_committed_offset", "Committed offset.", "topic", "partition")
    LOG_END = _gauge("partition_log_end_offset", "End of the log.", "topic", "partition")
    LAG = _gauge("partition_lag_records", "Offsets that have not landed, up to the log's end.", "topic", "partition")
    WAITING = _gauge(
        "partition_waiting_for_transaction_offsets",
        "Offsets behind an open transaction: high watermark minus last stable offset.", "topic", "partition",
    )  # fmt: skip
    OLDEST = _gauge(
        "partition_oldest_unlanded_seconds", "How long the oldest unlanded record has been buffered; 0 without one.",
        "topic", "partition",
    )  # fmt: skip
    HALTED = _gauge(
        "partition_halted", "1 while the partition is halted and an operator must act.", "topic", "partition"
    )
    BUFFERED = _gauge("buffered_bytes", "Bytes that are buffered and have not landed.")
    BUDGET = _gauge("buffer_budget_bytes", "The most bytes that are buffered (batch.memory).")
    READY = _gauge("ready", "1 while /readyz returns 200.")
    NOT_READY = _gauge("not_ready", "1 for each reason not to be ready.", "reason")
    START = _gauge("start_time_seconds", "When the daemon started, seconds since the epoch.")
    BUILD = _gauge("build_info", "Always 1; versions are in the labels.", "version", "python")


def table() -> list[tuple[str, str, tuple[str, ...], str]]:
    """All metrics: name, type, labels, help. The usual ``process_`` metrics are exported as well."""
    return [(row.name, row.type, row.labels, row.help) for row in (member.value for member in M)]


class Metrics:
    """Counts what happens, and exports it. Methods are for one thread: the event loop's."""

    def __init__(self, counters: FlowCounters | None = None) -> None:
        self.counters = counters or FlowCounters()
        self._flow = {
            M.CONSUMED: self.counters.consumed,
            M.LANDED: self.counters.landed,
            M.QUARANTINED: self.counters.quarantined,
            M.RELEASED: self.counters.released,
            M.IN_FLIGHT: self.counters.in_flight,
            M.ACCEPTED: self.counters.accepted_by_type,
            M.REJECTED: self.counters.rejected_by_reason,
            M.OBJECTS: self.counters.objects,
            M.ADOPTED: self.counters.adopted,
        }
        self._values: dict[M, dict[tuple[str, ...], int]] = {
            member: {} if member.value.labels else {(): 0}
            for member in M
            if member.value.type == "counter" and member not in self._flow
        }
        self._histograms: dict[M, dict[tuple[str, ...], Histogram]] = {
            member: {} if member.value.labels else {(): Histogram(member.value.bounds)}
            for member in M
            if member.value.type == "histogram"
        }
        self._snapshot: Callable[[], Status] | None = None
        self._registry = CollectorRegistry()
        self._registry.register(_Families(self._families))
        ProcessCollector(registry=self._registry)

    def bind(self, snapshot: Callable[[], Status]) -> None:
        """Read the gauges from this function, once for each scrape."""
        self._snapshot = snapshot

    def exposition(self) -> tuple[bytes, str]:
        """The body and content type of a response to a scrape."""
        return generate_latest(self._registry), CONTENT_TYPE_PLAIN_0_0_4

    # -- ownership

    def rebalanced(self) -> None:
        self._add(M.REBALANCES, 1)

    def assigned(self, partition: TopicPartition) -> None:
        """Counters of its topic start at 0 now: a rate over a counter that appears with 1 would miss that one."""
        self.counters.add_topic(partition.topic)
        for member, values in self._values.items():
            if member.value.labels == ("topic",):
                values.setdefault((partition.topic,), 0)
        self._add(M.ASSIGNMENTS, 1, partition.topic)

    def revoked(self, partition: TopicPartition) -> None:
        """Its gauges vanish when the status no longer lists it."""
        self._add(M.REVOCATIONS, 1, partition.topic)

    def halted(self, partition: TopicPartition, reason_code: str) -> None:
        self._add(M.HALTS, 1, partition.topic, reason_code)

    # -- records in

    def consumed(self, partition: TopicPartition, records: int) -> None:
        self.counters.record_consumed(partition.topic, records)

    def accepted(self, by_type: Mapping[str, int]) -> None:
        self.counters.record_validated(by_type, {})

    def rejected(self, by_reason: Mapping[str, int]) -> None:
        self.counters.record_validated({}, by_reason)

    def lost_upstream(self, partition: TopicPartition, records: int) -> None:
        """Retention removed these records before they were read: they do not count as consumed."""
        self._add(M.LOST, records, partition.topic)

    def sealed(self, trigger: str, records: int, age: float) -> None:
        self._add(M.SEALED, 1, trigger)
        self._observe(M.BATCH_RECORDS, records, trigger)
        self._observe(M.BATCH_AGE, age, trigger)

    # -- objects out

    def uploaded(self, seconds: float) -> None:
        self._observe(M.UPLOAD, seconds)

    def upload_retried(self, code: str) -> None:
        known = {label: count for (label,), count in self._values[M.UPLOAD_RETRIES].items()}
        self._add(M.UPLOAD_RETRIES, 1, bounded_label(known, code))

    def landed(
        self,
        partition: TopicPartition,
        *,
        rows: int,
        rejected: int,
        body_bytes: int,
        row_bytes: int,
        freshness: float,
    ) -> None:
        """A data object was written, and before it the quarantine object of its rejected records.

        `body_bytes` is compressed, `row_bytes` is not; `freshness` is now minus the last record's Kafka timestamp (s).
        """
        topic = partition.topic
        self.counters.record_landed(topic, rows=rows, rejected=rejected, body_bytes=body_bytes)
        self._add(M.ROW_BYTES, row_bytes, topic)
        self._observe(M.OBJECT_BYTES, body_bytes)
        self._observe(M.FRESHNESS, freshness)

    def adopted(self, partition: TopicPartition, records_released: int) -> None:
        """Another daemon's object takes the place of these records."""
        self.counters.record_adopted(partition.topic, records_released)

    def forked(self, partition: TopicPartition, records_released: int) -> None:
        """The chain goes on after a truncation of the log; these records were read before and are read again."""
        self._add(M.FORKS, 1, partition.topic)
        self.counters.record_released(partition.topic, records_released)

    def released(self, partition: TopicPartition, records: int) -> None:
        self.counters.record_released(partition.topic, records)

    def committed(self, partition: TopicPartition, seconds: float) -> None:
        self._add(M.COMMITS, 1, partition.topic)
        self._observe(M.COMMIT, seconds)

    def commit_refused(self, partition: TopicPartition) -> None:
        self._add(M.REFUSED, 1, partition.topic)

    # -- Snowflake

    def loaded(self, rows: int, delay: float | None) -> None:
        """All rows of an object are in the table; `delay` is load time minus its last record's Kafka timestamp (s)."""
        self._add(M.ROWS_LOADED, rows)
        if delay is not None:
            self._observe(M.LOADING, delay)

    def named(self, objects: int) -> None:
        self._add(M.NAMED, objects)

    # -- the process

    def source_restarted(self) -> None:
        self._add(M.SOURCE_RESTARTS, 1)

    def loop_lag(self, seconds: float) -> None:
        self._observe(M.LOOP_LAG, seconds)

    # -- storage and export

    def _add(self, member: M, amount: int, *labels: str) -> None:
        values = self._values[member]
        values[labels] = values.get(labels, 0) + amount

    def _observe(self, member: M, value: float, *labels: str) -> None:
        known = self._histograms[member]
        if (histogram := known.get(labels)) is None:
            histogram = known[labels] = Histogram(member.value.bounds)
        histogram.observe(value)

    def _families(self) -> Iterator[Metric]:
        gauges = _gauges(self._snapshot()) if self._snapshot is not None else {}
        counts: dict[M, dict[tuple[str, ...], int]] = dict(self._values)
        for member, flow in self._flow.items():
            counts[member] = {(label,): count for label, count in flow.items()}
        gauges[M.IN_FLIGHT] = counts[M.IN_FLIGHT].items()
        for member in M:
            row = member.value
            if row.type == "histogram":
                yield _distributions(row, self._histograms[member])
            elif row.type == "counter":
                counter = CounterMetricFamily(row.name, row.help, labels=row.labels)
                for labels, value in counts[member].items():
                    counter.add_metric(labels, value)
                yield counter
            else:
                gauge = GaugeMetricFamily(row.name, row.help, labels=row.labels)
                for names, level in gauges.get(member, ()):
                    gauge.add_metric(names, level)
                yield gauge


Samples = Iterable[tuple[Sequence[str], float]]


def _gauges(status: Status) -> dict[M, Samples]:
    """The gauges of a status. A number that is not known yet has no sample."""
    active = {reason.code for reason in status.reasons}
    python = ".".join(map(str, sys.version_info[:3]))

    def per_partition(value: Callable[[PartitionStatus], float | None]) -> Samples:
        return [((it.topic, str(it.partition)), level) for it in status.partitions if (level := value(it)) is not None]

    return {
        M.PARTITIONS: [((), len(status.partitions))],
        M.POSITION: per_partition(lambda it: it.position),
        M.LANDED_OFFSET: per_partition(lambda it: it.landed),
        M.COMMITTED: per_partition(lambda it: it.committed),
        M.LOG_END: per_partition(lambda it: it.log_end),
        M.LAG: per_partition(lambda it: it.lag),
        M.WAITING: per_partition(lambda it: it.waiting_offsets),
        M.OLDEST: per_partition(lambda it: it.oldest_unlanded or 0.0),
        M.HALTED: per_partition(lambda it: it.halted is not None),
        M.BUFFERED: [((), status.buffered_bytes)],
        M.BUDGET: [((), status.budget_bytes)],
        M.READY: [((), status.ready)],
        M.NOT_READY: [((code,), code in active) for code in REASONS],
        **_loading(status.loading),
        M.START: [((), status.started_at.timestamp())],
        M.BUILD: [((__version__, python), 1)],
    }


def _loading(loading: Loading | None) -> dict[M, Samples]:
    if loading is None:
        return {}
    found: dict[M, Samples] = {
        M.UNLOADED: [((), loading.unloaded_objects)],
        M.UNLOADED_ROWS: [((), loading.unloaded_rows)],
        M.OLDEST_UNLOADED: [((), loading.oldest_unloaded or 0.0)],
        M.FAILED_FILES: [((), loading.failed_files)],
        M.UNNAMED: [((), loading.unnamed_objects)],
    }
    if loading.compared_age is not None:
        found[M.COMPARED] = [((), loading.compared_age)]
    return found


def _distributions(row: MetricRow, histograms: Mapping[tuple[str, ...], Histogram]) -> HistogramMetricFamily:
    family = HistogramMetricFamily(row.name, row.help, labels=row.labels)
    for labels, histogram in histograms.items():
        family.add_metric(labels, histogram.buckets(), histogram.total)
    return family


class _Families(Collector):
    """Adapts a function to the collector that the library expects."""

    def __init__(self, families: Callable[[], Iterable[Metric]]) -> None:
        self._collect = families

    def collect(self) -> Iterable[Metric]:
        return self._collect()

    def describe(self) -> Iterable[Metric]:
        """Empty, so that registering does not read the status."""
        return ()
