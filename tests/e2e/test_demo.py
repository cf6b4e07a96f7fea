"""First steps of a user: a demo in a terminal, simulated history, events produced into a topic."""

import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

import pytest

from tests.conftest import MakeTopic
from tests.e2e.conftest import MakeDaemon
from tests.e2e.daemon import DEADLINE
from tests.e2e.ledger import read
from tests.e2e.loader import DataObject, Row, in_directory
from tests.services.kafka import KafkaAddress, KafkaBroker
from tests.services.seaweed import S3Store

Broker = KafkaAddress | KafkaBroker

ROOT = Path(__file__).parents[2]
DEMO = ("--config", str(ROOT / "config" / "demo.toml"), "--source", "simulator", "--set", "health.port=0")
COMMAND = (sys.executable, "-m", "ingestd")

# Makes the terminal on stdin the controlling one, so that Ctrl-C works, and then runs the command.
_CONTROLLED = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""


class Terminal:
    """A program in a terminal of 80 columns, with its output."""

    def __init__(self, command: Sequence[str], directory: Path) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 80, 0, 0))
        environment = {
            name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES", "NO_COLOR"}
        }
        self._child = subprocess.Popen(
            [sys.executable, "-c", _CONTROLLED, *command],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=directory,
            env={**environment, "TERM": "xterm-256color"},
        )
        os.close(theirs)
        self._shown = b""

    def text(self) -> str:
        """The output without escape sequences."""
        plain = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", self._shown)
        return plain.decode(errors="replace").replace("\r\n", "\n").replace("\r", "")

    def until(self, words: str) -> None:
        """Reads until the output has `words`."""
        limit = time.monotonic() + DEADLINE
        while words not in self.text():
            assert self._read(limit), f"{words!r} was never shown:\n{self.text()}"

    def ended(self) -> int:
        """Reads to the end; returns the exit code."""
        limit = time.monotonic() + DEADLINE
        while self._read(limit):
            pass
        return self._child.wait(DEADLINE)

    def press(self, keys: bytes) -> None:
        os.write(self._ours, keys)

    def close(self) -> None:
        self._child.kill()
        self._child.wait()
        os.close(self._ours)

    def _read(self, limit: float) -> bool:
        """Reads some output; returns False at the end."""
        ready, _, _ = select.select([self._ours], [], [], max(0.0, limit - time.monotonic()))
        assert ready, f"no output and no end:\n{self.text()}"
        try:
            part = os.read(self._ours, 65536)
        except OSError:  # on Linux, when no process has the other side open
            return False
        self._shown += part
        return bool(part)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    made: list[Terminal] = []

    def start(*arguments: str) -> Terminal:
        made.append(Terminal([*COMMAND, *arguments], tmp_path))
        return made[-1]

    yield start
    for each in made:
        each.close()


def test_a_demo_shows_progress_and_a_summary(terminal: Callable[..., Terminal], tmp_path: Path) -> None:
    shown = terminal(*DEMO, "--duration", "5s", "--sink", "data", "--set", "simulator.malformed=0.3")

    assert shown.ended() == 0

    table, _, summary = shown.text().rpartition("ingestd ran for 0:05.")
    assert len(set(re.findall(r"running (0:0\d) of 0:05, 0:0\d left", table))) > 1, "the table did not move"
    for words in ("simulator -> ./data", "marketing_events[0]", "web_visit", "a minute", "age of 10s"):
        assert words in table
    counts = re.search(r"consumed +(\d+) records = (\d+) landed \+ (\d+) quarantined\n", summary)
    assert counts, shown.text()
    consumed, landed, quarantined = map(int, counts.groups())
    assert consumed == landed + quarantined
    assert consumed <= 60
    assert sum(len(it.rows) for it in in_directory(tmp_path / "data")) == landed
    assert "in ./data" in summary
    events, rejects = pasted(summary, "events", tmp_path), pasted(summary, "quarantine", tmp_path)
    assert [row["source_topic"] for row in events] == ["marketing_events"] * 3
    assert all(row["event_id"] for row in events)
    assert all(row["reason"] for row in rejects)
    assert rejects


