"""The life cycle of one run: start, signals, deadline, shutdown.

Shutdown is the end of the stream flowing downstream: the source ends, open batches are flushed, uploaded and committed,
the member leaves the group, the sink closes, and the health server last. A second signal, or the end of the grace time,
forces.
"""

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack

from ingestd import __version__, wiring
from ingestd.config.load import Settings
from ingestd.core.errors import EXIT_PROBLEMS, DeadlineExceeded, SourceError
from ingestd.core.events import Model, load_model
from ingestd.core.formatting import address
from ingestd.core.sink_url import parse_sink_url
from ingestd.core.validation import Validator
from ingestd.ops import logs
from ingestd.ops.gc_tuning import calm_collector
from ingestd.ops.health import HealthServer
from ingestd.ops.metrics import Metrics
from ingestd.ops.readiness import Status
from ingestd.ops.systemd import Notifier
from ingestd.ops.terminal import LiveView, summary
from ingestd.pipeline.chain_objects import Dependencies
from ingestd.pipeline.ingest import Pipeline
from ingestd.pipeline.status import StatusCollector
from ingestd.pipeline.subscribers import Subscriber
from ingestd.pipeline.watchdog import Watchdog, WatchdogAction
from ingestd.sinks.create_only import require_create_only
from ingestd.sinks.retry import SinkRetrier
from ingestd.verify.findings import VerifyReport
from ingestd.verify.run import VerifyOptions, verify

log = logging.getLogger(__name__)

WATCHDOG_INTERVAL_S = 1.0
FORCED_LEAVE_S = 2.0  # to leave the group when the stop is forced
LAG_INTERVAL_S = 0.25  # between two measurements of the event loop's lag
REPORT_INTERVAL_S = 60.0  # between two log lines about progress
COMPRESSION_THREADS = 1  # enough: the event loop takes five times as long per event


def run(settings: Settings) -> int:
    """Run until stopped. Returns 0, or EXIT_PROBLEMS if a demo's verification failed. Raises ``IngestdError``."""
    return wiring.run(Daemon(settings).run())


