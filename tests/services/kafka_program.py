"""Kafka's program: its jars, fetched through Maven, and the Java that runs them."""

import hashlib
import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

from tests.services.environment import CACHE, locked
from tests.services.needs import OLDEST_JAVA, java_is_there, maven_is_there
from tests.services.process import ServiceError

_POM = Path(__file__).with_name("kafka") / "pom.xml"
# A short start matters more here than the last of the throughput.
_JVM = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-XX:-UsePerfData")


def kafka_version() -> str:
    """The broker's."""
    match = re.search(r"<kafka\.version>(.+)</kafka\.version>", _POM.read_text())
    assert match, f"{_POM} names no kafka.version"
    return match[1]


def java_command(directory: Path, heap: str) -> list[str]:
    """What stands before a class of Kafka and its arguments. It starts faster with an archive of its classes."""
    jars = ensure_jars()
    archived = [f"-XX:SharedArchiveFile={archive}"] if (archive := class_archive()).exists() else []
    return ["java", f"-Xmx{heap}", *_JVM, *archived, f"-Djava.io.tmpdir={directory}", "-cp", f"{jars}/*"]


@cache
def ensure_jars() -> Path:
    """Kafka's jars, fetched through Maven the first time."""
    if not java_is_there():
        raise ServiceError(
            f"The tests run a real Kafka broker, which needs Java {OLDEST_JAVA} or newer: make test gets it"
        )
    libs = CACHE / f"kafka-{kafka_version()}"
    with locked(libs.with_name(f"{libs.name}.lock")):
        if not libs.exists():
            _download(libs)
    return libs


@cache
def class_archive() -> Path:
    """Where the classes are that this Java has loaded once; another Java has its own."""
    told = subprocess.run(["java", "-XX:-UsePerfData", "-version"], capture_output=True, check=False).stderr
    return CACHE / f"kafka-{kafka_version()}-{hashlib.sha256(told).hexdigest()[:12]}.jsa"


def _download(libs: Path) -> None:
    # The directory gets its name when it is complete, so that an interrupted download is never taken for one.
    partial = libs.with_name(f"{libs.name}.partial")
    copy_dependencies(_POM, partial)
    partial.rename(libs)


def copy_dependencies(pom: Path, folder: Path) -> None:
    """Fetch the jars that a pom.xml names, with theirs, into a new folder."""
    if not maven_is_there():
        raise ServiceError("The tests fetch Java programs through Maven, which is missing: make test gets it")
    # Maven's own repository, and what its Java tells other programs of itself, would be outside of the clone.
    repository = folder.with_name(f"{folder.name}.maven")
    shutil.rmtree(folder, ignore_errors=True)
    settings = [f"-Dmaven.repo.local={repository}", "-DincludeScope=runtime", f"-DoutputDirectory={folder}"]
    done = subprocess.run(
        ["mvn", "-q", "-B", "-f", str(pom), "dependency:copy-dependencies", *settings],
        capture_output=True,
        text=True,
        check=False,
        env={"MAVEN_OPTS": "-XX:-UsePerfData", **os.environ},
    )
    if done.returncode:
        raise ServiceError(f"Maven cannot fetch what {pom} names:\n{done.stdout}{done.stderr}")
    shutil.rmtree(repository)
