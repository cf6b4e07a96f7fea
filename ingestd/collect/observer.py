"""What the request path reports, for metrics. Pure."""

from typing import Protocol

#: Outcomes of events, besides the faults of those that went on as their raw bytes.
DELIVERED = "delivered"  # mapped, and safe
DROPPED = "dropped"  # the client asked for privacy, and the configuration drops such events
REFUSED = "refused"  # the topic takes some event of the request never, for its size: the sender was told (413)
UNAVAILABLE = "unavailable"  # maybe not safe: the sender was told to send them again


class Observer(Protocol):
    """Is told what happened. It must be quick and must not raise; the values of all labels are bounded."""

    def request(self, source: str, status: int, reason: str) -> None:
        """A request was answered. `source` is empty where it is not known, `reason` where nothing was refused.

        A request without events, of which nothing is kept, has the reason "discarded".
        """
        ...

    def events(self, source: str, outcome: str, count: int) -> None:
        """`count` events have this outcome: one of the above, or `Collected.fault`, which were delivered, too."""
        ...

    def delivered(self, seconds: float) -> None:
        """The events of a request are safe, after this time."""
        ...