class Daemon:
    """One run."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._config = config = settings.config
        model = load_model(config.events.model)
        self._validator = Validator(config.events, model)
        self._metrics = Metrics()
        self._source = wiring.make_source(config)
        self._sink = wiring.make_sink(config)
        self._demo = wiring.make_demo(config, self._source, self._sink)
        if self._demo is not None:
            self._sink, self._validator = self._demo.sink, self._demo.validator
        self._retrier = SinkRetrier(config.sink, self._metrics.upload_retried)
        self._notifier = Notifier.from_environment(os.environ)
        self._status = StatusCollector(config, self._source, self._sink.url, self._retrier, self._metrics)
        self._metrics.bind(self._status.take)
        self._subscribers = self._make_subscribers(model)
        if self._demo is not None:
            self._demo.page_state.bind(self._status.take)
        self._layout = wiring.make_keys(config)
        self._deadline: asyncio.Timeout | None = None

    def _make_subscribers(self, model: Model) -> list[Subscriber]:
        """Build the subscribers and hand their state to the displays."""
        found: list[Subscriber] = []
        if (pipe := wiring.make_local_loader(self._config, model, self._sink)) is not None:
            found.append(pipe)
            if self._demo is not None:
                self._demo.attach_table(pipe.state, pipe.warehouse)
        load_monitor = wiring.make_load_monitor(self._config, self._sink, self._metrics)
        if load_monitor is not None:
            found.append(load_monitor)
            self._status.loading = load_monitor.state
        return found

    async def run(self) -> int:
        """Run from start to end. Returns the exit code. Raises DeadlineExceeded if the grace time ended too early."""
        config, demo, verification = self._config, self._demo, None
        async with AsyncExitStack() as stack:
            for subscriber in self._subscribers:
                stack.push_async_callback(subscriber.close)
                await subscriber.start()
            if config.health.enabled:
                routes = demo.routes if demo is not None else []
                health = HealthServer(config.health, self._status.take, self._metrics.exposition, routes)
                port = await health.start(take_next=config.page.controls)
                stack.push_async_callback(health.stop)
                log.info("health and metrics at http://%s", address(config.health.host, port))
                if demo is not None:
                    log.info("live page at http://%s/", address(config.health.host, port))
            executor = ThreadPoolExecutor(COMPRESSION_THREADS, thread_name_prefix="compress")
            stack.callback(executor.shutdown, wait=False, cancel_futures=True)
            stack.enter_context(self._signals())
            view = stack.enter_context(self._view())
            stack.push_async_callback(self._sink.close)
            stack.push_async_callback(self._stop_source)
            self._deadline = deadline = asyncio.timeout(None)
            try:
                async with deadline:
                    await self._serve(executor, view)
                    if demo is not None and config.page.controls:
                        verification = await demo.verify(self._verify, self._status.take())
            except TimeoutError:
                if not deadline.expired():
                    raise
                self._check_delivered()
            finally:
                self._status.phase = "stopped"
                status = self._status.take()
                log.info("stopped", extra=_totals_fields(status))
                if demo is not None:
                    demo.end(status)
                if view is not None:
                    view.stop()
                    sys.stdout.write(summary(status, config, self._sink.url))
                    if verification is not None:
                        sys.stdout.write(f"\n{verification.text()}")
        return EXIT_PROBLEMS if verification is not None and not verification.ok else 0

    async def _serve(self, executor: ThreadPoolExecutor, view: LiveView | None) -> None:
        """Run everything in one task group."""
        config = self._config
        log.info("ingestd %s: %s to %s", __version__, self._status.source_name, self._sink.url)
        async with asyncio.TaskGroup() as group:
            background = [
                group.create_task(self._measure_loop_lag(), name="loop lag"),
                group.create_task(self._report(view), name="report"),
            ]
            self._notifier.ready()
            if self._demo is not None:
                background.append(group.create_task(self._demo.run(), name="page"))
            if config.duration is not None:
                asyncio.get_running_loop().call_later(config.duration, self._finish)
            await self._retrier.call(self._sink.start)
            if self._layout.exactly_once:
                await require_create_only(self._sink, self._retrier)
            background += [
                group.create_task(subscriber.run(), name=type(subscriber).__name__) for subscriber in self._subscribers
            ]
            pipeline = self._pipeline(executor)
            self._status.pipeline = pipeline
            background.append(group.create_task(self._watch(pipeline), name="watchdog"))
            with calm_collector():
                await pipeline.run()
            for subscriber in self._subscribers:
                await subscriber.settled()
            for task in background:
                task.cancel()

    def _pipeline(self, executor: ThreadPoolExecutor) -> Pipeline:
        config = self._config
        dependencies = Dependencies(
            source=self._source,
            sink=self._sink,
            retrier=self._retrier,
            metrics=self._metrics,
            executor=executor,
            wall_clock=time.time,
            landed=self._landed,
        )
        return wiring.make_pipeline(config, dependencies, self._validator)

    def _landed(self, key: str) -> None:
        for subscriber in self._subscribers:
            subscriber.landed(key)

    async def _verify(self) -> VerifyReport:
        """Verify the sink as `ingestd verify` does; a local sink's bodies are read, too."""
        options = VerifyOptions(read=parse_sink_url(self._sink.url).kind == "file")
        return await verify(self._settings, options, self._sink, wiring.open_inspector)

    # -- the end

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """The first signal drains, the second one forces."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, number)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    def _stop(self, number: signal.Signals) -> None:
        """End the stream within the grace time. A second signal, or one before the stream began, ends everything."""
        if self._status.phase == "running":
            log.info("%s: draining for at most %s; send it again to force", number.name, self._config.grace)
        else:
            log.info("%s: stopping immediately", number.name)
            self._end_by(asyncio.get_running_loop().time())
        self._finish()

    def _finish(self) -> None:
        """End the stream; the rest follows within the grace time. Before it began there is nothing to wait for."""
        if self._status.phase == "running":
            self._status.phase = "draining"
            self._notifier.stopping()
            self._end_by(asyncio.get_running_loop().time() + self._config.grace)
            self._source.finish()
        elif self._status.phase == "starting":
            self._end_by(asyncio.get_running_loop().time())

    def _end_by(self, when: float) -> None:
        if self._deadline is not None and not self._deadline.expired():
            self._deadline.reschedule(when)

    async def _stop_source(self) -> None:
        """Leave the group: for as long as that takes, unless the stop is forced."""
        forced = self._deadline is not None and self._deadline.expired()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FORCED_LEAVE_S if forced else None):
                await self._source.stop()

    def _check_delivered(self) -> None:
        held = self._status.pipeline.held_records if self._status.pipeline is not None else 0
        if held:
            raise DeadlineExceeded(f"stopped with {held} records undelivered", hint="they will be read again")

    # -- background tasks

    async def _measure_loop_lag(self) -> None:
        """Measure how late the loop wakes a sleeper, and feed the service manager's watchdog."""
        loop = asyncio.get_running_loop()
        told = loop.time()
        while True:
            before = loop.time()
            await asyncio.sleep(LAG_INTERVAL_S)
            lag = max(0.0, loop.time() - before - LAG_INTERVAL_S)
            self._metrics.loop_lag(lag)
            self._status.loop_lag = max(lag, self._status.loop_lag * 0.9)
            interval = self._notifier.watchdog_interval
            if interval is not None and loop.time() - told >= interval:
                self._notifier.watchdog()
                told = loop.time()

    async def _report(self, view: LiveView | None) -> None:
        """Show progress: a live view on a terminal, else one log line a minute."""
        while True:
            if view is not None:
                view.update(self._status.take())
                await asyncio.sleep(LAG_INTERVAL_S)
            else:
                await asyncio.sleep(REPORT_INTERVAL_S)
                status = self._status.take()
                log.info("progress", extra=_totals_fields(status))
                self._notifier.status(f"{status.totals.landed} rows landed, {len(status.partitions)} partitions")

    async def _watch(self, pipeline: Pipeline) -> None:
        """Rebuild a source that is stuck; exit if that does not help, so that the supervisor restarts the daemon."""
        await pipeline.started.wait()
        if self._status.phase == "starting":
            self._status.phase = "running"
        watchdog = Watchdog(self._config.health.progress_timeout)
        while True:
            await asyncio.sleep(WATCHDOG_INTERVAL_S)
            verdict = watchdog.judge(pipeline.longest_wait(), pipeline.progress)
            if verdict is WatchdogAction.REBUILD:
                log.error("source stalled: its log has records but none arrive; rebuilding the source")
                self._metrics.source_restarted()
                await self._source.rebuild()
            elif verdict is WatchdogAction.GIVE_UP:
                raise SourceError("the source makes no progress after it was rebuilt", hint="restart")

    @contextlib.contextmanager
    def _view(self) -> Iterator[LiveView | None]:
        """The live view, if a person watches on a terminal."""
        config = self._config
        if config.log.format == "json" or not sys.stderr.isatty():
            yield None
            return
        view = LiveView.on_stderr(config)
        logs.setup(config.log, quiet_console=True, stream=view.stream)
        view.start()
        try:
            yield view
        finally:
            view.stop()
            logs.setup(config.log)


def _totals_fields(status: Status) -> dict[str, object]:
    """The totals, as fields of a log line."""
    totals = status.totals
    return {
        "consumed": totals.consumed,
        "landed": totals.landed,
        "quarantined": totals.quarantined,
        "released": totals.released,
        "in_flight": totals.in_flight,
        "objects": totals.objects,
        "lag": sum(partition.lag or 0 for partition in status.partitions),
        "buffered_bytes": status.buffered_bytes,
    }
