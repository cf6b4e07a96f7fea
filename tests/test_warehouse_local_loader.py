"""The local Snowpipe loads each object once, soon, and through whatever the sink or the file does."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from ingestd.config import model as config
from ingestd.config.model import Seconds, SnowflakeConfig
from ingestd.core.errors import ConfigError, SinkForbidden, SinkUnavailable
from ingestd.demo.warehouse import local_loader as pipes
from ingestd.demo.warehouse.database import Warehouse
from ingestd.demo.warehouse.local_loader import LoaderState, LocalLoader
from ingestd.demo.warehouse.sqs_events import SqsEvents
from tests.fakes.memory_sink import Call, Fault, MemorySink
from tests.warehouse_world import COLUMNS, batch, body, key, only, row

SLOW, QUICK = Seconds(3600), Seconds(0.1)


def put(sink: MemorySink, start: int, end: int) -> str:
    """Land an object with these offsets; its key."""
    sink.objects[key(start)] = (batch(start, end), {})
    return key(start)


@pytest.fixture(autouse=True)
def _tries_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipes, "_RETRY_MAX", 0.05)


@pytest.fixture
def sink() -> MemorySink:
    return MemorySink()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "w.duckdb"


@asynccontextmanager
async def running(
    path: Path, sink: MemorySink, poll: Seconds = QUICK, notices: SqsEvents | None = None
) -> AsyncIterator[LocalLoader]:
    pipe = LocalLoader(config.WarehouseConfig(poll=poll), Warehouse(path, SnowflakeConfig()), COLUMNS, sink, notices)
    await pipe.start()
    task = asyncio.create_task(pipe.run())
    try:
        yield pipe
    finally:
        assert not task.done(), task
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await pipe.close()


async def until(pipe: LocalLoader, condition: Callable[[LoaderState], bool]) -> LoaderState:
    async with asyncio.timeout(20):
        while not condition(pipe.state()):  # noqa: ASYNC110 - a state tells only who asks
            await asyncio.sleep(0.01)
    return pipe.state()


def count(pipe: LocalLoader) -> object:
    return only(pipe.warehouse, "SELECT COUNT(*) FROM marketing_events")


async def test_loads_what_is_there_and_what_comes(path: Path, sink: MemorySink) -> None:
    put(sink, 0, 3)
    async with running(path, sink) as pipe:
        await until(pipe, lambda state: state.files_loaded == 1)
        last = put(sink, 3, 5)
        state = await until(pipe, lambda state: state.files_loaded == 2)
        assert (state.rows_loaded, state.pending, state.last_file, state.error) == (5, 0, last, None)
        assert state.last_loaded_at is not None
        assert state.freshness_s is not None
        assert state.failed == []
        assert count(pipe) == 5


async def test_a_hint_is_enough(path: Path, sink: MemorySink) -> None:
    async with running(path, sink, SLOW) as pipe:
        await pipe.settled()
        listed = sink.calls["list"]
        pipe.landed(put(sink, 0, 3))
        await until(pipe, lambda state: state.rows_loaded == 3)
        assert sink.calls["list"] == listed


async def test_what_is_hinted_at_twice_and_listed_too_is_loaded_once(path: Path, sink: MemorySink) -> None:
    async with running(path, sink) as pipe:
        for start in range(0, 30, 3):
            pipe.landed(put(sink, start, start + 3))
            pipe.landed(key(start))
        await pipe.settled()
        pipe.landed(key(0))
        await pipe.settled()
        assert sink.calls["get"] == 10
        assert (pipe.state().files_loaded, count(pipe)) == (10, 30)


async def test_settled_waits_for_all_that_is_there_now(path: Path, sink: MemorySink) -> None:
    async with running(path, sink, SLOW) as pipe:
        await pipe.settled()
        for start in range(0, 30, 3):
            put(sink, start, start + 3)
        await asyncio.gather(pipe.settled(), pipe.settled())
        assert count(pipe) == 30


@pytest.mark.parametrize("operation", ["list", "get"])
@pytest.mark.parametrize("kind", [SinkUnavailable, SinkForbidden])
async def test_goes_on_when_the_sink_is_back(
    path: Path,
    sink: MemorySink,
    operation: str,
    kind: type[SinkUnavailable],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "ingestd.demo.warehouse")

    def down(call: Call) -> Fault | None:
        return Fault(kind) if call.operation in {operation, "head"} else None

    sink.fail_when(down)
    put(sink, 0, 3)
    async with running(path, sink) as pipe:
        await until(pipe, lambda state: state.error is not None and sink.calls[operation] > 3)
        assert pipe.state().rows_loaded == 0
        sink.fail_when(None)
        state = await until(pipe, lambda state: state.rows_loaded == 3)
        assert (await until(pipe, lambda state: state.error is None)).rows_loaded == state.rows_loaded
    told = [record.message.split(":")[0] for record in caplog.records]
    assert len(told) == 2
    assert told[0].startswith("the local warehouse cannot load for now")
    assert told[1].startswith("the local warehouse loads again")


async def test_an_object_that_cannot_be_read_keeps_no_other_waiting(path: Path, sink: MemorySink) -> None:
    for start in range(0, 9, 3):
        put(sink, start, start + 3)
    sink.fail_when(lambda call: Fault() if call == Call("get", key(0)) else None)
    async with running(path, sink) as pipe:
        await until(pipe, lambda state: state.files_loaded == 2 and state.pending == 1)
        sink.fail_when(None)
        await until(pipe, lambda state: state.files_loaded == 3)


async def test_what_was_deleted_meanwhile_is_not_waited_for(path: Path, sink: MemorySink) -> None:
    async with running(path, sink, SLOW) as pipe:
        pipe.landed(key(0))
        pipe.landed(put(sink, 3, 6))
        await pipe.settled()
        assert (pipe.state().files_loaded, pipe.state().pending, pipe.state().error) == (1, 0, None)


async def test_says_which_files_failed(path: Path, sink: MemorySink, caplog: pytest.LogCaptureFixture) -> None:
    sink.objects[key(0)] = (body(row(0, client_id=None, page_url="https://example.com/private")), {})
    put(sink, 3, 6)
    async with running(path, sink) as pipe:
        await pipe.settled()
        (failed,) = pipe.state().failed
        assert failed.file == key(0)
        assert "NOT NULL" in failed.error
        assert (pipe.state().files_loaded, pipe.state().error) == (1, None)
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert key(0) in record.message
    assert "private" not in record.message
    async with running(path, sink) as pipe:
        assert pipe.state().failed == [failed]
        await pipe.settled()
        assert pipe.state().failed == [failed]


async def test_loads_nothing_but_objects_of_events(path: Path, sink: MemorySink) -> None:
    for other in (
        "quarantine/x.jsonl.gz",
        "events/x.json",
        "events/x.jsonl.gz.tmp",
        ".ingestd/probe.gz",
        "events2/x.jsonl.gz",
    ):
        sink.objects[other] = (batch(0, 3), {})
    async with running(path, sink) as pipe:
        pipe.landed("quarantine/x.jsonl.gz")
        await pipe.settled()
        assert pipe.state().files_loaded == 0
        assert sink.calls["get"] == 0


async def test_remembers_across_a_restart(path: Path, sink: MemorySink) -> None:
    put(sink, 0, 3)
    async with running(path, sink) as pipe:
        await pipe.settled()
    put(sink, 3, 5)
    async with running(path, sink) as pipe:
        assert (pipe.state().files_loaded, pipe.state().rows_loaded, pipe.state().last_file) == (1, 3, key(0))
        await pipe.settled()
        assert (pipe.state().files_loaded, pipe.state().rows_loaded, count(pipe)) == (2, 5, 5)
        assert sink.calls["get"] == 2


async def test_opens_the_file_afresh_when_it_fails(path: Path, sink: MemorySink) -> None:
    async with running(path, sink) as pipe:
        pipe.warehouse.close()
        put(sink, 0, 3)
        await pipe.settled()
        assert count(pipe) == 3
        assert pipe.state().error is None


async def test_begins_anew_where_the_file_is_gone(path: Path, sink: MemorySink) -> None:
    put(sink, 0, 3)
    async with running(path, sink) as pipe:
        await pipe.settled()
        pipe.warehouse.close()
        path.unlink()  # noqa: ASYNC240 - nothing else runs
        put(sink, 3, 5)
        await pipe.settled()
        assert (pipe.state().files_loaded, pipe.state().rows_loaded, count(pipe)) == (2, 5, 5)


class ScriptedNotices(SqsEvents):
    """A queue that fails when it is told to."""

    def __init__(self) -> None:
        super().__init__("http://127.0.0.1:1/q", "s3://bucket", None)
        self.fails = asyncio.Event()
        self.heard = True

    async def run(
        self, landed: Callable[[str], None], loaded: Callable[[list[str]], Awaitable[None]], lost: Callable[[], None]
    ) -> None:
        await self.fails.wait()
        self.heard = False
        lost()


async def test_lists_seldom_where_a_queue_tells_of_objects_and_often_again_when_it_fails(
    path: Path, sink: MemorySink
) -> None:
    notices = ScriptedNotices()
    async with running(path, sink, QUICK, notices) as pipe:
        await pipe.settled()
        listed = sink.calls["list"]
        pipe.landed(put(sink, 0, 3))
        await until(pipe, lambda state: state.rows_loaded == 3)
        put(sink, 3, 5)
        assert sink.calls["list"] == listed
        notices.fails.set()
        await until(pipe, lambda state: state.rows_loaded == 5)
        await until(pipe, lambda _: sink.calls["list"] > listed + 2)


async def test_names_are_those_of_the_bucket(path: Path) -> None:
    class Bucket(MemorySink):
        url = "s3://bucket/some/prefix"

    sink = Bucket()
    put(sink, 0, 3)
    async with running(path, sink) as pipe:
        await pipe.settled()
        assert pipe.state().last_file == "some/prefix/" + key(0)
        assert only(pipe.warehouse, "SELECT DISTINCT file_name FROM marketing_events") == "some/prefix/" + key(0)


async def test_a_folder_that_cannot_be_is_said_before_anything_runs(tmp_path: Path, sink: MemorySink) -> None:
    (tmp_path / "file").touch()
    pipe = LocalLoader(
        config.WarehouseConfig(), Warehouse(tmp_path / "file" / "w.duckdb", SnowflakeConfig()), COLUMNS, sink, None
    )
    with pytest.raises(ConfigError, match=r"warehouse\.path"):
        await pipe.start()
    await pipe.close()


def test_a_path_that_is_too_long_for_a_socket_is_said(tmp_path: Path, sink: MemorySink) -> None:
    with pytest.raises(ConfigError, match=r"warehouse\.path = .* is too long: with \.sock it may have 100 bytes"):
        LocalLoader(config.WarehouseConfig(), Warehouse(tmp_path / ("x" * 120), SnowflakeConfig()), COLUMNS, sink, None)
