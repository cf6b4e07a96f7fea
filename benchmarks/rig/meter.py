"""A process and all that it starts, with the CPU time and the memory that they take (Linux)."""

import asyncio
import os
import re
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.services.process import Process

_TICKS = os.sysconf("SC_CLK_TCK")
_POLL = 0.02


class Usage(NamedTuple):
    """CPU-seconds, user and system; bytes of the most resident memory, which are summed where there are children."""

    cpu_s: float
    peak_bytes: int


class Ended(NamedTuple):
    """A process that has ended: its exit code (negative: the signal) and all that it has used in its life."""

    code: int
    usage: Usage


class Metered(Process):
    """A process that tells what it and its descendants have used. To be started once; it is killed when we end."""

    def __init__(
        self, name: str, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(name, command, log, environment)
        self._peaks: dict[int, int] = {}

    @property
    def running(self) -> bool:
        """Whether the process is alive. It stays a zombie then, because ``ended`` asks what it has used."""
        if self._child is None or self._child.returncode is not None:
            return False
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    @property
    def usage(self) -> Usage:
        """So far."""
        cpu_s, peaks = tree(self.pid)
        self._peaks |= peaks
        return Usage(cpu_s, sum(self._peaks.values()))

    async def end(self, number: signal.Signals = signal.SIGTERM, within: float = 120.0) -> Ended:
        """Send it a signal and wait for its end. TimeoutError where that takes longer, and it is killed then."""
        os.kill(self.pid, number)
        return await self.ended(within)

    async def ended(self, within: float = 120.0) -> Ended:
        """Wait for its end by itself; TimeoutError as above."""
        limit = time.monotonic() + within
        while True:
            peak = self.usage.peak_bytes
            pid, status, used = os.wait4(self.pid, os.WNOHANG)  # noqa: ASYNC222 - it does not wait
            if pid:
                break
            if time.monotonic() > limit:
                self.kill()
                raise TimeoutError(f"{self.name} has not ended after {within:g} s; {self._tail()}")
            await asyncio.sleep(_POLL)
        assert self._child is not None
        self._child.returncode = os.waitstatus_to_exitcode(status)
        return Ended(self._child.returncode, Usage(used.ru_utime + used.ru_stime, peak))


def tree(pid: int) -> tuple[float, dict[int, int]]:
    """CPU-seconds of a process, its descendants and those of them that have ended; peak bytes of each that lives."""
    stat = _read(Path(f"/proc/{pid}/stat"))
    if not stat:
        return 0.0, {}
    fields = stat.rpartition(")")[2].split()
    found = re.search(r"^VmHWM:\s+(\d+) kB$", _read(Path(f"/proc/{pid}/status")), re.MULTILINE)
    cpu_s, peaks = sum(map(int, fields[11:15])) / _TICKS, {pid: int(found[1]) << 10} if found else {}
    children = [int(child) for task in _tasks(pid) for child in _read(task / "children").split()]
    for child in children:
        more, below = tree(child)
        cpu_s, peaks = cpu_s + more, peaks | below
    return cpu_s, peaks


def _tasks(pid: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{pid}/task").iterdir())
    except (FileNotFoundError, ProcessLookupError):
        return []


def _read(file: Path) -> str:
    """Empty where it has ended meanwhile: threads and children of a process that ends go one by one."""
    try:
        return file.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
