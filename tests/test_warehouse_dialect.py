"""The parts of Snowflake's dialect that the local warehouse supports."""

import pytest

from ingestd.config.model import SnowflakeConfig
from ingestd.core.errors import WarehouseError
from ingestd.demo.warehouse.dialect import MAX_SQL, Dialect

DIALECT = Dialect(SnowflakeConfig())


@pytest.mark.parametrize(
    "sql",
    [
        "DROP TABLE marketing_events",
        "INSERT INTO marketing_events VALUES (1)",
        "UPDATE marketing_events SET client_id = 'x'",
        "DELETE FROM marketing_events",
        "CREATE TABLE x AS SELECT 1",
        "SELECT 1 INTO x",
        "ALTER TABLE marketing_events DROP COLUMN client_id",
        "COPY INTO marketing_events FROM @stage",
        "SET x = 1",
        "CALL system()",
        "EXPLAIN SELECT 1",
        "SHOW TABLES",
        "BEGIN",
        "TRUNCATE TABLE marketing_events",
    ],
)
def test_refuses_anything_but_a_query(sql: str) -> None:
    with pytest.raises(WarehouseError, match="not a query"):
        DIALECT.query(sql)


@pytest.mark.parametrize("sql", ["", ";", "-- nothing", "SELECT 1; SELECT 2", "SELECT 1; DROP TABLE marketing_events"])
def test_refuses_anything_but_one_statement(sql: str) -> None:
    with pytest.raises(WarehouseError, match="one statement"):
        DIALECT.query(sql)


def test_accepts_a_final_semicolon() -> None:
    assert DIALECT.query("SELECT a FROM t;") == "SELECT a FROM t"


@pytest.mark.parametrize("sql", ["SELECT (", "SELECT 'open", "SELECT * FROM WHERE", 'SELECT "open'])
def test_refuses_invalid_sql(sql: str) -> None:
    with pytest.raises(WarehouseError, match="cannot read the statement"):
        DIALECT.query(sql)


@pytest.mark.parametrize(
    ("sql", "where"),
    [
        ("SELEC 1", "line 1, column 7, at '1': "),
        ("SELECT a,\n  b FROM t WHERE\n", "line 2, column 12, at 'WHERE': something is missing here"),
        ("SELECT a FROM", "line 1, column 10, at 'FROM': Expected table name"),
    ],
)
def test_says_where_a_statement_is_invalid(sql: str, where: str) -> None:
    with pytest.raises(WarehouseError) as caught:
        DIALECT.query(sql)
    assert where in str(caught.value)
    assert "sqlglot" not in str(caught.value)
    assert "Token" not in str(caught.value)


@pytest.mark.parametrize("sql", ["SELECT " + "(" * 5000 + "1" + ")" * 5000, "SELECT " + "NOT " * 20_000 + "TRUE"])
def test_refuses_deep_nesting(sql: str) -> None:
    with pytest.raises(WarehouseError, match=r"nested too deeply|more than \d+ characters"):
        DIALECT.query(sql)


def test_refuses_a_very_long_statement() -> None:
    with pytest.raises(WarehouseError, match=f"more than {MAX_SQL} characters"):
        DIALECT.query("SELECT '" + "x" * MAX_SQL + "'")


def test_refuses_what_it_cannot_translate_exactly() -> None:
    with pytest.raises(WarehouseError, match="does not support this"):
        DIALECT.query("SELECT TO_CHAR(event_timestamp, 'YYYY') FROM marketing_events")


def test_drops_only_the_configured_database_and_schema() -> None:
    names = [
        "MARKETING.EVENTS.a",
        "marketing.events.b",
        "Events.c",
        "d",
        "other.events.e",
        "marketing.other.f",
        "other.g",
    ]
    written = DIALECT.query(f"SELECT 1 AS n FROM {', '.join(names)}")  # noqa: S608
    assert written == "SELECT 1 AS n FROM a, b, c, d, other.events.e, marketing.other.f, other.g"


@pytest.mark.parametrize(
    "clock", ["CURRENT_TIMESTAMP()", "CURRENT_TIMESTAMP", "SYSDATE()", "GETDATE()", "LOCALTIMESTAMP", "SYSTIMESTAMP()"]
)
def test_replaces_every_clock_function(clock: str) -> None:
    dialect = Dialect(SnowflakeConfig(), "'2026-11-23 08:00:00'::TIMESTAMP_NTZ")
    assert dialect.query(f"SELECT {clock} AS c") == "SELECT CAST('2026-11-23 08:00:00' AS TIMESTAMP) AS c"


def test_names_columns_as_snowflake_does() -> None:
    assert DIALECT.query("SELECT COUNT(*), a, b AS c FROM t") == 'SELECT COUNT(*) AS "COUNT(*)", a, b AS c FROM t'


def test_variant_becomes_json() -> None:
    assert DIALECT.type("VARIANT") == "JSON"
    assert DIALECT.type("NUMBER(38,0)") == "DECIMAL(38, 0)"
    assert DIALECT.type("TIMESTAMP_NTZ(6)") == "TIMESTAMP(6)"
