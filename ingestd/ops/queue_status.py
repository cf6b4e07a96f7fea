"""The status of a queue as the source, for ``/status``. Pure."""

import msgspec


class QueueStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What is in the queue, as last asked, and what this daemon holds of it. Ages are in seconds."""

    visible: int | None = None  # messages that can be received; this and the next two are SQS's approximations
    in_flight: int | None = None  # messages that were received, by anybody, and are not deleted
    oldest: float | None = None  # the age of the oldest message
    held: int = 0  # messages that this daemon holds
    undeleted: int = 0  # of them, those that have landed and are not deleted yet
