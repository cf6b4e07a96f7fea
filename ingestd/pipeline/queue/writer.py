"""Writes a batch of messages: its manifest, then its quarantine object, then its data object.

`ingestd.core.queue_objects` has the rules.
"""

import asyncio
import time
from collections.abc import Callable
from enum import Enum
from typing import TypeVar

from ingestd import __version__
from ingestd.core.queue_batch import EncodedQueueBatch, QueueBatch
from ingestd.core.queue_objects import is_fence
from ingestd.pipeline.queue.dependencies import QueueDependencies
from ingestd.sinks.create_only import create_or_find

MANIFEST_METADATA = {"purpose": "manifest"}
DIGITS_BYTES = 12  # of a batch id

T = TypeVar("T")


class Outcome(Enum):
    """What became of a batch."""

    LANDED = "landed"
    LATE = "late"  # its manifest was not there before somebody else could receive one of its messages
    FENCED = "fenced"  # somebody else received one of its messages, and this batch can never land


class QueueWriter:
    """Every call to the sink is repeated until it is answered, but for a manifest: only while it is of use."""

    def __init__(self, dependencies: QueueDependencies) -> None:
        self._dependencies = dependencies
        self._sink = dependencies.sink
        self._retrier = dependencies.retrier

    async def encode(self, batch: QueueBatch) -> EncodedQueueBatch:
        """The objects of a batch, after the last of its rows was compressed."""
        dependencies = self._dependencies
        arn, digits = dependencies.source.source_id, dependencies.random.randbytes(DIGITS_BYTES).hex()
        return await self.offload(batch.encode_objects, dependencies.keys, arn, __version__, digits)

    async def write(self, batch: QueueBatch, encoded: EncodedQueueBatch) -> Outcome:
        """Create the objects of a batch, unless that could write a message twice."""
        if self._dependencies.fenced and not await self._write_manifest(batch, encoded):
            return Outcome.LATE
        metadata = encoded.metadata.to_user_metadata()
        started = time.perf_counter()
        # The quarantine first: a crash in between repeats rejected messages, the other order could lose them.
        if encoded.quarantine_key is not None and encoded.quarantine is not None:
            await self._retrier.call(self._sink.put_new, encoded.quarantine_key, encoded.quarantine, metadata)
        existing = await create_or_find(self._sink, self._retrier, encoded.data_key, encoded.data, metadata)
        self._dependencies.metrics.uploaded(time.perf_counter() - started)
        # Another object with this name is our own earlier attempt whose answer was lost, or a fence.
        return Outcome.FENCED if existing is not None and is_fence(existing.metadata) else Outcome.LANDED

    async def _write_manifest(self, batch: QueueBatch, encoded: EncodedQueueBatch) -> bool:
        """Whether the manifest was there, for certain, before anybody else could receive one of the messages.

        Whoever does then finds it. If that is not certain, somebody may have looked for it in vain already.
        """
        clock = self._dependencies.clock
        creation = asyncio.ensure_future(
            create_or_find(self._sink, self._retrier, encoded.manifest_key, encoded.manifest, MANIFEST_METADATA)
        )
        try:
            while (left := batch.hidden_until - clock()) > 0:
                if creation.done():
                    creation.result()
                    return True
                await asyncio.wait([creation], timeout=left)
            return False
        finally:
            creation.cancel()

    def offload(self, function: Callable[..., T], *arguments: object) -> "asyncio.Future[T]":
        """Run it in a thread."""
        return asyncio.get_running_loop().run_in_executor(self._dependencies.executor, function, *arguments)
