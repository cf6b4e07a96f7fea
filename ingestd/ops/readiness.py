"""What the daemon says of itself: one snapshot, and the rules by which it is ready. Pure.

``/status`` is this snapshot as JSON; metrics and terminal read the same one. All ages and durations are in seconds.
"""

from datetime import datetime

import msgspec

from ingestd.config.model import Config

#: Why the daemon is not ready: what each code means and what to do about it.
REASONS: dict[str, str] = {
    "starting": "It has not begun to consume yet. If it stays so, the log's last lines say what it waits for.",
    "draining": "It was told to stop and is landing what it holds; `grace` bounds that. Nothing to do.",
    "no_assignment": "No partition has been ours for longer than `health.no_partition`. Harmless where there are "
    "more daemons than partitions; otherwise check that the topics exist, and who else is in the group.",
    "sink_forbidden": "The store refuses us: credentials, rights, KMS key, bucket, or a full disk. Everything is held "
    "and retried; mend what the message says, and it goes on by itself.",
    "sink_unavailable": "The store has not answered for longer than `sink.retry_max`. Everything is held and retried, "
    "and it goes on by itself; check the network and the store.",
    "source_unavailable": "The source has failed for longer than `health.source_unavailable`. It goes on by itself; "
    "check the brokers and the network.",
    "partition_halted": "Going on could lose or double records of this partition, so it is paused; the others go on. "
    "Do what the message says, then restart.",
    "stalled": "Nothing moves for longer than `batch.interval` + `health.stall`: a record that is held does not land, "
    "or the log has more and none comes. Look at the errors of the sink and the source, then at the load.",
    "loop_lagging": "The event loop is held up for longer than `health.loop_lag`: the group may lose us. "
    "Give it more CPU, or lower `kafka.max_records`.",
}


class Reason(msgspec.Struct, frozen=True):
    """One reason not to be ready; `code` is a key of ``REASONS``."""

    code: str
    message: str


class PartitionStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One partition while it is ours. Offsets are None until they are known."""

    topic: str
    partition: int
    state: str  # loading, probing, filling, uploading, lost, halted
    reached: int | None = None  # Kafka timestamp (ms) of the last record taken
    position: int | None = None  # the next offset to take
    committed: int | None = None
    landed: int | None = None  # all offsets below are in objects
    log_end: int | None = None
    lag: int | None = None  # offsets from `landed` (or `committed`) to `log_end`
    batch_records: int = 0  # of the open batch, as the next two
    batch_bytes: int = 0
    batch_age: float | None = None
    sealed_batches: int = 0
    oldest_unlanded: float | None = None  # how long the oldest record that has not landed has been held
    starved: float | None = None  # how long the log has had more than we have taken, and none came; None at its end
    halted: str | None = None  # why, and what to do

    @property
    def name(self) -> str:
        return f"{self.topic}[{self.partition}]"


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """Records and objects since the start.

    ``consumed == landed + quarantined + released + in_flight`` at every instant. Released records were given up to
    another owner or to a winner: they are landed by somebody else, or will be read again.
    """

    consumed: int = 0
    landed: int = 0
    quarantined: int = 0
    released: int = 0
    in_flight: int = 0
    objects: int = 0
    object_bytes: int = 0  # compressed
    adopted: int = 0  # objects
    rejected_by_reason: dict[str, int] = {}
    accepted_by_type: dict[str, int] = {}


class Loading(msgspec.Struct, frozen=True, kw_only=True):
    """How far the table in Snowflake is behind the objects that landed. Ages in seconds."""

    unloaded_objects: int
    unloaded_rows: int
    oldest_unloaded: float | None  # since it landed; None: all are loaded
    failed_files: int  # that Snowflake could not load, or not wholly
    unnamed_objects: int  # that the pipe was not told of yet; where it is notified, always 0
    compared_age: float | None  # of the last comparison with Snowflake; None: there was none yet


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot. The defaults are those of a daemon that has just begun: nothing is known and it is not ready."""

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
    loop_lag: float = 0.0  # the worst of late
    assigned: bool = False  # whether any partition is ours
    unassigned_age: float | None = None  # how long none has been
    sink_error: str | None = None  # None while all is well
    sink_error_age: float | None = None
    sink_forbidden: bool = False  # the error needs an operator
    source_error: str | None = None
    source_error_age: float | None = None
    last_error: str | None = None
    loading: Loading | None = None  # None where it is not followed
    reasons: list[Reason] = msgspec.field(default_factory=lambda: [Reason("starting", "not judged yet")])

    @property
    def ready(self) -> bool:
        return not self.reasons


def judged(status: Status, config: Config) -> Status:
    """The same snapshot with the reasons that follow from it."""
    return msgspec.structs.replace(status, reasons=reasons(status, config))


def reasons(status: Status, config: Config) -> list[Reason]:
    """Why the daemon is not ready, the most telling first; empty when it is.

    Ready means: it makes progress, or there is nothing to make progress on. A partition at the log's end is ready.
    """
    if status.phase == "starting":
        return [Reason("starting", "the daemon is starting"), *_outside(status, config)]
    if status.phase in {"draining", "stopped"}:
        return [Reason("draining", f"the daemon is {status.phase}"), *_outside(status, config)]
    found = _outside(status, config)
    if not status.assigned and (status.unassigned_age or 0.0) > config.health.no_partition:
        found.append(Reason("no_assignment", f"no partition has been ours for {status.unassigned_age:.0f} s"))
    found += [
        Reason("partition_halted", f"{it.name}: {it.halted}") for it in status.partitions if it.halted is not None
    ]
    if stalled := _stalled(status, config):
        found.append(stalled)
    if status.loop_lag > config.health.loop_lag:
        found.append(Reason("loop_lagging", f"the event loop was held up for {status.loop_lag:.1f} s"))
    return found


def _outside(status: Status, config: Config) -> list[Reason]:
    """What is wrong with the systems around us."""
    found = []
    if status.sink_error is not None and status.sink_forbidden:
        found.append(Reason("sink_forbidden", status.sink_error))
    elif status.sink_error is not None and (status.sink_error_age or 0.0) > config.sink.retry_max:
        found.append(Reason("sink_unavailable", f"for {status.sink_error_age:.0f} s: {status.sink_error}"))
    if status.source_error is not None and (status.source_error_age or 0.0) > config.health.source_unavailable:
        found.append(Reason("source_unavailable", f"for {status.source_error_age:.0f} s: {status.source_error}"))
    return found


def _stalled(status: Status, config: Config) -> Reason | None:
    """One reason for all partitions, named after the worst: with hundreds of them the answer must stay readable."""
    limit = config.batch.interval + config.health.stall
    waits = [
        (max(it.oldest_unlanded or 0.0, it.starved or 0.0), it.name) for it in status.partitions if it.halted is None
    ]
    late = [wait for wait in waits if wait[0] > limit]
    if not late:
        return None
    seconds, worst = max(late)
    others = f" (and {len(late) - 1} more)" if len(late) > 1 else ""
    return Reason("stalled", f"{worst}{others}: nothing has moved for {seconds:.0f} s, the limit is {limit:.0f} s")
