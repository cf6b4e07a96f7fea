"""One definition, two dialects: the stand-in for Snowflake and the local warehouse give the same numbers.

The stand-in translates to DuckDB as well, with another version of it and in a way of its own, so both are held against
an independent computation, too. None of it has run on a real account.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from ingestd.config.load import Flag, load
from ingestd.config.model import SnowflakeConfig
from ingestd.core.events import load_model
from ingestd.demo.warehouse.database import Warehouse
from ingestd.snowflake.connection import Connection, open_connection
from ingestd.snowflake.features import SCORE, relations
from ingestd.snowflake.table import columns
from tests import feature_reference as reference
from tests.feature_reference import NOW_SQL, Row, random_rows
from tests.services.snowflake import Snowflake

ROWS = random_rows(seed=4, count=400)
CALL = f"{SCORE.name}({', '.join(name for name, _ in SCORE.arguments)})"


@pytest.fixture
def standin(snowflake: Snowflake) -> Iterator[Connection]:
    """A connection to a schema of its own, which holds the rows."""
    keys = {**snowflake.settings(), "snowflake.database": "FEATURES", "snowflake.schema": "SAME_NUMBERS"}
    flags = [Flag("--set", key, value) for key, value in keys.items()]
    with open_connection(load(environ={}, flags=flags).config.snowflake) as connection:
        connection.execute(reference.create_table())
        values = {f"v{n}": value for n, value in enumerate(reference.values(ROWS))}
        connection.execute(reference.insert(len(ROWS), lambda n: f"%(v{n})s"), values)
        yield connection


def local(directory: Path) -> dict[str, dict[str, Row]]:
    """What the local warehouse gives: by relation, by client."""
    warehouse = Warehouse(directory / "warehouse.duckdb", SnowflakeConfig(), now=NOW_SQL)
    warehouse.open(columns(load_model(None)))
    found = {}
    with warehouse.session() as cursor:
        cursor.execute(reference.insert(len(ROWS)), reference.values(ROWS))
        for relation in relations():
            rows = cursor.execute(f"SELECT * FROM {relation.name}").fetchall()  # noqa: S608
            found[relation.name] = by_client([column[0] for column in cursor.description or ()], rows)
    warehouse.close()
    return found


def by_client(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> dict[str, Row]:
    return {row[0]: dict(zip(names, row, strict=True)) for row in rows}


def test_both_dialects_give_the_same_numbers_on_the_same_rows(standin: Connection, tmp_path: Path) -> None:
    here = local(tmp_path)
    features, scores = relations(now=NOW_SQL)
    # The stand-in takes a function's body for a text, so the body stands where the function is called.
    assert CALL in scores.sql
    scored = scores.sql.replace(CALL, f"({SCORE.body})")
    standin.execute(f"CREATE TABLE {features.name} AS {features.sql}")
    there = {
        features.name: by_client(*standin.execute(f"SELECT * FROM {features.name}")),  # noqa: S608
        scores.name: by_client(*standin.execute(scored)),
    }
    assert len(there[features.name]) > 20
    assert there == here
    assert there[features.name] == reference.features(ROWS)
