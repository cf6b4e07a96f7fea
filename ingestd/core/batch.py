"""One partition's batch: what it holds, and when it is full. Pure: the time comes in as an argument."""

from collections.abc import Sequence

import msgspec

from ingestd.core.flush_policy import FlushReason
from ingestd.core.gzip import GzipBody, GzipWriter, compress
from ingestd.core.object_keys import ObjectKeys, ObjectMetadata, digest_of
from ingestd.core.records import Record, TopicPartition
from ingestd.core.validation import Validated


class RecordRef(msgspec.Struct, frozen=True):
    """The offset and Kafka timestamp (ms) of a record."""

    offset: int
    timestamp: int


class EncodedBatch(msgspec.Struct, frozen=True):
    """A batch as the two objects it becomes. `quarantine` is None where nothing was rejected."""

    data_key: str
    data: bytes
    landed: ObjectMetadata
    row_bytes: int
    quarantine_key: str | None
    quarantine: bytes | None


class Batch:
    """Records ``[start, end)`` of one partition, as rows under compression and rejects.

    `start` is the position where the batch opens, not the first surviving record; every record counts towards `end`,
    accepted or not.
    """

    #: Rows are compressed in pieces of at least this many bytes: small enough for a core's L2 cache, large enough that
    #: the hop to a thread (some 50 us) does not show.
    piece_bytes = 256 << 10
    #: What a batch takes beside its bytes until it is finished: the compressor's tables.
    overhead_bytes = 144 << 10

    def __init__(self, partition: TopicPartition, start: int, *, trigger: FlushReason | None = None) -> None:
        self.partition = partition
        self.start = start
        self.end = start
        self.first: RecordRef | None = None
        self.last_timestamp = -1
        self.opened_at = 0.0  # when the first record came, on the monotonic clock
        self.trigger = trigger
        self.rows = 0
        self.rejected = 0
        self._packer = GzipWriter()
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._body_bytes = 0  # compressed, and a piece under compression as it is: one number, read in another thread
        self._finished_bytes: int | None = None  # of both objects
        self._quarantine: list[bytes] = []
        self._quarantine_bytes = 0

    @classmethod
    def hole(cls, partition: TopicPartition, start: int, end: int, first: RecordRef) -> "Batch":
        """An empty batch over offsets that the log no longer holds; `first` is the first record after them."""
        batch = cls(partition, start, trigger=FlushReason.HOLE)
        batch.end, batch.first, batch.last_timestamp = end, first, first.timestamp
        return batch

    @property
    def records(self) -> int:
        return self.rows + self.rejected

    @property
    def size(self) -> int:
        """Bytes of rows and rejects: compressed, as far as they are. Only ``add`` makes it more."""
        if self._finished_bytes is not None:
            return self._finished_bytes
        return self._body_bytes + self._pending_bytes + self._quarantine_bytes

    @property
    def held_bytes(self) -> int:
        """What this batch takes of the memory budget."""
        return self.size if self._finished_bytes is not None else self.overhead_bytes + self.size

    def add(self, records: Sequence[Record], validated: Validated, quarantine: bytes, now: float) -> None:
        """Take a chunk of consecutive records. `quarantine` holds the lines of those that were rejected."""
        last = records[-1]
        if self.first is None:
            self.first = RecordRef(records[0].offset, records[0].timestamp)
            self.opened_at = now
        self.end = last.offset + 1
        self.last_timestamp = last.timestamp
        self.rejected += len(validated.rejected)
        self.rows += len(records) - len(validated.rejected)
        if validated.rows:
            self._pending.append(validated.rows)
            self._pending_bytes += len(validated.rows)
        if quarantine:
            self._quarantine.append(quarantine)
            self._quarantine_bytes += len(quarantine)

    @property
    def compressed_bytes(self) -> int:
        """Rows and rejects, without rows that are not compressed yet."""
        return self._packer.size + self._quarantine_bytes

    @property
    def has_piece(self) -> bool:
        """Whether there are rows enough to be worth a hop to a thread."""
        return self._pending_bytes >= self.piece_bytes

    def take_piece(self) -> bytes | None:
        """All rows that wait, to hand to ``write``; None where there are none."""
        if not self._pending:
            return None
        piece = b"".join(self._pending)
        self._pending.clear()
        self._body_bytes += len(piece)
        self._pending_bytes = 0
        return piece

    def write(self, piece: bytes) -> None:
        """Compress a piece. Slow, and safe in a thread as long as the calls for one batch do not overlap."""
        self._packer.write(piece)
        self._body_bytes = self._packer.size

    def finish(self, layout: ObjectKeys, cluster: str, version: str, topic_id: str = "") -> EncodedBatch:
        """Close the stream and name the objects. Slow, once, after the last ``write`` has returned."""
        if (rest := self.take_piece()) is not None:
            self.write(rest)
        body = self._packer.finish()
        first = self.first
        assert first is not None, "a batch without records is never sealed"
        quarantine = compress(b"".join(self._quarantine)).data if self._quarantine else None
        self._quarantine.clear()
        self._finished_bytes = len(body.data) + len(quarantine or b"")
        digest = digest_of(quarantine) if quarantine is not None else None
        return EncodedBatch(
            data_key=layout.data_key(self.partition, self.start, first.timestamp, self.end),
            data=body.data,
            landed=self._landed(first, body, digest, cluster=cluster, version=version, topic_id=topic_id),
            row_bytes=body.row_bytes,
            quarantine_key=layout.quarantine_key(self.partition, self.start, first.timestamp, digest)
            if digest is not None
            else None,
            quarantine=quarantine,
        )

    def _landed(
        self, first: RecordRef, body: GzipBody, quarantine: str | None, *, cluster: str, version: str, topic_id: str
    ) -> ObjectMetadata:
        return ObjectMetadata(
            topic=self.partition.topic,
            partition=self.partition.partition,
            start=self.start,
            end=self.end,
            rows=self.rows,
            rejected=self.rejected,
            sha256=body.sha256,
            first_offset=first.offset,
            first_timestamp=first.timestamp,
            last_timestamp=self.last_timestamp,
            cluster=cluster or None,
            topic_id=topic_id or None,
            version=version,
            quarantine=quarantine,
        )
