"""Calls to the sink are repeated until they are answered, and each outage is visible for as long as it lasts."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

import pytest

from ingestd.config.model import SinkConfig
from ingestd.config.types import Seconds
from ingestd.core.errors import SinkError, SinkForbidden, SinkUnavailable
from ingestd.sinks.retry import SinkRetrier
from tests.fakes.memory_sink import Call, Fault, MemorySink
from tests.simulation import virtual_time

CONFIG = SinkConfig(retry_initial=Seconds(1), retry_max=Seconds(60))
METADATA = {"a": "b"}


def make_retrier(retries: list[str] | None = None) -> SinkRetrier:
    return SinkRetrier(CONFIG, (list[str]() if retries is None else retries).append, random.Random(1))


def shown(retrier: SinkRetrier) -> SinkError | None:
    """What readiness sees now."""
    return retrier.error


def levels(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.levelname for record in caplog.records]


def denied(prefix: str, kind: type[SinkError] = SinkForbidden) -> Callable[[Call], Fault | None]:
    return lambda call: Fault(kind, "AccessDenied") if call.key.startswith(prefix) else None


def test_a_call_is_repeated_for_as_long_as_it_takes(caplog: pytest.LogCaptureFixture) -> None:
    retries: list[str] = []
    failures: list[Exception] = [SinkUnavailable("slow down", code="SlowDown")] * 500
    failures += [SinkForbidden("no", code="AccessDenied")] * 500

    async def main() -> str:
        retrier = make_retrier(retries)

        async def operation() -> str:
            if failures:
                raise failures.pop(0)
            return "done"

        with caplog.at_level(logging.INFO, "ingestd.sinks.retry"):
            answer = await retrier.call(operation)
        assert shown(retrier) is None
        return answer

    assert virtual_time.run(main()) == "done"
    assert retries == ["SlowDown"] * 500 + ["AccessDenied"] * 500
    assert levels(caplog) == ["WARNING", "ERROR", "INFO"]


def test_other_errors_than_the_sinks_are_not_repeated() -> None:
    async def main() -> None:
        async def operation() -> None:
            raise ZeroDivisionError

        await make_retrier().call(operation)

    with pytest.raises(ZeroDivisionError):
        virtual_time.run(main())


async def put_for_ever(retrier: SinkRetrier, sink: MemorySink, partition: int) -> None:
    for number in range(10_000):
        key = f"events/year=2026/month=01/day=01/t+{partition:05d}+{number:020d}.jsonl.gz"
        await retrier.call(sink.put_new, key, b"", METADATA)
        await asyncio.sleep(1)


def test_a_denied_prefix_is_an_outage_however_well_the_others_do(caplog: pytest.LogCaptureFixture) -> None:
    """One of four partitions is denied for 90 s: not ready in every look, one ERROR and one recovery in the log."""
    looks: list[SinkError | None] = []

    async def main() -> float:
        sink, retrier = MemorySink(), make_retrier()
        writers = [asyncio.create_task(put_for_ever(retrier, sink, partition)) for partition in range(4)]
        await asyncio.sleep(10)
        assert shown(retrier) is None
        sink.fail_when(denied("events/year=2026/month=01/day=01/t+00002"))
        await asyncio.sleep(5)
        for _ in range(90):
            looks.append(shown(retrier))
            await asyncio.sleep(1)
        age = asyncio.get_running_loop().time() - retrier.since
        sink.fail_when(None)
        await asyncio.sleep(60)
        assert shown(retrier) is None
        assert retrier.since == 0
        for writer in writers:
            writer.cancel()
        await asyncio.gather(*writers, return_exceptions=True)
        return age

    with caplog.at_level(logging.INFO, "ingestd.sinks.retry"):
        age = virtual_time.run(main())
    assert all(isinstance(error, SinkForbidden) for error in looks)
    assert 90 <= age <= 96
    assert levels(caplog) == ["ERROR", "INFO"]


def test_many_keys_that_fail_alike_are_one_outage_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        sink, retrier = MemorySink(), make_retrier()
        sink.fail_when(denied("events/", SinkUnavailable))
        writers = [asyncio.create_task(put_for_ever(retrier, sink, partition)) for partition in range(200)]
        await asyncio.sleep(600)
        sink.fail_when(None)
        await asyncio.sleep(61)
        for writer in writers:
            writer.cancel()
        await asyncio.gather(*writers, return_exceptions=True)

    with caplog.at_level(logging.INFO, "ingestd.sinks.retry"):
        virtual_time.run(main())
    assert levels(caplog) == ["WARNING", "INFO"]
    assert "200 calls" in caplog.messages[1]


def test_the_worst_outage_is_shown_and_the_log_tells_each() -> None:
    async def main() -> None:
        sink, retrier = MemorySink(), make_retrier()
        sink.fail_when(denied("events/a", SinkUnavailable))
        tasks = [asyncio.create_task(retrier.call(sink.head, "events/a"))]
        await asyncio.sleep(5)
        assert isinstance(shown(retrier), SinkUnavailable)
        assert retrier.since == 0
        sink.fail_when(lambda call: denied("events/a", SinkUnavailable)(call) or denied("events/b")(call))
        tasks.append(asyncio.create_task(retrier.call(sink.head, "events/b")))
        await asyncio.sleep(5)
        assert isinstance(shown(retrier), SinkForbidden)
        assert retrier.since == 5
        sink.fail_when(denied("events/a", SinkUnavailable))
        await tasks[1]
        assert isinstance(shown(retrier), SinkUnavailable)
        sink.fail_when(None)
        await tasks[0]
        assert shown(retrier) is None

    virtual_time.run(main())


def test_a_cancelled_call_leaves_no_outage_behind(caplog: pytest.LogCaptureFixture) -> None:
    """A partition that is revoked while its upload fails must not keep the daemon from being ready."""

    async def main() -> None:
        sink, retrier = MemorySink(), make_retrier()
        sink.fail_when(denied("events/"))
        task = asyncio.create_task(retrier.call(sink.head, "events/a"))
        await asyncio.sleep(5)
        assert shown(retrier) is not None
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert shown(retrier) is None
        await give_up(retrier.call_briefly(sink.head, "events/b", patience_s=5))
        assert shown(retrier) is None

    with caplog.at_level(logging.INFO, "ingestd.sinks.retry"):
        virtual_time.run(main())
    assert levels(caplog) == ["ERROR", "INFO"] * 2
    assert "recovered" not in caplog.text


async def give_up(call: Awaitable[object]) -> None:
    with pytest.raises(SinkForbidden):
        await call


def test_a_call_that_is_given_up_raises_its_own_error() -> None:
    async def main() -> None:
        sink, retrier = MemorySink(), make_retrier()
        sink.fail_when(lambda call: denied("events/a", SinkUnavailable)(call) or denied("events/b")(call))
        beside = asyncio.create_task(retrier.call(sink.head, "events/b"))
        with pytest.raises(SinkUnavailable):
            await retrier.call_briefly(sink.head, "events/a", patience_s=5)
        beside.cancel()

    virtual_time.run(main())


def test_a_second_retrier_has_its_own_slots_and_its_own_state() -> None:
    async def main() -> None:
        sink, uploads = MemorySink(), make_retrier()
        beside = SinkRetrier(CONFIG, concurrency=1, effect="retrying")
        sink.fail_when(denied("events/a"))
        task = asyncio.create_task(beside.call(sink.head, "events/a"))
        await asyncio.sleep(5)
        assert beside.error is not None
        assert uploads.error is None
        task.cancel()

    virtual_time.run(main())
