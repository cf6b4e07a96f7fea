"""The Kafka source keeps the contract on a real broker, and so does the read-only one."""

import uuid
from collections.abc import AsyncIterator, Sequence
from functools import partial

import pytest
from aiokafka import AIOKafkaProducer

from ingestd.config.model import KafkaConfig
from ingestd.core.records import TopicPartition
from ingestd.sources.kafka import KafkaSource, ReadOnlySource
from tests.conftest import MakeTopic
from tests.contract.source_contract import RecordingListener, SourceContract, World
from tests.services.kafka import KafkaAddress, create_topic, delete_topic, topic_admin


class TestKafkaSource(SourceContract):
    kind: type[KafkaSource] = KafkaSource

    @pytest.fixture
    async def world(self, kafka: KafkaAddress, make_topic: MakeTopic) -> AsyncIterator[World]:
        topic = await make_topic(2)
        config = KafkaConfig(
            bootstrap_servers=(kafka.bootstrap,), topics=(topic,), group_id=f"group_{uuid.uuid4().hex}"
        )
        source, listener = self.kind(config), RecordingListener()

        async def append(partition: TopicPartition, values: Sequence[bytes]) -> None:
            for value in values:
                await producer.send_and_wait(topic, value, partition=partition.partition)

        async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, acks="all") as producer:
            await source.start(listener)
            partitions = TopicPartition(topic, 0), TopicPartition(topic, 1)
            yield World(
                source,
                listener,
                partitions,
                append,
                partial(create_again, kafka.bootstrap, topic),
                partial(self.kind, config),
            )
            await source.stop()


async def create_again(bootstrap: str, topic: str) -> None:
    async with topic_admin(bootstrap) as admin:
        await delete_topic(admin, topic)
        await create_topic(admin, topic, 2)


class TestReadOnlySource(TestKafkaSource):
    kind = ReadOnlySource
