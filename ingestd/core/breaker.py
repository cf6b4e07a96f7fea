"""The breaker stops the daemon when too many records are rejected: then more than the input is wrong."""

from collections import Counter, deque
from collections.abc import Sequence
from typing import Protocol

from ingestd.core.records import TopicPartition
from ingestd.core.rejections import Reason
from ingestd.core.validation import Rejected


class BreakerLimits(Protocol):
    """The ``breaker`` section of the configuration."""

    @property
    def max_share(self) -> float: ...
    @property
    def window(self) -> int: ...
    @property
    def max_consecutive(self) -> int: ...


class Breaker:
    """Counts rejected records and opens for good once there are too many.

    It opens when more than `max_share` of a whole window are rejected (records that have not come yet count as good,
    so the first few never open it alone), or `max_consecutive` in a row of one partition.
    """

    def __init__(self, limits: BreakerLimits) -> None:
        self._limits = limits
        self._rejected_max = limits.max_share * limits.window
        self._seen = 0
        self._recent: deque[tuple[int, Reason]] = deque()  # the window's rejected records: the record count, and why
        self._examples: dict[Reason, str] = {}  # the last record of each reason
        self._in_a_row: dict[TopicPartition, int] = {}  # only partitions whose last record was rejected
        self._reason: str | None = None

    def observe(self, partition: TopicPartition, total: int, rejected: Sequence[Rejected]) -> str | None:
        """Count a chunk of `total` records with its rejected ones. Returns the reason once the breaker is open.

        Skipped records are in neither: they say nothing of what is good.
        """
        in_a_row = self._in_a_row.pop(partition, 0)
        next_position = 0
        for one in rejected:
            in_a_row = in_a_row + 1 if one.position == next_position else 1
            next_position = one.position + 1
            self._count(partition, self._seen + one.position, one, in_a_row)
        self._seen += total
        if in_a_row and next_position == total:
            self._in_a_row[partition] = in_a_row
        return self._reason

    def _count(self, partition: TopicPartition, seen: int, one: Rejected, in_a_row: int) -> None:
        window, max_share = self._limits.window, self._limits.max_share
        self._recent.append((seen, one.reason))
        self._examples[one.reason] = f"{_place(partition, one)}: {one.reason} at {one.path}"
        while self._recent[0][0] <= seen - window:
            self._recent.popleft()
        if self._reason is not None:
            return
        if len(self._recent) > self._rejected_max:
            of = f"first {seen + 1:,}" if seen < window else f"last {window:,}"
            allowed = f"breaker.max_share = {max_share:g} of breaker.window = {window}"
            why = f"{len(self._recent):,} of the {of} records were rejected, more than {allowed}"
        elif in_a_row >= self._limits.max_consecutive:
            why = f"{in_a_row:,} records in a row were rejected in {partition} (breaker.max_consecutive)"
        else:
            return
        self._reason = f"{why}; {self._most_frequent()}"

    def _most_frequent(self) -> str:
        """The most frequent reason and an example of it. No values: they are the producer's data."""
        ((reason, count),) = Counter(reason for _, reason in self._recent).most_common(1)
        return f"{count:,} of them for {reason}, for example {self._examples[reason]}"


def _place(partition: TopicPartition, one: Rejected) -> str:
    message_id = getattr(one.record, "message_id", None)  # only messages of a queue have one
    return (
        f"{partition} offset {one.record.offset}" if message_id is None else f"{partition.topic} message {message_id}"
    )
