"""From the broker into the store: what does an event cost, and how many are there a second?

    python -m benchmarks.endtoend [--rounds 3] [--scale 1.0] [--only partitions]

A daemon drains topics of many kinds, each of which differs in one thing from the first. In between, in the same rounds,
runs what no version can avoid (the floor) and the least that a Python program can do (the yardstick). Writes
endtoend.md, endtoend.png and endtoend.json into benchmarks/results.
"""

import argparse
import asyncio
import os
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import msgspec
from matplotlib.figure import Figure

from benchmarks import yardstick
from benchmarks.rig import picture, results
from benchmarks.rig.drain import Drained, drain
from benchmarks.rig.fill import SMALL, Load, fill
from benchmarks.rig.results import Table, aim, median, spread
from benchmarks.rig.services import Services, services
from ingestd.config.model import Config
from tests.services.process import ServiceError

Kind = Literal["ingestd", "floor", "yardstick"]
MB = 1_000_000
QUESTION = "What does an event cost from Kafka to S3, and how many events a second are possible?"
SDK = "as SDKs send them"  # fields that the model does not know, nested
PARTITIONS = "partitions"
FIRST = "first"  # the axis of the case that all others differ from


class Case(NamedTuple):
    """A kind of topic and so many daemons. Cases of one axis are compared with each other and with the first one."""

    axis: str
    label: str
    load: Load
    daemons: int = 1

    @property
    def has_floor(self) -> bool:
        """Whether it is known what cannot be avoided: of what is decoded twice or rejected it is not."""
        return self.daemons == 1 and not self.load.slow and not self.load.bad

    @property
    def topic(self) -> str:
        return "-".join(str(value) for value in msgspec.structs.astuple(self.load)).replace(".", "_")


class Run(msgspec.Struct, kw_only=True):
    """One run of one case."""

    axis: str
    label: str
    kind: Kind
    round: int
    daemons: int
    load: Load
    drained: Drained


def cases(scale: float) -> list[Case]:
    def load(events: int, **more: object) -> Load:
        return msgspec.structs.replace(Load(events=max(1000, int(events * scale))), **more)

    first = load(3_000_000)
    return [
        Case(FIRST, "lz4, 6 partitions, 335 B", first),
        Case("daemons", "2", first, 2),
        *(Case("compression", codec, load(300_000, codec=codec)) for codec in ("none", "zstd")),
        *(Case(PARTITIONS, str(number), load(400_000, partitions=number)) for number in (1, 50, 200)),
        *(Case(PARTITIONS, f"{number}, more events", load(2_000_000, partitions=number)) for number in (1, 50, 200)),
        Case("event size", f"{SMALL} B", load(500_000, size=SMALL)),
        Case("event size", "1 kB", load(100_000, size=1000)),
        Case("event size", "10 kB", load(20_000, size=10_000)),
        *(
            Case(SDK, label, load(events, kind="sdk", size=size))
            for label, size, events in (
                ("600 B", 600, 300_000),
                ("1.2 kB", 1200, 200_000),
                ("4 kB", 4000, 60_000),
                ("10 kB", 10_000, 20_000),
            )
        ),
        Case(SDK, "1.2 kB, 1% bad", load(200_000, kind="sdk", size=1200, bad=0.01)),
        Case("records in a producer's batch", "1", load(30_000, batch=1)),
        Case("records in a producer's batch", "10", load(100_000, batch=10)),
        Case("records in a producer's batch", "100", load(300_000, batch=100)),
        *(Case("slow path", f"{share:.0%}", load(200_000, slow=share)) for share in (0.01, 0.1, 1.0)),
        *(Case("bad events", f"{share:.0%}", load(200_000, bad=share)) for share in (0.01, 0.1, 1.0)),
    ]


# -- measuring


async def measure(services: Services, chosen: Sequence[Case], rounds: int) -> list[Run]:
    for topic, load in {case.topic: case.load for case in chosen}.items():
        print(f"filling {load.events:,} events into {topic}", flush=True)
        await fill(services.bootstrap, topic, load)
    runs = []
    for number in range(rounds):  # all in turn, because the machine's speed changes meanwhile
        for case in chosen:
            for kind in kinds(case):
                run = Run(
                    axis=case.axis,
                    label=case.label,
                    kind=kind,
                    round=number,
                    daemons=case.daemons,
                    load=case.load,
                    drained=await _run(services, case, kind),
                )
                tell(run)
                runs.append(run)
    return runs


def kinds(case: Case) -> Iterator[Kind]:
    yield "ingestd"
    if case.has_floor:
        yield "floor"
    if case.axis in {FIRST, "daemons"}:
        yield "yardstick"


