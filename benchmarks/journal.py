"""What does it cost to make events safe in the journal? Latency, events per second, CPU per event.

    python -m benchmarks.journal [--folder .cache] [--seconds 5] [--rounds 3]

Senders append and wait for the answer, without a server in front. `--folder` is on the disk to measure: what an fsync
takes there is most of a latency, so it is measured as well. Writes journal.md and journal.json into benchmarks/results.
"""

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import msgspec
import uvloop

from benchmarks.rig import results
from benchmarks.rig.fill import TYPICAL, Load, events
from benchmarks.rig.results import Table, median, spread
from ingestd.core import formatting
from ingestd.core.records import UnsentRecord
from ingestd.sources.journal.journal import Journal

QUESTION = "What does it cost to make events safe in the journal?"
MAX_BYTES = 1 << 30
HEADERS = (("ingestd-source", b"web"),)
READ_RECORDS = 5_000


class Senders(NamedTuple):
    """So many tasks, each of which appends so many events at once and waits for the answer."""

    tasks: int
    batch: int

    def __str__(self) -> str:
        return f"{formatting.number(self.tasks, 'sender')}, {formatting.number(self.batch, 'event')} each"


LOADS = (Senders(1, 1), Senders(100, 1), Senders(10, 50), Senders(100, 50))


class Run(msgspec.Struct):
    """One round of one load."""

    load: str
    events_per_s: float
    cpu_us: float  # an event
    p50_ms: float
    p99_ms: float
    read_cpu_us: float  # to read an event, and discard it


def sync_ms(folder: Path, count: int = 50) -> float:
    """What an fsync of 8 KiB takes, the median: a commit of one event writes two pages."""
    taken = []
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        os.pwrite(file.fileno(), bytes(8192), 0)
        os.fsync(file.fileno())
        for _ in range(count):
            began = time.perf_counter()
            os.pwrite(file.fileno(), os.urandom(8192), 0)
            os.fdatasync(file.fileno())
            taken.append((time.perf_counter() - began) * 1000)
    return median(taken)


async def measure(folder: Path, senders: Senders, records: Sequence[UnsentRecord], seconds: float) -> Run:
    journal = Journal(folder / "journal.sqlite", MAX_BYTES)
    await journal.open()
    taken: list[float] = []
    batches = [records[at : at + senders.batch] for at in range(0, len(records) - senders.batch, senders.batch)]
    began, cpu = time.perf_counter(), time.process_time()
    until = began + seconds

    async def send(number: int) -> None:
        while (sent := time.perf_counter()) < until:
            await journal.append(batches[number % len(batches)])
            taken.append(time.perf_counter() - sent)
            number += senders.tasks

    async with asyncio.TaskGroup() as group:
        for number in range(senders.tasks):
            group.create_task(send(number))
    elapsed, used, count = time.perf_counter() - began, time.process_time() - cpu, journal.next_offset
    cpu = time.process_time()
    while journal.first_offset < count:
        found = await journal.read(journal.first_offset, READ_RECORDS, 1 << 20)
        await journal.discard(found[-1].offset + 1)
    read = time.process_time() - cpu
    await journal.close()
    taken.sort()
    return Run(
        load=str(senders),
        events_per_s=count / elapsed,
        cpu_us=used / count * 1e6,
        p50_ms=taken[len(taken) // 2] * 1000,
        p99_ms=taken[len(taken) * 99 // 100] * 1000,
        read_cpu_us=read / count * 1e6,
    )


def table(runs: Sequence[Run]) -> Table:
    rows = []
    for load in dict.fromkeys(it.load for it in runs):
        own = [it for it in runs if it.load == load]
        rows.append([
            load,
            spread([it.events_per_s for it in own], 0),
            spread([it.cpu_us for it in own]),
            spread([it.p50_ms for it in own]),
            spread([it.p99_ms for it in own]),
            spread([it.read_cpu_us for it in own]),
        ])  # fmt: skip
    head = ["Load", "Events/s", "CPU µs/event", "Median ms", "p99 ms", "CPU µs/event, read and discarded"]
    note = "From the call to its answer, which comes after the fsync. CPU is that of the whole process."
    return Table(title="Appending", head=head, rows=rows, note=note)


async def run(folder: Path, seconds: float, rounds: int) -> None:
    load = Load(events=5000)
    now = time.time_ns() // 1_000_000
    records = [
        UnsentRecord(now, b"CLIENT_%06d" % (number % 999), value, HEADERS)
        for number, value in enumerate(islice(events(load), load.events))
    ]
    runs: list[Run] = []
    sync = sync_ms(folder)
    for _ in range(rounds):
        for senders in LOADS:
            with tempfile.TemporaryDirectory(dir=folder) as place:
                runs.append(await measure(Path(place), senders, records, seconds))
    results.write(
        results.Report(
            name="journal",
            question=QUESTION,
            command="python -m benchmarks.journal",
            settings={
                "Events": f"about {TYPICAL} bytes",
                "Rounds": f"{rounds} of {seconds:g} s for each load",
                "fsync of 8 KiB": f"{sync:.1f} ms",
                "Load average of the machine": results.load(),
            },
            tables=[table(runs)],
            runs=runs,
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=QUESTION)
    parser.add_argument("--folder", type=Path, default=Path(".cache"))
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    uvloop.run(run(options.folder, options.seconds, options.rounds))


if __name__ == "__main__":
    main()
