"""`ingestd query` answers whether a daemon fills the warehouse at the moment or not."""

import json
from pathlib import Path

import pytest

from ingestd.cli import query
from ingestd.cli.main import main
from ingestd.demo.warehouse.database import QueryResult
from tests.warehouse_world import batch, key, loader, opened

GUIDE = "SELECT COUNT(*) FROM marketing_events WHERE event_timestamp >= DATEADD(minute, -5, CURRENT_TIMESTAMP())"


@pytest.fixture
def file(tmp_path: Path) -> str:
    warehouse = opened(tmp_path / "w.duckdb")
    loader(warehouse).load(key(0), batch(0, 3))
    warehouse.close()
    return str(tmp_path / "w.duckdb")


def test_prints_a_table(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["query", GUIDE, "--warehouse-file", file]) == 0
    assert capsys.readouterr().out == "COUNT(*)\n--------\n       3\n(1 row)\n"


def test_prints_rows_as_json_lines(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    sql = "SELECT event_id, source_offset AS n, consent FROM marketing_events ORDER BY n"
    assert main(["query", sql, "--json", "--warehouse-file", file]) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        {"event_id": f"id-{n}", "n": n, "consent": None} for n in range(3)
    ]


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        ("DROP TABLE marketing_events", "not a query"),
        ("SELECT nope FROM marketing_events", "the query failed: Binder Error"),
        ("SELECT (", "cannot read the statement"),
    ],
)
def test_says_why_not(file: str, capsys: pytest.CaptureFixture[str], sql: str, why: str) -> None:
    assert main(["query", sql, "--warehouse-file", file]) == 1
    captured = capsys.readouterr()
    assert why in captured.err
    assert captured.out == ""


def test_says_where_there_is_no_warehouse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["query", GUIDE, "--warehouse-file", str(tmp_path / "none.duckdb")]) == 2
    assert "no such file" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_missing_library_is_said_with_what_to_install(
    file: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object) -> QueryResult:
        raise ModuleNotFoundError("No module named 'duckdb'", name="duckdb")

    monkeypatch.setattr(query, "answered", missing)
    assert main(["query", GUIDE, "--warehouse-file", file]) == 2
    assert (
        "ingestd query needs duckdb, which is not installed (pip install duckdb sqlglot segno"
        in capsys.readouterr().err
    )


def test_a_table_is_aligned_and_shows_nothing_that_a_terminal_obeys() -> None:
    result = QueryResult(["n", "text"], [[1, "a\x1b[31m"], [None, "x" * 100], [20, True]])
    assert query.table(result).splitlines() == [
        "   n  text",
        "----  " + "-" * 60,
        "   1  a [31m",
        "NULL  " + "x" * 59 + "…",
        "  20  true",
        "(3 rows)",
    ]


def test_no_rows_are_no_problem() -> None:
    assert query.table(QueryResult(["a"], [])) == "a\n-\n(0 rows)\n"
