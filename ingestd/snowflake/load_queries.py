"""Asks Snowflake what it has loaded. Blocks."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from ingestd.config.model import SnowflakeConfig
from ingestd.core.errors import SnowflakeRefused
from ingestd.snowflake import copy_history
from ingestd.snowflake.connection import Connection, open_connection


def loaded_since(
    connection: Connection, settings: SnowflakeConfig, since: datetime, now: datetime
) -> Iterator[copy_history.CopiedFile]:
    """The history of the table, as far back as it goes; what lies between two questions comes twice. Errors:
    ``SnowflakeError``.
    """
    for start, end in copy_history.slices(since, now):
        yield from _loaded(connection, settings, start, end)


def ask_once(settings: SnowflakeConfig, start: datetime, end: datetime) -> list[copy_history.CopiedFile]:
    """The history of some time, over a connection of its own. Errors: ``SnowflakeError``, ``ConfigError``."""
    with open_connection(settings) as connection:
        return _loaded(connection, settings, start, end)


def _loaded(
    connection: Connection, settings: SnowflakeConfig, start: datetime, end: datetime
) -> list[copy_history.CopiedFile]:
    answer = connection.execute(copy_history.query(settings, start, end))
    with understood():
        return copy_history.loads(answer)


@contextmanager
def understood() -> Iterator[None]:
    """An answer that cannot be read, as an error of Snowflake's."""
    try:
        yield
    except ValueError as error:
        raise SnowflakeRefused(str(error), code="answer", hint="please report it, with the answer") from None
