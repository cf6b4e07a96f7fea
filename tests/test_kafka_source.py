"""What the Kafka source promises beyond the contract, on a real broker: rebalances, transactions, faults, rights."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka import TopicPartition as KafkaPartition
from aiokafka.admin import RecordsToDelete
from aiokafka.errors import GroupAuthorizationFailedError, TopicAuthorizationFailedError
from aiokafka.protocol.group import LeaveGroupRequest

from ingestd.config.model import KafkaConfig
from ingestd.config.types import Seconds
from ingestd.core.errors import ConfigError, SourceError
from ingestd.core.records import LogRange, Position, TopicPartition
from ingestd.sources.kafka import KafkaSource
from ingestd.sources.kafka import consumer as source_module
from ingestd.sources.kafka import group_consumer as group_module
from ingestd.sources.kafka import retry as retry_module
from tests.conftest import MakeTopic
from tests.contract.source_contract import LIMIT, Reader, RecordingListener, offsets, values
from tests.services.kafka import KafkaAddress, KafkaBroker, SecuredKafka, create_topic, topic_admin

Broker = KafkaAddress | KafkaBroker
Send = Callable[[TopicPartition, Iterable[bytes]], Awaitable[None]]


def kafka_config(broker: Broker, *topics: str, **changes: Any) -> KafkaConfig:
    """Quick to notice a rebalance, and of a group of its own unless `changes` names one."""
    settings = {
        "bootstrap_servers": (broker.bootstrap,),
        "topics": topics,
        "group_id": f"group_{uuid.uuid4().hex}",
        "heartbeat_interval": Seconds(0.2),
        "session_timeout": Seconds(6),
        "rebalance_timeout": Seconds(20),
    }
    return KafkaConfig(**{**settings, **changes})


@asynccontextmanager
async def running(config: KafkaConfig, listener: RecordingListener) -> AsyncIterator[KafkaSource]:
    source = KafkaSource(config)
    try:
        await source.start(listener)
        yield source
    finally:
        await source.stop()


@asynccontextmanager
async def sending(broker: Broker) -> AsyncIterator[Send]:
    async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap, acks="all") as producer:

        async def to(partition: TopicPartition, some: Iterable[bytes]) -> None:
            for value in some:
                await producer.send_and_wait(partition.topic, value, partition=partition.partition)

        yield to


@pytest.fixture
async def send(kafka: KafkaAddress) -> AsyncIterator[Send]:
    async with sending(kafka) as to:
        yield to


async def until(
    condition: Callable[[], bool], step: Callable[[], Awaitable[object]] = lambda: asyncio.sleep(0.01)
) -> None:
    """Takes steps until the condition holds."""
    async with asyncio.timeout(LIMIT):
        while not condition():
            await step()


async def to_the_end(source: KafkaSource) -> None:
    async with asyncio.timeout(LIMIT):
        while await source.fetch() is not None:
            pass


def partitions_of(topic: str, count: int) -> list[TopicPartition]:
    return [TopicPartition(topic, number) for number in range(count)]


class Polling:
    """Fetches from sources in the background, as a pipeline does."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    def add(self, source: KafkaSource) -> Reader:
        reader = Reader(source)

        async def run() -> None:
            while await reader.fetch():
                pass

        self._tasks.append(asyncio.create_task(run()))
        return reader

    async def __aenter__(self) -> "Polling":
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


# -- ownership


async def test_commits_from_inside_on_revoked_are_accepted(kafka: Broker, make_topic: MakeTopic, send: Send) -> None:
    class Committing(RecordingListener):
        accepted: Sequence[bool] = ()

        async def on_revoked(self, partitions: Collection[TopicPartition]) -> None:
            self.accepted = await asyncio.gather(*(first.commit(each, Position(1, "last word")) for each in partitions))
            await super().on_revoked(partitions)

    topic = await make_topic(2)
    both = partitions_of(topic, 2)
    config = kafka_config(kafka, topic)
    committing, listener = Committing(), RecordingListener()
    async with running(config, committing) as first, Polling() as polling:
        await committing.wait_for(both)
        polling.add(first)
        async with running(config, listener) as second:
            await until(lambda: len(listener.owned) == 1 and len(committing.owned) == 1)
            assert committing.accepted == [True, True]
            for each in both:
                assert await second.committed(each) == Position(1, "last word")


