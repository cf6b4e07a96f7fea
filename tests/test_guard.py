"""Calls to the sink are repeated until they are answered; the start-up probe is one of them."""

import logging
import random

import pytest

from ingestd.config.model import Seconds, SinkConfig
from ingestd.core.errors import ConfigError, SinkForbidden, SinkUnavailable
from ingestd.core.object_keys import ObjectKeys
from ingestd.core.records import TopicPartition
from ingestd.sinks.create_only import require_create_only
from ingestd.sinks.listing import neighbours
from ingestd.sinks.retry import SinkRetrier
from tests.fakes.memory_sink import MemorySink
from tests.simulation import virtual_time

TP = TopicPartition("t", 0)


def guard(retries: list[str]) -> SinkRetrier:
    return SinkRetrier(SinkConfig(retry_initial=Seconds(1), retry_max=Seconds(60)), retries.append, random.Random(1))


def test_a_call_is_repeated_for_as_long_as_it_takes(caplog: pytest.LogCaptureFixture) -> None:
    retries: list[str] = []
    failures: list[Exception] = [SinkUnavailable("slow down", code="SlowDown")] * 500
    failures += [SinkForbidden("no", code="AccessDenied")] * 500

    async def main() -> str:
        keeper = guard(retries)

        async def operation() -> str:
            if failures:
                raise failures.pop(0)
            return "done"

        with caplog.at_level(logging.INFO, "ingestd.sinks.retry"):
            answer = await keeper.call(operation)
        assert keeper.error is None
        return answer

    assert virtual_time.run(main()) == "done"
    assert retries == ["SlowDown"] * 500 + ["AccessDenied"] * 500
    assert [record.levelname for record in caplog.records] == ["WARNING", "ERROR", "INFO"]


def test_what_is_not_the_sinks_error_is_not_repeated() -> None:
    async def main() -> None:
        async def operation() -> None:
            raise ZeroDivisionError

        await guard([]).call(operation)

    with pytest.raises(ZeroDivisionError):
        virtual_time.run(main())


@pytest.mark.parametrize("starts", [1, 2])
async def test_a_store_that_refuses_the_second_write_is_taken(starts: int) -> None:
    sink = MemorySink()
    for _ in range(starts):
        await require_create_only(sink, guard([]))


async def test_a_store_that_overwrites_is_refused_with_what_to_do() -> None:
    with pytest.raises(ConfigError, match="at-least-once"):
        await require_create_only(MemorySink(conditional=False), guard([]))


async def test_neighbours_are_found_whatever_their_dates() -> None:
    """A producer's clock decides on the day: a later offset may lie in an earlier folder."""
    sink, layout, day = MemorySink(), ObjectKeys(), 86_400_000
    for start, timestamp in ((0, 9 * day), (10, 2 * day), (20, 400 * day), (30, 3 * day)):
        await sink.put_new(layout.data_key(TP, start, timestamp, 0), b"", {"a": "b"})
    await sink.put_new(layout.data_key(TopicPartition("t", 1), 21, day, 0), b"", {"a": "b"})
    await sink.put_new(ObjectKeys("other").data_key(TP, 22, day, 0), b"", {"a": "b"})
    found = await neighbours(sink, layout, TP, 20)
    assert found.before == layout.data_key(TP, 10, 2 * day, 0)
    assert found.at == layout.data_key(TP, 20, 400 * day, 0)
    assert found.after == layout.data_key(TP, 30, 3 * day, 0)
    assert (await neighbours(sink, layout, TP, 2**63 - 1)).before == found.after
    assert (await neighbours(sink, layout, TopicPartition("t", 2), 5)).before is None
