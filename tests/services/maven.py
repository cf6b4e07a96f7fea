"""Java programs from Maven: what a pom.xml names, fetched into a folder."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from tests.services.needs import maven_is_there
from tests.services.process import ServiceError


def pom_version(pom: Path, program: str) -> str:
    """The version of a program, as its property in a pom.xml."""
    match = re.search(rf"<{program}\.version>(.+)</{program}\.version>", pom.read_text())
    assert match, f"{pom} names no {program}.version"
    return match[1]


def maven_repository(folder: Path) -> Path:
    """Maven's own, while it fetches what belongs into `folder`: elsewhere it would be outside of the clone."""
    return folder.with_name(f"{folder.name}.maven")


def fetch(pom: Path, folder: Path, goal: str = "dependency:copy-dependencies") -> None:
    """Fetch the jars that a pom.xml names, with theirs, or what another goal copies."""
    if not maven_is_there():
        raise ServiceError("The tests fetch Java programs through Maven, which is missing: make test gets it")
    repository = maven_repository(folder)
    settings = [f"-Dmaven.repo.local={repository}", "-DincludeScope=runtime", f"-DoutputDirectory={folder}"]
    done = subprocess.run(
        ["mvn", "-q", "-B", "-f", str(pom), goal, *settings],
        capture_output=True,
        text=True,
        check=False,
        # What Maven's Java tells other programs of itself would be outside of the clone, too.
        env={"MAVEN_OPTS": "-XX:-UsePerfData", **os.environ},
    )
    if done.returncode:
        raise ServiceError(f"Maven cannot fetch what {pom} names:\n{done.stdout}{done.stderr}")
    shutil.rmtree(repository)
