"""Python's analytics SDKs send to a collector in front of Kafka: its broker dies, and the collector, and both."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
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
def broker_of_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    with KafkaBroker(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker


@pytest.fixture
def mortal_broker(broker_of_module: KafkaBroker) -> KafkaBroker:
    """It runs when a test begins, however the one before has ended."""
    if not broker_of_module.running:
        broker_of_module.start()
    return broker_of_module


async def with_each_sdk(one: Callable[[str], Awaitable[None]]) -> None:
    """All of them at once: a broker takes longer to come back than an SDK to send its calls."""

    async def named(name: str) -> None:
        try:
            await one(name)
        except BaseException as error:
            error.add_note(f"SDK {name}")
            raise

    async with asyncio.TaskGroup() as group:
        for name in PYTHON_CLIENTS:
            group.create_task(named(name))


class Revival:
    """Starts the broker again when all SDKs have come so far."""

    def __init__(self, broker: KafkaBroker) -> None:
        self._broker = broker
        self._all_here, self._done = asyncio.Barrier(len(PYTHON_CLIENTS)), asyncio.Event()

    async def wait(self) -> None:
        if await self._all_here.wait() == 0:
            await asyncio.to_thread(self._broker.start)
            self._done.set()
        await self._done.wait()


async def new_topic(broker: KafkaBroker) -> str:
    name = f"test_{uuid4().hex}"
    async with topic_admin(broker.bootstrap) as admin:
        await create_topic(admin, name, 3)
    return name


async def until_in_topic(broker: KafkaBroker, topic: str, recorder: Recorder) -> set[str]:
    """Wait until the topic has what was answered 200; the ids of all events in it."""
    async with asyncio.timeout(DEADLINE):
        while not answered_ids(recorder) <= (found := set(await event_ids_in(broker.bootstrap, topic))):
            pass
    return found


async def test_with_a_journal_the_deaths_of_both_lose_nothing(mortal_broker: KafkaBroker, tmp_path: Path) -> None:
    ready, revival = asyncio.Barrier(len(PYTHON_CLIENTS)), Revival(mortal_broker)

    async def one(name: str) -> None:
        topic = await new_topic(mortal_broker)
        (directory := tmp_path / name).mkdir()
        collector = KafkaCollector(directory, mortal_broker.bootstrap, topic, journal=True)

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
            await ready.wait()
            async with Recorder(collector.url) as recorder, sender(name, recorder) as sdk:
                recorder.before = kill
                for start in range(0, COUNT, 5):
                    await sdk.send(numbered(5, start))
                sdk.close()
                await until_answered(recorder, COUNT)
            assert not mortal_broker.running, "the journal has the last ones"
            await revival.wait()
            check_nothing_lost(recorder, await until_in_topic(mortal_broker, topic, recorder))
        finally:
            collector.kill()

    await with_each_sdk(one)


async def test_without_a_journal_the_sdk_sends_again_until_the_broker_is_back(
    mortal_broker: KafkaBroker, tmp_path: Path
) -> None:
    ready, revival = asyncio.Barrier(len(PYTHON_CLIENTS)), Revival(mortal_broker)
    killed = asyncio.Event()

    async def one(name: str) -> None:
        topic = await new_topic(mortal_broker)
        (directory := tmp_path / name).mkdir()
        collector = KafkaCollector(directory, mortal_broker.bootstrap, topic, journal=False)

        async def kill(number: int) -> None:
            if number == 3 and not killed.is_set():  # an SDK may get there when the broker is back
                killed.set()
                mortal_broker.kill()

        try:
            collector.start()
            await until_ready(collector)
            await ready.wait()
            async with Recorder(collector.url) as recorder, sender(name, recorder) as sdk:
                recorder.before = kill
                for start in range(0, COUNT, 5):
                    await sdk.send(numbered(5, start))
                sdk.close()
                async with asyncio.timeout(DEADLINE):
                    while 503 not in {it.status for it in recorder.posts()}:
                        await recorder.wait()
                await revival.wait()
                await until_answered(recorder, COUNT)
            check_nothing_lost(recorder, await until_in_topic(mortal_broker, topic, recorder))
        finally:
            collector.kill()

    await with_each_sdk(one)
