"""The metrics of every ingestd that runs on: readiness, event loop, version."""

import sys
from collections.abc import Collection, Iterator
from datetime import datetime
from enum import Enum

from prometheus_client.core import Metric

from ingestd import __version__
from ingestd.ops.metric_store import SECOND_BOUNDS, MetricStore, gauge, histogram


class P(Enum):
    """All of them, in the order of the exposition."""

    LOOP_LAG = histogram("loop_lag_seconds", "How late the event loop wakes a sleeping task.", SECOND_BOUNDS)
    READY = gauge("ready", "1 while /readyz returns 200.")
    NOT_READY = gauge("not_ready", "1 for each reason not to be ready.", "reason")
    START = gauge("start_time_seconds", "When the daemon started, seconds since the epoch.")
    BUILD = gauge("build_info", "Always 1; versions are in the labels.", "version", "python")


class ProcessMetrics:
    """Counts how late the event loop is, and exports the rest from the status."""

    def __init__(self, reasons: Collection[str]) -> None:
        """`reasons`: all codes of reasons not to be ready."""
        self._reasons = reasons
        self._store = MetricStore(P)

    def loop_lag(self, seconds: float) -> None:
        self._store.observe(P.LOOP_LAG, seconds)

    def families(self, started_at: datetime | None, active: Collection[str]) -> Iterator[Metric]:
        """`active`: the codes of the reasons why it is not ready; no gauges where it has not started."""
        if started_at is None:
            return self._store.families({}, {})
        python = ".".join(map(str, sys.version_info[:3]))
        return self._store.families(
            {
                P.READY: [((), not active)],
                P.NOT_READY: [((code,), code in active) for code in self._reasons],
                P.START: [((), started_at.timestamp())],
                P.BUILD: [((__version__, python), 1)],
            },
            {},
        )
