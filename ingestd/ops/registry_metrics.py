"""The metrics of the schema registry, from the status."""

from collections.abc import Iterator
from enum import Enum

from prometheus_client.core import Metric

from ingestd.core.values.base import RegistryStatus
from ingestd.ops.metric_store import MetricStore, Samples, counter, gauge


class R(Enum):
    """All of them, in the order of the exposition."""

    REQUESTS = counter("registry_requests", "Requests to the schema registry; each address that was asked counts.")
    FAILURES = counter(
        "registry_failures", "Requests to the schema registry whose answer said nothing of the schema: another address "
        "is asked, or records are held.",
    )  # fmt: skip
    SCHEMAS = gauge("registry_cached_schemas", "Schemas that are kept, with those that do not exist or cannot be used.")


_STORE = MetricStore(R, (R.REQUESTS, R.FAILURES))


def registry_families(status: RegistryStatus | None) -> Iterator[Metric]:
    """What is exported; the gauge only where there is a status."""
    known = status or RegistryStatus()
    gauges: dict[R, Samples] = {R.SCHEMAS: [((), status.schemas)]} if status is not None else {}
    counts: dict[R, Samples] = {R.REQUESTS: [((), known.requests)], R.FAILURES: [((), known.failures)]}
    return _STORE.families(gauges, counts)
