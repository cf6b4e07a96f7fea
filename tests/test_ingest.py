"""The flow as a whole, over fakes and in virtual time: what is flushed when, and what stops what."""

import asyncio
import gzip
import json
import random
import weakref
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Executor, Future
from contextlib import asynccontextmanager
from typing import ParamSpec, TypeVar

import pytest

from ingestd.config.model import BatchConfig, BreakerConfig, EventsConfig, SinkConfig
from ingestd.config.types import Seconds, Size
from ingestd.core.breaker import Breaker
from ingestd.core.chain import ChainPolicy
from ingestd.core.errors import BreakerOpen
from ingestd.core.events import load_model
from ingestd.core.object_keys import ObjectKeys
from ingestd.core.object_metadata import ObjectMetadata
from ingestd.core.records import PlainRecord, TopicPartition
from ingestd.core.validation import EventValidator
from ingestd.core.values.base import ValueSource
from ingestd.ops.metrics import Metrics
from ingestd.pipeline.chain_objects import Dependencies
from ingestd.pipeline.ingest import Pipeline
from ingestd.pipeline.partition_writer import PartitionWriter
from ingestd.sinks.retry import SinkRetrier
from tests.fakes.memory_sink import Fault, MemorySink
from tests.fakes.memory_source import MemoryLog, MemorySource
from tests.simulation import virtual_time

TP = TopicPartition("t", 0)
OTHER = TopicPartition("t", 1)
DAY = 86_400_000

T = TypeVar("T")
P = ParamSpec("P")


def records(count: int, start: int = 0, pad: int = 0) -> list[PlainRecord]:
    return [PlainRecord(offset, DAY, event(offset, pad)) for offset in range(start, start + count)]