async def test_a_second_member_takes_over_where_the_first_committed(
    kafka: Broker, make_topic: MakeTopic, send: Send
) -> None:
    topic = await make_topic(2)
    both = partitions_of(topic, 2)
    for each in both:
        await send(each, [b"a", b"b", b"c"])
    config = kafka_config(kafka, topic)
    listeners = RecordingListener(), RecordingListener()
    async with running(config, listeners[0]) as first, Polling() as polling:
        await listeners[0].wait_for(both)
        for each in both:
            first.seek(each, 0)
            assert await first.commit(each, Position(2, "m"))
        polling.add(first)
        async with running(config, listeners[1]) as second:
            await until(lambda: len(listeners[0].owned) == 1 and len(listeners[1].owned) == 1)
            assert listeners[0].owned | listeners[1].owned == set(both)
            (mine,) = listeners[1].owned
            position = await second.committed(mine)
            assert position == Position(2, "m")
            second.seek(mine, position.offset)
            assert offsets(await Reader(second).take(mine, 1)) == [2]
            assert not await first.commit(mine, Position(3, "too late"))
            assert await second.committed(mine) == Position(2, "m")


async def test_a_member_that_the_group_dropped_is_refused(kafka: Broker, make_topic: MakeTopic) -> None:
    topic = await make_topic(1)
    (only,) = partitions_of(topic, 1)
    # Heartbeats so rare that the zombie learns of its death from the commit.
    config = kafka_config(kafka, topic, heartbeat_interval=Seconds(5))
    listener = RecordingListener()
    async with running(config, listener) as zombie:
        await listener.wait_for([only])
        assert await zombie.commit(only, Position(1, "alive"))
        consumer = zombie._consumer
        assert consumer is not None
        await consumer.ask_coordinator(LeaveGroupRequest(config.group_id, consumer.member_id))
        assert not await zombie.commit(only, Position(2, "dead"))
        assert await zombie.committed(only) == Position(1, "alive")


async def test_more_members_than_partitions_are_fine(kafka: Broker, make_topic: MakeTopic) -> None:
    topic = await make_topic(1)
    config = kafka_config(kafka, topic)
    listeners = RecordingListener(), RecordingListener()
    async with running(config, listeners[0]) as first, running(config, listeners[1]) as second, Polling() as polling:
        polling.add(first)
        polling.add(second)
        await until(lambda: sorted(len(each.owned) for each in listeners) == [0, 1])
        assert first.error is None
        assert second.error is None


async def test_seek_and_pause_of_what_is_not_ours_are_ignored(kafka: Broker, make_topic: MakeTopic) -> None:
    topic = await make_topic(1)
    (only,) = partitions_of(topic, 1)
    listener = RecordingListener()
    async with running(kafka_config(kafka, topic), listener) as source:
        await listener.wait_for([only])
        for other in (TopicPartition(topic, 7), TopicPartition("other", 0)):
            source.seek(other, 1)
            source.pause(other)
            assert source.end_offset(other) is None
            assert not await source.commit(other, Position(1))


async def test_a_listener_that_raises_ends_the_stream_with_it(kafka: Broker, make_topic: MakeTopic) -> None:
    class Broken(RecordingListener):
        async def on_revoked(self, partitions: Collection[TopicPartition]) -> None:
            raise ZeroDivisionError("in the pipeline")

    topic = await make_topic(1)
    config = kafka_config(kafka, topic)
    broken, listener = Broken(), RecordingListener()
    async with running(config, broken) as source:
        await broken.wait_for(partitions_of(topic, 1))
        async with running(config, listener):
            with pytest.raises(ZeroDivisionError, match="in the pipeline"):
                await to_the_end(source)


