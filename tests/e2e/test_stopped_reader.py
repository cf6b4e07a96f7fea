"""A terminal that is stopped, and a pipe that nobody reads, hold up neither the daemon nor its end."""

import contextlib
import os
import pty
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services.ports import HOST, free_port

DEADLINE_S = 30.0
ANSWER_S = 3.0
PIPE_BYTES = 1 << 16


@contextlib.contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe's ends: nobody reads the first."""
    ends = os.pipe()
    try:
        yield ends
    finally:
        for end in ends:
            os.close(end)


@contextlib.contextmanager
def terminal() -> Iterator[tuple[int, int]]:
    """A pseudo terminal's ends: nobody reads the first, as after Ctrl-S."""
    ends = pty.openpty()
    try:
        yield ends
    finally:
        for end in ends:
            os.close(end)


@contextlib.contextmanager
def daemon(directory: Path, port: int, output: int, *more: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A daemon that reads the simulator and writes both outputs to `output`."""
    keys = ["source=simulator", "simulator.rate=60000", f"sink.url={directory}", f"health.port={port}", "grace=5s"]
    flags = [part for key in [*keys, *more] for part in ("--set", key)]
    child = subprocess.Popen(
        [sys.executable, "-m", "ingestd", "run", *flags],
        stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=directory,
        env={**os.environ, "TERM": "xterm"}, start_new_session=True,
    )  # fmt: skip
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def get(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://{HOST}:{port}{path}", timeout=ANSWER_S) as answer:
        return str(answer.read().decode())


def until_landed(port: int, records: int) -> None:
    """Wait until so many records have landed, which takes a loop that runs."""
    limit = time.monotonic() + DEADLINE_S
    while time.monotonic() < limit:
        with contextlib.suppress(OSError):
            found = [line for line in get(port, "/metrics").splitlines() if line.startswith("ingestd_records_landed_t")]
            if found and float(found[0].split()[-1]) >= records:
                return
        time.sleep(0.05)
    raise AssertionError("the daemon makes no progress")


def fill(end: int) -> None:
    """Write until nothing more fits."""
    os.set_blocking(end, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(end, b" " * 512)
    os.set_blocking(end, True)


@pytest.mark.parametrize("kind", ["terminal", "pipe"])
def test_the_daemon_runs_and_ends_though_nobody_reads(kind: str, tmp_path: Path) -> None:
    port = free_port()
    more = ["batch.interval=200ms", "log.level=DEBUG"]
    with (terminal if kind == "terminal" else pipe)() as (_, output):
        fill(output)
        with daemon(tmp_path, port, output, *more) as child:
            until_landed(port, 3000)
            for _ in range(10):
                assert get(port, "/livez") == "alive\n"
                time.sleep(0.1)
            child.send_signal(signal.SIGTERM)
            assert child.wait(DEADLINE_S) == 0


def test_a_terminal_that_goes_on_shows_the_summary(tmp_path: Path) -> None:
    port = free_port()
    with terminal() as (reading, output):
        fill(output)
        with daemon(tmp_path, port, output, "batch.interval=200ms") as child:
            until_landed(port, 3000)
            child.send_signal(signal.SIGTERM)
            os.set_blocking(reading, False)
            shown, limit = b"", time.monotonic() + DEADLINE_S
            while child.poll() is None and time.monotonic() < limit:
                with contextlib.suppress(BlockingIOError):
                    shown += os.read(reading, PIPE_BYTES)
                time.sleep(0.01)
            with contextlib.suppress(BlockingIOError):
                shown += os.read(reading, PIPE_BYTES)
            assert child.returncode == 0
    assert b"ingestd ran for" in shown
    assert b"\x1b[?25h" in shown, "the cursor is shown again"