def event(number: int, pad: int = 0) -> bytes:
    noise = random.Random(number).randbytes(pad // 2).hex()
    fields = {"event_id": f"e{number}", "client_id": "c", "event_timestamp": "2026-01-01T00:00:00Z"}
    return json.dumps({**fields, "event_type": "web_visit", "page_url": noise}).encode()


class Late(Executor):
    """Does the work when some time has passed, as a thread that has much to do."""

    seconds = 10.0

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        done: Future[T] = Future()
        asyncio.get_running_loop().call_later(self.seconds, lambda: done.set_result(fn(*args, **kwargs)))
        return done


class Flow:
    """A pipeline with its surroundings."""

    def __init__(
        self,
        log: dict[TopicPartition, Sequence[PlainRecord]],
        limits: BatchConfig = BatchConfig(),  # noqa: B008  frozen
        breaker: BreakerConfig = BreakerConfig(),  # noqa: B008  frozen
        revoke_timeout: float = 30.0,
        executor: Executor | None = None,
        *,
        values: ValueSource | None = None,
        events: EventsConfig = EventsConfig(),  # noqa: B008  frozen
    ) -> None:
        self.log = MemoryLog(log)
        self.source = MemorySource(self.log, max_records=50)
        self.sink = MemorySink()
        self.metrics = Metrics()
        layout = ObjectKeys()
        self.guard = SinkRetrier(SinkConfig(), self.metrics.upload_retried, random.Random(1))
        dependencies = Dependencies(
            source=self.source,
            sink=self.sink,
            retrier=self.guard,
            metrics=self.metrics,
            executor=executor or virtual_time.SlowExecutor(lambda: 0.001),
            wall_clock=lambda: 0.0,
        )
        self.pipeline = Pipeline(
            limits,
            dependencies,
            EventValidator(events, load_model(None), values=values),
            Breaker(breaker),
            ChainPolicy(layout, layout.commit_tag("m")),
            revoke_timeout=revoke_timeout,
        )
        self.layout = layout

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The pipeline runs beside the block; the stream ends with it, and all lands."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.pipeline.run())
            yield
            self.source.finish()

    async def chain(self, partition: TopicPartition = TP) -> list[ObjectMetadata]:
        found = []
        async for key in self.sink.list(self.layout.events):
            info = await self.sink.head(key)
            landed = ObjectMetadata.from_metadata(info.metadata) if info else None
            if landed is not None and landed.partition == partition.partition:
                found.append(landed)
        return sorted(found, key=lambda it: it.start)

    async def ranges(self, partition: TopicPartition = TP) -> list[tuple[int, int]]:
        return [(landed.start, landed.end) for landed in await self.chain(partition)]


async def ended(flow: Flow, after: float) -> None:
    """Run for so long, then let the stream end."""
    async with flow.running():
        await asyncio.sleep(after)


def test_the_end_of_the_stream_lands_and_commits_everything() -> None:
    async def main() -> None:
        flow = Flow({TP: records(10), OTHER: records(7)})
        await ended(flow, 1)
        assert await flow.ranges() == [(0, 10)]
        assert await flow.ranges(OTHER) == [(0, 7)]
        assert {tp: position.offset for tp, position in flow.log.commits.items()} == {TP: 10, OTHER: 7}
        assert flow.pipeline.held_bytes == 0

    virtual_time.run(main())


def test_a_batch_is_sealed_when_its_first_record_is_as_old_as_the_interval() -> None:
    async def main() -> None:
        flow = Flow({TP: records(3)}, BatchConfig(interval=Seconds(30)))
        async with flow.running():
            await asyncio.sleep(20)
            flow.log.append(TP, *records(1, start=3))
            await asyncio.sleep(9.5)
            assert await flow.ranges() == []
            await asyncio.sleep(1)
            assert await flow.ranges() == [(0, 4)]

    virtual_time.run(main())


def test_no_batch_has_more_records_than_the_limit() -> None:
    async def main() -> None:
        flow = Flow({TP: records(95)}, BatchConfig(records=20))
        await ended(flow, 5)
        assert await flow.ranges() == [(0, 20), (20, 40), (40, 60), (60, 80), (80, 95)]

    virtual_time.run(main())


def test_an_outage_leaves_no_trail_of_small_objects() -> None:
    async def main() -> None:
        flow = Flow({TP: records(1)}, BatchConfig(interval=Seconds(1)))
        flow.sink.fail_when(lambda _: Fault())
        async with flow.running():
            for number in range(1, 100):
                await asyncio.sleep(1)
                flow.log.append(TP, *records(1, start=number))
            flow.sink.fail_when(None)
            await asyncio.sleep(60)
        assert len(await flow.ranges()) <= 3

    virtual_time.run(main())


def test_a_full_budget_stops_the_reading_and_nothing_else() -> None:
    async def main() -> None:
        limits = BatchConfig(interval=Seconds(3600), memory=Size(1 << 20))
        flow = Flow({TP: records(2000, pad=2000), OTHER: records(2000, pad=2000)}, limits)
        flow.sink.fail_when(lambda call: Fault() if call.operation == "put_new" else None)
        async with flow.running():
            await asyncio.sleep(600)
            consumed = flow.metrics.counters.totals().consumed
            assert 0 < consumed < 4000
            assert flow.pipeline.held_bytes <= limits.memory
            flow.sink.fail_when(None)
            await asyncio.sleep(600)
        for partition in (TP, OTHER):
            ranges = await flow.ranges(partition)
            assert (ranges[0][0], ranges[-1][1]) == (0, 2000)

    virtual_time.run(main())


def test_a_full_budget_takes_more_as_soon_as_rows_are_compressed_also_in_an_outage() -> None:
    async def main() -> None:
        value = event(0).replace(b'"page_url": ""', b'"page_url": "%b"' % (b"x" * 4_000))
        repeated = [PlainRecord(offset, DAY, value) for offset in range(100)]
        limits = BatchConfig(interval=Seconds(3600), memory=Size(16 << 20))
        flow = Flow({TopicPartition("t", number): repeated for number in range(40)}, limits, executor=Late())
        flow.sink.fail_when(lambda call: Fault() if call.operation == "put_new" else None)
        async with asyncio.TaskGroup() as group:
            running = group.create_task(flow.pipeline.run())
            await asyncio.sleep(Late.seconds / 2)
            assert flow.pipeline.held_bytes > 15 << 20
            assert flow.metrics.counters.totals().consumed < 40 * 100
            await asyncio.sleep(60)
            assert flow.metrics.counters.totals().consumed == flow.metrics.counters.totals().in_flight == 40 * 100
            running.cancel()

    virtual_time.run(main())


def test_a_batch_that_has_landed_is_held_no_more() -> None:
    async def main() -> None:
        flow = Flow({TP: records(3)}, BatchConfig(interval=Seconds(30)))
        async with flow.running():
            await asyncio.sleep(20)
            batch = flow.pipeline.writers[TP].buffer.open
            assert batch is not None
            gone = weakref.ref(batch)
            del batch
            await asyncio.sleep(20)
            assert await flow.ranges() == [(0, 3)]
            assert gone() is None

    virtual_time.run(main())


def test_a_backlog_leaves_the_loop_to_others_between_two_fetches() -> None:
    async def main() -> None:
        flow = Flow({TP: records(500)})
        turns, seen = 0, []

        async def other() -> None:
            nonlocal turns
            while flow.metrics.counters.totals().consumed < 500:
                turns += 1
                seen.append(flow.metrics.counters.totals().consumed)
                await asyncio.sleep(0)
            flow.source.finish()

        async with asyncio.TaskGroup() as group:
            group.create_task(flow.pipeline.run())
            group.create_task(other())
        assert set(seen) == set(range(0, 500, 50))

    virtual_time.run(main())


def test_a_revoked_partition_lands_what_it_holds_first() -> None:
    async def main() -> None:
        flow = Flow({TP: records(10)})
        async with flow.running():
            await asyncio.sleep(1)
            await flow.source.revoke([TP])
            assert await flow.ranges() == [(0, 10)]
            assert flow.log.commits[TP].offset == 10
            assert not flow.pipeline.writers

    virtual_time.run(main())


def test_a_revoke_is_not_held_up_for_longer_than_its_bound() -> None:
    async def main() -> None:
        flow = Flow({TP: records(10)}, revoke_timeout=5)
        async with flow.running():
            await asyncio.sleep(1)
            flow.sink.fail_when(lambda _: Fault())
            before = asyncio.get_running_loop().time()
            await flow.source.revoke([TP])
            assert asyncio.get_running_loop().time() - before == pytest.approx(5, abs=0.1)
            totals = flow.metrics.counters.totals()
            assert (totals.consumed, totals.released, totals.in_flight) == (10, 10, 0)

    virtual_time.run(main())


def test_a_partition_that_comes_back_goes_on_where_its_chain_ends() -> None:
    async def main() -> None:
        flow = Flow({TP: records(10)})
        async with flow.running():
            await asyncio.sleep(1)
            await flow.source.revoke([TP])
            flow.log.append(TP, *records(5, start=10))
            flow.source.assign([TP])
            await asyncio.sleep(1)
        assert await flow.ranges() == [(0, 10), (10, 15)]

    virtual_time.run(main())


def test_a_refused_commit_drops_the_partition_and_no_other() -> None:
    async def main() -> None:
        flow = Flow({TP: records(10), OTHER: records(10)}, BatchConfig(interval=Seconds(5)))
        async with flow.running():
            await asyncio.sleep(1)
            flow.source.lose([TP])
            await asyncio.sleep(10)
            assert flow.pipeline.writers[TP].state == "lost"
            assert flow.log.commits[OTHER].offset == 10
            assert flow.pipeline.longest_wait() > 0

    virtual_time.run(main())


def test_a_storm_of_bad_records_stops_all_before_anything_of_it_lands() -> None:
    async def main() -> None:
        bad = [PlainRecord(offset, DAY, b"not json") for offset in range(100)]
        flow = Flow({TP: bad}, breaker=BreakerConfig(max_consecutive=60))
        with pytest.raises(ExceptionGroup) as raised:
            await flow.pipeline.run()
        assert raised.group_contains(BreakerOpen, match="60 records in a row")
        assert await flow.ranges() == []
        assert flow.log.commits[TP].offset == 0

    virtual_time.run(main())


def test_rejected_records_are_kept_with_their_bytes_and_count_towards_the_range() -> None:
    async def main() -> None:
        mixed = [*records(2), PlainRecord(2, DAY, b"\xff\x00", b"key"), *records(2, start=3)]
        flow = Flow({TP: mixed})
        await ended(flow, 1)
        (landed,) = await flow.chain()
        assert (landed.start, landed.end, landed.rows, landed.rejected) == (0, 5, 4, 1)
        (key,) = [key async for key in flow.sink.list(flow.layout.quarantine)]
        line = json.loads(gzip.decompress(await flow.sink.get(key)))
        assert (line["offset"], line["value"], line["key"]) == (2, "/wA=", "a2V5")
        assert line["leader_epoch"] == landed.leader_epoch == 0

    virtual_time.run(main())


def test_what_is_held_lands_where_retention_takes_what_comes_next_and_the_others_go_on() -> None:
    """It may be in no log any more, so nobody could read it again."""

    async def main() -> None:
        flow = Flow({TP: records(10), OTHER: records(10)}, BatchConfig(interval=Seconds(1000)))
        async with flow.running():
            await asyncio.sleep(5)
            flow.log.append(TP, *records(10, start=10))
            flow.log.trim(TP, 15)
            await asyncio.sleep(5)
            assert await flow.ranges() == [(0, 10)]
            halted = flow.pipeline.writers[TP].halt
            assert halted is not None
            assert halted.code == "lost_upstream"
            assert "(10-15)" in halted.message
            assert flow.pipeline.writers[OTHER].halt is None
        assert await flow.ranges(OTHER) == [(0, 10)]
        totals = flow.metrics.counters.totals()
        assert (totals.consumed, totals.landed, totals.released) == (20, 20, 0)

    virtual_time.run(main())


def test_goes_on_where_nothing_was_lost_after_all() -> None:
    async def main() -> None:
        flow = Flow({TP: records(10)}, BatchConfig(interval=Seconds(1000)))
        async with flow.running():
            await asyncio.sleep(5)
            flow.source.pause(TP)
            flow.pipeline.on_out_of_range(TP)
            await asyncio.sleep(5)
            flow.log.append(TP, *records(5, start=10))
            await asyncio.sleep(5)
        assert await flow.ranges() == [(0, 10), (10, 15)]

    virtual_time.run(main())


def test_a_partition_whose_log_is_gone_while_it_is_revoked_is_not_owned_again() -> None:
    async def main() -> None:
        flow = Flow({TP: records(10)}, BatchConfig(interval=Seconds(1000)), revoke_timeout=5)
        async with asyncio.TaskGroup() as group:
            group.create_task(flow.pipeline.run())
            await asyncio.sleep(5)
            flow.sink.fail_when(lambda _: Fault())
            revoking = group.create_task(flow.source.revoke([TP]))
            await asyncio.sleep(1)
            flow.source.pause(TP)
            flow.pipeline.on_out_of_range(TP)
            flow.sink.fail_when(None)
            await revoking
            await asyncio.sleep(100)
            assert not flow.pipeline.writers
            flow.source.finish()
        assert await flow.ranges() == [(0, 10)]

    virtual_time.run(main())


@pytest.mark.parametrize("outage", [False, True])
def test_a_partition_that_is_revoked_before_what_is_held_has_landed_is_not_owned_again(*, outage: bool) -> None:
    async def main() -> None:
        flow = Flow({TP: records(10)}, BatchConfig(interval=Seconds(1000)), revoke_timeout=5)
        async with flow.running():
            await asyncio.sleep(5)
            if outage:
                flow.sink.fail_when(lambda _: Fault())
            flow.source.pause(TP)
            flow.pipeline.on_out_of_range(TP)
            await flow.source.revoke([TP])
            flow.sink.fail_when(None)
            await asyncio.sleep(100)
            assert not flow.pipeline.writers
        assert await flow.ranges() == ([] if outage else [(0, 10)])
        totals = flow.metrics.counters.totals()
        assert totals.landed + totals.released == totals.consumed == 10

    virtual_time.run(main())


@pytest.mark.parametrize("size", [5, 30], ids=["shorter", "longer"])
def test_nothing_of_a_topic_that_was_created_again_extends_the_chain(size: int) -> None:
    async def main() -> None:
        flow = Flow({TP: records(10)}, BatchConfig(interval=Seconds(1000)))
        async with flow.running():
            await asyncio.sleep(5)
            flow.log.create_again()
            flow.log.append(TP, *records(size))
            await asyncio.sleep(20)
            assert await flow.ranges() == [(0, 10)], "what was held of the former topic"
            halted = flow.pipeline.writers[TP].halt
            assert halted is not None
            assert halted.code == "recreated_topic"

    virtual_time.run(main())


def test_a_wait_for_records_is_counted_from_when_there_were_some_though_nobody_asked() -> None:
    async def main() -> None:
        flow = Flow({TP: records(10)})
        async with flow.running():
            await asyncio.sleep(100)
            flow.source.pause(TP)
            flow.log.append(TP, *records(10, start=10))
            await asyncio.sleep(10)
            assert flow.pipeline.longest_wait() == pytest.approx(10, abs=1.1)

    virtual_time.run(main())


def test_having_no_partition_is_counted_from_when_the_last_one_was_released() -> None:
    async def main() -> None:
        flow = Flow({TP: records(10)})

        def unassigned_for() -> float | None:
            since = flow.pipeline.unassigned_since
            return None if since is None else asyncio.get_running_loop().time() - since

        async with flow.running():
            await asyncio.sleep(50)
            assert unassigned_for() is None
            await flow.source.revoke([TP])
            await asyncio.sleep(30)
            assert unassigned_for() == pytest.approx(30, abs=0.1)

    virtual_time.run(main())


def test_the_work_for_a_partition_does_not_grow_with_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0
    flush_if_due = PartitionWriter.flush_if_due

    def counted(self: PartitionWriter, now: float) -> float | None:
        nonlocal looks
        looks += 1
        return flush_if_due(self, now)

    monkeypatch.setattr(PartitionWriter, "flush_if_due", counted)

    async def looks_for(partitions: int) -> float:
        nonlocal looks
        looks = 0
        log: dict[TopicPartition, Sequence[PlainRecord]] = {
            TopicPartition("t", number): records(2) for number in range(partitions)
        }
        flow = Flow(log, BatchConfig(interval=Seconds(1)))
        await ended(flow, 3)
        assert len(flow.sink.objects) == partitions
        return looks / partitions

    few, many = virtual_time.run(looks_for(5)), virtual_time.run(looks_for(50))
    assert many <= few


def test_many_small_batches_are_not_flushed_for_memory() -> None:
    async def main() -> None:
        log = {TopicPartition("t", number): records(3) for number in range(100)}
        flow = Flow(dict(log), BatchConfig(interval=Seconds(3600), memory=Size(16 << 20)))
        async with flow.running():
            await asyncio.sleep(60)
            assert flow.metrics.counters.totals().consumed == 300
            assert not flow.sink.objects

    virtual_time.run(main())
