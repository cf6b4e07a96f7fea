"""A service as a child process: started until it answers, stopped, killed, never left behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_LAUNCHER = Path(__file__).with_name("die_with_parent.py")

# Linux sends the death signal when the *thread* that started the child ends, so one that lives as long as we do starts
# them all.
_starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="services")


#: Whether a service may be started now: in a test, only if it has the mark `services`, by which it can be left out.
services_allowed = True


def require_mark(name: str) -> None:
    """AssertionError in a test that starts a service and does not say so."""
    assert services_allowed, f"a test that starts {name} has the mark `services`"


def end_in_order() -> None:
    """Have SIGTERM end this process as Ctrl-C does: services are removed, and files that they keep elsewhere."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


class ServiceError(RuntimeError):
    """A service is missing or does not start; the message says what to do."""


class Process:
    """One child process that can be started again after it was stopped or killed."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.log = log
        self._command = [sys.executable, "-I", "-S", str(_LAUNCHER), str(os.getpid()), *command]
        self._environment = {**os.environ, **(environment or {})}
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether the process is alive."""
        return self._child is not None and self._child.poll() is None

    @property
    def pid(self) -> int:
        """Of the run that goes on, or was the last; ServiceError where it was never started."""
        if self._child is None:
            raise ServiceError(f"{self.name} was never started.")
        return self._child.pid

    def start(self, answers: Callable[[], bool], timeout_s: float = 60) -> None:
        """Start the process and wait until it answers."""
        if self.running:
            raise ServiceError(f"{self.name} runs already.")
        self._child = child = _starter.submit(self._spawn).result()
        deadline = time.monotonic() + timeout_s
        while not answers():
            if child.poll() is not None:
                raise ServiceError(f"{self.name} ended with code {child.returncode}; {self._tail()}")
            if time.monotonic() > deadline:
                self.kill()
                raise ServiceError(f"{self.name} does not answer after {timeout_s:.0f} s; {self._tail()}")
            time.sleep(0.05)

    def stop(self, timeout_s: float = 30) -> bool:
        """End the process in an orderly way, by force when that takes too long: then False."""
        if self._child is None:
            return True
        self._child.terminate()
        try:
            self._child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            return False
        return True

    def kill(self) -> None:
        """End the process at once (SIGKILL)."""
        if self._child is None:
            return
        self._child.kill()
        self._child.wait()

    def freeze(self) -> None:
        """Stop its clock (SIGSTOP), as a long pause of its host would."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on (SIGCONT)."""
        os.kill(self.pid, signal.SIGCONT)

    def _spawn(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            # A session of its own, because Ctrl-C at the terminal is for us to handle.
            return subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.log.parent,
                env=self._environment,
                start_new_session=True,
            )

    def _tail(self, lines: int = 40) -> str:
        text = self.log.read_text(errors="replace").splitlines()[-lines:]
        return "\n".join([f"the end of {self.log}:", *text])
