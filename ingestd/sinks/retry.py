"""Calls to the sink that are not given up: the same call again, with backoff, for as long as it takes."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from ingestd.config.model import SinkConfig
from ingestd.core.backoff import backoff
from ingestd.core.errors import SinkError, SinkForbidden, SinkUnavailable
from ingestd.ops.logs import Outage

log = logging.getLogger(__name__)

PATIENCE_S = 120.0  # a command can be run again

T = TypeVar("T")


class SinkRetrier:
    """Bounds how many calls are under way and says once that the sink is down, and once that it is back.

    A call that times out may have been applied: only calls that can be repeated may be guarded.
    """

    def __init__(self, config: SinkConfig, on_retry: Callable[[str], None], rng: random.Random | None = None) -> None:
        self._config = config
        self._on_retry = on_retry
        self._slots = asyncio.Semaphore(config.concurrency)
        self._random = rng or random.Random()
        self.error: SinkError | None = None  # of the last call, while the sink is down
        self.since = 0.0  # when it went down, on the loop's clock
        self._outage = Outage()

    async def call(self, operation: Callable[[], Awaitable[T]]) -> T:
        """The answer of the first try that gets one."""
        attempt = 0
        while True:
            try:
                async with self._slots:
                    answer = await operation()
            except SinkError as error:
                self._down(error)
            else:
                self._up()
                return answer
            # The slot is free meanwhile: a partition that waits must not keep the others from trying.
            await asyncio.sleep(backoff(attempt, self._config.retry_initial, self._config.retry_max, self._random))
            attempt += 1

    async def call_briefly(self, operation: Callable[[], Awaitable[T]], patience: float = PATIENCE_S) -> T:
        """As ``call``, but given up after so many seconds, with the ``SinkError`` of the last try: for commands."""
        limit = asyncio.timeout(patience)
        try:
            async with limit:
                return await self.call(operation)
        except TimeoutError:
            if not limit.expired():
                raise
            raise self.error or SinkUnavailable(f"no answer in {patience:g} s", code="Timeout") from None

    def _down(self, error: SinkError) -> None:
        self._on_retry(error.code)
        now = asyncio.get_running_loop().time()
        began = self._outage.begin(now)
        if began:
            self.since = now
        told = not began and type(self.error) is type(error)
        self.error = error
        if told:
            return
        if isinstance(error, SinkForbidden):
            log.error("the sink refuses us; everything is held and retried until it does not: %s", error)
        else:
            log.warning("the sink is unavailable; nothing is lost, retrying: %s", error)

    def _up(self) -> None:
        self.error = None
        if ended := self._outage.end(asyncio.get_running_loop().time()):
            log.info("the sink is back %s", ended)