async def _run(services: Services, case: Case, kind: Kind) -> Drained:
    if kind == "ingestd":
        return await drain(services, case.topic, case.load, case.daemons)
    partitions = range(case.load.partitions)
    until = "gzip" if kind == "floor" else "put"
    shares = [partitions[number :: case.daemons] for number in range(case.daemons)]
    found = await asyncio.gather(
        *(run_yardstick(services, case.topic, share, until, case.load.kind) for share in shares)
    )
    return Drained(
        events=sum(it.events for it in found),
        wall_s=max(it.wall_s for it in found),
        cpu_s=sum(it.cpu_s for it in found),
        start_cpu_s=0.0,
        end_cpu_s=0.0,
        peak_mib=max(it.peak_mib for it in found),
    )


async def run_yardstick(
    services: Services, topic: str, partitions: Sequence[int], until: str, kind: str
) -> yardstick.Result:
    """The yardstick as a process of its own, up to a stage. Errors: ServiceError."""
    command = [sys.executable, "-m", "benchmarks.yardstick", services.bootstrap, topic, ",".join(map(str, partitions))]
    command += ["--endpoint", services.store.endpoint, "--bucket", services.bucket, "--until", until, "--kind", kind]
    environment = {**os.environ, **services.credentials}
    process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    if process.returncode:
        raise ServiceError(f"the yardstick ended with {process.returncode}")
    return msgspec.json.decode(output, type=yardstick.Result)


def tell(run: Run) -> None:
    drained = run.drained
    print(
        f"round {run.round + 1}  {run.axis:30} {run.label:26} {run.kind:10} {drained.events_per_s:9,.0f} events/s "
        f"{drained.cpu_s_per_million:7.2f} CPU-s/M  {drained.peak_mib:5.0f} MiB",
        flush=True,
    )


# -- what comes of it


class Summary(NamedTuple):
    """All rounds of one case; each list has one value for each round."""

    axis: str
    label: str
    rates: list[float]  # events a second
    costs: list[float]  # CPU-seconds per million events
    peaks: list[float]  # MiB
    floors: list[float]  # CPU-seconds per million events, as the next one
    yardsticks: list[float]
    yardstick_rates: list[float]
    yardstick_peaks: list[float]

    @property
    def times_the_yardstick(self) -> list[float]:
        """What it takes, by what the yardstick takes."""
        return [cost / other for cost, other in zip(self.costs, self.yardsticks, strict=True)]

    @property
    def efficiency(self) -> list[float]:
        """What cannot be avoided, as a share of what it takes."""
        return [floor / cost for floor, cost in zip(self.floors, self.costs, strict=True)] if self.floors else []


def summarize(runs: Sequence[Run]) -> list[Summary]:
    """In the order of the runs. Values of one round stay beside each other."""
    summaries = []
    for axis, label in dict.fromkeys((run.axis, run.label) for run in runs):
        found: dict[Kind, list[Drained]] = {"ingestd": [], "floor": [], "yardstick": []}
        for run in sorted(runs, key=lambda it: it.round):
            if (run.axis, run.label) == (axis, label):
                found[run.kind].append(run.drained)
        summaries.append(
            Summary(
                axis,
                label,
                [it.events_per_s for it in found["ingestd"]],
                [it.cpu_s_per_million for it in found["ingestd"]],
                [it.peak_mib for it in found["ingestd"]],
                [it.cpu_s_per_million for it in found["floor"]],
                [it.cpu_s_per_million for it in found["yardstick"]],
                [it.events_per_s for it in found["yardstick"]],
                [it.peak_mib for it in found["yardstick"]],
            )
        )
    return summaries


def targets(summaries: Sequence[Summary], budget: int) -> Table:
    """What was aimed at; `budget` is that of buffered bytes. Told, and never a pass or a fail."""
    found = {it.axis: it for it in summaries if it.axis in {FIRST, "daemons"}}
    nested = [it for it in summaries if it.axis == SDK and it.floors and it.label in {"1.2 kB", "10 kB"}]
    peak = max((peak for it in summaries for peak in it.peaks), default=0.0) * 2**20 / MB
    rows = []
    if (one := found.get(FIRST)) is not None:
        rows.append(aim("CPU-seconds per million events", median(one.costs), 5.0, most=True))
        rows.append(aim("events/s, one daemon", median(one.rates), 200_000, digits=0))
        rows.append(aim("floor / measured", median(one.efficiency), 0.8, digits=2))
    if (two := found.get("daemons")) is not None:
        rows.append(aim("events/s, two daemons", median(two.rates), 280_000, digits=0))
    rows += [aim(f"floor / measured, {it.label} {SDK}", median(it.efficiency), 0.8, digits=2) for it in nested]
    rows.append(aim("peak memory of any daemon (MB)", peak, 150 + budget / MB, most=True, digits=0))
    return Table(
        title="Targets",
        head=["What", "Measured", "Target", ""],
        rows=rows,
        note="The target for memory is 150 MB plus the configured budget of buffered bytes (`batch.memory`).",
    )


