"""An object's rows and its name are loaded together, once."""

import gzip
import random
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingestd.config.model import SnowflakeConfig
from ingestd.core.errors import WarehouseError
from ingestd.demo.warehouse import object_loader
from ingestd.demo.warehouse.database import Warehouse
from ingestd.demo.warehouse.object_loader import ObjectLoader
from ingestd.snowflake.table import Column, identifier
from tests.warehouse_world import COLUMNS, ago, batch, body, key, loader, only, opened, row, text


@pytest.fixture
def warehouse(tmp_path: Path) -> Iterator[Warehouse]:
    warehouse = opened(tmp_path / "w.duckdb")
    yield warehouse
    warehouse.close()


@pytest.fixture
def load(warehouse: Warehouse) -> ObjectLoader:
    return loader(warehouse)


def count(warehouse: Warehouse) -> object:
    return only(warehouse, "SELECT COUNT(*) FROM marketing_events")


def test_every_column_keeps_its_value(warehouse: Warehouse, load: ObjectLoader) -> None:
    full = row(
        2**53 + 1,
        event_timestamp="2026-11-23T08:00:00.123456Z",
        received_at="2026-11-23T08:00:01.000000Z",
        page_url="https://example.com/ü?a=\"b\"&c='d'\\n",
        duration_s=-(2**63),
        consent=False,
        properties={"a": [1, {"b": "\n\u2028"}]},
    )
    load.load("prefix/" + key(0), body(full, row(1)))
    result = warehouse.query("SELECT * FROM marketing_events WHERE file_row_number = 1")
    found = dict(zip(result.columns, result.rows[0], strict=True))
    found.pop("loaded_at")
    missing = dict.fromkeys(("event_category", "device_type", "campaign_id"))
    assert found == {
        **full,
        **missing,
        "event_timestamp": "2026-11-23 08:00:00.123456",
        "received_at": "2026-11-23 08:00:01",
        "properties": '{"a":[1,{"b":"\\n\u2028"}]}',
        "file_name": "prefix/" + key(0),
        "file_row_number": 1,
    }


@pytest.mark.parametrize("extended", [False, True])
def test_every_keyword_can_be_a_field_of_the_model(tmp_path: Path, extended: bool) -> None:
    with duckdb.connect() as connection:
        words = {word for (word,) in connection.execute("SELECT keyword_name FROM duckdb_keywords()").fetchall()}
    columns = (*COLUMNS, *(Column(word, "VARCHAR", word, False, "") for word in sorted(words)))
    warehouse = Warehouse(tmp_path / "w.duckdb", SnowflakeConfig())
    if extended:
        warehouse.open(COLUMNS)
        warehouse.close()
    warehouse.open(columns)
    try:
        ObjectLoader(warehouse, columns).load(key(0), body({**row(1), **dict.fromkeys(words, "x")}))
        for word in ("limit", "offset", "desc", "order", "fetch"):
            query = f"SELECT {identifier(word)} FROM marketing_events_deduplicated"  # noqa: S608
            assert only(warehouse, query) == "x"
    finally:
        warehouse.close()


def test_a_name_is_loaded_once_whatever_its_content(warehouse: Warehouse, load: ObjectLoader) -> None:
    first = load.load(key(0), batch(0, 3))
    assert first is not None
    assert (first.rows, first.error) == (3, None)
    assert load.load(key(0), batch(0, 3)) is None
    assert load.load(key(0), batch(3, 9)) is None
    assert count(warehouse) == 3


def test_the_history_outlives_a_restart(warehouse: Warehouse, load: ObjectLoader) -> None:
    load.load(key(0), batch(0, 3))
    load.load(key(3), body(row(3, event_timestamp="never")))
    warehouse.close()
    again = opened(warehouse.path)
    history = loader(again).history(10)
    assert (history.names, history.files, history.rows, history.last_file) == ({key(0), key(3)}, 1, 3, key(0))
    assert [name for name, _ in history.failed] == [key(3)]
    assert loader(again).load(key(0), batch(0, 3)) is None
    assert count(again) == 3


