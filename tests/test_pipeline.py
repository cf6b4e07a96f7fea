"""The flow as a whole, over fakes and in virtual time: what is sealed when, and what stops what."""

import asyncio
import gzip
import json
import random
from collections.abc import Sequence

import pytest

from ingestd.breaker import Breaker
from ingestd.chain import Policy
from ingestd.config import Batch, Events, Seconds, Size
from ingestd.config import Breaker as BreakerConfig
from ingestd.config import Sink as SinkConfig
from ingestd.errors import BreakerOpen
from ingestd.events import load_model
from ingestd.guard import Guard
from ingestd.keeper import Tools
from ingestd.layout import Landed, Layout
from ingestd.metrics import Metrics
from ingestd.pipeline import Pipeline
from ingestd.records import PlainRecord, TopicPartition
from ingestd.sinks.memory import Fault, MemorySink
from ingestd.sources.memory import MemoryLog, MemorySource
from ingestd.validate import Validator
from tests.simulation import virtual_time

TP = TopicPartition("t", 0)
OTHER = TopicPartition("t", 1)
DAY = 86_400_000


def records(count: int, start: int = 0, pad: int = 0) -> list[PlainRecord]:
    return [PlainRecord(offset, DAY, event(offset, pad)) for offset in range(start, start + count)]


