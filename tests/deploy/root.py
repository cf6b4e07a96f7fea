"""A clean root directory to run programs in: no container engine and no systemd runs here, the kernel does."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.services.environment import CACHE
from tests.services.process import Process, ServiceError

_ENTER = Path(__file__).with_name("enter.py")
#: What a base image has: a system's libraries and Python, in their usual places.
_LINKS = {"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64"}
_BASE = [("/usr", "/usr", False), ("/etc/ssl", "/etc/ssl", False)]
_SYSTEM = Path("/usr")
_NETWORK = [(f"/etc/{name}", f"/etc/{name}", False) for name in ("resolv.conf", "hosts", "nsswitch.conf")]
_UNCONFINED = {
    "user": 0,
    "read_only": False,
    "directory": "/",
    "calls": [],
    "no_exec_gain": False,
    "proc": "",
    "network": True,
}
PATH = "/usr/local/bin:/usr/bin:/bin"


class Root:
    """Below `folder`: nothing but the base, and what was put there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for name, target in _LINKS.items():
            if not (folder / name).is_symlink():
                (folder / name).symlink_to(target)

    def command(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        binds: Sequence[tuple[Path, str, bool]] = (),
        **confinement: Any,
    ) -> list[str]:
        """The command line that runs `command` in here, as the first process of a PID namespace.

        `binds` are folders or files outside, where they are seen, and whether they may be written. `confinement`:
        `user` (a number; else root), `read_only`, `directory`, `calls` (names of the system calls that are allowed),
        `no_exec_gain` (as MemoryDenyWriteExecute), `proc` (mount options), `network` (False: a loopback only).
        """
        if os.geteuid():
            raise ServiceError("a clean root directory is entered by root only: run these tests as root")
        spec = {
            "root": str(self.folder),
            "binds": [
                *_BASE,
                (str(_python()), "/usr/local", False),
                *_NETWORK,
                *((str(source), target, writable) for source, target, writable in binds),
            ],
            "command": list(command),
            # An image tells its linker of this folder; another Python's library may be in the system's.
            "environment": {"PATH": PATH, "LD_LIBRARY_PATH": "/usr/local/lib", **environment},
            **_UNCONFINED,
            **confinement,
        }
        namespaces = ["--mount", "--pid", "--fork", "--kill-child", *([] if spec["network"] else ["--net"])]
        return [_unshare(), *namespaces, "--", sys.executable, "-I", "-S", str(_ENTER), json.dumps(spec)]

    def run(self, command: Sequence[str], environment: Mapping[str, str], **rest: Any) -> str:
        """Run it to its end, and give what it printed; ServiceError where it failed."""
        done = subprocess.run(
            self.command(command, environment, **rest), capture_output=True, text=True, check=False, timeout=300
        )
        if done.returncode:
            raise ServiceError(f"{' '.join(command)} failed with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout


class Confined(Process):
    """A process in a clean root; signals reach it, and not what started it."""

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.inner, number)

    @property
    def inner(self) -> int:
        """Its number, seen from outside. ProcessLookupError where it is not there yet, or no more."""
        assert self._child is not None
        children = Path(f"/proc/{self._child.pid}/task/{self._child.pid}/children").read_text().split()
        if not children:
            raise ProcessLookupError(f"{self.name} has no process")
        return int(children[0])

    def ended(self, timeout: float = 60) -> int:
        """Wait for its end; its exit code."""
        assert self._child is not None
        return self._child.wait(timeout)


def _python() -> Path:
    """What an image has at /usr/local: Python, by all its names, of which a system's own may lack ``python``."""
    if Path(sys.base_prefix) != _SYSTEM:
        return Path(sys.base_prefix)
    program = Path(sys._base_executable).resolve()  # type: ignore[attr-defined]
    folder = CACHE / f"system-{program.name}"
    (folder / "bin").mkdir(parents=True, exist_ok=True)
    for name in ("python", "python3"):
        with suppress(FileExistsError):
            (folder / "bin" / name).symlink_to(program)
    return folder


def _unshare() -> str:
    if not (found := shutil.which("unshare")):
        raise ServiceError("there is no unshare: install the package util-linux")
    return found
