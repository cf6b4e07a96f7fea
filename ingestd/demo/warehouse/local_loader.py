"""Simulates Snowpipe: loads each object of the sink into the local warehouse once, soon after it landed.

The listing of the sink decides which objects to load; hints from the daemon or from the bucket's notifications only
start a load earlier. The warehouse stores the name of each loaded object in the same transaction as its rows.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from typing import TypeVar

import msgspec

from ingestd.config.model import WarehouseConfig
from ingestd.config.secrets import REDACTION
from ingestd.core.backoff import backoff
from ingestd.core.errors import ConfigError, SinkError, SinkUnavailable, WarehouseError
from ingestd.core.object_keys import EVENTS
from ingestd.core.sink_url import parse_sink_url
from ingestd.demo.warehouse.object_loader import LoadResult
from ingestd.demo.warehouse.process import WarehouseProcess
from ingestd.demo.warehouse.query_server import QueryServer
from ingestd.demo.warehouse.sqs_events import SqsEvents
from ingestd.ops.logs import Outage
from ingestd.sinks.base import Sink
from ingestd.snowflake.table import Column

log = logging.getLogger(__name__)

SUFFIX = ".jsonl.gz"
QUEUE_LIST_INTERVAL_S = 600.0  # between two listings while a queue reports objects: it may lose a message
MAX_FAILED = 100  # files in the state

_LIST_PAUSE_FACTOR = 10  # pause this many times as long as a listing takes
_FORGET_INTERVAL_S = 86_400.0  # between two deletions of old names
_RETRY_INITIAL_S, _RETRY_MAX_S = 0.2, 10.0

T = TypeVar("T")


class FailedLoad(msgspec.Struct, frozen=True):
    """A file of which no row was loaded. It is not retried."""

    file: str
    error: str


class LoaderState(msgspec.Struct, frozen=True, kw_only=True):
    """The loader's state. Files and rows count the whole table."""

    files_loaded: int = 0
    rows_loaded: int = 0
    pending: int = 0  # files that are known and not loaded
    last_file: str | None = None
    last_loaded_at: datetime | None = None  # UTC
    freshness_s: float | None = None  # from the event to its commit in the table, of the last file's median row
    failed: list[FailedLoad] = []  # newest last
    error: str | None = None  # of the last pass; None if it succeeded


