"""`ingestd query`: one question to the local warehouse, whether a daemon fills it at the moment or not."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ingestd.cli.output import say
from ingestd.config.load import Settings
from ingestd.config.model import Config
from ingestd.core.errors import ConfigError
from ingestd.core.formatting import clean, number
from ingestd.demo.warehouse import needed_by

if TYPE_CHECKING:
    from ingestd.demo.warehouse.database import QueryResult

_LIMIT = 10_000  # rows
_WIDEST = 60  # characters of a cell, for a person


class Options(msgspec.Struct, frozen=True):
    """Named after the flags."""

    sql: str
    json: bool = False


def run(settings: Settings, options: Options) -> int:
    """Print the rows. Errors: ``ConfigError`` where there is no warehouse, ``WarehouseError`` where it refuses."""
    with needed_by("ingestd query"):
        result = answered(settings.config, options.sql)
    if options.json:
        for row in result.rows:
            say(msgspec.json.encode(dict(zip(result.columns, row, strict=True))).decode() + "\n")
    else:
        say(table(result))
    if result.truncated:
        sys.stderr.write(f"ingestd: these are the first {number(_LIMIT, 'row')}; ask for less to see all\n")
    return 0


def answered(config: Config, sql: str) -> "QueryResult":
    """From the daemon that has the file open, or else from the file."""
    from ingestd.demo.warehouse.database import COMMAND_TIMEOUT_S, Warehouse  # noqa: PLC0415
    from ingestd.demo.warehouse.query_server import QueryRequest, query_daemon  # noqa: PLC0415

    path, request = Path(config.warehouse.path), QueryRequest(sql, _LIMIT)
    if (result := query_daemon(path, request)) is not None:
        return result
    warehouse = Warehouse(path, config.snowflake)
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
    """As text, numbers to the right."""
    lines = [[_text(value) for value in row] for row in result.rows]
    widths = [max(map(len, column)) for column in zip(map(_text, result.columns), *lines, strict=True)]
    right = [all(isinstance(row[i], int | float | None) for row in result.rows) for i in range(len(widths))]
    ruled = [[_text(name) for name in result.columns], ["-" * width for width in widths], *lines]
    text = "".join(
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(line, widths, right, strict=True)
        ).rstrip()
        + "\n"
        for line in ruled
    )
    return f"{text}({number(len(lines), 'row')})\n"


def _text(value: object) -> str:
    if value is None:
        return "NULL"
    text = clean(str(value).lower() if isinstance(value, bool) else str(value))
    return text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "…"