def test_an_object_without_rows_is_loaded(warehouse: Warehouse, load: ObjectLoader) -> None:
    done = load.load(key(0), body())
    assert done is not None
    assert (done.rows, done.error, done.freshness_s) == (0, None, None)
    assert load.load(key(0), body()) is None


@pytest.mark.parametrize(
    "bad",
    [
        b'{"event_id": null}\n',
        b"{}\n",
        b'{"event_id": "x"\n',
        b"\n",
        b"[1]\n",
        b"null\n",
        b"\xff\n",
        b'{"event_id": "\xed\xa0\x80"}\n',
    ],
)
def test_one_bad_row_fails_the_whole_file_without_a_retry(warehouse: Warehouse, load: ObjectLoader, bad: bytes) -> None:
    good = gzip.decompress(batch(0, 3))
    done = load.load(key(0), gzip.compress(good + bad + good))
    assert done is not None
    assert done.error
    assert done.rows == 0
    assert load.load(key(0), batch(0, 3)) is None
    assert count(warehouse) == 0
    assert warehouse.query("SELECT status, row_count, first_error_message FROM load_history").rows == [
        ["LOAD_FAILED", 0, done.error]
    ]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("event_timestamp", "yesterday"),
        ("duration_s", "soon"),
        ("duration_s", 10**38),
        ("consent", "maybe"),
        ("received_at", {}),
        ("client_id", None),
    ],
)
def test_a_value_of_another_type_is_an_error_and_never_null(load: ObjectLoader, field: str, value: object) -> None:
    done = load.load(key(0), body(row(0), row(1, **{field: value})))
    assert done is not None
    assert done.error


@pytest.mark.parametrize(
    "damage", [lambda it: it[:-9], lambda it: b"", lambda it: b"\x00" + it, lambda it: it + b"more"]
)
def test_a_damaged_gzip_body_is_an_error(load: ObjectLoader, damage: Callable[[bytes], bytes]) -> None:
    done = load.load(key(0), damage(batch(0, 3)))
    assert done is not None
    assert (done.rows == 0) is (done.error is not None or not damage(batch(0, 3)))


def test_large_objects_are_loaded_in_chunks(
    warehouse: Warehouse, load: ObjectLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_loader, "_CHUNK_BYTES", 1000)
    load.load(key(0), body(*(row(n, properties={"x": "ü" * (n % 40) * 50}) for n in range(100))))
    numbers = warehouse.query("SELECT file_row_number, source_offset + 1 FROM marketing_events ORDER BY 1").rows
    assert numbers == [[n, n] for n in range(1, 101)]


def test_a_bad_row_in_a_late_chunk_rolls_back_the_earlier_ones(
    warehouse: Warehouse, load: ObjectLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_loader, "_CHUNK_BYTES", 1000)
    done = load.load(key(0), body(*(row(n) for n in range(100)), row(100, event_timestamp="never")))
    assert done is not None
    assert done.error
    assert count(warehouse) == 0


def test_a_row_above_the_limit_is_an_error(load: ObjectLoader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_loader, "_CHUNK_BYTES", 1000)
    monkeypatch.setattr(object_loader, "_MAX_ROW_BYTES", 10_000)
    done = load.load(key(0), body(row(0, properties={"x": "y" * 20_000})))
    assert done is not None
    assert done.error == "a row has more than 10000 bytes"


def test_freshness_is_that_of_the_median_row(load: ObjectLoader) -> None:
    ages = [0, 100, 200, 10_000, 20_000]
    done = load.load(key(0), body(*(row(n, event_timestamp=ago(seconds=age)) for n, age in enumerate(ages))))
    assert done is not None
    assert done.freshness_s is not None
    assert 200 <= done.freshness_s < 300


def test_freshness_is_never_negative(load: ObjectLoader) -> None:
    done = load.load(key(0), body(row(0, event_timestamp=text(datetime.now(UTC) + timedelta(hours=1)))))
    assert done is not None
    assert done.freshness_s == 0.0


