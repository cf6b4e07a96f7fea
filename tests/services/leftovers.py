"""Processes that a test run has left behind (Linux): they have its mark, or live in a root below the clone."""

import os
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

_MARK = "TEST_RUN_OF_INGESTD"
_CLONE = Path(__file__).parents[2]
_PATIENCE_S = 10.0


def mark_run() -> None:
    """From now on, whatever this process starts has the mark; a worker has that of its run."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        os.environ[_MARK] = uuid.uuid4().hex


def end_leftovers() -> list[str]:
    """End what is still there once all had time to end, and give the command lines."""
    deadline = time.monotonic() + _PATIENCE_S
    while left := list(_leftovers()):
        if time.monotonic() > deadline:
            break
        time.sleep(0.1)
    for process, _ in left:
        os.kill(process, signal.SIGKILL)
    return [f"{process}: {command}" for process, command in left]


def _leftovers() -> Iterator[tuple[int, str]]:
    mark = f"{_MARK}={os.environ[_MARK]}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            ours = mark in (folder / "environ").read_bytes().split(b"\0")
            inside = _CLONE in (folder / "root").readlink().parents
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it has ended, or is somebody else's
            continue
        if (ours or inside) and state != "Z":
            yield int(folder.name), command
