"""Repeats requests to Kafka until one succeeds, and tells the error state why they fail meanwhile."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from ingestd.core.backoff import backoff
from ingestd.core.errors import SourceError
from ingestd.sources.error_state import ErrorState
from ingestd.sources.kafka.errors import FAILURES, log_level, permanent_error

RETRY_INITIAL_S, RETRY_MAX_S = 0.2, 5.0

T = TypeVar("T")


class Backoff:
    """Waits longer after each failure in a row. `max_s` bounds the wait; None stands for ``RETRY_MAX_S``."""

    def __init__(self, max_s: float | None = None) -> None:
        self._max_s = max_s
        self._failures = 0
        self._random = random.Random()

    def reset(self) -> None:
        """The last try succeeded."""
        self._failures = 0

    def next_delay_s(self) -> float:
        """Seconds to wait after one more failure."""
        self._failures += 1
        return backoff(self._failures - 1, RETRY_INITIAL_S, self._max_s or RETRY_MAX_S, self._random)

    async def wait(self) -> None:
        """Wait after one more failure."""
        await asyncio.sleep(self.next_delay_s())


async def retry(
    call: Callable[[], Awaitable[T]],
    name: str,
    errors: ErrorState,
    *,
    message: Callable[[BaseException], str],
    permanent: Callable[[BaseException], SourceError | None] = permanent_error,
    max_s: float | None = None,
) -> T:
    """The result of the first call that succeeds. Raises what `permanent` returns for a failure; others are retried.

    `errors` knows of failures under `name`, with the text that `message` gives, until a call succeeds.
    """
    delay = Backoff(max_s)
    while True:
        try:
            result = await call()
        except FAILURES as error:
            if (final := permanent(error)) is not None:
                raise final from error
            errors.begin(name, message(error), level=log_level(error))
        else:
            errors.end(name)
            return result
        await delay.wait()
