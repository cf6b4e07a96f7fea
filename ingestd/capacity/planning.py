"""Plans daemons, partitions, objects and costs for a number of events a second, and for multiples of it. Pure.

The number of objects and the prices of requests and of Snowpipe are those of `ingestd.capacity.estimate`.
"""

import math
from collections.abc import Callable, Iterator, Sequence

import msgspec

from ingestd.capacity.defaults import MEASURED, Measured
from ingestd.capacity.estimate import (
    DAY_S,
    FILES_PER_DAY,
    LARGE_BYTES,
    MONTH_DAYS,
    S3_PUT_USD_PER_1000,
    SMALL_BYTES,
    SNOWPIPE_CREDITS_PER_GB,
    RecordSize,
    objects_per_day,
)
from ingestd.config.model import BatchConfig
from ingestd.core.batch import Batch
from ingestd.core.formatting import amount, number, size

S3_USD_PER_GB_MONTH = 0.023  # AWS, us-east-1, S3 Standard, the first 50 TB
S3_GET_SHARE = 0.08  # of a PUT's price; Snowpipe gets each object once
S3_PUTS_PER_SECOND = 3500  # of one prefix, before S3 has divided it
SQS_IN_FLIGHT = 120_000  # messages that SQS hands out before one of them is deleted

MOST_USED = 0.5  # of a daemon at the peak: the rest drains backlogs, and takes over from a failed one
FEWEST = 2  # daemons: one takes over when the other is replaced
OUTAGE_S = 3600.0


class SourceTraits(msgspec.Struct, frozen=True):
    """What a kind of source allows a partition, and what it costs: USD a month for a mean rate and partitions."""

    partition: str  # the word
    bytes_per_second: float
    records_per_second: float
    usd: Callable[[float, int], float]


def _kinesis_usd(rate: float, shards: int) -> float:
    """AWS, us-east-1, provisioned: shard hours, and records of up to 25 KB."""
    return MONTH_DAYS * (shards * 24 * 0.015 + rate * DAY_S / 1e6 * 0.014)


def _sqs_usd(rate: float, _: int) -> float:
    """AWS, us-east-1, a standard queue: ten messages are received, and deleted, by one request each."""
    return MONTH_DAYS * rate * DAY_S * 0.2 / 1e6 * 0.40


SOURCES = {
    "kafka": SourceTraits("partition", 10e6, math.inf, lambda _rate, _partitions: 0.0),  # as operators plan them
    "kinesis": SourceTraits("shard", 1e6, 1000.0, _kinesis_usd),  # what may be put into a shard
    "sqs": SourceTraits("partition", math.inf, math.inf, _sqs_usd),  # each daemon has batches of its own
}


class ExpectedLoad(msgspec.Struct, frozen=True):
    """The load to plan for. `rate`: events a second, the day's mean; `peak`: the busiest second, in multiples of it."""

    rate: float
    peak: float = 3.0
    rejected: float = 0.0  # share of the events
    kept_days: int = 400
    credit_usd: float = 3.0
    partitions: int | None = None  # None: as many as it takes


class Plan(msgspec.Struct, frozen=True):
    """For `growth` times the load. Sizes in bytes, money in USD a month, both without discounts."""

    growth: float
    rate: float
    peak_rate: float
    daemons: int
    partitions: int
    cores: float  # busy on average, over all daemons
    held_bytes: int  # buffered by the busiest daemon at the peak; with less batch.memory, batches are flushed early
    daemon_bytes: int  # memory of that daemon, without what its client has prefetched
    objects_per_day: float
    quarantine_objects_per_day: float
    object_bytes: float
    row_bytes_per_day: float
    stored_bytes: float  # once objects begin to expire
    outage_seconds: float  # to catch up after an hour without a store, at the mean rate; inf is never, null in JSON
    requests_usd: float
    storage_usd: float
    snowpipe_credits: float
    snowpipe_usd: float
    source_usd: float = 0.0  # of Kinesis or SQS, without who sends

    @property
    def usd(self) -> float:
        return self.requests_usd + self.storage_usd + self.snowpipe_usd + self.source_usd

    @property
    def usd_per_million(self) -> float:
        """USD for a million events."""
        return self.usd / (self.rate * DAY_S * MONTH_DAYS / 1e6)


