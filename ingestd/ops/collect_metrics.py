"""The metrics of the collector: requests, events, deliveries, and the journal."""

from collections.abc import Callable, Iterator
from enum import Enum

from prometheus_client.core import Metric

from ingestd.core.counters import bounded_label
from ingestd.ops.collector_status import COLLECTOR_REASONS, EDGE_REASONS, CollectorStatus, EdgeStatus
from ingestd.ops.metric_store import SECOND_BOUNDS, Exposition, MetricStore, Samples, counter, gauge, histogram
from ingestd.ops.process_metrics import ProcessMetrics

_LATENCY_BOUNDS = (0.001, 0.0025, *SECOND_BOUNDS[:-2])
_WHERE = ("kafka", "journal")


class C(Enum):
    """All of them, in the order of the exposition."""

    REQUESTS = counter(
        "collect_requests", "Requests answered, by source (empty: unknown), status, and reason of a refusal; "
        "discarded: an SDK's metrics of itself.", "source", "status", "reason",
    )  # fmt: skip
    EVENTS = counter(
        "collect_events", "Events by outcome: delivered, dropped, unavailable (the sender sends them again), or why an "
        "event could not be mapped and went on as its raw bytes.", "source", "outcome",
    )  # fmt: skip
    ACCEPTED = counter("collect_events_accepted", "Events answered with success, by what has them.", "where")
    BYTES = counter("collect_event_bytes", "Bytes of those events.", "where")
    DELIVERY = histogram(
        "collect_delivery_seconds", "From a request's events to the acknowledgement of all of them.", _LATENCY_BOUNDS
    )
    # journal_appended + records at the start = journal_removed + journal_records, at every scrape
    APPENDED = counter("collect_journal_appended", "Events appended to the journal by this process.")
    REMOVED = counter("collect_journal_removed", "Events that left the journal: they are in Kafka, or in the sink.")
    RECORDS = gauge("collect_journal_records", "Events in the journal.")
    JOURNAL_BYTES = gauge("collect_journal_bytes", "Bytes that the journal takes.")
    CAPACITY = gauge("collect_journal_limit_bytes", "The most bytes that it may take (collect.journal_bytes).")
    OLDEST = gauge("collect_journal_oldest_seconds", "Age of the oldest event in the journal; 0 without one.")
    SAFE = counter(
        "collect_events_safe", "Events that are in Kafka, in the sink or in the journal; never less than were accepted."
    )
    KEPT_APART = gauge("collect_refused_events", "Events that the topic refuses; they are tried again every hour.")
    KAFKA = gauge("collect_kafka_available", "1 while Kafka acknowledges events; absent where it is not used.")
    AVAILABLE = gauge("collect_available", "1 while events can be made safe.")


class CollectMetrics:
    """Counts what happens in the collector. Methods are for one thread: the event loop's."""

    def __init__(self) -> None:
        self._elsewhere = (C.APPENDED, C.REMOVED, C.SAFE)
        self._store = MetricStore(C, self._elsewhere)
        for where in _WHERE:
            self._store.start(("where",), where)
        self.outcomes: dict[str, int] = {}  # of events, over all sources
        self._snapshot: Callable[[], CollectorStatus] | None = None

    def bind(self, snapshot: Callable[[], CollectorStatus]) -> None:
        """Read the gauges from this function, once for each scrape."""
        self._snapshot = snapshot

    # -- the observer of the request path

    def request(self, source: str, status: int, reason: str) -> None:
        self._store.add(C.REQUESTS, 1, source, str(status), reason)

    def events(self, source: str, outcome: str, count: int) -> None:
        outcome = bounded_label(self.outcomes, outcome)
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + count
        self._store.add(C.EVENTS, count, source, outcome)

    def delivered(self, seconds: float) -> None:
        self._store.observe(C.DELIVERY, seconds)

    # -- what is safe

    def accepted(self, where: str, events: int, size: int) -> None:
        """Events of `size` bytes are in Kafka or in the journal, and their sender will know."""
        self._store.add(C.ACCEPTED, events, where)
        self._store.add(C.BYTES, size, where)

    def families(self) -> Iterator[Metric]:
        """What is exported."""
        if self._snapshot is None:
            return self._store.families({}, dict.fromkeys(self._elsewhere, ()))
        status = self._snapshot()
        gauges: dict[C, Samples] = {C.AVAILABLE: [((), status.error is None)]}
        gauges[C.KEPT_APART] = [((), status.kept_apart)]
        counts: dict[C, Samples] = {**dict.fromkeys(self._elsewhere, ()), C.SAFE: [((), status.safe)]}
        if status.uses_kafka:
            gauges[C.KAFKA] = [((), status.kafka_error is None)]
        if (journal := status.journal) is not None:
            counts |= {C.APPENDED: [((), journal.appended)], C.REMOVED: [((), journal.removed)]}
            gauges[C.RECORDS] = [((), journal.records)]
            gauges[C.JOURNAL_BYTES] = [((), journal.bytes)]
            gauges[C.CAPACITY] = [((), journal.limit_bytes)]
            gauges[C.OLDEST] = [((), journal.oldest or 0.0)]
        return self._store.families(gauges, counts)


class EdgeMetrics:
    """The metrics of `ingestd collect`: those of the collector, and those of its process."""

    def __init__(self) -> None:
        self.collect = CollectMetrics()
        self.process = ProcessMetrics([*COLLECTOR_REASONS, *EDGE_REASONS])
        self._snapshot: Callable[[], EdgeStatus] | None = None
        self._exposition = Exposition(self._families)

    def bind(self, snapshot: Callable[[], EdgeStatus]) -> None:
        """Read readiness from this function, once for each scrape."""
        self._snapshot = snapshot

    def exposition(self) -> tuple[bytes, str]:
        """The body and content type of a response to a scrape."""
        return self._exposition.response()

    def _families(self) -> Iterator[Metric]:
        status = self._snapshot() if self._snapshot is not None else None
        yield from self.collect.families()
        active = {reason.code for reason in status.reasons} if status is not None else set()
        yield from self.process.families(status.started_at if status is not None else None, active)