def event(number: int, pad: int = 0) -> bytes:
    noise = random.Random(number).randbytes(pad // 2).hex()
    fields = {"event_id": f"e{number}", "client_id": "c", "event_timestamp": "2026-01-01T00:00:00Z"}
    return json.dumps({**fields, "event_type": "web_visit", "page_url": noise}).encode()


class Flow:
    """A pipeline with its surroundings."""

    def __init__(
        self,
        log: dict[TopicPartition, Sequence[PlainRecord]],
        limits: Batch = Batch(),  # noqa: B008  frozen
        breaker: BreakerConfig = BreakerConfig(),  # noqa: B008  frozen
        revoke_timeout: float = 30.0,
    ) -> None:
        self.log = MemoryLog(log)
        self.source = MemorySource(self.log, max_records=50)
        self.sink = MemorySink()
        self.metrics = Metrics()
        layout = Layout()
        self.guard = Guard(SinkConfig(), self.metrics.upload_retried, random.Random(1))
        tools = Tools(
            source=self.source,
            sink=self.sink,
            guard=self.guard,
            metrics=self.metrics,
            executor=virtual_time.SlowExecutor(lambda: 0.001),
            wall_clock=lambda: 0.0,
        )
        self.pipeline = Pipeline(
            limits,
            tools,
            Validator(Events(), load_model(None)),
            Breaker(breaker),
            Policy(layout, layout.mark("m")),
            revoke_timeout=revoke_timeout,
        )
        self.layout = layout

    async def chain(self, partition: TopicPartition = TP) -> list[Landed]:
        found = []
        async for key in self.sink.list(self.layout.events):
            info = await self.sink.head(key)
            landed = Landed.from_metadata(info.metadata) if info else None
            if landed is not None and landed.partition == partition.partition:
                found.append(landed)
        return sorted(found, key=lambda it: it.start)

    async def ranges(self, partition: TopicPartition = TP) -> list[tuple[int, int]]:
        return [(landed.start, landed.end) for landed in await self.chain(partition)]


async def ended(flow: Flow, after: float) -> None:
    """Run for so long, then let the stream end."""
    async with asyncio.TaskGroup() as group:
        group.create_task(flow.pipeline.run())
        await asyncio.sleep(after)
        flow.source.finish()


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
        flow = Flow({TP: records(3)}, Batch(interval=Seconds(30)))
        async with asyncio.TaskGroup() as group:
            group.create_task(flow.pipeline.run())
            await asyncio.sleep(20)
            flow.log.append(TP, *records(1, start=3))
            await asyncio.sleep(9.5)
            assert await flow.ranges() == []
            await asyncio.sleep(1)
            assert await flow.ranges() == [(0, 4)]
            flow.source.finish()

    virtual_time.run(main())


def test_no_batch_has_more_records_than_the_limit() -> None:
    async def main() -> None:
        flow = Flow({TP: records(95)}, Batch(records=20))
        await ended(flow, 5)
        assert await flow.ranges() == [(0, 20), (20, 40), (40, 60), (60, 80), (80, 95)]

    virtual_time.run(main())


def test_an_outage_leaves_no_trail_of_small_objects() -> None:
    async def main() -> None:
        flow = Flow({TP: records(1)}, Batch(interval=Seconds(1)))
        flow.sink.fail_when(lambda _: Fault())
        async with asyncio.TaskGroup() as group:
            group.create_task(flow.pipeline.run())
            for number in range(1, 100):
                await asyncio.sleep(1)
                flow.log.append(TP, *records(1, start=number))
            flow.sink.fail_when(None)
            await asyncio.sleep(60)
            flow.source.finish()
        assert len(await flow.ranges()) <= 3

    virtual_time.run(main())


def test_a_full_budget_stops_the_reading_and_nothing_else() -> None:
    async def main() -> None:
        limits = Batch(interval=Seconds(3600), memory=Size(1 << 20))
        flow = Flow({TP: records(2000, pad=2000), OTHER: records(2000, pad=2000)}, limits)
        flow.sink.fail_when(lambda call: Fault() if call.operation == "put_new" else None)
        async with asyncio.TaskGroup() as group:
            group.create_task(flow.pipeline.run())
            await asyncio.sleep(600)
            consumed = flow.metrics.totals().consumed
            assert 0 < consumed < 4000
            assert flow.pipeline.held_bytes <= limits.memory
            flow.sink.fail_when(None)
            await asyncio.sleep(600)
            flow.source.finish()
        for partition in (TP, OTHER):
            ranges = await flow.ranges(partition)
            assert (ranges[0][0], ranges[-1][1]) == (0, 2000)

    virtual_time.run(main())


def test_a_revoked_partition_lands_what_it_holds_first() -> None:
    async def main() -> None:
        flow = Flow({TP: records(10)})
        async with asyncio.TaskGroup() as group:
            group.create_task(flow.pipeline.run())
            await asyncio.sleep(1)
            await flow.source.revoke([TP])
            assert await flow.ranges() == [(0, 10)]
            assert flow.log.commits[TP].offset == 10
            assert not flow.pipeline.keepers
            flow.source.finish()

    virtual_time.run(main())


def test_a_revoke_is_not_held_up_for_longer_than_its_bound() -> None:
    async def main() -> None:
        flow = Flow({TP: records(10)}, revoke_timeout=5)
        async with asyncio.TaskGroup() as group:
            group.create_task(flow.pipeline.run())
            await asyncio.sleep(1)
            flow.sink.fail_when(lambda _: Fault())
            before = asyncio.get_running_loop().time()
            await flow.source.revoke([TP])
            assert asyncio.get_running_loop().time() - before == pytest.approx(5, abs=0.1)
            totals = flow.metrics.totals()
            assert (totals.consumed, totals.released, totals.in_flight) == (10, 10, 0)
            flow.source.finish()

    virtual_time.run(main())


def test_a_partition_that_comes_back_goes_on_where_its_chain_ends() -> None:
    async def main() -> None:
        flow = Flow({TP: records(10)})
        async with asyncio.TaskGroup() as group:
            group.create_task(flow.pipeline.run())
            await asyncio.sleep(1)
            await flow.source.revoke([TP])
            flow.log.append(TP, *records(5, start=10))
            flow.source.assign([TP])
            await asyncio.sleep(1)
            flow.source.finish()
        assert await flow.ranges() == [(0, 10), (10, 15)]

    virtual_time.run(main())


def test_a_refused_commit_drops_the_partition_and_no_other() -> None:
    async def main() -> None:
        flow = Flow({TP: records(10), OTHER: records(10)}, Batch(interval=Seconds(5)))
        async with asyncio.TaskGroup() as group:
            group.create_task(flow.pipeline.run())
            await asyncio.sleep(1)
            flow.source.lose([TP])
            await asyncio.sleep(10)
            assert flow.pipeline.keepers[TP].chain.state == "lost"
            assert flow.log.commits[OTHER].offset == 10
            assert flow.pipeline.longest_wait() > 0
            flow.source.finish()

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

    virtual_time.run(main())


def test_retention_that_overtakes_a_running_reader_is_told_and_halts_that_partition_alone() -> None:
    async def main() -> None:
        flow = Flow({TP: records(10), OTHER: records(10)})
        async with asyncio.TaskGroup() as group:
            group.create_task(flow.pipeline.run())
            await asyncio.sleep(1)
            flow.log.append(TP, *records(90, start=10))
            flow.log.trim(TP, 50)
            await asyncio.sleep(1)
            halted = flow.pipeline.keepers[TP].halted
            assert halted is not None
            assert halted.code == "lost_upstream"
            assert flow.pipeline.keepers[OTHER].halted is None
            flow.source.finish()
        assert await flow.ranges(OTHER) == [(0, 10)]

    virtual_time.run(main())
