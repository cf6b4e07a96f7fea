"""Transactions and their notes, on a real broker."""

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka import errors as kafka_errors

from ingestd.config.model import KafkaConfig
from ingestd.core.errors import RecordsRefused, SourceError
from ingestd.core.records import PlainRecord
from ingestd.sources.kafka._aiokafka import InvalidRecordError
from ingestd.sources.kafka.transactions import Transactions, _rank, _refusal, find_topic, open_transactions
from tests.conftest import MakeTopic
from tests.services.kafka import KafkaAddress, KafkaBroker

Broker = KafkaAddress | KafkaBroker


LARGE = bytes(time.time_ns() * at % 251 for at in range(200_000))


def record(offset: int, value: bytes = b"v", key: bytes | None = b"k", age_s: float = 0) -> tuple[int, PlainRecord]:
    return 0, PlainRecord(offset, int((time.time() - age_s) * 1000), value, key, (("a", b"1"),))


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


@pytest.mark.parametrize(
    ("settings", "refused", "reason"),
    [
        ({"max.message.bytes": "100000"}, record(2, LARGE), r"it is too large .*\(raise max\.message\.bytes"),
        (
            {"segment.bytes": "1048576", "max.message.bytes": "9000000"},
            record(2, LARGE * 20),
            r"larger than a segment .*\(raise segment\.bytes",
        ),
        (
            {"cleanup.policy": "compact"},
            record(2, key=None),
            r"a record without a key \(choose a topic .* not compacted, or",
        ),
    ],
    ids=["message", "segment", "keyless"],
)
async def test_goes_on_with_a_new_producer_after_a_refused_record(
    kafka: Broker,
    config: KafkaConfig,
    make_topic: MakeTopic,
    stack: AsyncExitStack,
    *,
    settings: dict[str, str],
    refused: tuple[int, PlainRecord],
    reason: str,
) -> None:
    topic = await make_topic(1, settings)
    transactions = await stack.enter_async_context(open_transactions(config, topic, topic))
    await transactions.produce([record(0, b"0")], "before")
    for _ in range(2):
        with pytest.raises(RecordsRefused, match=reason):
            # Batches before, with and after it.
            await transactions.produce([record(1, LARGE[:60_000]), refused, record(3, LARGE[:60_000])], "refused")
        await transactions.restart()
        assert await transactions.note() == "before"
    await transactions.produce([record(1, b"1"), record(3, b"3")], "after")
    assert await transactions.note() == "after"
    assert await committed(kafka, topic) == [b"0", b"1", b"3"]


async def test_being_fenced_counts_more_than_a_refused_record(
    config: KafkaConfig, topic: str, stack: AsyncExitStack
) -> None:
    first = await stack.enter_async_context(open_transactions(config, topic, topic))
    await stack.enter_async_context(open_transactions(config, topic, topic))
    with pytest.raises(SourceError, match=r"another requeue to topic .* has begun"):
        await first.produce([record(1, LARGE)], "refused")


async def test_a_refused_time_is_the_clock_s_and_no_record_s(
    config: KafkaConfig, make_topic: MakeTopic, stack: AsyncExitStack
) -> None:
    topic = await make_topic(1, {"message.timestamp.before.max.ms": "60000"})
    transactions = await stack.enter_async_context(open_transactions(config, topic, topic))
    with pytest.raises(SourceError, match=r"refuses the time of this machine's clock .*before\.max\.ms") as raised:
        await transactions.produce([record(1, age_s=3600)], "note")
    assert not isinstance(raised.value, RecordsRefused)


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
        (kafka_errors.InvalidTimestampError(), "clock of|clocks of .*message.timestamp.after.max.ms"),
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


@pytest.mark.parametrize(
    "error", [kafka_errors.NotCoordinatorForGroupError(), kafka_errors.UnknownError(), kafka_errors.for_code(90)()]
)
def test_an_error_that_may_pass_is_no_refusal(error: BaseException) -> None:
    assert _refusal(error, "t", "n") is None


def test_what_to_raise_of_several_errors() -> None:
    refused, next_one, other = (
        InvalidRecordError(),
        kafka_errors.OutOfOrderSequenceNumber(),
        kafka_errors.UnknownError(),
    )
    assert min([next_one, refused, next_one], key=_rank) is refused
    assert min([next_one, refused, other], key=_rank) is other