def beside(summaries: Sequence[Summary]) -> Table:
    """Daemons and yardsticks."""
    rows = []
    for it in summaries:
        if it.axis not in {FIRST, "daemons"}:
            continue
        number = "two" if it.axis == "daemons" else "one"
        times = f"{median(it.times_the_yardstick):.2f}"
        rows.append([f"ingestd, {number}", spread(it.rates, 0), spread(it.costs, 2), f"{max(it.peaks):.0f}", times])
        other = [spread(it.yardstick_rates, 0), spread(it.yardsticks, 2), f"{max(it.yardstick_peaks):.0f}"]
        rows.append([f"yardstick, {number}", *other, "1"])
        if it.floors:
            rows.append(["floor, one", "-", spread(it.floors, 2), "-", "-"])
    return Table(
        title="Compared with the floor",
        head=["What", "events/s", "CPU-s per million", "peak MiB of each", "times the yardstick's CPU"],
        rows=rows,
        note="The floor fetches, decodes, adds the origin, encodes and compresses, and nothing else: no version "
        "can avoid that. The yardstick also writes and commits, but handles no faults. Medians, with the "
        "smallest and the largest value in brackets.",
    )


def table(summaries: Sequence[Summary]) -> Table:
    return Table(
        title="Every case",
        head=["Differs in", "", "events/s", "CPU-s per million", "floor", "floor / measured", "peak MiB"],
        rows=[
            [
                it.axis if it.axis != FIRST else "(the first one)",
                it.label,
                spread(it.rates, 0),
                spread(it.costs, 2),
                f"{median(it.floors):.2f}" if it.floors else "-",
                f"{median(it.efficiency):.2f}" if it.floors else "-",
                f"{max(it.peaks):.0f}",
            ]
            for it in summaries
        ],
        note="Each case differs in one thing from the first. There is no floor for events that are decoded twice "
        "or rejected: it is not known what could be avoided. Each drain begins a new chain, so every "
        "partition is first looked up in the store, by about four requests beside its PUT. That is visible "
        "with many partitions and few events. The CPU-seconds for starting and ending a process are not "
        "included; they are in the JSON.",
    )


def steady(runs: Sequence[Run]) -> Table | None:
    """What an event more costs, by the difference of two loads: what a partition costs once is in both of them."""
    loads: dict[tuple[int, int], list[Run]] = defaultdict(list)
    for run in runs:
        if run.axis == PARTITIONS and run.kind == "ingestd":
            loads[run.load.partitions, run.round].append(run)
    costs: dict[int, list[float]] = defaultdict(list)
    for (partitions, _), found in loads.items():
        small, large = (pick(found, key=lambda run: run.load.events) for pick in (min, max))
        if more := large.load.events - small.load.events:
            costs[partitions].append((large.drained.cpu_s - small.drained.cpu_s) / more * 1e6)
    if not costs:
        return None
    return Table(
        title="Many partitions, without the start",
        head=["Partitions", "CPU-seconds for a million events more"],
        rows=[[str(partitions), spread(found, 2)] for partitions, found in sorted(costs.items())],
        note="By the difference between the two loads of a round: what a partition costs once is in both of them.",
    )


def report(runs: Sequence[Run], rounds: int, scale: float) -> results.Report:
    summaries = summarize(runs)
    return results.Report(
        name="endtoend",
        question=QUESTION,
        command=f"python -m benchmarks.endtoend --rounds {rounds} --scale {scale:g}",
        settings={
            "Settings": "ingestd's defaults",
            "Beside it, on the same cores": "broker and store",
            "Rounds, interleaved": str(rounds),
        },
        tables=[
            targets(summaries, Config().batch.memory),
            beside(summaries),
            table(summaries),
            *([apart] if (apart := steady(runs)) is not None else []),
        ],
        runs=runs,
        picture="CPU per event, with the floor, and events a second, of every case",
    )


def draw(summaries: Sequence[Summary]) -> Figure:
    labels = [it.label if it.axis == FIRST else f"{it.axis}: {it.label}" for it in summaries]
    costs, floors = [median(it.costs) for it in summaries], [median(it.floors) for it in summaries]
    rates = [median(it.rates) / 1000 for it in summaries]
    panels = [
        picture.Bars("CPU-microseconds an event", costs, floors, "cannot be avoided", logarithmic=True),
        picture.Bars("thousand events a second", rates),
    ]
    return picture.bars(QUESTION, labels, panels)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.endtoend", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="so many times as many events")
    parser.add_argument("--only", help="an axis, such as partitions, beside the first case")
    options = parser.parse_args()
    chosen = [case for case in cases(options.scale) if options.only in {None, case.axis} or case.axis == FIRST]
    with services() as started:
        runs = asyncio.run(measure(started, chosen, options.rounds))
    results.write(report(runs, options.rounds, options.scale), draw(summarize(runs)))
    print(results.RESULTS / "endtoend.md")


if __name__ == "__main__":
    main()
