"""The promises of sources as a Kinesis source keeps them: it has no commits, and no end of a log."""

from collections import defaultdict
from collections.abc import Sequence

from ingestd.core.records import Position, TopicPartition
from ingestd.sources.kinesis.source import KinesisSource
from tests.contract.source_contract import SourceContract, World


class Numbers:
    """The sequence numbers that were given to the records of each shard."""

    def __init__(self) -> None:
        self.of: defaultdict[TopicPartition, list[int]] = defaultdict(list)

    def nth(self, partition: TopicPartition, number: int) -> int:
        numbers: Sequence[int] = self.of[partition]
        if number < len(numbers):
            return numbers[number]
        return numbers[-1] + 1 if numbers else 0


class KinesisContract(SourceContract):
    """Where a promise is about commits or the log's end, the one that takes its place."""

    async def test_reads_a_commit_back_with_its_mark(self, world: World) -> None:
        """The objects in the sink are the commits."""
        partition = world.partitions[0]
        await self.sought(world)
        await world.append(partition, [b"a"])
        assert await world.source.commit(partition, Position(world.nth(partition, 1), "mark"))
        assert await world.source.committed(partition) is None

    async def test_commits_backwards_when_told_to(self, world: World) -> None:
        await self.sought(world)
        assert await world.source.commit(world.partitions[0], Position(2, "m"))
        assert await world.source.commit(world.partitions[0], Position(1))

    async def test_commits_after_finish(self, world: World) -> None:
        await self.sought(world)
        world.source.finish()
        assert await world.source.commit(world.partitions[0], Position(1, "m"))

    async def test_knows_the_end_once_it_has_read_to_it(self, world: World) -> None:
        source, partition = world.source, world.partitions[0]
        assert isinstance(source, KinesisSource)
        reader = await self.sought(world)
        await world.append(partition, [b"a", b"b"])
        await reader.take(partition, 2)
        while source.behind_s(partition):
            assert await reader.fetch()
        assert source.behind_s(partition) == 0
        assert source.end_offset(partition) is None
