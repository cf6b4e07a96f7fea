"""All faults, by name. Whoever imports this has the whole list."""

from tests.chaos import (
    cluster_faults,
    kafka_faults,
    offset_faults,
    process_faults,
    store_faults,
    topic_faults,
    truncation_faults,
)
from tests.chaos.fault import FAULTS

__all__ = [
    "FAULTS",
    "cluster_faults",
    "kafka_faults",
    "offset_faults",
    "process_faults",
    "store_faults",
    "topic_faults",
    "truncation_faults",
]
