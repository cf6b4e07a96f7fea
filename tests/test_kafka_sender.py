"""The collector's sender, on a real broker: what is acknowledged is in the topic, once and in order."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from ingestd.config.model import KafkaConfig
from ingestd.config.types import Seconds
from ingestd.core.errors import ConfigError, SourceError
from ingestd.core.records import UnsentRecord
from ingestd.sources.kafka._aiokafka import hash_key
from ingestd.sources.kafka.sender import KafkaSender
from ingestd.sources.kafka.sending import Sending
from tests.conftest import MakeTopic
from tests.services.kafka import KafkaAddress, KafkaBroker, create_topic, topic_admin

Broker = KafkaAddress | KafkaBroker


def record(value: bytes | str, key: bytes | None = b"client") -> UnsentRecord:
    value = value.encode() if isinstance(value, str) else value
    return UnsentRecord(int(time.time() * 1000), key, value, (("ingestd-source", b"web"),))


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


@asynccontextmanager
async def sender_to(bootstrap: str, topic: str, **options: Any) -> AsyncIterator[KafkaSender]:
    sender = KafkaSender(KafkaConfig(bootstrap_servers=(bootstrap,)), topic, **options)
    await sender.start()
    try:
        yield sender
    finally:
        await sender.stop(5.0)


async def read(bootstrap: str, topic: str) -> list[Any]:
    """All records, each partition's in order."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        places = [TopicPartition(topic, number) for number in await _partitions(consumer, topic)]
        consumer.assign(places)
        found: list[Any] = []
        for place, end in (await consumer.end_offsets(places)).items():
            consumer.assign([place])
            await consumer.seek_to_beginning(place)
            while await consumer.position(place) < end:
                for records in (await consumer.getmany(timeout_ms=100)).values():
                    found += records
        return found
    finally:
        await consumer.stop()


async def _partitions(consumer: Any, topic: str) -> Sequence[int]:
    consumer.subscribe([topic])
    async with asyncio.timeout(30):
        while not (found := consumer.partitions_for_topic(topic)):  # noqa: ASYNC110 - Kafka tells only who asks
            await asyncio.sleep(0.05)
    consumer.unsubscribe()
    return sorted(found)


async def values(bootstrap: str, topic: str) -> list[str]:
    return [found.value.decode() for found in await read(bootstrap, topic)]


async def until_error(sender: KafkaSender, part: str) -> None:
    async with asyncio.timeout(30):
        while part not in (sender.error or ""):  # noqa: ASYNC110 - nobody waits for an error
            await asyncio.sleep(0.02)


async def acknowledged(sending: Sending) -> None:
    async with asyncio.timeout(60):
        await asyncio.shield(sending.done)
    assert not sending.refused


# -- the log


async def test_records_of_a_key_arrive_in_order_in_the_partition_of_kafkas_default_partitioner(
    kafka: Broker, make_topic: MakeTopic
) -> None:
    topic = await make_topic(5)
    async with sender_to(kafka.bootstrap, topic) as sender:
        sendings = [
            sender.submit([record(f"{key} {number}", b"%d" % key) for key in range(20)]) for number in range(50)
        ]
        for sending in sendings:
            await acknowledged(sending)
        assert sender.error is None
        assert sender.unacknowledged_bytes == 0
    found = await read(kafka.bootstrap, topic)
    assert len(found) == 1000
    for key in range(20):
        mine = [it for it in found if it.key == b"%d" % key]
        assert [it.value.decode() for it in mine] == [f"{key} {number}" for number in range(50)]
        assert {it.partition for it in mine} == {(hash_key(b"%d" % key) & 0x7FFFFFFF) % 5}
    assert found[0].headers == (("ingestd-source", b"web"),)


