"""A batch of a queue's messages: rows under compression, rejected messages, and the three objects it becomes."""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from ingestd.core.batch import Batch
from ingestd.core.queue_keys import BatchId, QueueKeys
from ingestd.core.queue_objects import Manifest, QueueObjectMetadata
from ingestd.core.records import Record, TopicPartition
from ingestd.core.validation import Validated
from ingestd.core.visibility import HeldMessage


class QueueChunk(NamedTuple):
    """Messages to add to a batch: the first three are of the same messages."""

    held: Sequence[HeldMessage]
    records: Sequence[Record]
    first_received_ms: Sequence[int]
    validated: Validated
    quarantine: bytes  # the lines of the rejected ones


class EncodedQueueBatch(msgspec.Struct, frozen=True):
    """The objects of a batch. `quarantine` is None if no message was rejected."""

    manifest_key: str
    manifest: bytes
    data_key: str
    data: bytes
    metadata: QueueObjectMetadata
    row_bytes: int
    quarantine_key: str | None
    quarantine: bytes | None


class QueueBatch(Batch):
    """Messages whose first receipts were in the same hour."""

    #: What a message takes besides its row from its receipt until it is deleted: its id, its receipt handle, its times.
    message_bytes = 1024

    def __init__(self, queue: TopicPartition) -> None:
        super().__init__(queue, 0)
        self.messages: list[HeldMessage] = []
        self.first_timestamp = -1
        self._first_received_ms = 0
        self._last_received_ms = 0

    @property
    def held_bytes(self) -> int:
        """This batch's share of the memory budget."""
        return super().held_bytes + len(self.messages) * self.message_bytes

    @property
    def hidden_until(self) -> float:
        """Until when nobody else has received any of its messages."""
        return min(message.hidden_until for message in self.messages)

    def add_messages(self, chunk: QueueChunk, now: float) -> None:
        """Add messages; of each, only what `held` says stays in memory."""
        received = chunk.first_received_ms
        if not self.messages:
            self.first_timestamp = chunk.records[0].timestamp
            self._first_received_ms = self._last_received_ms = received[0]
        self._first_received_ms = min(self._first_received_ms, *received)
        self._last_received_ms = max(self._last_received_ms, *received)
        self.messages += chunk.held
        self.add(chunk.records, chunk.validated, chunk.quarantine, now)

    def encode_objects(self, keys: QueueKeys, queue_arn: str, version: str, digits: str) -> EncodedQueueBatch:
        """Close the gzip stream and name the objects. Slow; once. `digits` are 24 random hexadecimal ones."""
        queue = self.partition.topic
        batch = BatchId.new(self._first_received_ms, self._last_received_ms, digits)
        body, quarantine, digest = self.finish()
        data_key = keys.data_key(queue, batch)
        ids = [message.message_id for message in self.messages]
        return EncodedQueueBatch(
            manifest_key=keys.manifest_key(queue, batch),
            manifest=Manifest(queue_arn=queue_arn, data_key=data_key, message_ids=ids).encode(),
            data_key=data_key,
            data=body.data,
            metadata=QueueObjectMetadata(
                queue=queue,
                batch=batch.text,
                messages=len(ids),
                rows=self.rows,
                rejected=self.rejected,
                sha256=body.sha256,
                first_timestamp=self.first_timestamp,
                last_timestamp=self.last_timestamp,
                queue_arn=queue_arn,
                version=version,
                quarantine=digest,
            ),
            row_bytes=body.row_bytes,
            quarantine_key=keys.quarantine_key(queue, batch, digest) if digest is not None else None,
            quarantine=quarantine,
        )
