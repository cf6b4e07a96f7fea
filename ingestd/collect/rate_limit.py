"""Limits how many events a source takes: a token bucket, into debt for the last request. Pure."""

from collections.abc import Callable

BURST_S = 10.0  # this much of its rate a source may take at once


class RateLimiter:
    """Of one source. A request's events are known only after it was read: they are charged then, even into debt."""

    def __init__(self, per_minute: float, clock: Callable[[], float]) -> None:
        self._per_second = per_minute / 60
        self._burst = max(1.0, self._per_second * BURST_S)
        self._clock = clock
        self._tokens = self._burst
        self._filled_at = clock()

    def wait_s(self) -> float:
        """How long the next request must wait; 0 where it need not."""
        now = self._clock()
        # A clock that is set back must not take tokens away.
        self._tokens = min(self._burst, self._tokens + max(0.0, now - self._filled_at) * self._per_second)
        self._filled_at = now
        return 0.0 if self._tokens > 0 else (1e-9 - self._tokens) / self._per_second

    def charge(self, events: int) -> None:
        """Take the tokens of these events."""
        self._tokens -= events
