"""One partition's batch: rows under compression, rejected records, and the two objects it becomes."""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from ingestd.core.flush_policy import FlushReason
from ingestd.core.gzip import GzipBody, GzipWriter, compress
from ingestd.core.object_keys import ObjectKeys, digest_of
from ingestd.core.object_metadata import ObjectMetadata
from ingestd.core.records import Record, TopicPartition
from ingestd.core.validation import Validated


class RecordRef(msgspec.Struct, frozen=True):
    """A record's offset, its Kafka timestamp (ms), and the leader epoch in which it was written."""

    offset: int
    timestamp: int
    leader_epoch: int | None = None


class ObjectName(NamedTuple):
    """What of a batch is in the name of its data object: an offset, and the leader epoch where names have one."""

    start: int
    leader_epoch: int | None = None


class Bodies(NamedTuple):
    """What a batch's two objects contain, and the digest of the quarantine object; None if no record was rejected."""

    data: GzipBody
    quarantine: bytes | None
    digest: str | None


class EncodedBatch(msgspec.Struct, frozen=True):
    """The two objects of a batch. `quarantine` is None if no record was rejected."""

    data_key: str
    data: bytes
    metadata: ObjectMetadata
    row_bytes: int
    quarantine_key: str | None
    quarantine: bytes | None


