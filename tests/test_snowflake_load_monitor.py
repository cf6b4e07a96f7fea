"""What follows objects into Snowflake's table, with a history and a pipe of the tests' own."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from ingestd import wiring
from ingestd.config import model as config
from ingestd.config.load import Settings
from ingestd.config.model import Config
from ingestd.config.types import Seconds
from ingestd.core.errors import IngestdError, SinkForbidden, SnowflakeUnavailable
from ingestd.core.records import TopicPartition
from ingestd.daemon import Daemon
from ingestd.ops.metrics import Metrics
from ingestd.sinks.retry import SinkRetrier
from ingestd.snowflake import connection, load_monitor, load_queries, object_tracker
from ingestd.snowflake.copy_history import CopiedFile
from ingestd.snowflake.load_monitor import LoadMonitor
from tests.archive import Archive
from tests.fakes.memory_sink import Fault

TP = TopicPartition("t", 0)
NOW = datetime.now(UTC).replace(microsecond=0)
MS = int(NOW.timestamp() * 1000)
DAY = 86_400_000


async def nothing() -> None: ...


class Snow:
    """Answers with a history that tests write, and remembers what it was told."""

    def __init__(self) -> None:
        self.history: list[CopiedFile] = []
        self.asked: list[datetime] = []
        self.submitted: list[str] = []
        self.error: IngestdError | None = None
        self.busy: Callable[[], Awaitable[object]] = nothing

    def query(self, start: datetime, end: datetime) -> list[CopiedFile]:
        self._fail()
        self.asked.append(start)
        return [load for load in self.history if start <= load.at <= end]

    async def submit(self, files: Sequence[str]) -> None:
        self._fail()
        await self.busy()
        self.submitted += files

    def _fail(self) -> None:
        if self.error is not None:
            raise self.error

    def load(self, key: str, rows: int, at: datetime = NOW, **changes: Any) -> None:
        fields: dict[str, Any] = {
            "file_name": key.removeprefix("events/"), "stage_location": "s3://bucket/events/", "at": at, "rows": rows,
            "errors": 0, "error": None, "line": None, "status": "Loaded", "pipe": "P",
        }  # fmt: skip
        self.history.append(CopiedFile(**{**fields, **changes}))

    def fail(self, key: str, at: datetime = NOW) -> None:
        self.load(key, 0, at, status="Load failed", error="too long", errors=1, line=3)


class World:
    """A store, Snowflake, and who compares them."""

    def __init__(self, *, rest: bool = False) -> None:
        self.archive = Archive()
        self.snow = Snow()
        self.metrics = Metrics()
        self.rest = rest
        self.monitor = self.begin()

    def begin(self) -> LoadMonitor:
        """One that has just started."""
        self.monitor = LoadMonitor(
            config.SnowflakeConfig(confirm_interval=Seconds(1)),
            root="",
            sink=self.archive.sink,
            layout=self.archive.layout,
            retrier=SinkRetrier(
                config.SinkConfig(retry_initial=Seconds(0.001), retry_max=Seconds(0.01)), lambda _: None
            ),
            metrics=self.metrics,
            query_history=self.snow.query,
            submit=self.snow.submit if self.rest else None,
        )
        return self.monitor

    def add(self, start: int, end: int, time: int = MS, **changes: Any) -> str:
        """An object that is there, of which nobody has told."""
        return self.archive.add(TP, start, end, time, **changes)

    def landed(self, start: int, end: int, time: int = MS, **changes: Any) -> str:
        key = self.add(start, end, time, **changes)
        self.monitor.landed(key)
        return key

    async def compare(self, now: datetime = NOW) -> None:
        await self.monitor.compare(now)

    @property
    def numbers(self) -> tuple[int, int, int]:
        """Unloaded objects and rows, and failed files."""
        state = self.monitor.state()
        return state.unloaded_objects, state.unloaded_rows, state.failed_files

    @property
    def rows_loaded(self) -> float:
        body = self.metrics.exposition()[0].decode()
        return float(body.split("\ningestd_snowflake_rows_loaded_total ")[1].split()[0])


@asynccontextmanager
async def running(monitor: LoadMonitor) -> AsyncIterator[None]:
    task = asyncio.create_task(monitor.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - what it waits for is in a thread
            await asyncio.sleep(0.005)


async def test_rows_are_unloaded_until_the_history_has_all_of_them() -> None:
    world = World()
    one, two = world.landed(0, 5), world.landed(5, 8)

    await world.compare()
    assert world.numbers == (2, 8, 0)
    assert world.monitor.state().oldest_unloaded is not None

    world.snow.load(one, 5)
    await world.compare()
    assert (world.numbers, world.rows_loaded) == ((1, 3, 0), 5)

    world.snow.load(two, 3)
    await world.compare()
    assert (world.numbers, world.rows_loaded) == ((0, 0, 0), 8)
    assert world.monitor.state().oldest_unloaded is None


async def test_a_line_of_the_history_that_comes_again_counts_once() -> None:
    world = World()
    key = world.landed(0, 4)
    world.snow.load(key, 2, status="Partially loaded")

    await world.compare()
    await world.compare()

    assert world.numbers == (1, 2, 1)


async def test_a_failed_file_is_told_of_once_and_stays_until_it_is_repaired(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    key = world.landed(0, 4)
    world.snow.fail(key)

    await world.compare()
    await world.compare()

    assert world.numbers == (1, 4, 1)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "does not retry it" in caplog.text
    world.snow.load(key, 4, NOW + timedelta(seconds=1), pipe=None)
    await world.compare(NOW + timedelta(seconds=2))
    assert world.numbers == (0, 0, 0)


async def test_of_many_failed_files_only_some_are_named_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    for start in range(load_monitor.MAX_LOGGED + 5):
        world.snow.fail(world.landed(start, start + 1))

    await world.compare()

    assert len(caplog.records) == load_monitor.MAX_LOGGED + 1
    assert "could not load 5 more files" in caplog.text


async def test_a_start_follows_what_is_not_loaded_of_the_newest_days_and_failed_files_too() -> None:
    world = World()
    old, loaded, failed, unheard = (world.add(n, n + 2, MS - DAY * (2 - n // 2)) for n in (0, 2, 4, 6))
    world.snow.load(old, 2)
    world.snow.load(loaded, 2)
    world.snow.fail(failed)

    await world.compare()

    assert world.numbers == (2, 4, 1)
    assert unheard in world.monitor._tracker.objects
    assert world.archive.sink.calls["head"] == 2, "what is loaded needs no look"


async def test_an_object_without_rows_is_no_row_that_is_missing() -> None:
    world = World()
    world.add(0, 3, rejected=range(3))
    world.add(3, 6, rejected=range(3, 6))

    await world.compare()

    assert world.monitor.state().unloaded_rows == 0
    assert world.monitor.state().oldest_unloaded is None
    await world.compare(NOW + timedelta(hours=2))
    assert world.numbers == (0, 0, 0)


async def test_an_object_without_rows_that_could_not_be_loaded_has_failed() -> None:
    world = World()
    world.snow.fail(world.add(0, 3, rejected=range(3)))

    await world.compare()

    assert world.numbers == (1, 0, 1)


async def test_after_the_first_question_only_the_newest_history_is_asked_for() -> None:
    world = World()

    await world.compare(NOW)
    await world.compare(NOW + timedelta(hours=5))
    await world.compare(NOW + timedelta(hours=6))

    assert world.snow.asked[0] < NOW - load_monitor.SUBMIT_WITHIN
    assert world.snow.asked[-2:] == [NOW - load_monitor.OVERLAP, NOW + timedelta(hours=5) - load_monitor.OVERLAP]


@pytest.mark.parametrize("named", [None, 0])
async def test_an_adopted_object_is_looked_for_as_its_writer_may_have_died(named: int | None) -> None:
    world = World(rest=True)
    await world.compare()
    key = world.add(0, 2, named=named, leader_epoch=3)
    world.metrics.adopted(TP, 0)

    async with running(world.monitor):
        await until(lambda: world.snow.submitted)

    assert world.snow.submitted == [key.removeprefix("events/")]


async def test_snowflake_that_does_not_answer_is_said_once_and_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    world.landed(0, 1)
    world.snow.error = SnowflakeUnavailable("no network", code="x")
    caplog.set_level("INFO")

    async with running(world.monitor):
        await until(lambda: "cannot compare objects" in caplog.text)
        world.snow.error = None
        await until(lambda: "copy history recovered" in caplog.text)

    assert caplog.text.count("cannot compare objects") == 1


async def test_what_landed_is_named_to_the_pipe_at_once_and_in_order() -> None:
    world = World(rest=True)

    async with running(world.monitor):
        keys = [world.landed(start, start + 1) for start in range(20)]
        await world.monitor.settled()

    assert world.snow.submitted == [key.removeprefix("events/") for key in keys]
    assert world.monitor.state().unnamed_objects == 0


async def test_objects_with_a_leader_epoch_in_their_names_are_loaded_like_others() -> None:
    """At one offset there is one with records that Kafka has lost, and one with those that took their place."""
    world = World(rest=True)

    async with running(world.monitor):
        lost = world.landed(0, 5, named=0, leader_epoch=1)
        kept = world.landed(0, 5, named=0, leader_epoch=3)
        await world.monitor.settled()

    assert world.snow.submitted == [key.removeprefix("events/") for key in (lost, kept)]


async def test_what_lands_while_others_are_named_is_named_next() -> None:
    world = World(rest=True)
    called, free = asyncio.Event(), asyncio.Event()

    async def busy() -> None:
        called.set()
        await free.wait()

    world.snow.busy = busy
    async with running(world.monitor):
        first = world.landed(0, 1)
        await called.wait()
        second = world.landed(1, 2)
        free.set()
        await world.monitor.settled()

    assert world.snow.submitted == [key.removeprefix("events/") for key in (first, second)]


async def test_naming_is_tried_until_it_succeeds(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(load_monitor, "RETRY_INITIAL_S", 0.001)
    monkeypatch.setattr(load_monitor, "RETRY_MAX_S", 0.002)
    caplog.set_level("INFO")
    world = World(rest=True)
    world.snow.error = SnowflakeUnavailable("HTTP 503", code="503")

    async with running(world.monitor):
        world.landed(0, 1)
        await until(lambda: "cannot submit objects" in caplog.text)
        assert world.monitor.state().unnamed_objects == 1
        world.snow.error = None
        await world.monitor.settled()

    assert len(world.snow.submitted) == 1
    assert caplog.text.count("cannot submit objects") == 1


async def test_an_end_does_not_wait_for_a_pipe_that_cannot_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_monitor, "FINAL_SUBMIT_S", 0.01)
    world = World(rest=True)
    world.snow.error = SnowflakeUnavailable("HTTP 503", code="503")

    async with running(world.monitor):
        world.landed(0, 1)
        await world.monitor.settled()

    assert world.monitor.state().unnamed_objects == 1


async def test_the_next_start_names_what_was_not_named_and_no_more(caplog: pytest.LogCaptureFixture) -> None:
    world = World(rest=True)
    loaded, failed = world.landed(0, 2), world.landed(2, 4)
    left = [world.landed(start, start + 1) for start in (4, 5)]
    await world.monitor.close()
    assert "4 objects not submitted to the pipe; the next start submits them" in caplog.text
    world.snow.load(loaded, 2)
    world.snow.fail(failed)

    async with running(world.begin()):
        await until(lambda: len(world.snow.submitted) >= len(left))

    assert world.snow.submitted == [key.removeprefix("events/") for key in left]


async def test_what_a_pipe_may_have_forgotten_is_never_named_again() -> None:
    world = World(rest=True)
    old = MS - int(load_monitor.SUBMIT_WITHIN / timedelta(milliseconds=1)) - 60_000
    world.add(0, 2, old)
    fresh = world.add(2, 4)

    async with running(world.monitor):
        await until(lambda: world.snow.submitted)

    assert world.snow.submitted == [fresh.removeprefix("events/")]


async def test_objects_for_which_there_is_no_room_are_found_in_the_store_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(object_tracker, "MAX_TRACKED", 4)
    world = World()
    keys = [world.landed(start, start + 1) for start in range(6)]

    for _ in range(4):
        await world.compare()
        for key in list(world.monitor._tracker.objects):
            world.snow.load(key, 1)
    await world.compare()

    assert {load.file_name for load in world.snow.history} == {key.removeprefix("events/") for key in keys}
    assert (world.numbers, world.rows_loaded) == ((0, 0, 0), 6)


async def test_an_object_of_somebody_else_is_not_followed() -> None:
    world = World()
    key = world.landed(0, 1)
    world.archive.put(key, b"", None)

    await world.compare()

    assert world.numbers == (0, 0, 0)


def test_without_the_extra_a_daemon_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "snowflake.connector", None)
    settings = msgspec.structs.replace(Config(), snowflake=config.SnowflakeConfig(confirm=True))
    world = World()
    with pytest.raises(IngestdError, match="pip install snowflake-connector-python"):
        wiring.make_load_monitor(settings, world.archive.sink, world.metrics)


def test_a_daemon_that_follows_nothing_needs_nothing_for_it() -> None:
    program = """
