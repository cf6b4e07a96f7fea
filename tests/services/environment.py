"""Virtual environments for services whose packages do not go together with ours."""

import fcntl
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.services.process import ServiceError

CACHE = Path(__file__).parents[2] / ".cache"


def ensure_environment(name: str, requirements: Path) -> Path:
    """An environment with what `requirements` lists, made the first time."""
    stamp = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()[:12]
    folder = CACHE / f"{name}-{stamp}"
    with locked(folder.with_name(f"{folder.name}.lock")):
        if not (folder / "complete").exists():
            _make(folder, requirements)
            (folder / "complete").touch()
    return folder


def _make(folder: Path, requirements: Path) -> None:
    # It is made where it stays: its programs contain its path. Until `complete` is there, it counts for nothing.
    shutil.rmtree(folder, ignore_errors=True)
    python = folder / "bin" / "python"
    for command in (
        [sys.executable, "-m", "venv", str(folder)],
        [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "-r", str(requirements)],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ServiceError(f"{requirements.parent.name} cannot be installed:\n{done.stdout}{done.stderr}")


def ensure_folder(name: str, fill: Callable[[Path], None]) -> Path:
    """A folder below .cache, filled the first time."""
    folder = CACHE / name
    with locked(folder.with_name(f"{name}.lock")):
        if not folder.exists():
            # It gets its name when it is complete, so that what was interrupted is never taken for it.
            partial = folder.with_name(f"{name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            fill(partial)
            partial.rename(folder)
    return folder


@contextmanager
def locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
