"""Makes the daemon's status out of its living parts."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime

from ingestd import __version__
from ingestd.config.model import Config
from ingestd.config.secrets import REDACTION
from ingestd.core.errors import SinkForbidden
from ingestd.ops.metrics import Metrics
from ingestd.ops.readiness import Loading, PartitionStatus, Status, with_reasons
from ingestd.pipeline.ingest import Pipeline
from ingestd.pipeline.partition_writer import PartitionWriter
from ingestd.sinks.retry import SinkRetrier
from ingestd.sources.base import Source


class StatusCollector:
    """Looks at the parts; holds what only exists over time: when things began, and the last error."""

    def __init__(self, config: Config, source: Source, sink_url: str, guard: SinkRetrier, metrics: Metrics) -> None:
        self.phase = "starting"
        self.loop_lag = 0.0
        self.pipeline: Pipeline | None = None
        self.loading: Callable[[], Loading] | None = None
        self.source_name = config.source if config.source == "simulator" else "kafka " + ",".join(config.kafka.topics)
        self._config = config
        self._source = source
        self._sink_url = sink_url
        self._guard = guard
        self._metrics = metrics
        self._started_at = datetime.now(UTC)
        self._started = time.monotonic()
        self._last_error: str | None = None
        self._unassigned_since: float | None = None
        self._source_error_since: float | None = None

    def take(self) -> Status:
        """The status of now, with its reasons."""
        now = asyncio.get_running_loop().time()
        keepers = list(self.pipeline.keepers.values()) if self.pipeline is not None else []
        refused = self._guard.error
        sink_error, source_error = _clean(refused), _clean(self._source.error)
        self._unassigned_since = None if keepers else self._unassigned_since or now
        self._source_error_since = (self._source_error_since or now) if source_error else None
        self._last_error = sink_error or source_error or self._last_error
        return with_reasons(
            Status(
                version=__version__,
                started_at=self._started_at,
                uptime=time.monotonic() - self._started,
                source=self.source_name,
                sink=self._sink_url,
                phase=self.phase,
                partitions=[self._partition(keeper, now) for keeper in keepers],
                totals=self._metrics.counters.totals(),
                buffered_bytes=self.pipeline.held_bytes if self.pipeline is not None else 0,
                budget_bytes=int(self._config.batch.memory),  # the encoder knows no subclass
                loop_lag=self.loop_lag,
                assigned=bool(keepers),
                unassigned_age=now - self._unassigned_since if self._unassigned_since is not None else None,
                sink_error=sink_error,
                sink_error_age=now - self._guard.since if refused else None,
                sink_forbidden=isinstance(refused, SinkForbidden),
                source_error=source_error,
                source_error_age=now - self._source_error_since if self._source_error_since is not None else None,
                last_error=self._last_error,
                loading=self.loading() if self.loading is not None else None,
            ),
            self._config,
        )

    def _partition(self, keeper: PartitionWriter, now: float) -> PartitionStatus:
        chain = keeper.chain
        held = [batch for batch in chain.batches if batch.first is not None]
        log_end = self._source.end_offset(chain.partition)
        done = chain.landed if chain.landed is not None else chain.committed
        behind = chain.position is not None and log_end is not None and log_end > chain.position
        return PartitionStatus(
            topic=chain.partition.topic,
            partition=chain.partition.partition,
            state=chain.state,
            reached=keeper.reached,
            position=chain.position,
            committed=chain.committed,
            landed=chain.landed,
            log_end=log_end,
            lag=max(0, log_end - done) if log_end is not None and done is not None else None,
            batch_records=chain.open.records if chain.open else 0,
            batch_bytes=chain.open.size if chain.open else 0,
            batch_age=now - chain.open.opened_at if chain.open and chain.open.first else None,
            sealed_batches=len(chain.sealed),
            oldest_unlanded=now - held[0].opened_at if held else None,
            starved=now - keeper.last_progress_at if behind else None,
            halted=keeper.halted.message if keeper.halted else None,
        )


def _clean(error: object) -> str | None:
    """Its text as it may be shown."""
    return REDACTION.clean(str(error)) if error else None