class LocalLoader:
    """A subscriber that runs beside the pipeline and never delays it."""

    def __init__(
        self,
        settings: WarehouseConfig,
        warehouse: WarehouseProcess,
        columns: tuple[Column, ...],
        sink: Sink,
        events: SqsEvents | None,
    ) -> None:
        """`sink` is started by its owner before ``run``."""
        self._settings = settings
        self.warehouse = warehouse
        self._columns = columns
        self._sink = sink
        self._events = events
        self._query_server = QueryServer(warehouse)
        self._root = parse_sink_url(sink.url).prefix  # before each key in METADATA$FILENAME
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="warehouse")
        self._must_reopen = False  # after some errors DuckDB does not use a file again until it is reopened
        self._names: set[str] = set()  # loaded or failed
        self._pending: dict[str, None] = {}  # keys, in the order of arrival
        self._wake = asyncio.Event()
        self._progress = asyncio.Condition()
        self._passes_requested = self._passes_done = 0  # by settled()
        self._listed_at = self._forget_at = -QUEUE_LIST_INTERVAL_S  # on the loop's clock
        self._pause: float = settings.poll  # seconds between two listings
        self._outage = Outage()
        self._state = LoaderState()

    async def start(self) -> None:
        """Opens the warehouse and reads its load history. ConfigError if the file is unusable."""
        await self._in_thread(self._open)

    async def close(self) -> None:
        """Closes the warehouse. An unfinished load is rolled back; the next run repeats it."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(self._close)

    def state(self) -> LoaderState:
        return msgspec.structs.replace(self._state, pending=len(self._pending))

    def landed(self, key: str) -> None:
        """Takes a hint that there is an object of this key."""
        if key.startswith(EVENTS) and key.endswith(SUFFIX) and self._root + key not in self._names:
            self._pending[key] = None
            self._wake.set()

    async def settled(self) -> None:
        """Waits until every object that is in the sink now was loaded or has failed."""
        self._passes_requested += 1
        wanted = self._passes_requested
        self._wake.set()
        async with self._progress:
            await self._progress.wait_for(lambda: self._passes_done >= wanted)

    async def run(self) -> None:
        """Loads objects until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._query_server.run(), name="warehouse queries")
            if self._events is not None:
                group.create_task(
                    self._events.run(self.landed, self._wait_loaded, self._wake.set), name="warehouse events"
                )
            attempt = 0
            while True:
                self._wake.clear()
                try:
                    await self._run_pass()
                except (SinkError, WarehouseError, ConfigError) as error:
                    self._must_reopen = not isinstance(error, SinkError)
                    self._note_failure(error)
                    await asyncio.sleep(backoff(attempt, _RETRY_INITIAL_S, _RETRY_MAX_S, random.Random()))
                    attempt += 1
                else:
                    attempt = 0
                    self._note_success()
                    await self._wait_for_work()

    # -- one pass

    @property
    def _list_due(self) -> float:
        """The time of the next listing, on the loop's clock."""
        has_events = self._events is not None and self._events.is_answering
        return self._listed_at + (QUEUE_LIST_INTERVAL_S if has_events else self._pause)

    async def _run_pass(self) -> None:
        """Lists the sink if that is due or requested, and loads all pending objects."""
        if self._must_reopen:
            await self._in_thread(self._reopen)
            self._must_reopen = False
        requested = self._passes_requested
        if requested > self._passes_done or asyncio.get_running_loop().time() >= self._list_due:
            await self._list()
        while self._pending:
            key = next(iter(self._pending))
            try:
                await self._load(key)
            except (SinkError, WarehouseError):
                self._pending[key] = self._pending.pop(key)  # retried after the others
                raise
            async with self._progress:
                self._progress.notify_all()
        async with self._progress:
            self._passes_done = requested
            self._progress.notify_all()

    async def _list(self) -> None:
        """Adds new objects to the pending ones. Only here are names forgotten: a listed object must keep its name."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        must_forget = started >= self._forget_at
        present = set()
        async for key in self._sink.list(EVENTS):
            self.landed(key)
            if must_forget:
                present.add(self._root + key)
        if must_forget:
            self._names -= await self._in_thread(self.warehouse.forget, present)
            self._forget_at = started + _FORGET_INTERVAL_S
        self._listed_at = loop.time()
        self._pause = max(self._settings.poll, (self._listed_at - started) * _LIST_PAUSE_FACTOR)

    async def _load(self, key: str) -> None:
        name = self._root + key
        if name not in self._names and (body := await self._read(key)) is not None:
            result = await self._in_thread(self.warehouse.load, name, body)
            self._names.add(name)
            if result is not None:
                self._record(result)
        self._pending.pop(key, None)

    async def _read(self, key: str) -> bytes | None:
        """Reads the object; None if it was deleted."""
        try:
            return await self._sink.get(key)
        except SinkUnavailable:
            if await self._sink.head(key) is None:
                return None
            raise

    def _record(self, result: LoadResult) -> None:
        state = self._state
        if result.error is not None:
            # Without the error itself: it may quote a value of the row.
            log.error(
                "file %s failed to load into the local warehouse and is not retried; see load_history", result.file
            )
            failed = [*state.failed, FailedLoad(result.file, result.error)][-MAX_FAILED:]
            self._state = msgspec.structs.replace(state, failed=failed)
            return
        self._state = msgspec.structs.replace(
            state,
            files_loaded=state.files_loaded + 1,
            rows_loaded=state.rows_loaded + result.rows,
            last_file=result.file,
            last_loaded_at=result.loaded_at,
            freshness_s=result.freshness_s if result.freshness_s is not None else state.freshness_s,
        )

    async def _wait_for_work(self) -> None:
        """Waits for a hint, or until the next listing is due."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(self._list_due):
                await self._wake.wait()

    async def _wait_loaded(self, keys: list[str]) -> None:
        """Waits until none of `keys` is pending."""
        async with self._progress:
            await self._progress.wait_for(lambda: not any(key in self._pending for key in keys))

    # -- outages

    def _note_failure(self, error: Exception) -> None:
        text = REDACTION.clean(str(error))
        self._state = msgspec.structs.replace(self._state, error=text)
        if self._outage.begin(asyncio.get_running_loop().time()):
            log.warning("the local warehouse cannot load; retrying: %s", text)

    def _note_success(self) -> None:
        self._state = msgspec.structs.replace(self._state, error=None)
        if ended := self._outage.end(asyncio.get_running_loop().time()):
            log.info("the local warehouse loads again %s", ended)

    # -- in the thread

    def _open(self) -> None:
        history = self.warehouse.open(self._columns, MAX_FAILED)
        self._names = history.names
        self._state = msgspec.structs.replace(
            self._state,
            files_loaded=history.files,
            rows_loaded=history.rows,
            last_file=history.last_file,
            last_loaded_at=history.last_loaded_at,
            failed=[FailedLoad(name, error) for name, error in history.failed],
        )

    def _close(self) -> None:
        self.warehouse.close()
        self._thread.shutdown()
        self.warehouse.close()  # the thread may have reopened it

    def _reopen(self) -> None:
        self.warehouse.close()
        self._open()

    def _in_thread(self, function: Callable[..., T], *arguments: object) -> "asyncio.Future[T]":
        return asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)
