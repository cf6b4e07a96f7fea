"""The composition root: makes the parts, runs them, and ends them in order.

A stop is the end of the stream flowing downstream: the source ends, open batches are sealed, what is held lands, its
commits go out, the group is left, the sink closes, and the health server last. A second signal, or the end of the grace
time, forces.
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

import msgspec

from ingestd import __version__, wiring
from ingestd.cli.verify import Options, verify
from ingestd.config.load import Settings
from ingestd.core.errors import EXIT_PROBLEMS, DeadlineExceeded, SourceError
from ingestd.core.events import Model, load_model
from ingestd.core.validation import Validator
from ingestd.ops import logs
from ingestd.ops.gc_tuning import calm_collector
from ingestd.ops.health import HealthServer
from ingestd.ops.metrics import Metrics
from ingestd.ops.readiness import Status
from ingestd.ops.systemd import Notifier
from ingestd.ops.terminal import LiveView, summary
from ingestd.pipeline.ingest import Pipeline
from ingestd.pipeline.partition_writer import Dependencies
from ingestd.pipeline.status import StatusCollector
from ingestd.pipeline.subscribers import Subscriber
from ingestd.pipeline.watchdog import Verdict, Watchdog
from ingestd.sinks.create_only import require_create_only
from ingestd.sinks.retry import SinkRetrier
from ingestd.verify.findings import VerifyReport

log = logging.getLogger(__name__)

WATCH = 1.0  # seconds between two looks at the source's progress
LEAVE = 2.0  # seconds that are left for leaving the group when we are forced
BEAT = 0.25  # seconds between two looks at the loop's lag
REPORT = 60.0  # seconds between two log lines that tell of progress
COMPRESSORS = 1  # threads; it keeps up with the event loop, which takes five times as long for an event


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
        self._stage = wiring.make_stage(config, self._source, self._sink)
        if self._stage is not None:
            self._sink, self._validator = self._stage.sink, self._stage.validator
        self._guard = SinkRetrier(config.sink, self._metrics.upload_retried)
        self._notifier = Notifier.from_environment(os.environ)
        self._snapshots = StatusCollector(config, self._source, self._sink.url, self._guard, self._metrics)
        self._metrics.bind(self._snapshots.take)
        self._followers = self._make_followers(model)
        if self._stage is not None:
            self._stage.page_state.bind(self._snapshots.take)
        self._layout = wiring.make_layout(config)
        self._deadline: asyncio.Timeout | None = None

    def _make_followers(self, model: Model) -> list[Subscriber]:
        """What goes along with the flow, and those who show how it is."""
        found: list[Subscriber] = []
        if (pipe := wiring.make_pipe(self._config, model, self._sink)) is not None:
            found.append(pipe)
            if self._stage is not None:
                self._stage.attach_table(pipe.state, pipe.warehouse)
        confirmation = wiring.make_confirmation(self._config, self._sink, self._guard, self._metrics)
        if confirmation is not None:
            found.append(confirmation)
            self._snapshots.loading = confirmation.state
        return found

    async def run(self) -> int:
        """From start to end; the exit code. DeadlineExceeded where the grace time ended with data undelivered."""
        config, stage, proof = self._config, self._stage, None
        async with AsyncExitStack() as stack:
            for follower in self._followers:
                stack.push_async_callback(follower.close)
                await follower.start()
            if config.health.enabled:
                routes = stage.routes if stage is not None else None
                health = HealthServer(config.health, self._snapshots.take, self._metrics.exposition, routes)
                port = await health.start()
                stack.push_async_callback(health.stop)
                log.info("health and metrics at http://%s:%d", config.health.host, port)
                if stage is not None:
                    log.info("live page at http://%s:%d/", config.health.host, port)
            executor = ThreadPoolExecutor(COMPRESSORS, thread_name_prefix="compress")
            stack.callback(executor.shutdown, wait=False, cancel_futures=True)
            stack.enter_context(self._signals())
            view = stack.enter_context(self._view())
            stack.push_async_callback(self._sink.close)
            stack.push_async_callback(self._leave)
            self._deadline = deadline = asyncio.timeout(None)
            try:
                async with deadline:
                    await self._serve(executor, view)
                    if stage is not None and config.page.controls:
                        proof = await stage.verify(self._verify, self._metrics.totals())
            except TimeoutError:
                if not deadline.expired():
                    raise
                self._undelivered()
            finally:
                self._snapshots.phase = "stopped"
                status = self._snapshots.take()
                log.info("stopped", extra=_facts(status))
                if stage is not None:
                    stage.end(status)
                if view is not None:
                    view.stop()
                    sys.stdout.write(summary(status, config, self._sink.url))
                    if proof is not None:
                        sys.stdout.write(f"\n{proof.text()}")
        return EXIT_PROBLEMS if proof is not None and not proof.ok else 0

    async def _serve(self, executor: ThreadPoolExecutor, view: LiveView | None) -> None:
        """Everything that runs, in one group."""
        config = self._config
        log.info("ingestd %s: %s to %s", __version__, self._snapshots.source_name, self._sink.url)
        async with asyncio.TaskGroup() as group:
            beside = [
                group.create_task(self._beat(), name="beat"),
                group.create_task(self._report(view), name="report"),
            ]
            self._notifier.ready()
            if self._stage is not None:
                beside.append(group.create_task(self._stage.run(), name="page"))
            if config.duration is not None:
                asyncio.get_running_loop().call_later(config.duration, self._finish)
            await self._guard.call(self._sink.start)
            if self._layout.exactly_once:
                await require_create_only(self._sink, self._guard)
            beside += [group.create_task(follower.run(), name=type(follower).__name__) for follower in self._followers]
            pipeline = self._pipeline(executor)
            self._snapshots.pipeline = pipeline
            beside.append(group.create_task(self._watch(pipeline), name="watchdog"))
            with calm_collector():
                await pipeline.run()
            for follower in self._followers:
                await follower.settled()
            for task in beside:
                task.cancel()

    def _pipeline(self, executor: ThreadPoolExecutor) -> Pipeline:
        config = self._config
        tools = Dependencies(
            source=self._source,
            sink=self._sink,
            guard=self._guard,
            metrics=self._metrics,
            executor=executor,
            wall_clock=time.time,
            landed=self._landed,
        )
        return wiring.make_pipeline(config, tools, self._validator)

    def _landed(self, key: str) -> None:
        for follower in self._followers:
            follower.landed(key)

    async def _verify(self) -> VerifyReport:
        """As `ingestd verify` does, without its bar that shows progress: the terminal has its table."""
        replace, (config, origins) = msgspec.structs.replace, self._settings
        quiet = Settings(replace(config, log=replace(config.log, format="json")), origins)
        return await verify(quiet, Options(read=self._sink.url.startswith("file:")), self._sink)

    # -- the end

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """The first signal drains, the second forces."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, number)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    def _stop(self, number: signal.Signals) -> None:
        """The first signal ends the stream, within the grace time; a second one, or one before it began, ends all."""
        if self._snapshots.phase == "running":
            log.info("%s: landing what is held, for at most %s; once more to force", number.name, self._config.grace)
        else:
            log.info("%s: stopping at once", number.name)
            self._end_by(asyncio.get_running_loop().time())
        self._finish()

    def _finish(self) -> None:
        """End the stream; the rest follows, within the grace time. Where it has not begun, nothing is waited for."""
        if self._snapshots.phase == "running":
            self._snapshots.phase = "draining"
            self._notifier.stopping()
            self._end_by(asyncio.get_running_loop().time() + self._config.grace)
            self._source.finish()
        elif self._snapshots.phase == "starting":
            self._end_by(asyncio.get_running_loop().time())

    def _end_by(self, when: float) -> None:
        if self._deadline is not None and not self._deadline.expired():
            self._deadline.reschedule(when)

    async def _leave(self) -> None:
        """Leave the group, for as long as that takes, but when we are forced."""
        forced = self._deadline is not None and self._deadline.expired()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LEAVE if forced else None):
                await self._source.stop()

    def _undelivered(self) -> None:
        held = self._metrics.totals().in_flight
        if held:
            raise DeadlineExceeded(
                f"stopped with {held} records undelivered", hint="nothing is lost: they will be read again"
            )

    # -- beside the flow

    async def _beat(self) -> None:
        """Measure how late the loop wakes a sleeper, and tell the service manager that it does."""
        loop = asyncio.get_running_loop()
        told = loop.time()
        while True:
            before = loop.time()
            await asyncio.sleep(BEAT)
            lag = max(0.0, loop.time() - before - BEAT)
            self._metrics.loop_lag(lag)
            self._snapshots.loop_lag = max(lag, self._snapshots.loop_lag * 0.9)
            interval = self._notifier.watchdog_interval
            if interval is not None and loop.time() - told >= interval:
                self._notifier.watchdog()
                told = loop.time()

    async def _report(self, view: LiveView | None) -> None:
        """Show progress: live on a terminal, else a line a minute."""
        while True:
            if view is not None:
                view.update(self._snapshots.take())
                await asyncio.sleep(BEAT)
            else:
                await asyncio.sleep(REPORT)
                status = self._snapshots.take()
                log.info("progress", extra=_facts(status))
                self._notifier.status(f"{status.totals.landed} rows landed, {len(status.partitions)} partitions")

    async def _watch(self, pipeline: Pipeline) -> None:
        """Rebuild a source that is stuck; give up where that does not help, so that a supervisor begins anew."""
        await pipeline.started.wait()
        if self._snapshots.phase == "starting":
            self._snapshots.phase = "running"
        watchdog = Watchdog(self._config.kafka.progress_timeout)
        while True:
            await asyncio.sleep(WATCH)
            verdict = watchdog.judge(pipeline.longest_wait(), pipeline.progress)
            if verdict is Verdict.REBUILD:
                log.error("no record has come for too long although there are some: rebuilding the source")
                self._metrics.source_restarted()
                await self._source.rebuild()
            elif verdict is Verdict.GIVE_UP:
                raise SourceError("the source makes no progress, and rebuilding it did not help", hint="restart")

    @contextlib.contextmanager
    def _view(self) -> Iterator[LiveView | None]:
        """The live table where a person looks on, and the summary at the end."""
        config = self._config
        if config.log.format == "json" or not sys.stderr.isatty():
            yield None
            return
        view = LiveView(config)
        logs.setup(config.log, quiet_console=True, stream=view.stream)
        view.start()
        try:
            yield view
        finally:
            view.stop()
            logs.setup(config.log)


def _facts(status: Status) -> dict[str, object]:
    """What a log line says of the whole."""
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
