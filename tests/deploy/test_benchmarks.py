"""What the benchmarks are made of measures what it says, and what they conclude follows from what was measured."""

import argparse
import asyncio
import math
import sys
from itertools import islice
from pathlib import Path
from statistics import fmean

import msgspec
import pytest

from benchmarks import endtoend, growth, journal, stages
from benchmarks.collect import __main__ as collect
from benchmarks.collect import servers
from benchmarks.endtoend import FIRST, Kind, Run
from benchmarks.latency import Freshness
from benchmarks.rig import results
from benchmarks.rig.drain import Drained, drain
from benchmarks.rig.fill import SMALL, TYPICAL, Load, events, fill
from benchmarks.rig.meter import Metered
from benchmarks.rig.results import Report, Table
from benchmarks.rig.services import services
from benchmarks.soak.samples import Sample
from ingestd.config.model import EventsConfig
from ingestd.core.events import load_model
from ingestd.core.records import PlainRecord, TopicPartition, UnsentRecord
from ingestd.core.validation import EventValidator, Validated

COUNT = 2000


def made(load: Load) -> list[bytes]:
    return list(islice(events(load), load.events))


def validated(values: list[bytes]) -> Validated:
    records = [PlainRecord(number, 0, value) for number, value in enumerate(values)]
    return EventValidator(EventsConfig(), load_model(None)).chunk(TopicPartition("t", 0), records)


# -- events


@pytest.mark.parametrize("size", [SMALL, TYPICAL, 1000, 10_000])
def test_events_are_good_and_as_large_as_asked_for(size: int) -> None:
    values = made(Load(events=COUNT, size=size))
    assert math.isclose(fmean(map(len, values)), size, rel_tol=0.05)
    assert validated(values).rejected == []


def test_each_event_has_an_id_of_its_own_and_the_next_run_has_the_same_ones() -> None:
    values = made(Load(events=10_000))
    assert len({msgspec.json.decode(value)["event_id"] for value in values}) == 10_000
    assert values == made(Load(events=10_000))


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 1.0])
def test_as_many_events_are_bad_as_asked_for(share: float) -> None:
    load = Load(events=COUNT, bad=share)
    rejected = validated(made(load)).rejected
    assert len(rejected) == load.bad_events == COUNT * share


@pytest.mark.parametrize("share", [0.01, 0.1, 1.0])
def test_as_many_events_take_the_slow_path_as_asked_for(share: float) -> None:
    outcome = validated(made(Load(events=COUNT, slow=share)))
    assert outcome.rejected == []
    assert outcome.rows.count(b'"properties":{"utm_source":"newsletter"}') == COUNT * share


# -- what a process takes


async def test_all_that_a_process_and_its_children_use_is_told(tmp_path: Path) -> None:
    burn = "import time\nkept = b'x' * (60 << 20)\nwhile time.process_time() < 0.3: pass\n"
    program = f"import subprocess, sys\n{burn}subprocess.run([sys.executable, '-c', {burn!r}], check=True)\n"
    process = Metered("burner", [sys.executable, "-c", program], tmp_path / "log")
    process.start(lambda: True)

    ended = await process.ended()

    assert ended.code == 0
    assert ended.usage.cpu_s >= 0.6
    assert ended.usage.peak_bytes >= 2 * (60 << 20)  # both hold theirs


async def test_what_a_process_has_used_never_falls_while_its_threads_end(tmp_path: Path) -> None:
    naps = "[threading.Thread(target=time.sleep, args=(number / 200,)) for number in range(100)]"
    program = f"import threading, time\nfor nap in {naps}: nap.start()\nwhile time.process_time() < 0.1: pass\n"
    process = Metered("threads", [sys.executable, "-c", program], tmp_path / "log")
    process.start(lambda: True)
    seen = [0.0]

    while process.running:
        seen.append(process.usage.cpu_s)
    seen.append(process.usage.cpu_s)

    assert seen == sorted(seen)
    await process.ended()


async def test_a_process_that_does_not_end_is_killed_and_named(tmp_path: Path) -> None:
    process = Metered("sleeper", [sys.executable, "-c", "import time; time.sleep(600)"], tmp_path / "log")
    process.start(lambda: True)

    with pytest.raises(TimeoutError, match="sleeper"):
        await process.ended(within=0.1)

    assert not process.running