@pytest.mark.parametrize(
    ("key", "hashed"),  # the vectors of Kafka's own UtilsTest
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_keys_are_hashed_as_by_kafkas_own_client(key: bytes, hashed: int) -> None:
    assert hash_key(key) & 0x7FFFFFFF == hashed & 0x7FFFFFFF


async def test_records_without_a_key_that_come_together_go_to_one_partition(
    kafka: Broker, make_topic: MakeTopic
) -> None:
    topic = await make_topic(5)
    async with sender_to(kafka.bootstrap, topic) as sender:
        await acknowledged(sender.submit([record(str(number), None) for number in range(100)]))
    found = await read(kafka.bootstrap, topic)
    assert [it.value.decode() for it in found] == [str(number) for number in range(100)]
    assert len({it.partition for it in found}) == 1


async def test_sequence_numbers_go_round(kafka: Broker, make_topic: MakeTopic) -> None:
    topic = await make_topic(1)
    async with sender_to(kafka.bootstrap, topic) as sender:
        while sender._session is None:  # noqa: ASYNC110 - it connects
            await asyncio.sleep(0.01)
        place = TopicPartition(topic, 0)
        numbers = sender._session._producer._txn_manager._sequence_numbers
        numbers[place] = (1 << 31) - 3
        for number in range(4):
            await acknowledged(sender.submit([record(f"{number} a"), record(f"{number} b")]))
        assert numbers[place] == 5
        assert sender.error is None
    assert len(await values(kafka.bootstrap, topic)) == 8


# -- refused records


async def test_a_record_that_is_too_large_is_refused_and_no_other(kafka: Broker, make_topic: MakeTopic) -> None:
    topic = await make_topic(1, {"max.message.bytes": "50000"})
    async with sender_to(kafka.bootstrap, topic) as sender:
        records = [record(str(number)) for number in range(40)]
        records[7] = record(noise(55_000))
        await acknowledged(sender.submit([record("before")]))
        session = sender._session
        sending = sender.submit(records)
        await asyncio.shield(sending.done)
        assert {*sending.refused} == {7}
        assert sending.refused[7].too_large
        assert "too large for topic" in sending.refused[7].reason
        await acknowledged(sender.submit([record("after")]))
        assert sender.error is None
        assert sender._session is session
    expected = ["before", *(str(number) for number in range(40) if number != 7), "after"]
    assert await values(kafka.bootstrap, topic) == expected


async def test_batches_are_as_small_as_the_topic_wants_them(kafka: Broker, make_topic: MakeTopic) -> None:
    topic = await make_topic(1, {"max.message.bytes": "3000"})
    async with sender_to(kafka.bootstrap, topic) as sender:
        sent = [noise(1000 + number) for number in range(100)]
        for _ in range(2):
            await acknowledged(sender.submit([record(value) for value in sent]))
        assert sender._session is not None
        assert sender._session._batch_bytes < 5000
    assert [it.value for it in await read(kafka.bootstrap, topic)] == sent * 2


async def test_records_without_a_key_are_refused_by_a_compacted_topic(kafka: Broker, make_topic: MakeTopic) -> None:
    topic = await make_topic(1, {"cleanup.policy": "compact"})
    async with sender_to(kafka.bootstrap, topic) as sender:
        sending = sender.submit([record("a"), record("b", None), record("c", b"other")])
        await asyncio.shield(sending.done)
        assert {*sending.refused} == {1}
        assert not sending.refused[1].too_large
    assert sorted(await values(kafka.bootstrap, topic)) == ["a", "c"]


async def test_records_of_a_time_that_the_topic_refuses_are_refused(kafka: Broker, make_topic: MakeTopic) -> None:
    topic = await make_topic(1, {"message.timestamp.before.max.ms": "3600000"})
    async with sender_to(kafka.bootstrap, topic) as sender:
        sending = sender.submit([record("a"), UnsentRecord(1, b"client", b"old"), record("b")])
        await asyncio.shield(sending.done)
        assert {*sending.refused} == {1}
        assert "refuses its time" in sending.refused[1].reason
    assert await values(kafka.bootstrap, topic) == ["a", "b"]


# -- bounds


async def test_more_than_its_bytes_are_not_taken(kafka: Broker, make_topic: MakeTopic) -> None:
    topic = await make_topic(1)
    async with sender_to(kafka.bootstrap, topic, max_bytes=100) as sender:
        first = sender.submit([record("a" * 80)])
        with pytest.raises(SourceError, match="wait for topic"):
            sender.submit([record("a" * 80)])
        await acknowledged(first)
        second = sender.submit([record("a" * 80)])
        second.withdraw()
        await acknowledged(sender.submit([record("a" * 80)]))


async def test_a_configuration_that_cannot_be_used_is_an_error_of_the_start() -> None:
    config = KafkaConfig(bootstrap_servers=("127.0.0.1:1",), security_protocol="SSL", ssl_ca_file="/does/not/exist")
    with pytest.raises(ConfigError):
        await KafkaSender(config, "topic").start()


async def test_a_broker_that_is_away_at_the_start_is_an_error_until_it_is_stopped() -> None:
    async with sender_to("127.0.0.1:1", "topic") as sender:
        assert sender.error == "not connected to Kafka for topic topic"
        sending = sender.submit([record("a")])
        await until_error(sender, "Kafka at 127.0.0.1:1 cannot be used")
    with pytest.raises(SourceError, match="was stopped"):
        await sending.done


async def test_a_topic_that_does_not_exist_is_an_error_until_it_does(kafka: Broker) -> None:
    name = f"later_{time.time_ns()}"
    async with sender_to(kafka.bootstrap, name) as sender:
        sending = sender.submit([record("a")])
        await until_error(sender, f"topic {name} does not exist")
        async with topic_admin(kafka.bootstrap) as admin:
            await create_topic(admin, name, 1)
            await acknowledged(sending)
            assert sender.error is None
            assert await values(kafka.bootstrap, name) == ["a"]
            await admin.delete_topics([name])


# -- a producer that cannot go on


async def test_a_producer_that_is_out_of_order_is_replaced(kafka: Broker, make_topic: MakeTopic) -> None:
    topic = await make_topic(3)
    async with sender_to(kafka.bootstrap, topic) as sender:
        await acknowledged(sender.submit([record(f"0 {key}", b"%d" % key) for key in range(9)]))
        assert sender._session is not None
        first = sender._session
        first._producer._txn_manager._sequence_numbers[TopicPartition(topic, 1)] += 10
        sendings: list[Sending] = []
        for number in range(1, 30):
            sendings.append(sender.submit([record(f"{number} {key}", b"%d" % key) for key in range(9)]))
            await asyncio.sleep(0.005)  # so that some come while there is no producer
        for sending in sendings:
            await acknowledged(sending)
        assert sender._session is not first
        assert sender.error is None
    found = await read(kafka.bootstrap, topic)
    assert len(found) == 270
    for key in range(9):
        mine = [it.value.decode() for it in found if it.key == b"%d" % key]
        assert mine == [f"{number} {key}" for number in range(30)]


# -- a broker that is lost


@pytest.mark.services
async def test_what_was_acknowledged_around_a_kill_of_the_broker_is_there_once(mortal_broker: KafkaBroker) -> None:
    topic = f"killed_{time.time_ns()}"
    async with topic_admin(mortal_broker.bootstrap) as admin:
        await create_topic(admin, topic, 3)
    async with sender_to(mortal_broker.bootstrap, topic) as sender:
        sendings: list[Sending] = []

        async def traffic() -> None:
            for number in range(400):
                sendings.append(sender.submit([record(f"{number} {key}", b"%d" % key) for key in range(9)]))
                await asyncio.sleep(0.01)

        async def kill() -> None:
            await asyncio.sleep(1)
            mortal_broker.kill()
            await until_error(sender, "producing to")
            await asyncio.to_thread(mortal_broker.start)

        await asyncio.gather(traffic(), kill())
        for sending in sendings:
            await acknowledged(sending)
        assert sender.error is None
    found = await read(mortal_broker.bootstrap, topic)
    for key in range(9):
        mine = [it.value.decode() for it in found if it.key == b"%d" % key]
        assert mine == [f"{number} {key}" for number in range(400)]


@pytest.mark.services
async def test_a_broker_that_hangs_is_an_error_and_the_end_is_within_a_bound(mortal_broker: KafkaBroker) -> None:
    topic = f"frozen_{time.time_ns()}"
    async with topic_admin(mortal_broker.bootstrap) as admin:
        await create_topic(admin, topic, 1)
    before = asyncio.all_tasks()
    async with sender_to(mortal_broker.bootstrap, topic) as sender:
        await acknowledged(sender.submit([record("a")]))
        mortal_broker.freeze()
        try:
            waits = sender.submit([record("b")])
            await until_error(sender, "no answer for 1 s")
            later = sender.submit([record("c")])
            assert later.withdraw() == [0]
        finally:
            mortal_broker.thaw()
        await acknowledged(waits)
        assert sender.error is None
        mortal_broker.freeze()
        lost = sender.submit([record("d")])
        try:
            await until_error(sender, "no answer for 1 s")
            async with asyncio.timeout(30):
                await sender.stop(0.5)
        finally:
            mortal_broker.thaw()
        assert lost.withdraw() == [0]
    assert asyncio.all_tasks() == before
    assert (await values(mortal_broker.bootstrap, topic))[:2] == ["a", "b"]


@pytest.mark.services
async def test_a_frozen_request_is_given_up_after_the_request_timeout(mortal_broker: KafkaBroker) -> None:
    topic = f"slow_{time.time_ns()}"
    async with topic_admin(mortal_broker.bootstrap) as admin:
        await create_topic(admin, topic, 1)
    config = KafkaConfig(bootstrap_servers=(mortal_broker.bootstrap,), request_timeout=Seconds(2))
    sender = KafkaSender(config, topic)
    await sender.start()
    try:
        await acknowledged(sender.submit([record("a")]))
        mortal_broker.freeze()
        try:
            sending = sender.submit([record("b")])
            await until_error(sender, "RequestTimedOutError")
        finally:
            mortal_broker.thaw()
        await acknowledged(sending)
    finally:
        await sender.stop(5.0)
    assert await values(mortal_broker.bootstrap, topic) == ["a", "b"]


@pytest.mark.services
async def test_nothing_of_a_sender_goes_on_after_its_end_while_the_broker_is_away(mortal_broker: KafkaBroker) -> None:
    topic = f"ended_{time.time_ns()}"
    async with topic_admin(mortal_broker.bootstrap) as admin:
        await create_topic(admin, topic, 1)
    before = asyncio.all_tasks()
    async with sender_to(mortal_broker.bootstrap, topic) as sender:
        await acknowledged(sender.submit([record("a")]))
        mortal_broker.kill()
        try:
            lost = sender.submit([record("b")])
            await until_error(sender, "producing to")
            await sender.stop(0.5)
            with pytest.raises(SourceError, match="was stopped"):
                await lost.done
            assert asyncio.all_tasks() == before
        finally:
            await asyncio.to_thread(mortal_broker.start)
