"""The Kafka source keeps its promises about leader epochs on a real broker, and so does the read-only one.

Each start of a broker begins a leader epoch of all of its partitions, so that these tests have one of their own.
"""

import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from ingestd.config.model import KafkaConfig
from ingestd.config.types import Seconds
from ingestd.core.records import TopicPartition
from ingestd.sources.kafka import KafkaSource, ReadOnlySource
from tests.chaos.tcp_proxy import TcpProxy
from tests.contract.leader_epoch_contract import EpochWorld, LeaderEpochContract
from tests.contract.source_contract import RecordingListener
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


class TestKafkaSource(LeaderEpochContract):
    kind: type[KafkaSource] = KafkaSource

    @pytest.fixture
    async def world(self, broker: KafkaBroker, directory: Path, proxy_port: int) -> AsyncIterator[EpochWorld]:
        topic = f"test_{uuid.uuid4().hex}"
        async with topic_admin(broker.bootstrap) as admin:
            await create_topic(admin, topic, 2)
        config = KafkaConfig(
            bootstrap_servers=(f"{HOST}:{proxy_port}",), topics=(topic,), group_id=topic, session_timeout=Seconds(30)
        )
        source, listener = self.kind(config), RecordingListener()

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
                partial(self.kind, config),
                elect,
            )
            await source.stop()


class TestReadOnlySource(TestKafkaSource):
    kind = ReadOnlySource
