"""The limit on one event, and the global limit on the memory of requests in flight. Pure."""

import msgspec

from ingestd.collect.messages import Collected

TOO_LARGE = "too_large"  # the fault of an event above `collect.max_event`
#: What could not be taken apart may have many events in it: all of it is kept, up to what topics take by default.
RAW_MAX_BYTES = 512 << 10


def fit(event: Collected, max_event: int) -> Collected:
    """`event`, or its beginning where it is too large: ingestion quarantines that."""
    limit = max_event if event.fault is None else max(max_event, RAW_MAX_BYTES)
    if len(event.value) <= limit:
        return event
    return msgspec.structs.replace(event, value=event.value[:limit], fault=event.fault or TOO_LARGE)


class ByteBudget:
    """How many bytes of bodies are in memory, over all requests."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    def reserve(self) -> "Reservation":
        """A request's share, which is empty at first."""
        return Reservation(self)


class Reservation:
    """What one request has in memory. Leaving its context gives it back."""

    __slots__ = ("_budget", "_bytes")

    def __init__(self, budget: ByteBudget) -> None:
        self._budget = budget
        self._bytes = 0

    def take(self, size: int) -> bool:
        """Whether `size` bytes more are within the limit; they count until the context ends."""
        if self._budget.used + size > self._budget.limit:
            return False
        self._budget.used += size
        self._bytes += size
        return True

    def __enter__(self) -> "Reservation":
        return self

    def __exit__(self, *_: object) -> None:
        self._budget.used -= self._bytes
        self._bytes = 0
