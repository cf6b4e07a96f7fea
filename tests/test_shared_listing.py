"""The names of many partitions' objects: listed once for all that ask, and never older than the question."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from ingestd.config.model import SinkConfig
from ingestd.config.types import Seconds
from ingestd.core.object_keys import DataObjectName, ObjectKeys
from ingestd.core.records import TopicPartition
from ingestd.pipeline import shared_listing
from ingestd.pipeline.neighbours import find_history, find_neighbours
from ingestd.pipeline.shared_listing import SharedListing
from ingestd.sinks.listing import Listing
from ingestd.sinks.retry import SinkRetrier
from tests.fakes.memory_sink import MemorySink

KEYS = ObjectKeys()
DAY_MS = 86_400_000
MANY = [TopicPartition("t", number) for number in range(1000)]
DAYS = range(0, 440, 40)  # in two years


class CountingSink(MemorySink):
    """Remembers what was listed. While `gate` is closed, a listing waits behind the names that it has read."""

    def __init__(self) -> None:
        super().__init__()
        self.listed: list[str] = []
        self.names = 0  # that were read
        self.gate = asyncio.Event()
        self.gate.set()

    async def list(self, prefix: str) -> AsyncIterator[str]:
        self.listed.append(prefix)
        found = [key async for key in super().list(prefix)]
        await self.gate.wait()
        for key in found:
            self.names += 1
            yield key

    def put(self, partition: TopicPartition, start: int, day: int = 0, epoch: int | None = None) -> str:
        key = KEYS.data_key(partition, start, day * DAY_MS, 0, epoch)
        self.objects[key] = b"", {}
        return key


class Names:
    """All names of a partition."""

    def __init__(self) -> None:
        self.found: list[DataObjectName] = []

    def add(self, name: DataObjectName) -> None:
        self.found.append(name)


def shared(sink: MemorySink) -> SharedListing:
    config = SinkConfig(retry_initial=Seconds(0.001), retry_max=Seconds(0.001), concurrency=64)
    return SharedListing(Listing(sink, SinkRetrier(config)), KEYS)


async def starts(listing: SharedListing, partition: TopicPartition) -> list[int]:
    return sorted(name.start for name in (await listing.collect(partition, Names)).found)


async def turns() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


async def test_a_thousand_partitions_list_each_day_folder_once() -> None:
    sink = CountingSink()
    last = {partition: [sink.put(partition, day, day) for day in DAYS][-1] for partition in MANY}
    listing = shared(sink)
    found = await asyncio.gather(*(find_neighbours(listing, partition, None) for partition in MANY))
    assert [each.before for each in found] == [(last[partition],) for partition in MANY]
    assert len(sink.listed) == len({*sink.listed}) == len(DAYS)
    months = {key.partition("day=")[0] for key in sink.objects}
    assert sink.calls["folders"] == 1 + 2 + len(months)


async def test_different_questions_share_a_listing() -> None:
    sink = CountingSink()
    first, second = sink.put(MANY[0], 0, 0, 1), sink.put(MANY[0], 10, 40, 2)
    sink.put(MANY[1], 7, 0, 3)
    listing = shared(sink)
    before, at, history, other = await asyncio.gather(
        find_neighbours(listing, MANY[0], None),
        find_neighbours(listing, MANY[0], 0),
        find_history(listing, MANY[0], 5),
        find_neighbours(listing, MANY[1], None),
    )
    assert (before.before, at.at, at.after) == ((second,), (first,), (second,))
    assert history.last_of == {1: first, 2: second}
    assert len(other.before) == 1
    assert len(sink.listed) == 2


async def test_a_question_is_not_answered_by_a_listing_that_began_before_it() -> None:
    """That one has passed the place of an object that was written meanwhile."""
    sink = CountingSink()
    sink.put(MANY[0], 0)
    sink.put(MANY[1], 0)
    sink.gate.clear()
    listing = shared(sink)
    early = asyncio.gather(*(starts(listing, partition) for partition in MANY[:2]))
    await turns()
    assert sink.listed, "the listing waits behind the names that it has read"
    sink.put(MANY[1], 10)
    late = asyncio.gather(*(starts(listing, partition) for partition in MANY[:2]))
    await turns()
    sink.gate.set()
    assert await early == [[0], [0]]
    assert await late == [[0], [0, 10]]
    assert len(sink.listed) == 2


async def test_those_that_ask_during_a_listing_share_the_next_one() -> None:
    sink = CountingSink()
    for partition in MANY:
        sink.put(partition, 5)
    sink.gate.clear()
    listing = shared(sink)
    asking = []
    for partition in MANY:
        asking.append(asyncio.create_task(starts(listing, partition)))
        await asyncio.sleep(0)
    sink.gate.set()
    assert await asyncio.gather(*asking) == [[5]] * len(MANY)
    assert len(sink.listed) == 2


async def test_a_listing_goes_on_for_the_others_where_the_one_that_lists_is_gone() -> None:
    sink = CountingSink()
    for partition in MANY[:3]:
        sink.put(partition, 5)
    sink.gate.clear()
    listing = shared(sink)
    asking = [asyncio.create_task(starts(listing, partition)) for partition in MANY[:3]]
    await turns()
    asking[0].cancel()
    await turns()
    sink.gate.set()
    assert await asyncio.gather(*asking[1:]) == [[5], [5]], "each name once, although it was listed twice"
    assert len(sink.listed) == 2
    assert await starts(listing, MANY[0]) == [5]


@pytest.mark.parametrize(
    ("asking", "listings", "names"),
    [
        pytest.param([MANY[500]], 1, 2, id="one"),
        pytest.param([MANY[0], MANY[999]], 2, 40, id="two, far from each other"),
        pytest.param(MANY[::100], 10, 60, id="few"),
        pytest.param(MANY[::2], 1, 2000, id="every second one"),
        pytest.param(MANY, 1, 2000, id="all"),
    ],
)
async def test_a_few_partitions_of_many_do_not_list_them_all(
    asking: Sequence[TopicPartition], listings: int, names: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_listing, "MOST_SKIPPED", 20)
    monkeypatch.setattr("ingestd.sinks.listing._PAGE_KEYS", 10)
    sink = CountingSink()
    for partition in MANY:
        sink.put(partition, 5)
        sink.put(partition, 6)
    listing = shared(sink)
    assert await asyncio.gather(*(starts(listing, partition) for partition in asking)) == [[5, 6]] * len(asking)
    assert len(sink.listed) <= listings
    assert sink.names <= names


async def test_topics_and_numbers_of_any_length_are_told_apart() -> None:
    sink = CountingSink()
    partitions = [
        TopicPartition(topic, number) for topic in ("t", "t.u", "tu") for number in (1, 10, 99_999, 100_000, 1_000_001)
    ]
    for offset, partition in enumerate(partitions):
        sink.put(partition, offset)
    (foreign,) = [key for key in sink.objects if "/t+00001+" in key]
    sink.objects[foreign.replace("/t+00001+", "/t+000001+")] = b"", {}  # parsed, it is partition 1; not a name of ours
    listing = shared(sink)
    assert await asyncio.gather(*(starts(listing, each) for each in partitions)) == [[n] for n in range(15)]
    assert len(sink.listed) == 3