async def test_finish_ends_a_fetch_that_waits_for_a_rebalance(kafka: Broker, make_topic: MakeTopic) -> None:
    class Holding(RecordingListener):
        async def on_revoked(self, partitions: Collection[TopicPartition]) -> None:
            await super().on_revoked(partitions)
            await let_go.wait()

    let_go = asyncio.Event()
    topic = await make_topic(1)
    config = kafka_config(kafka, topic)
    holding, listener = Holding(), RecordingListener()
    async with running(config, holding) as source:
        await holding.wait_for(partitions_of(topic, 1))
        async with running(config, listener):
            await holding.wait_for([])
            reading = asyncio.create_task(to_the_end(source))
            await asyncio.sleep(0)
            source.finish()
            await reading
            let_go.set()
            await until(lambda: bool(listener.owned | holding.owned))


async def test_leaving_does_not_wait_for_a_rebalance_to_end(
    kafka: Broker, make_topic: MakeTopic, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Holding(RecordingListener):
        async def on_revoked(self, partitions: Collection[TopicPartition]) -> None:
            await super().on_revoked(partitions)
            await let_go.wait()

    let_go = asyncio.Event()
    topic = await make_topic(1)
    config = kafka_config(kafka, topic)
    holding = Holding()
    async with running(config, holding), Polling() as polling:
        await holding.wait_for(partitions_of(topic, 1))
        waiting = KafkaSource(config)
        await waiting.start(RecordingListener())
        reader = polling.add(waiting)
        await holding.wait_for([])
        monkeypatch.setattr(source_module, "CLOSE_S", 0.1)
        await waiting.stop()
        assert await waiting.fetch() is None
        assert reader.got == {}
        let_go.set()


async def test_rebuild_revokes_all_partitions_and_assigns_them_again(
    kafka: Broker, make_topic: MakeTopic, send: Send
) -> None:
    topic = await make_topic(1)
    (only,) = partitions_of(topic, 1)
    await send(only, [b"a", b"b"])
    listener = RecordingListener()
    async with running(kafka_config(kafka, topic), listener) as source, Polling() as polling:
        await listener.wait_for([only])
        assert await source.commit(only, Position(1, "m"))
        source.seek(only, 1)
        reader = polling.add(source)
        await until(lambda: bool(reader.got))
        await source.rebuild()
        await until(lambda: [what for what, _ in listener.heard] == ["assigned", "revoked", "assigned"])
        assert await source.committed(only) == Position(1, "m")
        reader.got.clear()
        source.seek(only, 1)
        await until(lambda: bool(reader.got))
        assert values(reader.got[only]) == [b"b"]
        assert await source.commit(only, Position(2, "m"))


async def test_a_consumer_of_which_a_task_has_died_is_rebuilt(kafka: Broker, make_topic: MakeTopic, send: Send) -> None:
    topic = await make_topic(1)
    (only,) = partitions_of(topic, 1)
    await send(only, [b"a"])
    listener = RecordingListener()
    async with running(kafka_config(kafka, topic), listener) as source, Polling() as polling:
        await listener.wait_for([only])
        assert source._consumer is not None
        client = source._consumer._consumer.client
        client._metadata_update = fail
        client.force_metadata_update()
        reader = polling.add(source)
        await until(lambda: [what for what, _ in listener.heard] == ["assigned", "revoked", "assigned"])
        source.seek(only, 0)
        await until(lambda: bool(reader.got))
        assert values(reader.got[only]) == [b"a"]


async def test_a_topic_that_is_deleted_while_it_is_read_is_an_error_until_it_is_there_again(
    kafka: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_module, "_METADATA_AGE_MS", 1000)
    kept, doomed = (f"topic_{uuid.uuid4().hex}" for _ in range(2))
    async with topic_admin(kafka.bootstrap) as admin:
        for topic in (kept, doomed):
            await create_topic(admin, topic, 1)
        listener = RecordingListener()
        async with running(kafka_config(kafka, kept, doomed), listener) as source:
            await listener.wait_for([*partitions_of(kept, 1), *partitions_of(doomed, 1)])
            for topic in (kept, doomed):
                source.seek(TopicPartition(topic, 0), 0)
            await source.fetch()
            assert source.error is None
            await admin.delete_topics([doomed])
            gone = f"topic {doomed} does not exist any more, or is not visible to our user"
            await until(lambda: source.error == gone, source.fetch)
            await create_topic(admin, doomed, 1)
            await until(lambda: source.error is None, source.fetch)
        await admin.delete_topics([kept, doomed])


async def fail(*_: object) -> None:
    raise RuntimeError("what nobody foresaw")


# -- what is handed out


async def test_aborted_transactions_are_not_handed_out_and_leave_no_lag(kafka: Broker, make_topic: MakeTopic) -> None:
    topic = await make_topic(1)
    (only,) = partitions_of(topic, 1)
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, transactional_id=uuid.uuid4().hex) as producer:
        for value, commit in ((b"kept", True), (b"aborted", False), (b"kept too", True), (b"aborted too", False)):
            await producer.begin_transaction()
            await producer.send_and_wait(topic, value, partition=0)
            await (producer.commit_transaction() if commit else producer.abort_transaction())
    listener = RecordingListener()
    async with running(kafka_config(kafka, topic), listener) as source:
        await listener.wait_for([only])
        source.seek(only, 0)
        records = await Reader(source).take(only, 2)
        assert values(records) == [b"kept", b"kept too"]
        assert (await source.log_range(only)).end == 8
        end = records[-1].offset + 1
        await until(lambda: source.end_offset(only) == end, source.fetch)


