"""What follows objects into Snowflake's table, with a history and a pipe of the tests' own."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from ingestd import wiring
from ingestd.config import model as config
from ingestd.config.model import Config, Seconds
from ingestd.core.errors import IngestdError, SnowflakeUnavailable
from ingestd.core.records import TopicPartition
from ingestd.ops.metrics import Metrics
from ingestd.sinks.retry import SinkRetrier
from ingestd.snowflake import load_monitor as confirm
from ingestd.snowflake import object_tracker
from ingestd.snowflake.copy_history import CopiedFile
from ingestd.snowflake.load_monitor import LoadMonitor
from tests.archive import Archive

TP = TopicPartition("t", 0)
NOW = datetime.now(UTC).replace(microsecond=0)
MS = int(NOW.timestamp() * 1000)
DAY = 86_400_000


class Snow:
    """Answers with a history that tests write, and remembers what it was told."""

    def __init__(self) -> None:
        self.history: list[CopiedFile] = []
        self.asked: list[datetime] = []
        self.named: list[str] = []
        self.error: IngestdError | None = None
        self.busy: Callable[[], object] = lambda: None

    def ask(self, start: datetime, end: datetime) -> list[CopiedFile]:
        self._fail()
        self.asked.append(start)
        return [load for load in self.history if start <= load.at <= end]

    def name(self, files: Sequence[str]) -> None:
        self._fail()
        self.busy()
        self.named += files

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
        self.confirmation = self.begin()

    def begin(self) -> LoadMonitor:
        """One that has just started."""
        self.confirmation = LoadMonitor(
            config.SnowflakeConfig(confirm_interval=Seconds(1)),
            root="",
            sink=self.archive.sink,
            layout=self.archive.layout,
            guard=SinkRetrier(config.SinkConfig(retry_initial=Seconds(0.001), retry_max=Seconds(0.01)), lambda _: None),
            metrics=self.metrics,
            ask=self.snow.ask,
            name=self.snow.name if self.rest else None,
        )
        return self.confirmation

    def add(self, start: int, end: int, time: int = MS, **changes: Any) -> str:
        """An object that is there, of which nobody has told."""
        return self.archive.add(TP, start, end, time, **changes)

    def landed(self, start: int, end: int, time: int = MS) -> str:
        key = self.add(start, end, time)
        self.confirmation.landed(key)
        return key

    async def compare(self, now: datetime = NOW) -> None:
        await self.confirmation.compare(now)

    @property
    def numbers(self) -> tuple[int, int, int]:
        """Unloaded objects and rows, and failed files."""
        state = self.confirmation.state()
        return state.unloaded_objects, state.unloaded_rows, state.failed_files

    @property
    def rows_loaded(self) -> float:
        body = self.metrics.exposition()[0].decode()
        return float(body.split("\ningestd_snowflake_rows_loaded_total ")[1].split()[0])


@asynccontextmanager
async def running(confirmation: LoadMonitor) -> AsyncIterator[None]:
    task = asyncio.create_task(confirmation.run())
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
    assert world.confirmation.state().oldest_unloaded is not None

    world.snow.load(one, 5)
    await world.compare()
    assert (world.numbers, world.rows_loaded) == ((1, 3, 0), 5)

    world.snow.load(two, 3)
    await world.compare()
    assert (world.numbers, world.rows_loaded) == ((0, 0, 0), 8)
    assert world.confirmation.state().oldest_unloaded is None


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
    assert "never tries it again" in caplog.text
    world.snow.load(key, 4, NOW + timedelta(seconds=1), pipe=None)
    await world.compare(NOW + timedelta(seconds=2))
    assert world.numbers == (0, 0, 0)


async def test_of_many_failed_files_only_some_are_named_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    for start in range(confirm.TOLD + 5):
        world.snow.fail(world.landed(start, start + 1))

    await world.compare()

    assert len(caplog.records) == confirm.TOLD + 1
    assert "could not load 5 more files" in caplog.text


async def test_a_start_follows_what_is_not_loaded_of_the_newest_days_and_failed_files_too() -> None:
    world = World()
    old, loaded, failed, unheard = (world.add(n, n + 2, MS - DAY * (2 - n // 2)) for n in (0, 2, 4, 6))
    world.snow.load(old, 2)
    world.snow.load(loaded, 2)
    world.snow.fail(failed)

    await world.compare()

    assert world.numbers == (2, 4, 1)
    assert unheard in world.confirmation._following.objects
    assert world.archive.sink.calls["head"] == 2, "what is loaded needs no look"


async def test_an_object_without_rows_is_no_row_that_is_missing() -> None:
    world = World()
    world.add(0, 3, rejected=range(3))
    world.add(3, 6, rejected=range(3, 6))

    await world.compare()

    assert world.confirmation.state().unloaded_rows == 0
    assert world.confirmation.state().oldest_unloaded is None
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

    assert world.snow.asked[0] < NOW - confirm.NAMED_WITHIN
    assert world.snow.asked[-2:] == [NOW - confirm.OVERLAP, NOW + timedelta(hours=5) - confirm.OVERLAP]


async def test_an_adopted_object_is_looked_for_as_its_writer_may_have_died() -> None:
    world = World(rest=True)
    await world.compare()
    key = world.add(0, 2)
    world.metrics.adopted(TP, 0)

    async with running(world.confirmation):
        await until(lambda: world.snow.named)

    assert world.snow.named == [key.removeprefix("events/")]


async def test_snowflake_that_does_not_answer_is_said_once_and_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    world.landed(0, 1)
    world.snow.error = SnowflakeUnavailable("no network", code="x")
    caplog.set_level("INFO")

    async with running(world.confirmation):
        await until(lambda: "cannot be asked" in caplog.text)
        world.snow.error = None
        await until(lambda: "answers again" in caplog.text)

    assert caplog.text.count("cannot be asked") == 1


async def test_what_landed_is_named_to_the_pipe_at_once_and_in_order() -> None:
    world = World(rest=True)

    async with running(world.confirmation):
        keys = [world.landed(start, start + 1) for start in range(20)]
        await world.confirmation.settled()

    assert world.snow.named == [key.removeprefix("events/") for key in keys]
    assert world.confirmation.state().unnamed_objects == 0


async def test_what_lands_while_others_are_named_is_named_next() -> None:
    world = World(rest=True)
    called, free = threading.Event(), threading.Event()

    def busy() -> None:
        called.set()
        free.wait()

    world.snow.busy = busy
    async with running(world.confirmation):
        first = world.landed(0, 1)
        await until(called.is_set)
        second = world.landed(1, 2)
        free.set()
        await world.confirmation.settled()

    assert world.snow.named == [key.removeprefix("events/") for key in (first, second)]


async def test_naming_is_tried_until_it_succeeds(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(confirm, "RETRY_INITIAL", 0.001)
    monkeypatch.setattr(confirm, "RETRY_MAX", 0.002)
    caplog.set_level("INFO")
    world = World(rest=True)
    world.snow.error = SnowflakeUnavailable("HTTP 503", code="503")

    async with running(world.confirmation):
        world.landed(0, 1)
        await until(lambda: "cannot be told" in caplog.text)
        assert world.confirmation.state().unnamed_objects == 1
        world.snow.error = None
        await world.confirmation.settled()

    assert len(world.snow.named) == 1
    assert caplog.text.count("cannot be told") == 1


async def test_an_end_does_not_wait_for_a_pipe_that_cannot_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confirm, "PATIENCE", 0.01)
    world = World(rest=True)
    world.snow.error = SnowflakeUnavailable("HTTP 503", code="503")

    async with running(world.confirmation):
        world.landed(0, 1)
        await world.confirmation.settled()

    assert world.confirmation.state().unnamed_objects == 1


async def test_the_next_start_names_what_was_not_named_and_no_more(caplog: pytest.LogCaptureFixture) -> None:
    world = World(rest=True)
    loaded, failed = world.landed(0, 2), world.landed(2, 4)
    left = [world.landed(start, start + 1) for start in (4, 5)]
    await world.confirmation.close()
    assert "4 objects are not named to the pipe; the next start names them" in caplog.text
    world.snow.load(loaded, 2)
    world.snow.fail(failed)

    async with running(world.begin()):
        await until(lambda: len(world.snow.named) >= len(left))

    assert world.snow.named == [key.removeprefix("events/") for key in left]


async def test_what_a_pipe_may_have_forgotten_is_never_named_again() -> None:
    world = World(rest=True)
    old = MS - int(confirm.NAMED_WITHIN / timedelta(milliseconds=1)) - 60_000
    world.add(0, 2, old)
    fresh = world.add(2, 4)

    async with running(world.confirmation):
        await until(lambda: world.snow.named)

    assert world.snow.named == [fresh.removeprefix("events/")]


async def test_objects_for_which_there_is_no_room_are_found_in_the_store_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(object_tracker, "MAX_FOLLOWED", 4)
    world = World()
    keys = [world.landed(start, start + 1) for start in range(6)]

    for _ in range(4):
        await world.compare()
        for key in list(world.confirmation._following.objects):
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
    with pytest.raises(IngestdError, match=r'pip install "ingestd\[snowflake\]"'):
        wiring.make_load_monitor(
            settings, world.archive.sink, SinkRetrier(config.SinkConfig(), lambda _: None), world.metrics
        )


def test_a_daemon_that_follows_nothing_needs_nothing_for_it() -> None:
    program = """
import sys
for library in ("snowflake", "jwt", "cryptography"):
    sys.modules[library] = None
from ingestd import daemon, wiring
from ingestd.config.model import Config
assert wiring.make_load_monitor(Config(), None, None, None) is None
"""
    done = subprocess.run([sys.executable, "-c", program], timeout=60, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
