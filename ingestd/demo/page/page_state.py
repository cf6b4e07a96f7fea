"""The state that the page shows: built twice a second, and streamed to every viewer."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING, Protocol

import msgspec

from ingestd.config.model import Config
from ingestd.demo.page.queries import PageQueries, QueryReply
from ingestd.demo.page.recent_activity import LandedObject, RecentActivity, RecentEvent, RecentReject
from ingestd.demo.page.simulator_controls import ControlsState, SimulatorControls
from ingestd.demo.page.verification import Verification
from ingestd.ops.readiness import PartitionStatus, Status
from ingestd.ops.terminal import place

if TYPE_CHECKING:
    # Not at run time: it imports duckdb, which a page without a table does not need.
    from ingestd.demo.warehouse.local_loader import LoaderState

UPDATE_INTERVAL_S = 0.5
SAMPLE_S = 1.0  # of one column of the chart
QUERY_INTERVAL_S = 2.0  # between two runs of the guide's query
MAX_SAMPLES = 120
RATE_SAMPLES = 6  # of which the displayed rate is the mean
MAX_TYPES = 6  # event types with a colour of their own; the others are counted together
MAX_PARTITIONS = 8
OTHER = "other"
REJECTED = "rejected"


class RateSample(msgspec.Struct, frozen=True):
    """The events of one second by type; rejected records are a type of their own."""

    at: int  # seconds since the start
    counts: dict[str, int]
    rows: int  # in the table


class Audience(msgspec.Struct, frozen=True, kw_only=True):
    """What the shop's visitors have done. `url` is for their phones; None where those cannot reach it."""

    url: str | None
    count: int  # of accepted events
    visitors: int
    events: list[RecentEvent]


class Shop(Protocol):
    """The part of the shop that the page shows."""

    @property
    def url(self) -> str | None: ...


class PageSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """All that the page shows. Times are seconds."""

    status: Status  # with the first partitions only
    partitions: int
    destination: str
    duration: float | None
    interval: float  # of a batch
    samples: list[RateSample]
    rate: float  # events a second
    events: list[RecentEvent]
    rejects: list[RecentReject]
    objects: list[LandedObject]
    audience: Audience | None
    controls: ControlsState
    loader: "LoaderState | None"
    query: QueryReply | None
    verifying: bool
    verification: Verification | None
    ended: bool


class PageState:
    """Collects the page's data, and keeps the part of it that has a history."""

    def __init__(self, config: Config, activity: RecentActivity, controls: SimulatorControls) -> None:
        self._config = config
        self._status: Callable[[], Status] | None = None
        self._activity = activity
        self.controls = controls
        self._loader: Callable[[], LoaderState] | None = None
        self.queries: PageQueries | None = None
        self.shop: Shop | None = None
        self._samples: deque[RateSample] = deque(maxlen=MAX_SAMPLES)
        self._counted: Counter[str] = Counter()
        self._reply: QueryReply | None = None
        self._verifying = False
        self._verification: Verification | None = None
        self._ended = False
        self._encoded = b""
        self._version = 0
        self._changed = asyncio.Event()

    def bind(self, status: Callable[[], Status]) -> None:
        """Sets the function that returns the daemon's status; it is called for each update."""
        self._status = status

    def attach_table(self, loader: Callable[[], "LoaderState"], queries: PageQueries) -> None:
        """Adds the local table: its loader's status, and the queries that it answers."""
        self._loader = loader
        self.queries = queries

    async def run(self) -> None:
        """Updates the state until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._refresh_query_regularly())
            while True:
                self.update()
                await asyncio.sleep(UPDATE_INTERVAL_S)

    @property
    def running(self) -> bool:
        """Whether the run can still be controlled."""
        return self._status is not None and self._status().phase == "running"

    def start_verification(self) -> None:
        self._verifying = True
        self.update()

    def finish_verification(self, result: Verification) -> None:
        self._verification, self._verifying = result, False
        self.update()

    def end(self, status: Status) -> None:
        """Sends the last state. The viewers' streams end after it."""
        self._ended = True
        self._publish(status)

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """Yields each state as a server-sent event, until the run ends.

        Updates first: a state from before the run began would show controls that have no effect.
        """
        self.update()
        sent = -1
        while True:
            if sent != self._version:
                sent = self._version
                yield b"data: " + self._encoded + b"\n\n"
            if self._ended:
                return
            changed = self._changed
            await changed.wait()

    def update(self) -> None:
        """Builds the present state, and sends it to all viewers."""
        if self._status is not None and not self._ended:
            self._publish(self._status())

    async def refresh_query(self) -> None:
        """Runs the guide's query again."""
        if self.queries is not None:
            self._reply = await self.queries.guide()

    async def _refresh_query_regularly(self) -> None:
        while True:
            await self.refresh_query()
            await asyncio.sleep(QUERY_INTERVAL_S)

    def _publish(self, status: Status) -> None:
        self._sample(status)
        self._encoded = msgspec.json.encode(self._snapshot(status))
        self._version += 1
        self._changed.set()
        self._changed = asyncio.Event()

    def _snapshot(self, status: Status) -> PageSnapshot:
        return PageSnapshot(
            status=msgspec.structs.replace(status, partitions=_first_partitions(status.partitions)),
            partitions=len(status.partitions),
            destination=place(status.sink),
            duration=float(self._config.duration) if self._config.duration is not None else None,
            interval=float(self._config.batch.interval),
            samples=list(self._samples),
            rate=self._rate(),
            events=self._activity.events,
            rejects=self._activity.rejects,
            objects=self._activity.objects,
            audience=self._audience(),
            controls=self.controls.state(),
            loader=self._loader_state(),
            query=self._reply,
            verifying=self._verifying,
            verification=self._verification,
            ended=self._ended,
        )

    def _audience(self) -> Audience | None:
        if self.shop is None:
            return None
        seen = self._activity.audience
        return Audience(url=self.shop.url, count=seen.count, visitors=len(seen.visitors), events=seen.events)

    def _sample(self, status: Status) -> None:
        """Adds a column to the chart, if a second has passed since the last one."""
        at = int(status.uptime / SAMPLE_S)
        if self._samples and self._samples[-1].at >= at:
            return
        counts = _count_by_type(status)
        new = counts - self._counted
        self._counted = counts
        rows = self._loader().rows_loaded if self._loader is not None else 0
        self._samples.append(RateSample(at, dict(new), rows))

    def _rate(self) -> float:
        recent = list(self._samples)[-RATE_SAMPLES:]
        if len(recent) < 2:
            return 0.0
        return sum(sum(it.counts.values()) for it in recent[1:]) / (recent[-1].at - recent[0].at) / SAMPLE_S

    def _loader_state(self) -> "LoaderState | None":
        """The state with the last failed file only; the page shows no other."""
        if self._loader is None:
            return None
        state = self._loader()
        return msgspec.structs.replace(state, failed=state.failed[-1:])


def _first_partitions(partitions: list[PartitionStatus]) -> list[PartitionStatus]:
    """Returns the same partitions each time, so that the page does not flicker."""
    return sorted(partitions, key=lambda it: (it.topic, it.partition))[:MAX_PARTITIONS]


def _count_by_type(status: Status) -> Counter[str]:
    """Counts the records since the start by type; the rarer types are counted together."""
    counts: Counter[str] = Counter()
    accepted = status.totals.accepted_by_type
    frequent = sorted(accepted, key=lambda name: (-accepted[name], name))[:MAX_TYPES]
    for name, count in accepted.items():
        counts[name if name in frequent else OTHER] += count
    counts[REJECTED] = sum(status.totals.rejected_by_reason.values())
    return counts
