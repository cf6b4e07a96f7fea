"""The listing helper: day folders, keys, and objects with their metadata, in order and many at once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from ingestd.config.model import SinkConfig
from ingestd.config.types import Seconds
from ingestd.core.chain import Neighbours
from ingestd.core.errors import SinkUnavailable
from ingestd.core.object_keys import ObjectKeys
from ingestd.core.records import TopicPartition
from ingestd.core.stored import ObjectInfo
from ingestd.pipeline.neighbours import History, find_history, find_neighbours
from ingestd.pipeline.shared_listing import SharedListing
from ingestd.sinks.listing import Listing, map_ordered
from ingestd.sinks.retry import SinkRetrier
from tests.fakes.memory_sink import BrokenOffSink, Fault, MemorySink

TP = TopicPartition("t", 0)
DAY_MS = 86_400_000


def make_listing(sink: MemorySink, patience_s: float | None = None) -> Listing:
    config = SinkConfig(retry_initial=Seconds(0.001), retry_max=Seconds(0.001), concurrency=64)
    return Listing(sink, SinkRetrier(config), patience_s)


async def put(sink: MemorySink, *keys: str) -> None:
    for key in keys:
        await sink.put_new(key, b"", {"a": "b"})


async def test_days_are_listed_in_order_without_listing_objects() -> None:
    sink = MemorySink()
    days = [f"events/year=2026/month={month:02d}/day={day:02d}/" for month in (1, 2, 11) for day in (1, 9, 30)]
    await put(sink, *(f"{day}t+00000+{number:020d}" for day in reversed(days) for number in range(3)))
    await put(sink, "events/other/year=2026/month=01/day=01/x", "events/year=2026/stray/x", "quarantine/x")
    assert await make_listing(sink).days("events/") == days
    first, last = "year=2026/month=01/day=09/", "year=2026/month=02/day=01/"
    assert await make_listing(sink).days("events/", first, last) == days[1:4]
    assert await make_listing(sink).days("quarantine/") == []
    assert sink.calls["list"] == 0


async def test_a_listing_that_breaks_off_goes_on_behind_the_last_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingestd.sinks.listing._PAGE_KEYS", 4)
    sink, expected = BrokenOffSink(), [f"a/{number:03d}" for number in range(50)]
    await put(sink, *expected, "b/0")
    assert [key async for key in make_listing(sink).keys("a/")] == expected


class SlowSink(MemorySink):
    """Its HEADs take longer for the keys that come first; counts how many are under way."""

    underway = most = 0

    async def head(self, key: str) -> ObjectInfo | None:
        self.underway += 1
        self.most = max(self.most, self.underway)
        try:
            for _ in range(100 - int(key)):
                await asyncio.sleep(0)
            return await super().head(key)
        finally:
            self.underway -= 1


async def each(keys: list[str]) -> AsyncIterator[str]:
    for key in keys:
        yield key


async def test_objects_come_in_order_and_so_many_are_looked_at_at_once() -> None:
    sink, keys = SlowSink(), [f"{number:02d}" for number in range(100)]
    await put(sink, *keys)
    del sink.objects["07"]
    found = [pair async for pair in make_listing(sink).objects(each(keys), 8)]
    assert [key for key, _ in found] == keys
    assert [key for key, info in found if info is None] == ["07"]
    assert sink.most == 8


async def test_nothing_is_left_running_when_the_reader_stops() -> None:
    sink, keys = SlowSink(), [f"{number:02d}" for number in range(100)]
    async with aclosing(make_listing(sink).objects(each(keys), 8)) as found:
        await anext(found)
    assert sink.underway == 0


async def test_an_error_of_the_work_reaches_the_reader() -> None:
    async def work(key: str) -> int:
        return 1 // int(key)

    with pytest.raises(ZeroDivisionError):
        _ = [result async for result in map_ordered(each(["1", "0", "1"]), work, 2)]


async def test_a_failing_call_is_repeated_and_given_up_after_the_patience() -> None:
    sink = MemorySink()
    await put(sink, "a/1")
    sink.fail(3)
    assert await make_listing(sink).head("a/1") is not None
    assert await make_listing(sink).get("a/1") == b""
    sink.fail_when(lambda call: Fault())
    with pytest.raises(SinkUnavailable):
        await make_listing(sink, 0.01).days("a/")


async def test_neighbours_are_found_whatever_their_dates() -> None:
    """A producer's clock decides on the day: a later offset may lie in an earlier folder."""
    sink, layout = MemorySink(), ObjectKeys()
    for start, timestamp in ((0, 9 * DAY_MS), (10, 2 * DAY_MS), (20, 400 * DAY_MS), (30, 3 * DAY_MS)):
        await put(sink, layout.data_key(TP, start, timestamp, 0))
    await put(sink, layout.data_key(TopicPartition("t", 1), 21, DAY_MS, 0))
    await put(sink, ObjectKeys("other").data_key(TP, 22, DAY_MS, 0))
    listing = SharedListing(make_listing(sink), layout)
    found = await find_neighbours(listing, TP, 20)
    assert found.before == (layout.data_key(TP, 10, 2 * DAY_MS, 0),)
    assert found.at == (layout.data_key(TP, 20, 400 * DAY_MS, 0),)
    assert found.after == (layout.data_key(TP, 30, 3 * DAY_MS, 0),)
    assert (await find_neighbours(listing, TP, 2**63 - 1)).before == found.after
    assert (await find_neighbours(listing, TopicPartition("t", 2), 5)).before == ()


async def test_of_names_with_leader_epochs_the_latest_that_begins_before_the_offset_counts() -> None:
    """What earlier epochs have from there on was lost by Kafka. A name without an epoch may be either."""
    sink, layout = MemorySink(), ObjectKeys()

    def name(start: int, epoch: int | None = None, timestamp: int = 0) -> str:
        return layout.data_key(TP, start, timestamp, 0, epoch)

    for key in (name(0, 1), name(10, 1), name(20, 1), name(30, 1), name(15, 4), name(25, 4), name(40, 6)):
        await put(sink, key)
    listing = SharedListing(make_listing(sink), layout)

    async def around(offset: int | None) -> Neighbours:
        return await find_neighbours(listing, TP, offset)

    assert await around(12) == Neighbours(before=(name(10, 1),), after=(name(15, 4),))
    assert await around(15) == Neighbours(before=(name(10, 1),), at=(name(15, 4),), after=(name(25, 4),))
    assert await around(20) == Neighbours(before=(name(15, 4),), after=(name(25, 4),))
    assert await around(30) == Neighbours(before=(name(25, 4),), after=(name(40, 6),))
    assert await around(None) == Neighbours(before=(name(40, 6),))
    for key in (name(20), name(20, timestamp=DAY_MS), name(35)):
        await put(sink, key)
    assert await around(20) == Neighbours(
        before=(name(15, 4),), at=(name(20), name(20, timestamp=DAY_MS)), after=(name(25, 4), name(35))
    )
    assert await around(None) == Neighbours(before=(name(40, 6), name(35)))
    assert await find_history(listing, TP, 20) == History(
        0, {1: name(30, 1), 4: name(25, 4), 6: name(40, 6)}, (name(20), name(20, timestamp=DAY_MS), name(35))
    )
