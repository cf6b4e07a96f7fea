"""What is fetched ahead, and what is handed out at once, on records as a broker sends them."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from aiokafka import TopicPartition
from aiokafka.consumer import fetcher as module
from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from hypothesis import given
from hypothesis import strategies as st

from ingestd.sources.kafka import prefetch_limit
from ingestd.sources.kafka.fast_records import lean

TP = TopicPartition("t", 0)
REQUESTS = [(1, "a fetch")]


class State:
    """aiokafka's of one partition, as far as results look at it."""

    def __init__(self) -> None:
        self.paused = False
        self.position = 0

    def consumed_to(self, position: int) -> None:
        self.position = position


def batch(base: int, sizes: Sequence[int | None]) -> bytes:
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=0,
        is_transactional=0,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=1 << 30,
    )
    for number, size in enumerate(sizes):
        builder.append(number, timestamp=0, key=None, value=None if size is None else b"x" * size, headers=[])
    data = bytearray(builder.build())
    data[:8] = base.to_bytes(8, "big")
    return bytes(data)


def fetched(data: bytes, state: State, mark: object = lean) -> Any:
    """As the fetcher makes it of an answer."""
    records = PartitionRecords(TP, module.MemoryRecords(data), [], 0, mark, None, True, "read_committed")
    assignment = SimpleNamespace(active=True, state_value=lambda _: state)
    return module.FetchResult(TP, assignment=assignment, partition_records=records, backoff=0.1)


def bounded(results: dict[TopicPartition, Any], most: int) -> Any:
    fetcher = SimpleNamespace(_records=results, _get_actions_per_node=lambda _: (REQUESTS, "resets", 0.2))
    prefetch_limit.bound(fetcher, most)
    return fetcher


def test_nothing_more_is_asked_for_while_enough_is_held() -> None:
    data = batch(0, [100] * 10)
    results = {TP: fetched(data, State()), TopicPartition("t", 1): fetched(data, State())}

    assert bounded(results, 2 * len(data))._get_actions_per_node(None) == ([], "resets", 0.2)
    assert bounded(results, 2 * len(data) + 1)._get_actions_per_node(None) == (REQUESTS, "resets", 0.2)


def test_what_was_handed_out_is_held_no_more() -> None:
    data = batch(0, [100] * 10)
    result = fetched(data, State())
    fetcher = bounded({TP: result}, len(data))
    assert fetcher._get_actions_per_node(None)[0] == []

    with prefetch_limit.at_most(10_000):
        assert len(result.getall(50)) == 10

    assert fetcher._get_actions_per_node(None)[0] == REQUESTS


@given(st.lists(st.none() | st.integers(0, 3000), min_size=1, max_size=120), st.integers(1, 40), st.integers(1, 20_000))
def test_all_is_handed_out_in_order_and_never_much_at_once(sizes: list[int | None], most: int, allowed: int) -> None:
    half = len(sizes) // 2
    data = b"".join(batch(base, part) for base, part in ((0, sizes[:half]), (half, sizes[half:])) if part)
    state = State()
    result, offsets = fetched(data, state), []
    while result.has_more():
        with prefetch_limit.at_most(allowed):
            taken = result.getall(most)
            again = result.getall(most) if result.has_more() else []
        values = [len(record.value or b"") for record in taken]
        assert len(taken) <= most
        assert sum(values[: -prefetch_limit.BLOCK]) < allowed
        assert not again or sum(values) < allowed, "the allowance is for both"
        offsets += [record.offset for record in taken + again]
        assert state.position == (offsets[-1] + 1 if offsets else 0)
    assert offsets == list(range(len(sizes)))


def test_a_record_however_large_is_handed_out() -> None:
    with prefetch_limit.at_most(10):
        assert [len(record.value) for record in fetched(batch(0, [5000]), State()).getall(10)] == [5000]


def test_other_consumers_of_the_process_have_no_bound() -> None:
    with prefetch_limit.at_most(10):
        assert len(fetched(batch(0, [1000] * 100), State(), mark=None).getall(None)) == 100


def test_nothing_of_a_paused_partition_is_handed_out() -> None:
    state = State()
    result = fetched(batch(0, [10]), state)
    state.paused = True
    with prefetch_limit.at_most(100):
        assert result.getall(10) == []
    assert not result.has_more()
