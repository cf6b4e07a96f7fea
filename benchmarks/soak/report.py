"""What a run came to: the samples as CSV, a picture of them, and a page."""

import csv
import os
import platform
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import msgspec

from benchmarks.soak.picture import draw
from benchmarks.soak.plan import FACTOR, Plan, Span
from benchmarks.soak.samples import Sample
from benchmarks.soak.verdict import Recovery, Slope
from tests.e2e.ledger import Tally


class Run(NamedTuple):
    """All that a run came to. Memory is by daemon; `failures` are in words, none where all is well."""

    plan: Plan
    bursts: Sequence[Span]  # that there was time for
    samples: Sequence[Sample]
    memory: dict[str, Slope | None]
    freshness: Sequence[Recovery]
    lag: Sequence[Recovery]
    tally: Tally | None
    failures: Sequence[str]


def write(run: Run, directory: Path) -> None:
    """soak.csv, soak.png and soak.md."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "soak.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(Sample.__struct_fields__)
        rows.writerows(msgspec.structs.astuple(sample) for sample in run.samples)
    draw(run.plan, run.bursts, run.samples, directory / "soak.png")
    (directory / "soak.md").write_text(page(run))


# -- the page


def page(run: Run) -> str:
    lines = [
        "# Soak",
        "",
        f"{_verdict(run)} `make soak MINUTES={run.plan.seconds / 60:g} RATE={run.plan.rate:g}` repeats it.",
        "",
        "![memory, loop lag, freshness, lag, CPU and rate over time](soak.png)",
        "",
        "| What | Measured |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in _facts(run)),
        "",
        *_burst_table("Age of the oldest record that has not landed", "s", run.freshness),
        *_burst_table("Records that have not landed", "records", run.lag),
        "A burst's value is normal again once it is at most a quarter above the largest of the steady time before the",
        "first one, and stays so for 15 seconds.",
    ]
    return "\n".join(lines) + "\n"


def _verdict(run: Run) -> str:
    return "Passed." if not run.failures else "**Failed:** " + "; ".join(run.failures) + "."


def _facts(run: Run) -> list[tuple[str, str]]:
    samples = run.samples
    facts = [
        ("Machine", f"{os.cpu_count()} cores, shared with the broker, the store and the writer; {platform.machine()}")
    ]
    facts.append(("Python", platform.python_version()))
    if not samples:
        return facts
    facts.append(("Time under load", f"{run.plan.seconds / 60:.1f} minutes"))
    steady, burst = reached(samples, "steady"), reached(samples, "burst")
    facts.append(("Rate written, steady", f"{steady:,.0f} events/s (asked for: {run.plan.rate:,.0f})"))
    if run.bursts:
        facts.append(("Rate written, in bursts", f"{burst:,.0f} events/s (asked for: {run.plan.rate * FACTOR:,.0f})"))
    for name, slope in run.memory.items():
        peak = max(it.peak_mib for it in samples if it.daemon == name)
        facts.append((f"Memory of daemon {name}", f"{_slope(slope)}; peak {peak:.0f} MiB"))
    budget = samples[0].budget_mib
    facts.append(("Buffered, most", f"{max(it.buffered_mib for it in samples):.0f} of {budget:.0f} MiB"))
    worst = max(it.loop_worst_ms for it in samples)
    facts.append(
        ("Event loop lag", f"worst {worst:.0f} ms; 99 % of any half minute at most {_worst_p99(samples):.0f} ms")
    )
    facts.append(("Age of the oldest record, steady", f"at most {_steady(samples):.0f} s"))
    facts.append(("Open files, most", str(max(it.open_files for it in samples))))
    if (tally := run.tally) is not None:
        facts.append(
            ("Records", f"{tally.records:,} written, {tally.rows:,} rows, {tally.quarantined:,} in quarantine")
        )
        facts.append(("Objects", f"{tally.objects:,}"))
        facts.append(("Lost", str(tally.lost)))
        facts.append(("Doubled", str(tally.doubled)))
    return facts


def _slope(slope: Slope | None) -> str:
    if slope is None:
        return "too short a time for a slope"
    word = "grows" if slope.grows else "flat"
    return (
        f"{word}: {slope.per_hour:+.1f} MiB an hour (95 %: {slope.low:+.1f} to {slope.high:+.1f}, "
        f"over {slope.hours * 60:.0f} minutes)"
    )


def _steady(samples: Sequence[Sample]) -> float:
    return max((it.age_s for it in samples if it.phase == "steady"), default=0.0)


def _worst_p99(samples: Sequence[Sample]) -> float:
    return max(it.loop_p99_ms for it in samples)


def reached(samples: Sequence[Sample], phase: str) -> float:
    """Events a second that were written in one phase."""
    first = [it for it in samples if it.daemon == samples[0].daemon]
    spans = [(a, b) for a, b in pairwise(first) if a.phase == b.phase == phase]
    seconds = sum(b.second - a.second for a, b in spans)
    return sum(b.produced - a.produced for a, b in spans) / seconds if seconds else 0.0


def _burst_table(title: str, unit: str, found: Sequence[Recovery]) -> list[str]:
    if not found:
        return []
    rows = [
        f"| {it.burst.begin / 60:.0f} | {it.normal:,.0f} {unit} | {it.worst:,.0f} {unit} | "
        f"{'never' if it.seconds is None else f'{it.seconds:.0f} s'} |"
        for it in found
    ]
    return [
        f"{title}:",
        "",
        "| Burst at minute | Normal, at most | Worst | Normal again after |",
        "|---|---|---|---|",
        *rows,
        "",
    ]
