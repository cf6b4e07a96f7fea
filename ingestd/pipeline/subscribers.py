"""The port to what goes along with the flow: hears of each object that has landed, and does something with it."""

from typing import Protocol


class Subscriber(Protocol):
    """Started before the flow, and waited for after it; it never holds up the flow."""

    async def start(self) -> None:
        """Make ready. ``ConfigError`` where that cannot be."""
        ...

    async def run(self) -> None:
        """Runs until it is cancelled."""
        ...

    def landed(self, key: str) -> None:
        """There is a new object. Neither blocks nor raises."""
        ...

    async def settled(self) -> None:
        """Wait until all that has landed is done with."""
        ...

    async def close(self) -> None:
        """The end. Without effect when it was not started."""
        ...
