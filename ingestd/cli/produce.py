"""`ingestd produce`: writes simulated events into a Kafka topic."""

import asyncio
import logging
import signal
from collections.abc import Callable

import click
import msgspec

from ingestd import wiring
from ingestd.cli.flags import SETTINGS, SIMULATOR, SettingFlag
from ingestd.config.load import Settings
from ingestd.config.model import Config
from ingestd.sources.kafka import produce as write
from ingestd.sources.simulator.source import EventStream

log = logging.getLogger(__name__)

SIMULATED_PARTITIONS = 1000
LOG_INTERVAL_S = 5.0

EXAMPLES = """\
examples:
  ingestd produce --topic marketing_events --rate 600/min --duration 5m
  ingestd produce --topic marketing_events --history 90d --seed 42 --bootstrap-servers 127.0.0.1:9092
"""

FLAGS: list[click.Parameter] = [
    SettingFlag("--topic", "TOPIC", "kafka.topics", "the topic to write to", section="Kafka"),
    SettingFlag(
        "--bootstrap-servers", "HOST:PORT,...", "kafka.bootstrap_servers", "brokers for the first contact with Kafka",
        section="Kafka",
    ),
    *SIMULATOR,
    SettingFlag("--duration", "5m", "duration", "stop after this long", section="Simulator"),
    *SETTINGS,
]  # fmt: skip


class Options(msgspec.Struct, frozen=True):
    """Everything is a setting."""


def run(settings: Settings, _: Options) -> int:
    """Write into the first topic of ``kafka.topics`` until the duration or the history ends."""
    wiring.run(_produce(settings.config))
    return 0


async def _produce(config: Config) -> None:
    topic = config.kafka.topics[0]
    # The producer takes the partition modulo the topic's count, so all events of a client go to one partition.
    stream = EventStream(msgspec.structs.replace(config.simulator, partitions=SIMULATED_PARTITIONS))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stream.finish)
    if config.duration is not None:
        loop.call_later(config.duration, stream.finish)
    report = ProduceLog(topic, loop.time)
    total = await write(config.kafka, topic, stream.messages(), report.advance)
    log.info("wrote %d events into %s", total, topic)


class ProduceLog:
    """Logs the number of events and their rate every few seconds."""

    def __init__(self, topic: str, clock: Callable[[], float]) -> None:
        self._topic = topic
        self._clock = clock
        self._started_at = self._logged_at = clock()
        self._count = 0

    def advance(self, count: int) -> None:
        self._count += count
        now = self._clock()
        if now - self._logged_at >= LOG_INTERVAL_S:
            self._logged_at = now
            rate = self._count / (now - self._started_at)
            log.info("%d events into %s, %.0f a second", self._count, self._topic, rate)