async def test_a_process_that_has_ended_still_tells_what_it_used(tmp_path: Path) -> None:
    process = Metered("short", [sys.executable, "-c", "raise SystemExit(3)"], tmp_path / "log")
    process.start(lambda: True)
    async with asyncio.timeout(20):
        while process.running:  # noqa: ASYNC110 - nothing else tells
            await asyncio.sleep(0.01)

    ended = await process.ended()

    assert ended.code == 3
    assert ended.usage.cpu_s > 0


# -- freshness


def test_freshness_is_from_the_report_before_to_the_landing_and_weighs_by_events() -> None:
    freshness = Freshness(2, began=100.0)
    freshness.wrote(101.0, [90, 0])
    freshness.wrote(102.0, [90, 10])
    freshness.landed(105.0, {0: 90, 1: 9})
    assert freshness.quantile(1.0) == 5.0
    freshness.landed(121.0, {1: 10})
    assert freshness.quantile(0.5) == 5.0
    assert freshness.quantile(0.9) == 5.0
    assert freshness.quantile(0.99) == 20.0


def test_freshness_of_nothing_is_no_number() -> None:
    assert math.isnan(Freshness(1, began=0.0).quantile(0.5))


# -- what comes of it


def run(kind: Kind, number: int, cpu_s: float, axis: str = FIRST, *, partitions: int = 6, size: int = TYPICAL) -> Run:
    drained = Drained(
        events=1_000_000, wall_s=4.0, cpu_s=cpu_s, start_cpu_s=1.0, end_cpu_s=0.2, peak_mib=200.0 + 10 * number
    )
    load = Load(events=1_000_000, partitions=partitions, size=size)
    return Run(
        axis=axis, label=f"{partitions}, {size} B", kind=kind, round=number, daemons=1, load=load, drained=drained
    )


def test_efficiency_compares_what_ran_in_the_same_round() -> None:
    runs = [run("floor", 1, 4.0), run("ingestd", 0, 4.0), run("ingestd", 1, 8.0), run("floor", 0, 3.0)]
    (summary,) = endtoend.summarize(runs)
    assert summary.efficiency == [0.75, 0.5]
    assert summary.costs == [4.0, 8.0]
    assert summary.rates == [250_000.0, 250_000.0]


def test_many_partitions_are_told_without_their_start() -> None:
    def drained(events: int, cpu_s: float, number: int) -> Run:
        one = run("ingestd", number, cpu_s, endtoend.PARTITIONS, partitions=200)
        return msgspec.structs.replace(one, load=msgspec.structs.replace(one.load, events=events))

    runs = [drained(400_000, 2.0, 0), drained(2_000_000, 5.2, 0), drained(2_000_000, 6.8, 1), drained(400_000, 2.0, 1)]
    table = endtoend.steady(runs)
    assert table is not None
    assert table.rows == [["200", "2.50 (2.00 to 3.00)"]]
    assert endtoend.steady(runs[:1]) is None


def test_events_as_sdks_send_them_are_of_their_size_and_make_rows() -> None:
    validator = EventValidator(EventsConfig(), load_model(None))
    for size in (600, 1200, 4000, 10_000):
        values = list(islice(events(Load(events=0, kind="sdk", size=size)), 500))
        assert 0.9 * size < sum(map(len, values)) / len(values) < 1.1 * size
        records = [PlainRecord(number, 0, value) for number, value in enumerate(values)]
        assert not validator.chunk(TopicPartition("t", 0), records).rejected
        text = b"".join(values)
        assert all(part in text for part in (b"\\u", b": ", b'":{"', "ü".encode()))


def test_a_target_that_is_missed_says_by_how_much() -> None:
    assert results.aim("x", 6.0, 5.0, most=True)[-1] == "missed by 20%"
    assert results.aim("x", 150_000, 200_000)[-1] == "missed by 25%"
    assert results.aim("x", 5.0, 5.0, most=True)[-1] == results.aim("x", 5.0, 5.0)[-1] == "reached"


