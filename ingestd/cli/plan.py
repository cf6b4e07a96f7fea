"""`ingestd plan`: what so many events take, in daemons, partitions, objects and money, now and when there are more."""

import math
from collections.abc import Sequence

import msgspec

from ingestd.capacity.defaults import MEASURED
from ingestd.capacity.planning import MOST_USED, ExpectedLoad, Plan, amount, capacity, lateness, notes, plan
from ingestd.cli.output import say, say_document, say_line
from ingestd.config.load import Settings
from ingestd.config.model import BatchConfig
from ingestd.core.formatting import number, size


class Options(msgspec.Struct, frozen=True):
    """Named after the flags. The load is of today, `growth` is how many times that each column has."""

    rate: float
    peak: float = 3.0
    rejected: float = 0.0
    partitions: int | None = None
    kept_days: int = 400
    credit_usd: float = 3.0
    daemon_rate: float = MEASURED.events_per_second
    row_bytes: float = MEASURED.row_bytes
    object_bytes: float = MEASURED.object_bytes
    growth: tuple[float, ...] = (1.0, 10.0, 100.0, 1000.0)
    json: bool = False


def run(settings: Settings, options: Options) -> int:
    """Print a column for each growth. Asks nothing of Kafka, S3 or Snowflake."""
    limits = settings.config.batch
    load = msgspec.convert(options, ExpectedLoad, from_attributes=True)
    measured = msgspec.structs.replace(
        MEASURED,
        events_per_second=options.daemon_rate,
        row_bytes=options.row_bytes,
        object_bytes=options.object_bytes,
    )
    plans = [plan(load, limits, growth, measured) for growth in options.growth]
    reach = capacity(plans[0].daemons, plans[0].partitions, measured)
    late = [lateness(it, reach) for it in plans]
    told = notes(plans, limits, measured)
    if options.json:
        say_document({"load": load, "measured": measured, "plans": plans, "lateness": late, "notes": told})
        return 0
    say(table(plans, late))
    say(premises(load, limits, measured.events_per_second))
    for note in told:
        say_line("note", note)
    return 0


def table(plans: Sequence[Plan], late: Sequence[float]) -> str:
    """A line for each figure, a column for each plan. `late`: seconds, of the daemons of the first."""
    lines = [
        ("", [f"x{amount(it.growth)}" for it in plans]),
        ("events a second, mean", [amount(it.rate) for it in plans]),
        ("events a second, peak", [amount(it.peak_rate) for it in plans]),
        ("daemons", [f"{it.daemons:,}" for it in plans]),
        ("partitions", [f"{it.partitions:,}" for it in plans]),
        ("cores busy, mean", [f"{it.cores:,.2f}" for it in plans]),
        ("memory of a daemon", [size(it.daemon_bytes) for it in plans]),
        ("to catch up after an hour's outage", [_time(it.outage_seconds) for it in plans]),
        (f"{number(plans[0].daemons, 'daemon')} would be late by", [_time(it) for it in late]),
        ("objects a day", [f"{it.objects_per_day:,.0f}" for it in plans]),
        ("  in quarantine", [f"{it.quarantine_objects_per_day:,.0f}" for it in plans]),
        ("bytes of an object", [size(it.object_bytes) for it in plans]),
        ("stored in the end", [size(it.stored_bytes) for it in plans]),
        ("S3's requests, USD a month", [f"{it.requests_usd:,.2f}" for it in plans]),
        ("S3's storage, USD a month", [f"{it.storage_usd:,.2f}" for it in plans]),
        ("Snowpipe, credits a month", [f"{it.snowpipe_credits:,.2f}" for it in plans]),
        ("Snowpipe, USD a month", [f"{it.snowpipe_usd:,.2f}" for it in plans]),
        ("USD for a million events", [f"{it.usd_per_million:,.4f}" for it in plans]),
    ]
    first = max(len(name) for name, _ in lines)
    widths = [max(len(cells[i]) for _, cells in lines) for i in range(len(plans))]
    return "".join(
        f"{name:{first}}" + "".join(f"  {cell:>{width}}" for cell, width in zip(cells, widths, strict=True)) + "\n"
        for name, cells in lines
    )


def premises(load: ExpectedLoad, limits: BatchConfig, daemon_rate: float) -> str:
    """What the figures rest on."""
    return (
        f"\nA daemon takes {daemon_rate:,.0f} events/s, of which {MOST_USED:.0%} are planned with at the peak.\n"
        f"batch.interval = {limits.interval}, batch.bytes = {limits.bytes}; objects stay for {load.kept_days} days.\n"
        f"List prices of AWS us-east-1, {load.credit_usd:g} USD a credit; without machines, Kafka, KMS and queries.\n\n"
    )


def _time(seconds: float) -> str:
    if math.isinf(seconds):
        return "no end"
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
