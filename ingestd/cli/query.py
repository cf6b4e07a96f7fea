"""`ingestd query`: runs one statement on the local warehouse, also while a daemon writes to it."""

import sys
from typing import TYPE_CHECKING

import click
import msgspec

from ingestd.cli.flags import SETTINGS, Accepted, CommandFlag, SettingFlag
from ingestd.cli.output import say
from ingestd.config.load import Settings
from ingestd.config.model import Config
from ingestd.core.errors import ConfigError
from ingestd.core.formatting import clip, number
from ingestd.core.formatting import table as aligned
from ingestd.demo.warehouse import needed_by

if TYPE_CHECKING:
    from ingestd.demo.warehouse.database import QueryResult

_LIMIT = 10_000  # rows
_CELL_WIDTH = 60  # characters, in a table


EXAMPLES = """\
examples:
  ingestd query "SELECT COUNT(*) FROM marketing_events
    WHERE event_timestamp >= DATEADD(minute, -5, CURRENT_TIMESTAMP())"
  ingestd query "SELECT * FROM client_scores ORDER BY propensity DESC LIMIT 10"
  ingestd query "SELECT * FROM load_history WHERE status = 'LOAD_FAILED'" --json
"""


def _utf8(text: str) -> str:
    text.encode()  # fails for the bytes of a command line that are not UTF-8
    return text


FLAGS: list[click.Parameter] = [
    click.Argument(["sql"], metavar="SQL", type=Accepted(_utf8, "UTF-8 text"), help="a statement that only reads"),
    SettingFlag(
        "--warehouse-file", "FILE", "warehouse.path", "the file of the warehouse", section="Warehouse",
        completes="file",
    ),
    CommandFlag("--json", is_flag=True, section="Output", help="print rows as JSON lines"),
    *SETTINGS,
]  # fmt: skip


class Options(msgspec.Struct, frozen=True):
    """What the flags say."""

    sql: str
    json: bool = False


def run(settings: Settings, options: Options) -> int:
    """Print the rows. Raises ConfigError where there is no warehouse, WarehouseError where it refuses the statement."""
    with needed_by("ingestd query"):
        result = answered(settings.config, options.sql)
    if options.json:
        for row in result.rows:
            say(msgspec.json.encode(dict(zip(result.columns, row, strict=True))).decode() + "\n")
    else:
        say(table(result))
    if result.truncated:
        sys.stderr.write(f"ingestd: these are the first {number(_LIMIT, 'row')}; narrow the query to see all rows\n")
    return 0


def answered(config: Config, sql: str) -> "QueryResult":
    """The answer of the daemon that has the file open, or else of the file."""
    from ingestd.demo.warehouse.database import COMMAND_TIMEOUT_S  # noqa: PLC0415
    from ingestd.demo.warehouse.location import warehouse_file  # noqa: PLC0415
    from ingestd.demo.warehouse.process import WarehouseProcess  # noqa: PLC0415
    from ingestd.demo.warehouse.query_server import QueryRequest, query_daemon  # noqa: PLC0415

    path, request = warehouse_file(config), QueryRequest(sql, _LIMIT)
    if (result := query_daemon(path, request)) is not None:
        return result
    warehouse = WarehouseProcess(path, config.snowflake)
    try:
        warehouse.open_for_reading()
    except ConfigError:
        if (result := query_daemon(path, request)) is not None:  # a daemon has started meanwhile
            return result
        raise
    try:
        return warehouse.query(sql, _LIMIT, COMMAND_TIMEOUT_S)
    finally:
        warehouse.close()


def table(result: "QueryResult") -> str:
    """The rows as text, with numbers aligned to the right."""
    columns = range(len(result.columns))
    left = [i for i in columns if not all(isinstance(row[i], int | float | None) for row in result.rows)]
    cells = [[_text(value) for value in row] for row in (result.columns, *result.rows)]
    lines = aligned(cells, left=left, ruled=True)
    return "\n".join([*lines, f"({number(len(result.rows), 'row')})", ""])


def _text(value: object) -> str:
    if value is None:
        return "NULL"
    return clip(str(value).lower() if isinstance(value, bool) else str(value), _CELL_WIDTH)
