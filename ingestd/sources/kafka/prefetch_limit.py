"""What has been fetched and not handed out yet has a maximum in bytes, and so has what is handed out at once.

aiokafka fetches a partition again as soon as it holds nothing more of it. So what it holds grows with the number of
partitions, and it goes on while nobody takes anything. What it hands out at once it counts in records alone. Neither
can be set: the method that decides what to fetch is replaced on one fetcher, the class of what was fetched in its
module.
"""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from aiokafka.consumer import fetcher as module
from aiokafka.consumer.fetcher import FetchResult

from ingestd.core.records import Record, value_bytes
from ingestd.sources.kafka.fast_records import is_lean

HANDOUT_BYTES = 4 << 20  # of all partitions together
FIRST = 16  # records until their size is known
BLOCK = 128  # records between two looks at the allowance, at most


def bound(fetcher: Any, most: int) -> None:
    """Ask no broker for more while `most` bytes are held. An answer of each may be on its way at that moment."""
    actions = fetcher._get_actions_per_node

    def within(assignment: Any) -> tuple[Any, ...]:
        requests, *others = actions(assignment)
        return [] if _held(fetcher) >= most else requests, *others

    fetcher._get_actions_per_node = within


def _held(fetcher: Any) -> int:
    parts = [found._partition_records for found in fetcher._records.values() if isinstance(found, FetchResult)]
    return sum(part._records.size_in_bytes() for part in parts if part is not None)


async def take(consumer: Any, wait: float, most: int) -> Mapping[Any, list[Record]]:
    """The next records of a consumer with the mark of ``lean``, at most so many; waits for so many seconds for any."""
    with at_most(HANDOUT_BYTES):
        taken: Mapping[Any, list[Record]] = await consumer.getmany(timeout_ms=int(wait * 1000), max_records=most)
    return taken


@contextmanager
def at_most(size: int) -> Iterator[None]:
    """Within this, what is handed out has about `size` bytes of values: a few records more, and one however large."""
    token = _allowance.set(_Allowance(size))
    try:
        yield
    finally:
        _allowance.reset(token)


class _Allowance:
    def __init__(self, size: int) -> None:
        self.left = size


_allowance: ContextVar[_Allowance] = ContextVar("allowance")


class _Result(FetchResult):  # type: ignore[misc]  # aiokafka has no types
    _partition_records: Any

    def getall(self, max_records: int | None = None) -> list[Any]:
        part = self._partition_records
        if part is None or not is_lean(part):
            found: list[Any] = super().getall(max_records)
            return found
        allowance = _allowance.get()
        if not self.check_assignment(self._topic_partition) or allowance.left <= 0:
            return []
        taken: list[Any] = []
        wanted, size, most = FIRST, 0, max_records or sys.maxsize
        while allowance.left > 0 and len(taken) < most:
            part.wanted = min(wanted, most - len(taken))
            block = next(part, None)
            if block is None:
                self._update_position()
                self._partition_records = None
                return taken
            taken += block
            used = value_bytes(block)
            size += used
            allowance.left -= used
            # As many as may come by the size of the ones before: only what is much larger than those goes beyond.
            wanted = min(BLOCK, 1 + allowance.left * len(taken) // max(size, 1))
        self._update_position()
        return taken


module.FetchResult = _Result
