"""The Kinesis source keeps the contract of sources, on a stream in memory."""

from collections.abc import AsyncIterator, Sequence

import pytest

from ingestd.config.model import KinesisConfig
from ingestd.config.types import Seconds
from ingestd.core.records import TopicPartition
from ingestd.sources.kinesis.source import KinesisSource
from tests.contract.kinesis_contract import KinesisContract, Numbers
from tests.contract.source_contract import RecordingListener, World
from tests.fakes.kinesis import FakeKinesis, FakeKinesisClient, MemoryState

P0, P1 = TopicPartition("events", 0), TopicPartition("events", 1)
CONFIG = KinesisConfig(stream="events", member_id="one", poll_interval=Seconds(0.2), heartbeat_interval=Seconds(0.1))


class TestKinesisSource(KinesisContract):
    @pytest.fixture
    async def world(self) -> AsyncIterator[World]:
        service, state, numbers, listener = FakeKinesis(2, limits=False), MemoryState(), Numbers(), RecordingListener()

        def make() -> KinesisSource:
            return KinesisSource(CONFIG, state, "default", connect=lambda: FakeKinesisClient(service))

        async def append(partition: TopicPartition, values: Sequence[bytes]) -> None:
            numbers.of[partition] += [service.put(it, shard=partition.partition).offset for it in values]

        async def create_again() -> None:
            service.create(2)
            numbers.of.clear()

        source = make()
        await source.start(listener)
        yield World(source, listener, (P0, P1), append, create_again, make, nth=numbers.nth)
        await source.stop()
