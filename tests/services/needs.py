"""What a target of make needs of the machine, told in one sentence before anything is fetched. Run by any Python 3.

It stands on the standard library: there is no environment yet. ``python3 needs.py TARGET [--install]``; with --install,
missing packages are installed where apt is there and may be used without a question.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Callable, NamedTuple  # noqa: UP035 - an older Python must get as far as the sentence about its age

OLDEST_PYTHON = (3, 11)
OLDEST_JAVA = 17
_CACHE = Path(__file__).resolve().parents[2] / ".cache"
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
_DEPLOY = "test-deploy"


class Need(NamedTuple):
    """What must be there, and the packages that bring it, by package manager."""

    what: str
    is_there: Callable[[], bool]
    packages: dict[str, str]


class Manager(NamedTuple):
    """A package manager: its program, and the command that comes before the packages."""

    program: str
    command: str


MANAGERS = (
    Manager("apt-get", "sudo apt-get update && sudo apt-get install -y"),
    Manager("dnf", "sudo dnf install -y"),
    Manager("zypper", "sudo zypper install -y"),
    Manager("pacman", "sudo pacman -S --noconfirm"),
    Manager("brew", "brew install"),
)


def java_is_there() -> bool:
    """Whether `java` is new enough for the broker."""
    if shutil.which("java") is None:
        return False
    told = subprocess.run(["java", "-XX:-UsePerfData", "-version"], capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(\d+)', told)
    return version is not None and int(version[1]) >= OLDEST_JAVA


def maven_is_there() -> bool:
    """Whether Kafka and ElasticMQ can be fetched, or are here already."""
    here = (any(folder.is_dir() for folder in _CACHE.glob(f"{name}-*[0-9]")) for name in ("kafka", "elasticmq"))
    return shutil.which("mvn") is not None or all(here)


def _has_library(name: str) -> bool:
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def _everywhere(package: str) -> dict[str, str]:
    return {manager.program: package for manager in MANAGERS}


_VENV = Need(
    "Python's module venv", lambda: importlib.util.find_spec("ensurepip") is not None, {"apt-get": "python3-venv"}
)
_GIT = Need("git", lambda: shutil.which("git") is not None, _everywhere("git"))
_JAVA = Need(
    f"Java {OLDEST_JAVA} or newer",
    java_is_there,
    {
        "apt-get": "default-jre-headless",
        "dnf": "java-latest-openjdk-headless",
        "zypper": "java-21-openjdk-headless",
        "pacman": "jre-openjdk-headless",
        "brew": "openjdk",
    },
)
_MAVEN = Need("Maven", maven_is_there, _everywhere("maven"))
_CHROME = Need("Chromium", lambda: any(map(shutil.which, CHROMIUM)), {"apt-get": "chromium"})
_ATOMIC = Need("libatomic", lambda: _has_library("libatomic.so.1"), {"apt-get": "libatomic1"})
_SECCOMP = Need("libseccomp", lambda: _has_library("libseccomp.so.2"), {"apt-get": "libseccomp2"})
_UNSHARE = Need("util-linux", lambda: shutil.which("nsenter") is not None, {"apt-get": "util-linux"})

NEEDS = {
    "setup": (_VENV,),
    "test": (_VENV, _GIT, _JAVA, _MAVEN),
    _DEPLOY: (_VENV, _GIT, _JAVA, _MAVEN, _CHROME, _ATOMIC, _SECCOMP, _UNSHARE),
}


def main() -> None:
    """Say what is missing, and exit with 1; or nothing."""
    target, install = sys.argv[1], "--install" in sys.argv[2:]
    name = "make" if target == "setup" else f"make {target}"
    if problem := _wrong_python(name) or (_wrong_machine() if target == _DEPLOY else None):
        sys.exit(problem)
    missing = [need for need in NEEDS[target] if not need.is_there()]
    if missing and install and (prefix := _apt_prefix()) is not None:
        _install(prefix, missing)
        missing = [need for need in missing if not need.is_there()]
    if missing:
        sys.exit(sentence(name, missing, next((it for it in MANAGERS if shutil.which(it.program)), None)))


def sentence(name: str, missing: list[Need], manager: Manager | None) -> str:
    """All that is missing, and the one command that brings it."""
    wanted = ", ".join(need.what for need in missing)
    packages = [need.packages.get(manager.program, "") for need in missing] if manager else [""]
    if not manager or not all(packages):
        return f"{name} needs {wanted}: install what is named here, and run it again."
    return f"{name} needs {wanted}: run `{manager.command} {' '.join(packages)}`, and run it again."


def _wrong_python(name: str) -> str | None:
    if sys.version_info >= OLDEST_PYTHON:
        return None
    oldest, this = (".".join(map(str, version[:2])) for version in (OLDEST_PYTHON, sys.version_info))
    return f'{name} needs Python {oldest} or newer, and this is {this}: run "{name} PYTHON=/path/to/python3".'


def _wrong_machine() -> str | None:
    """Why no package helps."""
    if sys.platform != "linux" or shutil.which("apt-get") is None:
        return f"make {_DEPLOY} needs Debian or Ubuntu: it runs programs of their packages."
    if os.geteuid() != 0:
        return f"make {_DEPLOY} needs root, which runs the image and the units in namespaces: run it as root."
    namespaces = ["unshare", "--mount", "--pid", "--fork", "--net", "true"]
    if shutil.which("unshare") and subprocess.run(namespaces, capture_output=True, check=False).returncode:
        return f"make {_DEPLOY} needs to make namespaces, which this container may not: give it CAP_SYS_ADMIN."
    return None


def _apt_prefix() -> list[str] | None:
    """What stands before apt-get; None where apt is not there, or would ask for a password."""
    if shutil.which("apt-get") is None:
        return None
    if os.geteuid() == 0:
        return []
    sudo = ["sudo", "--non-interactive"]
    if shutil.which("sudo") and subprocess.run([*sudo, "true"], capture_output=True, check=False).returncode == 0:
        return sudo
    return None


def _install(prefix: list[str], missing: list[Need]) -> None:
    packages = [need.packages["apt-get"] for need in missing]
    print(f"Installing with apt: {' '.join(packages)} ...", flush=True)
    quiet = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq"]
    # Without newer lists those that are here may do, so only the second must succeed.
    for command in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
        done = subprocess.run(
            [*prefix, *quiet, *command], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
    if done.returncode:
        print(f"{done.stdout}{done.stderr}".strip(), file=sys.stderr)


if __name__ == "__main__":
    main()
