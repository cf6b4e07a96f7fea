"""Python's analytics SDKs send to a collector in front of Kafka: its broker dies, and the collector, and both."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.collect.calls import numbered
from tests.collect.recorder import Recorder
from tests.collect.sdk_cases import COUNT, answered_ids, check_nothing_lost, sender, until_answered
from tests.e2e.collector import KafkaCollector
from tests.e2e.daemon import DEADLINE
from tests.e2e.http_sender import event_ids_in, until_ready
from tests.services.clients import PYTHON_CLIENTS
from tests.services.kafka import KafkaBroker, create_topic, topic_admin

pytestmark = [pytest.mark.services, pytest.mark.slow]


@pytest.fixture(scope="module")
def mortal_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    """Who kills it starts it again."""
    with KafkaBroker(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker


@pytest.fixture
async def topic(mortal_broker: KafkaBroker) -> str:
    name = f"test_{uuid4().hex}"
    async with topic_admin(mortal_broker.bootstrap) as admin:
        await create_topic(admin, name, 3)
    return name


async def until_in_topic(broker: KafkaBroker, topic: str, recorder: Recorder) -> set[str]:
    """Wait until the topic has what was answered 200; the ids of all events in it."""
    async with asyncio.timeout(DEADLINE):
        while not answered_ids(recorder) <= (found := set(await event_ids_in(broker.bootstrap, topic))):
            pass
    return found


@pytest.mark.parametrize("name", PYTHON_CLIENTS)
async def test_with_a_journal_the_deaths_of_both_lose_nothing(
    name: str, mortal_broker: KafkaBroker, topic: str, tmp_path: Path
) -> None:
    collector = KafkaCollector(tmp_path, mortal_broker.bootstrap, topic, journal=True)

    async def kill(number: int) -> None:
        if number == 3:
            mortal_broker.kill()
        elif number == 5:
            collector.kill()
            collector.start()
            raise ConnectionResetError

    try:
        collector.start()
        await until_ready(collector)
        async with Recorder(collector.url) as recorder, sender(name, recorder) as sdk:
            recorder.before = kill
            for start in range(0, COUNT, 5):
                await sdk.send(numbered(5, start))
            sdk.close()
            await until_answered(recorder, COUNT)
        assert not mortal_broker.running, "the journal has the last ones"
        await asyncio.to_thread(mortal_broker.start)
        check_nothing_lost(recorder, await until_in_topic(mortal_broker, topic, recorder))
    finally:
        collector.kill()
        if not mortal_broker.running:
            await asyncio.to_thread(mortal_broker.start)


@pytest.mark.parametrize("name", PYTHON_CLIENTS)
async def test_without_a_journal_the_sdk_sends_again_until_the_broker_is_back(
    name: str, mortal_broker: KafkaBroker, topic: str, tmp_path: Path
) -> None:
    collector = KafkaCollector(tmp_path, mortal_broker.bootstrap, topic, journal=False)

    async def kill(number: int) -> None:
        if number == 3:
            mortal_broker.kill()

    try:
        collector.start()
        await until_ready(collector)
        async with Recorder(collector.url) as recorder, sender(name, recorder) as sdk:
            recorder.before = kill
            for start in range(0, COUNT, 5):
                await sdk.send(numbered(5, start))
            sdk.close()
            async with asyncio.timeout(DEADLINE):
                while 503 not in {it.status for it in recorder.posts()}:
                    await recorder.wait()
            await asyncio.to_thread(mortal_broker.start)
            await until_answered(recorder, COUNT)
        check_nothing_lost(recorder, await until_in_topic(mortal_broker, topic, recorder))
    finally:
        collector.kill()
        if not mortal_broker.running:
            await asyncio.to_thread(mortal_broker.start)
