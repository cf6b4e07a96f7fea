"""Simulated history in an embedded database, where the features are computed by their own definitions."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import sqlglot

from ingestd.config.model import SimulatorConfig
from ingestd.snowflake.features import SCORE, relations
from ingestd.sources.simulator.events import history

DAY = 86_400_000
COLUMNS = {
    "event_id": "VARCHAR", "client_id": "VARCHAR", "event_timestamp": "TIMESTAMP", "event_type": "VARCHAR",
    "page_url": "VARCHAR", "session_id": "VARCHAR", "channel": "VARCHAR", "consent": "BOOLEAN", "properties": "JSON",
}  # fmt: skip
ORIGIN = "NULL::TIMESTAMP AS received_at, NULL::VARCHAR AS source_topic, 0 AS source_partition, 0 AS source_offset"


def duckdb_sql(snowflake: str) -> str:
    """The same expression or statement in DuckDB's dialect."""
    return sqlglot.transpile(snowflake, read="snowflake", write="duckdb")[0]


def timestamp(at: int) -> str:
    """Milliseconds since the epoch as a TIMESTAMP_NTZ in SQL."""
    return f"'{datetime.fromtimestamp(at / 1000, UTC):%Y-%m-%d %H:%M:%S.%f}'::TIMESTAMP_NTZ"


@contextmanager
def simulated(config: SimulatorConfig, start: int, days: int) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database with the table marketing_events and the function of the score. `start` is in ms since the epoch."""
    with tempfile.TemporaryDirectory(prefix="ingestd-propensity-") as directory, duckdb.connect() as connection:
        lines = Path(directory) / "events.jsonl"
        with lines.open("wb") as file:
            for messages in history(config, start, start + days * DAY):
                file.writelines(message.value + b"\n" for message in messages)
        connection.execute("SET TimeZone = 'UTC'")
        columns = ", ".join(f"{name}: '{kind}'" for name, kind in COLUMNS.items())
        read = f"read_json('{lines}', format = 'newline_delimited', columns = {{{columns}}})"
        connection.execute(f"CREATE TABLE marketing_events AS SELECT *, {ORIGIN} FROM {read}")  # noqa: S608 (our own text)
        arguments = ", ".join(name for name, _ in SCORE.arguments)
        connection.execute(f"CREATE MACRO {SCORE.name}({arguments}) AS ({duckdb_sql(SCORE.body)})")
        yield connection


def look_back(connection: duckdb.DuckDBPyConnection, at: int) -> None:
    """Make the tables client_features and client_scores what they were at that time, in ms since the epoch."""
    for relation in relations(now=timestamp(at)):
        connection.execute(f"CREATE OR REPLACE TABLE {relation.name} AS {duckdb_sql(relation.sql)}")


def investors(at: int, days: int) -> str:
    """A SELECT of the clients who invest within so many days from then on: the outcome."""
    return f"""
        SELECT DISTINCT client_id FROM marketing_events
        WHERE event_type = 'advisor_call' AND properties ->> 'outcome' = 'invested'
            AND event_timestamp > {duckdb_sql(timestamp(at))}
            AND event_timestamp <= {duckdb_sql(timestamp(at + days * DAY))}"""  # noqa: S608 (our own text)
