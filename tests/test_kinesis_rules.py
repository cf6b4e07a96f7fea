"""The pure rules of the Kinesis source: aggregates, the tree of shards, continuity, and the budget of its readers."""

import asyncio
import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.core.errors import ConfigError, SourceError
from ingestd.core.start_time import start_time_ms
from ingestd.sources.kinesis.aggregates import OUTSIDE_OF_SHARD, check_room, split_page, split_record
from ingestd.sources.kinesis.budget import PrefetchBudget
from ingestd.sources.kinesis.continuity import (
    CLOCK_ERROR_MS,
    MIN_RETENTION_MS,
    CaughtUp,
    Place,
    Retention,
    Start,
    Verdict,
    WasOpen,
    judge,
    place_of,
)
from ingestd.sources.kinesis.port import KinesisRecord, Shard
from ingestd.sources.kinesis.shards import Sharing, by_number, readable, shard_id, shard_number
from ingestd.sources.kinesis.state import StreamState
from tests.fakes.kinesis import MemoryState
from tests.kinesis_aggregates import MAGIC, aggregate, field, varint, with_digest

HASH_MAX = (1 << 128) - 1
WHOLE = Shard("shardId-000000000000", (), 0, HASH_MAX, False)
LOWER = Shard("shardId-000000000001", (), 0, HASH_MAX // 2, False)
NUMBER = 10**55

PARTS = st.lists(
    st.tuples(st.text(max_size=8), st.none() | st.integers(0, HASH_MAX), st.binary(max_size=40)),
    min_size=1,
    max_size=20,
)


def record(value: bytes, number: int = NUMBER) -> KinesisRecord:
    return KinesisRecord(number, value, 1_700_000_000.5, "of the record")


# -- aggregates


@given(PARTS)
def test_an_aggregate_gives_its_records_back(parts: list[tuple[str, int | None, bytes]]) -> None:
    found = split_record(record(aggregate(parts)), WHOLE)
    assert [(each.partition_key, each.value) for each in found] == [(key, value) for key, _, value in parts]
    assert {each.timestamp for each in found} == {1_700_000_000_500}
    assert not any(each.refused for each in found)


@given(PARTS)
def test_positions_count_down_to_the_number_of_the_aggregate(parts: list[tuple[str, int | None, bytes]]) -> None:
    found = split_record(record(aggregate(parts)), WHOLE)
    assert [each.offset for each in found] == list(range(NUMBER - len(parts) + 1, NUMBER + 1))


def test_records_of_other_shards_are_marked_by_their_keys_and_by_explicit_hashes() -> None:
    keys = [f"k{number}" for number in range(20)]
    found = split_record(record(aggregate([(key, None, b"v") for key in keys])), LOWER)
    expected = [int(hashlib.md5(key.encode()).hexdigest(), 16) > LOWER.hash_end for key in keys]  # noqa: S324
    assert [each.refused is OUTSIDE_OF_SHARD for each in found] == expected
    assert True in expected
    assert False in expected
    explicit = [("k", LOWER.hash_end, b"in"), ("k", LOWER.hash_end + 1, b"out")]
    assert [each.refused is OUTSIDE_OF_SHARD for each in split_record(record(aggregate(explicit)), LOWER)] == [
        False,
        True,
    ]


BODY = aggregate([("k", None, b"value")])
RECORD = varint(1 << 3) + varint(0)


@pytest.mark.parametrize(
    "value",
    [
        b"{}",
        MAGIC,
        MAGIC + b"\0" * 15,
        BODY[:-1],
        BODY[:-1] + bytes([BODY[-1] ^ 1]),
        with_digest(b""),
        with_digest(b"\xff"),
        with_digest(b"\xff" * 12),
        with_digest(field(1, b"k")),
        with_digest(field(3, RECORD + field(3, b"v"))),  # there is no such key
        with_digest(field(1, b"k") + field(3, RECORD)),  # no value
        with_digest(field(1, b"\xff") + field(3, RECORD + field(3, b"v"))),
        with_digest(field(1, b"k") + field(2, b"x") + field(3, RECORD + field(3, b"v"))),
        with_digest(field(1, b"k") + field(3, RECORD + varint(2 << 3) + varint(0) + field(3, b"v"))),
        with_digest(varint(3 << 3 | 2) + varint(100) + b"short"),
        with_digest(varint(1 << 3 | 5) + b"four"),
        with_digest(field(1, b"k") + field(3, b"") * 250_001),
    ],
)
def test_what_is_no_sound_aggregate_stays_one_record(value: bytes) -> None:
    whole = record(value)
    assert list(split_record(whole, WHOLE)) == [whole]


@given(st.binary(max_size=200))
def test_hostile_bytes_never_raise(data: bytes) -> None:
    assert len(split_record(record(with_digest(data)), WHOLE)) >= 1


def test_a_batch_may_end_where_a_record_of_kinesis_ends() -> None:
    pair = aggregate([("k", None, b"a"), ("k", None, b"b")])
    page = split_page([record(b"{}", 1000), record(pair, 2000), record(b"{}", 3000)], WHOLE)
    assert page.cuts == [1, 3, 4]
    assert [each.offset for each in page.records] == [1000, 1999, 2000, 3000]


def test_a_page_without_aggregates_may_be_cut_anywhere() -> None:
    page = split_page([record(b"{}", 1), record(b"{}", 2)], WHOLE)
    assert page.cuts is None
    assert len(page.records) == 2


def test_positions_that_have_no_room_are_an_error() -> None:
    check_room(NUMBER - 3, record(b""), 3)
    with pytest.raises(SourceError, match="has 4 records, and only 3 numbers are free"):
        check_room(NUMBER - 3, record(b""), 4)


# -- shards


def shard(number: int, *parents: int, closed: bool = False) -> Shard:
    return Shard(shard_id(number), tuple(map(shard_id, parents)), 0, 0, closed)


def test_a_shards_number_is_in_its_id() -> None:
    assert shard_number("shardId-000000000012") == 12
    assert shard_id(12) == "shardId-000000000012"


@pytest.mark.parametrize(
    "name", ["shardId-12", "shard-000000000012", "shardId-0000000000123", "shardId-00000000001٢", ""]
)
def test_other_ids_are_an_error_that_names_them(name: str) -> None:
    with pytest.raises(SourceError, match=re.escape(repr(name))):
        shard_number(name)


def test_children_wait_for_all_their_parents_that_are_listed() -> None:
    shards = by_number([shard(3, 0, 1), shard(0, closed=True), shard(1, closed=True), shard(2)])
    assert readable(shards, set()) == [0, 1, 2]
    assert readable(shards, {0}) == [1, 2]
    assert readable(shards, {0, 1}) == [2, 3]
    assert readable(by_number([shard(3, 0, 1), shard(1, closed=True)]), {1}) == [3]


@given(st.sets(st.text("abc", min_size=1, max_size=3), min_size=1, max_size=8), st.integers(0, 40))
def test_every_shard_has_one_member_and_no_member_more_than_its_part(members: set[str], total: int) -> None:
    shards = list(range(total))
    dealt = [Sharing().of(member, members, shards) for member in members]
    assert sorted(number for some in dealt for number in some) == shards
    assert max(map(len, dealt)) <= -(-total // len(members))


def test_a_member_that_leaves_moves_few_shards() -> None:
    members, shards = {f"m{number}" for number in range(10)}, list(range(200))
    before = {number: member for member in members for number in Sharing().of(member, members, shards)}
    rest = members - {"m3"}
    after = {number: member for member in rest for number in Sharing().of(member, rest, shards)}
    moved = [number for number in shards if before[number] not in {"m3", after[number]}]
    assert len(moved) < 40


# -- continuity


@pytest.mark.parametrize(
    ("first", "verdict"),
    [(98, Verdict.BEFORE), (99, Verdict.PREVIOUS), (100, Verdict.NEXT), (101, Verdict.LATER)],
)
def test_the_first_record_says_whether_something_is_missing(first: int, verdict: Verdict) -> None:
    assert judge(100, first, first) is verdict


def test_an_aggregate_that_begins_at_the_position_is_the_next_record() -> None:
    assert judge(100, 104, 100) is Verdict.NEXT
    assert judge(100, 104, 101) is Verdict.LATER


def test_reading_begins_at_the_record_before_where_the_log_has_it() -> None:
    assert place_of(100, 50, None) == Place(99)
    assert place_of(100, 100, None) == Place()
    assert place_of(100, 150, None) == Place()
    assert place_of(100, None, None) == Place()


def test_reading_begins_where_a_start_was_pinned() -> None:
    assert place_of(100, 50, Start(100, 104, None, 0, 1)) == Place(104)
    assert place_of(0, 50, Start(0, None, 1234, 0, 1)) == Place(None, 1234)
    assert place_of(100, 50, Start(0, None, 1234, 0, 1)) == Place(99)


def test_an_empty_log_proves_that_nothing_is_missing_until_retention_reaches_that_time() -> None:
    retention, proof = 24 * 3_600_000, CaughtUp(100, 1_000_000, 24 * 3_600_000)
    last = proof.at_ms + retention - CLOCK_ERROR_MS - 1
    assert proof.proves(100, last, retention)
    assert proof.proves(101, last, retention)
    assert not proof.proves(100, last + 1, retention)
    assert not proof.proves(99, last, retention)


def test_a_retention_that_was_raised_afterwards_proves_nothing_more() -> None:
    day = 24 * 3_600_000
    proof = CaughtUp(100, 1_000_000, day)
    assert proof.proves(100, proof.at_ms + day - CLOCK_ERROR_MS - 1, 7 * day)
    assert not proof.proves(100, proof.at_ms + 2 * day, 7 * day), "records behind it were removed in the meantime"
    assert not proof.proves(100, proof.at_ms + day // 2, day // 4), "nor where it was lowered"


@given(st.lists(st.integers(1, 5), min_size=1, max_size=12), st.integers(-5, 130))
def test_the_shortest_retention_since_a_time_counts(seen: list[int], since_ms: int) -> None:
    retention = Retention()
    for index, kept_ms in enumerate(seen):
        retention.see(index * 10, kept_ms)
    assert retention.since(since_ms) == min(seen[max(0, min(since_ms // 10, len(seen) - 1)) :])
    assert len(retention._shortest) <= 5


def test_an_end_of_a_former_version_counts_as_with_the_shortest_retention_of_aws() -> None:
    async def main() -> None:
        store = MemoryState()
        state = StreamState(store, "events")
        await store.create("done/events/1/shardId-000000000000", b'{"end":"5","open_ms":7}')
        await store.create("done/events/1/shardId-000000000001", b'{"end":"5"}')
        assert await state.was_open("1", 0) == WasOpen(7, MIN_RETENTION_MS)
        assert await state.was_open("1", 1) is None
        for number, told in ((2, WasOpen(7, 8)), (3, WasOpen(7, MIN_RETENTION_MS)), (4, None)):
            await state.mark_done("1", number, 5, told)
            assert await state.was_open("1", number) == told

    asyncio.run(main())


def test_a_start_at_a_record_proves_nothing_about_later_ones() -> None:
    assert Start(100, 104, None, 5, 7).caught_up is None
    assert Start(0, None, None, 5, 7).caught_up == CaughtUp(0, 5, 7)


@pytest.mark.parametrize("start", ["yesterday", "2026-01-31", "2026-01-31T00:00:00", ""])
def test_a_start_that_is_no_time_with_its_zone_is_an_error(start: str) -> None:
    with pytest.raises(ConfigError, match=r"kinesis\.start"):
        start_time_ms("kinesis.start", start)


def test_a_start_is_a_word_or_a_time() -> None:
    assert start_time_ms("kinesis.start", "earliest") is start_time_ms("kinesis.start", "latest") is None
    assert start_time_ms("kinesis.start", "1970-01-01T00:00:02+00:00") == 2000


# -- the budget of the readers


async def test_reservations_wait_until_there_is_room_and_keep_their_order() -> None:
    budget = PrefetchBudget(10)
    await budget.reserve(8)
    granted: list[int] = []

    async def reserve(size: int) -> None:
        await budget.reserve(size)
        granted.append(size)

    tasks = [asyncio.create_task(reserve(size)) for size in (5, 1, 2)]
    await asyncio.sleep(0)
    assert granted == []
    budget.change(-8)
    await asyncio.gather(*tasks)
    assert granted == [5, 1, 2]
    assert budget.used == 8


async def test_one_reservation_beyond_the_bound_is_granted_alone() -> None:
    budget = PrefetchBudget(10)
    await budget.reserve(100)
    waiting = asyncio.create_task(budget.reserve(1))
    await asyncio.sleep(0)
    assert not waiting.done()
    budget.change(-100)
    await waiting
    assert budget.used == 1


async def test_a_reservation_that_is_cancelled_takes_nothing() -> None:
    budget = PrefetchBudget(10)
    await budget.reserve(8)
    first, second = asyncio.create_task(budget.reserve(9)), asyncio.create_task(budget.reserve(2))
    await asyncio.sleep(0)
    first.cancel()
    await second
    budget.change(-10)
    third = asyncio.create_task(budget.reserve(10))
    await third
    waiting = asyncio.create_task(budget.reserve(1))
    await asyncio.sleep(0)
    budget.change(-10)  # grants it
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert budget.used == 0
