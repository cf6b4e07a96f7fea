"""The daemon as a child process: started, watched through its HTTP endpoints, stopped, killed, frozen."""

import asyncio
import http.client
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from ingestd.ops.readiness import PartitionStatus, Status
from tests.services.ports import HOST, free_port
from tests.services.process import Process
from tests.services.seaweed import REGION, S3Store

DEADLINE = 60.0  # seconds for whatever is waited for, unless a test says otherwise
_POLL = 0.05
_ANSWER = 5.0  # seconds for one answer; a process that is frozen gives none

# As short as a broker's defaults and ingestd's own checks allow: what a test waits for most is a session to run out.
_TIMES = {
    "kafka.session_timeout": "6s",
    "kafka.heartbeat_interval": "1s",
    "kafka.rebalance_timeout": "10s",
    "batch.interval": "1s",
}


def settings(bootstrap: str, store: S3Store, bucket: str, topic: str) -> dict[str, str]:
    """Keys for a daemon that brings `topic` into `bucket`; its group is named after the topic."""
    return {
        "kafka.bootstrap_servers": bootstrap,
        "kafka.topics": topic,
        "kafka.group_id": topic,
        "sink.url": f"s3://{bucket}",
        "s3.endpoint_url": store.endpoint,
        **_TIMES,
    }


def credentials(store: S3Store) -> dict[str, str]:
    """Environment variables with which a daemon may use `store`."""
    return {
        "AWS_ACCESS_KEY_ID": store.access_key,
        "AWS_SECRET_ACCESS_KEY": store.secret_key,
        "AWS_REGION": REGION,
    }


def write_credentials(file: Path, access_key: str, secret_key: str) -> None:
    """A file for AWS_SHARED_CREDENTIALS_FILE, in place of the one that is there."""
    text = f"[default]\naws_access_key_id = {access_key}\naws_secret_access_key = {secret_key}\n"
    file.with_suffix(".new").write_text(text)
    file.with_suffix(".new").rename(file)


class _Child(Process):
    @property
    def popen(self) -> subprocess.Popen[bytes]:
        assert self._child is not None, f"{self.name} was never started"
        return self._child

    def tail(self) -> str:
        return self._tail()


class Daemon:
    """One daemon that can be started again after it has ended; all of its runs share one log and one health port.

    `settings` are keys and values as for ``--set``, `environment` is added to ours, `program` is what Python runs.
    It is killed when we end.
    """

    def __init__(
        self,
        name: str,
        directory: Path,
        settings: Mapping[str, str],
        environment: Mapping[str, str],
        program: Sequence[str] = ("-m", "ingestd"),
    ) -> None:
        self.name = name
        self.log = directory / f"{name}.log"
        self._environment = environment
        self._program = program
        self._port = free_port()
        self._child = self._with(settings)

    def _with(self, settings: Mapping[str, str]) -> _Child:
        keys = {"kafka.client_id": self.name, **settings, "health.port": str(self._port)}
        flags = [part for key, value in keys.items() for part in ("--set", f"{key}={value}")]
        return _Child(self.name, [sys.executable, *self._program, *flags], self.log, self._environment)

    def configure(self, settings: Mapping[str, str]) -> None:
        """Other settings, from its next start on."""
        assert not self.running
        self._child = self._with(settings)

    # -- life

    def start(self) -> None:
        """Start the process, without waiting for anything."""
        self._child.start(lambda: True)

    async def start_ready(self, deadline: float = DEADLINE) -> None:
        """Start the process and wait until it owns at least one partition and is ready."""
        self.start()
        await self.until(lambda status: status.ready and status.assigned, deadline)

    async def stop(self, deadline: float = DEADLINE) -> int:
        """Ask it to end in an orderly way (SIGTERM); its exit code."""
        await self.until(lambda _: True)  # before it answers, a signal would just end it
        self.signal(signal.SIGTERM)
        return await self.ended(deadline)

    async def ended(self, deadline: float = DEADLINE) -> int:
        """Wait for its end; its exit code."""
        limit = time.monotonic() + deadline
        while (code := self._child.popen.poll()) is None:
            if time.monotonic() > limit:
                raise AssertionError(f"{self.name} has not ended after {deadline:g} s; {self._child.tail()}")
            await asyncio.sleep(_POLL)
        return code

    def kill(self) -> None:
        """End it at once (SIGKILL). Harmless where it does not run."""
        if self.running:
            self._child.kill()

    def freeze(self) -> None:
        """Stop its clock (SIGSTOP), as a long pause of its host would."""
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on (SIGCONT)."""
        self.signal(signal.SIGCONT)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._child.popen.send_signal(number)

    @property
    def pid(self) -> int:
        """Of the run that goes on, or was the last."""
        return self._child.popen.pid

    @property
    def running(self) -> bool:
        return self._child.running

    @property
    def address(self) -> str:
        """Host and port of its endpoints."""
        return f"{HOST}:{self._port}"

    # -- what it says

    async def until(self, condition: Callable[[Status], object], deadline: float = DEADLINE) -> Status:
        """Wait until its status meets `condition`; that status. AssertionError where it ends before that."""
        limit = time.monotonic() + deadline
        status: Status | None = None
        while True:
            if not self.running:
                raise AssertionError(f"{self.name} ended with {self._child.popen.returncode}; {self._child.tail()}")
            try:
                status = await self.status()
            except OSError:  # it does not listen yet
                pass
            else:
                if condition(status):
                    return status
            if time.monotonic() > limit:
                raise AssertionError(f"{self.name} is not there after {deadline:g} s: {status}; {self._child.tail()}")
            await asyncio.sleep(_POLL)

    async def status(self) -> Status:
        """What ``/status`` says. OSError where it does not answer."""
        return msgspec.json.decode((await self.get("/status"))[1], type=Status)

    async def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels; 0 where there are none."""
        text = (await self.get("/metrics"))[1].decode()
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        samples = re.findall(rf"^{re.escape(name)}(?:\{{(.*)\}})? (\S+)$", text, re.MULTILINE)
        return sum(float(value) for found, value in samples if all(label in found for label in wanted))

    async def get(self, path: str) -> tuple[int, bytes]:
        """The status code and the body of an answer. OSError where there is none."""
        return await asyncio.to_thread(self._get, path)

    def log_text(self) -> str:
        """All that its runs have logged."""
        return self.log.read_text(errors="replace")

    def _get(self, path: str) -> tuple[int, bytes]:
        try:
            with urllib.request.urlopen(f"http://{HOST}:{self._port}{path}", timeout=_ANSWER) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.code, refusal.read()
        except http.client.HTTPException as error:  # it ended in the middle of an answer
            raise ConnectionError(f"{self.name} gave no whole answer") from error


def partition(status: Status, number: int) -> PartitionStatus | None:
    """What a status says of one partition of the only topic; None where it is not ours."""
    return next((each for each in status.partitions if each.partition == number), None)
