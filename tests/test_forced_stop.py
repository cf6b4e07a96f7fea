"""A forced stop ends the process, whatever hangs in a thread."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

HUNG = """
import os, stat, sys
from ingestd.cli.main import main

fsync, never = os.fsync, os.pipe()

def hang(descriptor):
    found = os.fstat(descriptor)
    if stat.S_ISREG(found.st_mode) and found.st_size > 1000:  # an object with records, not the start's own files
        os.write(1, b"hung\\n")
        os.read(never[0], 1)
    fsync(descriptor)

os.fsync = hang
sys.exit(main(sys.argv[1:]))
"""
WITHIN_S = 15


@pytest.mark.parametrize("grace", ["1h", "1s"])
def test_a_file_system_that_hangs_does_not_keep_a_forced_process(tmp_path: Path, grace: str) -> None:
    """An fsync on a dead file server never returns. Two signals, or the end of the grace time, force the end."""
    settings = {
        "source": "simulator", "sink.url": str(tmp_path / "data"), "simulator.rate": "60000", "batch.interval": "1s",
        "grace": grace, "health.port": "0", "log.format": "json",
    }  # fmt: skip
    flags = [flag for key, value in settings.items() for flag in ("--set", f"{key}={value}")]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen(
            [sys.executable, "-c", HUNG, "run", *flags], stdout=subprocess.PIPE, stderr=log, env=environment, text=True
        ) as process,
        contextlib.ExitStack() as stack,
    ):
        stack.callback(process.kill)
        assert process.stdout is not None
        assert process.stdout.readline() == "hung\n", (tmp_path / "log").read_text()
        process.send_signal(signal.SIGTERM)
        if grace == "1h":
            while "SIGTERM" not in (tmp_path / "log").read_text():
                time.sleep(0.01)
            process.send_signal(signal.SIGTERM)
        code = process.wait(WITHIN_S)
    assert code == 3, (tmp_path / "log").read_text()
