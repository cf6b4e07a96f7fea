"""What the daemon and its displays see of a flow and of its source, whatever kind they are."""

import asyncio
from typing import Protocol

from ingestd.ops.queue_status import QueueStatus
from ingestd.ops.readiness import PartitionStatus


class FlowSource(Protocol):
    """A source, as its daemon sees it; `ingestd.sources.base` and `ingestd.sources.sqs.port` have the rest."""

    @property
    def error(self) -> str | None: ...
    @property
    def error_since(self) -> float | None: ...
    async def stop(self) -> None: ...
    def finish(self) -> None: ...
    async def rebuild(self) -> None: ...


class Flow(Protocol):
    """From a source to a sink."""

    @property
    def started(self) -> asyncio.Event:
        """Set once the source was reached."""
        ...

    @property
    def progress(self) -> int:
        """A number that changes whenever records were read."""
        ...

    @property
    def unassigned_since(self) -> float | None:
        """Since when nothing is assigned, on the loop's clock; None while something is."""
        ...

    @property
    def held_bytes(self) -> int:
        """Bytes that are buffered and have not landed."""
        ...

    @property
    def held_records(self) -> int:
        """Records that were read and have not landed."""
        ...

    @property
    def undone(self) -> str:
        """What has landed and the source was not told yet, for people; "" where nothing is left."""
        ...

    async def run(self) -> None:
        """Return when the source has ended and everything read from it has landed and is finished."""
        ...

    def longest_wait(self) -> float:
        """For how many seconds the source has had records without handing out one."""
        ...

    def partitions(self, now: float) -> list[PartitionStatus]:
        """The status of each partition; `now` is on the loop's clock."""
        ...

    def queue_status(self) -> QueueStatus | None:
        """The status of the queue; None where the source is none."""
        ...
