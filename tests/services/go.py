"""Programs and files of Go modules, each of one version, checked against Go's database of checksums."""

import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.services.process import ServiceError

_CACHE = Path(__file__).parents[2] / ".cache"


def go_program(name: str, package: str, version: str) -> Path:
    """The program of a main package, built the first time, which may take minutes."""
    folder = _CACHE / f"{name}-{version}"
    with _locked(folder.with_name(f"{folder.name}.lock")):
        if not folder.exists():
            partial = _emptied(folder)
            _go("install", f"{package}@{version}", environment={"GOBIN": str(partial)})
            partial.rename(folder)
    return folder / name


def go_files(name: str, module: str, version: str, files: tuple[str, ...]) -> tuple[Path, ...]:
    """Files of a module's source, fetched the first time."""
    folder = _CACHE / f"{name}-{version}"
    with _locked(folder.with_name(f"{folder.name}.lock")):
        if not all((folder / Path(file).name).exists() for file in files):
            partial = _emptied(folder)
            partial.mkdir(parents=True)
            source = Path(json.loads(_go("mod", "download", "-json", f"{module}@{version}"))["Dir"])
            for file in files:
                shutil.copyfile(source / file, partial / Path(file).name)
            shutil.rmtree(folder, ignore_errors=True)
            partial.rename(folder)
    return tuple(folder / Path(file).name for file in files)


def _emptied(folder: Path) -> Path:
    # A folder gets its name when it is complete, so that what was interrupted is never taken for it.
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    return partial


def _go(*arguments: str, environment: dict[str, str] | None = None) -> str:
    if shutil.which("go") is None:
        raise ServiceError("The tests build Helm with Go, which is missing: install Go 1.26 or newer from your system")
    done = subprocess.run(
        ["go", *arguments], capture_output=True, text=True, check=False, env={**os.environ, **(environment or {})}
    )
    if done.returncode:
        raise ServiceError(f"go {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
