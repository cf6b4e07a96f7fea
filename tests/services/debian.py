"""Programs of Debian packages, unpacked below .cache: nothing is installed, so no package starts a service here.

The distribution's release pins the versions.
"""

import shutil
import subprocess
from pathlib import Path

from tests.services.environment import CACHE, locked
from tests.services.process import ServiceError


def ensure_package(name: str) -> Path:
    """The folder that stands for ``/`` of this package, fetched the first time. It needs no rights."""
    folder = CACHE / f"debian-{name}"
    with locked(folder.with_name(f"{folder.name}.lock")):
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            _fetch(name, folder)
            (folder / "complete").touch()
    return folder


def ensure_file(pattern: str, *packages: str) -> Path:
    """The file that matches, of the first of `packages` that has one: releases of Debian differ in that."""
    for name in packages:
        if found := sorted(ensure_package(name).glob(pattern)):
            return found[0]
    raise ServiceError(f"none of the packages {', '.join(packages)} has {pattern}")


def _fetch(name: str, folder: Path) -> None:
    folder.mkdir(parents=True)
    # Lists may be missing, as in an image, or so old that they name what the mirror has removed.
    if _run("apt-get", "download", name, cwd=folder) is not None:
        _run("apt-get", "update", "-qq", cwd=folder)
        if error := _run("apt-get", "download", name, cwd=folder):
            raise ServiceError(f"the package {name} cannot be fetched: {error}; run `apt-get update` as root")
    for package in folder.glob("*.deb"):
        if error := _run("dpkg-deb", "--extract", str(package), str(folder), cwd=folder):
            raise ServiceError(f"the package {name} cannot be unpacked: {error}")
        package.unlink()


def _run(*command: str, cwd: Path) -> str | None:
    """None, or why not."""
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise ServiceError(f"there is no {error.filename}: the tests' Prometheus comes from Debian packages") from None
    return None if done.returncode == 0 else done.stderr.strip()