def test_every_axis_has_its_cases_and_each_topic_is_filled_for_one_kind_of_load() -> None:
    cases = endtoend.cases(1.0)
    assert {case.load.partitions for case in cases} == {1, 6, 50, 200}
    assert {case.load.codec for case in cases} == {"none", "lz4", "zstd"}
    assert {case.load.batch for case in cases} == {1, 10, 100, 10_000}
    assert {case.load.slow for case in cases} == {case.load.bad for case in cases} == {0.0, 0.01, 0.1, 1.0}
    assert {case.daemons for case in cases} == {1, 2}
    assert len({case.topic for case in cases}) == len({case.load for case in cases})


def test_a_report_of_all_rounds_reads_well(tmp_path: Path) -> None:
    runs = [run("ingestd", 0, 3.0), run("floor", 0, 2.7), run("yardstick", 0, 2.9)]
    runs.append(run("ingestd", 0, 9.0, "partitions", partitions=200))
    results.write(endtoend.report(runs, 1, 1.0), endtoend.draw(endtoend.summarize(runs)), tmp_path)

    page = (tmp_path / "endtoend.md").read_text()
    assert "| CPU-seconds per million events | 3.0 | at most 5.0 | reached |" in page
    assert "| floor / measured | 0.90 | at least 0.80 | reached |" in page
    assert "| ingestd, one | 250,000 | 3.00 | 200 | 1.03 |" in page
    assert "| partitions | 200, 335 B | 250,000 | 9.00 | - | - | 200 |" in page
    assert (tmp_path / "endtoend.png").read_bytes().startswith(b"\x89PNG")
    assert growth.read(tmp_path / "endtoend.json") == runs


def test_a_page_has_the_machine_the_versions_and_the_settings() -> None:
    table = Table(title="T", head=["a", "b"], rows=[["x|y", "1"]])
    report = Report(name="n", question="Q?", command="c", settings={"Rounds": "3"}, tables=[table], runs=[])
    around = {"measured": "2026-11-23", "machine": {"Processor": "P"}, "versions": {"Python": "3.11.7", "isal": "1.9"}}
    page = results.page(report, around, pictured=False)
    assert "| x\\|y | 1 |" in page
    assert "| Processor | P |" in page
    assert "| Rounds | 3 |" in page
    assert "| Versions | Python 3.11.7, isal 1.9 |" in page
    assert ".png" not in page


def test_larger_events_are_compared_by_the_kilobyte() -> None:
    runs = [run("ingestd", 0, 1.0, "event size", size=500), run("ingestd", 0, 4.0, "event size", size=2000)]
    axis = growth.of_sizes(runs)
    assert axis.costs == [(500, 2.0), (2000, 2.0)]


def test_growth_leaves_out_what_is_no_daemon() -> None:
    runs = [run("ingestd", 0, 2.0), run("floor", 0, 1.0), run("ingestd", 0, 3.0, "partitions", partitions=50)]
    assert [tuple(point) for point in growth.of_partitions(runs).points] == [(6, 2.0, 200.0), (50, 3.0, 200.0)]


def test_growth_over_hours_is_that_of_a_soak(tmp_path: Path) -> None:
    names = Sample.__struct_fields__
    rows = [",".join(names)]
    for second in range(0, 7201, 60):
        values = {"second": second, "daemon": "d1", "rss_mib": 100 + second / 3600, "consumed": second * 1000}
        rows.append(",".join(str((values | {"cpu_percent": 0.5}).get(name, 0)) for name in names))
    (tmp_path / "soak.csv").write_text("\n".join(rows))

    found = growth.of_hours(tmp_path / "soak.csv", parts=2).points

    assert [point.x for point in found] == pytest.approx([0.983, 2.0], abs=0.01)
    assert [point.cpu_us for point in found] == pytest.approx([5.0, 5.0])
    assert [point.peak_mib for point in found] == pytest.approx([100.98, 102.0], abs=0.01)
    assert growth.of_hours(tmp_path / "none.csv").points == []


@pytest.mark.parametrize("text", [None, "", '{"runs": [{"axis": "first"}]}'])
def test_growth_without_what_it_builds_on_says_what_to_run(text: str | None, tmp_path: Path) -> None:
    file = tmp_path / "endtoend.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(SystemExit, match=r"run python -m benchmarks\.endtoend first"):
        growth.read(file)


