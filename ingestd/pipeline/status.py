"""Collects the daemon's status from its parts."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime

from ingestd import __version__
from ingestd.config.model import Config
from ingestd.config.secrets import REDACTION
from ingestd.core.errors import SinkForbidden
from ingestd.core.values.base import ValueSource
from ingestd.ops.collector_status import CollectorStatus
from ingestd.ops.metrics import Metrics
from ingestd.ops.readiness import Loading, Status, with_reasons
from ingestd.pipeline.flow import Flow, FlowSource
from ingestd.sinks.retry import SinkRetrier

_NAMES: dict[str, Callable[[Config], str]] = {
    "kafka": lambda config: "kafka " + ",".join(config.kafka.topics),
    "kinesis": lambda config: f"kinesis {config.kinesis.stream}",
    "sqs": lambda config: f"sqs {config.sqs.queue_name}",
}


class StatusCollector:
    """Reads the parts, and remembers what only exists over time: start times and the last error."""

    def __init__(
        self, config: Config, source: FlowSource, sink_url: str, retrier: SinkRetrier, metrics: Metrics
    ) -> None:
        self.phase = "starting"
        self.loop_lag: Callable[[], float] = lambda: 0.0
        self.collector: Callable[[], CollectorStatus] | None = None
        self.pipeline: Flow | None = None
        self.loading: Callable[[], Loading] | None = None
        self.values: ValueSource | None = None  # of values that are not JSON
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
        partitions = self.pipeline.partitions(now) if self.pipeline is not None else []
        refused = self._retrier.error
        sink_error, source_error = _clean(refused), _clean(self._source.error)
        unassigned_since = self.pipeline.unassigned_since if self.pipeline is not None else None
        source_error_since = self._source.error_since
        registry_error = _clean(self.values.error) if self.values is not None else None
        registry_since = self.values.error_since if self.values is not None else None
        self._last_error = sink_error or source_error or registry_error or self._last_error
        return with_reasons(
            Status(
                version=__version__,
                started_at=self._started_at,
                uptime=time.monotonic() - self._started,
                source=self.source_name,
                sink=self._sink_url,
                phase=self.phase,
                partitions=partitions,
                totals=self._metrics.counters.totals(),
                buffered_bytes=self.pipeline.held_bytes if self.pipeline is not None else 0,
                budget_bytes=int(self._config.batch.memory),  # the encoder knows no subclass
                loop_lag=self.loop_lag(),
                assigned=bool(partitions),
                unassigned_age=now - unassigned_since if unassigned_since is not None else None,
                sink_error=sink_error,
                sink_error_age=now - self._retrier.since if refused else None,
                sink_forbidden=isinstance(refused, SinkForbidden),
                source_error=source_error,
                source_error_age=now - source_error_since if source_error_since is not None else None,
                registry_error=registry_error,
                registry_error_age=now - registry_since if registry_since is not None else None,
                last_error=self._last_error,
                collector=self.collector() if self.collector is not None else None,
                queue=self.pipeline.queue_status() if self.pipeline is not None else None,
                registry=self.values.registry_status() if self.values is not None else None,
                loading=self.loading() if self.loading is not None else None,
            ),
            self._config,
        )


def _clean(error: object) -> str | None:
    """The error's text without secrets."""
    return REDACTION.clean(str(error)) if error else None
