"""The daemon's status: one snapshot, and the rules by which it is ready. Pure.

``/status`` is this snapshot as JSON; metrics, terminal and page show the same one. Ages and durations are in seconds.
"""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from ingestd.config.model import Config
from ingestd.core.counters import Totals
from ingestd.core.values.base import RegistryStatus
from ingestd.ops.collector_status import (
    COLLECTOR_REASONS,
    CollectorStatus,
    NotReadyReason,
    collector_reasons,
    collector_warnings,
)
from ingestd.ops.queue_status import QueueStatus

#: Reasons not to be ready: what each code means and what to do about it.
REASONS: dict[str, str] = {
    "starting": "Consumption has not begun. If this lasts, the last log lines say what the daemon waits for.",
    "draining": "The daemon was told to stop and uploads what is buffered, for at most `grace`. Nothing to do.",
    "no_assignment": "No partition has been assigned for longer than `health.no_partition`. Harmless with more "
    "daemons than partitions; otherwise check that the topics exist, and which members the group has.",
    "sink_forbidden": "The sink denies access: credentials, permissions, KMS key, bucket, or a full disk. Records are "
    "buffered and uploads retried. Correct what the message says; the daemon then continues by itself.",
    "sink_unavailable": "The sink has not responded for longer than `sink.retry_max`. Records are buffered and uploads "
    "retried, and the daemon continues by itself; check the network and the store.",
    "source_unavailable": "The source has failed for longer than `health.source_unavailable`, or for 5 s without a "
    "partition. The daemon continues by "
    "itself; check the brokers and the network.",
    "registry_unavailable": "The schema registry has not given a schema that records need for longer than "
    "`health.source_unavailable`. Records are held, none is rejected, and the daemon continues by itself; check "
    "`[registry]`, the registry and the network.",
    "partition_halted": "Continuing could lose or duplicate records of this partition, so it is paused; the others "
    "continue. Do what the message says, then restart.",
    "waiting_for_transaction": "A transaction has been open for longer than `batch.interval` + `health.stall`, and "
    "nothing behind its first record can be read. Find its producer, or abort it.",
    "stalled": "No progress for longer than `batch.interval` + `health.stall`: a buffered record does not land, or the "
    "log has more records and none arrive. Look at the errors of the sink and the source, then at the load.",
    "loop_lagging": "The event loop was blocked for longer than `health.loop_lag`: the group may revoke our "
    "partitions. Provide more CPU, or lower `kafka.max_records`.",
    **COLLECTOR_REASONS,
}


#: How long the source may fail while no partition is assigned: nothing that was read before can still land.
IDLE_LIMIT_S = 5.0


_NOT_EVALUATED = NotReadyReason("starting", "not evaluated yet")


class PartitionStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A partition that is assigned to this daemon. Offsets are None until they are known."""

    topic: str
    partition: int
    state: str  # loading, probing, filling, uploading, lost, halted
    reached: int | None = None  # Kafka timestamp (ms) of the last record read
    position: int | None = None  # the next offset to read
    committed: int | None = None
    landed: int | None = None  # all offsets below are in objects
    log_end: int | None = None
    lag: int | None = None  # offsets from `landed` (or `committed`) to `log_end`
    behind: float | None = None  # seconds that the last read was behind the log's end, where the source tells
    batch_records: int = 0  # this and the next two are of the open batch
    batch_bytes: int = 0
    batch_age: float | None = None
    sealed_batches: int = 0
    oldest_unlanded: float | None = None  # how long the oldest record that has not landed has been buffered
    starved: float | None = None  # how long no record has arrived although the log has more; None at its end
    waiting_offsets: int | None = None  # behind an open transaction: high watermark minus last stable offset
    waiting: float | None = None  # how long they have waited, where all before them was read
    halted: str | None = None  # the reason, and what to do

    @property
    def name(self) -> str:
        return f"{self.topic}[{self.partition}]"


class Loading(msgspec.Struct, frozen=True, kw_only=True):
    """How far the table in Snowflake is behind the landed objects. Ages are in seconds."""

    unloaded_objects: int
    unloaded_rows: int
    oldest_unloaded: float | None  # age since landing; None: all are loaded
    failed_files: int  # files that Snowflake could not load completely
    unnamed_objects: int  # not yet submitted to the pipe; always 0 where S3 notifies it
    compared_age: float | None  # age of the last comparison with Snowflake; None: none yet


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot of the daemon. The defaults are those of a start: nothing is known, and it is not ready."""

    version: str
    started_at: datetime  # UTC
    uptime: float
    source: str
    sink: str  # its URL
    phase: str  # starting, running, draining, stopped
    partitions: list[PartitionStatus] = []
    totals: Totals = Totals()
    buffered_bytes: int = 0
    budget_bytes: int = 0
    loop_lag: float = 0.0  # the worst of the last seconds
    assigned: bool = False  # whether any partition is assigned
    unassigned_age: float | None = None  # how long none has been assigned
    sink_error: str | None = None  # None while the sink works
    sink_error_age: float | None = None
    sink_forbidden: bool = False  # an operator must act
    source_error: str | None = None
    source_error_age: float | None = None
    registry_error: str | None = None  # while records are held because schemas cannot be fetched
    registry_error_age: float | None = None
    last_error: str | None = None
    loading: Loading | None = None  # None where loading is not monitored
    collector: CollectorStatus | None = None  # None where the source is another
    queue: QueueStatus | None = None  # None where the source is another
    registry: RegistryStatus | None = None  # None where values need no schema registry
    reasons: list[NotReadyReason] = msgspec.field(default_factory=lambda: [_NOT_EVALUATED])
    warnings: list[NotReadyReason] = []  # what an operator should know although it is ready

    @property
    def ready(self) -> bool:
        return not self.reasons


