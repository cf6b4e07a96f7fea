"""Does what the Dockerfile says, in clean root directories, where no container engine is.

The base image is a stand-in (this machine's libraries and Python, read-only), and layers, registries and BuildKit's own
behaviour are not tried.
"""

import hashlib
import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.deploy.root import PATH, Root
from tests.services.environment import CACHE, locked

CONTEXT = Path(__file__).parents[2]
DOCKERFILE = CONTEXT / "deploy" / "container" / "Dockerfile"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
_OURS = re.compile(r"(PIP|SSL)_|https?_proxy", re.IGNORECASE)
_ARGUMENTS = {"INGESTD_COMMIT": COMMIT, "SOURCE_DATE_EPOCH": "1795392000"}


@dataclass(frozen=True)
class Step:
    """One instruction: its word, its flags such as ``--from=build``, and the rest of the line."""

    word: str
    flags: dict[str, str]
    rest: str


@dataclass
class Stage:
    """A stage, and what its instructions have set."""

    name: str
    base: str
    steps: list[Step] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    directory: str = "/"
    user: int = 0
    entrypoint: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)


def stages() -> dict[str, Stage]:
    """The Dockerfile's stages in order; the last, which has no name, is "final"."""
    found: dict[str, Stage] = {}
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE)
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        if not line.strip():
            continue
        word, _, rest = line.partition(" ")
        flags: dict[str, str] = {}
        while option := re.match(r"--([a-z-]+)=(\S+)\s+", rest):
            flags[option[1]], rest = option[2], rest[option.end() :]
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            stage = Stage(name or "final", base)
            found[stage.name] = stage
        else:
            stage.steps.append(Step(word, flags, rest.strip()))
    return found


def sources(stage: Stage) -> list[Path]:
    """Each file that the stage takes from outside."""
    named = [
        CONTEXT / source
        for step in stage.steps
        if step.word == "COPY" and "from" not in step.flags
        for source in step.rest.split()[:-1]
    ]
    files = [file for path in named for file in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    return [file for file in files if file.is_file() and "__pycache__" not in file.parts]


@dataclass
class Image:
    """The last stage: its root directory, and how its process is started."""

    root: Root
    stage: Stage

    @property
    def installed(self) -> Path:
        """What is at /opt/ingestd in it."""
        return self.root.folder / "opt" / "ingestd"


def build() -> Image:
    """The image of the tree as it is; a stage that has not changed is kept. ServiceError where a step fails."""
    folders: dict[str, Path] = {}
    made: dict[str, Stage] = {}
    with locked(CACHE / "image.lock"):
        for stage in stages().values():
            folder = CACHE / f"image-{stage.name}-{_digest(stage, folders)}"
            fresh = not (folder / "complete").exists()
            if fresh:
                for old in CACHE.glob(f"image-{stage.name}-*"):
                    shutil.rmtree(old)
                if stage.base in folders:
                    shutil.copytree(folders[stage.base] / "root", folder / "root", symlinks=True)
            _Builder(stage, made.get(stage.base), folder / "root", folders, run=fresh).build()
            (folder / "complete").touch()
            folders[stage.name], made[stage.name] = folder, stage
    return Image(Root(folders["final"] / "root"), made["final"])


def _digest(stage: Stage, before: Mapping[str, Path]) -> str:
    """Of all that the stage is made of."""
    parts = [sys.version, repr(stage.steps), *(path.name for path in before.values())]
    contents = [f"{file}\0".encode() + file.read_bytes() for file in sources(stage)]
    return hashlib.sha256(b"\0".join([*(part.encode() for part in parts), *contents])).hexdigest()[:12]


class _Builder:
    """Takes a stage's steps in order; without `run`, only those that say how its process is started."""

    def __init__(self, stage: Stage, base: Stage | None, root: Path, folders: Mapping[str, Path], *, run: bool) -> None:
        self._stage = stage
        self._folders = folders
        self._root = Root(root)
        self._run_steps = run
        stage.environment = dict(base.environment) if base else {"PATH": PATH}
        stage.directory = base.directory if base else "/"

    def build(self) -> None:
        for step in self._stage.steps:
            getattr(self, f"_{step.word.lower()}")(step)

    def _run(self, step: Step) -> None:
        if not self._run_steps:
            return
        cache = CACHE / "pip"
        cache.mkdir(parents=True, exist_ok=True)
        # The machine's own way to its package index.
        outside = {key: value for key, value in os.environ.items() if _OURS.match(key)}
        mounts = re.findall(r"type=cache,target=(\S+)", step.flags.get("mount", ""))
        self._root.run(
            ["/bin/sh", "-c", step.rest],
            {"HOME": "/root", **outside, **self._stage.environment},
            binds=[(cache, target, True) for target in mounts],
            directory=self._stage.directory,
        )

    def _copy(self, step: Step) -> None:
        if not self._run_steps:
            return
        *names, target = step.rest.split()
        outside = "from" not in step.flags
        origin = CONTEXT if outside else self._folders[step.flags["from"]] / "root"
        place = self._inside(target)
        for name in names:
            source = origin / name.lstrip("/")
            if source.is_dir():
                shutil.copytree(
                    source,
                    place,
                    symlinks=True,
                    dirs_exist_ok=True,
                    ignore=shutil.ignore_patterns("__pycache__") if outside else None,
                )
            else:
                place.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, place)

    def _env(self, step: Step) -> None:
        for pair in shlex.split(step.rest):
            key, _, value = pair.partition("=")
            self._stage.environment[key] = value.replace("$PATH", self._stage.environment["PATH"])

    def _arg(self, step: Step) -> None:
        self._stage.environment.update({name: _ARGUMENTS[name] for name in step.rest.split()})

    def _workdir(self, step: Step) -> None:
        self._stage.directory = step.rest
        self._inside(".").mkdir(parents=True, exist_ok=True)

    def _user(self, step: Step) -> None:
        self._stage.user = int(step.rest.partition(":")[0])

    def _entrypoint(self, step: Step) -> None:
        self._stage.entrypoint = json.loads(step.rest)

    def _healthcheck(self, step: Step) -> None:
        self._stage.health = json.loads(step.rest.partition("CMD ")[2])

    def _label(self, step: Step) -> None:
        """Says something of the image, and does nothing."""

    _expose = _label

    def _inside(self, path: str) -> Path:
        return self._root.folder / (Path(self._stage.directory) / path).relative_to("/")
