"""The collector's status: what it has accepted, where that is, and the rules by which it is ready. Pure."""

from datetime import datetime

import msgspec

#: Reasons not to be ready, and warnings: what each code means and what to do about it.
COLLECTOR_REASONS: dict[str, str] = {
    "kafka_unavailable": "Kafka does not acknowledge events. With `collect.journal` they go there and are forwarded "
    "later: then this is a warning and no reason. Without it senders get 503 and send again. Check the brokers, the "
    "network, and that the topic exists.",
    "journal_full": "The journal has no room, so senders get 503 and send again. Its events must be delivered: correct "
    "what keeps them from Kafka or the sink, or raise `collect.journal_bytes`.",
    "journal_failed": "The journal cannot be written, so senders get 503 and send again. Check its disk. The collector "
    "continues by itself.",
}
#: Of the general reasons, those that `ingestd collect` has, too.
EDGE_REASONS = ("starting", "draining", "loop_lagging")


class NotReadyReason(msgspec.Struct, frozen=True):
    """One reason not to be ready; `code` is a key of ``REASONS``."""

    code: str
    message: str


class JournalStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The journal. ``appended + at_start == removed + records`` at every instant."""

    records: int  # that wait for Kafka, or for an object in the sink
    at_start: int  # of them, when this process began
    appended: int
    removed: int  # they are in Kafka, or in the sink
    bytes: int
    limit_bytes: int
    oldest: float | None  # age in seconds; None without a record
    error: str | None = None  # why it takes no records now


class CollectorStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot of the collector. ``accepted <= safe``: nothing that was accepted is lost.

    What is safe was produced, or is in the journal, or is kept apart. `safe` is more than `accepted` by the events of
    requests that were answered too late: their sender was told to send them again.
    """

    address: str  # where it listens; "" while it does not
    accepted: int = 0  # events whose sender was told that they are safe
    safe: int = 0  # produced + in the journal + kept apart - what was there at the start
    produced: int = 0  # events that are where they were to go: in Kafka, or, where it is not used, in the sink
    kept_apart: int = 0  # events that the topic refuses; they are tried again every hour
    outcomes: dict[str, int] = {}  # of events
    uses_kafka: bool = False
    kafka_error: str | None = None
    journal: JournalStatus | None = None
    error: str | None = None  # why events cannot be made safe now


def collector_reasons(status: CollectorStatus) -> list[NotReadyReason]:
    """Why events cannot be made safe; empty while they can."""
    if status.error is None:
        return []
    journal = status.journal
    if journal is None:
        return [NotReadyReason("kafka_unavailable", status.error)]
    return [NotReadyReason("journal_full" if _is_full(journal) else "journal_failed", journal.error or status.error)]


def collector_warnings(status: CollectorStatus) -> list[NotReadyReason]:
    """What an operator should know although events are safe."""
    if status.kafka_error is None or status.journal is None or status.error is not None:
        return []
    journal = status.journal
    seen = f"{journal.records} events in the journal wait for it, {journal.bytes} of {journal.limit_bytes} bytes"
    return [NotReadyReason("kafka_unavailable", f"{status.kafka_error}; {seen}")]


def _is_full(journal: JournalStatus) -> bool:
    return journal.bytes >= 0.95 * journal.limit_bytes


class EdgeStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot of `ingestd collect`."""

    version: str
    started_at: datetime  # UTC
    uptime: float
    topic: str
    phase: str  # starting, running, draining, stopped
    loop_lag: float
    collector: CollectorStatus
    reasons: list[NotReadyReason] = []
    warnings: list[NotReadyReason] = []

    @property
    def ready(self) -> bool:
        return not self.reasons


def edge_reasons(status: EdgeStatus, loop_lag_limit: float) -> list[NotReadyReason]:
    """Reasons not to be ready, the most important first; empty when it accepts events."""
    found = collector_reasons(status.collector)
    if status.phase == "starting":
        return [NotReadyReason("starting", "the collector is starting"), *found]
    if status.phase != "running":
        return [NotReadyReason("draining", f"the collector is {status.phase}"), *found]
    if status.loop_lag > loop_lag_limit:
        found.append(NotReadyReason("loop_lagging", f"the event loop was blocked for {status.loop_lag:.1f} s"))
    return found
