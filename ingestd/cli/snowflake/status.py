"""`ingestd snowflake status`: prints the state of the pipe and the loads of the last day."""

import time
from datetime import UTC, datetime, timedelta

import click
import msgspec

from ingestd.cli.flags import JSON, SETTINGS, CommandFlag
from ingestd.cli.output import say, say_document, say_line
from ingestd.cli.snowflake.flags import STAGE
from ingestd.config.load import Settings
from ingestd.config.model import SnowflakeConfig
from ingestd.config.secrets import REDACTION
from ingestd.core.errors import EXIT_PROBLEMS, SnowflakeUnavailable
from ingestd.snowflake import pipe_status
from ingestd.snowflake.connection import Connection, open_connection
from ingestd.snowflake.load_queries import history_since, readable_answer
from ingestd.snowflake.pipe_status import PipeReport
from ingestd.snowflake.table import qualified

WATCH_S = 10.0
HISTORY = timedelta(days=1)


EXAMPLES = """\
examples:
  ingestd snowflake status --config config/production.toml
  ingestd snowflake status --config config/production.toml --watch
"""

FLAGS: list[click.Parameter] = [
    STAGE,
    CommandFlag("--watch", is_flag=True, section="Output", help="repeat the report until Ctrl-C"),
    JSON,
    *SETTINGS,
]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the flags say."""

    json: bool = False
    watch: bool = False


def run(settings: Settings, options: Options) -> int:
    """Print the report; the exit code says whether the pipe is healthy. Errors are ``IngestdError``."""
    snowflake = settings.config.snowflake
    while True:
        try:
            with open_connection(snowflake) as connection:
                report = read_report(connection, snowflake, datetime.now(UTC))
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


def read_report(connection: Connection, snowflake: SnowflakeConfig, now: datetime) -> PipeReport:
    """Read the status of the pipe and its copy history of the last day."""
    pipe = qualified(snowflake, snowflake.pipe)
    answer = connection.execute(pipe_status.query(pipe)).rows
    loads = list(history_since(connection, snowflake, now - HISTORY, now))
    with readable_answer():
        status = pipe_status.parse(str(answer[0][0]) if answer else "")
    return pipe_status.judge(pipe, status, loads, now)
