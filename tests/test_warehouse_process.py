"""The warehouse's process: killed, bounded and started again, whatever a query does."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingestd.config.model import SnowflakeConfig
from ingestd.core.errors import ConfigError, WarehouseError
from ingestd.demo.warehouse.database import MAX_CELL_CHARS, MAX_RESULT_CHARS
from ingestd.demo.warehouse.process import KILL_AFTER_S, MAX_QUERIES, WarehouseProcess
from tests.warehouse_world import COLUMNS, batch, key, only

COUNT = "SELECT COUNT(*) FROM marketing_events"
#: A scalar function ignores DuckDB's interrupt; this call takes minutes.
DEAF = "SELECT EDITDISTANCE(REPEAT('ab', 200000), REPEAT('ba', 200000))"
#: A sort of 48 million numbers exceeds the memory limit, and spills.
SPILLING = "SELECT x FROM (SELECT UNNEST(RANGE(48000000)) AS x) ORDER BY x * 7919 % 1000003 LIMIT 1 OFFSET 40000000"


def process(path: Path) -> WarehouseProcess:
    return WarehouseProcess(path, SnowflakeConfig())


@pytest.fixture
def warehouse(tmp_path: Path) -> Iterator[WarehouseProcess]:
    warehouse = process(tmp_path / "w.duckdb")
    warehouse.open(COLUMNS, 10)
    warehouse.load(key(0), batch(0, 30))
    yield warehouse
    warehouse.close()
    assert {it.name for it in tmp_path.iterdir()} <= {"w.duckdb", "w.duckdb.wal"}


def pid(warehouse: WarehouseProcess) -> int:
    child = warehouse._child
    assert child is not None
    return child._process.pid


def in_thread(warehouse: WarehouseProcess, sql: str) -> tuple[threading.Thread, list[str]]:
    """Queries in a thread; the error's text comes into the list."""
    errors: list[str] = []

    def ask() -> None:
        try:
            warehouse.query(sql, timeout_s=60)
        except WarehouseError as error:
            errors.append(str(error))

    thread = threading.Thread(target=ask)
    thread.start()
    return thread, errors


def until_at_work(number: int) -> None:
    """Waits until the process has used a second of its processor."""
    started = processor_s(number)
    while processor_s(number) < started + 1:
        time.sleep(0.01)


def processor_s(number: int) -> float:
    fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_query_that_ignores_the_interrupt_is_killed_and_the_next_one_answered(warehouse: WarehouseProcess) -> None:
    started = time.monotonic()
    with pytest.raises(WarehouseError, match=r"longer than 0\.2 s"):
        warehouse.query(DEAF, timeout_s=0.2)
    assert time.monotonic() - started < 0.2 + KILL_AFTER_S + 5
    assert only(warehouse, COUNT) == 30
    assert warehouse.load(key(0), batch(0, 30)) is None


def test_an_ordinary_time_out_keeps_the_process(warehouse: WarehouseProcess) -> None:
    before = pid(warehouse)
    with pytest.raises(WarehouseError, match=r"longer than 0\.2 s"):
        warehouse.query("SELECT SUM(a.x * b.x) FROM (SELECT UNNEST(RANGE(9000000)) x) a, "
                        "(SELECT UNNEST(RANGE(9000000)) x) b", timeout_s=0.2)  # fmt: skip
    assert pid(warehouse) == before


def test_closing_ends_a_query_that_ignores_the_interrupt(warehouse: WarehouseProcess) -> None:
    thread, errors = in_thread(warehouse, DEAF)
    until_at_work(pid(warehouse))
    started = time.monotonic()
    warehouse.close()
    thread.join()
    assert time.monotonic() - started < 10
    assert errors == ["the warehouse is closed"]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT RANGE(300000000)",
        "SELECT ARRAY_AGG(x) FROM (SELECT UNNEST(RANGE(200000000)) AS x)",
        "SELECT LPAD('x', 2000000000, 'y')",
        "SELECT REPEAT('x', 100000000) FROM (SELECT UNNEST(RANGE(1000)))",
    ],
)
def test_a_large_result_is_refused_and_takes_bounded_memory(warehouse: WarehouseProcess, sql: str) -> None:
    with pytest.raises(WarehouseError):
        warehouse.query(sql, timeout_s=5)
    assert only(warehouse, COUNT) == 30


