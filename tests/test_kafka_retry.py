"""Retries of requests to Kafka, and what the error state knows meanwhile."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest
from aiokafka.errors import InvalidGroupIdError, KafkaConnectionError, TopicAuthorizationFailedError

from ingestd.core.errors import SourceError
from ingestd.sources.error_state import ErrorState
from ingestd.sources.kafka import retry as module
from ingestd.sources.kafka.retry import Backoff, retry


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_MAX_S", 0.001)


def failing(errors: ErrorState, *failures: Exception) -> tuple[Callable[[], Awaitable[str | None]], list[str | None]]:
    """A call that fails with these and then returns the last error that was known; and those known at each call."""
    left, known = list(failures), []

    async def call() -> str | None:
        known.append(errors.error)
        if left:
            raise left.pop(0)
        return errors.error

    return call, known


async def test_retries_until_a_call_succeeds(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ingestd")
    errors = ErrorState()
    call, known = failing(errors, KafkaConnectionError("down"), TimeoutError(), OSError("refused"))
    found = await retry(call, "asking", errors, message=lambda error: f"asking failed: {type(error).__name__}")
    assert known == [None, "asking failed: KafkaConnectionError", "asking failed: TimeoutError", found]
    assert errors.error is None
    begin, end = (record.getMessage() for record in caplog.records)
    assert begin == "asking failed: KafkaConnectionError; nothing is lost, retrying"
    assert end.startswith("recovered ")


async def test_an_error_that_retrying_cannot_help_is_raised_at_once() -> None:
    call, known = failing(ErrorState(), InvalidGroupIdError("g"))
    with pytest.raises(SourceError, match=r"give another kafka\.group_id"):
        await retry(call, "asking", ErrorState(), message=str)
    assert known == [None]


async def test_a_caller_decides_what_is_permanent() -> None:
    call, _ = failing(ErrorState(), KafkaConnectionError("down"))
    with pytest.raises(SourceError, match="gave up"):
        await retry(call, "asking", ErrorState(), message=str, permanent=lambda _: SourceError("gave up"))


async def test_a_missing_right_is_logged_as_an_error(caplog: pytest.LogCaptureFixture) -> None:
    errors = ErrorState()
    call, _ = failing(errors, TopicAuthorizationFailedError("t"))
    await retry(call, "asking", errors, message=str)
    assert [record.levelname for record in caplog.records] == ["ERROR"]


async def test_other_errors_are_not_retried() -> None:
    call, _ = failing(ErrorState(), ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        await retry(call, "asking", ErrorState(), message=str)


def test_waits_grow_up_to_the_maximum_and_begin_again_after_a_success() -> None:
    delay = Backoff(max_s=1.0)
    assert all(0 < delay.next_delay_s() <= min(1.0, module.RETRY_INITIAL_S * 2**number) for number in range(100))
    delay.reset()
    assert delay.next_delay_s() <= module.RETRY_INITIAL_S


async def test_an_error_lasts_from_the_first_failure_until_nothing_fails() -> None:
    errors = ErrorState()
    seen = [errors.since]
    errors.begin("fetch", "no answer")
    seen.append(errors.since)
    await asyncio.sleep(0.01)
    errors.begin("commit", "no coordinator")
    errors.end("fetch")
    seen.append(errors.since)
    errors.end("commit")
    assert seen[0] is None
    assert seen[1] is not None
    assert seen[2] == seen[1]
    assert errors.since is None
