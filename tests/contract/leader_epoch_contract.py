"""The promises of a source whose log has leader epochs, as tests."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from ingestd.core.records import EpochEnd, Position, TopicPartition
from tests.contract.source_contract import LIMIT, Reader, World, offsets, values


@dataclass
class EpochWorld(World):
    """A `World` whose partitions can get another leader.

    `elect` begins a leader epoch. With an end, the log ends there and goes on with the values, before a source can see
    its end.
    """

    elect: Callable[[TopicPartition, int | None, Sequence[bytes]], Awaitable[None]]


def epoch_at(reader: Reader, partition: TopicPartition, offset: int) -> int:
    """The leader epoch of a record that was handed out."""
    epoch = reader.epochs[partition][offset]
    assert epoch is not None
    return epoch


async def until_out_of_range(world: EpochWorld, reader: Reader, partition: TopicPartition) -> None:
    async with asyncio.timeout(LIMIT):
        while ("out of range", frozenset({partition})) not in world.listener.heard:
            assert await reader.fetch()


async def read(world: EpochWorld, count: int) -> Reader:
    """Read records of the first partition, of which all are in the log, from its beginning on."""
    partition = world.partitions[0]
    await world.listener.wait_for(world.partitions)
    world.source.seek(partition, 0)
    reader = Reader(world.source)
    await reader.take(partition, count)
    return reader


class LeaderEpochContract:
    """The promises of `ingestd.sources.base.Source` that concern leader epochs.

    Subclass it in a test module, named ``Test...``, with an async fixture ``world`` that yields an `EpochWorld`.
    """

    async def test_hands_out_records_by_leader_epoch(self, world: EpochWorld) -> None:
        partition = world.partitions[0]
        await world.append(partition, [b"a", b"b"])
        await world.elect(partition, None, [b"c", b"d"])
        reader = await read(world, 4)
        found = reader.epochs[partition]
        assert list(found) == [0, 1, 2, 3]
        former, later = epoch_at(reader, partition, 0), epoch_at(reader, partition, 2)
        assert found == {0: former, 1: former, 2: later, 3: later}
        assert former < later

    async def test_tells_where_an_epoch_ends(self, world: EpochWorld) -> None:
        partition = world.partitions[0]
        await world.append(partition, [b"a", b"b"])
        await world.elect(partition, None, [b"c"])
        reader = await read(world, 3)
        former, later = epoch_at(reader, partition, 0), epoch_at(reader, partition, 2)
        assert await world.source.epoch_end(partition, former) == EpochEnd(former, 2)
        assert await world.source.epoch_end(partition, later) == EpochEnd(later, 3)
        assert await world.source.epoch_end(partition, later + 100) == EpochEnd(-1, -1)

    async def test_goes_on_over_an_election_that_loses_nothing(self, world: EpochWorld) -> None:
        partition = world.partitions[0]
        await world.append(partition, [b"a", b"b"])
        reader = await read(world, 2)
        await world.elect(partition, None, [b"c"])
        assert values(await reader.take(partition, 1)) == [b"c"]
        assert world.listener.heard == [("assigned", frozenset(world.partitions))]

    async def test_notices_a_log_that_was_truncated_and_written_again_past_the_position(
        self, world: EpochWorld
    ) -> None:
        partition = world.partitions[0]
        await world.append(partition, [b"a", b"b", b"c", b"d"])
        await world.source.stream_id(partition)
        reader = await read(world, 4)
        former = epoch_at(reader, partition, 3)
        await world.elect(partition, 2, [b"another"] * 4)
        await until_out_of_range(world, reader, partition)
        assert not reader.got[partition]
        assert await world.source.epoch_end(partition, former) == EpochEnd(former, 2)
        world.source.seek(partition, 2, former)
        assert offsets(await reader.take(partition, 4)) == [2, 3, 4, 5]

    async def test_notices_it_after_a_seek_with_the_epoch_of_the_lost_records(self, world: EpochWorld) -> None:
        partition = world.partitions[0]
        await world.append(partition, [b"a", b"b", b"c", b"d"])
        reader = await read(world, 4)
        former = epoch_at(reader, partition, 3)
        world.source.pause(partition)
        await world.elect(partition, 2, [b"another"] * 4)
        world.source.seek(partition, 4, former)
        await until_out_of_range(world, reader, partition)
        assert not reader.got[partition]

    async def test_hands_out_nothing_after_an_epoch_that_the_log_does_not_have(self, world: EpochWorld) -> None:
        partition = world.partitions[0]
        await world.append(partition, [b"a", b"b"])
        reader = await read(world, 2)
        later = epoch_at(reader, partition, 1) + 100
        world.source.seek(partition, 1, later)
        await until_out_of_range(world, reader, partition)
        assert not reader.got[partition]
        world.source.seek(partition, 1)
        assert offsets(await reader.take(partition, 1)) == [1]

    async def test_reads_a_commit_back_with_its_epoch(self, world: EpochWorld) -> None:
        partition = world.partitions[0]
        await world.append(partition, [b"a"])
        await read(world, 1)
        stream = await world.source.stream_id(partition)
        for position in (Position(1, "mark", stream, 5), Position(1, "", stream, 0), Position(1, "", "", 3)):
            assert await world.source.commit(partition, position)
            assert await world.source.committed(partition) == position

    async def test_the_start_position_follows_what_the_log_holds(self, world: EpochWorld) -> None:
        partition = world.partitions[0]
        await world.listener.wait_for(world.partitions)
        await world.elect(partition, None, [])
        start = await world.source.resolve_start(partition)
        await world.elect(partition, None, [b"a"])
        world.source.seek(partition, start.offset, start.leader_epoch)
        assert values(await Reader(world.source).take(partition, 1)) == [b"a"]