def test_the_system_bounds_the_process(warehouse: WarehouseProcess) -> None:
    (line,) = (it for it in Path(f"/proc/{pid(warehouse)}/limits").read_text().splitlines() if "data size" in it)
    assert line.split()[3] == str(2 << 30)


def test_cells_and_rows_are_capped(warehouse: WarehouseProcess) -> None:
    cell = only(warehouse, "SELECT REPEAT('x', 1000000)")
    assert isinstance(cell, str)
    assert (len(cell), cell[-1]) == (MAX_CELL_CHARS, "…")
    result = warehouse.query("SELECT REPEAT('x', 60000) FROM (SELECT UNNEST(RANGE(1000)))", limit=1000)
    assert result.truncated
    assert 0 < sum(len(row[0]) for row in result.rows) <= MAX_RESULT_CHARS + MAX_CELL_CHARS


def test_a_process_that_dies_is_started_again(warehouse: WarehouseProcess) -> None:
    os.kill(pid(warehouse), signal.SIGKILL)
    assert only(warehouse, COUNT) == 30


def test_a_load_is_not_repeated_when_its_process_dies_because_it_may_be_committed(warehouse: WarehouseProcess) -> None:
    os.kill(pid(warehouse), signal.SIGKILL)
    with pytest.raises(WarehouseError, match="process ended"):
        warehouse.load(key(30), batch(30, 40))
    history = warehouse.open(COLUMNS, 10)
    assert (history.files, history.rows) == (1, 30)
    assert warehouse.load(key(30), batch(30, 40)) is not None
    assert only(warehouse, COUNT) == 40


def test_a_killed_query_does_not_fail_the_others(warehouse: WarehouseProcess) -> None:
    deaf, _ = in_thread(warehouse, DEAF)
    until_at_work(pid(warehouse))
    other, errors = in_thread(warehouse, "SELECT COUNT(*) FROM (SELECT UNNEST(RANGE(20000000)))")
    os.kill(pid(warehouse), signal.SIGKILL)
    other.join()
    assert errors == []
    warehouse.close()
    deaf.join()


def test_the_number_of_queries_is_limited(warehouse: WarehouseProcess) -> None:
    threads = [in_thread(warehouse, DEAF)[0] for _ in range(MAX_QUERIES)]
    until_at_work(pid(warehouse))
    with pytest.raises(WarehouseError, match="too many queries at the same time"):
        warehouse.query(COUNT)
    warehouse.close()
    for thread in threads:
        thread.join()


def test_the_process_ignores_the_daemon_s_signals(warehouse: WarehouseProcess) -> None:
    before = pid(warehouse)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(before, number)
    assert only(warehouse, COUNT) == 30
    assert pid(warehouse) == before


def test_the_process_gets_no_secret_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "never-inherited")
    warehouse = process(tmp_path / "w.duckdb")
    warehouse.open(COLUMNS, 10)
    environment = Path(f"/proc/{pid(warehouse)}/environ").read_bytes()
    warehouse.close()
    assert b"PATH=" in environment
    assert b"never-inherited" not in environment


def test_temporary_files_are_removed_though_the_process_was_killed(warehouse: WarehouseProcess) -> None:
    thread, _ = in_thread(warehouse, SPILLING)
    folder = Path(f"{warehouse.path}.tmp.{pid(warehouse)}")
    while not (folder.is_dir() and any(folder.iterdir())):
        assert thread.is_alive(), "the query ended before it spilled"
        time.sleep(0.01)
    warehouse.close()
    thread.join()
    assert not folder.exists()


def test_temporary_files_of_an_earlier_run_are_removed(tmp_path: Path) -> None:
    left, other = tmp_path / "w.duckdb.tmp.4711", tmp_path / "w.duckdb.tmp.mine"
    for folder in (left, other):
        folder.mkdir()
        (folder / "duckdb_temp_storage.tmp").touch()
    warehouse = process(tmp_path / "w.duckdb")
    warehouse.open(COLUMNS, 10)
    warehouse.close()
    assert not left.exists()
    assert other.exists()


def test_an_error_of_the_file_stays_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file") as caught:
        process(tmp_path / "w.duckdb").open_for_reading()
    assert caught.value.hint.startswith("run ingestd with --warehouse local")
    with pytest.raises(WarehouseError, match="closed"):
        process(tmp_path / "w.duckdb").query(COUNT)
