"""The global limit on the memory of requests in flight. Pure."""


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
