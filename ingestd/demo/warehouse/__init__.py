"""A stand-in for Snowpipe and Snowflake on this machine: what lands is loaded into a table in a DuckDB file.

Only files of this package import duckdb and sqlglot.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from ingestd.core.errors import ConfigError


@contextmanager
def needed_by(what: str) -> Iterator[None]:
    """Around the first import of the package's other files. ConfigError where duckdb or sqlglot is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in {"duckdb", "sqlglot"}:
            raise
        hint = 'pip install "ingestd[demo]"'
        raise ConfigError(f"{what} needs {error.name}, which is not installed", hint=hint) from error
