"""Estimates how many objects a day there will be, how large, and what they cost. Pure.

The prices are list prices. Every figure in money rests on the constants below.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from ingestd.config.model import BatchConfig
from ingestd.core.batch import Batch
from ingestd.core.gzip import compress
from ingestd.core.records import LogRange, Record, TopicPartition
from ingestd.core.validation import Rejected

S3_PUT_USD_PER_1000 = 0.005  # AWS, us-east-1; LIST costs the same, HEAD and GET a twelfth
SNOWPIPE_CREDITS_PER_GB = 0.0037  # of uncompressed rows; since December 2025, with no fee for a file
MONTH_DAYS = 30

# Snowflake recommends 100 to 250 MB compressed, or about one file a minute where data is slow.
SMALL_BYTES, LARGE_BYTES = 100e6, 250e6
FILES_PER_DAY = 1440

DAY_S = 86400.0


class Sample(msgspec.Struct, frozen=True):
    """Records from the ends of some partitions, and what becomes of them."""

    records: int
    rows: Sequence[bytes]  # JSON lines
    reasons: Mapping[str, int]
    skipped: int = 0
    last: tuple[TopicPartition, Record] | None = None  # the youngest
    rejected: tuple[TopicPartition, Rejected] | None = None  # one of them

    @property
    def row_bytes(self) -> float:
        """The bytes of a row, on average."""
        return sum(map(len, self.rows)) / len(self.rows) if self.rows else 0.0

    def packed_bytes(self, count: float) -> float:
        """The bytes of an object with `count` rows: as these rows compress, and in proportion beyond them."""
        some = self.rows[: max(1, round(count))]
        return len(compress(b"".join(some)).data) * max(1.0, count / len(some))


class Traffic(msgspec.Struct, frozen=True):
    """A partition's log: what it holds, and the first offsets of the last day and of the last hour."""

    log: LogRange
    day_ago: int
    hour_ago: int

    @property
    def records_per_day(self) -> int:
        """As many as in the last day. Offsets without a record are counted, too."""
        return self.log.end - self.day_ago


class Estimate(msgspec.Struct, frozen=True):
    """Of a day. Sizes in bytes: `object_bytes` is compressed, `row_bytes` is not."""

    records: int
    objects: int
    quarantine_objects: int
    object_bytes: int
    row_bytes: int
    usd_per_month: float  # for S3's requests
    credits_per_month: float  # for Snowpipe


def estimate(traffic: Mapping[TopicPartition, Traffic], sample: Sample, limits: BatchConfig) -> Estimate | None:
    """The estimate, as if records came evenly over the day; None without traffic or without a row in the sample."""
    records = sum(it.records_per_day for it in traffic.values())
    if not records or not sample.rows:
        return None
    share = len(sample.rows) / sample.records
    row_bytes = records * share * sample.row_bytes
    size = RecordSize(share * sample.row_bytes, share * sample.packed_bytes(len(sample.rows)) / len(sample.rows))
    objects = objects_per_day([it.records_per_day for it in traffic.values()], size, limits)
    not_rejected = 1 - sum(sample.reasons.values()) / sample.records
    quarantined = objects * (1 - not_rejected ** (records / objects))
    return Estimate(
        records=records,
        objects=round(objects),
        quarantine_objects=round(quarantined),
        object_bytes=round(sample.packed_bytes(records * share / objects)),
        row_bytes=round(row_bytes),
        usd_per_month=(objects + quarantined) * MONTH_DAYS / 1000 * S3_PUT_USD_PER_1000,
        credits_per_month=row_bytes * MONTH_DAYS / 1e9 * SNOWPIPE_CREDITS_PER_GB,
    )


class RecordSize(NamedTuple):
    """The bytes that a record adds to a batch, on average: as a row, and compressed."""

    row: float
    packed: float

    @property
    def ratio(self) -> float:
        """Compressed bytes for each byte of a row."""
        return self.packed / self.row if self.row else 1.0


def objects_per_day(records: Sequence[float], size: RecordSize, limits: BatchConfig) -> float:
    """Objects a day of partitions with so many records a day each."""
    return sum(max(by_age(each, limits.interval), _by_size(each, len(records), size, limits)) for each in records)


def by_age(records: float, interval: float) -> float:
    """Objects a day of a partition whose batches are flushed by age alone.

    A batch begins with a record, so the time between two objects is the interval and the wait for that record.
    """
    return records / (1 + records * interval / DAY_S)


def _by_size(records: float, partitions: int, size: RecordSize, limits: BatchConfig) -> float:
    """Objects a day of a partition whose batches are flushed by size alone; open ones share half of the memory."""
    room = limits.memory / 2 / partitions - Batch.frame_bytes
    uncompressed = min(room, Batch.chunk_bytes) * size.ratio  # as little as this is not compressed
    room = max(1.0, uncompressed, room - Batch.overhead_bytes)
    by_count = records / limits.records if limits.records else 0.0
    return max(records * size.packed / min(limits.bytes, room), by_count)