def test_names_are_deleted_after_fourteen_days_unless_the_object_still_exists(
    warehouse: Warehouse, load: ObjectLoader
) -> None:
    for start in (0, 3, 6):
        load.load(key(start), batch(start, start + 3))
    with load._transaction() as cursor:
        old = datetime.now(UTC).replace(tzinfo=None) - timedelta(days=14, seconds=1)
        cursor.execute("UPDATE load_history SET last_load_time = ? WHERE file_name <> ?", [old, key(6)])
    assert load.forget({key(3)}) == {key(0)}
    assert load.history(0).names == {key(3), key(6)}
    assert load.forget(set()) == {key(3)}


def test_rows_are_never_loaded_without_their_name(
    warehouse: Warehouse, load: ObjectLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(object_loader, "_RECORD_LOAD", "SELECT ERROR('the disk is full'), ?, ?, ?, ?, ?")
        with pytest.raises(WarehouseError, match="the disk is full"):
            load.load(key(0), batch(0, 3))
    assert count(warehouse) == 0
    assert load.load(key(0), batch(0, 3)) is not None
    assert count(warehouse) == 3


def test_closing_rolls_back_an_active_load(warehouse: Warehouse, load: ObjectLoader) -> None:
    large = batch(0, 20_000)
    ended: list[str] = []

    def keep_loading() -> None:
        try:
            for start in range(1000):
                load.load(key(start), large)
        except WarehouseError as error:
            ended.append(str(error))

    loading_thread = threading.Thread(target=keep_loading)
    loading_thread.start()
    while not warehouse.busy:
        pass
    warehouse.close()
    loading_thread.join()
    assert len(ended) == 1
    again = opened(warehouse.path)
    files = again.query("SELECT COUNT(*) FROM load_history WHERE status = 'LOADED'").rows[0][0]
    assert again.query("SELECT COUNT(*), COUNT_IF(status <> 'LOADED') FROM load_history").rows == [[files, 0]]
    assert count(again) == 20_000 * files
    again.close()


def test_loading_into_a_closed_warehouse_is_an_error(warehouse: Warehouse, load: ObjectLoader) -> None:
    warehouse.close()
    with pytest.raises(WarehouseError, match="closed"):
        load.load(key(0), batch(0, 3))


_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=40)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(_TEXT, min_size=1, max_size=20))
def test_any_text_keeps_its_value(warehouse: Warehouse, load: ObjectLoader, texts: list[str]) -> None:
    name = f"events/{uuid.uuid4()}"
    done = load.load(name, body(*(row(n, session_id=it, properties={it: it}) for n, it in enumerate(texts))))
    assert done is not None
    assert done.error is None
    numbered = "SELECT session_id FROM marketing_events WHERE file_name = '{}' ORDER BY file_row_number"
    assert [cell for (cell,) in warehouse.query(numbered.format(name)).rows] == texts


LOADS = """
import sys
from pathlib import Path
from tests.warehouse_world import batch, key, loader, opened

warehouse = opened(Path(sys.argv[1]))
load = loader(warehouse)
for start in range(0, 1000, 20):
    if load.load(key(start), batch(start, start + 20)):
        print(start, flush=True)
warehouse.close()
"""


def test_after_kills_at_any_point_every_row_is_there_once(tmp_path: Path) -> None:
    chance = random.Random(5)
    path = tmp_path / "w.duckdb"
    command = [sys.executable, "-c", LOADS, str(path)]
    for _ in range(8):
        with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            for _ in range(chance.randint(1, 5)):
                child.stdout.readline()
            with suppress(subprocess.TimeoutExpired):
                child.wait(chance.uniform(0.0, 0.01))
            child.kill()
        warehouse = opened(path)
        found = warehouse.query(
            "SELECT COUNT(*), COUNT(DISTINCT source_offset), 20 * COUNT(DISTINCT file_name),"
            " 20 * (SELECT COUNT(*) FROM load_history) FROM marketing_events"
        ).rows[0]
        warehouse.close()
        assert len(set(found)) == 1, found
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    warehouse = opened(path)
    found = warehouse.query("SELECT COUNT(*), COUNT(DISTINCT source_offset) FROM marketing_events").rows[0]
    warehouse.close()
    assert found == [1000, 1000]
