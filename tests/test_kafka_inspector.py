"""The inspector of topics and a group, on the real broker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka import TopicPartition as KafkaPartition
from aiokafka.admin import RecordsToDelete
from aiokafka.structs import OffsetAndMetadata

from ingestd.config.model import KafkaConfig
from ingestd.core.errors import SourceError
from ingestd.core.records import EpochEnd, LogRange, Position, Record, TopicPartition
from ingestd.sources.kafka import Inspector, inspector, open_inspector
from tests.conftest import MakeTopic
from tests.e2e.group import reset
from tests.services.kafka import KafkaAddress, KafkaBroker, topic_admin
from tests.services.ports import HOST, free_port

Broker = KafkaAddress | KafkaBroker

DEADLINE = 30.0
TIME = 1_750_000_000_000


def config(broker: Broker, topic: str) -> KafkaConfig:
    return KafkaConfig(bootstrap_servers=(broker.bootstrap,), topics=(topic,), group_id=topic)


@asynccontextmanager
async def producing(broker: Broker, **options: Any) -> AsyncIterator[Any]:
    producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap, **options)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def fill(broker: Broker, topic: str, count: int, partition: int = 0) -> None:
    """Records whose values are their offsets, a second apart."""
    async with producing(broker) as producer:
        for number in range(count):
            await producer.send_and_wait(topic, b"%d" % number, partition=partition, timestamp_ms=TIME + 1000 * number)


@asynccontextmanager
async def member(broker: Broker, topic: str) -> AsyncIterator[Any]:
    """A member of the group that is named after the topic, once it has partitions."""
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=broker.bootstrap, group_id=topic, client_id="someone", enable_auto_commit=False
    )
    await consumer.start()
    try:
        async with asyncio.timeout(DEADLINE):
            while not consumer.assignment():  # noqa: ASYNC110 - it tells only who asks
                await asyncio.sleep(0.02)
        yield consumer
    finally:
        await consumer.stop()


async def take(reader: Inspector, count: int, most: int = 100) -> dict[TopicPartition, list[Record]]:
    """So many records, however many polls they take."""
    found: dict[TopicPartition, list[Record]] = {}
    async with asyncio.timeout(DEADLINE):
        while sum(map(len, found.values())) < count:
            polled = await reader.poll(0.2, most)
            assert sum(map(len, polled.values())) <= most
            for partition, records in polled.items():
                found.setdefault(partition, []).extend(records)
    return found


async def test_knows_the_cluster_and_its_partitions(kafka: Broker, make_topic: MakeTopic) -> None:
    topic = await make_topic(3)
    async with open_inspector(config(kafka, topic)) as reader, topic_admin(kafka.bootstrap) as admin:
        assert reader.partitions == [TopicPartition(topic, number) for number in range(3)]
        assert reader.cluster_id == (await admin.describe_cluster())["cluster_id"]


async def test_tells_what_the_group_has_committed_with_its_mark(kafka: Broker, make_topic: MakeTopic) -> None:
    topic = await make_topic(3)
    await fill(kafka, topic, 5)
    async with member(kafka, topic) as consumer:
        await consumer.commit({KafkaPartition(topic, 0): OffsetAndMetadata(4, "a mark")})
    await reset(kafka.bootstrap, topic, topic, {1: 0})
    async with open_inspector(config(kafka, topic)) as reader:
        assert await reader.committed(reader.partitions) == {
            TopicPartition(topic, 0): Position(4, "a mark"),
            TopicPartition(topic, 1): Position(0, ""),
            TopicPartition(topic, 2): None,
        }


async def test_tells_what_the_logs_hold(kafka: Broker, make_topic: MakeTopic) -> None:
    topic = await make_topic(2)
    await fill(kafka, topic, 5)
    async with topic_admin(kafka.bootstrap) as admin, open_inspector(config(kafka, topic)) as reader:
        first, second = reader.partitions
        assert await reader.log_ranges([first, second]) == {first: LogRange(0, 5), second: LogRange(0, 0)}
        await admin.delete_records({KafkaPartition(topic, 0): RecordsToDelete(before_offset=3)})
        assert await reader.log_ranges([first]) == {first: LogRange(3, 5)}


async def test_the_log_ends_behind_a_transaction_that_is_open(kafka: Broker, make_topic: MakeTopic) -> None:
    topic = await make_topic(1)
    async with producing(kafka, transactional_id=topic) as producer:
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"0", partition=0)
        async with open_inspector(config(kafka, topic)) as reader:
            assert list((await reader.log_ranges(reader.partitions)).values()) == [LogRange(0, 1)]
        await producer.abort_transaction()


async def test_finds_a_time_in_the_log(kafka: Broker, make_topic: MakeTopic) -> None:
    topic = await make_topic(1)
    await fill(kafka, topic, 5)
    async with open_inspector(config(kafka, topic)) as reader:
        (place,) = reader.partitions
        assert await reader.starts([place], TIME + 1500) == {place: 2}
        assert await reader.starts([place], TIME + 10**6) == {place: 5}


async def test_describes_the_group(kafka: Broker, make_topic: MakeTopic) -> None:
    topic = await make_topic(1)
    async with open_inspector(config(kafka, topic)) as reader:
        assert await reader.group() == ("Dead", ())
        async with member(kafka, topic):
            state, members = await reader.group()
            assert state == "Stable"
            assert [each.partition(" at ")[0] for each in members] == ["someone"]


async def test_reads_from_where_it_is_told_and_no_more_at_once(kafka: Broker, make_topic: MakeTopic) -> None:
    topic = await make_topic(2)
    await fill(kafka, topic, 20)
    await fill(kafka, topic, 3, partition=1)
    async with open_inspector(config(kafka, topic)) as reader:
        first, second = reader.partitions
        reader.assign({first: 12, second: 1})
        found = await take(reader, 10, most=3)
        assert [record.offset for record in found[first]] == list(range(12, 20))
        assert [(record.offset, record.value, record.timestamp) for record in found[second]] == [
            (1, b"1", TIME + 1000),
            (2, b"2", TIME + 2000),
        ]
        assert await reader.poll(0.1, 100) == {}
        reader.assign({first: 19})
        assert [record.offset for record in (await take(reader, 1))[first]] == [19]


async def test_tells_where_many_epochs_end(kafka: Broker, make_topic: MakeTopic) -> None:
    topic = await make_topic(2)
    await fill(kafka, topic, 3)
    async with open_inspector(config(kafka, topic)) as reader:
        first, second = reader.partitions
        wanted = [(first, 0), (first, 98), (second, 0), (first, 99)]
        none = EpochEnd(-1, -1)
        assert await reader.epoch_ends(wanted) == dict(
            zip(wanted, [EpochEnd(0, 3), none, EpochEnd(0, 0), none], strict=True)
        )
        assert await reader.epoch_ends([]) == {}


async def test_does_not_hand_out_what_was_never_committed(kafka: Broker, make_topic: MakeTopic) -> None:
    topic = await make_topic(1)
    async with producing(kafka, transactional_id=topic) as producer:
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"aborted", partition=0)
        await producer.abort_transaction()
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"committed", partition=0)
        await producer.commit_transaction()
    async with open_inspector(config(kafka, topic)) as reader:
        (place,) = reader.partitions
        reader.assign({place: 0})
        assert [record.value for record in (await take(reader, 1))[place]] == [b"committed"]


async def test_joins_nothing_and_commits_nothing(kafka: Broker, make_topic: MakeTopic) -> None:
    topic = await make_topic(1)
    await fill(kafka, topic, 5)
    async with open_inspector(config(kafka, topic)) as reader:
        reader.assign({reader.partitions[0]: 0})
        await take(reader, 5)
        assert (await reader.group()).members == ()
    async with open_inspector(config(kafka, topic)) as reader:
        assert await reader.committed(reader.partitions) == {reader.partitions[0]: None}
        assert await reader.group() == ("Dead", ())


async def test_an_offset_out_of_the_log_is_an_error(kafka: Broker, make_topic: MakeTopic) -> None:
    topic = await make_topic(1)
    async with open_inspector(config(kafka, topic)) as reader:
        reader.assign({reader.partitions[0]: 7})
        with pytest.raises(SourceError, match="reading records failed"):
            await take(reader, 1)


async def test_a_topic_that_is_not_there_is_an_error(kafka: Broker) -> None:
    with pytest.raises(SourceError, match="topic no-such-topic does not exist"):
        async with open_inspector(config(kafka, "no-such-topic")):
            pass


async def test_a_broker_that_is_not_there_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspector, "ANSWER_TIMEOUT_S", 0.5)
    nobody = KafkaConfig(bootstrap_servers=(f"{HOST}:{free_port()}",))
    with pytest.raises(SourceError, match=r"connecting to Kafka: .*cannot be used.*after 0\.5 s"):
        async with open_inspector(nobody):
            pass


async def test_an_answer_that_does_not_come_is_given_up(
    kafka: Broker, make_topic: MakeTopic, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(*_: object) -> None:
        await asyncio.Event().wait()

    async with open_inspector(config(kafka, await make_topic(2))) as reader:
        monkeypatch.setattr(inspector, "ANSWER_TIMEOUT_S", 0.2)
        monkeypatch.setattr("ingestd.sources.kafka.requests.committed", silent)
        with pytest.raises(SourceError, match="reading committed offsets: no answer, after"):
            await reader.committed(reader.partitions)


async def test_an_error_of_who_uses_it_stays_what_it_is(kafka: Broker, make_topic: MakeTopic) -> None:
    """A disk that is full is no failure of Kafka's."""
    with pytest.raises(OSError, match="disk"):
        async with open_inspector(config(kafka, await make_topic(1))):
            raise OSError("the disk is full")