def pasted(summary: str, what: str, directory: Path) -> list[dict[str, object]]:
    """Runs the command that the summary suggests; returns the lines that it prints."""
    match = re.search(rf"Look at the {what}:\n  (.+)\n", summary)
    assert match, summary
    done = subprocess.run(["bash", "-c", match[1]], cwd=directory, capture_output=True, text=True, check=True)
    assert not done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_ctrl_c_ends_a_demo_with_everything_landed(terminal: Callable[..., Terminal], tmp_path: Path) -> None:
    shown = terminal(*DEMO, "--sink", "data", "--rate", "6000")
    shown.until("marketing_events[0]")
    shown.until("web_visit")

    shown.press(b"\x03")

    assert shown.ended() == 0
    summary = shown.text().rpartition("ingestd ran for")[2]
    assert "in flight" not in summary
    assert "Look at the events:" in summary
    assert "Traceback" not in shown.text()
    assert in_directory(tmp_path / "data")


def test_without_a_terminal_there_are_only_log_lines(tmp_path: Path) -> None:
    done = run(*DEMO, "--duration", "3s", "--sink", "data", directory=tmp_path)

    assert done.returncode == 0
    assert not done.stdout
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert {line["level"] for line in lines} == {"INFO"}
    assert lines[-1]["message"] == "stopped"
    assert lines[-1]["consumed"] == lines[-1]["landed"] + lines[-1]["quarantined"] > 0


def test_history_is_spread_over_its_days_and_ends_by_itself(tmp_path: Path) -> None:
    done = run(*DEMO, "--history", "2d", "--rate", "10", "--sink", "data", directory=tmp_path)

    assert done.returncode == 0
    objects = in_directory(tmp_path / "data")
    last = json.loads(done.stderr.splitlines()[-1])
    assert sum(len(it.rows) for it in objects) == last["landed"]
    assert last["consumed"] > 10_000
    days = {"/".join(it.key.split("/")[1:4]) for it in objects}
    received = {datetime.fromisoformat(row["received_at"]).strftime("year=%Y/month=%m/day=%d") for row in rows(objects)}
    # Two at least: today may have too few for an object that begins today.
    assert len(days) >= 2
    assert days <= received


def rows(objects: Sequence[DataObject]) -> Iterator[Row]:
    for each in objects:
        yield from each.rows


async def test_events_that_are_produced_are_the_events_that_land(
    kafka: Broker,
    s3: S3Store,
    bucket: str,
    make_topic: MakeTopic,
    make_daemon: MakeDaemon,
    *,
    tmp_path: Path,
) -> None:
    topic = await make_topic(3)
    arguments = ("--rate", "60000", "--duration", "2s", "--bootstrap-servers", kafka.bootstrap)
    done = run("produce", "--topic", topic, *arguments, directory=tmp_path)

    assert done.returncode == 0
    words = json.loads(done.stderr.splitlines()[-1])["message"]
    match = re.fullmatch(rf"wrote (\d+) events into {topic}", words)
    assert match, words
    total = int(match[1])
    assert 0 < total <= 2_500
    daemon = make_daemon("a", topic)
    await daemon.start_ready()
    await daemon.until(lambda status: status.totals.landed == total)
    assert await daemon.stop() == 0

    ledger = read(s3, bucket, topic)
    assert ledger.rows == len(set(ledger.event_ids)) == total
    assert set(ledger.chains) == {0, 1, 2}, "every partition has events"
    ledger.check({number: range(ledger.boundaries(number)[-1]) for number in range(3)})


def test_produce_names_a_topic_that_does_not_exist(kafka: Broker, tmp_path: Path) -> None:
    done = run("produce", "--topic", "no_such_topic", "--bootstrap-servers", kafka.bootstrap, directory=tmp_path)

    assert done.returncode == 1
    assert "topic no_such_topic does not exist" in json.loads(done.stderr.splitlines()[-1])["message"]


def run(*arguments: str, directory: Path) -> "subprocess.CompletedProcess[str]":
    """Runs ingestd without a terminal."""
    return subprocess.run(
        [*COMMAND, *arguments], cwd=directory, capture_output=True, text=True, timeout=DEADLINE, check=False
    )
