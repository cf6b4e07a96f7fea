"""Repeats calls to the sink, with backoff, until they are answered, and knows which of them are failing now."""

import asyncio
import logging
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Self, TypeVar, TypeVarTuple

from ingestd.config.model import SinkConfig
from ingestd.core.backoff import backoff
from ingestd.core.errors import SinkError, SinkForbidden, SinkUnavailable
from ingestd.core.formatting import number
from ingestd.ops.logs import Outage

log = logging.getLogger(__name__)

PATIENCE_S = 120.0  # a command can be run again

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


def _ignore(_code: str) -> None:
    """For callers that count no retries."""


class SinkRetrier:
    """Bounds how many calls run at once, repeats those that fail, and reports the sink's outages.

    An outage lasts while at least one call fails: the calls that succeed beside it do not end it, so one denied
    prefix is visible however well the others do. An outage of one operation is logged once when it begins and once
    when it ends, however many keys it hits.

    A call that timed out may have been applied: only calls that may be repeated belong here.
    """

    def __init__(
        self,
        config: SinkConfig,
        on_retry: Callable[[str], None] = _ignore,
        rng: random.Random | None = None,
        *,
        concurrency: int | None = None,
        effect: str = "buffering and retrying",
    ) -> None:
        """`on_retry` is called with the code of each error. `effect` tells an operator what a failing call leads to."""
        self._config = config
        self._on_retry = on_retry
        self._slots = asyncio.Semaphore(concurrency or config.concurrency)
        self._random = rng or random.Random()
        self._effect = effect
        self._failing: set[_Call] = set()
        self._outages: defaultdict[tuple[str, bool], _Outage] = defaultdict(_Outage)  # by operation and "forbidden"

    @property
    def error(self) -> SinkError | None:
        """The worst error of the calls that fail now: a forbidden one before others, then the one that began first."""
        return worst.error if (worst := self._worst()) is not None else None

    @property
    def since(self) -> float:
        """When the call with the worst error began to fail, on the loop's clock; 0 while no call fails."""
        return worst.since if (worst := self._worst()) is not None else 0.0

    async def call(self, method: Callable[[*Ts], Awaitable[T]], *arguments: *Ts) -> T:
        """Call the sink's `method` until it answers, for as long as that takes."""
        with _Call(self, method.__name__) as call:
            return await self._repeat(call, method, *arguments)

    async def call_briefly(
        self, method: Callable[[*Ts], Awaitable[T]], *arguments: *Ts, patience_s: float = PATIENCE_S
    ) -> T:
        """Call the sink's `method` until it answers, or raise its last ``SinkError`` after `patience_s`."""
        limit = asyncio.timeout(patience_s)
        with _Call(self, method.__name__) as call:
            try:
                async with limit:
                    return await self._repeat(call, method, *arguments)
            except TimeoutError:
                if not limit.expired():
                    raise
                raise call.error or SinkUnavailable(f"no answer in {patience_s:g} s", code="Timeout") from None

    async def _repeat(self, call: "_Call", method: Callable[[*Ts], Awaitable[T]], *arguments: *Ts) -> T:
        attempt = 0
        while True:
            try:
                async with self._slots:
                    return await method(*arguments)
            except SinkError as error:
                self._failed(call, error)
            # The slot is free meanwhile: a call that waits must not keep the others from trying.
            await asyncio.sleep(backoff(attempt, self._config.retry_initial, self._config.retry_max, self._random))
            attempt += 1

    def _worst(self) -> "_Call | None":
        return min(self._failing, key=lambda call: (not call.forbidden, call.since), default=None)

    def _failed(self, call: "_Call", error: SinkError) -> None:
        """Note a failed attempt; log it where it begins an outage."""
        self._on_retry(error.code)
        now = asyncio.get_running_loop().time()
        if call.error is None:
            call.since = now
            self._failing.add(call)
        elif call.forbidden != isinstance(error, SinkForbidden):
            self._leave(call)
        call.error = _without_frames(error)
        outage = self._outages[call.operation, call.forbidden]
        if call not in outage.calls:
            outage.calls.add(call)
            outage.all_calls += 1
        if not outage.state.begin(now):
            return
        if call.forbidden:
            log.error("sink access denied; %s: %s", self._effect, error)
        else:
            log.warning("sink unavailable; %s: %s", self._effect, error)

    def ended(self, call: "_Call", *, answered: bool) -> None:
        """Note that a call that failed is over; log it where it was the last one of an outage."""
        self._failing.discard(call)
        if ended := self._leave(call):
            log.info("sink recovered %s" if answered else "calls to the failing sink cancelled %s", ended)

    def _leave(self, call: "_Call") -> str | None:
        """Take the call out of its outage; how long it lasted where it was the last one."""
        outage = self._outages[call.operation, call.forbidden]
        outage.calls.discard(call)
        if outage.calls:
            return None
        del self._outages[call.operation, call.forbidden]
        return f"{outage.state.end(asyncio.get_running_loop().time())} in {number(outage.all_calls, 'call')}"


def _without_frames(error: SinkError) -> SinkError:
    """The error without what its frames hold: the object's body, for as long as the call fails."""
    error.__context__ = error.__cause__ = None
    return error.with_traceback(None)


class _Outage:
    """The calls of one operation that fail in one way."""

    def __init__(self) -> None:
        self.state = Outage()
        self.calls: set[_Call] = set()  # that fail now
        self.all_calls = 0  # that failed since it began


class _Call:
    """One call with all its attempts. Leaving the context ends what it failed with."""

    def __init__(self, retrier: SinkRetrier, operation: str) -> None:
        self._retrier = retrier
        self.operation = operation
        self.error: SinkError | None = None  # of the last attempt
        self.since = 0.0

    @property
    def forbidden(self) -> bool:
        return isinstance(self.error, SinkForbidden)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self.error is not None:
            self._retrier.ended(self, answered=kind is None)
