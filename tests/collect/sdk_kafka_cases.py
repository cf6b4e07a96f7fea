"""SDKs in front of Kafka: the collector, its broker or both are killed, and what was answered 200 becomes a row."""

import asyncio
from pathlib import Path

from tests.collect.recorder import Recorder
from tests.collect.sdk_cases import COUNT, Deaths, check_nothing_lost, send_numbered, sender, until_answered
from tests.e2e.collector import KafkaCollector
from tests.services.kafka import KafkaBroker

KILLED = ("collector", "broker", "both")


class KafkaDeaths:
    """A collector in front of Kafka. The second request kills the broker, the third one kills the collector.

    With both, the collector dies while the broker is away; then it has a journal. Without one it answers 503 until the
    broker is back.
    """

    def __init__(self, killed: str, broker: KafkaBroker, topic: str, directory: Path) -> None:
        self.collector = KafkaCollector(directory, broker.bootstrap, topic, journal=killed == "both")
        self._killed = killed
        self._broker = broker
        self._deaths = Deaths(self.collector, 3)

    def begin(self, recorder: Recorder) -> None:
        """From now on requests are counted."""
        recorder.before = self._before
        if self._killed != "broker":
            recorder.after = self._deaths.after

    async def _before(self, number: int) -> None:
        if self._killed != "collector" and number == 2:
            self._broker.kill()
        if self._killed != "broker":
            await self._deaths.before(number)

    async def until_answered(self, recorder: Recorder, count: int) -> None:
        """Wait until so many events were answered 200. The broker is started when that has to be."""
        if self._killed == "broker":
            await recorder.until(lambda: any(it.status == 503 for it in recorder.posts()))
            await asyncio.to_thread(self._broker.start)
        await until_answered(recorder, count)
        if self._killed == "both":
            assert not self._broker.running, "the journal has the last ones"
            await asyncio.to_thread(self._broker.start)

    async def check(self, recorder: Recorder, count: int) -> None:
        """What was killed was killed, and yet nothing is lost."""
        assert self._deaths.count == (0 if self._killed == "broker" else 2)
        check_nothing_lost(recorder, await self.collector.landed(), count)


async def check_kafka_deaths(name: str, killed: str, broker: KafkaBroker, topic: str, directory: Path) -> None:
    """An SDK without a browser sends numbered calls while something is killed."""
    deaths = KafkaDeaths(killed, broker, topic, directory)
    try:
        await deaths.collector.start_ready()
        async with Recorder(deaths.collector.url) as recorder, sender(name, recorder) as sdk:
            deaths.begin(recorder)
            await send_numbered(sdk, recorder)
            await deaths.until_answered(recorder, COUNT)
        await deaths.check(recorder, COUNT)
    finally:
        deaths.collector.kill()
