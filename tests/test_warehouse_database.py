"""The local warehouse answers queries as Snowflake does, and is safe against any query."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingestd.config.model import SnowflakeConfig
from ingestd.core.errors import ConfigError, WarehouseError
from ingestd.demo.warehouse.database import Warehouse
from ingestd.snowflake.table import Column
from tests.warehouse_world import COLUMNS, ago, batch, body, key, loader, only, opened, row

GUIDE = "SELECT COUNT(*) FROM marketing_events WHERE event_timestamp >= DATEADD(minute, -5, CURRENT_TIMESTAMP())"

_SQUARED = "SELECT a.source_offset * b.source_offset % 7 AS n FROM marketing_events a CROSS JOIN marketing_events b"
ENDLESS = f"SELECT SUM(x.n * y.n * z.n) FROM ({_SQUARED}) x CROSS JOIN ({_SQUARED}) y CROSS JOIN ({_SQUARED}) z"  # noqa: S608


@pytest.fixture
def warehouse(tmp_path: Path) -> Iterator[Warehouse]:
    warehouse = opened(tmp_path / "w.duckdb")
    yield warehouse
    warehouse.close()


def test_answers_the_guide_s_query(warehouse: Warehouse) -> None:
    ages = [0.0, 4.9, 5.1, 60.0, 600.0]
    loader(warehouse).load(key(0), body(*(row(n, event_timestamp=ago(minutes=age)) for n, age in enumerate(ages))))
    assert only(warehouse, GUIDE) == 2
    assert warehouse.query(GUIDE + ";").columns == ["COUNT(*)"]


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kolkata", "UTC"])
def test_the_machine_s_time_zone_changes_no_result(tmp_path: Path, zone: str) -> None:
    program = (
        "import sys; from pathlib import Path; from tests.test_warehouse_database import *\n"
        "w = opened(Path(sys.argv[1])); l = loader(w)\n"
        "l.load(key(0), body(row(0, event_timestamp=ago(minutes=4)), row(1, event_timestamp=ago(minutes=6))))\n"
        "print(only(w, GUIDE), only(w, 'SELECT events_5m FROM client_features WHERE events_5m > 0'),"
        " only(w, 'SELECT COUNT(*) FROM marketing_events WHERE loaded_at BETWEEN DATEADD(minute, -1, SYSDATE())"
        " AND CURRENT_TIMESTAMP()'), only(w, \"SELECT '2026-11-23 08:00'::TIMESTAMP_NTZ::TIMESTAMP_TZ::STRING\"))\n"
        "w.close()"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "w.duckdb")]
    done = subprocess.run(command, env={"TZ": zone, "PATH": ""}, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("1 1 2 2026-11-23 08:00:00+00\n", "")


def test_the_clock_can_be_fixed(tmp_path: Path) -> None:
    warehouse = opened(tmp_path / "w.duckdb", now="'2020-01-01 00:05:00'::TIMESTAMP_NTZ")
    times = ["2019-12-31T23:59:59.000000Z", "2020-01-01T00:00:00.000000Z", "2020-01-01T00:04:00.000000Z"]
    loader(warehouse).load(key(0), body(*(row(n, event_timestamp=time, client_id="c") for n, time in enumerate(times))))
    assert only(warehouse, GUIDE) == 2
    assert warehouse.query("SELECT as_of, events_5m, events_1h FROM client_features").rows == [
        ["2020-01-01 00:05:00", 1, 3]
    ]


def test_paths_into_properties_return_values(warehouse: Warehouse) -> None:
    some = {"plan": "gold", "n": 7, "a": {"b": 'ü"q'}, "list": [1, 2], "key with space": True}
    loader(warehouse).load(key(0), body(row(0, properties=some), row(1, properties={"n": 3}), row(2)))
    (cells,) = warehouse.query(
        "SELECT properties:plan::STRING, properties:n::NUMBER + 1, properties:a.b::STRING, properties:list[1]::INT, "
        "properties['key with space']::BOOLEAN, properties:plan, properties:missing::STRING "
        "FROM marketing_events WHERE properties:plan = 'gold' AND properties:n > 5 AND properties['n'] <= 7.0"
    ).rows
    assert cells == ["gold", 8, 'ü"q', 2, True, '"gold"', None]


def test_paths_work_inside_paths_and_functions(warehouse: Warehouse) -> None:
    loader(warehouse).load(key(0), body(row(0, properties={"text": '{"n": 7}', "n": 7})))
    (cells,) = warehouse.query(
        "SELECT PARSE_JSON(properties:text::STRING):n::INT, COUNT_IF(properties:n > 5 AND SYSDATE() > event_timestamp),"
        " MAX(COALESCE(properties:none::STRING, UPPER(properties['text']::STRING))) FROM marketing_events GROUP BY 1"
    ).rows
    assert cells == [7, 1, '{"N": 7}']


def test_counts_without_rows_are_zero(warehouse: Warehouse) -> None:
    assert warehouse.query("SELECT COUNT(*), COUNT_IF(consent) FROM marketing_events").rows == [[0, 0]]


def test_cells_are_json_values(warehouse: Warehouse) -> None:
    (cells,) = warehouse.query(
        "SELECT 1::NUMBER(38,0), 12345678901234567890123456789012345678::NUMBER(38,0), 1.50::NUMBER(10,2), 1.5::FLOAT, "
        "'nan'::FLOAT, TRUE, NULL, '2026-11-23'::DATE, '2026-11-23 08:00:00.5'::TIMESTAMP_NTZ, 'ü'"
    ).rows
    assert cells == [
        1, 12345678901234567890123456789012345678, "1.50", 1.5, "nan", True, None, "2026-11-23",
        "2026-11-23 08:00:00.500000", "ü",
    ]  # fmt: skip


def test_a_result_is_limited_and_says_that_there_are_more_rows(warehouse: Warehouse) -> None:
    loader(warehouse).load(key(0), batch(0, 11))
    some = warehouse.query("SELECT source_offset FROM marketing_events ORDER BY 1", limit=10)
    assert [cell for (cell,) in some.rows] == list(range(10))
    assert some.truncated
    assert not warehouse.query("SELECT source_offset FROM marketing_events", limit=11).truncated


def test_a_query_has_a_timeout(warehouse: Warehouse) -> None:
    loader(warehouse).load(key(0), batch(0, 1000))
    with pytest.raises(WarehouseError, match=r"longer than 0\.2 s"):
        warehouse.query(ENDLESS, timeout_s=0.2)
    assert only(warehouse, "SELECT COUNT(*) FROM marketing_events") == 1000


def test_closing_ends_an_active_query(warehouse: Warehouse) -> None:
    loader(warehouse).load(key(0), batch(0, 1000))
    ended: list[str] = []

    def ask() -> None:
        try:
            warehouse.query(ENDLESS)
        except WarehouseError as error:
            ended.append(str(error))

    asking = threading.Thread(target=ask)
    asking.start()
    while not warehouse.busy:
        pass
    warehouse.close()
    asking.join()
    assert ended == ["the warehouse is closed"]


def test_the_deduplicated_view_hides_duplicates_of_a_producer(warehouse: Warehouse) -> None:
    loader(warehouse).load(key(0), body(*(row(n, event_id=f"id-{n // 2}") for n in range(6))))
    assert only(warehouse, "SELECT COUNT(*) FROM marketing_events") == 6
    found = warehouse.query(
        "SELECT event_id, source_offset FROM marketing.events.marketing_events_deduplicated ORDER BY 2"
    )
    assert found.rows == [["id-0", 0], ["id-1", 2], ["id-2", 4]]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM READ_TEXT('{file}')",
        "SELECT * FROM READ_CSV('{file}')",
        "SELECT * FROM '{file}'",
        'SELECT * FROM "{file}"',
        "SELECT * FROM READ_JSON('http://127.0.0.1:1/x')",
        "SELECT * FROM GLOB('{folder}/*')",
        "SELECT * FROM QUERY('COPY (SELECT 1) TO ''{file}2''')",
        "SELECT * FROM QUERY('DROP TABLE marketing_events')",
        "SELECT * FROM secret",
    ],
)
def test_a_query_reaches_only_the_tables(warehouse: Warehouse, tmp_path: Path, sql: str) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("secret\n")
    with pytest.raises(WarehouseError):
        warehouse.query(sql.format(file=secret, folder=tmp_path))
    assert only(warehouse, "SELECT COUNT(*) FROM marketing_events") == 0
    assert {it.name for it in tmp_path.iterdir()} <= {"secret.csv", "w.duckdb", "w.duckdb.wal"}


def test_a_new_column_of_the_model_is_added(tmp_path: Path) -> None:
    warehouse = opened(tmp_path / "w.duckdb")
    loader(warehouse).load(key(0), batch(0, 1))
    warehouse.close()
    warehouse.open((*COLUMNS, Column("amount", "VARIANT", "amount", True, "")))
    assert warehouse.query("SELECT event_id, amount FROM marketing_events").rows == [["id-0", None]]


def test_the_table_can_have_any_name(tmp_path: Path) -> None:
    warehouse = opened(tmp_path / "w.duckdb", snowflake=SnowflakeConfig(table="EVENTS$2"))
    loader(warehouse).load(key(0), batch(0, 3))
    assert only(warehouse, 'SELECT COUNT(*) FROM MARKETING.EVENTS."EVENTS$2"') == 3
    assert len(warehouse.query("SELECT * FROM client_features").rows) == 3


def test_a_file_has_one_writer(warehouse: Warehouse) -> None:
    program = (
        "import sys; from pathlib import Path; from tests.warehouse_world import opened\n"
        "from ingestd.demo.warehouse import database\n"
        "database._LOCK_TIMEOUT_S = 0.0\n"
        "opened(Path(sys.argv[1]))"
    )
    command = [sys.executable, "-c", program, str(warehouse.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "ConfigError: warehouse.path" in done.stderr
    assert "another daemon has the file open" in done.stderr
    assert "--sink ./data2" in done.stderr


def test_a_file_that_is_not_a_warehouse_is_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    path.write_text("important\n" * 1000)
    with pytest.raises(ConfigError, match=r"warehouse\.path = .*w\.duckdb: cannot use the file"):
        opened(path)
    assert path.read_text() == "important\n" * 1000


@pytest.mark.parametrize(("writable", "hint"), [(False, "it is read-only for this user"), (True, "move the file away")])
def test_a_read_only_file_is_not_to_be_moved_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writable: bool, hint: str
) -> None:
    (tmp_path / "w.duckdb").mkdir()  # fails to open for root, too
    monkeypatch.setattr("os.access", lambda *_: writable)
    with pytest.raises(ConfigError, match="cannot use the file") as caught:
        opened(tmp_path / "w.duckdb")
    assert caught.value.hint.startswith(hint)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no such file \(run ingestd with --warehouse local first"):
        Warehouse(tmp_path / "w.duckdb", SnowflakeConfig()).open_for_reading()


def test_a_folder_that_cannot_be_created_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"warehouse\.path = .*: cannot create its folder"):
        opened(tmp_path / "file" / "w.duckdb")


def test_readers_in_other_processes_change_nothing(warehouse: Warehouse) -> None:
    loader(warehouse).load(key(0), batch(0, 3))
    warehouse.close()
    reader = Warehouse(warehouse.path, SnowflakeConfig())
    reader.open_for_reading()
    assert only(reader, "SELECT COUNT(*) FROM marketing_events") == 3
    assert len(reader.query("SELECT * FROM client_scores").rows) == 3
    reader.close()
