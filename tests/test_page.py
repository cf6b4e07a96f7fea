"""The page without a browser: its access rules, event stream, queries and verification."""

import asyncio
import contextlib
import gzip
import random
import threading
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any
from urllib.parse import quote

import aiohttp
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestd import inspection
from ingestd.config.load import Settings
from ingestd.config.model import Config, HealthConfig, LogConfig, PageConfig, SinkConfig
from ingestd.core.counters import Totals
from ingestd.core.errors import IngestdError, SinkForbidden, SinkUnavailable
from ingestd.core.events import load_model
from ingestd.core.gzip import compress
from ingestd.core.object_keys import ObjectKeys
from ingestd.core.records import PlainRecord, TopicPartition
from ingestd.core.stored import ObjectInfo, Stored
from ingestd.core.validation import EventValidator, Validated
from ingestd.demo.page import routes, verification
from ingestd.demo.page.demo import Demo
from ingestd.demo.page.page_state import PageState
from ingestd.demo.page.queries import COUNT_TIMEOUT_S, Lane, PageQueries
from ingestd.demo.page.recent_activity import MAX_EVENTS, MAX_ROW_BYTES, ObservedSink, RecentActivity, SimulatedOutage
from ingestd.demo.page.routes import STATIC
from ingestd.demo.page.simulator_controls import SimulatorControls
from ingestd.demo.page.verification import conclude
from ingestd.demo.shop.server import STATIC as SHOP_STATIC
from ingestd.demo.warehouse.database import QueryResult
from ingestd.demo.warehouse.local_loader import LoaderState
from ingestd.ops import http
from ingestd.ops.health import HealthServer
from ingestd.ops.readiness import PartitionStatus, Status
from ingestd.sources.simulator.source import EventControls
from ingestd.verify.findings import ChainCounts, VerifyFinding, VerifyReport
from ingestd.verify.run import VerifyOptions, verify
from tests.e2e.daemon import DEADLINE
from tests.fakes.memory_sink import MemorySink

P0 = TopicPartition("marketing_events", 0)
DEMO = Config(page=PageConfig(enabled=True, controls=True))
SETTINGS = Settings(msgspec.structs.replace(DEMO, log=LogConfig(format="json")), {"kafka.topics": "default"})
RUNNING = Status(
    version="1.2.3", started_at=datetime(2026, 1, 2, tzinfo=UTC), uptime=5.0, source="simulator", sink="file:///data",
    phase="running", assigned=True, reasons=[],
)  # fmt: skip
GOOD = b'{"event_id":"1","client_id":"C","event_timestamp":"2026-01-02T00:00:00Z","event_type":"web_visit"}'
OBJECT = "events/year=2026/month=01/day=02/marketing_events+00000+00000000000000000000.jsonl.gz"


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Table:
    """Gives the same answer to every query."""

    def __init__(self) -> None:
        self.queries: list[str] = []

    def query(self, sql: str, limit: int = 1000, timeout_s: float = 5.0) -> QueryResult:
        self.queries.append(sql)
        if "nonsense" in sql:
            raise IngestdError("not a query")
        return QueryResult(["N"], [[7]])


def loader_state() -> LoaderState:
    return LoaderState(files_loaded=3, rows_loaded=12, last_file="events/x", freshness_s=1.5)


