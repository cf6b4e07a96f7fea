"""The programs that take requests, each as a process: our collector with Kafka and with its journal, and Bento."""

import http.client
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from benchmarks.collect.requests import BATCH, ONE, PAGE, PIXEL, Request
from benchmarks.peers.install import Tools
from benchmarks.rig.meter import Metered
from benchmarks.rig.services import Services
from tests.services.ports import HOST, free_port

_BENTO = Path(__file__).with_name("bento.yaml")
_CONNECTIONS = 12_000  # more than any part opens; Bento has no limit
_OURS = (PIXEL, PAGE, ONE, BATCH)


class Kind(NamedTuple):
    """One program with one way to make events safe."""

    name: str
    safe: str  # what is waited for before the answer
    requests: Sequence[Request]  # that it understands


KAFKA = Kind("ingestd collect", "Kafka: acks=all, idempotent", _OURS)
JOURNAL = Kind("ingestd --source collector", "journal: fsync", _OURS)
BENTO = Kind("Bento 1.19, http_server", "Kafka: acks=all, idempotent", (ONE, BATCH))
KINDS = (KAFKA, JOURNAL, BENTO)


class Server(Metered):
    """One of them, with a port of its own."""

    def __init__(self, kind: Kind, services: Services, topic: str, folder: Path) -> None:
        """`topic` exists; `folder` is empty, on the disk that the journal is to be on."""
        self.kind = kind
        self.port = free_port()
        folder.mkdir()
        environment = {"BOOTSTRAP": services.bootstrap, "TOPIC": topic, "ADDRESS": f"{HOST}:{self.port}"}
        super().__init__(kind.name, self._arguments(services, topic, folder), folder / "log", environment)

    def begin(self) -> None:
        """Start it, and wait until it takes connections."""
        self.start(self._answers)

    def _arguments(self, services: Services, topic: str, folder: Path) -> list[str]:
        if self.kind is BENTO:
            return [Tools().bento(), "-c", str(_BENTO)]
        keys = {
            "health.port": str(free_port()),
            "log.level": "WARNING",
            "collect.port": str(self.port),
            "collect.max_connections": str(_CONNECTIONS),
            "collect.origins": "https://www.example.com",
            "collect.sources.web.kind": "web",
            "collect.sources.web.rate": "100000000",
            "collect.sources.api.kind": "native",
            "collect.sources.api.rate": "100000000",
        }
        if self.kind is KAFKA:
            command = ["collect"]
            keys |= {"kafka.bootstrap_servers": services.bootstrap, "collect.topic": topic}
        else:
            command = ["--source", "collector"]
            keys |= {"collect.journal": str(folder / "journal.sqlite"), "sink.url": str(folder / "objects")}
        flags = [part for key, value in keys.items() for part in ("--set", f"{key}={value}")]
        return [sys.executable, "-m", "ingestd", *command, *flags]

    def _answers(self) -> bool:
        with closing(http.client.HTTPConnection(HOST, self.port, timeout=5)) as connection:
            try:
                connection.request("GET", "/ingestd.js")
                connection.getresponse()
            except OSError:
                return False
        return True
