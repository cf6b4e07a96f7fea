"""`ingestd snowflake reconcile`: compares the objects of a range of time with the files that Snowflake has loaded."""

import asyncio
from datetime import UTC, datetime, timedelta

import click
import msgspec

from ingestd import wiring
from ingestd.cli.flags import JSON, RANGE, SETTINGS, check_range
from ingestd.cli.output import say, say_document
from ingestd.cli.snowflake.flags import STAGE
from ingestd.config.load import Settings
from ingestd.config.model import Config
from ingestd.config.secrets import REDACTION
from ingestd.config.types import Seconds
from ingestd.core.errors import EXIT_PROBLEMS
from ingestd.core.events import load_model
from ingestd.sinks.base import Sink
from ingestd.sinks.retry import SinkRetrier
from ingestd.snowflake import copy_history, reconcile
from ingestd.snowflake.connection import Connection, open_connection
from ingestd.snowflake.load_queries import history_since, readable_answer
from ingestd.snowflake.objects import AT_ONCE, DAY_MS, EPOCH, Objects
from ingestd.snowflake.pipe import copy
from ingestd.snowflake.reconcile import ReconcileReport, Reconciliation, StageScope
from ingestd.snowflake.stage_location import stage_location
from ingestd.snowflake.table import FILE_NAME, columns_of, literal, qualified

DEFAULT_RANGE = timedelta(days=13)  # Snowflake keeps the load history for 14 days
RETRY_MAX_S = 5.0  # between two attempts: the command gives up after a minute


EXAMPLES = """\
examples:
  ingestd snowflake reconcile --config config/production.toml
  ingestd snowflake reconcile --config config/production.toml --since 2026-11-01
"""

FLAGS: list[click.Parameter] = [STAGE, *RANGE, JSON, *SETTINGS]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the flags say. Times are Kafka timestamps, in milliseconds."""

    since: int | None = None
    until: int | None = None
    json: bool = False


def run(settings: Settings, options: Options) -> int:
    """Print the report; the exit code says whether there are problems. Errors are ``IngestdError``."""
    check_range(options.since, options.until)
    report = wiring.run(_reconcile(settings.config, options))
    if options.json:
        say_document(report)
    else:
        say(REDACTION.clean(reconcile.text(report)))
    return 0 if report.ok else EXIT_PROBLEMS


async def _reconcile(config: Config, options: Options) -> ReconcileReport:
    stage = stage_of(config)
    sink = wiring.make_sink(_many_calls(config), connections=0)
    connection = await asyncio.to_thread(open_connection, config.snowflake)
    try:
        return await compare(config, options, connection, sink, stage)
    finally:
        await sink.close()
        await asyncio.to_thread(connection.close)


async def compare(
    config: Config, options: Options, connection: Connection, sink: Sink, stage: StageScope
) -> ReconcileReport:
    """Compare objects with loads. `sink` is not started, because that would prepare it for writing."""
    now = datetime.now(UTC)
    start = options.since if options.since is not None else _milliseconds(now - DEFAULT_RANGE)
    # Loads come after their records, but clocks differ and producers can set any timestamp.
    since = max(EPOCH + timedelta(milliseconds=max(0, start - DAY_MS)), now - copy_history.HISTORY_AGE)
    # Before the objects are listed, so that the listing contains every loaded object.
    states = await asyncio.to_thread(_load_states, config, connection, stage, since, now)
    reconciliation = Reconciliation(states, now=now, late_s=config.snowflake.late, since=since)
    retrier = SinkRetrier(_many_calls(config).sink, effect="retrying")
    async for item in Objects(sink, retrier, wiring.make_keys(config), start, options.until).each():
        reconciliation.add(item)
    if keys := reconciliation.keys_to_count():
        reconciliation.apply_row_counts(await asyncio.to_thread(_count_rows, connection, stage, keys))
    return reconciliation.report(sink.url, stage, complete=options.since is None and options.until is None)


def _load_states(
    config: Config, connection: Connection, stage: StageScope, since: datetime, now: datetime
) -> dict[str, copy_history.FileLoadState]:
    with readable_answer():
        return copy_history.load_states(
            history_since(connection, config.snowflake, since, now), stage.root, stage.events
        )


def stage_of(config: Config) -> StageScope:
    """The stage, table and pipe in the form of SQL statements. Raises ConfigError where the sink is not a bucket."""
    location, snowflake = stage_location(config), config.snowflake
    return StageScope(
        table=qualified(snowflake, snowflake.table),
        pipe=qualified(snowflake, snowflake.pipe),
        root=location.root,
        events=location.events.removeprefix(location.root),
        copy=copy(snowflake, columns_of(config, load_model(config.events.model)), "select"),
    )


def _count_rows(connection: Connection, stage: StageScope, keys: list[str]) -> dict[str, int]:
    """Count the rows of each object in the table."""
    found: dict[str, int] = {}
    for batch in reconcile.batches(keys):
        names = ", ".join(literal(stage.root + key) for key in batch)
        # The configuration has checked the names; the keys are escaped.
        sql = f"SELECT {FILE_NAME}, COUNT(*) FROM {stage.table} WHERE {FILE_NAME} IN ({names}) GROUP BY 1"  # noqa: S608
        rows = connection.execute(sql).rows
        found |= {str(name).removeprefix(stage.root): int(count) for name, count in rows}
    return found


def _milliseconds(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(milliseconds=1)


def _many_calls(config: Config) -> Config:
    """The configuration with as many parallel calls as a batch of objects needs."""
    replace = msgspec.structs.replace
    retry_max = Seconds(min(config.sink.retry_max, RETRY_MAX_S))
    return replace(config, sink=replace(config.sink, concurrency=AT_ONCE, retry_max=retry_max))
