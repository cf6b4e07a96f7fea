"""The promises of every source, as tests."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field

import pytest

from ingestd.core.records import Position, Record, TopicPartition
from ingestd.sources.base import Source

LIMIT = 60  # seconds until a promise counts as broken; never waited for when it is kept


@dataclass
class RecordingListener:
    """Records the calls. `owned` are the partitions that are assigned now."""

    owned: set[TopicPartition] = field(default_factory=set)
    heard: list[tuple[str, frozenset[TopicPartition]]] = field(default_factory=list)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def on_assigned(self, partitions: Collection[TopicPartition]) -> None:
        self.owned |= set(partitions)
        self.heard.append(("assigned", frozenset(partitions)))
        self._changed.set()

    async def on_revoked(self, partitions: Collection[TopicPartition]) -> None:
        self.owned -= set(partitions)
        self.heard.append(("revoked", frozenset(partitions)))
        self._changed.set()

    def on_out_of_range(self, partition: TopicPartition) -> None:
        self.heard.append(("out of range", frozenset({partition})))
        self._changed.set()

    async def wait_for(self, partitions: Collection[TopicPartition]) -> None:
        """Until exactly these are assigned."""
        async with asyncio.timeout(LIMIT):
            while self.owned != set(partitions):
                self._changed.clear()
                await self._changed.wait()


@dataclass
class World:
    """A source, as each test of the contract gets it.

    `source` is started with `listener` and nothing else was called. Its start policy is earliest, its group has
    committed nothing. `partitions` are the two it is or will be assigned, or the one where it never has more; their
    logs are empty and begin at offset 0. `append` returns once the values are in the log of one partition.
    `create_again` deletes the topic and creates another under its name, with as many partitions. `another` makes a
    source of the same group that is not started. `nth` is the offset of a partition's n-th record, from 0, or of the
    next one where there are n records.
    """

    source: Source
    listener: RecordingListener
    partitions: tuple[TopicPartition, ...]
    append: Callable[[TopicPartition, Sequence[bytes]], Awaitable[None]]
    create_again: Callable[[], Awaitable[None]]
    another: Callable[[], Source]
    nth: Callable[[TopicPartition, int], int] = field(default=lambda _, number: number, kw_only=True)


class Reader:
    """Fetches from a source and sorts what comes by partition. `epochs` are those of offsets that were handed out."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.got: dict[TopicPartition, list[Record]] = {}
        self.epochs: dict[TopicPartition, dict[int, int | None]] = {}

    async def fetch(self) -> bool:
        """One fetch; whether the stream goes on."""
        async with asyncio.timeout(LIMIT):
            fetched = await self.source.fetch()
        for partition, (records, epoch, _) in (fetched or {}).items():
            self.got.setdefault(partition, []).extend(records)
            self.epochs.setdefault(partition, {}).update((record.offset, epoch) for record in records)
        return fetched is not None

    async def take(self, partition: TopicPartition, count: int) -> list[Record]:
        """The next `count` records of a partition that were not taken before."""
        async with asyncio.timeout(LIMIT):
            while len(self.got.get(partition, [])) < count:
                assert await self.fetch(), "the stream ended"
        taken = self.got[partition][:count]
        del self.got[partition][:count]
        return taken


def offsets(records: Sequence[Record]) -> list[int]:
    return [record.offset for record in records]


def values(records: Sequence[Record]) -> list[bytes | None]:
    return [record.value for record in records]


