"""What the page shows: one state, made twice a second however many look on, and handed to all of them."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Protocol

import msgspec

from ingestd.config.model import Config
from ingestd.demo.page.queries import PageQueries, Reply
from ingestd.demo.page.recent_activity import Event, LandedObject, RecentActivity, Reject
from ingestd.demo.page.simulator_controls import Controls, ControlState
from ingestd.demo.page.verification import Proof
from ingestd.ops.readiness import PartitionStatus, Status
from ingestd.ops.terminal import place

TICK = 0.5  # seconds
SAMPLE = 1.0  # seconds, of one column of the chart
SAMPLES = 120
ASK = 2.0  # seconds between two times the guide's query is asked
KINDS = 6  # types by name; the others are one
MAX_PARTITIONS = 8
MAX_FAILED = 3
OTHER = "other"
REJECTED = "rejected"


class FailedFile(Protocol):
    """A file that was not loaded, and why."""

    @property
    def file(self) -> str: ...

    @property
    def error(self) -> str: ...


class PipeStatus(Protocol):
    """How the pipe into the table is; times are seconds."""

    @property
    def files_loaded(self) -> int: ...

    @property
    def rows_loaded(self) -> int: ...

    @property
    def pending(self) -> int: ...

    @property
    def last_file(self) -> str | None: ...

    @property
    def freshness_s(self) -> float | None: ...

    @property
    def failed(self) -> Sequence[FailedFile]: ...

    @property
    def error(self) -> str | None: ...


class Sample(msgspec.Struct, frozen=True):
    """How many events came in one column's time, by type; the rejected are a type of their own."""

    at: int  # columns since the start
    counts: dict[str, int]
    rows: int  # in the table


class PipeView(msgspec.Struct, frozen=True, kw_only=True):
    """The pipe into the table, and the table."""

    files: int
    rows: int
    pending: int
    last: str | None  # file that was loaded
    freshness: float | None
    failed: list[str]  # the latest first
    error: str | None


class State(msgspec.Struct, frozen=True, kw_only=True):
    """All that the page shows. Times are seconds."""

    status: Status  # with the first partitions only
    partitions: int
    place: str  # where objects go, for people
    duration: float | None
    interval: float  # of a batch
    samples: list[Sample]
    rate: float  # events a second, of late
    events: list[Event]
    rejects: list[Reject]
    objects: list[LandedObject]
    controls: ControlState
    pipe: PipeView | None
    query: Reply | None
    verifying: bool
    proof: Proof | None
    ended: bool


class PageState:
    """Looks at everything, and remembers what only exists over time."""

    def __init__(self, config: Config, tap: RecentActivity, controls: Controls) -> None:
        self._config = config
        self._snapshot: Callable[[], Status] | None = None
        self._tap = tap
        self.controls = controls
        self._pipe: Callable[[], PipeStatus] | None = None
        self.questions: PageQueries | None = None
        self._samples: deque[Sample] = deque(maxlen=SAMPLES)
        self._counted: Counter[str] = Counter()
        self._reply: Reply | None = None
        self._verifying = False
        self._proof: Proof | None = None
        self._ended = False
        self._shown = b""
        self._version = 0
        self._changed = asyncio.Event()

    def bind(self, snapshot: Callable[[], Status]) -> None:
        """Where the numbers come from; it is called for each state."""
        self._snapshot = snapshot

    def attach(self, pipe: Callable[[], PipeStatus], questions: PageQueries) -> None:
        """There is a table: how its pipe is, and who answers for it."""
        self._pipe = pipe
        self.questions = questions

    async def run(self) -> None:
        """For as long as the daemon lives."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._ask_on())
            while True:
                self.look()
                await asyncio.sleep(TICK)

    @property
    def running(self) -> bool:
        """Whether there is anything to control."""
        return self._snapshot is not None and self._snapshot().phase == "running"

    def verify(self) -> None:
        """The run has ended, and is being looked at."""
        self._verifying = True
        self.look()

    def prove(self, proof: Proof) -> None:
        """This is what became of it."""
        self._proof, self._verifying = proof, False
        self.look()

    def end(self, status: Status) -> None:
        """The last state; whoever looks on gets it, and no more."""
        self._ended = True
        self._show(status)

    async def states(self) -> AsyncGenerator[bytes, None]:
        """Server-sent events, from now to the end.

        Who joins gets the state of now: by that of up to a tick ago the run may not have begun, and keys do nothing.
        """
        self.look()
        seen = -1
        while True:
            if seen != self._version:
                seen = self._version
                yield b"data: " + self._shown + b"\n\n"
            if self._ended:
                return
            changed = self._changed
            await changed.wait()

    def look(self) -> None:
        """Make the state of now, for all who look on."""
        if self._snapshot is not None and not self._ended:
            self._show(self._snapshot())

    def _show(self, status: Status) -> None:
        self._sample(status)
        self._shown = msgspec.json.encode(self._state(status))
        self._version += 1
        self._changed.set()
        self._changed = asyncio.Event()

    def _state(self, status: Status) -> State:
        return State(
            status=msgspec.structs.replace(status, partitions=_first(status.partitions)),
            partitions=len(status.partitions),
            place=place(status.sink),
            duration=float(self._config.duration) if self._config.duration is not None else None,
            interval=float(self._config.batch.interval),
            samples=list(self._samples),
            rate=self._rate(),
            events=self._tap.events,
            rejects=self._tap.rejects,
            objects=self._tap.objects,
            controls=self.controls.state(),
            pipe=self._view(),
            query=self._reply,
            verifying=self._verifying,
            proof=self._proof,
            ended=self._ended,
        )

    def _sample(self, status: Status) -> None:
        """A column of the chart, where one is due."""
        at = int(status.uptime / SAMPLE)
        if self._samples and self._samples[-1].at >= at:
            return
        counts = _counts(status)
        passed = counts - self._counted
        self._counted = counts
        self._samples.append(Sample(at, dict(passed), self._pipe().rows_loaded if self._pipe is not None else 0))

    def _rate(self) -> float:
        recent = list(self._samples)[-6:]
        if len(recent) < 2:
            return 0.0
        return sum(sum(it.counts.values()) for it in recent[1:]) / (recent[-1].at - recent[0].at) / SAMPLE

    def _view(self) -> PipeView | None:
        if self._pipe is None:
            return None
        pipe = self._pipe()
        return PipeView(
            files=pipe.files_loaded,
            rows=pipe.rows_loaded,
            pending=pipe.pending,
            last=pipe.last_file,
            freshness=pipe.freshness_s,
            failed=[f"{it.file}: {it.error}" for it in reversed(pipe.failed[-MAX_FAILED:])],
            error=pipe.error,
        )

    async def ask(self) -> None:
        """Ask the guide's query once more."""
        if self.questions is not None:
            self._reply = await self.questions.guide()

    async def _ask_on(self) -> None:
        while True:
            await self.ask()
            await asyncio.sleep(ASK)


def _first(partitions: list[PartitionStatus]) -> list[PartitionStatus]:
    """Always the same ones, so that the page keeps still."""
    return sorted(partitions, key=lambda it: (it.topic, it.partition))[:MAX_PARTITIONS]


def _counts(status: Status) -> Counter[str]:
    """Since the start."""
    counts: Counter[str] = Counter()
    accepted = status.totals.accepted_by_type
    named = sorted(accepted, key=lambda kind: (-accepted[kind], kind))[:KINDS]
    for kind, count in accepted.items():
        counts[kind if kind in named else OTHER] += count
    counts[REJECTED] = sum(status.totals.rejected_by_reason.values())
    return counts
