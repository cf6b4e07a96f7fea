"""`ingestd snowflake status`: says how the pipe is."""

import time
from datetime import UTC, datetime, timedelta

import msgspec

from ingestd.cli.output import say, say_document, say_line
from ingestd.config.load import Settings
from ingestd.config.model import SnowflakeConfig
from ingestd.config.secrets import REDACTION
from ingestd.core.errors import EXIT_PROBLEMS, SnowflakeUnavailable
from ingestd.snowflake import pipe_status
from ingestd.snowflake.connection import Connection, open_connection
from ingestd.snowflake.load_queries import loaded_since, understood
from ingestd.snowflake.pipe_status import PipeReport
from ingestd.snowflake.table import qualified

WATCH_S = 10.0
LOOKED_BACK = timedelta(days=1)


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """Its flags."""

    json: bool = False
    watch: bool = False


def run(settings: Settings, options: Options) -> int:
    """Print the report; the exit code says whether the pipe is healthy. Errors are ``IngestdError``."""
    snowflake = settings.config.snowflake
    while True:
        try:
            with open_connection(snowflake) as connection:
                report = ask(connection, snowflake, datetime.now(UTC))
        except SnowflakeUnavailable as error:
            if not options.watch:
                raise
            say_line("", str(error))
        else:
            _show(report, options)
            if not options.watch:
                return EXIT_PROBLEMS if report.problems else 0
        time.sleep(WATCH_S)


def _show(report: PipeReport, options: Options) -> None:
    if options.json:
        say_document(report)
    else:
        say(REDACTION.clean(pipe_status.text(report)) + ("\n" if options.watch else ""))


def ask(connection: Connection, snowflake: SnowflakeConfig, now: datetime) -> PipeReport:
    """What the pipe says of itself, and the history of its last day."""
    pipe = qualified(snowflake, snowflake.pipe)
    answer = connection.execute(pipe_status.query(pipe)).rows
    loads = list(loaded_since(connection, snowflake, now - LOOKED_BACK, now))
    with understood():
        status = pipe_status.parse(str(answer[0][0]) if answer else "")
    return pipe_status.judge(pipe, status, loads, now)
