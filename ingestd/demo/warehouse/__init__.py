"""The local warehouse: simulates Snowpipe and Snowflake by loading objects into a table in a DuckDB file.

Only files of this package import duckdb and sqlglot, which the extra `ingestd[demo]` installs.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from ingestd.core.errors import ConfigError


@contextmanager
def needed_by(feature: str) -> Iterator[None]:
    """Turns a failed import of duckdb or sqlglot into a ConfigError. Wrap the first import of this package's files."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in {"duckdb", "sqlglot"}:
            raise
        hint = "pip install duckdb sqlglot, or in a clone of ingestd: pip install '.[demo]'"
        raise ConfigError(f"{feature} needs {error.name}, which is not installed", hint=hint) from error
