"""Judges Terraform modules without Terraform and without AWS: tfparse evaluates them, checkov looks for weaknesses."""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.services.environment import ensure_environment
from tests.services.process import ServiceError

REQUIREMENTS = Path(__file__).with_name("terraform-requirements.txt")

_EVALUATE = """\
import json, sys, tfparse
json.dump(tfparse.load_from_path(sys.argv[1], allow_downloads=False), sys.stdout, default=str)
"""
_NOISE = {"__tfmeta", "count", "for_each", "depends_on", "lifecycle"}

Block = dict[str, Any]


def evaluate(folder: Path) -> dict[str, Block]:
    """Resources and outputs by address, as a plan would have them. What only AWS knows is None or a random id."""
    found = json.loads(_run("-c", _EVALUATE, str(folder)))
    return {
        block["__tfmeta"]["path"]: _plain(block)
        for kind, blocks in found.items()
        if kind not in {"locals", "module", "terraform", "variable"}
        for block in blocks
    }


def failed_checks(folder: Path) -> set[tuple[str, str]]:
    """Checks of checkov that fail: each with the resource that it is about."""
    report = json.loads(
        _run(
            str(_environment() / "bin" / "checkov"),
            "-d",
            str(folder),
            "--framework",
            "terraform",
            "--skip-download",
            "--soft-fail",
            "-o",
            "json",
        )
    )
    assert report["summary"]["passed"] > 50, "it has looked at everything"
    assert report["summary"]["parsing_errors"] == 0
    return {(it["check_id"], it["resource"]) for it in report["results"]["failed_checks"]}


def blocks(value: object) -> Iterator[Block]:
    """What may be one block, many or none."""
    if isinstance(value, list):
        yield from value
    elif isinstance(value, dict):
        yield value


def _plain(value: Any) -> Any:
    """Without tfparse's own notes, of which `id` hides what the configuration says."""
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items() if name not in _NOISE | {"id"}}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value


def _environment() -> Path:
    return ensure_environment("terraform", REQUIREMENTS)


def _run(*arguments: str) -> str:
    # By way of Python: the first line of checkov's own script fails where the path has a space.
    command = [str(_environment() / "bin" / "python"), *arguments]
    with tempfile.TemporaryDirectory() as scratch:  # checkov's parser leaves its tables where temporary files are
        environment = {**os.environ, "TMPDIR": scratch}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise ServiceError(f"{arguments[0]} has failed:\n{done.stdout}{done.stderr}")
    return done.stdout
