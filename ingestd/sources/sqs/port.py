"""The port of a queue: messages are received for a time, and come again unless they are deleted within it.

A queue has no positions and nobody commits: what is not deleted is delivered again. So `ingestd.pipeline.queue` keeps
the account of what has landed, and a queue's source is a connection that receives, extends and deletes.
"""

import time
from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple, Protocol

import msgspec

from ingestd.core.records import SourceRefusal

MAX_VISIBILITY_S = 12 * 3600  # SQS hides a message for at most so long from its receipt, with all extensions
MAX_IN_FLIGHT = 120_000  # messages that SQS hands out before one is deleted


def _clock() -> Callable[[], float]:
    """A monotonic clock that goes on while the machine sleeps, as the visibility of messages does."""
    number = getattr(time, "CLOCK_BOOTTIME", None)
    if number is None:  # macOS: its monotonic clock stands still meanwhile
        return time.monotonic
    return lambda: time.clock_gettime(number)


#: The clock of `Message.requested_at`. Not the event loop's: uvloop reads that once a turn, and it may lag behind.
clock = _clock()


class Message(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One receipt of a message. It is a ``Record`` without a position."""

    offset: ClassVar[int] = -1

    message_id: str
    receipt: str  # names this receipt in `extend` and `delete`
    receive_count: int  # 1: nobody has received it before
    first_received_ms: int  # ApproximateFirstReceiveTimestamp; the same at each receipt
    timestamp: int  # SentTimestamp, in ms
    requested_at: float  # when the receive request began, by `clock`: the message is hidden from then on at least
    value: bytes | None
    key: bytes | None = None  # MessageGroupId
    headers: Sequence[tuple[str, bytes]] = ()  # the message's attributes
    group: str | None = None  # MessageGroupId of a FIFO queue, whose messages come in order
    refused: SourceRefusal | None = None


class Depth(NamedTuple):
    """What the queue says of itself: approximations."""

    visible: int  # messages that can be received
    in_flight: int  # messages that were received, by anybody, and are hidden
    oldest_s: float | None = None  # the age of the oldest message in seconds; None where that is not known


class QueueSource(Protocol):
    """A connection to one queue. Transient errors are retried inside, and seen in `error`."""

    @property
    def source_id(self) -> str:
        """The queue's ARN; known after `start`. Part of every object."""
        ...

    @property
    def queue(self) -> str:
        """The queue's name; that of a FIFO queue ends with ``.fifo``."""
        ...

    @property
    def error(self) -> str | None:
        """The current failure, for people; None without one. It is retried."""
        ...

    @property
    def error_since(self) -> float | None:
        """When it began to fail, on the event loop's clock; None without a failure."""
        ...

    async def start(self) -> None:
        """Connect and look the queue up, for as long as that takes. Raises ``SourceError`` where there is none."""
        ...

    async def stop(self) -> None:
        """Close the connections."""
        ...

    def finish(self) -> None:
        """End the stream: no request begins from now on, and `receive` returns None. `extend` and `delete` go on.

        Requests that are under way are answered, and bring messages, within their wait.
        """
        ...

    async def receive(self) -> Sequence[Message] | None:
        """The answer to one receive request: at most ten messages, none where none came for a while; None at the end.

        Several calls may run at once. A message is hidden from others for the configured visibility. Failures are
        retried with a back-off, as is ``OverLimit``: SQS has handed out as many messages as it does.
        """
        ...

    async def extend(self, receipts: Sequence[str], seconds: int) -> Sequence[str]:
        """Hide messages for so many seconds from now on. Returns the receipts for which it failed.

        Any number of them. One attempt: the caller knows until when another makes sense. ``SourceError`` is not raised.
        """
        ...

    async def delete(self, receipts: Sequence[str]) -> Sequence[str]:
        """Delete messages. Returns the receipts for which it failed. One attempt; ``SourceError`` is not raised."""
        ...

    async def rebuild(self) -> None:
        """Open new connections, where no message comes though the queue has some."""
        ...

    async def depth(self) -> Depth | None:
        """What the queue says of itself now; None where it does not answer."""
        ...