class Served:
    """A page served on a port."""

    def __init__(self, config: Config = DEMO) -> None:
        self.director, self.table, self.store, self.status = EventControls(), Table(), MemorySink(), RUNNING
        validator = EventValidator(config.events, load_model(None))
        self.demo = Demo(config, self.store, ObjectKeys(), self.director, validator)
        self.demo.page_state.bind(lambda: self.status)
        self.demo.attach_table(loader_state, self.table)
        self.server = HealthServer(
            HealthConfig(port=0), lambda: self.status, lambda: (b"", "text/plain"), self.demo.routes
        )
        self.port = 0

    async def request(self, path: str, method: str = "GET", **headers: str) -> tuple[int, str]:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        async with (
            asyncio.timeout(DEADLINE),
            aiohttp.ClientSession() as session,
            session.request(method, f"http://127.0.0.1:{self.port}{path}", headers=names) as response,
        ):
            return response.status, await response.text()

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @contextlib.asynccontextmanager
    async def stream(self, source: str = "127.0.0.1") -> AsyncIterator[asyncio.StreamReader]:
        """Opens the event stream from the address `source`, and skips the head of the response."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, local_addr=(source, 0))
        try:
            writer.write(b"GET /page/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            if b" 200 OK" not in head:
                raise ConnectionRefusedError(head.decode())
            yield reader
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


async def next_state(reader: asyncio.StreamReader) -> dict[str, Any]:
    async with asyncio.timeout(DEADLINE):
        while not (line := await reader.readline()).startswith(b"data: "):
            assert line, "the stream has ended"
    found: dict[str, Any] = msgspec.json.decode(line.removeprefix(b"data: "))
    return found


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    it = Served()
    it.port = await it.server.start()
    running = asyncio.create_task(it.demo.run())
    yield it
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    await it.server.stop()


# -- access


@pytest.mark.parametrize("path", ["/", "/page/page.css", "/page/page.js", "/page/client?id=C", "/page/object?key=x"])
async def test_a_rebound_host_name_reads_nothing(served: Served, path: str) -> None:
    for host in ("evil.example", "evil.example:9464", "127.0.0.1.evil.example", "localhost.evil.example", "[", ""):
        assert (await served.request(path, Host=host))[0] in {400, 403}, host


@pytest.mark.parametrize("host", ["localhost:1234", "127.0.0.1", "[::1]:80", "192.168.1.20:9464"])
async def test_the_page_answers_to_an_address(served: Served, host: str) -> None:
    status, body = await served.request("/", Host=host)
    assert (status, "ingestd" in body) == (200, True)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "null"},
        {"Origin": "http://evil.example"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "http://evil.example", "Host": "evil.example"},
        {"Origin": "http://192.168.1.20:9464", "Host": "192.168.1.20:9464"},
    ],
)
async def test_only_the_page_itself_on_this_machine_controls_the_run(served: Served, headers: dict[str, str]) -> None:
    assert (await served.request("/page/control/pause", "POST", **headers))[0] == 403
    assert not served.director.paused


async def test_a_cross_site_request_controls_nothing(served: Served) -> None:
    headers = {"Origin": served.origin, "Sec_Fetch_Site": "cross-site"}
    assert (await served.request("/page/control/pause", "POST", **headers))[0] == 403


async def test_the_page_itself_pauses_and_resumes(served: Served) -> None:
    status, body = await served.request("/page/control/pause", "POST", Origin=served.origin)
    assert (status, served.director.paused) == (200, True)
    assert msgspec.json.decode(body)["paused"] is True
    await served.request("/page/control/resume", "POST", Origin=served.origin)
    assert not served.director.paused


@pytest.mark.parametrize("name", ["pause", "resume", "burst", "bad", "outage"])
async def test_a_get_request_changes_nothing(served: Served, name: str) -> None:
    assert (await served.request(f"/page/control/{name}", Origin=served.origin))[0] == 405


async def test_nothing_is_controlled_once_the_run_ends(served: Served) -> None:
    served.status = msgspec.structs.replace(RUNNING, phase="draining")
    assert (await served.request("/page/control/outage", "POST", Origin=served.origin))[0] == 409


def test_without_page_controls_there_is_no_control_and_no_query() -> None:
    watched = Served(Config(page=PageConfig(enabled=True)))
    assert not [it for it in watched.demo.routes if it.path.startswith(("/page/control/", "/page/query"))]


def test_without_a_simulator_only_the_outage_can_be_controlled() -> None:
    assert list(SimulatorControls(SimulatedOutage(), None, allowed=True).actions) == ["outage"]


async def test_the_page_loads_nothing_from_other_hosts(served: Served) -> None:
    async with aiohttp.ClientSession() as session, session.get(f"{served.origin}/") as response:
        policy = response.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    for file in (*STATIC.iterdir(), *SHOP_STATIC.iterdir()):
        text = file.read_text()
        assert "://" not in text.replace("http://www.w3.org/2000/svg", "").replace("https?:\\/\\/", ""), file


# -- streams


async def test_a_viewer_gets_the_state_and_then_its_changes(served: Served) -> None:
    async with served.stream() as reader:
        assert (await next_state(reader))["status"]["totals"]["consumed"] == 0
        served.status = msgspec.structs.replace(RUNNING, totals=Totals(consumed=5, in_flight=5))
        while (state := await next_state(reader))["status"]["totals"]["consumed"] != 5:
            pass
        assert state["loader"] == msgspec.to_builtins(loader_state())


async def test_a_viewer_starts_with_the_present_state(served: Served) -> None:
    async with served.stream() as first:
        await next_state(first)
        served.status = msgspec.structs.replace(RUNNING, totals=Totals(consumed=5, in_flight=5))
        async with served.stream() as second:
            assert (await next_state(second))["status"]["totals"]["consumed"] == 5


async def test_viewers_are_limited_and_those_connected_stay(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MAX_STREAMS", 2)
    async with served.stream() as first, served.stream() as second:
        await next_state(first)
        await next_state(second)
        assert (await served.request("/page/events"))[0] == 503
        await next_state(first)
    async with asyncio.timeout(DEADLINE):
        while True:
            with contextlib.suppress(ConnectionRefusedError):
                async with served.stream() as third:
                    await next_state(third)
                return
            await asyncio.sleep(0.01)


def make_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes clients from 127.0.0.2 and up clients of other hosts."""
    for module in (http, routes):
        monkeypatch.setattr(module, "is_loopback", lambda host: host in {"localhost", "127.0.0.1"})


