"""What is seen of a daemon once a second."""

import os
import re
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import msgspec

from benchmarks.soak.load import Written
from tests.e2e.daemon import Daemon

WINDOW = 30  # samples whose loop lags are looked at together
_BUCKET = re.compile(r'^ingestd_loop_lag_seconds_bucket\{le="(\S+)"\} (\S+)$', re.MULTILINE)
_TICKS = os.sysconf("SC_CLK_TCK")
MIB = 1 << 20

Buckets = dict[float, float]  # upper bound in seconds, and how many lags were at most that


class Sample(msgspec.Struct):
    """One daemon at one moment. The fields are the columns of the CSV, their units are in the names."""

    second: float  # since the load began
    daemon: str
    phase: str  # steady, burst, or end: nothing is written any more
    rss_mib: float
    peak_mib: float
    buffered_mib: float
    budget_mib: float
    loop_p50_ms: float  # of the last half minute, as fine as the histogram's bounds
    loop_p99_ms: float
    loop_worst_ms: float  # of late
    held_s: float  # the oldest record that has not landed, since it was taken
    age_s: float  # the same since it was written, of all partitions
    lag_records: int  # of all partitions: written and not landed
    produced: int
    consumed: int
    landed: int  # rows
    quarantined: int
    objects: int
    cpu_percent: float
    open_files: int
    ready: bool


class Written2Landed:
    """How old the oldest record is that is written and has not landed, as fine as the writer's reports."""

    def __init__(self, partitions: int) -> None:
        self._reports: deque[tuple[float, Sequence[int]]] = deque()
        self._landed = [0] * partitions
        self.ends: Sequence[int] = [0] * partitions

    def wrote(self, written: Written) -> None:
        self._reports.append((written.at, written.ends))
        self.ends = written.ends

    def landed(self, offsets: Sequence[tuple[int, int]]) -> None:
        """Partitions and the offsets below which all is in objects."""
        for partition, offset in offsets:
            self._landed[partition] = max(self._landed[partition], offset)
        while self._reports and all(end <= it for end, it in zip(self._reports[0][1], self._landed, strict=True)):
            self._reports.popleft()

    def age(self, now: float) -> float:
        return now - self._reports[0][0] if self._reports else 0.0

    @property
    def lag(self) -> int:
        return sum(max(0, end - landed) for end, landed in zip(self.ends, self._landed, strict=True))


class Watch:
    """Looks at one daemon; holds what only exists between two looks."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._buckets: deque[Buckets] = deque(maxlen=WINDOW)
        self._cpu: tuple[float, float] | None = None

    async def look(self, second: float, phase: str, now: float, group: Written2Landed) -> Sample:
        """OSError where the daemon does not answer."""
        status = await self._daemon.status()
        self._buckets.append(buckets((await self._daemon.get("/metrics"))[1].decode()))
        lags = difference(self._buckets[0], self._buckets[-1])
        group.landed([(it.partition, it.landed) for it in status.partitions if it.landed is not None])
        rss, peak = _memory(self._daemon.pid)
        return Sample(
            second=round(second, 1),
            daemon=self._daemon.name,
            phase=phase,
            rss_mib=rss,
            peak_mib=peak,
            buffered_mib=round(status.buffered_bytes / MIB, 1),
            budget_mib=status.budget_bytes / MIB,
            loop_p50_ms=quantile(lags, 0.5) * 1000,
            loop_p99_ms=quantile(lags, 0.99) * 1000,
            loop_worst_ms=round(status.loop_lag * 1000, 1),
            held_s=round(max((it.oldest_unlanded or 0.0 for it in status.partitions), default=0.0), 1),
            age_s=round(group.age(now), 1),
            lag_records=group.lag,
            produced=sum(group.ends),
            consumed=status.totals.consumed,
            landed=status.totals.landed,
            quarantined=status.totals.quarantined,
            objects=status.totals.objects,
            cpu_percent=self._cpu_percent(second),
            open_files=_open_files(self._daemon.pid),
            ready=status.ready,
        )

    def _cpu_percent(self, second: float) -> float:
        fields = Path(f"/proc/{self._daemon.pid}/stat").read_text().rpartition(")")[2].split()
        used = (int(fields[11]) + int(fields[12])) / _TICKS
        before, self._cpu = self._cpu, (second, used)
        if before is None or second <= before[0]:
            return 0.0
        return round(100 * (used - before[1]) / (second - before[0]), 1)


def _memory(pid: int) -> tuple[float, float]:
    """Resident now, and the most so far, in MiB."""
    text = Path(f"/proc/{pid}/status").read_text()
    found = dict(re.findall(r"^(VmRSS|VmHWM):\s+(\d+) kB$", text, re.MULTILINE))
    return round(int(found["VmRSS"]) / 1024, 1), round(int(found["VmHWM"]) / 1024, 1)


def _open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def buckets(metrics: str) -> Buckets:
    """The histogram of loop lags in an answer of ``/metrics``."""
    return {float(bound): float(count) for bound, count in _BUCKET.findall(metrics)}


def difference(before: Buckets, after: Buckets) -> Buckets:
    return {bound: count - before.get(bound, 0.0) for bound, count in after.items()}


def quantile(found: Buckets, share: float) -> float:
    """The bound below which so many lie; 0 of nothing, and the largest bound of what is beyond it."""
    bounds = sorted(found)
    if not bounds or not found[bounds[-1]]:
        return 0.0
    wanted = share * found[bounds[-1]]
    first = next(bound for bound in bounds if found[bound] >= wanted)
    return first if first != float("inf") else bounds[-2]
