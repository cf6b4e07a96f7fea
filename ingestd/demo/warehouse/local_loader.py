"""The local Snowpipe, a simulation: loads each object of the sink once, soon after it has landed.

What the sink lists is the truth; a hint, from the daemon or from the bucket's notifications, only says where to look at
once. The names of what was loaded are in the warehouse's file and change in the same transaction as the rows.
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
from ingestd.demo.warehouse.database import Warehouse
from ingestd.demo.warehouse.loading import LoadedObject, Loader
from ingestd.demo.warehouse.query_server import QueryServer
from ingestd.demo.warehouse.sqs_events import SqsEvents
from ingestd.ops.logs import Outage
from ingestd.sinks.base import Sink
from ingestd.snowflake.table import Column

log = logging.getLogger(__name__)

SUFFIX = ".jsonl.gz"
SWEEP = 600.0  # seconds between two listings where a queue tells of objects: it may lose a message
FAILURES = 100  # that are kept in the state

_SHARE = 10  # a listing takes at most this part of the time, however long it is
_FORGET = 86_400.0  # seconds between two looks for names to forget
_RETRY_INITIAL, _RETRY_MAX = 0.2, 10.0  # seconds

T = TypeVar("T")


class Failed(msgspec.Struct, frozen=True):
    """A file of which no row was loaded; it is not tried again."""

    file: str
    error: str


class LoaderState(msgspec.Struct, frozen=True, kw_only=True):
    """How the pipe is. Files and rows are those of the whole table."""

    files_loaded: int
    rows_loaded: int
    pending: int  # files that are known and not loaded
    last_file: str | None
    last_loaded_at: datetime | None  # UTC
    freshness_s: float | None  # from the event to its commit in the table, of the last file's median row
    failed: list[Failed]  # the latest, the last one last
    error: str | None  # what keeps it from loading now


class LocalLoader:
    """Started and stopped by the daemon, beside the flow, which it never holds up."""

    def __init__(
        self,
        settings: WarehouseConfig,
        warehouse: Warehouse,
        columns: tuple[Column, ...],
        sink: Sink,
        notices: SqsEvents | None,
    ) -> None:
        """`sink` is started by its owner before ``run``."""
        self._settings = settings
        self.warehouse = warehouse
        self._columns = columns
        self._sink = sink
        self._notices = notices
        self._door = QueryServer(warehouse)
        self._root = parse_sink_url(sink.url).prefix  # before each key in METADATA$FILENAME
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="warehouse")
        self._loader: Loader | None = None
        self._is_stale = False  # the warehouse failed: it is opened afresh, as DuckDB gives a file up after some errors
        self._names: set[str] = set()  # that are loaded or failed
        self._pending: dict[str, None] = {}  # keys, in the order in which they came
        self._wake = asyncio.Event()
        self._moved = asyncio.Condition()
        self._asked = self._answered = 0  # for a listing from now on
        self._listed_at = self._forget_at = -SWEEP  # on the loop's clock
        self._pause: float = settings.poll  # seconds between two listings
        self._trouble = Outage()
        self._state = LoaderState(
            files_loaded=0, rows_loaded=0, pending=0, last_file=None, last_loaded_at=None, freshness_s=None, failed=[],
            error=None,
        )  # fmt: skip

    async def start(self) -> None:
        """Open the warehouse and read what it remembers. ConfigError where it cannot be used."""
        await self._in_thread(self._open)

    async def close(self) -> None:
        """A load that is under way is given up; the next run does it. Without effect when it was not started."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(self._close)

    def state(self) -> LoaderState:
        return msgspec.structs.replace(self._state, pending=len(self._pending))

    def landed(self, key: str) -> None:
        """A hint: there is an object of this key."""
        if key.startswith(EVENTS) and key.endswith(SUFFIX) and self._root + key not in self._names:
            self._pending[key] = None
            self._wake.set()

    async def settled(self) -> None:
        """Wait until all objects that are in the sink now are loaded, or have failed."""
        self._asked += 1
        asked = self._asked
        self._wake.set()
        async with self._moved:
            await self._moved.wait_for(lambda: self._answered >= asked)

    async def run(self) -> None:
        """Runs until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._door.run(), name="warehouse queries")
            if self._notices is not None:
                group.create_task(
                    self._notices.run(self.landed, self._loaded, self._wake.set), name="warehouse notices"
                )
            attempt = 0
            while True:
                self._wake.clear()
                try:
                    await self._pass()
                except (SinkError, WarehouseError, ConfigError) as error:
                    self._is_stale = not isinstance(error, SinkError)
                    self._failing(error)
                    await asyncio.sleep(backoff(attempt, _RETRY_INITIAL, _RETRY_MAX, random.Random()))
                    attempt += 1
                else:
                    attempt = 0
                    self._working()
                    await self._rest()

    # -- one pass

    @property
    def _due(self) -> float:
        """When to list again."""
        told = self._notices is not None and self._notices.heard
        return self._listed_at + (SWEEP if told else self._pause)

    async def _pass(self) -> None:
        if self._is_stale:
            await self._in_thread(self._open_afresh)
            self._is_stale = False
        asked, now = self._asked, asyncio.get_running_loop().time()
        if asked > self._answered or now >= self._due:
            await self._list()
        while self._pending:
            key = next(iter(self._pending))
            try:
                await self._load(key)
            except (SinkError, WarehouseError):
                self._pending[key] = self._pending.pop(key)  # the others before it
                raise
            async with self._moved:
                self._moved.notify_all()
        async with self._moved:
            self._answered = asked
            self._moved.notify_all()

    async def _list(self) -> None:
        """Note what is new. Names are forgotten here and nowhere else: what is listed must not be loaded again."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        forgets = began >= self._forget_at
        present = set()
        async for key in self._sink.list(EVENTS):
            self.landed(key)
            if forgets:
                present.add(self._root + key)
        if forgets:
            self._names -= await self._in_thread(self._ready.forget, present)
            self._forget_at = began + _FORGET
        self._listed_at = loop.time()
        self._pause = max(self._settings.poll, (self._listed_at - began) * _SHARE)

    async def _load(self, key: str) -> None:
        name = self._root + key
        if name not in self._names and (body := await self._body(key)) is not None:
            load = await self._in_thread(self._ready.load, name, body)
            self._names.add(name)
            if load is not None:
                self._note(load)
        self._pending.pop(key, None)

    async def _body(self, key: str) -> bytes | None:
        """None where the object was deleted meanwhile."""
        try:
            return await self._sink.get(key)
        except SinkUnavailable:
            if await self._sink.head(key) is None:
                return None
            raise

    def _note(self, load: LoadedObject) -> None:
        state = self._state
        if load.error is not None:
            # Without the error itself: it may show a value of the row.
            log.error(
                "no row of %s is in the local warehouse, and it is not tried again: see its load_history", load.file
            )
            failed = [*state.failed, Failed(load.file, load.error)][-FAILURES:]
            self._state = msgspec.structs.replace(state, failed=failed)
            return
        self._state = msgspec.structs.replace(
            state,
            files_loaded=state.files_loaded + 1,
            rows_loaded=state.rows_loaded + load.rows,
            last_file=load.file,
            last_loaded_at=load.loaded_at,
            freshness_s=load.freshness if load.freshness is not None else state.freshness_s,
        )

    async def _rest(self) -> None:
        """Until a hint, or until it is time to list."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(self._due):
                await self._wake.wait()

    async def _loaded(self, keys: list[str]) -> None:
        """Wait until none of these is pending."""
        async with self._moved:
            await self._moved.wait_for(lambda: not any(key in self._pending for key in keys))

    # -- its trouble

    def _failing(self, error: Exception) -> None:
        text = REDACTION.clean(str(error))
        self._state = msgspec.structs.replace(self._state, error=text)
        if self._trouble.begin(asyncio.get_running_loop().time()):
            log.warning("the local warehouse cannot load for now; it goes on as soon as it can: %s", text)

    def _working(self) -> None:
        self._state = msgspec.structs.replace(self._state, error=None)
        if ended := self._trouble.end(asyncio.get_running_loop().time()):
            log.info("the local warehouse loads again %s", ended)

    # -- in the thread

    @property
    def _ready(self) -> Loader:
        assert self._loader is not None, "start() comes first"
        return self._loader

    def _open(self) -> None:
        self.warehouse.open(self._columns)
        self._loader = Loader(self.warehouse, self._columns)
        history = self._loader.history(FAILURES)
        self._names = history.names
        self._state = msgspec.structs.replace(
            self._state,
            files_loaded=history.files,
            rows_loaded=history.rows,
            last_file=history.last,
            last_loaded_at=history.last_loaded_at,
            failed=[Failed(name, error) for name, error in history.failed],
        )

    def _close(self) -> None:
        self.warehouse.close()
        self._thread.shutdown()
        self.warehouse.close()  # it may have been opened afresh meanwhile

    def _open_afresh(self) -> None:
        self.warehouse.close()
        self._open()

    def _in_thread(self, function: Callable[..., T], *arguments: object) -> "asyncio.Future[T]":
        return asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)
