"""The metrics that Prometheus scrapes.

Counters and histograms are updated when something happens, gauges are read from the status at each scrape. Records and
objects are counted in ``FlowCounters``; this file only exports them.
"""

from collections.abc import Callable, Iterator, Mapping
from enum import Enum

from prometheus_client.core import Metric

from ingestd.core.counters import FlowCounters, bounded_label
from ingestd.core.records import TopicPartition
from ingestd.ops.collect_metrics import C, CollectMetrics
from ingestd.ops.metric_store import (
    SECOND_BOUNDS,
    Exposition,
    MetricStore,
    Samples,
    counter,
    gauge,
    histogram,
)
from ingestd.ops.process_metrics import P, ProcessMetrics
from ingestd.ops.queue_metrics import Q, QueueMetrics
from ingestd.ops.readiness import REASONS, Loading, PartitionStatus, Status
from ingestd.ops.registry_metrics import R, registry_families

_AGE_BOUNDS = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0, 21600.0, 86400.0)
_RECORD_BOUNDS = (0.0, 1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6, 1e7)
_LARGEST_EXACT = 1 << 53  # of the integers below which a double has every one
_BYTE_BOUNDS = tuple(float(1 << power) for power in range(10, 31, 2))  # 1 KiB ... 1 GiB


class M(Enum):
    """All metrics, in the order of the exposition."""

    # consumed = landed + quarantined + skipped + released + in flight, at every scrape
    CONSUMED = counter("records_consumed", "Records read from the source.", "topic")
    LANDED = counter("records_landed", "Records written as rows of data objects by this process.", "topic")
    QUARANTINED = counter("records_quarantined", "Rejected records written to quarantine objects.", "topic")
    SKIPPED = counter(
        "records_skipped", "Tombstones without a row in the ranges of objects (events.tombstones = skip).", "topic"
    )
    RELEASED = counter(
        "records_released", "Records dropped on a change of owner: landed by the new one, or read again.", "topic"
    )
    IN_FLIGHT = gauge("records_in_flight", "Records that are buffered and have not landed.", "topic")
    LOST = counter("records_lost_upstream", "Records that retention removed before they were read.", "topic")
    ACCEPTED = counter("events_accepted", "Events that passed validation; after 30 types: other.", "event_type")
    REJECTED = counter("events_rejected", "Events that failed validation, by reason.", "reason")

    SEALED = counter("batches_sealed", "Batches closed, by what closed them.", "trigger")
    BATCH_RECORDS = histogram("batch_records", "Records of a closed batch.", _RECORD_BOUNDS, "trigger")
    BATCH_AGE = histogram("batch_age_seconds", "From a batch's first record to its closing.", _AGE_BOUNDS, "trigger")

    OBJECTS = counter("objects_landed", "Data objects written by this process.", "topic")
    ADOPTED = counter("objects_adopted", "Data objects that another daemon wrote first.", "topic")
    OBJECT_BYTES = histogram("object_size_bytes", "Compressed size of a data object.", _BYTE_BOUNDS)
    ROW_BYTES = counter("row_bytes", "Uncompressed bytes of the rows landed, which Snowpipe bills.", "topic")
    UPLOAD = histogram(
        "upload_duration_seconds", "Time to upload a batch, quarantine and retries included.", SECOND_BOUNDS
    )
    UPLOAD_RETRIES = counter("upload_retries", "Failed calls to the sink that are retried, by error code.", "code")
    FRESHNESS = histogram(
        "landing_delay_seconds", "Landing time minus Kafka timestamp of a batch's last record.", _AGE_BOUNDS
    )

    COMMIT = histogram("commit_duration_seconds", "Duration of successful commits.", SECOND_BOUNDS)
    COMMITS = counter("commits", "Successful commits.", "topic")
    REFUSED = counter("commits_refused", "Commits refused because the partition had been revoked.", "topic")
    ASSIGNMENTS = counter("partition_assignments", "Partitions assigned to this process.", "topic")
    REVOCATIONS = counter("partition_revocations", "Partitions revoked from this process.", "topic")
    HALTS = counter("partition_halts", "Partitions halted because continuing was not safe.", "topic", "code")
    FORKS = counter("partition_forks", "Chains that went on after a truncation of the log.", "topic")
    REBALANCES = counter("rebalances", "Changes of the group's assignment.")
    SOURCE_RESTARTS = counter("source_restarts", "Times the source was rebuilt because it made no progress.")

    ROWS_LOADED = counter("snowflake_rows_loaded", "Rows of objects that Snowflake has loaded completely.")
    NAMED = counter("snowflake_objects_named", "Objects submitted to the pipe (snowflake.delivery = rest).")
    LOADING = histogram(
        "snowflake_loading_delay_seconds", "Load time in Snowflake minus Kafka timestamp of an object's last record.",
        _AGE_BOUNDS,
    )  # fmt: skip
    UNLOADED = gauge("snowflake_unloaded_objects", "Objects landed and not confirmed in the table.")
    UNLOADED_ROWS = gauge("snowflake_unloaded_rows", "Rows landed minus rows confirmed in the table.")
    OLDEST_UNLOADED = gauge("snowflake_oldest_unloaded_seconds", "Time since the oldest of them landed; 0 without one.")
    FAILED_FILES = gauge("snowflake_failed_files", "Files that Snowflake could not load completely.")
    UNNAMED = gauge("snowflake_unnamed_objects", "Objects not yet submitted to the pipe.")
    COMPARED = gauge("snowflake_compared_seconds", "Time since the last comparison with Snowflake.")

    PARTITIONS = gauge("partitions", "Partitions assigned to this process now.")
    POSITION = gauge("partition_position_offset", "Next offset to read.", "topic", "partition")
    LANDED_OFFSET = gauge("partition_landed_offset", "All lower offsets are in objects.", "topic", "partition")
    COMMITTED = gauge("partition_committed_offset", "Committed offset.", "topic", "partition")
    LOG_END = gauge("partition_log_end_offset", "End of the log.", "topic", "partition")
    LAG = gauge("partition_lag_records", "Offsets that have not landed, up to the log's end.", "topic", "partition")
    BEHIND = gauge(
        "partition_behind_seconds",
        "How far the last read was behind the end of the log; for sources whose positions do not count records.",
        "topic", "partition",
    )  # fmt: skip
    WAITING = gauge(
        "partition_waiting_for_transaction_offsets",
        "Offsets behind an open transaction: high watermark minus last stable offset.", "topic", "partition",
    )  # fmt: skip
    OLDEST = gauge(
        "partition_oldest_unlanded_seconds", "How long the oldest unlanded record has been buffered; 0 without one.",
        "topic", "partition",
    )  # fmt: skip
    HALTED = gauge(
        "partition_halted", "1 while the partition is halted and an operator must act.", "topic", "partition"
    )
    BUFFERED = gauge("buffered_bytes", "Bytes that are buffered and have not landed.")
    BUDGET = gauge("buffer_budget_bytes", "The most bytes that are buffered (batch.memory).")


