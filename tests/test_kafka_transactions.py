"""Transactions and their notes, on a real broker."""

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka import errors as kafka_errors

from ingestd.config.model import KafkaConfig
from ingestd.core.errors import SourceError
from ingestd.core.records import PlainRecord
from ingestd.sources.kafka.transactions import Transactions, _refusal, find_topic, open_transactions
from tests.conftest import MakeTopic
from tests.services.kafka import KafkaAddress, KafkaBroker

Broker = KafkaAddress | KafkaBroker


def record(offset: int, value: bytes = b"v") -> tuple[int, PlainRecord]:
    return 0, PlainRecord(offset, int(time.time() * 1000), value, b"k", (("a", b"1"),))


@pytest.fixture
async def topic(make_topic: MakeTopic) -> str:
    return await make_topic(1, {"max.message.bytes": "100000"})


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
def config(kafka: Broker) -> KafkaConfig:
    return KafkaConfig(bootstrap_servers=(kafka.bootstrap,))


async def committed(kafka: Broker, topic: str) -> list[Any]:
    """The values that a reader of what is committed sees."""
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=kafka.bootstrap, isolation_level="read_committed", auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        place = TopicPartition(topic, 0)
        [end] = (await consumer.end_offsets([place])).values()
        values = []
        while await consumer.position(place) < end:
            for records in (await consumer.getmany(timeout_ms=100)).values():
                values += [found.value for found in records]
        return values
    finally:
        await consumer.stop()


async def test_a_note_is_committed_with_its_records(
    kafka: Broker, config: KafkaConfig, topic: str, stack: AsyncExitStack
) -> None:
    transactions: Transactions = await stack.enter_async_context(open_transactions(config, topic, topic))
    assert await transactions.note() is None
    for number in range(3):
        await transactions.produce([record(1, b"%d" % number), record(2, b"x")], f"note {number}" + "x" * 3900)
        # At once, when the broker has promised the commit and not carried it out everywhere.
        assert await transactions.note() == f"note {number}" + "x" * 3900
    assert await committed(kafka, topic) == [b"0", b"x", b"1", b"x", b"2", b"x"]


async def test_whoever_begins_ends_all_others_of_the_name(
    kafka: Broker, config: KafkaConfig, topic: str, stack: AsyncExitStack
) -> None:
    first = await stack.enter_async_context(open_transactions(config, topic, topic))
    await first.produce([record(1, b"first")], "first")
    second = await stack.enter_async_context(open_transactions(config, topic, topic))
    assert await second.note() == "first"
    with pytest.raises(SourceError, match=r"another requeue to topic .* has begun"):
        await first.produce([record(2, b"zombie")], "zombie")
    await second.produce([record(3, b"second")], "second")
    assert await second.note() == "second"
    assert await committed(kafka, topic) == [b"first", b"second"]


async def test_what_was_left_open_is_aborted(
    kafka: Broker, config: KafkaConfig, topic: str, stack: AsyncExitStack
) -> None:
    dead = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, transactional_id=topic)
    await dead.start()
    stack.push_async_callback(dead.stop)
    await dead.begin_transaction()
    await dead.send_and_wait(topic, b"dead", partition=0)
    await dead.send_offsets_to_transaction({TopicPartition(topic, 0): (0, "dead")}, topic)

    transactions = await stack.enter_async_context(open_transactions(config, topic, topic))
    assert await transactions.note() is None
    assert not await committed(kafka, topic)


async def test_a_record_that_is_too_large_is_named_and_nothing_is_committed(
    kafka: Broker, config: KafkaConfig, topic: str, stack: AsyncExitStack
) -> None:
    transactions = await stack.enter_async_context(open_transactions(config, topic, topic))
    large = bytes(time.time_ns() * at % 251 for at in range(200_000))
    with pytest.raises(SourceError, match=r"the record that was at offset 4711 as too large .*max\.message\.bytes"):
        await transactions.produce([record(1), record(4711, large), record(5000)], "note")
    assert await transactions.note() is None
    assert not await committed(kafka, topic)


async def test_finds_the_topic_and_its_cluster(config: KafkaConfig, topic: str) -> None:
    cluster = await find_topic(config, topic)
    assert cluster.id
    assert cluster.partitions == {topic: 1}
    with pytest.raises(SourceError, match="topic nowhere does not exist"):
        await find_topic(config, "nowhere")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (kafka_errors.ProducerFenced(), "another requeue to topic t has begun"),
        (kafka_errors.TransactionalIdAuthorizationFailed(), "transactional id n .*WRITE and DESCRIBE"),
        (kafka_errors.GroupAuthorizationFailedError(), "group n .*grant READ"),
        (kafka_errors.TopicAuthorizationFailedError(), "topic t .*grant WRITE and READ"),
        (kafka_errors.OffsetMetadataTooLargeError(), "offset.metadata.max.bytes"),
        (kafka_errors.InvalidTransactionTimeout(), "transaction.max.timeout.ms to 60000"),
        (NotImplementedError(), "Kafka 2.5 or newer"),
    ],
)
def test_says_what_a_refusal_means(error: BaseException, words: str) -> None:
    wrapped = kafka_errors.KafkaError("Unexpected error during batch delivery")
    wrapped.__cause__ = error
    for each in (error, wrapped):
        found = _refusal(each, "t", "n")
        assert found is not None
        with pytest.raises(SourceError, match=words):
            raise found


def test_an_error_that_may_pass_is_no_refusal() -> None:
    assert _refusal(kafka_errors.NotCoordinatorForGroupError(), "t", "n") is None
