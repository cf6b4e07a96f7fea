"""What data objects of chains and of queues have in common, for those that count rows and read no bodies."""

import msgspec

from ingestd.core.object_keys import ObjectKeys
from ingestd.core.object_metadata import ObjectMetadata
from ingestd.core.queue_keys import is_queue_data, is_queue_quarantine
from ingestd.core.queue_objects import QueueObjectMetadata, is_fence
from ingestd.core.stored import ObjectInfo


class DataObject(msgspec.Struct, frozen=True):
    """A data object. Timestamps are the source's, in milliseconds."""

    rows: int
    rejected: int
    first_timestamp: int
    last_timestamp: int


def read_landed(info: ObjectInfo) -> DataObject | None:
    """None if ingestd has not written the object. A fence is an object without rows."""
    if is_fence(info.metadata):
        landed_at = int((info.landed_at or 0.0) * 1000)
        return DataObject(0, 0, landed_at, landed_at)
    found = ObjectMetadata.from_metadata(info.metadata) or QueueObjectMetadata.from_metadata(info.metadata)
    if found is None:
        return None
    return DataObject(found.rows, found.rejected, found.first_timestamp, found.last_timestamp)


def is_data_key(keys: ObjectKeys, key: str) -> bool:
    """Whether it is the name of a data object, of a chain or of a queue."""
    return keys.parse(key) is not None or is_queue_data(keys.events, key)


def is_quarantine_key(keys: ObjectKeys, key: str) -> bool:
    """Whether it is the name of a quarantine object, of a chain or of a queue."""
    return keys.parse_quarantine(key) is not None or is_queue_quarantine(keys.quarantine, key)
