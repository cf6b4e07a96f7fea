"""The metrics of a queue as the source: what came again, what was given up, and how much is in the queue."""

from collections.abc import Iterator
from enum import Enum

from prometheus_client.core import Metric

from ingestd.ops.metric_store import MetricStore, Samples, counter, gauge
from ingestd.ops.queue_status import QueueStatus

AGAIN = ("landed", "not_landed", "held")  # what was found of messages that were received again
GIVEN_UP = ("late", "fenced")


class Q(Enum):
    """All of them, in the order of the exposition."""

    AGAIN = counter(
        "queue_messages_received_again", "Messages received again: landed (only deleted), not_landed (taken), held "
        "(dropped, because this daemon has it).", "found",
    )  # fmt: skip
    GIVEN_UP = counter(
        "queue_batches_given_up", "Batches whose messages are left to their next receiver: late (others could receive "
        "one before its manifest was written), fenced (somebody did).", "reason",
    )  # fmt: skip
    FENCES = counter("queue_fences", "Empty objects written so that another receiver's batch cannot land.")
    EXTENDED = counter("queue_visibility_extensions", "Messages that were hidden for longer.")
    NOT_DELETED = counter(
        "queue_messages_not_deleted", "Messages that have landed and could not be deleted: they come again for that."
    )
    VISIBLE = gauge("queue_visible_messages", "Messages that can be received, by SQS's approximation.")
    IN_FLIGHT = gauge("queue_in_flight_messages", "Messages received by anybody and not deleted, the same way.")
    OLDEST = gauge("queue_oldest_message_seconds", "Age of the queue's oldest message.")
    HELD = gauge("queue_held_messages", "Messages that this daemon has received and not deleted.")


class QueueMetrics:
    """Counts what happens with a queue. Methods are for one thread: the event loop's."""

    def __init__(self) -> None:
        self._store = MetricStore(Q)
        for found in AGAIN:
            self._store.start(("found",), found)
        for reason in GIVEN_UP:
            self._store.start(("reason",), reason)

    def received_again(self, found: str, messages: int) -> None:
        self._store.add(Q.AGAIN, messages, found)

    def given_up(self, reason: str) -> None:
        self._store.add(Q.GIVEN_UP, 1, reason)

    def fenced(self) -> None:
        self._store.add(Q.FENCES, 1)

    def extended(self, messages: int) -> None:
        self._store.add(Q.EXTENDED, messages)

    def not_deleted(self, messages: int) -> None:
        self._store.add(Q.NOT_DELETED, messages)

    def families(self, status: QueueStatus | None) -> Iterator[Metric]:
        """What is exported; gauges only where there is a status."""
        gauges: dict[Q, Samples] = {}
        if status is not None:
            levels = ((Q.VISIBLE, status.visible), (Q.IN_FLIGHT, status.in_flight), (Q.OLDEST, status.oldest))
            gauges = {member: [((), level)] for member, level in levels if level is not None}
            gauges[Q.HELD] = [((), status.held)]
        return self._store.families(gauges, {})
