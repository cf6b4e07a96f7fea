"""The local warehouse: simulates Snowpipe and Snowflake by loading objects into a table in a DuckDB file.

Only files of this package import duckdb and sqlglot, which the extra `ingestd[demo]` installs.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from ingestd.core.errors import ConfigError


@contextmanager
def needed_by(feature: str) -> Iterator[None]:
    """Turns a failed import of the extra `demo` into a ConfigError. Wrap the first import of what needs it."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in {"duckdb", "sqlglot", "segno"}:
            raise
        hint = "pip install duckdb sqlglot segno, or in a clone of ingestd: pip install '.[demo]'"
        raise ConfigError(f"{feature} needs {error.name}, which is not installed", hint=hint) from error
