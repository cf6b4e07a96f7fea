"""The life cycle of one run: start, signals, deadline, shutdown.

Shutdown is the end of the stream flowing downstream: the source ends, open batches are flushed, uploaded and committed,
the member leaves the group, the sink closes, and the health server last. A second signal, or the end of the grace time,
forces each of these steps.
"""

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack

from ingestd import __version__, collector_wiring, inspection, wiring
from ingestd.collect.service import CollectorService
from ingestd.config.load import Settings
from ingestd.core.errors import SourceError
from ingestd.core.events import Model, load_model
from ingestd.core.formatting import address
from ingestd.core.run_outcome import RunOutcome
from ingestd.core.sink_url import parse_sink_url
from ingestd.ops import logs
from ingestd.ops.deadline import Deadline
from ingestd.ops.gc_tuning import calm_collector
from ingestd.ops.health import HealthServer
from ingestd.ops.loop_lag import LoopLag
from ingestd.ops.metrics import Metrics
from ingestd.ops.readiness import Status
from ingestd.ops.stop_signals import STOP_SIGNALS
from ingestd.ops.systemd import Notifier
from ingestd.ops.terminal import LiveView, summary
from ingestd.pipeline.flow import Flow
from ingestd.pipeline.status import StatusCollector
from ingestd.pipeline.subscribers import Subscriber
from ingestd.pipeline.watchdog import Watchdog, WatchdogAction
from ingestd.sinks.create_only import require_create_only
from ingestd.sinks.retry import SinkRetrier
from ingestd.verify.findings import VerifyReport
from ingestd.verify.run import VerifyOptions, verify

log = logging.getLogger(__name__)

WATCHDOG_INTERVAL_S = 1.0
VIEW_INTERVAL_S = 0.25
REPORT_INTERVAL_S = 60.0  # between two log lines about progress
COMPRESSION_THREADS = 1  # enough: the event loop takes five times as long per event


def run(settings: Settings) -> int:
    """Run until stopped; returns the exit code. Raises ``IngestdError``."""
    return wiring.run(Daemon(settings).run())