def test_every_stage_runs_and_counts_its_events() -> None:
    for measured in stages.measure(stages.stages(200), 1):
        assert len(measured.cpu_us) == 1, measured.label


def test_any_json_stands_beside_the_marketing_model_for_each_size() -> None:
    cost = {stages.KNOWN: [2.0, 4.0], stages.ANY_JSON: [1.0, 8.0]}
    for size in stages.SDK_SIZES:
        cost |= {f"{size:,} B, validate": [10.0, 10.0], f"{size:,} B, validate as any JSON": [9.0, 9.0]}
    measured = [
        stages.Measured(group=stages.SDK if "B," in label else stages.VALIDATE, label=label, cpu_us=cpu_us)
        for label, cpu_us in cost.items()
    ]
    flat, *rest = stages.targets(measured).rows
    assert flat == ["335 B, flat: any JSON / marketing model", "1.25", "at most 1.00", "missed by 25%"]
    assert [row[1:] for row in rest] == [["0.90", "at most 1.00", "reached"]] * len(stages.SDK_SIZES)


def test_a_batch_of_requests_is_shown_by_event_and_beside_bento() -> None:
    costs = [
        collect.Cost(kind.name, request.name, request.events, 10.0, cpu_us * factor)
        for kind, factor in ((servers.KAFKA, 1), (servers.BENTO, 2))
        for request in servers.BENTO.requests
        for cpu_us in (100.0, 200.0, 300.0)
    ]
    runs = collect.Runs(costs=costs)
    rows = collect.cost_table(runs).rows
    assert [row[:2] for row in rows[2:]] == [
        ["batch of 50", servers.KINDS[0].name],
        ["batch of 50", servers.BENTO.name],
    ]
    assert rows[2][3:] == ["4.0 (2.0 to 6.0)", "500 (500 to 500)"]
    assert collect.ratio(runs) == "one event: 0.50, batch of 50: 0.50"


def test_the_journal_is_measured_until_it_is_empty_again(ram: Path) -> None:
    records = [UnsentRecord(1, None, value) for value in made(Load(events=200))]
    found = asyncio.run(journal.measure(ram, journal.Senders(5, 10), records, 0.1))
    assert found.load == "5 senders, 10 events each"
    assert min(found.events_per_s, found.cpu_us, found.read_cpu_us) > 0
    assert 0 < found.p50_ms <= found.p99_ms
    assert len(journal.table([found, found]).rows) == 1


# -- with services


@pytest.mark.services
@pytest.mark.slow
def test_a_daemon_and_the_yardstick_drain_a_topic_to_its_end() -> None:
    async def measure() -> None:
        bad, good = Load(events=5000, partitions=4, bad=0.01), Load(events=5000, partitions=4, codec="zstd", batch=100)
        await fill(started.bootstrap, "bad", bad)
        await fill(started.bootstrap, "good", good)
        drained = await drain(started, "bad", bad)  # two must start at once to share, which a busy machine forbids
        assert drained.events == 5000
        assert drained.cpu_s > 0
        assert (await endtoend.run_yardstick(started, "good", range(4), "put", "flat")).events == 5000

    with services() as started:
        asyncio.run(measure())


@pytest.mark.services
@pytest.mark.slow
def test_a_collector_is_measured_with_kafka_and_with_its_journal(ram: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect, "RATE_S", 0.5)
    monkeypatch.setattr(collect, "SLOW_S", 0.5)
    options = argparse.Namespace(folder=ram, requests=800, connections=8, rounds=1, slow=50)
    with services() as started:
        kinds = [kind for kind in servers.KINDS if kind is not servers.BENTO]
        runs = asyncio.run(collect.measure(started, kinds, options))
    assert {(it.server, it.request) for it in runs.costs} == {
        (kind.name, request.name) for kind in kinds for request in kind.requests
    }
    assert min(it.cpu_us for it in runs.costs) > 0
    assert [len(table.rows) for table in (collect.latency_table(runs), collect.slow_table(runs, 50))] == [2, 2]
