"""When a batch is flushed."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from ingestd.config.model import BatchConfig
from ingestd.config.types import Seconds, Size
from ingestd.core.flush_policy import FlushPolicy, FlushReason


@dataclass(frozen=True)
class Fill:
    """How full a batch is."""

    number: int = 0
    records: int = 1
    compressed_bytes: int = 0
    held_bytes: int = 0
    opened_at: float = 0.0


LIMITS = BatchConfig(interval=Seconds(30), bytes=Size(1 << 20), records=100, memory=Size(64 << 20))


def test_flushes_at_the_first_limit_that_is_reached() -> None:
    policy = FlushPolicy(LIMITS)
    assert policy.reached(Fill(records=99, compressed_bytes=(1 << 20) - 1)) is None
    assert policy.reached(Fill(records=100)) is FlushReason.RECORDS
    assert policy.reached(Fill(records=100, compressed_bytes=1 << 20)) is FlushReason.BYTES


def test_without_a_limit_of_records_there_is_always_room_for_more() -> None:
    policy = FlushPolicy(BatchConfig())
    assert policy.reached(Fill(records=10**9)) is None
    assert policy.records_left(Fill(records=10**9)) is None


def test_tells_how_many_records_a_batch_still_takes() -> None:
    policy = FlushPolicy(LIMITS)
    assert (policy.records_left(None), policy.records_left(Fill(records=60))) == (100, 40)


def test_is_due_the_interval_after_its_first_record() -> None:
    assert FlushPolicy(LIMITS).due_at(Fill(opened_at=5.0)) == 35.0


@given(st.lists(st.integers(0, 64 << 20), max_size=50))
def test_memory_flushes_the_fewest_largest_until_the_rest_takes_half_of_the_budget(sizes: list[int]) -> None:
    batches = [Fill(number, held_bytes=size) for number, size in enumerate(sizes)]
    flushed = FlushPolicy(LIMITS).for_memory(batches)
    rest = [batch for batch in batches if batch not in flushed]
    assert sum(batch.held_bytes for batch in rest) <= LIMITS.memory // 2
    assert (
        min((batch.held_bytes for batch in flushed), default=0) >= max((it.held_bytes for it in rest), default=0)
        or not flushed
    )
    if flushed:
        assert sum(batch.held_bytes for batch in [*rest, flushed[-1]]) > LIMITS.memory // 2