def table() -> list[tuple[str, str, tuple[str, ...], str]]:
    """All metrics: name, type, labels, help. The usual ``process_`` metrics are exported as well."""
    return [
        (row.name, row.type, row.labels, row.help)
        for row in (member.value for enum in (M, C, Q, R, P) for member in enum)
    ]


class Metrics:
    """Counts what happens, and exports it. Methods are for one thread: the event loop's."""

    def __init__(self, counters: FlowCounters | None = None) -> None:
        self.counters = counters or FlowCounters()
        self._flow = {
            M.CONSUMED: self.counters.consumed,
            M.LANDED: self.counters.landed,
            M.QUARANTINED: self.counters.quarantined,
            M.SKIPPED: self.counters.skipped,
            M.RELEASED: self.counters.released,
            M.IN_FLIGHT: self.counters.in_flight,
            M.ACCEPTED: self.counters.accepted_by_type,
            M.REJECTED: self.counters.rejected_by_reason,
            M.OBJECTS: self.counters.objects,
            M.ADOPTED: self.counters.adopted,
        }
        self._store = MetricStore(M, self._flow)
        self.process = ProcessMetrics(REASONS)
        self.collect = CollectMetrics()
        self.queue = QueueMetrics()
        self._snapshot: Callable[[], Status] | None = None
        self._exposition = Exposition(self._families)

    def bind(self, snapshot: Callable[[], Status]) -> None:
        """Read the gauges from this function, once for each scrape."""
        self._snapshot = snapshot

    def exposition(self) -> tuple[bytes, str]:
        """The body and content type of a response to a scrape."""
        return self._exposition.response()

    # -- ownership

    def rebalanced(self) -> None:
        self._store.add(M.REBALANCES, 1)

    def assigned(self, partition: TopicPartition) -> None:
        """Counters of its topic start at 0 now: a rate over a counter that appears with 1 would miss that one."""
        self.counters.add_topic(partition.topic)
        self._store.start(("topic",), partition.topic)
        self._store.add(M.ASSIGNMENTS, 1, partition.topic)

    def revoked(self, partition: TopicPartition) -> None:
        """Its gauges vanish when the status no longer lists it."""
        self._store.add(M.REVOCATIONS, 1, partition.topic)

    def halted(self, partition: TopicPartition, reason_code: str) -> None:
        self._store.add(M.HALTS, 1, partition.topic, reason_code)

    # -- records in

    def consumed(self, partition: TopicPartition, records: int) -> None:
        self.counters.record_consumed(partition.topic, records)

    def accepted(self, by_type: Mapping[str, int]) -> None:
        self.counters.record_validated(by_type, {})

    def rejected(self, by_reason: Mapping[str, int]) -> None:
        self.counters.record_validated({}, by_reason)

    def lost_upstream(self, partition: TopicPartition, records: int) -> None:
        """Retention removed these records before they were read: they do not count as consumed."""
        self._store.add(M.LOST, records, partition.topic)

    def sealed(self, trigger: str, records: int, age: float) -> None:
        self._store.add(M.SEALED, 1, trigger)
        self._store.observe(M.BATCH_RECORDS, records, trigger)
        self._store.observe(M.BATCH_AGE, age, trigger)

    # -- objects out

    def uploaded(self, seconds: float) -> None:
        self._store.observe(M.UPLOAD, seconds)

    def upload_retried(self, code: str) -> None:
        self._store.add(M.UPLOAD_RETRIES, 1, bounded_label(self._store.label_values(M.UPLOAD_RETRIES), code))

    def landed(
        self,
        partition: TopicPartition,
        *,
        rows: int,
        rejected: int,
        body_bytes: int,
        row_bytes: int,
        freshness: float,
        skipped: int = 0,
    ) -> None:
        """A data object was written, and before it the quarantine object of its rejected records.

        `body_bytes` is compressed, `row_bytes` is not; `freshness` is now minus the last record's Kafka timestamp (s).
        """
        topic = partition.topic
        self.counters.record_landed(topic, rows=rows, rejected=rejected, skipped=skipped, body_bytes=body_bytes)
        self._store.add(M.ROW_BYTES, row_bytes, topic)
        self._store.observe(M.OBJECT_BYTES, body_bytes)
        self._store.observe(M.FRESHNESS, freshness)

    def adopted(self, partition: TopicPartition, records_released: int) -> None:
        """Another daemon's object takes the place of these records."""
        self.counters.record_adopted(partition.topic, records_released)

    def forked(self, partition: TopicPartition, records_released: int) -> None:
        """The chain goes on after a truncation of the log; these records were read before and are read again."""
        self._store.add(M.FORKS, 1, partition.topic)
        self.counters.record_released(partition.topic, records_released)

    def released(self, partition: TopicPartition, records: int) -> None:
        self.counters.record_released(partition.topic, records)

    def committed(self, partition: TopicPartition, seconds: float) -> None:
        self._store.add(M.COMMITS, 1, partition.topic)
        self._store.observe(M.COMMIT, seconds)

    def commit_refused(self, partition: TopicPartition) -> None:
        self._store.add(M.REFUSED, 1, partition.topic)

    # -- Snowflake

    def loaded(self, rows: int, delay: float | None) -> None:
        """All rows of an object are in the table; `delay` is load time minus its last record's Kafka timestamp (s)."""
        self._store.add(M.ROWS_LOADED, rows)
        if delay is not None:
            self._store.observe(M.LOADING, delay)

    def named(self, objects: int) -> None:
        self._store.add(M.NAMED, objects)

    # -- the process

    def source_restarted(self) -> None:
        self._store.add(M.SOURCE_RESTARTS, 1)

    # -- export

    def _families(self) -> Iterator[Metric]:
        status = self._snapshot() if self._snapshot is not None else None
        counts: dict[M, Samples] = {
            member: [((label,), count) for label, count in flow.items()] for member, flow in self._flow.items()
        }
        gauges = _gauges(status) if status is not None else {}
        gauges[M.IN_FLIGHT] = counts[M.IN_FLIGHT]
        yield from self._store.families(gauges, counts)
        if status is None or status.collector is not None:
            yield from self.collect.families()
        if status is None or status.queue is not None:
            yield from self.queue.families(status.queue if status is not None else None)
        if status is None or status.registry is not None:
            yield from registry_families(status.registry if status is not None else None)
        active = {reason.code for reason in status.reasons} if status is not None else set()
        yield from self.process.families(status.started_at if status is not None else None, active)


