"""`ingestd collect`: takes events over HTTP and answers once they are in Kafka, or in the journal in front of it."""

import asyncio
import logging
import os
import signal
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime

import click
import msgspec

from ingestd import __version__, collector_wiring, wiring
from ingestd.cli.flags import SETTINGS, SettingFlag
from ingestd.config.load import Settings
from ingestd.config.problem import refusal
from ingestd.config.validate_collect import running_collector_problems
from ingestd.core.errors import EXIT_INTERRUPTED, DeadlineExceeded
from ingestd.core.events import load_model
from ingestd.core.formatting import address
from ingestd.ops.collect_metrics import EdgeMetrics
from ingestd.ops.collector_status import EdgeStatus, collector_warnings, edge_reasons
from ingestd.ops.deadline import Deadline
from ingestd.ops.health import HealthServer
from ingestd.ops.loop_lag import LoopLag
from ingestd.ops.stop_signals import STOP_SIGNALS
from ingestd.ops.systemd import Notifier

log = logging.getLogger(__name__)

REPORT_INTERVAL_S = 60.0

EXAMPLES = """\
examples:
  ingestd collect --set collect.sources.web.kind=web --topic marketing_events
  ingestd collect --config collector.toml --host 0.0.0.0 --port 8080 --bootstrap-servers kafka-1:9092
  ingestd collect --config collector.toml --set collect.journal=/var/lib/ingestd/journal.sqlite
"""

FLAGS: list[click.Parameter] = [
    SettingFlag("--host", "ADDRESS", "collect.host", "address to listen on", section="HTTP"),
    SettingFlag("--port", "PORT", "collect.port", "port to listen on; 0 picks a free one", section="HTTP"),
    SettingFlag("--topic", "TOPIC", "collect.topic", "the topic that events go into", section="Kafka"),
    SettingFlag(
        "--bootstrap-servers", "HOST:PORT,...", "kafka.bootstrap_servers", "brokers for the first contact with Kafka",
        section="Kafka",
    ),
    SettingFlag(
        "--journal", "FILE", "collect.journal", "file that keeps events while Kafka is away", section="Kafka",
        completes="file",
    ),
    SettingFlag("--duration", "5m", "duration", "stop after this long", section="Daemon"),
    *SETTINGS,
]  # fmt: skip


class Options(msgspec.Struct, frozen=True):
    """Everything is a setting."""


def run(settings: Settings, _: Options) -> int:
    """Run until stopped; returns the exit code. Raises ``IngestdError``."""
    for problem in running_collector_problems(settings.config.collect, "`ingestd collect`"):
        raise refusal(problem, None, "")
    return wiring.run(Edge(settings).run())


class Edge:
    """One run of the command."""

    def __init__(self, settings: Settings) -> None:
        self._config = config = settings.config
        self._metrics = EdgeMetrics()
        self._collector = collector_wiring.make_collector(
            config, load_model(config.events.model), self._metrics.collect
        )
        self._notifier = Notifier.from_environment(os.environ)
        self._lag = LoopLag(self._notifier, self._metrics.process.loop_lag)
        self._deadline = Deadline(config.grace)
        self._phase = "starting"
        self._started_at, self._started = datetime.now(UTC), time.monotonic()
        self._signals_received = 0
        self._interrupted = False  # by a signal before it listened
        self._stopping = asyncio.Event()
        self._metrics.bind(self.status)

    def status(self) -> EdgeStatus:
        """The current status, with the reasons why it is not ready."""
        collector = self._collector.status()
        status = EdgeStatus(
            version=__version__,
            started_at=self._started_at,
            uptime=time.monotonic() - self._started,
            topic=self._config.collect.topic,
            phase=self._phase,
            loop_lag=self._lag.worst,
            collector=collector,
            warnings=collector_warnings(collector),
        )
        return msgspec.structs.replace(status, reasons=edge_reasons(status, self._config.health.loop_lag))

    async def run(self) -> int:
        """Run from start to end. Returns the exit code."""
        config, loop, drained = self._config, asyncio.get_running_loop(), False
        async with AsyncExitStack() as stack:
            stack.enter_context(STOP_SIGNALS.listening(lambda it: loop.call_soon_threadsafe(self._stop, it)))
            if config.health.enabled:
                await self._start_health(stack)
            stack.push_async_callback(self._deadline.close, self._collector.close)
            await self._collector.open()
            stack.push_async_callback(self._deadline.close, self._collector.stop)
            try:
                async with self._deadline.limit() as limit:
                    await self._serve()
                    drained = True
            except TimeoutError:
                if not limit.expired():
                    raise
            finally:
                self._phase = "stopped"
        log.info("stopped", extra=self._fields())
        if self._interrupted:
            return EXIT_INTERRUPTED
        if not drained:
            raise DeadlineExceeded("stopped before all requests were answered", hint="their senders send them again")
        return 0

    async def _start_health(self, stack: AsyncExitStack) -> None:
        health = HealthServer(self._config.health, self.status, self._metrics.exposition)
        port = await health.start()
        stack.push_async_callback(self._deadline.close, health.stop)
        log.info("health and metrics at http://%s", address(self._config.health.host, port))

    async def _serve(self) -> None:
        config = self._config
        log.info("ingestd %s: HTTP to kafka %s", __version__, config.collect.topic)
        await self._collector.start()
        async with asyncio.TaskGroup() as group:
            background = [group.create_task(self._lag.run()), group.create_task(self._report())]
            self._phase = "running"
            self._notifier.ready()
            if config.duration is not None:
                asyncio.get_running_loop().call_later(config.duration, self._finish)
            await self._stopping.wait()
            await self._collector.drain(config.grace)
            for task in background:
                task.cancel()

    def _stop(self, number: signal.Signals) -> None:
        """The first signal answers what is in flight, the second one forces."""
        self._signals_received += 1
        if self._signals_received == 1 and self._phase == "running":
            log.info("%s: draining for at most %s; send it again to force", number.name, self._config.grace)
            self._finish()
            return
        log.info("%s: stopping immediately", number.name)
        self._interrupted = self._phase == "starting"
        self._stopping.set()
        self._deadline.force()

    def _finish(self) -> None:
        if self._phase == "running":
            self._phase = "draining"
            self._notifier.stopping()
            self._deadline.begin_grace()
            self._stopping.set()

    async def _report(self) -> None:
        """One log line a minute."""
        while True:
            await asyncio.sleep(REPORT_INTERVAL_S)
            fields = self._fields()
            log.info("progress", extra=fields)
            self._notifier.status(f"{fields['accepted']} events accepted, {fields['in_journal']} in the journal")

    def _fields(self) -> dict[str, object]:
        """The totals, as fields of a log line."""
        status = self._collector.status()
        in_journal = status.journal.records if status.journal is not None else 0
        return {"accepted": status.accepted, "produced": status.produced, "in_journal": in_journal}
