"""`ingestd verify`: verifies the chains in a sink, and compares them with the group and the log."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import click
import msgspec

from ingestd import inspection, wiring
from ingestd.cli.flags import INSPECTION, JSON, RANGE, SETTINGS, CommandFlag, check_range
from ingestd.cli.output import say, say_document
from ingestd.cli.prepare import one_shot
from ingestd.config.load import Settings
from ingestd.config.model import Config
from ingestd.config.secrets import REDACTION
from ingestd.core.errors import EXIT_PROBLEMS, IngestdError
from ingestd.core.formatting import number
from ingestd.ops import logs
from ingestd.ops.terminal import ProgressBar
from ingestd.verify.findings import VerifyReport
from ingestd.verify.report import text
from ingestd.verify.run import HasProgress, VerifyOptions, many_calls, verify

REFRESH_S = 0.25

EXAMPLES = """\
examples:
  ingestd verify --config config/production.toml
  ingestd verify --config config/production.toml --since 2026-11-01 --until 2026-11-08 --read
  ingestd verify --sink ./data --objects-only --json
"""

FLAGS: list[click.Parameter] = [
    *INSPECTION,
    *RANGE,
    CommandFlag("--read", is_flag=True, section="Selection", help="also read every object: its rows and their sha256"),
    CommandFlag("--objects-only", is_flag=True, section="Selection", help="do not ask Kafka"),
    JSON,
    *SETTINGS,
]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the flags say. Times are Kafka timestamps, in milliseconds."""

    since: int | None = None
    until: int | None = None
    read: bool = False
    objects_only: bool = False
    json: bool = False


def run(settings: Settings, options: Options) -> int:
    """Print the report; the exit code says whether there are problems. Errors are ``IngestdError``."""
    check_range(options.since, options.until)
    try:
        report = wiring.run(_verify(settings, options))
    except ExceptionGroup as group:
        # All calls to one sink fail for the same reason: one error says it.
        raise (_first_error(group) or group) from None
    if options.json:
        say_document(report)
    else:
        say(REDACTION.clean(text(report)))
    return 0 if report.ok else EXIT_PROBLEMS


def _first_error(group: BaseExceptionGroup[BaseException]) -> IngestdError | None:
    """The first error of a group that has nothing but ``IngestdError``; else None."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error if group.split(IngestdError)[1] is None and isinstance(error, IngestdError) else None


async def _verify(settings: Settings, options: Options) -> VerifyReport:
    config = settings.config
    scope = VerifyOptions(
        since=options.since, until=options.until, read=options.read, objects_only=options.objects_only
    )
    sink = wiring.make_sink(many_calls(config), connections=0)
    try:
        return await verify(settings, scope, sink, inspection.open_log, lambda scanner: _progress_bar(scanner, config))
    finally:
        await sink.close()


@asynccontextmanager
async def _progress_bar(scanner: HasProgress, config: Config) -> AsyncIterator[None]:
    """Show the scan's progress on a terminal."""
    if config.log.format == "json" or not sys.stderr.isatty():
        yield
        return
    bar = ProgressBar("days")
    logs.setup(one_shot(config.log), stream=bar.stream)
    task = asyncio.create_task(_draw(scanner, bar))
    try:
        yield
    finally:
        task.cancel()
        bar.stop()
        logs.setup(one_shot(config.log))


async def _draw(scanner: HasProgress, bar: ProgressBar) -> None:
    started = asyncio.get_running_loop().time()
    while True:
        await asyncio.sleep(REFRESH_S)
        done = scanner.progress
        rate = done.objects / (asyncio.get_running_loop().time() - started)
        bar.update(done.days, done.all_days, f"{number(done.objects, 'object')}, {rate:,.0f} a second")
