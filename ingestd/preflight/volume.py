"""What `ingestd check` says of the number, size and cost of the objects that an estimate expects. Pure."""

from collections.abc import Iterator, Mapping, Sequence

from ingestd.capacity.estimate import (
    FILES_PER_DAY,
    LARGE_BYTES,
    S3_PUT_USD_PER_1000,
    SMALL_BYTES,
    SNOWPIPE_CREDITS_PER_GB,
    Estimate,
    Traffic,
    by_age,
)
from ingestd.config.model import BatchConfig
from ingestd.config.types import Seconds
from ingestd.core.formatting import number, size
from ingestd.core.records import TopicPartition
from ingestd.preflight import CheckFinding, note, ok

_INTERVALS = [Seconds(60 * minutes) for minutes in range(1, 61)]  # batch.interval is at most an hour


def findings(
    traffic: Mapping[TopicPartition, Traffic], found: Estimate | None, limits: BatchConfig
) -> Iterator[CheckFinding]:
    """What the report says of the estimate."""
    yield _records(traffic)
    if found is None:
        yield note("estimate.objects", "no estimate: no record in the last 24 h, or no row in the sample")
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
    if found.object_bytes > LARGE_BYTES:
        return note(check, seen, "Snowflake loads files of 100 to 250 MB best: give a smaller batch.bytes")
    if found.object_bytes >= SMALL_BYTES or found.objects <= FILES_PER_DAY * 1.1:
        return ok(check, seen)
    few = "smaller than Snowflake likes them, which is 100 to 250 MB, or one a minute"
    if found.objects > 1.1 * sum(by_age(each, limits.interval) for each in records):
        return note(check, seen, f"{few}: give a larger batch.bytes (batch.records, batch.memory), or fewer partitions")
    longer = next(
        (it for it in _INTERVALS if sum(by_age(each, it) for each in records) <= FILES_PER_DAY), _INTERVALS[-1]
    )
    return note(
        check, seen, f"{few}: batch.interval = {longer} would do, at the price of as much delay; or fewer partitions"
    )
