"""The Kafka source keeps the contract on a real broker."""

import uuid
from collections.abc import AsyncIterator, Sequence

import pytest
from aiokafka import AIOKafkaProducer

from ingestd.config import Kafka
from ingestd.records import TopicPartition
from ingestd.sources.kafka import KafkaSource
from tests.conftest import MakeTopic
from tests.contract.source_contract import RecordingListener, SourceContract, World
from tests.services.kafka import KafkaAddress, KafkaBroker


class TestKafkaSource(SourceContract):
    @pytest.fixture
    async def world(self, kafka: KafkaAddress | KafkaBroker, make_topic: MakeTopic) -> AsyncIterator[World]:
        topic = await make_topic(2)
        config = Kafka(bootstrap_servers=(kafka.bootstrap,), topics=(topic,), group_id=f"group_{uuid.uuid4().hex}")
        source, listener = KafkaSource(config), RecordingListener()

        async def append(partition: TopicPartition, values: Sequence[bytes]) -> None:
            for value in values:
                await producer.send_and_wait(topic, value, partition=partition.partition)

        async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, acks="all") as producer:
            await source.start(listener)
            yield World(source, listener, (TopicPartition(topic, 0), TopicPartition(topic, 1)), append)
            await source.stop()
