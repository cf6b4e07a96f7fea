"""The pipe and its COPY, in two styles. Pure."""

import re
from collections.abc import Iterable, Sequence
from typing import Literal

from ingestd.config.model import SnowflakeConfig
from ingestd.snowflake.table import (
    FILE_NAME,
    FILE_ROW_NUMBER,
    LOADED_AT,
    Column,
    identifier,
    is_reserved,
    literal,
    qualified,
)

Style = Literal["select", "match"]

_METADATA = {
    FILE_NAME: "METADATA$FILENAME",
    FILE_ROW_NUMBER: "METADATA$FILE_ROW_NUMBER",
    # Not CURRENT_TIMESTAMP: a pipe may evaluate it hours before the load.
    LOADED_AT: "METADATA$START_SCAN_TIME",
}
STYLES: dict[Style, str] = {
    "select": (
        "Style select, as in the guide: each column is named and cast, and loaded_at is UTC.\n"
        "Disadvantages: VALIDATE_PIPE_LOAD does not support it, and a new field of the model is loaded only after the "
        "pipe was replaced."
    ),
    "match": (
        "Style match: each key of a row is loaded into the column of the same name, so a new field of the model is "
        "loaded as soon as the table has its column, and VALIDATE_PIPE_LOAD works.\n"
        "Disadvantages: loaded_at is in the account's time zone instead of UTC, because this style cannot convert "
        "values; keys without a column are dropped silently; if no key has a column, all values are NULL, and the "
        "NOT NULL of event_id rejects the row."
    ),
}
CHANGING = (
    "An existing pipe is not changed. A replaced pipe no longer knows which files were loaded. To replace it safely: "
    "set PIPE_EXECUTION_PAUSED = TRUE, wait until SYSTEM$PIPE_STATUS shows pendingFileCount 0, then run CREATE OR "
    "REPLACE PIPE. Afterwards run `ingestd snowflake reconcile`, which lists the files that were missed. Do not use a "
    "plain ALTER PIPE ... REFRESH instead: it processes all files of the last seven days again."
)


def file_format_name(snowflake: SnowflakeConfig) -> str:
    """The qualified name of the file format."""
    return qualified(snowflake, f"{snowflake.table}_JSON")


def errors_name(snowflake: SnowflakeConfig) -> str:
    """The name of the notification integration."""
    return f"{snowflake.integration}_ERRORS"


def create_pipe(snowflake: SnowflakeConfig, columns: Sequence[Column], style: Style) -> str:
    """The statement that creates the pipe if it does not exist."""
    options = [f"AUTO_INGEST = {'TRUE' if snowflake.delivery == 'notification' else 'FALSE'}"]
    if snowflake.error_topic_arn:
        options.append(f"ERROR_INTEGRATION = {errors_name(snowflake)}")
    options.append(f"COMMENT = {literal('Loads each object of events once')}")
    lines = "\n    ".join(options)
    pipe = qualified(snowflake, snowflake.pipe)
    return f"CREATE PIPE IF NOT EXISTS {pipe}\n    {lines}\nAS\n{copy(snowflake, columns, style)}"


def copy(snowflake: SnowflakeConfig, columns: Sequence[Column], style: Style) -> str:
    """The COPY INTO that the pipe runs for each new file."""
    table, stage = qualified(snowflake, snowflake.table), qualified(snowflake, snowflake.stage)
    file_format = f"FILE_FORMAT = (FORMAT_NAME = {literal(file_format_name(snowflake))})"
    if style == "match":
        metadata = ",\n    ".join(f"{name} = {source}" for name, source in _METADATA.items())
        return (
            f"COPY INTO {table}\nFROM @{stage}\n{file_format}\n"
            f"MATCH_BY_COLUMN_NAME = CASE_INSENSITIVE\nINCLUDE_METADATA = (\n    {metadata}\n)"
        )
    names = _lines((identifier(column.name) for column in columns), "    ")
    values = _lines(map(_value, columns), "        ")
    return f"COPY INTO {table} (\n{names}\n)\nFROM (\n    SELECT\n{values}\n    FROM @{stage}\n)\n{file_format}"


def _lines(items: Iterable[str], indent: str) -> str:
    return ",\n".join(indent + item for item in items)


def _value(column: Column) -> str:
    """A column's expression in the SELECT."""
    if not column.path:
        source = _METADATA[column.name]
        return f"CONVERT_TIMEZONE('UTC', {source})::TIMESTAMP_NTZ" if column.name == LOADED_AT else source
    path = column.path
    if not re.fullmatch(r"[A-Za-z_]\w*", path, re.ASCII) or is_reserved(path):
        path = '"' + path.replace('"', '""') + '"'
    return f"$1:{path}{_cast(column.type)}"


def _cast(kind: str) -> str:
    """Text is cast without its length: a cast would cut it, while the column rejects it."""
    if kind == "VARIANT":
        return ""
    return f"::{re.sub(r'^VARCHAR.*', 'STRING', kind).removesuffix('(6)')}"
