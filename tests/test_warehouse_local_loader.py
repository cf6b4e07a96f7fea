"""The loader loads each object once, soon after it landed, whatever happens to the sink or the file."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from ingestd.config import model as config
from ingestd.config.model import SnowflakeConfig
from ingestd.config.types import Seconds
from ingestd.core.errors import ConfigError, SinkForbidden, SinkUnavailable
from ingestd.demo.warehouse import local_loader
from ingestd.demo.warehouse.local_loader import LoaderState, LocalLoader
from ingestd.demo.warehouse.process import WarehouseProcess
from ingestd.demo.warehouse.sqs_events import SqsEvents
from tests.fakes.memory_sink import Call, Fault, MemorySink
from tests.warehouse_world import COLUMNS, batch, body, key, only, row

SLOW, QUICK = Seconds(3600), Seconds(0.1)


def put(sink: MemorySink, start: int, end: int) -> str:
    """Stores an object with these offsets; returns its key."""
    sink.objects[key(start)] = (batch(start, end), {})
    return key(start)


@pytest.fixture(autouse=True)
def _tries_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_loader, "_RETRY_MAX_S", 0.05)


@pytest.fixture
def sink() -> MemorySink:
    return MemorySink()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "w.duckdb"


@asynccontextmanager
async def running(
    path: Path, sink: MemorySink, poll: Seconds = QUICK, events: SqsEvents | None = None
) -> AsyncIterator[LocalLoader]:
    loader = LocalLoader(
        config.WarehouseConfig(poll=poll), WarehouseProcess(path, SnowflakeConfig()), COLUMNS, sink, events
    )
    await loader.start()
    task = asyncio.create_task(loader.run())
    try:
        yield loader
    finally:
        assert not task.done(), task
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await loader.close()


async def until(loader: LocalLoader, condition: Callable[[LoaderState], bool]) -> LoaderState:
    async with asyncio.timeout(20):
        while not condition(loader.state()):  # noqa: ASYNC110 - the state must be polled
            await asyncio.sleep(0.01)
    return loader.state()


def count(loader: LocalLoader) -> object:
    return only(loader.warehouse, "SELECT COUNT(*) FROM marketing_events")


async def test_loads_existing_and_new_objects(path: Path, sink: MemorySink) -> None:
    put(sink, 0, 3)
    async with running(path, sink) as loader:
        await until(loader, lambda state: state.files_loaded == 1)
        last = put(sink, 3, 5)
        state = await until(loader, lambda state: state.files_loaded == 2)
        assert (state.rows_loaded, state.pending, state.last_file, state.error) == (5, 0, last, None)
        assert state.last_loaded_at is not None
        assert state.freshness_s is not None
        assert state.failed == []
        assert count(loader) == 5


async def test_loads_objects_with_a_leader_epoch_in_their_names(path: Path, sink: MemorySink) -> None:
    """Those with records that Kafka has lost, too: the file's name tells their rows apart."""
    for epoch in (1, 3):
        name = key(0).replace(".jsonl.gz", f"+epoch{epoch:010d}.jsonl.gz")
        sink.objects[name] = batch(0, 3), {}
    async with running(path, sink) as loader:
        state = await until(loader, lambda state: state.files_loaded == 2)
        assert (state.rows_loaded, state.failed) == (6, [])


async def test_a_hint_loads_without_a_listing(path: Path, sink: MemorySink) -> None:
    async with running(path, sink, SLOW) as loader:
        await loader.settled()
        listed = sink.calls["list"]
        loader.landed(put(sink, 0, 3))
        await until(loader, lambda state: state.rows_loaded == 3)
        assert sink.calls["list"] == listed


async def test_an_object_with_several_hints_and_a_listing_is_loaded_once(path: Path, sink: MemorySink) -> None:
    async with running(path, sink) as loader:
        for start in range(0, 30, 3):
            loader.landed(put(sink, start, start + 3))
            loader.landed(key(start))
        await loader.settled()
        loader.landed(key(0))
        await loader.settled()
        assert sink.calls["get"] == 10
        assert (loader.state().files_loaded, count(loader)) == (10, 30)


async def test_settled_waits_for_all_present_objects(path: Path, sink: MemorySink) -> None:
    async with running(path, sink, SLOW) as loader:
        await loader.settled()
        for start in range(0, 30, 3):
            put(sink, start, start + 3)
        await asyncio.gather(loader.settled(), loader.settled())
        assert count(loader) == 30


