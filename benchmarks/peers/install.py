"""Puts the peers beside our own environment, below .cache, and says of each that cannot be there why."""

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.services.environment import locked
from tests.services.kafka_program import kafka_version

_HERE = Path(__file__).parent
_CACHE = _HERE.parents[1] / ".cache" / "peers"
_WITHIN_S = 3600  # of one command: compiling takes minutes, and many of them on a busy machine


class Missing(Exception):
    """A peer that cannot be had; the message is the reason."""


class Tools(NamedTuple):
    """What peers run on. `connect_plugins` and `vector` are in no package registry, so the user names them."""

    connect_plugins: Path | None = None
    vector: Path | None = None

    def python(self) -> str:
        """An interpreter that has the peers which are Python packages."""
        return str(_once("python", [_HERE / "requirements.txt"], _make_python) / "bin" / "python")

    def bento(self) -> str:
        """Bento's program, with the components that we need."""
        return str(_once("bento", [_HERE / "bento" / name for name in ("go.mod", "main.go")], _make_bento) / "bento")

    def connect(self) -> str:
        """The class path of Kafka Connect's worker."""
        if self.connect_plugins is None:
            raise Missing("its S3 sinks are in no package registry: name a directory that has one, --connect-plugins")
        return f"{_once('connect', [_HERE / 'connect' / 'pom.xml'], _make_connect)}/*"

    def vector_program(self) -> str:
        """Vector's program."""
        if self.vector is None:
            raise Missing("it is in no package registry: name its program, --vector")
        return str(self.vector)


def _once(name: str, sources: Sequence[Path], make: Callable[[Path], None]) -> Path:
    """The directory that `make` fills; made again where the sources have changed. Other processes wait for it."""
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]
    place = _CACHE / f"{name}-{digest}"
    done = place / ".done"
    with locked(place.with_name(f"{place.name}.lock")):
        if not done.exists():
            print(f"Installing {name} into {place}, which may take some minutes ...", flush=True)
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(parents=True)
            make(place)
            done.touch()
    return place


def _make_python(place: Path) -> None:
    _run([sys.executable, "-m", "venv", str(place)])
    _run([str(place / "bin" / "pip"), "install", "--quiet", "--requirement", str(_HERE / "requirements.txt")])


def _make_bento(place: Path) -> None:
    if shutil.which("go") is None:
        raise Missing("Go is not installed")
    for name in ("go.mod", "main.go"):
        shutil.copy(_HERE / "bento" / name, place)
    # Bento's own go.mod chooses the version of everything else, so that a list of ours would only repeat it.
    _run(["go", "build", "-mod=mod", "-trimpath", "-o", "bento", "."], place)


def _make_connect(place: Path) -> None:
    if shutil.which("mvn") is None:
        raise Missing("Maven is not installed")
    goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={place}"]
    version = f"-Dkafka.version={kafka_version()}"
    _run(["mvn", "-q", "-B", "-f", str(_HERE / "connect" / "pom.xml"), version, *goal])


def _run(command: Sequence[str], directory: Path | None = None) -> None:
    name = f"`{Path(command[0]).name} {command[1]}`"
    try:
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False, timeout=_WITHIN_S)
    except subprocess.TimeoutExpired:
        raise Missing(f"{name} has not ended after {_WITHIN_S} s") from None
    if done.returncode:
        last = (done.stdout + done.stderr).strip().splitlines()[-1:]
        raise Missing(f"{name} failed: {''.join(last)}")
