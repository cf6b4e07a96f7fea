"""How fast one system brings a backlog into the store, and what that costs."""

import asyncio
import time
from typing import NamedTuple

import msgspec

from benchmarks.peers.counting import lines
from benchmarks.peers.running import PROBE_BYTES, Failed, Ground, running
from benchmarks.peers.systems import System
from benchmarks.rig.fill import Kind

_POLL = 0.05
_FLUSH_S = 10.0  # never reached: every file is full


class Raced(msgspec.Struct, kw_only=True):
    """One run. It begins when the group is at work; what the system used before that is left out."""

    system: str
    kind: Kind = "flat"  # in reports from before there was another
    events: int  # committed, or in the store where it was stopped before it was through
    wall_s: float
    cpu_s: float
    peak_mib: float
    start_cpu_s: float
    rows: int  # in the store
    files: int
    bytes: int
    in_time: bool  # whether it had committed all of them before it was stopped

    @property
    def events_per_s(self) -> float:
        return self.events / self.wall_s

    @property
    def cpu_s_per_million(self) -> float:
        return self.cpu_s / self.events * 1e6

    def __str__(self) -> str:
        return (
            f"{self.system}, {self.kind}: {self.events_per_s:,.0f} events/s, {self.cpu_s_per_million:.1f} CPU-s per M, "
            f"{self.peak_mib:,.0f} MiB, {self.rows:,} rows in {self.files} files"
        )


class Backlog(NamedTuple):
    """A filled topic, and how many rows a file of it has: each partition's records are a multiple of these."""

    topic: str
    partitions: int
    events: int
    rows: int
    kind: Kind


async def race(system: System, ground: Ground, backlog: Backlog, most_s: float) -> Raced:
    """Drain the topic, for `most_s` seconds at most. Failed where it does not get anywhere."""
    topic, partitions, events, rows, kind = backlog
    async with running(system, ground, topic, partitions, rows=rows, flush_s=_FLUSH_S) as run:
        run.start()
        await run.joined()
        began, before, done = time.monotonic(), run.usage, 0
        while done < events and time.monotonic() - began < most_s:
            await asyncio.sleep(_POLL)
            if not run.running:
                raise Failed(f"ended by itself; the end of its log: {run.log_end()}")
            done = await run.committed()
        wall, used = time.monotonic() - began, run.usage
        if not done:
            raise Failed(f"has committed nothing in {most_s:g} s; the end of its log: {run.log_end()}")
        # What it takes to end is part of the work, but not where it was stopped in the middle of it.
        if done >= events and (ended := await run.end()) is not None:
            used = ended.usage
        run.kill()
        files = await run.files()
    rows_there = sum(len(lines(body)) for body in files.values())
    return Raced(
        system=system.key,
        kind=kind,
        events=events if done >= events else max(done, min(rows_there, events)),
        wall_s=wall,
        cpu_s=used.cpu_s - before.cpu_s,
        peak_mib=used.peak_bytes / 2**20,
        start_cpu_s=before.cpu_s,
        rows=rows_there,
        files=sum(len(body) >= PROBE_BYTES for body in files.values()),
        bytes=sum(map(len, files.values())),
        in_time=done >= events,
    )