@pytest.mark.parametrize("operation", ["list", "get"])
@pytest.mark.parametrize("kind", [SinkUnavailable, SinkForbidden])
async def test_loads_again_when_the_sink_recovers(
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
    async with running(path, sink) as loader:
        await until(loader, lambda state: state.error is not None and sink.calls[operation] > 3)
        assert loader.state().rows_loaded == 0
        sink.fail_when(None)
        state = await until(loader, lambda state: state.rows_loaded == 3)
        assert (await until(loader, lambda state: state.error is None)).rows_loaded == state.rows_loaded
    messages = [record.message.split(":")[0] for record in caplog.records]
    assert len(messages) == 2
    assert messages[0].startswith("the local warehouse cannot load; retrying")
    assert messages[1].startswith("the local warehouse loads again")


async def test_an_unreadable_object_does_not_delay_others(path: Path, sink: MemorySink) -> None:
    for start in range(0, 9, 3):
        put(sink, start, start + 3)
    sink.fail_when(lambda call: Fault() if call == Call("get", key(0)) else None)
    async with running(path, sink) as loader:
        await until(loader, lambda state: state.files_loaded == 2 and state.pending == 1)
        sink.fail_when(None)
        await until(loader, lambda state: state.files_loaded == 3)


async def test_a_deleted_object_is_skipped(path: Path, sink: MemorySink) -> None:
    async with running(path, sink, SLOW) as loader:
        loader.landed(key(0))
        loader.landed(put(sink, 3, 6))
        await loader.settled()
        assert (loader.state().files_loaded, loader.state().pending, loader.state().error) == (1, 0, None)


async def test_reports_failed_files(path: Path, sink: MemorySink, caplog: pytest.LogCaptureFixture) -> None:
    sink.objects[key(0)] = (body(row(0, client_id=None, page_url="https://example.com/private")), {})
    put(sink, 3, 6)
    async with running(path, sink) as loader:
        await loader.settled()
        (failed,) = loader.state().failed
        assert failed.file == key(0)
        assert "NOT NULL" in failed.error
        assert (loader.state().files_loaded, loader.state().error) == (1, None)
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert key(0) in record.message
    assert "private" not in record.message
    async with running(path, sink) as loader:
        assert loader.state().failed == [failed]
        await loader.settled()
        assert loader.state().failed == [failed]


async def test_loads_only_event_objects(path: Path, sink: MemorySink) -> None:
    for other in (
        "quarantine/x.jsonl.gz",
        "events/x.json",
        "events/x.jsonl.gz.tmp",
        ".ingestd/probe.gz",
        "events2/x.jsonl.gz",
    ):
        sink.objects[other] = (batch(0, 3), {})
    async with running(path, sink) as loader:
        loader.landed("quarantine/x.jsonl.gz")
        await loader.settled()
        assert loader.state().files_loaded == 0
        assert sink.calls["get"] == 0


async def test_keeps_its_history_across_a_restart(path: Path, sink: MemorySink) -> None:
    put(sink, 0, 3)
    async with running(path, sink) as loader:
        await loader.settled()
    put(sink, 3, 5)
    async with running(path, sink) as loader:
        assert (loader.state().files_loaded, loader.state().rows_loaded, loader.state().last_file) == (1, 3, key(0))
        await loader.settled()
        assert (loader.state().files_loaded, loader.state().rows_loaded, count(loader)) == (2, 5, 5)
        assert sink.calls["get"] == 2


async def test_reopens_the_file_after_an_error(path: Path, sink: MemorySink) -> None:
    async with running(path, sink) as loader:
        loader.warehouse.close()
        put(sink, 0, 3)
        await loader.settled()
        assert count(loader) == 3
        assert loader.state().error is None


async def test_goes_on_when_the_warehouse_s_process_was_killed(path: Path, sink: MemorySink) -> None:
    async with running(path, sink) as loader:
        put(sink, 0, 3)
        await loader.settled()
        child = loader.warehouse._child
        assert child is not None
        child._process.kill()
        put(sink, 3, 5)
        await loader.settled()
        assert (loader.state().files_loaded, loader.state().rows_loaded, count(loader)) == (2, 5, 5)
        assert loader.state().error is None


async def test_loads_everything_again_when_the_file_was_deleted(path: Path, sink: MemorySink) -> None:
    put(sink, 0, 3)
    async with running(path, sink) as loader:
        await loader.settled()
        loader.warehouse.close()
        path.unlink()  # noqa: ASYNC240 - nothing else runs
        put(sink, 3, 5)
        await loader.settled()
        assert (loader.state().files_loaded, loader.state().rows_loaded, count(loader)) == (2, 5, 5)


class ScriptedEvents(SqsEvents):
    """A queue that fails on request."""

    def __init__(self) -> None:
        super().__init__("http://127.0.0.1:1/q", "s3://bucket", None)
        self.fails = asyncio.Event()
        self.is_answering = True

    async def run(
        self, landed: Callable[[str], None], loaded: Callable[[list[str]], Awaitable[None]], failed: Callable[[], None]
    ) -> None:
        await self.fails.wait()
        self.is_answering = False
        failed()


async def test_lists_rarely_while_a_queue_answers_and_often_after_it_fails(path: Path, sink: MemorySink) -> None:
    events = ScriptedEvents()
    async with running(path, sink, QUICK, events) as loader:
        await loader.settled()
        listed = sink.calls["list"]
        loader.landed(put(sink, 0, 3))
        await until(loader, lambda state: state.rows_loaded == 3)
        put(sink, 3, 5)
        assert sink.calls["list"] == listed
        events.fails.set()
        await until(loader, lambda state: state.rows_loaded == 5)
        await until(loader, lambda _: sink.calls["list"] > listed + 2)


async def test_file_names_include_the_bucket_s_prefix(path: Path) -> None:
    class Bucket(MemorySink):
        url = "s3://bucket/some/prefix"

    sink = Bucket()
    put(sink, 0, 3)
    async with running(path, sink) as loader:
        await loader.settled()
        assert loader.state().last_file == "some/prefix/" + key(0)
        assert only(loader.warehouse, "SELECT DISTINCT file_name FROM marketing_events") == "some/prefix/" + key(0)


async def test_an_unusable_folder_fails_at_start(tmp_path: Path, sink: MemorySink) -> None:
    (tmp_path / "file").touch()
    loader = LocalLoader(
        config.WarehouseConfig(),
        WarehouseProcess(tmp_path / "file" / "w.duckdb", SnowflakeConfig()),
        COLUMNS,
        sink,
        None,
    )
    with pytest.raises(ConfigError, match=r"warehouse\.path"):
        await loader.start()
    await loader.close()


def test_a_path_too_long_for_a_socket_is_an_error(tmp_path: Path, sink: MemorySink) -> None:
    with pytest.raises(ConfigError, match=r"warehouse\.path = .* is too long: with \.sock it may have 100 bytes"):
        LocalLoader(
            config.WarehouseConfig(), WarehouseProcess(tmp_path / ("x" * 120), SnowflakeConfig()), COLUMNS, sink, None
        )
