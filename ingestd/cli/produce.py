"""`ingestd produce`: writes simulated events into a Kafka topic."""

import asyncio
import logging
import signal
from collections.abc import Callable

import msgspec

from ingestd import wiring
from ingestd.config.load import Settings
from ingestd.config.model import Config
from ingestd.sources.kafka import produce as write
from ingestd.sources.simulator.source import EventStream

log = logging.getLogger(__name__)

MANY_PARTITIONS = 1000


class Options(msgspec.Struct, frozen=True):
    """It has none beside settings."""


def run(settings: Settings, _: Options) -> int:
    """Write into the first of ``kafka.topics`` until the duration or the history is over."""
    wiring.run(_produce(settings.config))
    return 0


async def _produce(config: Config) -> None:
    topic = config.kafka.topics[0]
    # Partitions are taken modulo the topic's number of them, so any larger number keeps a client's events together.
    stream = EventStream(msgspec.structs.replace(config.simulator, partitions=MANY_PARTITIONS))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stream.finish)
    if config.duration is not None:
        loop.call_later(config.duration, stream.finish)
    report = _Written(topic, loop.time)
    total = await write(config.kafka, topic, stream.messages(), report.advance)
    log.info("wrote %d events into %s", total, topic)


class _Written:
    """A log line every few seconds while events are written."""

    EVERY = 5.0

    def __init__(self, topic: str, clock: Callable[[], float]) -> None:
        self._topic = topic
        self._clock = clock
        self._began = self._told = clock()
        self._count = 0

    def advance(self, count: int) -> None:
        self._count += count
        now = self._clock()
        if now - self._told >= self.EVERY:
            self._told = now
            log.info("%d events into %s, %.0f a second", self._count, self._topic, self._count / (now - self._began))