async def test_other_hosts_leave_streams_to_each_other_and_to_this_one(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_outside(monkeypatch)
    async with contextlib.AsyncExitStack() as stack:
        for peer, free in (("127.0.0.2", http.MAX_STREAMS_EACH), ("127.0.0.3", http.MAX_STREAMS_EACH)):
            for _ in range(free):
                await next_state(await stack.enter_async_context(served.stream(peer)))
            with pytest.raises(ConnectionRefusedError, match="503"):
                await stack.enter_async_context(served.stream(peer))
        with pytest.raises(ConnectionRefusedError, match="503"):
            await stack.enter_async_context(served.stream("127.0.0.4"))
        for _ in range(http.MAX_STREAMS - http.MAX_OUTSIDE_STREAMS):
            await next_state(await stack.enter_async_context(served.stream()))


async def test_a_flood_from_other_hosts_closes_no_connection_of_this_one(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_outside(monkeypatch)
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(b"GET /page/page.css HTTP/1.1\r\n")
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(2 * http.MAX_CONNECTIONS):
            _, other = await asyncio.open_connection("127.0.0.1", served.port, local_addr=("127.0.0.2", 0))
            stack.callback(other.close)
        writer.write(b"Host: 127.0.0.1\r\n\r\n")
        async with asyncio.timeout(DEADLINE):
            assert b" 200 OK" in await reader.readline()
    writer.close()


async def test_viewers_on_other_hosts_do_not_keep_the_presenter_from_objects(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_outside(monkeypatch)
    served.store.objects[OBJECT] = (gzip.compress(b"{}\n"), {})
    head, waiting, go = served.demo.sink.head, asyncio.Semaphore(0), asyncio.Event()

    async def slow(key: str) -> ObjectInfo | None:
        waiting.release()
        if not go.is_set():
            await go.wait()
        return await head(key)

    monkeypatch.setattr(served.demo.sink, "head", slow)
    monkeypatch.setattr(routes, "STORE_TIMEOUT_S", DEADLINE)
    path = f"/page/object?key={quote(OBJECT)}"
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(routes.MAX_VIEWERS + 2):
            _, other = await asyncio.open_connection("127.0.0.1", served.port, local_addr=("127.0.0.2", 0))
            stack.callback(other.close)
            other.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        for _ in range(routes.MAX_VIEWERS):
            await waiting.acquire()
        presenter = asyncio.create_task(served.request(path))
        async with asyncio.timeout(DEADLINE / 10):
            await waiting.acquire()
        go.set()
        assert (await presenter)[0] == 200


async def test_a_flood_of_connections_does_not_cut_a_viewer_off(served: Served) -> None:
    async with served.stream() as viewer, contextlib.AsyncExitStack() as stack:
        await next_state(viewer)
        for _ in range(2 * http.MAX_CONNECTIONS):
            _, writer = await asyncio.open_connection("127.0.0.1", served.port)
            stack.callback(writer.close)
        await next_state(viewer)


async def test_a_stream_outlives_the_deadline_of_a_request(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "DEADLINE_S", 0.2)
    async with served.stream() as viewer:
        for _ in range(3):
            await next_state(viewer)


async def test_the_stream_ends_with_the_last_state(served: Served) -> None:
    async with served.stream() as reader:
        await next_state(reader)
        served.demo.end(msgspec.structs.replace(RUNNING, phase="stopped"))
        while not (state := await next_state(reader))["ended"]:
            pass
        assert state["status"]["phase"] == "stopped"
        async with asyncio.timeout(DEADLINE):
            assert b"data:" not in await reader.read()


async def test_an_error_of_the_page_does_not_stop_the_daemon(caplog: pytest.LogCaptureFixture) -> None:
    demo = Served().demo

    def broken() -> Status:
        raise RuntimeError("boom")

    demo.page_state.bind(broken)
    await demo.run()
    assert "the live page has stopped updating" in caplog.text


# -- recent activity


def validated(*rows: bytes) -> Validated:
    return Validated([row + b"\n" for row in rows], {}, [])


def row(number: int, size: int = 0) -> bytes:
    return GOOD[:-1] + b',"source_partition":0,"source_offset":%d,"x":"%s"}' % (number, b"x" * size)


@settings(max_examples=50)
@given(chunks=st.lists(st.integers(0, 3 * MAX_EVENTS), max_size=5))
def test_activity_keeps_the_last_rows_in_order(chunks: list[int]) -> None:
    activity, made = RecentActivity(), 0
    for size in chunks:
        activity.record_chunk(P0, validated(*(row(made + i) for i in range(size))))
        made += size
    assert [it.source_offset for it in activity.events] == list(range(made))[::-1][:MAX_EVENTS]


def test_activity_keeps_no_large_row() -> None:
    activity = RecentActivity()
    activity.record_chunk(P0, validated(row(1), row(2, MAX_ROW_BYTES)))
    assert [it.source_offset for it in activity.events] == [1]


async def test_rejects_are_shown_with_their_reason(served: Served) -> None:
    served.demo.validator.chunk(P0, [PlainRecord(3, 0, b"<html>", None), PlainRecord(4, 0, GOOD, None)])
    state = msgspec.to_builtins(served.demo.page_state._snapshot(RUNNING))
    assert [(it["reason"], it["record"], it["excerpt"]) for it in state["rejects"]] == [
        ("not_json", "marketing_events[0]@3", "<html>")
    ]
    assert [it["source_offset"] for it in state["events"]] == [4]


async def test_a_simulated_outage_ends() -> None:
    clock = Clock()
    outage, store = SimulatedOutage(clock), MemorySink()
    sink = ObservedSink(store, ObjectKeys(), activity := RecentActivity(), outage)
    outage.begin(20.0)
    for attempt in (sink.put_new("events/a", b"", {}), sink.head("events/a"), sink.get("events/a"), sink.folders("")):
        with pytest.raises(SinkUnavailable, match="20 s more"):
            await attempt
    with pytest.raises(SinkUnavailable):
        [key async for key in sink.list("")]
    clock.now += 20.0
    assert await sink.put_new("events/a", b"x", {}) is Stored.CREATED
    assert await sink.put_new("events/a", b"x", {}) is Stored.EXISTS
    assert [it.key for it in activity.objects] == ["events/a"], "an object that existed before was not created now"


@pytest.mark.parametrize("key", ["", "../../etc/passwd", "events/../secret", ".ingestd/probe.gz", "warehouse.duckdb"])
async def test_only_objects_can_be_viewed(served: Served, key: str) -> None:
    assert (await served.request(f"/page/object?key={key}"))[0] == 404


async def test_the_viewer_shows_an_object_s_first_lines(served: Served) -> None:
    body = compress(b"".join(row(number) + b"\n" for number in range(100))).data
    await served.store.put_new(OBJECT, body, {"rows": "100"})
    status, text = await served.request(f"/page/object?key={quote(OBJECT)}")
    found = msgspec.json.decode(text)
    assert (status, found["size"], found["metadata"]) == (200, len(body), {"rows": "100"})
    assert found["lines"] == [row(number).decode() for number in range(routes.MAX_LINES)]


async def test_many_viewers_of_a_large_object_take_bounded_memory(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = random.Random(1).randbytes(2 << 20)
    await served.store.put_new(OBJECT, compress(row(0) + b"\n" + noise).data, {})
    held = most = 0
    get = served.store.get

    async def counting(key: str, limit: int | None = None) -> bytes:
        nonlocal held, most
        body = await get(key, limit)
        held += len(body)
        most = max(most, held)
        await asyncio.sleep(0.01)
        held -= len(body)
        return body

    monkeypatch.setattr(served.store, "get", counting)
    answers = await asyncio.gather(*(served.request(f"/page/object?key={quote(OBJECT)}") for _ in range(40)))
    assert {status for status, _ in answers} == {200}
    assert msgspec.json.decode(answers[0][1])["lines"][0] == row(0).decode()
    assert 0 < most <= routes.MAX_VIEWERS * routes.MAX_READ_BYTES


async def test_a_client_that_leaves_cancels_its_request(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    await served.store.put_new(OBJECT, compress(row(0) + b"\n").data, {})
    asked, cancelled = asyncio.Event(), asyncio.Event()

    async def endless(key: str, limit: int | None = None) -> bytes:
        asked.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            cancelled.set()
        return b""

    monkeypatch.setattr(served.store, "get", endless)
    monkeypatch.setattr(routes, "STORE_TIMEOUT_S", 10 * DEADLINE)
    _, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(f"GET /page/object?key={quote(OBJECT)} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    async with asyncio.timeout(DEADLINE / 10):
        await asked.wait()
        writer.close()
        await cancelled.wait()


# -- queries


async def test_a_client_id_is_quoted_in_sql() -> None:
    table = Table()
    await PageQueries(table, "MARKETING_EVENTS").client("x' OR '1'='1\\", Lane.VISITOR)
    assert all("= 'x'' OR ''1''=''1\\\\'" in sql for sql in table.queries)


class Stuck(Table):
    """A query that names `stuck` runs until the test ends it."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.release = threading.Semaphore(0), threading.Event()
        self.timeouts: list[float] = []

    @contextlib.contextmanager
    def released(self) -> Iterator[None]:
        """Ends the query after the test, though that failed."""
        try:
            yield
        finally:
            self.release.set()

    def query(self, sql: str, limit: int = 1000, timeout_s: float = 5.0) -> QueryResult:
        self.timeouts.append(timeout_s)
        if "stuck" in sql:
            self.begun.release()
            self.release.wait()
        return QueryResult(["N", "M"], [[7, 7]])


async def test_visitors_delay_neither_the_presenter_nor_the_verification() -> None:
    table = Stuck()
    queries = PageQueries(table, "EVENTS")
    visitors = [asyncio.create_task(queries.client("stuck", Lane.VISITOR)) for _ in range(10)]
    await asyncio.to_thread(table.begun.acquire)
    with table.released():
        async with asyncio.timeout(DEADLINE / 10):
            assert (await queries.run("SELECT 1", Lane.PRESENTER)).error is None
            assert (await queries.guide()).error is None
            assert await queries.count_rows() == (7, 7)
        assert table.timeouts[-1] == COUNT_TIMEOUT_S
        refused = await queries.run("SELECT 1", Lane.VISITOR)
        assert refused.error == "too many queries are waiting; try again"
    await asyncio.gather(*visitors)


async def test_a_visitor_who_leaves_gets_no_second_query_at_the_same_time() -> None:
    table = Stuck()
    queries = PageQueries(table, "EVENTS")
    with table.released():
        for number in range(20):
            visitor = asyncio.create_task(queries.run(f"SELECT stuck {number}", Lane.VISITOR))
            if number == 0:
                await asyncio.to_thread(table.begun.acquire)
            await asyncio.sleep(0)
            visitor.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await visitor
        assert len(table.timeouts) == 1
    assert (await queries.run("SELECT 1", Lane.VISITOR)).error is None
    assert len(table.timeouts) == 2


async def test_a_refused_query_returns_its_error(served: Served) -> None:
    status, body = await served.request("/page/query?sql=nonsense")
    assert (status, msgspec.json.decode(body)["error"]) == (200, "not a query")


async def test_the_guide_s_query_is_asked_of_the_configured_table() -> None:
    table = Table()
    reply = await PageQueries(table, "EVENTS_2").guide()
    assert reply.rows == [[7]]
    assert table.queries == [
        "SELECT COUNT(*) FROM events_2 WHERE event_timestamp >= DATEADD(minute, -5, CURRENT_TIMESTAMP())"
    ]


# -- verification


def report(*problems: VerifyFinding, rows: int = 10) -> VerifyReport:
    return VerifyReport(
        version="1", sink="file:///data", lineage=None, delivery="exactly-once", since=None, until=None, read=True,
        cluster=None, group=None, days=1, ok=not problems, totals=ChainCounts(objects=2, rows=rows), problem_counts={},
        problems=list(problems), note_counts={}, notes=[], partitions=[],
    )  # fmt: skip


COMPLETE = Totals(consumed=11, landed=10, quarantined=1)


def after(totals: Totals, **fields: Any) -> Status:
    return msgspec.structs.replace(RUNNING, totals=totals, **fields)


@pytest.mark.parametrize("table", [(0, 0), None])
def test_nothing_taken_is_not_verified(table: tuple[int, int] | None) -> None:
    found = conclude(report(rows=0), after(Totals()), table)
    assert not found.ok
    assert found.problems == ["nothing was read, so there is nothing to verify"]


def test_a_halted_partition_is_not_verified_and_says_why() -> None:
    halted = PartitionStatus(topic="t", partition=1, state="halted", halted="objects of another cluster")
    for totals in (Totals(), COMPLETE):
        found = conclude(report(), after(totals, partitions=[halted]), (10, 10))
        assert not found.ok
        assert "t[1] was halted: objects of another cluster" in found.problems


def test_a_sink_or_source_that_fails_is_named() -> None:
    found = conclude(report(), after(Totals(), sink_error="access denied", source_error="no broker"), (10, 10))
    assert found.problems[1:] == ["sink: access denied", "source: no broker"]


def test_skipped_tombstones_are_part_of_a_complete_run() -> None:
    found = conclude(report(), after(Totals(consumed=14, landed=10, quarantined=1, skipped=3)), (10, 10))
    assert found.ok
    assert found.facts[0] == "14 records consumed = 10 landed + 1 quarantined + 3 skipped"


def test_a_complete_run_is_verified() -> None:
    found = conclude(report(), after(COMPLETE), (10, 10))
    assert found.ok
    assert found.facts == [
        "11 records consumed = 10 landed + 1 quarantined",
        "10 rows in 2 objects: no gap, no overlap, each record once",
        "10 rows in the table: all of them, each once",
    ]
    assert found.text().startswith("  verified    11 records")


@pytest.mark.parametrize(
    ("found", "totals", "table", "words"),
    [
        (report(VerifyFinding(code="gap", message="1-2 are missing")), COMPLETE, (10, 10), "gap: 1-2 are missing"),
        (report(), Totals(consumed=12, landed=10, quarantined=1, in_flight=1), (10, 10), "12 records consumed, but 11"),
        (report(), COMPLETE, (9, 9), "the table has 9 rows, 9 of them distinct; the objects have 10"),
        (report(), COMPLETE, (10, 9), "the table has 10 rows, 9 of them distinct; the objects have 10"),
    ],
)
def test_whatever_is_missing_or_double_fails_the_verification(
    found: VerifyReport, totals: Totals, table: tuple[int, int], words: str
) -> None:
    concluded = conclude(found, after(totals), table)
    assert not concluded.ok
    assert [problem for problem in concluded.problems if words in problem]
    assert "PROBLEMS" in concluded.text()


async def test_a_verification_that_takes_too_long_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "TIMEOUT_S", 0.2)
    served = Served()
    served.demo.page_state.controls.actions["outage"]()
    found = await served.demo.verify(
        partial(verify, SETTINGS, VerifyOptions(), served.demo.sink, inspection.open_inspector), after(COMPLETE)
    )
    assert found.problems == ["verification failed: it took longer than 0.2 s"]


async def test_a_verification_that_the_store_refuses_fails() -> None:
    class Refusing(MemorySink):
        async def folders(self, prefix: str) -> list[str]:
            raise SinkForbidden("no such bucket", code="NoSuchBucket")

    found = await verification.verify_run(
        partial(verify, SETTINGS, VerifyOptions(), Refusing(), inspection.open_inspector), after(COMPLETE), None
    )
    assert found.problems == ["verification failed: no such bucket"]
    assert "no such bucket" in found.text()


def test_the_page_state_counts_each_event_in_one_column_of_the_chart() -> None:
    page_state = PageState(
        Config(sink=SinkConfig()), RecentActivity(), SimulatorControls(SimulatedOutage(), None, allowed=False)
    )
    for second, visits in enumerate((3, 3, 8)):
        totals = Totals(consumed=visits, accepted_by_type={"web_visit": visits}, rejected_by_reason={"not_json": 1})
        page_state._publish(msgspec.structs.replace(RUNNING, uptime=second + 0.5, totals=totals))
    assert [sample.counts for sample in page_state._samples] == [
        {"web_visit": 3, "rejected": 1},
        {},
        {"web_visit": 5},
    ]