def plan(
    load: ExpectedLoad,
    limits: BatchConfig,
    growth: float = 1.0,
    measured: Measured = MEASURED,
    source: str = "kafka",
) -> Plan:
    """What `growth` times the load takes, if it comes evenly over the day and over the partitions."""
    traits = SOURCES.get(source, SOURCES["kafka"])
    rate, peak = load.rate * growth, load.rate * growth * load.peak
    daemons = max(FEWEST, math.ceil(peak / (measured.events_per_second * MOST_USED)))
    if source == "sqs":
        partitions = daemons
    else:
        partitions = load.partitions or _partitions(daemons, peak, measured.row_bytes, traits)
    daemons = min(daemons, max(FEWEST, partitions))
    good = 1 - load.rejected
    a_day = rate * DAY_S
    share = math.ceil(partitions / daemons)  # of the busiest daemon, as batch.memory is a daemon's
    each = RecordSize(measured.row_bytes * good, measured.object_bytes * good)
    objects = objects_per_day([a_day / partitions] * share, each, limits) * partitions / share
    quarantined = objects * (1 - good ** (a_day / objects))
    object_bytes = measured.object_bytes * good * a_day / objects
    row_bytes = measured.row_bytes * good * a_day
    stored = measured.object_bytes * good * a_day * load.kept_days
    packed = min(limits.bytes, object_bytes * load.peak)
    batch = Batch.expected_bytes(packed * measured.row_bytes / measured.object_bytes, packed)
    held = round(2 * share * batch)  # open ones, and as many under way
    snowpipe = row_bytes * MONTH_DAYS / 1e9 * SNOWPIPE_CREDITS_PER_GB
    spare = capacity(daemons, partitions, measured) - rate
    return Plan(
        growth=growth,
        rate=rate,
        peak_rate=peak,
        daemons=daemons,
        partitions=partitions,
        cores=rate * measured.cpu_seconds_per_million / 1e6,
        held_bytes=held,
        daemon_bytes=measured.resident_bytes + min(held, limits.memory),
        objects_per_day=objects,
        quarantine_objects_per_day=quarantined,
        object_bytes=object_bytes,
        row_bytes_per_day=row_bytes,
        stored_bytes=stored,
        outage_seconds=OUTAGE_S * rate / spare if spare > 0 else math.inf,
        requests_usd=(objects * (1 + S3_GET_SHARE) + quarantined) * MONTH_DAYS / 1000 * S3_PUT_USD_PER_1000,
        storage_usd=stored / 1e9 * S3_USD_PER_GB_MONTH,
        snowpipe_credits=snowpipe,
        snowpipe_usd=snowpipe * load.credit_usd,
        source_usd=traits.usd(rate, partitions),
    )


def capacity(daemons: int, partitions: int, measured: Measured = MEASURED) -> float:
    """Events a second that the daemons can process: one without a partition processes none."""
    return min(daemons, partitions) * measured.events_per_second


def lateness(it: Plan, reach: float) -> float:
    """Seconds that the last event of the peak waits if daemons process `reach` events a second; inf: for ever.

    The model day has half of its events in the peak.
    """
    backlog = max(0.0, it.peak_rate - reach) * DAY_S / 2 * it.rate / it.peak_rate
    return backlog / reach if it.rate < reach else math.inf


def notes(
    plans: Sequence[Plan], limits: BatchConfig, measured: Measured = MEASURED, source: str = "kafka"
) -> list[str]:
    """Advice, each with the growths that it is for; the first of `plans` is today's."""
    said: dict[str, list[str]] = {}
    for it in plans:
        for text in (*_notes(it, plans[0], limits, measured), *_source_notes(it, limits, source)):
            said.setdefault(text, []).append(f"x{amount(it.growth)}")
    return [f"{', '.join(names)}: {text}" for text, names in said.items()]


def _notes(it: Plan, today: Plan, limits: BatchConfig, measured: Measured) -> Iterator[str]:
    if it.peak_rate > capacity(it.daemons, it.partitions, measured):
        yield "too few partitions for the peak, as one daemon only reads each: add some, or measure a faster daemon"
    elif it.peak_rate > capacity(today.daemons, today.partitions, measured):
        yield f"{number(today.daemons, 'daemon')} with {number(today.partitions, 'partition')} fall behind at the peak"
    if it.objects_per_day / DAY_S > S3_PUTS_PER_SECOND:
        yield f"more than {S3_PUTS_PER_SECOND:,} PUTs a second: S3 answers SlowDown until it has divided the prefix"
    if it.object_bytes > LARGE_BYTES:
        yield "objects are larger than Snowflake likes them, which is 100 to 250 MB: give a smaller batch.bytes"
    elif it.object_bytes < SMALL_BYTES and it.objects_per_day > FILES_PER_DAY * 1.1:
        full = it.objects_per_day > 1.1 * it.partitions * DAY_S / limits.interval
        yield "objects are smaller than Snowflake likes them, which is 100 to 250 MB, or one a minute: " + (
            "give a larger batch.bytes (batch.records, batch.memory)"
            if full
            else "give a longer batch.interval, or take fewer partitions"
        )
    if it.held_bytes > limits.memory:
        yield f"batch.memory = {limits.memory} flushes batches early: give more than {size(it.held_bytes)}"


def _source_notes(it: Plan, limits: BatchConfig, source: str) -> Iterator[str]:
    if source == "sqs" and (most := SQS_IN_FLIGHT / it.peak_rate) < limits.interval:
        yield (
            f"at the peak a queue has {SQS_IN_FLIGHT:,} messages in flight after {most:.1f} s, and hands out no more: "
            f"batch.interval = {limits.interval} is longer, so batches are flushed early; divide the load over queues"
        )


def _partitions(daemons: int, peak: float, row_bytes: float, traits: SourceTraits) -> int:
    """Twice as many partitions as daemons, so that one can be replaced, and at least as many as the source needs."""
    needed = max(peak * row_bytes / traits.bytes_per_second, peak / traits.records_per_second)
    least = max(2 * daemons, math.ceil(needed))
    return math.ceil(least / daemons) * daemons
