"""The daemon with a local warehouse: queried while it runs, killed, and stopped."""

import asyncio
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ingestd.config.model import SnowflakeConfig
from ingestd.demo.warehouse.database import Warehouse
from tests.conftest import MakeTopic
from tests.e2e.conftest import MakeDaemon
from tests.e2e.daemon import DEADLINE, Daemon
from tests.e2e.events import fill, is_good
from tests.e2e.loader import DataObject, in_bucket, in_directory
from tests.services.kafka import KafkaAddress
from tests.services.seaweed import S3Store

GUIDE = "SELECT COUNT(*) FROM marketing_events WHERE event_timestamp >= DATEADD(minute, -5, CURRENT_TIMESTAMP())"
ALL = "SELECT COUNT(*) FROM marketing_events"
ORIGINS = "SELECT source_partition, source_offset FROM marketing_events"


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon from the simulator to a directory and a warehouse, in a time zone other than UTC."""
    keys = {
        "source": "simulator",
        "simulator.rate": "60000",
        "sink.url": str(tmp_path / "data"),
        "batch.interval": "100ms",
        "warehouse.kind": "local",
        "warehouse.path": str(tmp_path / "w.duckdb"),
        "warehouse.poll": "100ms",
    }
    daemon = Daemon("local", tmp_path, keys, {"TZ": "America/New_York"})
    yield daemon
    daemon.kill()


@pytest.fixture
def landed(s3: S3Store, bucket: str) -> Callable[[], list[DataObject]]:
    """Returns a function that reads the objects in the bucket."""
    return lambda: in_bucket(s3, bucket)


async def query(file: Path, sql: str) -> list[dict[str, object]]:
    """Runs `ingestd query` in another process; returns its rows."""
    command = [sys.executable, "-m", "ingestd", "query", sql, "--json", "--warehouse-file", str(file)]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


async def count(file: Path, sql: str = GUIDE) -> int:
    ((number,),) = (row.values() for row in await query(file, sql))
    assert isinstance(number, int)
    return number


async def until_counted(file: Path, more_than: int, sql: str = GUIDE) -> int:
    async with asyncio.timeout(DEADLINE):
        while (number := await count(file, sql)) <= more_than:
            pass
    return number


def loaded(file: Path) -> Counter[tuple[object, ...]]:
    """Counts the rows by partition and offset. No process may have the file open."""
    warehouse = Warehouse(file, SnowflakeConfig())
    warehouse.open_for_reading()
    try:
        return Counter(tuple(row) for row in warehouse.query(ORIGINS, 10**9).rows)
    finally:
        warehouse.close()


async def test_the_guide_s_query_works_during_a_run_and_afterwards(daemon: Daemon, tmp_path: Path) -> None:
    await daemon.start_ready()
    file = tmp_path / "w.duckdb"
    first = await until_counted(file, 0)
    await until_counted(file, first)
    scores = await query(file, "SELECT client_id, propensity, next_best_action FROM client_scores LIMIT 5")
    assert len(scores) == 5
    assert await daemon.stop() == 0
    landed = [row for found in in_directory(tmp_path / "data") for row in found.rows]
    assert await count(file, ALL) == len(landed)
    assert loaded(file) == Counter((row["source_partition"], row["source_offset"]) for row in landed)
    left = {path.name for path in tmp_path.iterdir()}  # noqa: ASYNC240 - nothing else runs
    assert left == {"data", "local.log", "w.duckdb"}
    assert "nanobind" not in daemon.log_text()


async def test_after_repeated_kills_every_landed_row_is_loaded_once(daemon: Daemon, tmp_path: Path) -> None:
    file = tmp_path / "w.duckdb"
    seen = 0
    for _ in range(4):
        await daemon.start_ready()
        seen = await until_counted(file, seen)
        daemon.kill()
        now = loaded(file)
        assert set(now.values()) == {1}
        assert now.total() >= seen
    await daemon.start_ready()
    assert await daemon.stop() == 0
    objects = in_directory(tmp_path / "data")
    landed = Counter((row["source_partition"], row["source_offset"]) for found in objects for row in found.rows)
    assert loaded(file) == landed
    assert set(landed.values()) == {1}


async def test_every_row_from_kafka_through_s3_is_loaded_once(
    make_daemon: MakeDaemon,
    make_topic: MakeTopic,
    kafka: KafkaAddress,
    landed: Callable[[], list[DataObject]],
    tmp_path: Path,
) -> None:
    topic = await make_topic(3)
    await fill(kafka.bootstrap, topic, 3, 300)
    good = sum(map(is_good, range(300)))
    file = tmp_path / "w.duckdb"
    daemon = make_daemon("local", topic, {"warehouse.kind": "local", "warehouse.path": str(file)})
    await daemon.start_ready()
    await until_counted(file, good - 1, ALL)
    assert await daemon.stop() == 0
    rows = [row for found in await asyncio.to_thread(landed) for row in found.rows]
    assert loaded(file) == Counter((row["source_partition"], row["source_offset"]) for row in rows)
    assert len(rows) == good
