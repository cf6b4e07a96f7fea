"""Apicurio Registry: a real schema registry with Confluent's API, from Maven; it forgets all when it ends."""

import shutil
import tarfile
import urllib.error
import urllib.request
from functools import cache
from pathlib import Path

from tests.services.environment import ensure_folder
from tests.services.maven import fetch, maven_repository, pom_version
from tests.services.ports import HOST, free_port
from tests.services.process import Process
from tests.services.server import Server

_POM = Path(__file__).with_name("pom.xml")
_JVM = ("-Xmx400m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-XX:-UsePerfData")
_ANSWER_S = 2.0


@cache
def registry_folder() -> Path:
    """The unpacked program, fetched through Maven the first time."""
    return ensure_folder(f"apicurio-{pom_version(_POM, 'apicurio')}", _fetch)


def _fetch(folder: Path) -> None:
    # The program's parent is not among what its makers have published, and Maven asks for it.
    parent = maven_repository(folder) / "io/apicurio/apicurio-registry/3.0.9/apicurio-registry-3.0.9.pom"
    parent.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(_POM.with_name("parent.pom"), parent)
    fetch(_POM, folder, "dependency:copy")
    for archive in folder.glob("*.tar.gz"):
        with tarfile.open(archive) as packed:
            packed.extraction_filter = getattr(tarfile, "data_filter", None)  # Python 3.11.2, Debian's, has none
            packed.extractall(folder)  # noqa: S202 - the filter is set
        archive.unlink()


class SchemaRegistry(Server):
    """A registry of our own on the loopback interface."""

    name = "registry"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.port = free_port()
        self.url = f"http://{HOST}:{self.port}/apis/ccompat/v7"

    def prepare(self) -> Process:
        jar = next(registry_folder().rglob("*-runner.jar"))
        settings = [f"-Dquarkus.http.host={HOST}", f"-Dquarkus.http.port={self.port}"]
        settings.append(f"-Djava.io.tmpdir={self.directory}")
        return Process(self.name, ["java", *_JVM, *settings, "-jar", str(jar)], self.directory / "registry.log")

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/subjects", timeout=_ANSWER_S) as answer:  # noqa: S310
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False
