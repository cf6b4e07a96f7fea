"""A release is reproducible from its commit, and runs with nothing but the wheel and the lock file installed."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import ingestd
from ingestd.config.examples import NAMES
from ingestd.ops.build_info import BuildInfo, read_build_info, version_line
from tests.e2e.loader import in_directory

REPOSITORY = Path(__file__).parents[2]
RELEASE = REPOSITORY / "deploy" / "release"
SOURCES = (
    "ingestd",
    "config",
    "docs",
    "deploy",
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "CHANGELOG.md",
    ".gitignore",
)
COMMITTED = "2026-11-23T08:00:00Z"
LOCKED_EXTRAS = {"snowflake", "collect", "registry"}
LOCKS = ("requirements.txt", "build-requirements.txt")


@dataclass(frozen=True)
class Release:
    """A folder with the files of a release."""

    folder: Path
    commit: str

    @property
    def wheel(self) -> Path:
        return self.folder / f"ingestd-{ingestd.__version__}-py3-none-any.whl"

    @property
    def sdist(self) -> Path:
        return self.folder / f"ingestd-{ingestd.__version__}.tar.gz"

    @property
    def bill(self) -> Path:
        return self.folder / f"ingestd-{ingestd.__version__}.cdx.json"


def run(*command: str | Path, cwd: Path | None = None, **environment: str) -> str:
    """Run a command that must succeed; returns its output."""
    done = attempt(*command, cwd=cwd, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def attempt(*command: str | Path, cwd: Path | None = None, **environment: str) -> "subprocess.CompletedProcess[str]":
    programs = {"PATH": f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}"}
    return subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=cwd, env={**os.environ, **programs, **environment}
    )


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new repository with one commit: the tree as it is now."""
    folder = tmp_path_factory.mktemp("clone")
    for name in SOURCES:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".terraform"))
        else:
            shutil.copy(source, folder / name)
    git = ("git", "-c", "user.name=test", "-c", "user.email=test@example.com")
    run(*git, "init", "--quiet", cwd=folder)
    run(*git, "add", ".", cwd=folder)
    times = {"GIT_AUTHOR_DATE": COMMITTED, "GIT_COMMITTER_DATE": COMMITTED}
    run(*git, "commit", "--quiet", "--message=all", cwd=folder, **times)
    return folder


@pytest.fixture(scope="module")
def release(clone: Path) -> Release:
    commit = run("git", "rev-parse", "HEAD", cwd=clone).strip()
    run(clone / "deploy/release/build.sh", clone / "dist")
    return Release(clone / "dist", commit)


