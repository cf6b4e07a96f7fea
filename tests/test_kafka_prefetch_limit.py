"""The bounds of bytes that are fetched ahead and handed out at once, on records as a broker sends them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer import fetcher as module
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from hypothesis import given
from hypothesis import strategies as st

from ingestd.sources.kafka._aiokafka.fast_records import FastPartitionRecords, FetchedRecords
from ingestd.sources.kafka._aiokafka.fetcher import Fetcher
from ingestd.sources.kafka._aiokafka.leader_epochs import FetchPositions
from ingestd.sources.kafka._aiokafka.prefetch_limit import BLOCK_RECORDS, Allowance, BoundedFetchResult

TP = TopicPartition("t", 0)
NODE = 1
REQUESTS = [(NODE, SimpleNamespace(topics=[]))]


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


def allowance(left: int) -> Allowance:
    made = Allowance()
    made.left = left
    return made


def fetched(data: bytes, state: State, allowed: Allowance | None = None) -> BoundedFetchResult:
    """As our fetcher makes it of an answer."""
    rest = None, 0, None, None, True, "read_committed"
    records = FastPartitionRecords(allowed or Allowance(), FetchPositions(), TP, FetchedRecords(data), *rest)
    assignment = SimpleNamespace(active=True, state_value=lambda _: state)
    return BoundedFetchResult(TP, assignment=assignment, partition_records=records, backoff=0.1)


@asynccontextmanager
async def open_fetcher(fetch_max_bytes: int = 1 << 20) -> AsyncIterator[Any]:
    """Our fetcher, without partitions."""
    loop = asyncio.get_running_loop()
    client, subscription = SimpleNamespace(_loop=loop, _metadata_max_age_ms=1000), SubscriptionState(loop=loop)
    fetcher = Fetcher(client, subscription, topic_ids={}, positions=FetchPositions(), fetch_max_bytes=fetch_max_bytes)
    yield fetcher
    await fetcher.close()


@pytest.fixture(autouse=True)
def _asks_for_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """aiokafka's part of every fetcher asks for `REQUESTS`."""
    monkeypatch.setattr(module.Fetcher, "_get_actions_per_node", lambda *_: (REQUESTS, "resets", 0.2))


def asked(fetcher: Fetcher) -> list[int]:
    """The nodes that are asked for more."""
    requests, *rest = fetcher._get_actions_per_node(None)
    assert rest == ["resets", 0.2]
    return [node for node, _ in requests]


@pytest.mark.parametrize(("more", "expected"), [(0, []), (1, [NODE])])
async def test_nothing_more_is_asked_for_while_enough_is_buffered(more: int, expected: list[int]) -> None:
    data = batch(0, [100] * 10)
    async with open_fetcher(2 * len(data) + more) as fetcher:
        fetcher._records |= {TP: fetched(data, State()), TopicPartition("t", 1): fetched(data, State())}
        assert asked(fetcher) == expected


async def test_what_was_handed_out_is_buffered_no_more() -> None:
    data = batch(0, [100] * 10)
    result = fetched(data, State(), allowance(10_000))
    async with open_fetcher(len(data)) as fetcher:
        fetcher._records[TP] = result
        assert asked(fetcher) == []
        assert len(result.getall(50)) == 10
        assert asked(fetcher) == [NODE]


@given(st.lists(st.none() | st.integers(0, 3000), min_size=1, max_size=120), st.integers(1, 40), st.integers(1, 20_000))
def test_all_is_handed_out_in_order_and_never_much_at_once(sizes: list[int | None], most: int, allowed: int) -> None:
    half = len(sizes) // 2
    data = b"".join(batch(base, part) for base, part in ((0, sizes[:half]), (half, sizes[half:])) if part)
    state, left = State(), Allowance()
    result, offsets = fetched(data, state, left), []
    while result.has_more():
        left.left = allowed
        taken = result.getall(most)
        again = result.getall(most) if result.has_more() else []
        values = [len(record.value or b"") for record in taken]
        assert len(taken) <= most
        assert sum(values[:-BLOCK_RECORDS]) < allowed
        assert not again or sum(values) < allowed, "the allowance is for both"
        offsets += [record.offset for record in taken + again]
        assert state.position == (offsets[-1] + 1 if offsets else 0)
    assert offsets == list(range(len(sizes)))


def test_a_record_of_any_size_is_handed_out() -> None:
    result = fetched(batch(0, [5000]), State(), allowance(10))
    assert [len(record.value or b"") for record in result.getall(10)] == [5000]


def test_nothing_of_a_paused_partition_is_handed_out() -> None:
    state = State()
    result = fetched(batch(0, [10]), state)
    state.paused = True
    assert result.getall(10) == []
    assert not result.has_more()
