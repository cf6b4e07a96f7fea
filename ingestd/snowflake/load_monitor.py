"""Monitors loads into Snowflake: compares landed objects with the copy history, and submits them to the pipe.

Objects are submitted only if the bucket does not notify the pipe: each one as soon as it has landed. Objects that were
not submitted when a process ended are found by the next one: those of the newest days that the history does not know.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta

from ingestd.config.model import SnowflakeConfig
from ingestd.core.backoff import backoff
from ingestd.core.errors import IngestdError, SinkUnavailable, SnowflakeUnavailable
from ingestd.core.landed_objects import is_data_key, read_landed
from ingestd.core.object_keys import ObjectKeys
from ingestd.ops.detached_thread import run_detached
from ingestd.ops.logs import Outage
from ingestd.ops.metrics import Metrics
from ingestd.ops.readiness import Loading
from ingestd.sinks.base import Sink
from ingestd.sinks.listing import Listing
from ingestd.sinks.retry import SinkRetrier
from ingestd.snowflake.copy_history import SLICE, CopiedFile, key_of, slices
from ingestd.snowflake.object_tracker import ObjectTracker, oldest
from ingestd.snowflake.objects import AT_ONCE, read
from ingestd.snowflake.rest import MAX_FILES

log = logging.getLogger(__name__)

SCANNED_DAYS = 8  # the newest day folders, which are scanned at the start
#: A pipe forgets a file name after 14 days and would load the file again: half of that keeps a safe distance.
SUBMIT_WITHIN = timedelta(days=7)
OVERLAP = timedelta(minutes=30)  # of two history queries: rows of the history may appear late
RETRY_INITIAL_S, RETRY_MAX_S = 1.0, 60.0  # between two attempts to submit
FINAL_SUBMIT_S = 5.0  # at the end, to submit what landed last
MAX_LOGGED = 10  # failed files of one comparison

QueryHistory = Callable[[datetime, datetime], list[CopiedFile]]
HistoryRows = list[tuple[str, CopiedFile]]  # by key
Submit = Callable[[Sequence[str]], Awaitable[None]]


class LoadMonitor:
    """One per daemon. `query_history` blocks and returns the copy history between two times.

    `submit` submits files to the pipe; None if the bucket notifies it. Both raise ``IngestdError``. The sink is read
    through a retrier of the monitor's own: its outages are no outages of the uploads and do not affect readiness.
    """

    def __init__(
        self,
        settings: SnowflakeConfig,
        *,
        root: str,
        sink: Sink,
        layout: ObjectKeys,
        retrier: SinkRetrier,
        metrics: Metrics,
        query_history: QueryHistory,
        submit: Submit | None,
    ) -> None:
        """`root` is the prefix of all keys of the sink in the bucket: "", or it ends with "/"."""
        self._settings = settings
        self._root = root
        self._layout = layout
        self._listing = Listing(sink, retrier)
        self._metrics = metrics
        self._query_history = query_history
        self._submit = submit
        self._tracker = ObjectTracker()
        self._pending: dict[str, None] = {}  # keys to submit
        self._has_pending = asyncio.Event()
        self._all_submitted = asyncio.Event()
        self._all_submitted.set()
        self._scanned = False
        self._adopted = 0  # objects adopted before the last scan of the sink
        self._compared_at: datetime | None = None
        self._query_outage, self._submit_outage = Outage(), Outage()
        self._random = random.Random()

    async def start(self) -> None:
        """Nothing to prepare: a daemon must land objects while Snowflake is unreachable, too."""

    def landed(self, key: str) -> None:
        """Track an object that has landed."""
        if self._tracker.add(key, datetime.now(UTC)):
            self._add_pending(key)

    def state(self) -> Loading:
        """How far the table lags behind the objects."""
        now = datetime.now(UTC)
        objects = self._tracker.objects.values()
        first = oldest(objects)
        return Loading(
            unloaded_objects=len(self._tracker.objects),
            unloaded_rows=sum(it.unloaded for it in objects),
            oldest_unloaded=max(0.0, (now - first).total_seconds()) if first else None,
            failed_files=sum(it.failed is not None for it in objects),
            unnamed_objects=len(self._pending),
            compared_age=(now - self._compared_at).total_seconds() if self._compared_at else None,
        )

    async def run(self) -> None:
        """Run until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._compare_periodically(), name="compare loads")
            if self._submit is not None:
                group.create_task(self._submit_objects(self._submit), name="submit files")

    @property
    def unprocessed(self) -> str:
        """Nothing: the daemon's work is done with the objects, and `close` logs what the next start submits."""
        return ""

    async def settled(self) -> None:
        """Wait a short time until everything is submitted: the partitions are still ours; the next start can do it."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._all_submitted.wait(), FINAL_SUBMIT_S)

    async def close(self) -> None:
        """Log what was not submitted; the next start finds it."""
        if self._pending:
            log.warning("%d objects not submitted to the pipe; the next start submits them", len(self._pending))

    # -- comparing

    async def _compare_periodically(self) -> None:
        while True:
            try:
                await self.compare(datetime.now(UTC))
            except IngestdError as error:
                if self._query_outage.begin(asyncio.get_running_loop().time()):
                    log.log(_level(error), "cannot compare objects with Snowflake's copy history; retrying: %s", error)
            else:
                if ended := self._query_outage.end(asyncio.get_running_loop().time()):
                    log.info("comparison with Snowflake's copy history recovered %s", ended)
            await asyncio.sleep(self._settings.confirm_interval)

    async def compare(self, now: datetime) -> None:
        """Compare once. Raises ``IngestdError``."""
        # Before the history is queried: objects in the history exist by then and can be read.
        await self._read()
        failures = await (self._read_recent(now) if self._scanned else self._scan_all(now))
        self._log_failures(failures)
        for loaded in self._tracker.pop_loaded():
            self._metrics.loaded(loaded.rows, loaded.delay)
        self._tracker.drop_empty(now - timedelta(seconds=self._settings.late))
        self._compared_at = now
        # The writer of an adopted object may have ended before it submitted it. A scan finds it; it is not submitted
        # at once, because after a reset of the group objects are adopted that the pipe has long forgotten.
        if self._tracker.has_room_again() or self._metrics.counters.totals().adopted != self._adopted:
            self._scanned = False

    async def _read_recent(self, now: datetime) -> HistoryRows:
        """Read the history since the last comparison. Returns the rows that tell of a new failure."""
        since = (self._compared_at or now) - OVERLAP
        return [it async for lines in self._history(since, now) for it in lines if self._tracker.apply(*it)]

    async def _scan_all(self, now: datetime) -> HistoryRows:
        """Read the whole history and scan the sink: track objects that are not loaded, submit those it does not know.

        Returns the rows that tell of a new failure.
        """
        self._adopted = self._metrics.counters.totals().adopted
        seen: set[str] = set()
        loaded: set[str] = set()
        others, failures = [], []
        async for lines in self._history(now - SUBMIT_WITHIN - SLICE, now):
            seen |= {key for key, _ in lines}
            loaded |= {key for key, load in lines if load.rows and not load.partial}
            others += [(key, load) for key, load in lines if not load.rows or load.partial]
            failures += [it for it in lines if self._tracker.apply(*it)]
        await self._scan(seen, loaded, now)
        return failures + [it for it in others if self._tracker.apply(*it)]

    async def _history(self, since: datetime, now: datetime) -> AsyncIterator[HistoryRows]:
        """The history's rows with their keys, a time slice at once."""
        for start, end in slices(since, now):
            loads = await run_detached(self._query_history, start, end)
            yield [(key_of(load, self._root, self._layout.events), load) for load in loads]

    async def _read(self) -> None:
        """Read the metadata of new objects."""
        unread = self._tracker.unread()
        for begin in range(0, len(unread), AT_ONCE):
            await asyncio.gather(*(self._describe(key) for key in unread[begin : begin + AT_ONCE]))

    async def _describe(self, key: str) -> None:
        info = await self._listing.head(key)
        landed = read_landed(info) if info is not None else None
        if info is None or landed is None:
            self._tracker.remove(key)
            return
        thing = read(info, landed)
        self._tracker.describe(key, thing.landed_at, thing.rows, landed.last_timestamp)

    async def _scan(self, seen: set[str], loaded: set[str], now: datetime) -> None:
        """Track the newest objects that are not loaded, and submit those that the history has not seen."""
        folders = await self._listing.days(self._layout.events)
        for folder in folders[-SCANNED_DAYS:]:
            async for key in self._listing.keys(folder):
                if key not in loaded and is_data_key(self._layout, key):
                    self._tracker.add(key, now)
        await self._read()
        for key, followed in list(self._tracker.objects.items()):
            if followed.landed_at < now - SUBMIT_WITHIN:
                self._tracker.remove(key)
            elif key not in seen:
                self._add_pending(key)
        self._scanned = True

    def _log_failures(self, failures: HistoryRows) -> None:
        for key, load in failures[:MAX_LOGGED]:
            log.error(
                "Snowflake could not load a file and does not retry it: "
                "`ingestd snowflake reconcile` prints the statements that repair it",
                extra={"object": key, "status": load.status, "error": load.error},
            )
        if len(failures) > MAX_LOGGED:
            log.error("Snowflake could not load %d more files", len(failures) - MAX_LOGGED)

    # -- submitting

    def _add_pending(self, key: str) -> None:
        if self._submit is not None:
            self._pending[key] = None
            self._all_submitted.clear()
            self._has_pending.set()

    async def _submit_objects(self, submit: Submit) -> None:
        attempt = 0
        while True:
            await self._has_pending.wait()
            batch = [key for key, _ in zip(self._pending, range(MAX_FILES), strict=False)]
            if not batch:
                self._has_pending.clear()
                self._all_submitted.set()
                continue
            try:
                await submit([key.removeprefix(self._layout.events) for key in batch])
            except IngestdError as error:
                if self._submit_outage.begin(asyncio.get_running_loop().time()):
                    log.log(_level(error), "cannot submit objects to the pipe; nothing is lost, retrying: %s", error)
                await asyncio.sleep(backoff(attempt, RETRY_INITIAL_S, RETRY_MAX_S, self._random))
                attempt += 1
                continue
            attempt = 0
            if ended := self._submit_outage.end(asyncio.get_running_loop().time()):
                log.info("submitting objects to the pipe recovered %s", ended)
            self._metrics.named(len(batch))
            for key in batch:
                self._pending.pop(key, None)


def _level(error: IngestdError) -> int:
    """ERROR where an operator must act: a key, a grant, a setting."""
    return logging.WARNING if isinstance(error, SnowflakeUnavailable | SinkUnavailable) else logging.ERROR