async def test_the_range_of_the_log_reaches_beyond_an_open_transaction_but_latest_does_not(
    kafka: Broker, make_topic: MakeTopic, send: Send
) -> None:
    topic = await make_topic(1)
    (only,) = partitions_of(topic, 1)
    await send(only, [b"a"])
    listener = RecordingListener()
    async with (
        AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, transactional_id=uuid.uuid4().hex) as producer,
        running(kafka_config(kafka, topic, start="latest"), listener) as source,
    ):
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"open", partition=0)
        await listener.wait_for([only])
        assert await source.log_range(only) == LogRange(0, 2)
        assert (await source.resolve_start(only)).offset == 1
        await producer.abort_transaction()


async def test_an_open_transaction_is_reported_with_what_waits_behind_it_until_it_ends(
    kafka: Broker, make_topic: MakeTopic, send: Send
) -> None:
    topic = await make_topic(1)
    (only,) = partitions_of(topic, 1)
    await send(only, [b"a"])
    listener = RecordingListener()

    def seen() -> tuple[int, int] | None:
        found = source.open_transaction(only)
        return (found.first, found.waiting) if found is not None else None

    async with (
        AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, transactional_id=uuid.uuid4().hex) as producer,
        running(kafka_config(kafka, topic), listener) as source,
    ):
        await listener.wait_for([only])
        source.seek(only, 0)
        reader = Reader(source)
        await reader.take(only, 1)
        assert seen() is None
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"open", partition=0)
        await send(only, [b"behind", b"it"])
        await until(lambda: seen() == (1, 3), source.fetch)
        assert source.end_offset(only) == 1
        await until(lambda: getattr(source.open_transaction(only), "age", 0.0) > 0.5, source.fetch)
        await producer.commit_transaction()
        assert values(await reader.take(only, 3)) == [b"open", b"behind", b"it"]
        await until(lambda: seen() is None, source.fetch)


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        ("earliest", 1),
        ("latest", 4),
        ("2026-01-01T00:00:02Z", 2),
        ("2026-01-01T01:00:02.500+01:00", 3),
        ("2027-01-01T00:00:00Z", 4),
    ],
)
async def test_the_start_policy_says_where_a_new_group_begins(
    kafka: Broker, make_topic: MakeTopic, start: str, expected: int
) -> None:
    topic = await make_topic(1)
    (only,) = partitions_of(topic, 1)
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap) as producer:
        for second in range(4):
            await producer.send_and_wait(topic, b"v", partition=0, timestamp_ms=1_767_225_600_000 + second * 1000)
    await trim(kafka, only, 1)
    listener = RecordingListener()
    async with running(kafka_config(kafka, topic, start=start), listener) as source:
        await listener.wait_for([only])
        assert (await source.resolve_start(only)).offset == expected
        assert await source.log_range(only) == LogRange(1, 4)