class Batch:
    """Records ``[start, end)`` of one partition and leader epoch, as rows under compression and rejected records.

    `start` is the position where the batch opens, not the first surviving record; every record counts towards `end`,
    accepted, rejected or skipped.
    """

    #: Rows are compressed in chunks of at least this many bytes: small enough for a core's L2 cache, large enough that
    #: the hop to a thread (about 50 us) does not matter.
    chunk_bytes = 256 << 10
    #: What a batch takes besides its bytes from its first chunk until it is encoded: the compressor's tables. A smaller
    #: batch has them only while it is encoded, in one of a few threads.
    overhead_bytes = 144 << 10
    #: What both bodies may have more than what they are made of: gzip's headers, trailers and blocks.
    frame_bytes = 256

    def __init__(self, partition: TopicPartition, start: int, *, flush_reason: FlushReason | None = None) -> None:
        self.partition = partition
        self.start = start
        self.end = start
        self.first: RecordRef | None = None
        self.last_timestamp = -1
        self.opened_at = 0.0  # when the first record came, on the monotonic clock
        self.flush_reason = flush_reason
        self.rows = 0
        self.rejected = 0
        self.skipped = 0
        self._gzip: GzipWriter | None = None  # from the first write on
        self._compresses = False  # it has had a chunk
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._body_bytes = 0  # compressed, plus a chunk under compression as it is: one number, set in another thread
        self._encoded_bytes: int | None = None  # of both objects
        self._quarantine: list[bytes] = []
        self._quarantine_bytes = 0

    @classmethod
    def hole(cls, partition: TopicPartition, start: int, end: int, first: RecordRef) -> "Batch":
        """An empty batch for offsets that retention removed; `first` is the first record after them."""
        batch = cls(partition, start, flush_reason=FlushReason.HOLE)
        batch.end, batch.first, batch.last_timestamp = end, first, first.timestamp
        return batch

    @classmethod
    def expected_bytes(cls, row_bytes: float, body_bytes: float) -> float:
        """The share of the memory budget of a batch with so many bytes of rows, which compress to `body_bytes`."""
        return cls.frame_bytes + (row_bytes if row_bytes < cls.chunk_bytes else body_bytes + cls.overhead_bytes)

    @property
    def records(self) -> int:
        return self.rows + self.rejected + self.skipped

    @property
    def size(self) -> int:
        """Bytes of rows and rejected records, compressed as far as they are. Only ``add`` increases it."""
        if self._encoded_bytes is not None:
            return self._encoded_bytes
        return self._body_bytes + self._pending_bytes + self._quarantine_bytes

    @property
    def held_bytes(self) -> int:
        """This batch's share of the memory budget."""
        if self._encoded_bytes is not None:
            return self.size
        return self.size + self.frame_bytes + (self.overhead_bytes if self._compresses else 0)

    @property
    def pending_bytes(self) -> int:
        """Bytes of rows that wait for compression."""
        return self._pending_bytes

    @property
    def leader_epoch(self) -> int | None:
        """The leader epoch of all its records."""
        return self.first.leader_epoch if self.first is not None else None

    def add(
        self,
        records: Sequence[Record],
        validated: Validated,
        quarantine: bytes,
        now: float,
        leader_epoch: int | None = None,
    ) -> None:
        """Add consecutive records of the batch's leader epoch. `quarantine` holds the lines of the rejected ones."""
        last = records[-1]
        if self.first is None:
            self.first = RecordRef(records[0].offset, records[0].timestamp, leader_epoch)
            self.opened_at = now
        assert self.leader_epoch == leader_epoch, "a batch has records of one leader epoch"
        self.end = last.offset + 1
        self.last_timestamp = last.timestamp
        self.rejected += len(validated.rejected)
        self.skipped += validated.skipped
        self.rows += len(records) - len(validated.rejected) - validated.skipped
        if row_bytes := validated.row_bytes:
            self._pending += validated.blocks
            self._pending_bytes += row_bytes
            self._compresses = self._compresses or self.has_chunk
        if quarantine:
            self._quarantine.append(quarantine)
            self._quarantine_bytes += len(quarantine)

    @property
    def compressed_bytes(self) -> int:
        """Rows and rejected records, without rows that are not compressed yet."""
        return (self._gzip.size if self._gzip is not None else 0) + self._quarantine_bytes

    @property
    def has_chunk(self) -> bool:
        """Whether there are enough rows for a hop to a thread."""
        return self._pending_bytes >= self.chunk_bytes

    def take_chunk(self) -> bytes | None:
        """The rows that wait for compression, for ``write``; None if there are none."""
        if not self._pending:
            return None
        chunk = b"".join(self._pending)
        self._pending.clear()
        self._body_bytes += len(chunk)
        self._pending_bytes = 0
        return chunk

    def write(self, chunk: bytes) -> None:
        """Compress a chunk. Slow; safe in a thread as long as the calls for one batch do not overlap."""
        if self._gzip is None:
            self._gzip = GzipWriter()
        self._gzip.write(chunk)
        self._body_bytes = self._gzip.size

    def finish(self) -> Bodies:
        """Close the gzip stream. Slow; once, after the last ``write`` has returned."""
        if (rest := self.take_chunk()) is not None:
            self.write(rest)
        body = (self._gzip or GzipWriter()).finish()
        quarantine = compress(b"".join(self._quarantine)).data if self._quarantine else None
        self._quarantine.clear()
        self._encoded_bytes = len(body.data) + len(quarantine or b"")
        return Bodies(body, quarantine, digest_of(quarantine) if quarantine is not None else None)

    def encode(
        self,
        layout: ObjectKeys,
        cluster: str,
        version: str,
        topic_id: str = "",
        name: ObjectName | None = None,
    ) -> EncodedBatch:
        """Close the gzip stream and name the objects. Slow; once, after the last ``write`` has returned."""
        body, quarantine, digest = self.finish()
        first = self.first
        assert first is not None, "a batch without records is never flushed"
        start, leader_epoch = name or ObjectName(self.start)
        return EncodedBatch(
            data_key=layout.data_key(self.partition, start, first.timestamp, self.end, leader_epoch),
            data=body.data,
            metadata=self._metadata(first, body, digest, cluster=cluster, version=version, topic_id=topic_id),
            row_bytes=body.row_bytes,
            quarantine_key=layout.quarantine_key(self.partition, start, first.timestamp, digest)
            if digest is not None
            else None,
            quarantine=quarantine,
        )

    def _metadata(
        self, first: RecordRef, body: GzipBody, quarantine: str | None, *, cluster: str, version: str, topic_id: str
    ) -> ObjectMetadata:
        return ObjectMetadata(
            topic=self.partition.topic,
            partition=self.partition.partition,
            start=self.start,
            end=self.end,
            rows=self.rows,
            rejected=self.rejected,
            skipped=self.skipped or None,
            sha256=body.sha256,
            sha256_of="body",
            first_offset=first.offset,
            first_timestamp=first.timestamp,
            last_timestamp=self.last_timestamp,
            cluster=cluster or None,
            topic_id=topic_id or None,
            leader_epoch=first.leader_epoch,
            version=version,
            quarantine=quarantine,
        )
