"""The port for subscribers: each hears of every object that has landed."""

from typing import Protocol


class Subscriber(Protocol):
    """Started before the flow and waited for after it. It never blocks the flow."""

    @property
    def unprocessed(self) -> str:
        """What has landed and only the next run can process, for people; "" where nothing is left."""
        ...

    async def start(self) -> None:
        """Prepare. Raises ``ConfigError``."""
        ...

    async def run(self) -> None:
        """Run until cancelled."""
        ...

    def landed(self, key: str) -> None:
        """Hear of a new object. Must neither block nor raise."""
        ...

    async def settled(self) -> None:
        """Wait until everything that has landed is processed."""
        ...

    async def close(self) -> None:
        """Release resources. No effect if it was not started."""
        ...