import sys
for library in ("snowflake", "jwt", "cryptography"):
    sys.modules[library] = None
from ingestd import daemon, wiring
from ingestd.config.model import Config
assert wiring.make_load_monitor(Config(), None, None) is None
"""
    done = subprocess.run([sys.executable, "-c", program], timeout=60, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


async def test_a_store_that_denies_the_monitor_affects_neither_readiness_nor_uploads(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    archive = Archive()
    archive.sink.fail_when(lambda call: Fault(SinkForbidden, "AccessDenied") if call.operation == "head" else None)
    monkeypatch.setattr(wiring, "make_sink", lambda _: archive.sink)
    monkeypatch.setattr(connection, "load_connector", lambda: None)
    monkeypatch.setattr(load_queries, "query_history", lambda *_: [])
    settings = Config(
        source="simulator",
        sink=config.SinkConfig(url="s3://bucket/prefix", concurrency=1),
        snowflake=config.SnowflakeConfig(account="org-account", confirm=True),
    )
    daemon = Daemon(Settings(settings, {}))
    [monitor] = daemon._subscribers
    monitor.landed(archive.add(TP, 0, 1, MS))
    task = asyncio.create_task(monitor.run())
    await until(lambda: "sink access denied" in caplog.text)

    await asyncio.wait_for(daemon._retrier.call(archive.sink.put_new, "events/a", b"", {}), 5)
    await until(lambda: archive.sink.calls["head"] >= 2)
    status = daemon._status.take()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert (status.sink_error, status.sink_forbidden) == (None, False)
    assert caplog.text.count("uploads are not affected") == 1
    assert status.loading is not None
    assert status.loading.compared_age is None
