"""`ingestd check --dry-run`: runs the daemon's pipeline from the group's offsets; writes and commits nothing."""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import msgspec

from ingestd import wiring
from ingestd.config.model import Config
from ingestd.core.formatting import number, size
from ingestd.core.object_keys import QUARANTINE
from ingestd.core.object_metadata import ObjectMetadata
from ingestd.core.records import TopicPartition
from ingestd.core.stored import ObjectInfo
from ingestd.core.validation import Validator
from ingestd.ops.metrics import Metrics
from ingestd.pipeline.chain_objects import Dependencies
from ingestd.pipeline.ingest import Pipeline
from ingestd.preflight import CheckFinding, note, ok, wrong
from ingestd.preflight.bounded_run import LONGEST_S, LOOK_S, run_bounded
from ingestd.sinks.base import Sink
from ingestd.sinks.dry_run import DrySink
from ingestd.sinks.retry import SinkRetrier
from ingestd.sources.base import Source


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
    skipped: int


class Summary(msgspec.Struct, frozen=True):
    """What the dry run saw. `problem`: why it ended early; `halted`: why a run would halt each of these partitions."""

    seconds: float
    caught_up: bool  # to the log's end as it was at the start
    records: int
    rows: int
    rejected: int
    rejected_by_reason: dict[str, int]
    skipped: int
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
        with ThreadPoolExecutor(1, thread_name_prefix="compress") as executor:
            pipeline = wiring.make_pipeline(self._config, self._tools(executor), self._validator)
            try:
                problem = await run_bounded(
                    pipeline.run,
                    lambda: self._end(pipeline, began + duration),
                    self._finish,
                    duration + self._config.grace,
                    lambda: self._trouble or "no error of the sink or the source",
                )
            finally:
                await self._source.stop()
        if problem is None and not self._caught_up and self._trouble:
            problem = f"it did not reach the log's end: {self._trouble}"
        return self._summary(pipeline, loop.time() - began, problem)

    async def _end(self, pipeline: Pipeline, until: float) -> None:
        """End the stream when it has run for long enough; note the last error of sink and source until cancelled."""
        loop = asyncio.get_running_loop()
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
        self._finish()
        while True:
            self._trouble = self._current_error() or self._trouble  # the end cancels the calls that fail
            await asyncio.sleep(LOOK_S)

    def _finish(self) -> None:
        if self._validator.values is not None:
            self._validator.values.finish()
        self._source.finish()

    def _current_error(self) -> str:
        values = self._validator.values
        error = self._guard.error or self._source.error or (values.error if values is not None else None)
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
                skipped=0 if quarantine else landed.skipped or 0,
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
            skipped=totals.skipped,
            objects=self._objects,
            object_bytes=self._object_bytes,
            adopted=totals.adopted,
            unfinished=totals.in_flight,
            halted={str(it): writer.halt.message for it, writer in pipeline.writers.items() if writer.halt},
            problem=problem,
        )


def would(it: WouldBe) -> str:
    """What a run would write, for people."""
    if it.quarantine:
        return f"write {it.key}: {number(it.rejected, 'record')} rejected, {size(it.bytes)}"
    others = [f"{count:,} {word}" for count, word in ((it.rejected, "rejected"), (it.skipped, "skipped")) if count]
    without = f" ({', '.join(others)})" if others else ""
    return f"write {it.key}: {number(it.rows, 'row')}{without}, offsets {it.start}-{it.end}, {size(it.bytes)}"


def findings(summary: Summary) -> Iterator[CheckFinding]:
    """What the report says of a dry run."""
    check = "dry_run"
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(summary.rejected_by_reason.items()))
    seen = f"{number(summary.records, 'record')} in {summary.seconds:g} s: {number(summary.rows, 'row')}, "
    seen += f"{summary.rejected:,} rejected" + (f" ({reasons})" if reasons else "")
    seen += f", {number(summary.skipped, 'tombstone')} skipped" if summary.skipped else ""
    seen += f"; {number(summary.objects, 'object')} of {size(summary.object_bytes)}"
    seen += "; reached the end of the log" if summary.caught_up else "; did not reach the end of the log"
    yield ok(check, seen)
    if summary.adopted:
        seen = f"{number(summary.adopted, 'object')} exist already: another daemon has written them"
        yield note(check, seen)
    for partition, why in summary.halted.items():
        yield wrong("dry_run.halted", f"a run would halt {partition}: {why}", "")
    if summary.problem is not None:
        yield wrong("dry_run.end", summary.problem, "")
