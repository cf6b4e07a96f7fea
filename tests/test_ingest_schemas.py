"""The flow while schemas cannot be fetched: their partitions wait, the others go on, and nothing is lost or doubled."""

import asyncio
from collections.abc import Iterable

import pytest

from ingestd.config.model import BatchConfig, RegistryConfig
from ingestd.config.types import Seconds
from ingestd.core.records import PlainRecord
from ingestd.sources.registry.loader import RegistryValues
from tests.registry_world import AVRO_SCHEMA, FakeRegistry, avro_event
from tests.simulation import virtual_time
from tests.test_ingest import DAY, OTHER, TP, Flow
from tests.test_registry_values import values_of

SOON = BatchConfig(interval=Seconds(10))


def of_schema(schema_id: int, offsets: Iterable[int]) -> list[PlainRecord]:
    return [PlainRecord(offset, DAY, avro_event(offset, schema_id)) for offset in offsets]


class Held:
    """Two partitions: the first has five records of schema 2, which the registry does not give, the others of schema 1.

    A fetch has at most 50 records of a partition.
    """

    def __init__(self, before: int = 0, behind: int = 0) -> None:
        self.registry = FakeRegistry({1: AVRO_SCHEMA, 2: AVRO_SCHEMA})
        self.registry.failing.add(2)
        self.values: RegistryValues = values_of(self.registry, RegistryConfig(urls=("http://r",)))
        end = before + 5
        first = [
            *of_schema(1, range(before)),
            *of_schema(2, range(before, end)),
            *of_schema(1, range(end, end + behind)),
        ]
        self.flow = Flow({TP: first, OTHER: of_schema(1, range(10))}, SOON, values=self.values)

    def waits(self) -> bool:
        """Whether anybody waits for a schema."""
        return self.values.error is not None

    def end(self) -> None:
        """As a daemon that is told to stop."""
        self.values.finish()
        self.flow.source.finish()


def test_one_partition_waits_for_its_schema_and_the_others_go_on() -> None:
    async def main() -> None:
        held = Held()
        flow = held.flow
        async with asyncio.TaskGroup() as group:
            group.create_task(flow.pipeline.run())
            await asyncio.sleep(50)
            flow.log.append(OTHER, *of_schema(1, range(10, 30)))
            await asyncio.sleep(30)
            assert await flow.ranges(OTHER) == [(0, 10), (10, 30)]
            assert await flow.ranges(TP) == []
            assert flow.log.commits[TP].offset == 0
            assert "the registry is away" in (held.values.error or "")
            assert flow.pipeline.longest_wait() == 0, "nothing is wrong with the source"
            held.registry.failing.clear()
            await asyncio.sleep(30)
            assert not held.waits()
            flow.log.append(TP, *of_schema(1, range(5, 8)))
            await asyncio.sleep(30)
            assert await flow.ranges(TP) == [(0, 5), (5, 8)]
            held.end()
        totals = flow.metrics.counters.totals()
        assert (totals.consumed, totals.landed, totals.quarantined) == (38, 38, 0)

    virtual_time.run(main())


def test_what_is_behind_in_the_partition_waits_too_and_nothing_is_left_out() -> None:
    async def main() -> None:
        held = Held(behind=120)
        async with asyncio.TaskGroup() as group:
            group.create_task(held.flow.pipeline.run())
            await asyncio.sleep(50)
            assert await held.flow.ranges(TP) == []
            held.registry.failing.clear()
            await asyncio.sleep(30)
            assert await held.flow.ranges(TP) == [(0, 125)]
            held.end()
        assert held.flow.metrics.counters.totals().landed == 125 + 10

    virtual_time.run(main())


def test_a_source_that_makes_no_progress_after_the_wait_is_noticed() -> None:
    async def main() -> None:
        held = Held()
        async with asyncio.TaskGroup() as group:
            group.create_task(held.flow.pipeline.run())
            await asyncio.sleep(20)
            held.registry.failing.clear()
            await asyncio.sleep(20)
            held.flow.source.pause(TP)
            held.flow.log.append(TP, *of_schema(1, range(5, 8)))
            await asyncio.sleep(10)
            assert held.flow.pipeline.longest_wait() > 5
            held.end()

    virtual_time.run(main())


def test_each_partition_waits_for_its_own_schema() -> None:
    async def main() -> None:
        held = Held()
        held.registry.failing |= {1}
        async with asyncio.TaskGroup() as group:
            group.create_task(held.flow.pipeline.run())
            await asyncio.sleep(30)
            since = held.values.error_since
            held.registry.failing -= {1}
            await asyncio.sleep(30)
            assert (await held.flow.ranges(TP), await held.flow.ranges(OTHER)) == ([], [(0, 10)])
            assert held.values.error_since == since, "the other one still waits"
            held.registry.failing.clear()
            await asyncio.sleep(30)
            assert await held.flow.ranges(TP) == [(0, 5)]
            assert not held.waits()
            held.end()

    virtual_time.run(main())


def test_what_was_read_before_lands_meanwhile() -> None:
    async def main() -> None:
        held = Held(before=100)  # two fetches
        async with asyncio.TaskGroup() as group:
            group.create_task(held.flow.pipeline.run())
            await asyncio.sleep(30)
            assert await held.flow.ranges(TP) == [(0, 100)]
            held.registry.failing.clear()
            await asyncio.sleep(30)
            assert await held.flow.ranges(TP) == [(0, 100), (100, 105)]
            held.end()

    virtual_time.run(main())


def test_a_stop_ends_the_wait_and_commits_nothing_of_it() -> None:
    async def main() -> None:
        held = Held(before=100)
        running = asyncio.create_task(held.flow.pipeline.run())
        await asyncio.sleep(100)
        held.end()
        async with asyncio.timeout(10):
            await running
        assert held.flow.log.commits[TP].offset == 100
        assert held.waits(), "that the stop came too early for them"

    virtual_time.run(main())


@pytest.mark.parametrize("returns", [True, False])
def test_a_partition_that_is_revoked_waits_no_more(*, returns: bool) -> None:
    async def main() -> None:
        held = Held()
        flow = held.flow
        async with asyncio.TaskGroup() as group:
            group.create_task(flow.pipeline.run())
            await asyncio.sleep(30)
            await flow.source.revoke([TP])
            await asyncio.sleep(30)
            assert not held.waits()
            if returns:
                flow.source.assign([TP])
                await asyncio.sleep(30)
                assert held.waits()
            held.registry.failing.clear()
            await asyncio.sleep(30)
            assert await flow.ranges(TP) == ([(0, 5)] if returns else [])
            held.end()

    virtual_time.run(main())


def test_a_log_that_was_truncated_during_the_wait_is_noticed() -> None:
    async def main() -> None:
        held = Held(before=100)
        flow = held.flow
        async with asyncio.TaskGroup() as group:
            group.create_task(flow.pipeline.run())
            await asyncio.sleep(30)
            flow.log.elect(TP, end=90)
            flow.log.append(TP, *of_schema(1, range(90, 120)))
            held.registry.failing.clear()
            await asyncio.sleep(30)
            halt = flow.pipeline.writers[TP].halt
            assert halt is not None
            assert halt.code == "log_truncated"
            assert await flow.ranges(TP) == [(0, 100)]
            held.end()

    virtual_time.run(main())
