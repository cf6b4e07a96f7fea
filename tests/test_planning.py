"""What a load takes: daemons, partitions, objects and money."""

import json
import math
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ingestd.capacity import estimate
from ingestd.capacity.defaults import MEASURED, MEASURED_FROM
from ingestd.capacity.estimate import MONTH_DAYS
from ingestd.capacity.planning import FEWEST, MOST_USED, OUTAGE_S, ExpectedLoad, Plan, capacity, lateness, notes, plan
from ingestd.cli import main as cli
from ingestd.cli.plan import Options
from ingestd.config.model import BatchConfig, EventsConfig, SimulatorConfig
from ingestd.config.types import Seconds, Size
from ingestd.core.events import load_model
from ingestd.core.gzip import GzipWriter
from ingestd.core.records import PlainRecord, TopicPartition
from ingestd.core.validation import EventValidator
from ingestd.sources.simulator.events import Simulation

ROOT = Path(__file__).parent.parent
MINUTE = BatchConfig(interval=Seconds(60), memory=Size(64 << 30))
LOADS = st.builds(
    ExpectedLoad,
    rate=st.floats(0.01, 1e7),
    peak=st.floats(1, 20),
    rejected=st.floats(0, 0.5),
    kept_days=st.integers(1, 4000),
    partitions=st.none() | st.integers(1, 2000),
)


def test_a_small_load_takes_two_daemons_and_costs_what_the_lists_say() -> None:
    found = plan(ExpectedLoad(rate=1000, partitions=2), MINUTE)
    assert (found.daemons, found.partitions) == (FEWEST, 2)
    assert found.objects_per_day == pytest.approx(2 * 1440, rel=0.01), "each partition's, one a minute"
    assert found.object_bytes == pytest.approx(30_000 * MEASURED.object_bytes, rel=0.01)
    rows = 1000 * 86_400 * MEASURED.row_bytes
    assert found.snowpipe_usd == pytest.approx(rows * 30 / 1e9 * 0.0037 * 3)
    assert found.requests_usd == pytest.approx(2880 * 30 * 1.08 * 0.000005, rel=0.01)
    assert found.storage_usd == pytest.approx(1000 * 86_400 * 400 * MEASURED.object_bytes / 1e9 * 0.023)
    assert found.usd == found.requests_usd + found.storage_usd + found.snowpipe_usd
    assert found.usd_per_million == pytest.approx(found.usd / (1000 * 2.592))


def test_the_cost_of_an_event_in_cpu_is_the_measured_one() -> None:
    assert plan(ExpectedLoad(rate=1e6), MINUTE).cores == MEASURED.cpu_seconds_per_million
    assert plan(ExpectedLoad(rate=1000), MINUTE, growth=1000) == replace(
        plan(ExpectedLoad(rate=1e6), MINUTE), growth=1000
    )


def test_an_hour_s_outage_is_caught_up_with_what_is_to_spare() -> None:
    half = capacity(2, 4) / 2
    assert plan(ExpectedLoad(rate=half, peak=1, partitions=4), MINUTE).outage_seconds == pytest.approx(
        OUTAGE_S, rel=0.5
    )
    assert math.isinf(plan(ExpectedLoad(rate=1e6, partitions=1), MINUTE).outage_seconds)


def test_too_few_daemons_are_late_after_the_peak_and_without_end_when_the_mean_is_too_much() -> None:
    found = plan(ExpectedLoad(rate=1000, peak=3), MINUTE)
    assert lateness(found, 3000) == 0
    assert lateness(found, 2000) == pytest.approx(1000 * 4 * 3600 / 2000), "four hours of the peak, half of the events"
    assert math.isinf(lateness(found, 1000))


@given(LOADS, st.floats(1, 1e7), st.floats(1, 10))
def test_more_daemons_are_never_later(load: ExpectedLoad, reach: float, times: float) -> None:
    found = plan(load, MINUTE)
    assert lateness(found, reach * times) <= lateness(found, reach)


@given(LOADS, st.floats(1, 1000))
def test_no_daemon_is_planned_beyond_its_share_unless_partitions_are_too_few(load: ExpectedLoad, growth: float) -> None:
    found = plan(load, MINUTE, growth)
    assert found.daemons >= FEWEST
    used = found.peak_rate / capacity(found.daemons, found.partitions)
    assert used <= MOST_USED * 1.000001 or found.daemons >= found.partitions
    if load.partitions is None:
        assert used <= MOST_USED * 1.000001
        assert found.partitions % found.daemons == 0
        assert found.partitions >= 2 * found.daemons


