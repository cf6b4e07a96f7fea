"""What has been fetched and not handed out yet has a maximum in bytes, and so has what is handed out at once.

aiokafka fetches a partition again as soon as it holds nothing more of it. So what it holds grows with the number of
partitions, and it goes on while nobody takes anything. What it hands out at once it counts in records alone. Neither
can be set: the method that decides what to fetch is replaced on one fetcher, the class of what was fetched in its
module.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import islice
from typing import Any

from aiokafka.consumer import fetcher as module
from aiokafka.consumer.fetcher import FetchResult

BLOCK = 16  # records between two looks at the allowance


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
        allowance = _allowance.get(None)
        if allowance is None or max_records is None:
            found: list[Any] = super().getall(max_records)
            return found
        if not self.check_assignment(self._topic_partition) or not self.has_more() or allowance.left <= 0:
            return []
        taken: list[Any] = []
        while allowance.left > 0 and len(taken) < max_records:
            wanted = min(BLOCK, max_records - len(taken))
            block = list(islice(self._partition_records, wanted))
            taken += block
            allowance.left -= sum(len(record.value or b"") for record in block)
            if len(block) < wanted:
                self._update_position()
                self._partition_records = None
                return taken
        self._update_position()
        return taken


module.FetchResult = _Result
