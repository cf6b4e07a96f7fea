"""The workflow that tests each change: on which Pythons, and what it may do."""

import re
import tomllib
from pathlib import Path

from tests.services.needs import OLDEST_PYTHON

ROOT = Path(__file__).parents[1]
WORKFLOW = (ROOT / ".github/workflows/ci.yml").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_each_python_that_is_claimed_is_tested() -> None:
    matrix = re.search(r"^ +python: \[(.+)\]$", WORKFLOW, re.MULTILINE)
    assert matrix is not None
    tested = [version.strip(' "') for version in matrix[1].split(",")]
    language = "Programming Language :: Python :: "
    assert tested == [
        line.removeprefix(language) for line in PROJECT["classifiers"] if re.fullmatch(rf"{language}\d\.\d+", line)
    ]
    oldest = ".".join(map(str, OLDEST_PYTHON))
    assert (tested[0], PROJECT["requires-python"]) == (oldest, f">={oldest}")


def test_all_targets_are_run() -> None:
    assert re.findall(r"\bmake (\S+)", re.sub(r"^#.*", "", WORKFLOW)) == ["test", "test-faults", "test-deploy"]


def test_it_can_read_and_no_more() -> None:
    assert re.findall(r"permissions:\n((?: +.+\n)+)", WORKFLOW) == ["  contents: read\n"]
    assert "secrets." not in WORKFLOW
    assert WORKFLOW.count("persist-credentials: false") == WORKFLOW.count("actions/checkout@")


def test_each_action_is_githubs_and_pinned_to_a_major_version() -> None:
    actions = re.findall(r"uses: (\S+)", WORKFLOW)
    assert actions
    assert all(re.fullmatch(r"actions/[a-z-]+@v\d+", action) for action in actions)
