"""All faults, by name. Whoever imports this has the whole list."""

from tests.chaos import kafka_faults, offset_faults, process_faults, store_faults, topic_faults
from tests.chaos.fault import FAULTS

__all__ = ["FAULTS", "kafka_faults", "offset_faults", "process_faults", "store_faults", "topic_faults"]
