"""How many objects a day there will be, how large, and what they cost. Pure.

The prices are list prices, and all that is said of money rests on the constants below.
"""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from ingestd.config.model import BatchConfig, Seconds
from ingestd.core.batch import Batch
from ingestd.core.formatting import number, size
from ingestd.core.records import LogRange, TopicPartition
from ingestd.preflight import CheckFinding, note, ok
from ingestd.preflight.records import Sample

S3_PUT_USD_PER_1000 = 0.005  # AWS, us-east-1; LIST costs the same, HEAD and GET a twelfth
SNOWPIPE_CREDITS_PER_GB = 0.0037  # of uncompressed rows; since December 2025, with no fee for a file
MONTH = 30  # days

# Snowflake recommends 100 to 250 MB compressed, or about one file a minute where data is slow.
SMALL, LARGE = 100e6, 250e6
FILES_PER_DAY = 1440

DAY = 86400.0  # seconds
_INTERVALS = [Seconds(60 * minutes) for minutes in range(1, 61)]  # batch.interval takes no more than an hour


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
    """As if records came evenly over the day. None where there is nothing to go by."""
    records = sum(it.records_per_day for it in traffic.values())
    if not records or not sample.rows:
        return None
    share = len(sample.rows) / sample.records
    row_bytes = records * share * sample.row_bytes
    record_bytes = share * sample.packed_bytes(len(sample.rows)) / len(sample.rows)
    objects = objects_per_day([it.records_per_day for it in traffic.values()], record_bytes, limits)
    quarantined = objects * (1 - share ** (records / objects))
    return Estimate(
        records=records,
        objects=round(objects),
        quarantine_objects=round(quarantined),
        object_bytes=round(sample.packed_bytes(records * share / objects)),
        row_bytes=round(row_bytes),
        usd_per_month=(objects + quarantined) * MONTH / 1000 * S3_PUT_USD_PER_1000,
        credits_per_month=row_bytes * MONTH / 1e9 * SNOWPIPE_CREDITS_PER_GB,
    )


def objects_per_day(records: Sequence[float], record_bytes: float, limits: BatchConfig) -> float:
    """Objects a day of partitions with so many records a day each, of so many compressed bytes."""
    return sum(
        max(_by_age(each, limits.interval), _by_size(each, len(records), record_bytes, limits)) for each in records
    )


def _by_age(records: float, interval: float) -> float:
    """A batch begins with a record, so between two objects are the interval and the wait for that record."""
    return records / (1 + records * interval / DAY)


def _by_size(records: float, partitions: int, record_bytes: float, limits: BatchConfig) -> float:
    """Open batches share half of the memory."""
    room = max(1.0, limits.memory / 2 / partitions - Batch.overhead_bytes)
    by_count = records / limits.records if limits.records else 0.0
    return max(records * record_bytes / min(limits.bytes, room), by_count)


def findings(
    traffic: Mapping[TopicPartition, Traffic], found: Estimate | None, limits: BatchConfig
) -> Iterator[CheckFinding]:
    """What is said of the estimate."""
    yield _records(traffic)
    if found is None:
        yield note("estimate.objects", "nothing to go by: no record of the last 24 h, or no sample that makes rows")
        return
    yield _objects(found, [it.records_per_day for it in traffic.values()], limits)
    yield ok(
        "estimate.cost",
        f"about {found.usd_per_month:,.2f} USD a month for S3's requests (PUT at {S3_PUT_USD_PER_1000} USD per 1,000, "
        f"list price of AWS us-east-1; HEAD and LIST come at a start only) and {found.credits_per_month:,.2f} credits "
        f"for Snowpipe ({SNOWPIPE_CREDITS_PER_GB} per GB of uncompressed rows, of which there are "
        f"{size(found.row_bytes)} a day)",
    )


def _records(traffic: Mapping[TopicPartition, Traffic]) -> CheckFinding:
    day = sum(it.records_per_day for it in traffic.values())
    hour = sum(it.log.end - it.hour_ago for it in traffic.values())
    busy = [it for it in traffic.values() if it.records_per_day]
    seen = f"{number(day, 'record')} in the last 24 h and {hour:,} in the last hour, in {len(busy)} of "
    seen += number(len(traffic), "partition")
    young = sum(it.day_ago == it.log.start for it in busy)
    if young:
        seen += f"; in {young} of them the log holds nothing older, so a whole day may have more"
    return ok("estimate.records", seen)


def _objects(found: Estimate, records: Sequence[float], limits: BatchConfig) -> CheckFinding:
    check = "estimate.objects"
    seen = f"about {number(found.objects, 'object')} a day of about {size(found.object_bytes)} compressed"
    if found.quarantine_objects:
        seen += f", and {found.quarantine_objects:,} in quarantine"
    if found.object_bytes > LARGE:
        return note(check, seen, "Snowflake loads files of 100 to 250 MB best: give a smaller batch.bytes")
    if found.object_bytes >= SMALL or found.objects <= FILES_PER_DAY * 1.1:
        return ok(check, seen)
    few = "smaller than Snowflake likes them, which is 100 to 250 MB, or one a minute"
    if found.objects > 1.1 * sum(_by_age(each, limits.interval) for each in records):
        return note(check, seen, f"{few}: give a larger batch.bytes (batch.records, batch.memory), or fewer partitions")
    longer = next(
        (it for it in _INTERVALS if sum(_by_age(each, it) for each in records) <= FILES_PER_DAY), _INTERVALS[-1]
    )
    return note(
        check, seen, f"{few}: batch.interval = {longer} would do, at the price of as much delay; or fewer partitions"
    )
