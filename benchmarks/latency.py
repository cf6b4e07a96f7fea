"""How fresh is what has landed, how late is the event loop, and how long does a drain on SIGTERM take?

    python -m benchmarks.latency [--seconds 40] [--rates 1000,10000,100000]

A daemon with default settings takes a steady rate. It is then told to stop while it goes on. Writes latency.md,
latency.png and latency.json into benchmarks/results.
"""

import argparse
import asyncio
import subprocess
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import msgspec
from matplotlib.figure import Figure

from benchmarks.rig import picture, results
from benchmarks.rig.drain import Ingestd, kafka_to_s3
from benchmarks.rig.results import Table
from benchmarks.rig.services import Services, create, services
from benchmarks.soak.load import Written
from benchmarks.soak.samples import buckets, difference, quantile
from ingestd.config.model import Config
from ingestd.ops.readiness import Status
from tests.services.process import ServiceError

QUESTION = "How fresh are landed records, how late is the event loop, how long does stopping take?"
PARTITIONS = 6
LOOK = 0.25  # seconds between two looks
START = 60.0


class Freshness:
    """From writing to landing, in seconds: up to one too long, as the writer reports once in a second."""

    def __init__(self, partitions: int, began: float) -> None:
        self._born = began
        self._ends = [0] * partitions
        self._waiting: list[deque[tuple[float, int, int]]] = [deque() for _ in range(partitions)]
        self._delays: list[tuple[float, int]] = []

    def wrote(self, at: float, ends: Sequence[int]) -> None:
        """The log's ends by partition; what is new was written after the report before."""
        for waiting, before, end in zip(self._waiting, self._ends, ends, strict=True):
            if end > before:
                waiting.append((self._born, end, end - before))
        self._born, self._ends = at, list(ends)

    def landed(self, at: float, offsets: Mapping[int, int]) -> None:
        """Below these offsets all is in objects."""
        for partition, offset in offsets.items():
            waiting = self._waiting[partition]
            while waiting and waiting[0][1] <= offset:
                born, _, count = waiting.popleft()
                self._delays.append((at - born, count))

    def quantile(self, share: float) -> float:
        """Of the events that have landed, so many were at least as fresh; NaN of none."""
        wanted = share * sum(count for _, count in self._delays)
        for delay, count in sorted(self._delays):
            wanted -= count
            if wanted <= 0:
                return delay
        return float("nan")


class Measured(msgspec.Struct, kw_only=True):
    """One rate; units are in the names."""

    rate: int  # that was asked for
    written_per_s: float
    fresh_p50_s: float
    fresh_p99_s: float
    fresh_max_s: float
    loop_p99_ms: float
    loop_worst_ms: float
    cpu_us_per_event: float
    peak_mib: float
    drain_s: float
    held_records: int  # that were not landed when it was told to stop


async def measure(services: Services, rate: int, seconds: float) -> Measured:
    topic = f"latency-{rate}"
    await create(services.bootstrap, topic, PARTITIONS)
    settings = {"kafka.topics": topic, "kafka.group_id": topic, "sink.lineage": topic}
    daemon = kafka_to_s3(topic, services, settings)
    daemon.start(lambda: True)
    try:
        await _ready(daemon)
        async with _writing(services.bootstrap, topic, rate) as reports:
            return await _watch(daemon, reports, rate, seconds)
    finally:
        daemon.kill()


async def _ready(daemon: Ingestd) -> None:
    limit = time.monotonic() + START
    while (status := await daemon.status()) is None or not (status.ready and status.assigned):
        if time.monotonic() > limit:
            raise ServiceError(f"{daemon.name} is not ready after {START:.0f} s; {daemon.log}")
        await asyncio.sleep(LOOK)