def with_reasons(status: Status, config: Config) -> Status:
    """The same snapshot with the reasons not to be ready that follow from it."""
    warnings = collector_warnings(status.collector) if status.collector is not None else []
    return msgspec.structs.replace(status, reasons=reasons(status, config), warnings=warnings)


def reasons(status: Status, config: Config) -> list[NotReadyReason]:
    """Reasons not to be ready, the most important first; empty when the daemon is ready.

    Ready means that it makes progress, or that there is nothing to process. A partition at the log's end is ready.
    """
    if status.phase == "starting":
        return [NotReadyReason("starting", "the daemon is starting"), *_external(status, config)]
    if status.phase in {"draining", "stopped"}:
        return [NotReadyReason("draining", f"the daemon is {status.phase}"), *_external(status, config)]
    found = _external(status, config)
    failing = any(it.code == "source_unavailable" for it in found)
    if not failing and not status.assigned and (status.unassigned_age or 0.0) > config.health.no_partition:
        found.append(
            NotReadyReason("no_assignment", f"no partition has been assigned for {status.unassigned_age:.0f} s")
        )
    found += [
        NotReadyReason("partition_halted", f"{it.name}: {it.halted}")
        for it in status.partitions
        if it.halted is not None
    ]
    found += [it for it in (_waiting(status, config), _stalled(status, config)) if it is not None]
    if status.loop_lag > config.health.loop_lag:
        found.append(NotReadyReason("loop_lagging", f"the event loop was blocked for {status.loop_lag:.1f} s"))
    return found


def _external(status: Status, config: Config) -> list[NotReadyReason]:
    """Reasons that lie in the sink, the source and the journal."""
    found = collector_reasons(status.collector) if status.collector is not None else []
    if status.sink_error is not None and status.sink_forbidden:
        found.append(NotReadyReason("sink_forbidden", status.sink_error))
    elif status.sink_error is not None and (status.sink_error_age or 0.0) > config.sink.retry_max:
        found.append(NotReadyReason("sink_unavailable", f"for {status.sink_error_age:.0f} s: {status.sink_error}"))
    limit = config.health.source_unavailable if status.assigned else min(config.health.source_unavailable, IDLE_LIMIT_S)
    if status.source_error is not None and (status.source_error_age or 0.0) > limit:
        found.append(
            NotReadyReason("source_unavailable", f"for {status.source_error_age:.0f} s: {status.source_error}")
        )
    if status.registry_error is not None and (status.registry_error_age or 0.0) > config.health.source_unavailable:
        found.append(
            NotReadyReason("registry_unavailable", f"for {status.registry_error_age:.0f} s: {status.registry_error}")
        )
    return found


def _waiting(status: Status, config: Config) -> NotReadyReason | None:
    """One reason for all partitions whose records wait for the end of a transaction; it names the worst."""
    limit = config.batch.interval + config.health.stall
    late = [(it.waiting, it.name, it.waiting_offsets) for it in status.partitions if (it.waiting or 0.0) > limit]
    if not late:
        return None
    seconds, worst, offsets = max(late)
    return NotReadyReason(
        "waiting_for_transaction",
        f"{worst}{_others(late)}: {offsets} offsets wait for the end of a transaction that has been open for "
        f"{seconds:.0f} s, the limit is {limit:.0f} s",
    )


def _stalled(status: Status, config: Config) -> NotReadyReason | None:
    """One reason for all stalled partitions, which names the worst: there may be hundreds."""
    limit = config.batch.interval + config.health.stall
    waits = [
        (max(it.oldest_unlanded or 0.0, it.starved or 0.0), it.name) for it in status.partitions if it.halted is None
    ]
    late = [wait for wait in waits if wait[0] > limit]
    if not late:
        return None
    seconds, worst = max(late)
    return NotReadyReason(
        "stalled", f"{worst}{_others(late)}: no progress for {seconds:.0f} s, the limit is {limit:.0f} s"
    )


def _others(late: Sequence[object]) -> str:
    return f" (and {len(late) - 1} more)" if len(late) > 1 else ""
