"""What a machine lacks is told in one sentence, with the command that brings it, or installed where nobody is asked."""

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services import needs
from tests.syntax import parsed

ROOT = Path(__file__).parents[2]
#: What only the groups `bench` and `deploy` bring.
OF_DEPLOY = {"jsonschema", "kubernetes_validate", "matplotlib", "numpy", "playwright", "sklearn", "yaml"}
PROGRAMS = {
    "git": "exit 0",
    "java": "echo 'openjdk version \"21.0.9\" 2025-10-21' >&2",
    "mvn": "exit 0",
    "apt-get": "exit 1",
    "sudo": "exit 1",
}


class Machine:
    """A machine with a few programs, and a clone without a cache."""

    def __init__(self, folder: Path) -> None:
        self.programs = folder / "bin"
        self.programs.mkdir()
        self._script = folder / "clone" / "tests" / "services" / "needs.py"
        self._script.parent.mkdir(parents=True)
        shutil.copy(needs.__file__, self._script)
        self.has(**PROGRAMS)

    def has(self, **programs: str) -> None:
        """Add programs, each as a shell's command."""
        for name, command in programs.items():
            program = self.programs / name
            program.write_text(f"#!/bin/sh\n{command}\n")
            program.chmod(0o755)

    def lacks(self, *programs: str) -> None:
        for name in programs:
            (self.programs / name).unlink()

    def needs(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, str(self._script), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, env={"PATH": str(self.programs)})


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_says_nothing_where_all_is_there(machine: Machine) -> None:
    done = machine.needs("test")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_names_all_that_is_missing_and_one_command(machine: Machine) -> None:
    machine.lacks("git", "java", "mvn")
    done = machine.needs("test")
    assert done.returncode == 1
    assert done.stderr == (
        "make test needs git, Java 17 or newer, Maven: run `sudo apt-get update && sudo apt-get install -y git "
        "default-jre-headless maven`, and run it again.\n"
    )


@pytest.mark.parametrize(
    ("version", "enough"), [("1.8.0_412", False), ("11.0.2", False), ("17.0.1", True), ("25", True)]
)
def test_knows_which_java_is_new_enough(machine: Machine, version: str, enough: bool) -> None:
    machine.has(java=f"echo 'openjdk version \"{version}\"' >&2")
    assert (machine.needs("test").returncode == 0) is enough


def test_jars_that_are_here_need_no_maven(machine: Machine, tmp_path: Path) -> None:
    machine.lacks("mvn")
    (tmp_path / "clone" / ".cache" / "kafka-4.3.1.partial").mkdir(parents=True)
    assert "Maven" in machine.needs("test").stderr
    (tmp_path / "clone" / ".cache" / "kafka-4.3.1").mkdir()
    assert "Maven" in machine.needs("test").stderr
    (tmp_path / "clone" / ".cache" / "elasticmq-1.7.1").mkdir()
    assert machine.needs("test").returncode == 0


@pytest.mark.parametrize(
    ("manager", "command"),
    [("dnf", "sudo dnf install -y java-latest-openjdk-headless maven"), ("brew", "brew install openjdk maven")],
)
def test_the_command_is_that_of_the_platform(machine: Machine, manager: str, command: str) -> None:
    machine.lacks("apt-get", "java", "mvn")
    machine.has(**{manager: "exit 1"})
    assert f"run `{command}`" in machine.needs("test").stderr


def test_without_a_package_manager_it_names_them_all_the_same(machine: Machine) -> None:
    machine.lacks("apt-get", "java", "mvn")
    assert machine.needs("test").stderr == (
        "make test needs Java 17 or newer, Maven: install what is named here, and run it again.\n"
    )


def test_installs_what_is_missing_where_nobody_is_asked(machine: Machine, tmp_path: Path) -> None:
    machine.lacks("mvn")
    asked = tmp_path / "asked"
    machine.has(
        env='shift; exec "$@"',
        true="exit 0",
        sudo='shift; exec "$@"',
        **{
            "apt-get": f'echo "$@" >> {asked}; /bin/ln -sf /bin/true {machine.programs}/mvn',
        },
    )
    done = machine.needs("test", "--install")
    assert (done.returncode, done.stdout) == (0, "Installing with apt: maven ...\n")
    assert asked.read_text().splitlines() == ["-qq update", "-qq install -y --no-install-recommends maven"]


def test_installs_nothing_unless_it_is_told_to(machine: Machine, tmp_path: Path) -> None:
    machine.lacks("mvn")
    machine.has(**{"apt-get": f"echo called > {tmp_path}/asked"})
    assert machine.needs("test").returncode == 1
    assert not (tmp_path / "asked").exists()


def test_a_package_that_cannot_be_had_is_named(machine: Machine) -> None:
    machine.lacks("mvn")
    machine.has(
        env='shift; exec "$@"', true="exit 0", sudo='shift; exec "$@"', **{"apt-get": "echo no candidate >&2; exit 100"}
    )
    done = machine.needs("test", "--install")
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == "no candidate"
    assert done.stderr.splitlines()[-1].startswith("make test needs Maven: run `sudo apt-get")


def test_python_without_venv_is_told_with_its_package() -> None:
    (venv,) = needs.NEEDS["setup"]
    assert needs.sentence("make", [venv], needs.MANAGERS[0]) == (
        "make needs Python's module venv: run `sudo apt-get update && sudo apt-get install -y python3-venv`, "
        "and run it again."
    )


def test_an_old_python_is_told_what_to_do(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 2))
    monkeypatch.setattr(sys, "argv", ["needs.py", "setup"])
    with pytest.raises(SystemExit) as ended:
        needs.main()
    assert ended.value.code == ('make needs Python 3.11 or newer, and this is 3.9: run "make PYTHON=/path/to/python3".')


def test_the_tests_of_deploy_are_refused_at_once_without_root(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(sys, "argv", ["needs.py", "test-deploy", "--install"])
    with pytest.raises(SystemExit, match="needs root"):
        needs.main()


def imported(file: Path) -> Iterator[str]:
    """Modules that are imported with the file."""
    for node in parsed(file.read_text()).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names))


def test_the_tests_of_the_product_import_nothing_that_only_deploy_has() -> None:
    tests = [*(ROOT / "tests").rglob("test_*.py"), *(ROOT / "tests").rglob("conftest.py")]
    waiting = [file for file in tests if "deploy" not in file.parts]
    seen: set[Path] = set()
    while waiting:
        seen.add(file := waiting.pop())
        for module in imported(file):
            assert module.split(".")[0] not in OF_DEPLOY, f"{file} imports {module}, which `make test` does not have"
            path = ROOT.joinpath(*module.split("."))
            ours = {path.with_name(f"{path.name}.py"), path / "__init__.py"} - seen
            waiting += [each for each in ours if each.is_file()]
