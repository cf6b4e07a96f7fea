"""`ingestd check --dry-run` on a queue: runs the daemon's flow, deletes nothing, and gives all messages back.

A message can only be read by receiving it: others do not see it meanwhile, and each receipt brings it nearer to the
dead-letter queue. So there are as many receipts as a message has left, at most one a message, and bounds.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec
from msgspec.structs import replace

from ingestd import wiring
from ingestd.config.model import Config
from ingestd.config.types import Seconds
from ingestd.core.formatting import number, size
from ingestd.core.object_keys import QUARANTINE
from ingestd.core.queue_objects import QueueObjectMetadata
from ingestd.core.stored import ObjectInfo
from ingestd.core.validation import Validator
from ingestd.ops.metrics import Metrics
from ingestd.preflight import CheckFinding, note, ok, wrong
from ingestd.preflight.bounded_run import LONGEST_S, LOOK_S, run_bounded
from ingestd.preflight.queue import SPARE_RECEIPTS
from ingestd.sinks.base import Sink
from ingestd.sinks.dry_run import DrySink
from ingestd.sinks.retry import SinkRetrier
from ingestd.sources.sqs.port import Depth, Message, QueueSource

MAX_S = 600.0  # whatever duration is given: messages stay hidden for as long where this process is killed
MAX_MESSAGES = 5_000
SAMPLE = 500  # messages that are kept to look at
WAIT_S = Seconds(1)  # for a message: then the queue has none
GIVE_BACK_S = 30.0


class QueueWouldBe(msgspec.Struct, frozen=True):
    """An object that a run would write. `quarantine` says which kind."""

    key: str
    quarantine: bool
    bytes: int
    queue: str
    rows: int
    rejected: int


class QueueSummary(msgspec.Struct, frozen=True):
    """What the dry run saw. `ended_by`: which bound ended it; `problem`: why it failed."""

    seconds: float
    emptied: bool  # the queue had no more to hand out
    messages: int
    rows: int
    rejected: int
    rejected_by_reason: dict[str, int]
    objects: int
    object_bytes: int
    landed: int  # messages that landed in earlier runs: a run would only delete them
    unfinished: int  # messages whose objects were not complete at the end
    most_receipts: int  # of one message, that of the dry run included
    hidden: int  # messages that could not be given back
    hidden_s: int  # for how long these stay hidden
    ended_by: str = ""
    problem: str | None = None


def settings(config: Config) -> Config:
    """Those of a dry run: a message is hidden until its end, and no longer where this process is killed."""
    visibility = max(Seconds(30), Seconds(-(-(_duration(config) + config.grace + GIVE_BACK_S) // 1)))
    return replace(config, sqs=replace(config.sqs, visibility=visibility, wait=WAIT_S))


def _duration(config: Config) -> float:
    return min(config.duration or LONGEST_S, MAX_S)


class BorrowedQueue:
    """A queue whose messages are given back: what the flow deletes stays hidden until then. `most`: maxReceiveCount.

    No receive request is cancelled, as `ingestd.sources.sqs.source` does not at the end of a stream, and here none is
    where the flow fails, either: all are answered before messages are given back.
    """

    def __init__(self, source: QueueSource, most: int | None) -> None:
        self.emptied = False
        self.ended_by = ""
        self.most_receipts = 0
        self.sample: list[Message] = []  # the first ones
        self._source = source
        self._most = most
        self._requests: set[asyncio.Task[Sequence[Message] | None]] = set()
        self._receipts: dict[str, str] = {}  # the latest, by message

    @property
    def source_id(self) -> str:
        return self._source.source_id

    @property
    def queue(self) -> str:
        return self._source.queue

    @property
    def error(self) -> str | None:
        return self._source.error

    @property
    def error_since(self) -> float | None:
        return self._source.error_since

    async def start(self) -> None:
        await self._source.start()

    async def stop(self) -> None:
        await self._source.stop()

    def finish(self) -> None:
        self._source.finish()

    async def receive(self) -> Sequence[Message] | None:
        request = asyncio.create_task(self._receive())
        self._requests.add(request)
        request.add_done_callback(self._requests.discard)
        return await asyncio.shield(request)

    async def _receive(self) -> Sequence[Message] | None:
        if (found := await self._source.receive()) is None:
            return None
        new = [message for message in found if message.message_id not in self._receipts]
        self.sample += new[: SAMPLE - len(self.sample)]
        self._receipts.update({message.message_id: message.receipt for message in found})
        self.most_receipts = max([self.most_receipts, *(message.receive_count for message in found)])
        if not found:
            self.emptied = True
        elif self._most is not None and self.most_receipts + SPARE_RECEIPTS > self._most:
            left = number(max(0, self._most - self.most_receipts), "receipt")
            self._end(f"a message has {left} left before it is a dead letter")
        elif len(self._receipts) >= MAX_MESSAGES:
            self._end(f"a dry run takes {MAX_MESSAGES:,} messages at most")
        return new

    def _end(self, why: str) -> None:
        self.ended_by = self.ended_by or why
        self.finish()

    async def extend(self, receipts: Sequence[str], seconds: int) -> Sequence[str]:
        return await self._source.extend(receipts, seconds)

    async def delete(self, receipts: Sequence[str]) -> Sequence[str]:  # noqa: ARG002 - that of the port
        """Nothing. Given back now, a message would come again at once, and use up its receipts."""
        return ()

    async def give_back(self) -> int:
        """Show all messages to others again. Returns the number of those for which that failed."""
        self.finish()
        if self._requests:
            await asyncio.wait(self._requests)
        try:
            async with asyncio.timeout(GIVE_BACK_S):
                return len(await self._source.extend(list(self._receipts.values()), 0))
        except TimeoutError:
            return len(self._receipts)

    async def rebuild(self) -> None:
        await self._source.rebuild()

    async def depth(self) -> Depth | None:
        return await self._source.depth()


class QueueDryRun:
    """One dry run, with `settings`. `tell` hears of each object as it would be written."""

    def __init__(
        self,
        config: Config,
        source: BorrowedQueue,
        sink: Sink,
        validator: Validator,
        tell: Callable[[QueueWouldBe], None],
    ) -> None:
        self._config = config
        self._source = source
        self._metrics = Metrics()
        self._sink = DrySink(sink, self._would_write)
        self._retrier = SinkRetrier(config.sink, self._metrics.upload_retried)
        self._validator = validator
        self._tell = tell
        self._trouble = ""  # what the sink or the queue last reported; "" where all was well
        self._objects = self._object_bytes = 0

    async def run(self) -> QueueSummary:
        """Run for ``duration``, else until the queue is empty or `LONGEST_S`; then up to ``grace`` for open batches."""
        loop = asyncio.get_running_loop()
        began, duration = loop.time(), _duration(self._config)
        with ThreadPoolExecutor(1, thread_name_prefix="compress") as executor:
            parts = wiring.FlowParts(
                self._sink, self._retrier, self._metrics, executor, self._validator, lambda _key: None
            )
            flow = wiring.make_queue_flow(self._config, self._source, parts)
            try:
                problem = await run_bounded(
                    flow.run,
                    lambda: self._end(began + duration),
                    self._source.finish,
                    duration + self._config.grace,
                    lambda: self._trouble or "no error of the sink or the queue",
                )
            finally:
                hidden = await self._source.give_back()
                await self._source.stop()
        return self._summary(loop.time() - began, hidden, problem)

    async def _end(self, until: float) -> None:
        """End the stream when the queue is empty or the time is over; note errors until cancelled."""
        loop = asyncio.get_running_loop()
        while loop.time() < until and not (self._source.emptied and self._config.duration is None):
            self._note_trouble()
            await asyncio.sleep(min(LOOK_S, max(0.0, until - loop.time())))
        self._source.finish()
        while True:
            self._note_trouble()
            await asyncio.sleep(LOOK_S)

    def _note_trouble(self) -> None:
        error = self._retrier.error or self._source.error
        self._trouble = str(error) if error is not None else self._trouble

    def _would_write(self, info: ObjectInfo) -> None:
        metadata = QueueObjectMetadata.from_metadata(info.metadata)
        if metadata is None:  # a manifest, or a fence
            return
        quarantine = info.key.startswith(QUARANTINE)
        self._objects += 1
        self._object_bytes += info.size
        self._tell(
            QueueWouldBe(
                key=info.key,
                quarantine=quarantine,
                bytes=info.size,
                queue=metadata.queue,
                rows=0 if quarantine else metadata.rows,
                rejected=metadata.rejected,
            )
        )

    def _summary(self, seconds: float, hidden: int, problem: str | None) -> QueueSummary:
        totals = self._metrics.counters.totals()
        return QueueSummary(
            seconds=round(seconds, 1),
            emptied=self._source.emptied,
            messages=totals.consumed,
            rows=sum(totals.accepted_by_type.values()),
            rejected=sum(totals.rejected_by_reason.values()),
            rejected_by_reason=totals.rejected_by_reason,
            objects=self._objects,
            object_bytes=self._object_bytes,
            landed=totals.released,
            unfinished=totals.in_flight,
            most_receipts=self._source.most_receipts,
            hidden=hidden,
            hidden_s=int(self._config.sqs.visibility),
            ended_by=self._source.ended_by,
            problem=problem,
        )


def would(it: QueueWouldBe) -> str:
    """What a run would write, for people."""
    if it.quarantine:
        return f"write {it.key}: {number(it.rejected, 'message')} rejected, {size(it.bytes)}"
    rejected = f" ({it.rejected:,} rejected)" if it.rejected else ""
    return f"write {it.key}: {number(it.rows, 'row')}{rejected}, {size(it.bytes)}"


def findings(summary: QueueSummary, max_share: float, most: int | None) -> Iterator[CheckFinding]:
    """What the report says of a dry run. `most`: maxReceiveCount."""
    check = "dry_run"
    if not summary.messages and summary.problem is None:
        yield note(check, "there is no message to receive")
        return
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(summary.rejected_by_reason.items()))
    seen = f"{number(summary.messages, 'message')} in {summary.seconds:g} s: {number(summary.rows, 'row')}, "
    seen += f"{summary.rejected:,} rejected" + (f" ({reasons})" if reasons else "")
    seen += f"; {number(summary.objects, 'object')} of {size(summary.object_bytes)}; "
    seen += "the queue had no more to hand out" if summary.emptied else "the queue may have more"
    yield ok(check, f"{seen}; ended because {summary.ended_by}" if summary.ended_by else seen)
    if summary.rejected > max_share * summary.messages:
        seen = f"{summary.rejected:,} of {number(summary.messages, 'message')} would be rejected ({reasons})"
        todo = f"more than breaker.max_share = {max_share:g}, which stops the daemon: correct sender or model"
        yield wrong("dry_run.rejects", seen, todo)
    if summary.landed:
        yield note("dry_run.landed", f"{number(summary.landed, 'message')} landed before: a run would only delete them")
    if summary.messages:
        yield _receipts(summary, most)
    if summary.hidden:
        seen = f"{number(summary.hidden, 'message')} could not be given back: hidden from others for up to "
        yield note("dry_run.hidden", f"{seen}{Seconds(summary.hidden_s)}")
    if summary.problem is not None:
        yield wrong("dry_run.end", summary.problem, "")


def _receipts(summary: QueueSummary, most: int | None) -> CheckFinding:
    check = "dry_run.receipts"
    seen = "each of these messages was received once more, and one of them "
    seen += f"{number(summary.most_receipts, 'time')} in all"
    if most is None:
        return ok(check, f"{seen}; there is no dead-letter queue")
    seen += f", of maxReceiveCount = {most}"
    if summary.most_receipts + SPARE_RECEIPTS > most:
        return note(check, seen, "do not repeat the dry run: the queue would move such messages to the dead letters")
    return ok(check, seen)