@pytest.mark.parametrize("start", ["soon", "2026-01-01T00:00:00"])
def test_a_start_that_is_no_place_is_a_configuration_error(start: str) -> None:
    with pytest.raises(ConfigError, match=f"kafka.start = {start}"):
        KafkaSource(KafkaConfig(start=start))


async def trim(broker: Broker, partition: TopicPartition, before: int) -> None:
    async with topic_admin(broker.bootstrap) as admin:
        await admin.delete_records({KafkaPartition(*partition): RecordsToDelete(before_offset=before)})


async def test_an_offset_that_is_no_longer_in_the_log_is_reported_and_the_others_go_on(
    kafka: Broker, make_topic: MakeTopic, send: Send
) -> None:
    topic = await make_topic(2)
    trimmed, other = partitions_of(topic, 2)
    for each in (trimmed, other):
        await send(each, [b"a", b"b", b"c"])
    await trim(kafka, trimmed, 2)
    listener = RecordingListener()
    async with running(kafka_config(kafka, topic), listener) as source:
        await listener.wait_for([trimmed, other])
        source.seek(trimmed, 0)
        source.seek(other, 0)
        gone = ("out of range", frozenset({trimmed}))
        reader = Reader(source)
        async with asyncio.timeout(LIMIT):
            while gone not in listener.heard:
                await reader.fetch()
        assert offsets(await reader.take(other, 3)) == [0, 1, 2]
        assert trimmed not in reader.got
        source.seek(trimmed, 2)
        assert offsets(await reader.take(trimmed, 1)) == [2]
        assert listener.heard.count(gone) == 1


async def test_damaged_records_lose_nothing_of_other_partitions_and_end_with_their_offset(
    kafka_tls: SecuredKafka, make_topic: MakeTopic, send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_module, "PAUSE_S", 0.05)
    # How aiokafka orders what it asks for: the damaged partition comes last, after the others were served.
    monkeypatch.setattr("aiokafka.consumer.fetcher.random.shuffle", lambda asked: asked.sort(reverse=True))
    topic = await make_topic(3)
    damaged, *others = partitions_of(topic, 3)
    for each in (damaged, *others):
        await send(each, [b"first", b"second", b"third"])
    log = next((kafka_tls.directory).glob(f"{topic}-0/*.log"))
    content = log.read_bytes()
    log.write_bytes(content.replace(b"second", b"secund"))
    listener = RecordingListener()
    async with running(kafka_config(kafka_tls, topic), listener) as source:
        await listener.wait_for([damaged, *others])
        for each in (damaged, *others):
            source.seek(each, 0)
        reader = Reader(source)
        with pytest.raises(SourceError, match=rf"{topic}\[0\] from offset [01] on cannot be decoded"):
            await until(lambda: False, reader.fetch)
        for each in others:
            assert offsets(reader.got[each]) == [0, 1, 2]
        log.write_bytes(content)


# -- brokers that fail


