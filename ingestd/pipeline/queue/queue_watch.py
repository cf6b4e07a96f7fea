"""Watches the queue from outside: how much is in it, and whether it hands out messages that it says it has."""

from ingestd.sources.sqs.port import MAX_IN_FLIGHT, Depth, QueueSource

DEPTH_INTERVAL_S = 5.0  # between two questions, while messages come
IDLE_S = 1.0  # without a message: then the queue is empty, or hands out nothing until messages are deleted
FULL_SHARE = 0.9  # of the messages that SQS hands out at most


class QueueWatch:
    """Times are those of the event loop. What SQS says of a queue is approximate, and some seconds old."""

    def __init__(self, source: QueueSource, *, is_fifo: bool) -> None:
        self.depth: Depth | None = None
        self._source = source
        self._is_fifo = is_fifo
        self._last_received_at = 0.0
        self._asked_at = float("-inf")
        self._has_messages_since: float | None = None  # messages that could be received, by what the queue says

    def received(self, now: float) -> None:
        """Messages came."""
        self._last_received_at = now
        self._has_messages_since = None

    def is_idle(self, now: float) -> bool:
        """Whether no message has come for a moment."""
        return now - self._last_received_at >= IDLE_S

    async def ask(self, now: float) -> None:
        """Ask the queue how much is in it."""
        self._asked_at = now
        self.depth = await self._source.depth()
        if self.depth is None or not self._hands_out(self.depth):
            self._has_messages_since = None
        elif self._has_messages_since is None:
            self._has_messages_since = max(now, self._last_received_at)

    def is_due(self, now: float) -> bool:
        """Whether it is time to ask."""
        return now - self._asked_at >= DEPTH_INTERVAL_S

    def has_waiting(self) -> bool:
        """Whether messages wait in the queue, as it said last."""
        return self.depth is not None and self.depth.visible > 0

    def starved(self, now: float) -> float | None:
        """For how long no message has come although the queue could hand out some; None where it could not."""
        return now - self._has_messages_since if self._has_messages_since is not None else None

    def _hands_out(self, depth: Depth) -> bool:
        """Not while a queue waits for deletions: all messages of a group in flight, or as many as there can be."""
        if self._is_fifo:
            return depth.visible > 0 and depth.in_flight == 0
        return depth.visible > 0 and depth.in_flight < MAX_IN_FLIGHT * FULL_SHARE