def _gauges(status: Status) -> dict[M, Samples]:
    """The gauges of a status. A number that is not known yet has no sample."""

    def per_partition(value: Callable[[PartitionStatus], float | None]) -> Samples:
        return [((it.topic, str(it.partition)), level) for it in status.partitions if (level := value(it)) is not None]

    return {
        M.PARTITIONS: [((), len(status.partitions))],
        M.POSITION: per_partition(lambda it: _exact(it.position)),
        M.LANDED_OFFSET: per_partition(lambda it: _exact(it.landed)),
        M.COMMITTED: per_partition(lambda it: _exact(it.committed)),
        M.LOG_END: per_partition(lambda it: _exact(it.log_end)),
        M.LAG: per_partition(lambda it: it.lag),
        M.BEHIND: per_partition(lambda it: it.behind),
        M.WAITING: per_partition(lambda it: it.waiting_offsets),
        M.OLDEST: per_partition(lambda it: it.oldest_unlanded or 0.0),
        M.HALTED: per_partition(lambda it: it.halted is not None),
        M.BUFFERED: [((), status.buffered_bytes)],
        M.BUDGET: [((), status.budget_bytes)],
        **_loading(status.loading),
    }


def _exact(position: int | None) -> int | None:
    """None where a sample, which is a double, would be another position."""
    return position if position is None or position <= _LARGEST_EXACT else None


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