@given(LOADS, st.floats(1, 1000))
def test_more_events_never_take_less(load: ExpectedLoad, growth: float) -> None:
    now, then = plan(load, MINUTE), plan(load, MINUTE, growth)
    for name in ("daemons", "partitions", "cores", "row_bytes_per_day", "stored_bytes", "snowpipe_usd", "storage_usd"):
        assert getattr(now, name) <= getattr(then, name) * 1.000001, name


@given(LOADS)
def test_every_event_is_in_an_object_or_rejected(load: ExpectedLoad) -> None:
    found = plan(load, MINUTE)
    rows = found.objects_per_day * found.object_bytes / MEASURED.object_bytes
    assert rows == pytest.approx(load.rate * estimate.DAY_S * (1 - load.rejected))
    assert 0 <= found.quarantine_objects_per_day <= found.objects_per_day * 1.000001
    assert all(math.isfinite(it) for it in (found.usd, found.usd_per_million, found.daemon_bytes))


@given(LOADS)
def test_objects_are_those_of_the_preflight(load: ExpectedLoad) -> None:
    found = plan(replace(load, partitions=2), MINUTE)
    a_day = [load.rate * estimate.DAY_S / 2]
    good = 1 - load.rejected
    size = estimate.RecordSize(MEASURED.row_bytes * good, MEASURED.object_bytes * good)
    assert found.objects_per_day == pytest.approx(2 * estimate.objects_per_day(a_day, size, MINUTE))


def test_the_measured_figures_are_the_documented_ones() -> None:
    told = " ".join((ROOT / "docs" / "performance.md").read_text().split())
    assert f"{MEASURED.events_per_second / 1000:.0f} thousand events a second" in told
    assert f"{MEASURED.cpu_seconds_per_million} CPU-seconds per million events" in told


def test_the_sizes_are_those_of_simulated_events() -> None:
    start = 1_795_000_000_000
    simulation, validator = Simulation(SimulatorConfig(), start), EventValidator(EventsConfig(), load_model(None))
    packer = GzipWriter()
    for minute in range(10):
        begin = start + minute * 60_000
        records = [PlainRecord(0, begin, it.value) for it in simulation.events(2000, begin, begin + 60_000)]
        packer.write(validator.chunk(TopicPartition("t", 0), records).rows)
    body = packer.finish()
    assert body.row_bytes / 20_000 == pytest.approx(MEASURED.row_bytes, rel=0.05)
    assert len(body.data) / 20_000 == pytest.approx(MEASURED.object_bytes, rel=0.1)


def test_a_daemon_of_yours_and_rows_of_yours_are_planned_with() -> None:
    slow = replace(MEASURED, events_per_second=1000.0, row_bytes=920.0)
    found = plan(ExpectedLoad(rate=10_000, peak=1), MINUTE, measured=slow)
    assert found.daemons == 20
    assert found.row_bytes_per_day == 2 * plan(ExpectedLoad(rate=10_000), MINUTE).row_bytes_per_day


def noted(load: ExpectedLoad, limits: BatchConfig, *growths: float) -> str:
    return "\n".join(notes([plan(load, limits, growth) for growth in growths], limits))


def test_notes_tell_when_today_s_daemons_fall_behind() -> None:
    told = noted(ExpectedLoad(rate=10_000), MINUTE, 1, 10, 100, 1000)
    assert "x100, x1,000: 2 daemons with 4 partitions fall behind at the peak" in told
    assert "too few" not in told


@pytest.mark.parametrize(
    ("load", "limits", "todo"),
    [
        (ExpectedLoad(rate=1e6, partitions=1), MINUTE, "too few partitions"),
        (ExpectedLoad(rate=5000), MINUTE, "longer batch.interval, or take fewer partitions"),
        (ExpectedLoad(rate=500_000, partitions=18), MINUTE, "larger batch.bytes"),
        (ExpectedLoad(rate=1e6, partitions=8), replace(MINUTE, bytes=Size(1 << 30)), "smaller batch.bytes"),
        (
            ExpectedLoad(rate=50_000),
            replace(MINUTE, memory=Size(16 << 20)),
            "= 16MiB flushes batches early",
        ),
        (ExpectedLoad(rate=1e6, partitions=400_000), MINUTE, "PUTs a second"),
    ],
)
def test_notes_tell_what_to_do(load: ExpectedLoad, limits: BatchConfig, todo: str) -> None:
    assert todo in noted(load, limits, 1)


def test_nothing_is_noted_where_nothing_is_to_be_done() -> None:
    assert noted(ExpectedLoad(rate=100, partitions=1), MINUTE, 1) == ""


def columns(printed: str, name: str) -> list[str]:
    found = re.search(rf"^ *{re.escape(name)} (.*)$", printed, re.MULTILINE)
    assert found is not None, name
    return found[1].split()


