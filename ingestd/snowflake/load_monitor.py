"""Follows what landed into the table: compares with Snowflake's history, and names objects to a pipe that is not told.

Where the pipe is not notified by the bucket, an object is named to it as soon as it has landed. What was not named when
a process ended is found by the next one: the objects of the newest days that the history does not know.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime, timedelta

from ingestd.config.model import SnowflakeConfig
from ingestd.core.backoff import backoff
from ingestd.core.errors import IngestdError
from ingestd.core.object_keys import ObjectKeys, ObjectMetadata
from ingestd.ops.detached_thread import run_detached
from ingestd.ops.logs import Outage
from ingestd.ops.metrics import Metrics
from ingestd.ops.readiness import Loading
from ingestd.sinks.base import Sink
from ingestd.sinks.listing import days, keys
from ingestd.sinks.retry import SinkRetrier
from ingestd.snowflake.copy_history import SLICE, CopiedFile, key_of, slices
from ingestd.snowflake.object_tracker import ObjectTracker, oldest
from ingestd.snowflake.objects import AT_ONCE, read
from ingestd.snowflake.rest import MAX_FILES

log = logging.getLogger(__name__)

DAYS = 8  # the newest ones that have objects: looked through at the start
#: A pipe forgets a name after 14 days, and would load the file again: half of that is far enough away.
NAMED_WITHIN = timedelta(days=7)
OVERLAP = timedelta(minutes=30)  # of two questions: lines of the history may appear late
RETRY_INITIAL, RETRY_MAX = 1.0, 60.0  # seconds between two tries to name objects
PATIENCE = 5.0  # seconds at the end, for naming what landed last
TOLD = 10  # failed files that are logged after one comparison

Ask = Callable[[datetime, datetime], list[CopiedFile]]
Lines = list[tuple[str, CopiedFile]]  # by key
Name = Callable[[Sequence[str]], None]


class LoadMonitor:
    """One per daemon. `ask` gives the history from one time to another; `name` tells the pipe of files, or is None
    where the bucket does. Both block, and raise ``IngestdError``.
    """

    def __init__(
        self,
        settings: SnowflakeConfig,
        *,
        root: str,
        sink: Sink,
        layout: ObjectKeys,
        guard: SinkRetrier,
        metrics: Metrics,
        ask: Ask,
        name: Name | None,
    ) -> None:
        """`root` is what all keys of the sink begin with in the bucket: "", or it ends with "/"."""
        self._settings = settings
        self._root = root
        self._sink = sink
        self._layout = layout
        self._guard = guard
        self._metrics = metrics
        self._ask = ask
        self._name = name
        self._following = ObjectTracker()
        self._unnamed: dict[str, None] = {}
        self._to_name = asyncio.Event()
        self._all_named = asyncio.Event()
        self._all_named.set()
        self._scanned = False
        self._adopted = 0  # objects, when we last looked through the store
        self._compared_at: datetime | None = None
        self._asking, self._naming = Outage(), Outage()
        self._random = random.Random()

    async def start(self) -> None:
        """Nothing to make ready: that Snowflake is away must not keep a daemon from landing."""

    def landed(self, key: str) -> None:
        """An object is there."""
        if self._following.add(key, datetime.now(UTC)):
            self._note_unnamed(key)

    def state(self) -> Loading:
        """How far the table is behind the objects."""
        now = datetime.now(UTC)
        objects = self._following.objects.values()
        first = oldest(objects)
        return Loading(
            unloaded_objects=len(self._following.objects),
            unloaded_rows=sum(it.unloaded for it in objects),
            oldest_unloaded=max(0.0, (now - first).total_seconds()) if first else None,
            failed_files=sum(it.failed is not None for it in objects),
            unnamed_objects=len(self._unnamed),
            compared_age=(now - self._compared_at).total_seconds() if self._compared_at else None,
        )

    async def run(self) -> None:
        """Until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._compare_again_and_again(), name="confirm")
            if self._name is not None:
                group.create_task(self._name_objects(self._name), name="name")

    async def settled(self) -> None:
        """Wait until the pipe was told of all that landed. Not for long: we hold partitions, and the next start can."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._all_named.wait(), PATIENCE)

    async def close(self) -> None:
        """Say what is left, which the next start looks for."""
        if self._unnamed:
            log.warning("%d objects are not named to the pipe; the next start names them", len(self._unnamed))

    # -- comparing

    async def _compare_again_and_again(self) -> None:
        while True:
            try:
                await self.compare(datetime.now(UTC))
            except IngestdError as error:
                if self._asking.begin(asyncio.get_running_loop().time()):
                    log.warning("Snowflake cannot be asked what it has loaded; asking again: %s", error)
            else:
                if ended := self._asking.end(asyncio.get_running_loop().time()):
                    log.info("Snowflake answers again %s", ended)
            await asyncio.sleep(self._settings.confirm_interval)

    async def compare(self, now: datetime) -> None:
        """Look once. Errors: ``IngestdError``."""
        # Read before the history is asked: what is loaded by then is there to be read.
        await self._read()
        failures = await (self._look(now) if self._scanned else self._look_through(now))
        self._tell(failures)
        for loaded in self._following.done():
            self._metrics.loaded(loaded.rows, loaded.delay)
        self._following.drop_empty(now - timedelta(seconds=self._settings.late))
        self._compared_at = now
        # Who wrote an object that was adopted may not have come to tell of it. It is looked for, and not named at once:
        # after a reset of the group, objects are adopted that a pipe has long forgotten.
        if self._following.has_room_again() or self._metrics.counters.totals().adopted != self._adopted:
            self._scanned = False

    async def _look(self, now: datetime) -> Lines:
        """See what was loaded since the last time."""
        since = (self._compared_at or now) - OVERLAP
        return [it async for lines in self._history(since, now) for it in lines if self._following.see(*it)]

    async def _look_through(self, now: datetime) -> Lines:
        """See all, and what is in the store: follow the objects of the newest days that are not loaded, and name those
        that the history does not know.
        """
        self._adopted = self._metrics.counters.totals().adopted
        heard: set[str] = set()
        known: set[str] = set()
        others, failures = [], []
        async for lines in self._history(now - NAMED_WITHIN - SLICE, now):
            heard |= {key for key, _ in lines}
            known |= {key for key, load in lines if load.rows and not load.partial}
            others += [(key, load) for key, load in lines if not load.rows or load.partial]
            failures += [it for it in lines if self._following.see(*it)]
        await self._scan(heard, known, now)
        return failures + [it for it in others if self._following.see(*it)]

    async def _history(self, since: datetime, now: datetime) -> AsyncIterator[Lines]:
        """Its lines with their keys, a part at a time."""
        for start, end in slices(since, now):
            loads = await run_detached(self._ask, start, end)
            yield [(key_of(load, self._root, self._layout.events), load) for load in loads]

    async def _read(self) -> None:
        """Read the metadata of objects that landed since."""
        unread = self._following.unread()
        for begin in range(0, len(unread), AT_ONCE):
            await asyncio.gather(*(self._describe(key) for key in unread[begin : begin + AT_ONCE]))

    async def _describe(self, key: str) -> None:
        info = await self._guard.call(lambda: self._sink.head(key))
        landed = ObjectMetadata.from_metadata(info.metadata) if info is not None else None
        if info is None or landed is None:
            self._following.forget(key)
            return
        thing = read(info, landed)
        self._following.describe(key, thing.landed_at, thing.rows, landed.last_timestamp)

    async def _scan(self, heard: set[str], known: set[str], now: datetime) -> None:
        folders = await self._guard.call(lambda: days(self._sink, self._layout.events))
        for folder in folders[-DAYS:]:
            async for key in keys(self._sink, self._guard.call, folder):
                if key not in known and self._layout.parse(key) is not None:
                    self._following.add(key, now)
        await self._read()
        for key, followed in list(self._following.objects.items()):
            if followed.landed_at < now - NAMED_WITHIN:
                self._following.forget(key)
            elif key not in heard:
                self._note_unnamed(key)
        self._scanned = True

    def _tell(self, failures: Lines) -> None:
        for key, load in failures[:TOLD]:
            log.error(
                "Snowflake could not load a file, and never tries it again: "
                "`ingestd snowflake reconcile` prints what repairs it",
                extra={"object": key, "status": load.status, "error": load.error},
            )
        if len(failures) > TOLD:
            log.error("Snowflake could not load %d more files", len(failures) - TOLD)

    # -- naming

    def _note_unnamed(self, key: str) -> None:
        if self._name is not None:
            self._unnamed[key] = None
            self._all_named.clear()
            self._to_name.set()

    async def _name_objects(self, name: Name) -> None:
        attempt = 0
        while True:
            await self._to_name.wait()
            batch = [key for key, _ in zip(self._unnamed, range(MAX_FILES), strict=False)]
            if not batch:
                self._to_name.clear()
                self._all_named.set()
                continue
            try:
                await run_detached(name, [key.removeprefix(self._layout.events) for key in batch])
            except IngestdError as error:
                if self._naming.begin(asyncio.get_running_loop().time()):
                    log.warning("the pipe cannot be told of objects; nothing is lost, retrying: %s", error)
                await asyncio.sleep(backoff(attempt, RETRY_INITIAL, RETRY_MAX, self._random))
                attempt += 1
                continue
            attempt = 0
            if ended := self._naming.end(asyncio.get_running_loop().time()):
                log.info("the pipe is told of objects again %s", ended)
            self._metrics.named(len(batch))
            for key in batch:
                self._unnamed.pop(key, None)
