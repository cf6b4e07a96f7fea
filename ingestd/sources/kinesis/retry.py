"""Repeats calls to Kinesis until they succeed, and tells the error state why they fail meanwhile."""

import asyncio
import logging
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import TypeVar

from ingestd.core.backoff import backoff
from ingestd.sources.error_state import ErrorState
from ingestd.sources.kinesis.port import KinesisError, KinesisRefused, KinesisUnavailable

RETRY_INITIAL_S, RETRY_MAX_S = 0.2, 5.0
REFUSED_MAX_S = 30.0  # where an operator must act
QUIET_FAILURES = 2  # in a row: several readers of a shard throttle one another now and then

T = TypeVar("T")


class Retrier:
    """An operation fails as long as it fails for at least one shard; then it is an error, however many they are."""

    def __init__(self, errors: ErrorState, rng: random.Random) -> None:
        self._errors = errors
        self._random = rng
        self._failing: defaultdict[str, set[object]] = defaultdict(set)  # the calls, by the name of the operation

    async def call(
        self,
        name: str,
        method: Callable[[], Awaitable[T]],
        *,
        on_refused: Callable[[KinesisError], None] = lambda _: None,
    ) -> T:
        """The result of the first call that succeeds. Only what another call cannot mend is raised.

        `on_refused` is called with each error for which an operator must act; it may raise.
        """
        me = object()
        attempt = 0
        try:
            while True:
                try:
                    return await method()
                except (KinesisUnavailable, KinesisRefused) as error:
                    refused = isinstance(error, KinesisRefused)
                    if refused:
                        on_refused(error)
                    if refused or attempt >= QUIET_FAILURES:
                        self._failing[name].add(me)
                        self._errors.begin(name, str(error), level=logging.ERROR if refused else logging.WARNING)
                longest = REFUSED_MAX_S if refused else RETRY_MAX_S
                await asyncio.sleep(backoff(attempt, RETRY_INITIAL_S, longest, self._random))
                attempt += 1
        finally:
            self._end(name, me)

    def _end(self, name: str, call: object) -> None:
        if call in (failing := self._failing[name]):
            failing.discard(call)
            if not failing:
                self._errors.end(name)
