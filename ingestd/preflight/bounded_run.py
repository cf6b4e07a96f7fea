"""Runs a flow for a bounded time, as dry runs do: its stream is ended by rule, by a signal, or it fails."""

import asyncio
import contextlib
import signal
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from ingestd.core.errors import BreakerOpen, SourceError

LONGEST_S = 60.0  # if no duration is given
LOOK_S = 0.1  # between two looks at its progress


async def run_bounded(
    run: Callable[[], Coroutine[Any, Any, None]],
    end: Callable[[], Coroutine[Any, Any, None]],
    finish: Callable[[], None],
    limit_s: float,
    trouble: Callable[[], str],
) -> str | None:
    """Run a flow to its end; why it failed, or None.

    `end` runs beside it: it calls `finish`, which ends the stream, and is cancelled when the flow has ended. `trouble`
    says what may have kept the flow from ending within the limit.
    """
    try:
        async with asyncio.timeout(limit_s):
            with _ended_by_signals(finish):
                async with asyncio.TaskGroup() as group:
                    ending = group.create_task(end())
                    await run()
                    ending.cancel()
    except TimeoutError:
        return f"it did not end in time: {trouble()}"
    except BaseExceptionGroup as errors:
        return _expected_error(errors)
    return None


@contextlib.contextmanager
def _ended_by_signals(finish: Callable[[], None]) -> Iterator[None]:
    """The first signal ends the stream, a second one the process."""
    loop = asyncio.get_running_loop()

    def stop(number: signal.Signals) -> None:
        loop.remove_signal_handler(number)
        finish()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def _expected_error(errors: BaseExceptionGroup[BaseException]) -> str:
    """The message of an error that ends a run on purpose; any other error is raised."""
    known, rest = errors.split((BreakerOpen, SourceError))
    if known is None or rest is not None:
        raise errors
    first: BaseException = known
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return str(first)
