"""What Kafka says to a verification."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager

from ingestd.config.model import Config
from ingestd.core.errors import SourceError
from ingestd.core.records import EpochEnd, LogRange, Pin, PlainRecord, Position, Record, TopicPartition
from tests.archive import CLUSTER
from tests.fakes.leader_epochs import LeaderEpochs


class FakeInspector:
    """Says what it is told to: the last of `says` again and again.

    Compaction has removed all records of its log but those in `timestamps`, by their offsets, and the last one.
    """

    def __init__(
        self, *says: tuple[Mapping[TopicPartition, Position | None], Mapping[TopicPartition, LogRange]]
    ) -> None:
        self.says = list(says)
        self.cluster_id = CLUSTER
        self.asked = 0
        self.error: SourceError | None = None
        self.epochs: dict[TopicPartition, LeaderEpochs] = {}
        self.timestamps: dict[TopicPartition, dict[int, int]] = {}
        self.ids: dict[TopicPartition, str] = {}
        self.reads: list[dict[TopicPartition, int]] = []

    @property
    def partitions(self) -> list[TopicPartition]:
        return list(self.says[0][1])

    async def committed(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, Position | None]:
        return {partition: self.says[0][0].get(partition) for partition in partitions}

    async def log_ranges(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, LogRange]:
        return {partition: self.says[0][1][partition] for partition in partitions}

    async def pins(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, Pin]:
        return {}

    async def topic_ids(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, str]:
        return {partition: self.ids.get(partition, "") for partition in partitions}

    async def epoch_ends(
        self, pairs: Collection[tuple[TopicPartition, int]]
    ) -> dict[tuple[TopicPartition, int], EpochEnd | None]:
        logs = self.says[0][1]
        return {
            (partition, epoch): self.epochs[partition].end(epoch, logs[partition].end)
            if partition in self.epochs
            else None
            for partition, epoch in pairs
        }

    def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        self.reads.append(dict(positions))

    async def poll(self, wait_s: float, max_records: int) -> dict[TopicPartition, Sequence[Record]]:
        return {
            partition: [self._first_record(partition, offset)]
            for partition, offset in self.reads[-1].items()
        }  # fmt: skip

    def _first_record(self, partition: TopicPartition, offset: int) -> Record:
        kept = self.timestamps.get(partition, {})
        found = min((each for each in kept if each >= offset), default=self.says[0][1][partition].end)
        return PlainRecord(found, kept.get(found, 0), b"")

    @asynccontextmanager
    async def open(self, config: Config) -> AsyncIterator["FakeInspector"]:
        self.asked += 1
        if self.error is not None and self.asked > 1:
            raise self.error
        yield self
        if len(self.says) > 1:
            self.says.pop(0)