def test_the_command_prints_a_column_for_each_growth(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", "--rate", "5000/s", "--daemon-rate", "367000", "--config", "config/demo.toml"]) == 0
    printed = capsys.readouterr().out
    assert columns(printed, "events a second, mean") == ["5,000", "50,000", "500,000", "5,000,000"]
    assert columns(printed, "daemons") == ["2", "2", "9", "82"]
    assert columns(printed, "2 daemons would be late by") == ["0", "s", "0", "s", "4", "h", "no", "end"]
    assert "note " in printed


def test_the_command_takes_settings_and_flags(capsys: pytest.CaptureFixture[str]) -> None:
    argv = "plan --rate 10/s --peak 2 --rejected 0.01 --partitions 6 --kept-days 30 --credit-usd 2 --daemon-rate 1000"
    argv += " --row-bytes 900 --object-bytes 160 --growth 1,2.5 --set batch.interval=5m --json"
    assert cli.main(argv.split()) == 0
    printed = json.loads(capsys.readouterr().out)
    limits = BatchConfig(interval=Seconds(300))
    load = ExpectedLoad(10.0, peak=2.0, rejected=0.01, kept_days=30, credit_usd=2.0, partitions=6)
    measured = replace(MEASURED, events_per_second=1000.0, row_bytes=900.0, object_bytes=160.0)
    for found, growth in zip(printed["plans"], (1.0, 2.5), strict=True):
        expected = plan(load, limits, growth, measured)
        assert found == {name: getattr(expected, name) for name in Plan.__struct_fields__}


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("", "ingestd: missing option '--rate' (give --rate 5000/s)"),
        ("--rate 1/s --partitions 1_0", "--partitions '1_0' is not accepted (give a whole number"),
        ("--rate 1/s --partitions ٣", "--partitions '٣' is not accepted (give a whole number"),
        ("--rate 0/s", "--rate '0/s' is not accepted (give a rate greater than 0 with its unit, such as 5000/s or "),
        ("--rate 5000", "--rate '5000' is not accepted (give a rate greater than 0 with its unit"),
        ("--rate nan/s", "--rate 'nan/s' is not accepted (give a rate"),
        ("--rate 1/day", "--rate '1/day' is not accepted (give a rate"),
        ("--rate 1/s --peak 0.5", "--peak '0.5' is not accepted (give a number from 1 to 1000)"),
        ("--rate 1/s --rejected 1", "--rejected '1' is not accepted (give a number from 0 to 0.99)"),
        ("--rate 1/s --partitions 0", "--partitions '0' is not accepted (give a whole number"),
        ("--rate 1/s --growth 1,x", "--growth '1,x' is not accepted (give at most 8 numbers"),
        (
            "--rate 1/s --growth 1,1,1,1,1,1,1,1,1",
            "--growth '1,1,1,1,1,1,1,1,1' is not accepted (give at most 8",
        ),
    ],
)
def test_what_cannot_be_planned_is_named(flags: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", *flags.split()]) == 2
    assert said in capsys.readouterr().err


def test_the_help_has_the_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", "--help"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    defaults, load = Options(rate=1.0), ExpectedLoad(rate=1.0)
    for name in ("peak", "rejected", "kept_days", "credit_usd"):
        value: float = getattr(defaults, name)
        assert value == getattr(load, name)
        assert re.search(rf"--{name.replace('_', '-')} [A-Z]+ [^(]+\(default {value:g}\)", told), name
    assert f"(default {','.join(f'{it:g}' for it in defaults.growth)})" in told


def test_a_stream_has_as_many_shards_as_its_records_need() -> None:
    load = ExpectedLoad(rate=1000, peak=5)
    found = plan(load, MINUTE, measured=MEASURED_FROM["kinesis"], source="kinesis")
    assert found.partitions == 6, "5,000 records a second at 1,000 a shard, evenly over two daemons"
    assert found.source_usd == pytest.approx(MONTH_DAYS * (6 * 24 * 0.015 + 86.4 * 0.014))
    assert plan(load, MINUTE).source_usd == 0


def test_a_queue_has_batches_for_each_daemon_and_is_paid_by_requests() -> None:
    found = plan(ExpectedLoad(rate=1000, peak=5), MINUTE, measured=MEASURED_FROM["sqs"], source="sqs")
    assert found.partitions == found.daemons == 2
    assert found.source_usd == pytest.approx(MONTH_DAYS * 86.4 * 0.2 * 0.4)


def test_a_queue_that_would_be_blocked_by_messages_in_flight_is_told() -> None:
    found = [plan(ExpectedLoad(rate=1000, peak=5), MINUTE, source="sqs")]
    assert any("120,000 messages in flight after 24.0 s" in text for text in notes(found, MINUTE, source="sqs"))
    assert not any("in flight" in text for text in notes(found, MINUTE))
