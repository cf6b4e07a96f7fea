"""`ingestd verify`: walks the chains in a sink and compares them with the group and the log."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from ingestd import wiring
from ingestd.cli.output import say, say_document
from ingestd.config.load import Settings
from ingestd.config.model import Config, Seconds
from ingestd.config.secrets import REDACTION
from ingestd.core.errors import EXIT_PROBLEMS, ConfigError, IngestdError, SinkForbidden, SourceError
from ingestd.core.formatting import number
from ingestd.core.object_keys import ObjectKeys
from ingestd.ops import logs
from ingestd.ops.terminal import ProgressBar
from ingestd.sinks.base import Sink
from ingestd.sinks.retry import SinkRetrier
from ingestd.verify.body_verifier import BodyVerifier
from ingestd.verify.chains import Audit, Scope
from ingestd.verify.findings import VerifyFinding, VerifyReport
from ingestd.verify.reconcile import Rules, View, outgrown, reconcile
from ingestd.verify.report import Asked, conclude, text
from ingestd.verify.scanner import LISTERS, LOOKERS, PATIENCE, Scanner

RETRY_MAX = 5.0  # seconds between two tries: a command gives up after a minute
REFRESH = 0.25  # seconds


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """Its flags. Times are Kafka timestamps, milliseconds."""

    since: int | None = None
    until: int | None = None
    read: bool = False
    objects_only: bool = False
    json: bool = False


def run(settings: Settings, options: Options) -> int:
    """Print the report; the exit code says whether there are problems. Errors are ``IngestdError``."""
    if options.since is not None and options.until is not None and options.since >= options.until:
        raise ConfigError("--since is not before --until")
    try:
        report = wiring.run(_verify(settings, options))
    except ExceptionGroup as group:
        # All who wait for the same store fail for the same reason: one of them is enough.
        raise (_first(group) or group) from None
    if options.json:
        say_document(report)
    else:
        say(REDACTION.clean(text(report)))
    return 0 if report.ok else EXIT_PROBLEMS


def _first(group: BaseExceptionGroup[BaseException]) -> IngestdError | None:
    """One of its errors where all of them are ours."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error if group.split(IngestdError)[1] is None and isinstance(error, IngestdError) else None


async def _verify(settings: Settings, options: Options) -> VerifyReport:
    config = settings.config
    sink = wiring.make_sink(_many_calls(config), connections=0)
    try:
        return await verify(settings, options, sink)
    finally:
        await sink.close()


async def verify(settings: Settings, options: Options, sink: Sink) -> VerifyReport:
    """Walk the chains in `sink`, which is not started: to start one is to prepare it for writing."""
    config = settings.config
    layout = ObjectKeys(config.sink.lineage, exactly_once=config.sink.delivery == "exactly-once")
    compared = config.source == "kafka" and not options.objects_only and options.until is None
    scope = Scope(topics=_topics(settings, options), since=options.since, until=options.until)
    guard = SinkRetrier(_many_calls(config).sink, lambda _: None)
    await _try(sink, guard, layout)
    # Before anything is listed: what is committed by now is there to be listed.
    view = await _ask_kafka(config) if compared else None
    audit = Audit(layout, scope, view.commits if view is not None else {})
    reading = BodyVerifier(sink, guard, audit, PATIENCE + config.s3.put_timeout) if options.read else None
    walk = Scanner(sink, guard, audit, reading=reading)
    async with _shown(walk, config):
        await walk.run()
    if view is not None:
        rules = Rules(
            mark=layout.mark(sink.url), earliest=config.kafka.start == "earliest", exactly_once=layout.exactly_once
        )
        reconcile(audit, view, await _ask_again(config, audit, view), rules)
    asked = Asked(
        sink=sink.url,
        lineage=config.sink.lineage,
        delivery=config.sink.delivery,
        group=config.kafka.group_id if compared else None,
        read=options.read,
        days=walk.progress.all_days,
    )
    return conclude(audit, view, asked)


async def _try(sink: Sink, guard: SinkRetrier, layout: ObjectKeys) -> None:
    """Look whether the store lets us in. A refusal at the beginning does not pass; later, one may."""

    async def look() -> SinkForbidden | None:
        try:
            await sink.folders(layout.events)
        except SinkForbidden as error:
            return error
        return None

    if (refused := await guard.call_briefly(look, patience_s=PATIENCE)) is not None:
        raise refused


def _topics(settings: Settings, options: Options) -> frozenset[str] | None:
    """Which topics are looked at: all that are found, where Kafka is not asked and nobody has named any."""
    config, origins = settings
    if (options.objects_only or config.source != "kafka") and origins["kafka.topics"] == "default":
        return None
    return frozenset(config.kafka.topics)


def _many_calls(config: Config) -> Config:
    """The same with as many calls at once as a walk makes."""
    replace = msgspec.structs.replace
    retry_max = Seconds(min(config.sink.retry_max, RETRY_MAX))
    return replace(config, sink=replace(config.sink, concurrency=LOOKERS + LISTERS, retry_max=retry_max))


async def _ask_kafka(config: Config) -> View:
    async with wiring.open_inspector(config) as reader:
        commits = await reader.committed(reader.partitions)
        logs = await reader.log_ranges(reader.partitions)
        return View(cluster=reader.cluster_id, commits=commits, logs=logs)


async def _ask_again(config: Config, audit: Audit, view: View) -> View | None:
    """What Kafka says now, where the chain has come further than it knew; None where it is not needed, or not there."""
    if not outgrown(audit, view):
        return None
    try:
        return await _ask_kafka(config)
    except SourceError as error:
        audit.notes.add(VerifyFinding(code="not_asked_again", message=str(error)))
        return None


@asynccontextmanager
async def _shown(walk: Scanner, config: Config) -> AsyncIterator[None]:
    """Show how far the walk is, where a person looks on."""
    if config.log.format == "json" or not sys.stderr.isatty():
        yield
        return
    bar = ProgressBar("days")
    logs.setup(config.log, stream=bar.stream)
    task = asyncio.create_task(_draw(walk, bar))
    try:
        yield
    finally:
        task.cancel()
        bar.stop()
        logs.setup(config.log)


async def _draw(walk: Scanner, bar: ProgressBar) -> None:
    began = asyncio.get_running_loop().time()
    while True:
        await asyncio.sleep(REFRESH)
        done = walk.progress
        rate = done.objects / (asyncio.get_running_loop().time() - began)
        bar.update(done.days, done.all_days, f"{number(done.objects, 'object')}, {rate:,.0f} a second")
