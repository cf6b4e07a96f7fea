"""Queries Snowflake's copy history. Blocks."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from ingestd.config.model import SnowflakeConfig
from ingestd.core.errors import SnowflakeRefused
from ingestd.snowflake import copy_history
from ingestd.snowflake.connection import Connection, open_connection


def history_since(
    connection: Connection, settings: SnowflakeConfig, since: datetime, now: datetime
) -> Iterator[copy_history.CopiedFile]:
    """Query the history since a time. A load at the border of two slices comes twice. Raises ``SnowflakeError``."""
    for start, end in copy_history.slices(since, now):
        yield from _loaded(connection, settings, start, end)


def query_history(settings: SnowflakeConfig, start: datetime, end: datetime) -> list[copy_history.CopiedFile]:
    """Query the history of a time slice over a new connection. Raises ``SnowflakeError``, ``ConfigError``."""
    with open_connection(settings) as connection:
        return _loaded(connection, settings, start, end)


def _loaded(
    connection: Connection, settings: SnowflakeConfig, start: datetime, end: datetime
) -> list[copy_history.CopiedFile]:
    answer = connection.execute(copy_history.query(settings, start, end))
    with readable_answer():
        return copy_history.loads(answer)


@contextmanager
def readable_answer() -> Iterator[None]:
    """Map an unreadable answer to ``SnowflakeRefused``."""
    try:
        yield
    except ValueError as error:
        raise SnowflakeRefused(str(error), code="answer", hint="please report this error and its message") from None