async def test_goes_on_after_the_broker_was_killed(
    mortal_broker: KafkaBroker,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(source_module, "SILENCE_S", 1.0)
    (only,) = partitions_of(topic := "killed", 1)
    async with topic_admin(mortal_broker.bootstrap) as admin:
        await create_topic(admin, topic, 1)
    config = kafka_config(mortal_broker, topic, session_timeout=Seconds(20), request_timeout=Seconds(5))
    listener, late = RecordingListener(), RecordingListener()
    async with running(config, listener) as source, Polling() as polling, AsyncExitStack() as stack:
        send = await stack.enter_async_context(sending(mortal_broker))
        await listener.wait_for([only])
        source.seek(only, 0)
        reader = polling.add(source)
        await send(only, [b"before"])
        await until(lambda: only in reader.got)
        mortal_broker.kill()
        commit = asyncio.create_task(source.commit(only, Position(1, "sent to nobody")))
        beginner = KafkaSource(kafka_config(mortal_broker, topic))
        stack.push_async_callback(beginner.stop)
        starting = asyncio.create_task(beginner.start(late))
        await until(lambda: beginner.error is not None and "no broker has answered for 1 of 1" in caplog.text)
        await asyncio.to_thread(mortal_broker.start)
        async with asyncio.timeout(LIMIT):
            await starting
            assert await commit
        await late.wait_for([only])
        await send(only, [b"after"])
        await until(lambda: values(reader.got[only]) == [b"before", b"after"])
        assert await source.committed(only) == Position(1, "sent to nobody")
        await until(lambda: source.error is None and beginner.error is None)


async def test_a_deleted_topic_does_not_hold_up_commits_of_others(
    kafka: Broker, make_topic: MakeTopic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_module, "CLOSE_S", 1.0)  # the commit that never ends is waited for
    doomed, other = TopicPartition(await make_topic(1), 0), TopicPartition(await make_topic(1), 0)
    listener = RecordingListener()
    async with running(kafka_config(kafka, doomed.topic, other.topic), listener) as source:
        await listener.wait_for([doomed, other])
        async with topic_admin(kafka.bootstrap) as admin:
            await admin.delete_topics([doomed.topic])
        hopeless = asyncio.create_task(source.commit(doomed, Position(1)))
        await until(lambda: source.error is not None)
        async with asyncio.timeout(LIMIT):
            assert await source.commit(other, Position(1, "m"))
        hopeless.cancel()


async def test_a_topic_that_may_not_be_read_is_paused_and_the_others_go_on(
    kafka: Broker, make_topic: MakeTopic, send: Send, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(source_module, "PAUSE_S", 0.2)
    caplog.set_level("INFO", "ingestd")
    denied, other = TopicPartition(await make_topic(1), 0), TopicPartition(await make_topic(1), 0)
    for each in (denied, other):
        await send(each, [b"a"])
    listener = RecordingListener()
    async with running(kafka_config(kafka, denied.topic, other.topic), listener) as source:
        await listener.wait_for([denied, other])
        for each in (denied, other):
            source.seek(each, 0)
        refuse_once(source, TopicAuthorizationFailedError(denied.topic))
        reader = Reader(source)
        assert await reader.fetch()
        assert denied.topic in str(source.error)
        assert values(await reader.take(other, 1)) == [b"a"]
        assert values(await reader.take(denied, 1)) == [b"a"]
    assert [record.levelname for record in caplog.records if denied.topic in record.message] == ["ERROR", "INFO"]


async def test_a_membership_that_keeps_failing_is_rebuilt(
    kafka: Broker, make_topic: MakeTopic, send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry_module, "RETRY_MAX_S", 0.01)
    topic = await make_topic(1)
    (only,) = partitions_of(topic, 1)
    await send(only, [b"a"])
    listener = RecordingListener()
    async with running(kafka_config(kafka, topic), listener) as source:
        await listener.wait_for([only])
        refuse_once(source, *[GroupAuthorizationFailedError("group")] * source_module.REBUILD_AFTER_FAILURES)
        await until(lambda: [what for what, _ in listener.heard] == ["assigned", "revoked", "assigned"], source.fetch)
        source.seek(only, 0)
        assert offsets(await Reader(source).take(only, 1)) == [0]
        assert source.error is None


def refuse_once(source: KafkaSource, *errors: Exception) -> None:
    """Make the next polls of the consumer fail with these errors."""
    consumer, left = source._consumer, list(errors)
    assert consumer is not None
    poll = consumer.poll

    async def refusing(wait_s: float) -> Any:
        if left:
            raise left.pop(0)
        return await poll(wait_s)

    consumer.poll = refusing  # type: ignore[method-assign]
