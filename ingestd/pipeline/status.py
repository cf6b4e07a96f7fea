"""Collects the daemon's status from its parts."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime

from ingestd import __version__
from ingestd.config.model import Config
from ingestd.config.secrets import REDACTION
from ingestd.core.errors import SinkForbidden
from ingestd.ops.collector_status import CollectorStatus
from ingestd.ops.metrics import Metrics
from ingestd.ops.readiness import Loading, PartitionStatus, Status, with_reasons
from ingestd.pipeline.ingest import Pipeline
from ingestd.pipeline.partition_writer import PartitionWriter
from ingestd.sinks.retry import SinkRetrier
from ingestd.sources.base import Source

_NAMES: dict[str, Callable[[Config], str]] = {
    "kafka": lambda config: "kafka " + ",".join(config.kafka.topics),
    "kinesis": lambda config: f"kinesis {config.kinesis.stream}",
}


class StatusCollector:
    """Reads the parts, and remembers what only exists over time: start times and the last error."""

    def __init__(self, config: Config, source: Source, sink_url: str, retrier: SinkRetrier, metrics: Metrics) -> None:
        self.phase = "starting"
        self.loop_lag: Callable[[], float] = lambda: 0.0
        self.collector: Callable[[], CollectorStatus] | None = None
        self.pipeline: Pipeline | None = None
        self.loading: Callable[[], Loading] | None = None
        name = _NAMES.get(config.source)
        self.source_name = name(config) if name is not None else config.source
        self._config = config
        self._source = source
        self._sink_url = sink_url
        self._retrier = retrier
        self._metrics = metrics
        self._started_at = datetime.now(UTC)
        self._started = time.monotonic()
        self._last_error: str | None = None

    def take(self) -> Status:
        """The current status, with the reasons why the daemon is not ready."""
        now = asyncio.get_running_loop().time()
        writers = list(self.pipeline.writers.values()) if self.pipeline is not None else []
        refused = self._retrier.error
        sink_error, source_error = _clean(refused), _clean(self._source.error)
        unassigned_since = self.pipeline.unassigned_since if self.pipeline is not None else None
        source_error_since = self._source.error_since
        self._last_error = sink_error or source_error or self._last_error
        return with_reasons(
            Status(
                version=__version__,
                started_at=self._started_at,
                uptime=time.monotonic() - self._started,
                source=self.source_name,
                sink=self._sink_url,
                phase=self.phase,
                partitions=[self._partition(writer, now) for writer in writers],
                totals=self._metrics.counters.totals(),
                buffered_bytes=self.pipeline.held_bytes if self.pipeline is not None else 0,
                budget_bytes=int(self._config.batch.memory),  # the encoder knows no subclass
                loop_lag=self.loop_lag(),
                assigned=bool(writers),
                unassigned_age=now - unassigned_since if unassigned_since is not None else None,
                sink_error=sink_error,
                sink_error_age=now - self._retrier.since if refused else None,
                sink_forbidden=isinstance(refused, SinkForbidden),
                source_error=source_error,
                source_error_age=now - source_error_since if source_error_since is not None else None,
                last_error=self._last_error,
                collector=self.collector() if self.collector is not None else None,
                loading=self.loading() if self.loading is not None else None,
            ),
            self._config,
        )

    def _partition(self, writer: PartitionWriter, now: float) -> PartitionStatus:
        buffer = writer.buffer
        held = [batch for batch in buffer.batches if batch.first is not None]
        log_end = self._source.end_offset(writer.partition)
        done = writer.landed if writer.landed is not None else writer.committed
        behind = buffer.position is not None and log_end is not None and log_end > buffer.position
        transaction = self._source.open_transaction(writer.partition)
        waits = transaction is not None and buffer.position is not None and not behind
        return PartitionStatus(
            topic=writer.partition.topic,
            partition=writer.partition.partition,
            state=writer.state,
            reached=writer.last_timestamp,
            position=buffer.position,
            committed=writer.committed,
            landed=writer.landed,
            log_end=log_end,
            lag=max(0, log_end - done) if log_end is not None and done is not None else None,
            behind=self._source.behind_s(writer.partition),
            batch_records=buffer.open.records if buffer.open else 0,
            batch_bytes=buffer.open.size if buffer.open else 0,
            batch_age=now - buffer.open.opened_at if buffer.open and buffer.open.first else None,
            sealed_batches=len(buffer.flushed),
            oldest_unlanded=now - held[0].opened_at if held else None,
            starved=now - writer.last_progress_at if behind else None,
            waiting_offsets=transaction.waiting if transaction is not None else 0,
            waiting=transaction.age if transaction is not None and waits else None,
            halted=writer.halt.message if writer.halt else None,
        )


def _clean(error: object) -> str | None:
    """The error's text without secrets."""
    return REDACTION.clean(str(error)) if error else None
