"""`ingestd check --dry-run`: runs the daemon's pipeline from the group's offsets; writes and commits nothing."""

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import msgspec

from ingestd import wiring
from ingestd.config.model import Config
from ingestd.core.errors import BreakerOpen, SourceError
from ingestd.core.object_keys import QUARANTINE
from ingestd.core.object_metadata import ObjectMetadata
from ingestd.core.records import TopicPartition
from ingestd.core.stored import ObjectInfo
from ingestd.core.validation import Validator
from ingestd.ops.metrics import Metrics
from ingestd.pipeline.chain_objects import Dependencies
from ingestd.pipeline.ingest import Pipeline
from ingestd.sinks.base import Sink
from ingestd.sinks.dry_run import DrySink
from ingestd.sinks.retry import SinkRetrier
from ingestd.sources.base import Source

LONGEST_S = 60.0  # if no duration is given
LOOK_S = 0.1  # between two looks at its progress


class WouldBe(msgspec.Struct, frozen=True):
    """An object that a run would write. `quarantine` says which kind; offsets ``[start, end)`` are of its batch."""

    key: str
    quarantine: bool
    bytes: int
    topic: str
    partition: int
    start: int
    end: int
    rows: int
    rejected: int


class Summary(msgspec.Struct, frozen=True):
    """What the dry run saw. `problem`: why it ended early; `halted`: why a run would halt each of these partitions."""

    seconds: float
    caught_up: bool  # to the log's end as it was at the start
    records: int
    rows: int
    rejected: int
    rejected_by_reason: dict[str, int]
    objects: int
    object_bytes: int
    adopted: int  # objects that existed already
    unfinished: int  # records whose objects were not complete at the end
    halted: dict[str, str]
    problem: str | None = None


class DryRun:
    """One dry run. `source` is an onlooker; `tell` hears of each object as it would be written."""

    def __init__(
        self, config: Config, source: Source, sink: Sink, validator: Validator, tell: Callable[[WouldBe], None]
    ) -> None:
        self._config = config
        self._source = source
        self._metrics = Metrics()
        self._sink = DrySink(sink, self._would_write)
        self._guard = SinkRetrier(config.sink, self._metrics.upload_retried)
        self._validator = validator
        self._tell = tell
        self._caught_up = False
        self._trouble = ""  # what the sink or the source last reported; "" where all was well
        self._objects = self._object_bytes = 0

    async def run(self) -> Summary:
        """Run for ``duration``, else until it has caught up or `LONGEST_S`; then up to ``grace`` for open batches."""
        loop = asyncio.get_running_loop()
        began, duration = loop.time(), self._config.duration or LONGEST_S
        problem: str | None = None
        with ThreadPoolExecutor(1, thread_name_prefix="compress") as executor:
            pipeline = wiring.make_pipeline(self._config, self._tools(executor), self._validator)
            try:
                async with asyncio.timeout(duration + self._config.grace):
                    await self._flow(pipeline, duration)
                if not self._caught_up and self._trouble:
                    problem = f"it did not reach the log's end: {self._trouble}"
            except TimeoutError:
                problem = f"it did not end in time: {self._trouble or 'no error of the sink or the source'}"
            except BaseExceptionGroup as errors:
                problem = _expected(errors)
            finally:
                await self._source.stop()
        return self._summary(pipeline, loop.time() - began, problem)

    async def _flow(self, pipeline: Pipeline, duration: float) -> None:
        with self._signals():
            async with asyncio.TaskGroup() as group:
                ending = group.create_task(self._end(pipeline, duration))
                await pipeline.run()
                ending.cancel()

    async def _end(self, pipeline: Pipeline, duration: float) -> None:
        """End the stream when it has run for long enough; note the last error of sink and source until cancelled."""
        loop = asyncio.get_running_loop()
        until = loop.time() + duration
        await pipeline.started.wait()
        partitions = list(pipeline.writers)
        logs = await asyncio.gather(*(self._source.log_range(partition) for partition in partitions))
        ends = {partition: log.end for partition, log in zip(partitions, logs, strict=True)}
        while loop.time() < until:
            self._trouble = self._current_error()
            self._caught_up = self._has_caught_up(pipeline, ends)
            if self._caught_up and self._config.duration is None:
                break
            await asyncio.sleep(min(LOOK_S, max(0.0, until - loop.time())))
        self._source.finish()
        while True:
            self._trouble = self._current_error() or self._trouble  # the end cancels the calls that fail
            await asyncio.sleep(LOOK_S)

    def _current_error(self) -> str:
        error = self._guard.error or self._source.error
        return str(error) if error is not None else ""

    def _has_caught_up(self, pipeline: Pipeline, ends: Mapping[TopicPartition, int]) -> bool:
        """Whether every record was read that the log had at the start, or has now, where the source tells no more."""
        if self._source.capabilities.has_log_end:
            return all(self._is_at(pipeline, partition, end) for partition, end in ends.items())
        writers, behind_s = pipeline.writers.values(), self._source.behind_s
        return bool(writers) and all(
            writer.halt is not None or (writer.buffer.position is not None and behind_s(writer.partition) == 0)
            for writer in writers
        )

    def _is_at(self, pipeline: Pipeline, partition: TopicPartition, end: int) -> bool:
        """Whether every record up to `end` was read, or never will be."""
        writer = pipeline.writers.get(partition)
        if writer is None or writer.halt is not None:
            return True
        position, readable = writer.buffer.position, self._source.end_offset(partition)
        # Transaction markers take offsets at the end for which no record comes.
        return position is not None and (position >= end or (readable is not None and position >= readable))

    def _tools(self, executor: ThreadPoolExecutor) -> Dependencies:
        return Dependencies(
            source=self._source,
            sink=self._sink,
            retrier=self._guard,
            metrics=self._metrics,
            executor=executor,
            wall_clock=time.time,
        )

    def _would_write(self, info: ObjectInfo) -> None:
        landed = ObjectMetadata.from_metadata(info.metadata)
        assert landed is not None
        quarantine = info.key.startswith(QUARANTINE)
        self._objects += 1
        self._object_bytes += info.size
        self._tell(
            WouldBe(
                key=info.key,
                quarantine=quarantine,
                bytes=info.size,
                topic=landed.topic,
                partition=landed.partition,
                start=landed.start,
                end=landed.end,
                rows=0 if quarantine else landed.rows,
                rejected=landed.rejected,
            )
        )

    def _summary(self, pipeline: Pipeline, seconds: float, problem: str | None) -> Summary:
        totals = self._metrics.counters.totals()
        return Summary(
            seconds=round(seconds, 1),
            caught_up=self._caught_up,
            records=totals.consumed,
            rows=sum(totals.accepted_by_type.values()),
            rejected=sum(totals.rejected_by_reason.values()),
            rejected_by_reason=totals.rejected_by_reason,
            objects=self._objects,
            object_bytes=self._object_bytes,
            adopted=totals.adopted,
            unfinished=totals.in_flight,
            halted={str(it): writer.halt.message for it, writer in pipeline.writers.items() if writer.halt},
            problem=problem,
        )

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """The first signal ends the stream, a second one the process."""
        loop = asyncio.get_running_loop()

        def stop(number: signal.Signals) -> None:
            loop.remove_signal_handler(number)
            self._source.finish()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop, number)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)


def _expected(errors: BaseExceptionGroup[BaseException]) -> str:
    """The message of an error that ends a run on purpose; any other error is raised."""
    known, rest = errors.split((BreakerOpen, SourceError))
    if known is None or rest is not None:
        raise errors
    first: BaseException = known
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return str(first)