class SourceContract:
    """The promises of `ingestd.sources.base.Source`.

    Subclass it in a test module, named ``Test...``, with an async fixture ``world`` that yields a `World` and stops
    the source afterwards. A promise that a source cannot keep is overridden there with a strict xfail and the reason.
    """

    async def sought(self, world: World) -> Reader:
        await world.listener.wait_for(world.partitions)
        for partition in world.partitions:
            world.source.seek(partition, 0)
        return Reader(world.source)

    async def test_assigns_its_partitions(self, world: World) -> None:
        await world.listener.wait_for(world.partitions)
        assert ("revoked", frozenset(world.partitions)) not in world.listener.heard

    async def test_knows_its_log_once_started(self, world: World) -> None:
        assert world.source.source_id

    async def test_hands_out_nothing_before_seek(self, world: World) -> None:
        await world.listener.wait_for(world.partitions)
        for partition in world.partitions:
            await world.append(partition, [b"a"])
        reader = Reader(world.source)
        for _ in range(3):
            assert await reader.fetch()
        assert reader.got == {}

    async def test_hands_out_records_in_offset_order_from_where_it_was_sought(self, world: World) -> None:
        await world.listener.wait_for(world.partitions)
        for start, partition in zip((4, 0), world.partitions, strict=False):
            await world.append(partition, [b"%d" % n for n in range(10)])
            world.source.seek(partition, world.nth(partition, start))
        reader = Reader(world.source)
        for start, partition in zip((4, 0), world.partitions, strict=False):
            expected = [world.nth(partition, number) for number in range(start, 10)]
            assert offsets(await reader.take(partition, 10 - start)) == expected

    async def test_hands_out_what_the_log_holds(self, world: World) -> None:
        reader = await self.sought(world)
        for partition in world.partitions:
            await world.append(partition, [b"a-%d" % partition.partition, b"b"])
        for partition in world.partitions:
            assert values(await reader.take(partition, 2)) == [b"a-%d" % partition.partition, b"b"]

    async def test_hands_out_records_appended_while_it_waits(self, world: World) -> None:
        partition = world.partitions[0]
        reader = await self.sought(world)
        waiting = asyncio.create_task(reader.take(partition, 1))
        await asyncio.sleep(0)
        await world.append(partition, [b"a"])
        assert offsets(await waiting) == [world.nth(partition, 0)]

    async def test_fetches_nothing_where_there_is_nothing(self, world: World) -> None:
        reader = await self.sought(world)
        assert await reader.fetch()
        assert reader.got == {}

    async def test_goes_on_at_an_offset_ahead_after_seek(self, world: World) -> None:
        partition = world.partitions[0]
        reader = await self.sought(world)
        await world.append(partition, [b"%d" % n for n in range(10)])
        await reader.take(partition, 2)
        world.source.seek(partition, world.nth(partition, 8))
        reader.got.clear()
        assert offsets(await reader.take(partition, 2)) == [world.nth(partition, number) for number in (8, 9)]

    async def test_goes_back_to_an_offset_after_seek(self, world: World) -> None:
        partition = world.partitions[0]
        reader = await self.sought(world)
        await world.append(partition, [b"%d" % n for n in range(10)])
        await reader.take(partition, 5)
        world.source.seek(partition, world.nth(partition, 1))
        reader.got.clear()
        assert offsets(await reader.take(partition, 3)) == [world.nth(partition, number) for number in (1, 2, 3)]

    async def test_hands_out_the_same_records_again_after_seek_back(self, world: World) -> None:
        partition = world.partitions[0]
        reader = await self.sought(world)
        await world.append(partition, [b"%d" % n for n in range(4)])
        before = await reader.take(partition, 4)
        world.source.seek(partition, world.nth(partition, 0))
        reader.got.clear()
        after = await reader.take(partition, 4)
        same = [(r.offset, r.timestamp, r.value, r.key) for r in after] == [
            (r.offset, r.timestamp, r.value, r.key) for r in before
        ]
        assert same is world.source.capabilities.replayable

    async def test_hands_out_nothing_of_a_paused_partition(self, world: World) -> None:
        paused, *others = world.partitions
        reader = await self.sought(world)
        for partition in world.partitions:
            await world.append(partition, [b"a", b"b"])
            await reader.take(partition, 1)
        world.source.pause(paused)
        reader.got.clear()
        for partition in world.partitions:
            await world.append(partition, [b"c", b"d"])
        for other in others:
            await reader.take(other, 2)
        await reader.fetch()
        assert paused not in reader.got

    async def test_seek_ends_a_pause_and_loses_nothing(self, world: World) -> None:
        partition = world.partitions[0]
        reader = await self.sought(world)
        await world.append(partition, [b"a", b"b"])
        await reader.take(partition, 1)
        world.source.pause(partition)
        await world.append(partition, [b"c"])
        world.source.seek(partition, world.nth(partition, 1))
        reader.got.clear()
        assert offsets(await reader.take(partition, 2)) == [world.nth(partition, number) for number in (1, 2)]

    async def test_has_no_position_before_a_commit(self, world: World) -> None:
        await world.listener.wait_for(world.partitions)
        assert await world.source.committed(world.partitions[0]) is None

    async def test_reads_a_commit_back_with_its_mark(self, world: World) -> None:
        first, *others = world.partitions
        await self.sought(world)
        await world.append(first, [b"a", b"b"])
        assert await world.source.commit(first, Position(1, "mark of 1"))
        assert await world.source.commit(first, Position(2, "mark of 2"))
        assert await world.source.committed(first) == Position(2, "mark of 2")
        for other in others:
            assert await world.source.committed(other) is None

    async def test_commits_backwards_when_told_to(self, world: World) -> None:
        partition = world.partitions[0]
        await self.sought(world)
        await world.append(partition, [b"a", b"b"])
        assert await world.source.commit(partition, Position(2, "m"))
        assert await world.source.commit(partition, Position(1))
        assert await world.source.committed(partition) == Position(1, "")

    async def test_tells_the_range_of_the_log(self, world: World) -> None:
        await world.listener.wait_for(world.partitions)
        await world.append(world.partitions[0], [b"a", b"b", b"c"])
        ranges = [await world.source.log_range(each) for each in world.partitions]
        known = ranges == [(0, 3), (0, 0)][: len(ranges)]
        assert known is world.source.capabilities.has_log_end

    async def test_commits_outlive_the_source(self, world: World) -> None:
        partition, position = world.partitions[0], Position(2, "m")
        await self.sought(world)
        await world.append(partition, [b"a", b"b"])
        assert await world.source.commit(partition, position)
        await world.source.stop()
        another = world.another()
        await another.start(RecordingListener())
        try:
            assert (await another.committed(partition) == position) is world.source.capabilities.has_commits
        finally:
            await another.stop()

    async def test_reports_a_log_that_covers_what_it_handed_out(self, world: World) -> None:
        partition = world.partitions[0]
        reader = await self.sought(world)
        await world.append(partition, [b"a", b"b"])
        last = offsets(await reader.take(partition, 2))[-1]
        log = await world.source.log_range(partition)
        assert log.start == world.nth(partition, 0)
        assert last < log.end

    async def test_knows_the_end_once_it_has_read_to_it(self, world: World) -> None:
        partition = world.partitions[0]
        reader = await self.sought(world)
        await world.append(partition, [b"a", b"b"])
        last = offsets(await reader.take(partition, 2))[-1]
        end = world.source.end_offset(partition)
        assert end is not None
        assert last < end

    async def test_starts_a_group_without_position_at_the_first_record(self, world: World) -> None:
        await world.listener.wait_for(world.partitions)
        await world.append(world.partitions[0], [b"a"])
        start = await world.source.resolve_start(world.partitions[0])
        assert start.offset == world.nth(world.partitions[0], 0)

    async def test_hands_out_nothing_of_a_topic_that_was_created_again(self, world: World) -> None:
        partition = world.partitions[0]
        await world.listener.wait_for(world.partitions)
        former = await world.source.stream_id(partition)
        await world.append(partition, [b"former"] * 3)
        world.source.seek(partition, world.nth(partition, 0))
        reader = Reader(world.source)
        assert values(await reader.take(partition, 3)) == [b"former"] * 3
        await world.create_again()
        await world.append(partition, [b"another"] * 5)
        async with asyncio.timeout(LIMIT):
            while not {"out of range", "revoked"} & {what for what, _ in world.listener.heard}:
                assert await reader.fetch()
        assert not reader.got.get(partition)
        assert await world.source.stream_id(partition) != former

    async def test_finish_ends_the_stream_for_good(self, world: World) -> None:
        reader = await self.sought(world)
        world.source.finish()
        async with asyncio.timeout(LIMIT):
            while await reader.fetch():
                pass
        await world.append(world.partitions[0], [b"late"])
        assert await world.source.fetch() is None

    async def test_finish_wakes_a_waiting_fetch(self, world: World) -> None:
        await self.sought(world)

        async def to_the_end() -> None:
            while await world.source.fetch() is not None:
                pass

        waiting = asyncio.create_task(to_the_end())
        await asyncio.sleep(0)
        world.source.finish()
        async with asyncio.timeout(LIMIT):
            await waiting

    async def test_finish_before_any_seek_ends_the_stream(self, world: World) -> None:
        world.source.finish()
        reader = Reader(world.source)
        async with asyncio.timeout(LIMIT):
            while await reader.fetch():
                pass

    async def test_commits_after_finish(self, world: World) -> None:
        partition = world.partitions[0]
        reader = await self.sought(world)
        await world.append(partition, [b"a"])
        await reader.take(partition, 1)
        world.source.finish()
        assert await world.source.commit(partition, Position(1, "m"))
        assert await world.source.committed(partition) == Position(1, "m")

    @pytest.mark.parametrize("calls", [1, 2])
    async def test_stops_as_often_as_it_is_told_to(self, world: World, calls: int) -> None:
        await world.listener.wait_for(world.partitions)
        for _ in range(calls):
            await world.source.stop()
