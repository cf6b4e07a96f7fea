"""`ingestd plan`: estimates the daemons, partitions, objects and money that a load needs, today and as it grows."""

import math
from collections.abc import Callable, Sequence

import click
import msgspec

from ingestd.capacity.defaults import MEASURED, MEASURED_FROM
from ingestd.capacity.planning import MOST_USED, SOURCES, ExpectedLoad, Plan, capacity, lateness, notes, plan
from ingestd.cli.flags import JSON, SETTINGS, Accepted, CommandFlag
from ingestd.cli.output import say, say_document, say_line
from ingestd.config.load import Settings
from ingestd.config.model import BatchConfig
from ingestd.config.types import Rate
from ingestd.core.formatting import amount, duration, number, size
from ingestd.core.formatting import table as aligned

MAX_COLUMNS = 8

EXAMPLES = """\
examples:
  ingestd plan --rate 5000/s
  ingestd plan --config config/production.toml --rate 5000/s --peak 4 --growth 1,10,100
  ingestd plan --rate 5000/s --partitions 6 --daemon-rate 250000 --row-bytes 900 --object-bytes 160
"""


def _within(low: float, high: float, kind: Callable[[str], float] = float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        value = kind(text)
        if not low <= value <= high:  # NaN is not
            raise ValueError(text)
        return value

    return parse


def _growth(text: str) -> tuple[float, ...]:
    factors = tuple(_positive(part.strip()) for part in text.split(","))
    if len(factors) > MAX_COLUMNS:
        raise ValueError(text)
    return factors


def _rate(text: str) -> float:
    """Events a second. Without a unit it could be meant for a second or a minute."""
    if "/" not in text:
        raise ValueError(text)
    return _positive(str(Rate.parse(text) / 60))


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):  # int() takes "1_000", and digits of any script
        raise ValueError(text)
    return int(text)


_positive = _within(math.ulp(0), 1e12)
_AMOUNT = Accepted(_positive, "a number greater than 0, and at most 1e12")
_RATE = Accepted(_rate, "a rate greater than 0 with its unit, such as 5000/s or 300000/min")
_COUNT = Accepted(_within(1, 1_000_000, _whole), "a whole number from 1 to 1000000")
_PEAK = Accepted(_within(1, 1000), "a number from 1 to 1000")
_SHARE = Accepted(_within(0, 0.99), "a number from 0 to 0.99")
_FACTORS = Accepted(_growth, f"at most {MAX_COLUMNS} numbers greater than 0, such as 1,10,100")


def _flag(
    name: str, metavar: str, accepted: Accepted, summary: str, section: str, *, required: bool = False
) -> CommandFlag:
    return CommandFlag(name, metavar=metavar, type=accepted, help=summary, section=section, required=required)


FLAGS: list[click.Parameter] = [
    _flag("--rate", "5000/s", _RATE, "events, averaged over a day: 5000/s, 300000/min", "Load", required=True),
    _flag("--peak", "X", _PEAK, "events at the peak, as a multiple of --rate (default 3)", "Load"),
    _flag("--rejected", "SHARE", _SHARE, "share of events that are rejected, such as 0.001 (default 0)", "Load"),
    _flag("--growth", "X,...", _FACTORS, "multiples of the load, one column each (default 1,10,100,1000)", "Load"),
    _flag("--partitions", "N", _COUNT, "number of partitions (default: as many as are needed)", "Load"),
    _flag("--kept-days", "N", _COUNT, "days until objects expire (default 400)", "Cost"),
    _flag("--credit-usd", "N", _AMOUNT, "price of a Snowflake credit (default 3)", "Cost"),
    _flag("--daemon-rate", "N", _AMOUNT, "events a second that your daemon writes, from make bench", "Measured"),
    _flag("--row-bytes", "N", _AMOUNT, "bytes of a row, from `ingestd check`", "Measured"),
    _flag("--object-bytes", "N", _AMOUNT, "bytes of a row in an object, compressed", "Measured"),
    JSON,
    *SETTINGS,
]


class Options(msgspec.Struct, frozen=True):
    """What the flags say. The load is the load of today; each column shows `growth` times as much."""

    rate: float
    peak: float = 3.0
    rejected: float = 0.0
    partitions: int | None = None
    kept_days: int = 400
    credit_usd: float = 3.0
    daemon_rate: float | None = None  # None: as measured
    row_bytes: float = MEASURED.row_bytes
    object_bytes: float = MEASURED.object_bytes
    growth: tuple[float, ...] = (1.0, 10.0, 100.0, 1000.0)
    json: bool = False


def run(settings: Settings, options: Options) -> int:
    """Print a column for each growth. Contacts neither Kafka nor S3 nor Snowflake."""
    limits, source = settings.config.batch, settings.config.source
    default = MEASURED_FROM.get(source, MEASURED)
    load = msgspec.convert(options, ExpectedLoad, from_attributes=True)
    measured = msgspec.structs.replace(
        default,
        events_per_second=options.daemon_rate or default.events_per_second,
        row_bytes=options.row_bytes,
        object_bytes=options.object_bytes,
    )
    plans = [plan(load, limits, growth, measured, source) for growth in options.growth]
    reach = capacity(plans[0].daemons, plans[0].partitions, measured)
    late = [lateness(it, reach) for it in plans]
    remarks = notes(plans, limits, measured, source)
    if options.json:
        say_document({"load": load, "measured": measured, "plans": plans, "lateness": late, "notes": remarks})
        return 0
    say(table(plans, late, source))
    say(premises(load, limits, measured.events_per_second))
    for note in remarks:
        say_line("note", note)
    return 0


def table(plans: Sequence[Plan], late: Sequence[float], source: str = "kafka") -> str:
    """A line for each figure, a column for each plan. `late` is in seconds, for the daemons of the first plan."""
    lines = [
        ("", [f"x{amount(it.growth)}" for it in plans]),
        ("events a second, mean", [amount(it.rate) for it in plans]),
        ("events a second, peak", [amount(it.peak_rate) for it in plans]),
        ("daemons", [f"{it.daemons:,}" for it in plans]),
        *_partitions(plans, source),
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
        *_source(plans, source),
        ("USD for a million events", [f"{it.usd_per_million:,.4f}" for it in plans]),
    ]
    return "".join(f"{line}\n" for line in aligned([[name, *cells] for name, cells in lines]))


def _partitions(plans: Sequence[Plan], source: str) -> list[tuple[str, list[str]]]:
    """A queue has none."""
    if source == "sqs":
        return []
    word = SOURCES[source].partition if source in SOURCES else "partition"
    return [(f"{word}s", [f"{it.partitions:,}" for it in plans])]


def _source(plans: Sequence[Plan], source: str) -> list[tuple[str, list[str]]]:
    if (name := {"kinesis": "Kinesis", "sqs": "SQS"}.get(source)) is None:
        return []
    return [(f"{name}, USD a month", [f"{it.source_usd:,.2f}" for it in plans])]


def premises(load: ExpectedLoad, limits: BatchConfig, daemon_rate: float) -> str:
    """The assumptions behind the figures."""
    return (
        f"\nA daemon writes {daemon_rate:,.0f} events/s; the plan uses {MOST_USED:.0%} of that at the peak.\n"
        f"batch.interval = {limits.interval}, batch.bytes = {limits.bytes}; objects stay for {load.kept_days} days.\n"
        f"List prices of AWS us-east-1, {load.credit_usd:g} USD a credit; without machines, Kafka, KMS and queries.\n\n"
    )


def _time(seconds: float) -> str:
    return "no end" if math.isinf(seconds) else duration(seconds)
