"""Kafka's program: its jars, fetched through Maven, and the Java that runs them."""

import hashlib
import subprocess
from functools import cache
from pathlib import Path

from tests.services.environment import CACHE, ensure_folder
from tests.services.maven import fetch, pom_version
from tests.services.needs import OLDEST_JAVA, java_is_there
from tests.services.process import ServiceError

_POM = Path(__file__).with_name("kafka") / "pom.xml"
# A short start matters more here than the last of the throughput.
_JVM = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-XX:-UsePerfData")


def kafka_version() -> str:
    """The broker's."""
    return pom_version(_POM, "kafka")


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
    return ensure_folder(f"kafka-{kafka_version()}", lambda folder: fetch(_POM, folder))


@cache
def class_archive() -> Path:
    """Where the classes are that this Java has loaded once; another Java has its own."""
    told = subprocess.run(["java", "-XX:-UsePerfData", "-version"], capture_output=True, check=False).stderr
    return CACHE / f"kafka-{kafka_version()}-{hashlib.sha256(told).hexdigest()[:12]}.jsa"