class Daemon:
    """One run."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._config = config = settings.config
        model = load_model(config.events.model)
        self._validator = wiring.make_validator(config, model)
        self._metrics = Metrics()
        self._journal = collector_wiring.make_source_journal(config)
        journal, self._sink = self._journal, wiring.make_sink(config)
        self._source, self._make_flow = wiring.make_stream(config, journal, self._sink)
        self._demo = wiring.make_demo(config, self._source, self._sink, self._validator)
        if self._demo is not None:
            self._sink, self._validator = self._demo.sink, self._demo.validator
        self._retrier = SinkRetrier(config.sink, self._metrics.upload_retried)
        self._notifier = Notifier.from_environment(os.environ)
        self._status = StatusCollector(config, self._source, self._sink.url, self._retrier, self._metrics)
        self._status.values = self._validator.values
        self._metrics.bind(self._status.take)
        self._loop_lag = LoopLag(self._notifier, self._metrics.process.loop_lag)
        self._status.loop_lag = lambda: self._loop_lag.worst
        self._collector = self._make_collector(model)
        self._subscribers = self._make_subscribers(model)
        if self._demo is not None:
            self._demo.page_state.bind(self._status.take)
        self._layout = wiring.make_keys(config)
        self._deadline = Deadline(config.grace)
        self._signals_received = 0
        self._interrupted = False  # by a signal before the stream began
        self._ending: asyncio.Task[None] | None = None  # of the collector
        self._trouble = ""  # what the store or the source failed with when the end came

    def _make_collector(self, model: Model) -> CollectorService | None:
        """The HTTP edge in front of the journal; None where there is none. The shop's is served by the page."""
        if self._journal is None:
            return None
        if self._demo is not None and self._config.has_shop:
            shop, collector = collector_wiring.make_shop(self._config, model, self._metrics.collect, self._journal)
            self._demo.attach_shop(shop)
        else:
            collector = collector_wiring.make_collector(self._config, model, self._metrics.collect, self._journal)
        self._status.collector = collector.status
        return collector

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
        """Run from start to end. Returns the exit code. Raises DeadlineExceeded if it ended with something undone."""
        config, demo, drained, verification = self._config, self._demo, False, None
        async with AsyncExitStack() as stack:
            stack.enter_context(self._signals())
            for subscriber in self._subscribers:
                stack.push_async_callback(self._deadline.close, subscriber.close)
                await subscriber.start()
            if config.health.enabled:
                await self._start_health(stack)
            executor = ThreadPoolExecutor(COMPRESSION_THREADS, thread_name_prefix="compress")
            stack.callback(executor.shutdown, wait=False, cancel_futures=True)
            view = stack.enter_context(self._view())
            stack.push_async_callback(self._deadline.close, self._sink.close)
            await self._start_collector(stack)
            try:
                async with self._deadline.limit() as limit:
                    await self._serve(executor, view)
                    drained = True
                    if demo is not None and config.page.controls:
                        verification = await demo.verify(self._verify, self._status.take())
            except TimeoutError:
                if not limit.expired():
                    raise
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
            outcome = self._outcome(drained=drained, verified=verification.ok if verification is not None else None)
        if outcome.lacks_proof:
            log.error("not verified: the end of the run came before the end of the proof; run `ingestd verify --read`")
        elif outcome.was_interrupted:
            log.warning("interrupted before the stream began%s", outcome.why)
        return outcome.exit_code

    async def _start_collector(self, stack: AsyncExitStack) -> None:
        """Take events from now on: the journal keeps them also while the store is away. Stops the source in between."""
        if (collector := self._collector) is not None:
            stack.push_async_callback(self._deadline.close, collector.close)
            await collector.open()
        stack.push_async_callback(self._deadline.close, self._source.stop)
        if collector is not None:
            stack.push_async_callback(self._deadline.close, collector.stop)
            await collector.start()
            if self._config.source == "collector":
                self._status.source_name = f"collector at http://{collector.address}"

    async def _start_health(self, stack: AsyncExitStack) -> None:
        config, demo = self._config, self._demo
        routes = demo.routes if demo is not None else []
        health = HealthServer(config.health, self._status.take, self._metrics.exposition, routes)
        port = await health.start(take_next=config.page.controls)
        stack.push_async_callback(self._deadline.close, health.stop)
        log.info("health and metrics at http://%s", address(config.health.host, port))
        if demo is not None:
            demo.listens_at(config.health.host, port)

    def _outcome(self, *, drained: bool, verified: bool | None) -> RunOutcome:
        """What was delivered and proven."""
        status, pipeline = self._status.take(), self._status.pipeline
        left = [subscriber.unprocessed for subscriber in self._subscribers] if not drained else []
        return RunOutcome(
            began=self._began,
            interrupted=self._interrupted,
            consumed=status.totals.consumed,
            held_records=pipeline.held_records if pipeline is not None else 0,
            undone=pipeline.undone if pipeline is not None and not drained else "",
            unprocessed=", ".join(filter(None, left)),
            trouble=self._trouble,
            to_verify=self._demo is not None and self._config.page.controls,
            verified=verified,
        )

    async def _serve(self, executor: ThreadPoolExecutor, view: LiveView | None) -> None:
        """Run everything in one task group."""
        config = self._config
        log.info("ingestd %s: %s to %s", __version__, self._status.source_name, self._sink.url)
        async with asyncio.TaskGroup() as group:
            background = [
                group.create_task(self._loop_lag.run(), name="loop lag"),
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

    def _pipeline(self, executor: ThreadPoolExecutor) -> Flow:
        return self._make_flow(
            wiring.FlowParts(self._sink, self._retrier, self._metrics, executor, self._validator, self._landed)
        )

    def _landed(self, key: str) -> None:
        for subscriber in self._subscribers:
            subscriber.landed(key)

    async def _verify(self) -> VerifyReport:
        """Verify the sink as `ingestd verify` does; a local sink's bodies are read, too."""
        options = VerifyOptions(read=parse_sink_url(self._sink.url).kind == "file")
        return await verify(self._settings, options, self._sink, inspection.open_log)

    # -- the end

    @property
    def _began(self) -> bool:
        """Whether the stream has begun: the source was reached, and before it the store."""
        return self._status.pipeline is not None and self._status.pipeline.started.is_set()

    def _signals(self) -> contextlib.AbstractContextManager[None]:
        loop = asyncio.get_running_loop()
        return STOP_SIGNALS.listening(lambda number: loop.call_soon_threadsafe(self._stop, number))

    def _stop(self, number: signal.Signals) -> None:
        """The first signal drains, the second one forces, as does one before the stream began."""
        self._signals_received += 1
        first, grace = self._signals_received == 1, self._config.grace
        if first and self._began and self._status.phase in {"starting", "running", "draining"}:
            log.info("%s: draining for at most %s; send it again to force", number.name, grace)
            self._finish()
            return
        log.info("%s: stopping immediately", number.name)
        self._interrupted = self._interrupted or not self._began
        self._note_trouble()
        self._deadline.force()

    def _finish(self) -> None:
        """End the stream; the rest follows within the grace time. Before it began there is nothing to wait for."""
        self._note_trouble()
        if not self._began:
            self._deadline.force()
        elif self._status.phase in {"starting", "running"}:
            self._status.phase = "draining"
            self._notifier.stopping()
            self._deadline.begin_grace()
            if (values := self._validator.values) is not None:
                values.finish()
            if self._collector is None:
                self._source.finish()
            else:
                self._ending = asyncio.get_running_loop().create_task(self._end_collection(self._collector))

    async def _end_collection(self, collector: CollectorService) -> None:
        """Close the port and answer what is in flight, then end the stream: no event comes after that."""
        try:
            await collector.drain(self._config.grace / 2)
        finally:
            self._source.finish()

    def _note_trouble(self) -> None:
        """Remember what fails now: calls that are cancelled fail no more."""
        status = self._status.take()
        self._trouble = status.sink_error or status.source_error or status.registry_error or self._trouble

    # -- background tasks

    async def _report(self, view: LiveView | None) -> None:
        """Show progress: a live view on a terminal, else one log line a minute."""
        while True:
            if view is not None:
                view.update(self._status.take())
                await asyncio.sleep(VIEW_INTERVAL_S)
            else:
                await asyncio.sleep(REPORT_INTERVAL_S)
                status = self._status.take()
                log.info("progress", extra=_totals_fields(status))
                self._notifier.status(f"{status.totals.landed} rows landed, {len(status.partitions)} partitions")

    async def _watch(self, pipeline: Flow) -> None:
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
        "skipped": totals.skipped,
        "released": totals.released,
        "in_flight": totals.in_flight,
        "objects": totals.objects,
        "lag": sum(partition.lag or 0 for partition in status.partitions),
        "buffered_bytes": status.buffered_bytes,
    }
