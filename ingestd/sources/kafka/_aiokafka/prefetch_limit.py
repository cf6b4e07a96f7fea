"""Bounds the bytes that are fetched ahead and not handed out yet, and the bytes that are handed out at once.

aiokafka fetches a partition again as soon as it has no more records of it, whether or not anybody takes them: what it
holds grows with the number of partitions. What it hands out at once is bounded in records only. Neither can be set.
"""

import sys
from typing import Any

from aiokafka.consumer.fetcher import FetchResult

from ingestd.core.records import TopicPartition, value_bytes
from ingestd.sources.kafka._aiokafka.leader_epochs import EpochList

HANDOUT_BYTES = 4 << 20  # of all partitions together
FIRST_RECORDS = 16  # handed out before their size is known
BLOCK_RECORDS = 128  # handed out between two checks of the allowance, at most


class Allowance:
    """The bytes of values that may still be handed out by the current poll; all partitions share them."""

    def __init__(self) -> None:
        self.left = HANDOUT_BYTES


def buffered_bytes(results: Any) -> int:
    """The bytes of all fetched record batches that are not handed out in full."""
    parts = [found._partition_records for found in results if isinstance(found, FetchResult)]
    return sum(part._records.size_in_bytes() for part in parts if part is not None)


class BoundedFetchResult(FetchResult):  # type: ignore[misc]  # aiokafka has no types
    """One partition's part of a fetch, whose records are `FastPartitionRecords`."""

    _partition_records: Any

    def getall(self, max_records: int | None = None) -> EpochList:
        """At most `max_records` records of one leader epoch.

        Of about as many bytes of values as are left: a few more, and one of any size.
        """
        part, taken = self._partition_records, EpochList()
        if part is None:
            return taken
        allowance = part.allowance
        if not self.check_assignment(self._topic_partition) or allowance.left <= 0:
            return taken
        wanted, size, most = FIRST_RECORDS, 0, max_records or sys.maxsize
        while allowance.left > 0 and len(taken) < most:
            part.wanted = min(wanted, most - len(taken))
            block = next(part, None)
            if block is None:
                self._update_position()
                self._partition_records = None
                return taken
            if not block:
                if taken:
                    break
                continue
            taken += block
            taken.leader_epoch = part.leader_epoch
            used = value_bytes(block)
            size += used
            allowance.left -= used
            # As many as may come by the size of the records before: only much larger ones go beyond the allowance.
            wanted = min(BLOCK_RECORDS, 1 + allowance.left * len(taken) // max(size, 1))
        self._update_position()
        return taken

    def _update_position(self) -> None:
        super()._update_position()
        part = self._partition_records
        part.positions.set(TopicPartition(*self._topic_partition), part.next_fetch_offset, part.passed_epoch)
