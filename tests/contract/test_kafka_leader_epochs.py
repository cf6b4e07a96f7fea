"""The Kafka source keeps its promises about leader epochs on a real broker, and so does the read-only one.

Each start of a broker begins a leader epoch of all of its partitions, so that these tests have one of their own.
"""

import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka import TopicPartition as KafkaPartition
from aiokafka.admin import RecordsToDelete

from ingestd.config.model import KafkaConfig
from ingestd.config.types import Seconds
from ingestd.core.records import EpochEnd, TopicPartition
from ingestd.sources.kafka import KafkaSource, ReadOnlySource
from tests.chaos.tcp_proxy import TcpProxy
from tests.contract.leader_epoch_contract import EpochWorld, LeaderEpochContract, epoch_at, read
from tests.contract.source_contract import Reader, RecordingListener, offsets, values
from tests.contract.test_kafka_source import create_again
from tests.services.kafka import KafkaBroker, create_topic, topic_admin
from tests.services.kafka_log import truncate_log
from tests.services.ports import HOST, free_port

pytestmark = pytest.mark.services


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kafka-of-epochs")


@pytest.fixture(scope="module")
def proxy_port() -> int:
    """Where sources find the broker."""
    return free_port()


@pytest.fixture(scope="module")
def broker(directory: Path, proxy_port: int) -> Iterator[KafkaBroker]:
    with KafkaBroker(directory, proxy_port=proxy_port) as broker:
        yield broker


@asynccontextmanager
async def making(
    kind: type[KafkaSource], broker: KafkaBroker, directory: Path, proxy_port: int, start: str = "earliest"
) -> AsyncIterator[EpochWorld]:
    topic = f"test_{uuid.uuid4().hex}"
    async with topic_admin(broker.bootstrap) as admin:
        await create_topic(admin, topic, 2)
    config = KafkaConfig(
        bootstrap_servers=(f"{HOST}:{proxy_port}",),
        topics=(topic,),
        group_id=topic,
        session_timeout=Seconds(30),
        start=start,
    )
    source, listener = kind(config), RecordingListener()

    async def append(partition: TopicPartition, values: Sequence[bytes]) -> None:
        async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap, acks="all") as producer:
            for value in values:
                await producer.send_and_wait(topic, value, partition=partition.partition)

    async def elect(partition: TopicPartition, end: int | None, values: Sequence[bytes]) -> None:
        proxy.refuse()
        broker.stop()
        if end is not None:
            truncate_log(directory / "data" / f"{topic}-{partition.partition}", end)
        broker.start()
        await append(partition, values)
        await proxy.heal()

    async with TcpProxy(proxy_port, broker.proxied_port) as proxy:
        await source.start(listener)
        yield EpochWorld(
            source,
            listener,
            (TopicPartition(topic, 0), TopicPartition(topic, 1)),
            append,
            partial(create_again, broker.bootstrap, topic),
            partial(kind, config),
            elect,
        )
        await source.stop()


class TestKafkaSource(LeaderEpochContract):
    @pytest.fixture
    async def world(self, broker: KafkaBroker, directory: Path, proxy_port: int) -> AsyncIterator[EpochWorld]:
        async with making(KafkaSource, broker, directory, proxy_port) as world:
            yield world


class TestReadOnlySource:
    """Without the promises for which another member of a group would do nothing else."""

    @pytest.fixture
    async def world(self, broker: KafkaBroker, directory: Path, proxy_port: int) -> AsyncIterator[EpochWorld]:
        async with making(ReadOnlySource, broker, directory, proxy_port) as world:
            yield world

    test_tells_where_an_epoch_ends = LeaderEpochContract.test_tells_where_an_epoch_ends
    test_notices_a_truncation = (
        LeaderEpochContract.test_notices_a_log_that_was_truncated_and_written_again_past_the_position
    )


# -- what looks like another history to a broker, and is none


async def test_goes_on_behind_a_transaction_that_was_ended_in_a_later_epoch(
    broker: KafkaBroker, directory: Path, proxy_port: int
) -> None:
    """Behind the marker, the epoch of the record before it has ended."""
    async with making(KafkaSource, broker, directory, proxy_port) as world:
        partition = world.partitions[0]
        async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap, transactional_id=partition.topic) as producer:
            await producer.begin_transaction()
            await producer.send_and_wait(partition.topic, b"a", partition=0)
            await world.elect(partition, None, [])
            await producer.commit_transaction()
        reader = await read(world, 1)
        for _ in range(3):  # fetches from behind the marker
            assert await reader.fetch()
        await world.append(partition, [b"b"])
        assert offsets(await reader.take(partition, 1)) == [2]
        # A commit has the epoch of the record, and its offset is before the marker.
        world.source.seek(partition, 1, epoch_at(reader, partition, 0))
        assert offsets(await reader.take(partition, 1)) == [2]
        assert world.listener.heard == [("assigned", frozenset(world.partitions))]


async def test_starts_at_the_end_of_an_epoch_that_has_records(
    broker: KafkaBroker, directory: Path, proxy_port: int
) -> None:
    """A broker forgets an epoch without records when the next one begins."""
    async with making(KafkaSource, broker, directory, proxy_port, start="latest") as world:
        partition = world.partitions[0]
        await world.listener.wait_for(world.partitions)
        await world.append(partition, [b"a"])
        first = await world.source.resolve_start(partition)
        await world.elect(partition, None, [])
        start = await world.source.resolve_start(partition)
        assert start == first
        assert first.leader_epoch is not None
        await world.elect(partition, None, [b"b"])
        assert await world.source.epoch_end(partition, first.leader_epoch) == EpochEnd(first.leader_epoch, 1)
        world.source.seek(partition, start.offset, start.leader_epoch)
        assert values(await Reader(world.source).take(partition, 1)) == [b"b"]


async def test_goes_on_where_retention_has_removed_the_epoch_of_the_position(
    broker: KafkaBroker, directory: Path, proxy_port: int
) -> None:
    async with making(KafkaSource, broker, directory, proxy_port) as world:
        partition = world.partitions[0]
        await world.append(partition, [b"a", b"b"])
        reader = await read(world, 2)
        await world.elect(partition, None, [b"c"])
        async with topic_admin(broker.bootstrap) as admin:
            await admin.delete_records({KafkaPartition(*partition): RecordsToDelete(2)})
        epoch = epoch_at(reader, partition, 1)
        assert await world.source.epoch_end(partition, epoch) == EpochEnd(epoch, 2)
        world.source.seek(partition, 2, epoch)
        reader.got.clear()
        assert values(await reader.take(partition, 1)) == [b"c"]
