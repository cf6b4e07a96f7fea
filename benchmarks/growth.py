"""What grows? CPU per event and peak memory over backlog, partitions, events and hours: flat lines are the goal.

    python -m benchmarks.growth [--rounds 3] [--scale 1.0]

Measures backlogs of three sizes. Partitions and event sizes are those of benchmarks.endtoend, whose results must be
there; hours are those of `make soak`, if there are some. Writes growth.md, growth.png and growth.json into
benchmarks/results.
"""

import argparse
import asyncio
import csv
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import msgspec
from matplotlib.figure import Figure

from benchmarks.endtoend import FIRST, Run
from benchmarks.rig import picture, results
from benchmarks.rig.drain import Drained, drain
from benchmarks.rig.fill import Load, fill
from benchmarks.rig.results import RESULTS, Table, median
from benchmarks.rig.services import Services, services

QUESTION = "What grows with the backlog, the partitions, the events and the hours?"
BACKLOGS = (200_000, 600_000, 2_000_000)
KB = 1000


class Point(NamedTuple):
    """Medians at one place of an axis."""

    x: float
    cpu_us: float  # an event
    peak_mib: float


class Axis(NamedTuple):
    name: str
    unit: str
    points: Sequence[Point]
    per_kb: bool = False  # costs of larger events are compared by the kilobyte

    @property
    def costs(self) -> list[tuple[float, float]]:
        return [(it.x, it.cpu_us / (it.x / KB if self.per_kb else 1)) for it in self.points]

    @property
    def peaks(self) -> list[tuple[float, float]]:
        return [(it.x, it.peak_mib) for it in self.points]


class _EndToEnd(msgspec.Struct):
    runs: list[Run]


def read(file: Path) -> list[Run]:
    """The runs that benchmarks.endtoend has left behind; SystemExit that says so where there are none to read."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=_EndToEnd).runs
    except (OSError, msgspec.DecodeError) as error:
        sys.exit(f"{file}: {error}: run python -m benchmarks.endtoend first")


async def backlogs(services: Services, rounds: int, scale: float) -> dict[float, list[Drained]]:
    """Drains of each size, by the number of events."""
    loads = [Load(events=int(events * scale)) for events in BACKLOGS]
    for load in loads:
        await fill(services.bootstrap, f"growth-{load.events}", load)
    found: dict[float, list[Drained]] = {load.events: [] for load in loads}
    for _ in range(rounds):  # all in turn, because the machine's speed changes meanwhile
        for load in loads:
            drained = await drain(services, f"growth-{load.events}", load)
            found[load.events].append(drained)
            print(
                f"{load.events:,} events: {drained.cpu_s_per_million:.2f} CPU-s/M, {drained.peak_mib:.0f} MiB",
                flush=True,
            )
    return found


def points(drains: Mapping[float, Sequence[Drained]]) -> list[Point]:
    return [
        Point(x, median([it.cpu_s_per_million for it in found]), median([it.peak_mib for it in found]))
        for x, found in sorted(drains.items())
    ]


def of_partitions(runs: Sequence[Run]) -> Axis:
    found: dict[float, list[Drained]] = {}
    for run in runs:
        if run.kind == "ingestd" and run.axis in {FIRST, "partitions"}:
            found.setdefault(run.load.partitions, []).append(run.drained)
    return Axis("partitions", "partitions", points(found))


def of_sizes(runs: Sequence[Run]) -> Axis:
    found: dict[float, list[Drained]] = {}
    for run in runs:
        if run.kind == "ingestd" and run.axis in {FIRST, "event size"}:
            found.setdefault(run.load.size, []).append(run.drained)
    return Axis("size of an event", "bytes", points(found), per_kb=True)


def of_hours(file: Path, parts: int = 12) -> Axis:
    """A soak's samples of its first daemon, in so many parts of equal length; without points where there was none."""
    rows = list(csv.DictReader(file.read_text().splitlines())) if file.exists() else []
    rows = [row for row in rows if row["daemon"] == rows[0]["daemon"]]
    found = []
    for part in range(parts):
        some = rows[part * len(rows) // parts : (part + 1) * len(rows) // parts]
        consumed = int(some[-1]["consumed"]) - int(some[0]["consumed"]) if some else 0
        if not consumed:
            continue
        cpu_s = sum(
            float(after["cpu_percent"]) / 100 * (float(after["second"]) - float(before["second"]))
            for before, after in pairwise(some)
        )
        hour = float(some[-1]["second"]) / 3600
        found.append(Point(hour, cpu_s / consumed * 1e6, max(float(row["rss_mib"]) for row in some)))
    return Axis("hours under load", "hours", found)


# -- what comes of it


def table(axes: Sequence[Axis]) -> Table:
    rows = []
    for axis in axes:
        unit = "us a kB" if axis.per_kb else "us an event"
        for (x, cost), (_, peak) in zip(axis.costs, axis.peaks, strict=True):
            first, least = axis.costs[0][1], axis.peaks[0][1]
            rows.append(
                [
                    axis.name,
                    f"{x:,.4g}",
                    f"{cost:.2f} {unit}",
                    f"{cost / first:.2f}",
                    f"{peak:.0f}",
                    f"{peak / least:.2f}",
                ]
            )
    return Table(
        title="CPU and memory",
        head=["As this grows", "", "CPU", "times the first", "peak MiB", "times the first"],
        rows=rows,
        note="Memory is limited by the budget of buffered bytes (`batch.memory`) and grows up to it with a "
        "backlog. The case of six partitions and 335 bytes has the largest backlog, so its memory is the "
        "largest. Each drain begins a new chain, which takes some requests for each partition: that is the "
        "cost of 200 partitions. Over hours, each row has the maximum of its part of the time.",
    )


def draw(axes: Sequence[Axis]) -> Figure:
    panels = []
    for axis in axes:
        across = axis.unit
        is_time = axis.unit == "hours"
        what = "CPU-microseconds a kB" if axis.per_kb else "CPU-microseconds an event"
        panels.append(picture.Curve(f"CPU: {axis.name}", across, what, {"": axis.costs}, logarithmic=not is_time))
        panels.append(picture.Curve(f"Memory: {axis.name}", across, "MiB", {"": axis.peaks}, logarithmic=not is_time))
    return picture.curves(QUESTION, panels)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="so many times as many events")
    options = parser.parse_args()
    runs = read(RESULTS / "endtoend.json")
    with services() as started:
        measured = asyncio.run(backlogs(started, options.rounds, options.scale))
    backlog = Axis("backlog", "events", points(measured))
    axes = [it for it in (backlog, of_partitions(runs), of_sizes(runs), of_hours(RESULTS / "soak.csv")) if it.points]
    report = results.Report(
        name="growth",
        question=QUESTION,
        command=f"python -m benchmarks.growth --rounds {options.rounds} --scale {options.scale:g}",
        settings={
            "Settings": "ingestd's defaults",
            "Beside it, on the same cores": "broker and store",
            "Rounds, interleaved": str(options.rounds),
        },
        tables=[table(axes)],
        runs={"backlogs": measured, "axes": axes},
        picture="CPU per event and peak memory over each axis",
    )
    results.write(report, draw(axes))
    print(RESULTS / "growth.md")


if __name__ == "__main__":
    main()