@asynccontextmanager
async def _writing(bootstrap: str, topic: str, rate: int) -> AsyncIterator[asyncio.StreamReader]:
    """A process that writes at this rate; its reports."""
    command = [sys.executable, "-m", "benchmarks.soak.load", bootstrap, topic, str(PARTITIONS)]
    writer = await asyncio.create_subprocess_exec(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert writer.stdin is not None
    assert writer.stdout is not None
    writer.stdin.write(f"{rate}\n".encode())
    try:
        yield writer.stdout
        writer.stdin.close()
        await writer.wait()
    finally:
        if writer.returncode is None:
            writer.kill()


async def _watch(daemon: Ingestd, reports: asyncio.StreamReader, rate: int, seconds: float) -> Measured:
    began, used = time.time(), daemon.usage.cpu_s
    freshness = Freshness(PARTITIONS, began)
    before = buckets((await daemon.get("/metrics")).decode())
    hearing = asyncio.create_task(_hear(reports, freshness))
    worst = 0.0
    while time.time() < began + seconds:
        status = await _status(daemon)
        landed = {it.partition: it.landed for it in status.partitions if it.landed is not None}
        freshness.landed(time.time(), landed)
        worst = max(worst, status.loop_lag)
        await asyncio.sleep(LOOK)
    status = await _status(daemon)
    loop = difference(before, buckets((await daemon.get("/metrics")).decode()))
    cpu_s, told = daemon.usage.cpu_s - used, time.monotonic()
    ended = await daemon.end()
    drained = time.monotonic() - told
    hearing.cancel()
    if ended.code:
        raise ServiceError(f"{daemon.name} ended with {ended.code}; {daemon.log}")
    return Measured(
        rate=rate,
        written_per_s=status.totals.consumed / (time.time() - began - drained),
        fresh_p50_s=freshness.quantile(0.5),
        fresh_p99_s=freshness.quantile(0.99),
        fresh_max_s=freshness.quantile(1.0),
        loop_p99_ms=quantile(loop, 0.99) * 1000,
        loop_worst_ms=worst * 1000,
        cpu_us_per_event=cpu_s / status.totals.consumed * 1e6,
        peak_mib=ended.usage.peak_bytes / (1 << 20),
        drain_s=drained,
        held_records=status.totals.in_flight,
    )


async def _status(daemon: Ingestd) -> Status:
    status = await daemon.status()
    if status is None:
        raise ServiceError(f"{daemon.name} does not answer; {daemon.log}")
    return status


async def _hear(reports: asyncio.StreamReader, freshness: Freshness) -> None:
    while line := await reports.readline():
        written = msgspec.json.decode(line, type=Written)
        freshness.wrote(written.at, written.ends)


# -- what comes of it


def report(measured: Sequence[Measured], seconds: float) -> results.Report:
    interval = Config().batch.interval
    table = Table(
        title="By rate",
        head=[
            "Events a second",
            *("fresh after (s)", "99 %", "most"),
            *("loop lag 99 % (ms)", "most"),
            *("CPU-us an event", "peak MiB"),
            *("records buffered at SIGTERM", "drained in (s)"),
        ],
        rows=[
            [
                f"{it.written_per_s:,.0f}",
                f"{it.fresh_p50_s:.1f}",
                f"{it.fresh_p99_s:.1f}",
                f"{it.fresh_max_s:.1f}",
                f"{it.loop_p99_ms:.0f}",
                f"{it.loop_worst_ms:.0f}",
                f"{it.cpu_us_per_event:.1f}",
                f"{it.peak_mib:.0f}",
                f"{it.held_records:,}",
                f"{it.drain_s:.2f}",
            ]
            for it in measured
        ],
        note="Fresh is the time from writing to landing, for half of the events and for 99 % of them; it can be up "
        f"to a second too long. A batch waits for `batch.interval`, {interval}, before it is flushed, so the "
        "median cannot be less than half of that. Loop lags are as precise as the bounds of the histogram. "
        "SIGTERM is sent while events are still being written.",
    )
    return results.Report(
        name="latency",
        question=QUESTION,
        command=f"python -m benchmarks.latency --seconds {seconds:g}",
        settings={
            "Settings": "ingestd's defaults",
            "Topic": f"{PARTITIONS} partitions, lz4, events of some 350 bytes, one of 100 bad",
            "Beside it, on the same cores": "broker, store and writer",
            "Seconds of each rate": f"{seconds:g}",
        },
        tables=[table],
        runs=measured,
        picture="freshness, loop lag and CPU by rate",
    )


def draw(measured: Sequence[Measured]) -> Figure:
    def line(name: str) -> list[tuple[float, float]]:
        return [(it.rate, getattr(it, name)) for it in measured]

    fresh = {"half": line("fresh_p50_s"), "99 %": line("fresh_p99_s"), "all": line("fresh_max_s")}
    rate = "events a second"
    panels = [
        picture.Curve("Fresh after", rate, "seconds", fresh, logarithmic=True),
        picture.Curve("Loop lag, 99 %", rate, "milliseconds", {"": line("loop_p99_ms")}, logarithmic=True),
        picture.Curve("CPU", rate, "microseconds an event", {"": line("cpu_us_per_event")}, logarithmic=True),
        picture.Curve("Drain on SIGTERM", rate, "seconds", {"": line("drain_s")}, logarithmic=True),
    ]
    return picture.curves(QUESTION, panels)


async def run(services: Services, rates: Sequence[int], seconds: float) -> list[Measured]:
    measured = []
    for rate in rates:
        measured.append(await measure(services, rate, seconds))
        print(measured[-1], flush=True)
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency", description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=40.0, help="for each rate; more than batch.interval")
    parser.add_argument("--rates", default="1000,10000,100000", help="events a second")
    options = parser.parse_args()
    if options.seconds <= (interval := Config().batch.interval):
        parser.error(f"--seconds {options.seconds:g}: nothing lands before batch.interval, {interval}, is over")
    with services() as started:
        measured = asyncio.run(run(started, [int(rate) for rate in options.rates.split(",")], options.seconds))
    results.write(report(measured, options.seconds), draw(measured))
    print(results.RESULTS / "latency.md")


if __name__ == "__main__":
    main()
