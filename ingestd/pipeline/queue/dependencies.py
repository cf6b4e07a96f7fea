"""What the parts of a queue's flow share."""

from collections.abc import Callable
from concurrent.futures import Executor
from random import Random

import msgspec

from ingestd.core.queue_keys import QueueKeys
from ingestd.ops.metrics import Metrics
from ingestd.sinks.base import Sink
from ingestd.sinks.retry import SinkRetrier
from ingestd.sources.sqs.port import QueueSource


def _ignore(_key: str) -> None: ...


class QueueDependencies(msgspec.Struct, frozen=True):
    """Of one daemon."""

    source: QueueSource
    sink: Sink
    retrier: SinkRetrier
    metrics: Metrics
    executor: Executor  # for compression
    keys: QueueKeys
    clock: Callable[[], float]  # that of the messages' `requested_at`
    wall_clock: Callable[[], float]
    visibility: float  # seconds
    fenced: bool  # exactly once; else at least once, without manifests
    random: Random  # of batch ids, which must never be the same, and of waits
    landed: Callable[[str], None] = _ignore  # called with the key of each data object; neither blocks nor raises