@pytest.fixture(scope="module")
def clean(release: Release, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the locked versions and the wheel, and nothing else: no extra `demo`."""
    folder = tmp_path_factory.mktemp("clean") / "venv"
    run("uv", "venv", "--quiet", "--python", sys.executable, folder)
    install = ("uv", "pip", "install", "--quiet", "--python", folder)
    run(*install, "--require-hashes", "--requirement", RELEASE / "requirements.txt")
    run(*install, "--no-deps", release.wheel)
    return folder


# -- what is built


def test_the_same_commit_makes_the_same_bytes_elsewhere(release: Release, clone: Path, tmp_path: Path) -> None:
    run("git", "clone", "--quiet", clone, tmp_path / "elsewhere")
    run(tmp_path / "elsewhere/deploy/release/build.sh", tmp_path / "dist")
    sums = "SHA256SUMS"
    assert (tmp_path / "dist" / sums).read_text() == (release.folder / sums).read_text()
    assert len((release.folder / sums).read_text().splitlines()) == 3
    run("sha256sum", "--check", sums, cwd=tmp_path / "dist")


def test_the_wheel_has_every_file_of_the_package_the_examples_and_nothing_else(release: Release) -> None:
    package = REPOSITORY / "ingestd"
    ours = {file.relative_to(REPOSITORY).as_posix() for file in package.rglob("*") if file.is_file()}
    ours = {name for name in ours if "__pycache__" not in name} | {"ingestd/build.json"}
    examples = REPOSITORY / "config"
    ours |= {f"ingestd/config/example_files/{it.relative_to(examples)}" for it in examples.rglob("*.toml")}
    with zipfile.ZipFile(release.wheel) as wheel:
        assert {name for name in wheel.namelist() if ".dist-info/" not in name} == ours


def test_the_sdist_has_what_an_administrator_deploys(release: Release) -> None:
    with tarfile.open(release.sdist) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {"config/production.toml", "deploy/systemd/ingestd.service", "deploy/container/Dockerfile"} <= names
    assert {"deploy/release/requirements.txt", "CHANGELOG.md", "LICENSE", "ingestd/build.json"} <= names
    assert not [name for name in names if name.startswith(("tests/", ".venv/", ".cache/"))]


def test_a_wheel_of_a_modified_tree_says_so(clone: Path, tmp_path: Path) -> None:
    run("git", "clone", "--quiet", clone, tmp_path / "changed")
    (tmp_path / "changed/ingestd/more.py").touch()
    constrained = ("--build-constraint", RELEASE / "build-requirements.txt", "--require-hashes")
    run("uv", "build", "--wheel", "--out-dir", tmp_path, *constrained, cwd=tmp_path / "changed")
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        assert json.loads(wheel.read("ingestd/build.json"))["commit"].endswith("-modified")


# -- what is installed


def test_the_version_names_the_commit(release: Release, clean: Path) -> None:
    python = sys.version.split()[0]
    printed = run(clean / "bin/ingestd", "--version")
    assert printed == f"ingestd {ingestd.__version__} (commit {release.commit}, {COMMITTED}; Python {python})\n"


def test_a_source_tree_says_that_it_is_one() -> None:
    assert read_build_info() is None
    assert re.fullmatch(rf"ingestd {ingestd.__version__} \(source tree; Python 3\.\d+\.\d+\S*\)", version_line(None))
    assert "commit abc, unknown;" in version_line(BuildInfo(commit="abc", time="unknown"))


@pytest.mark.parametrize("name", NAMES)
def test_the_installed_wheel_prints_the_shipped_configuration(clean: Path, tmp_path: Path, name: str) -> None:
    printed = run(clean / "bin/ingestd", "config", "--example", name, cwd=tmp_path)
    assert printed == (REPOSITORY / "config" / f"{name}.toml").read_text()


def test_without_the_extra_the_warehouse_names_what_to_install(clean: Path, tmp_path: Path) -> None:
    for command in (["--source", "simulator", "--demo", "--sink", "data"], ["query", "SELECT 1"]):
        done = attempt(clean / "bin/ingestd", *command, cwd=tmp_path)
        assert done.returncode == 2
        assert "pip install duckdb sqlglot segno" in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_without_the_extra_the_live_page_works(clean: Path, tmp_path: Path) -> None:
    flags = ["--source", "simulator", "--rate", "60000", "--duration", "1s", "--set", "health.port=0"]
    done = attempt(clean / "bin/ingestd", *flags, "--set", "page.enabled=true", "--sink", "data", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "live page at http://" in done.stderr


def test_it_runs_with_nothing_but_the_lock_and_the_wheel(clean: Path, tmp_path: Path) -> None:
    run("uv", "pip", "check", "--python", clean)
    flags = ["--source", "simulator", "--rate", "60000", "--duration", "2s", "--set", "health.port=0"]
    run(clean / "bin/ingestd", *flags, "--sink", tmp_path / "data", cwd=tmp_path)
    assert sum(len(it.rows) for it in in_directory(tmp_path / "data")) > 0


def test_every_extra_that_a_message_names_exists() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    sources = (file.read_text() for file in (REPOSITORY / "ingestd").rglob("*.py"))
    named = {name for source in sources for name in re.findall(r"ingestd\[(\w+)\]", source)}
    assert named <= set(project["optional-dependencies"]) == {"collect", "demo", "registry", "snowflake"}


# -- the bill of materials


def test_the_bill_of_materials_lists_what_the_lock_has(release: Release) -> None:
    bill = json.loads(release.bill.read_text())
    assert (bill["bomFormat"], bill["metadata"]["component"]["version"]) == ("CycloneDX", ingestd.__version__)
    listed = {(canonicalize_name(it["name"]), it["version"]) for it in bill["components"]}
    assert listed == {(name, version) for name, version in locked("requirements.txt").items() if here(name)}
    assert all(it["purl"].startswith("pkg:pypi/") for it in bill["components"])
    assert str(release.folder.parent) not in release.bill.read_text()


# -- the lock


def test_every_locked_version_is_one_that_the_project_takes() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(text for name in LOCKED_EXTRAS for text in project["optional-dependencies"][name]),
    ]
    versions = locked("requirements.txt")
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)]), requirement


@pytest.mark.parametrize("lock", LOCKS)
def test_everything_locked_has_hashes_and_names_no_index(lock: str) -> None:
    text = (RELEASE / lock).read_text()
    assert "://" not in text
    assert not [line for line in text.splitlines() if line.startswith("-")]
    entries = re.split(r"\n(?=\S)", text.strip())
    assert len(entries) == len(locked(lock))
    assert all("--hash=sha256:" in entry for entry in entries)


def test_resolving_again_changes_nothing(tmp_path: Path) -> None:
    for lock in (*LOCKS, "build.in"):
        shutil.copy(RELEASE / lock, tmp_path)
    run(RELEASE / "lock.sh", LOCK_DIR=str(tmp_path))
    for lock in LOCKS:
        assert (tmp_path / lock).read_text() == (RELEASE / lock).read_text(), "run deploy/release/lock.sh"


def locked(lock: str) -> dict[str, str]:
    """Names and versions."""
    found = re.findall(r"^([\w.-]+)(?:\[[\w,]+\])?==([^\s;]+)", (RELEASE / lock).read_text(), re.MULTILINE)
    return {canonicalize_name(name): version for name, version in found}


def here(name: str) -> bool:
    """Whether what was locked for every machine is for this one, too."""
    line = re.search(rf"^{re.escape(name)}(?:\[[\w,]+\])?==[^\n\\]*", _normal("requirements.txt"), re.MULTILINE)
    assert line is not None, name
    marker = Requirement(line[0].strip()).marker
    return marker is None or marker.evaluate()


def _normal(lock: str) -> str:
    return re.sub(
        r"^[\w.-]+", lambda name: canonicalize_name(name[0]), (RELEASE / lock).read_text(), flags=re.MULTILINE
    )
