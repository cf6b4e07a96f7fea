"""The collector as a child process: with its journal and a directory (no broker), or in front of Kafka."""

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.e2e.daemon import Daemon
from tests.services.ports import HOST, free_port

SOURCES = {"web": "web", "segment": "segment", "rudder": "rudderstack", "snowplow": "snowplow", "native": "native"}

Row = dict[str, Any]


def collect_settings(directory: Path, port: int) -> dict[str, str]:
    """One source of each kind of SDK; its key is its name."""
    keys = {"collect.host": HOST, "collect.port": str(port), "collect.origins": "*"}
    for name, kind in SOURCES.items():
        file = directory / f"{name}.key"
        file.touch(mode=0o600)
        file.write_text(f"{name}\n")
        keys |= {f"collect.sources.{name}.kind": kind, f"collect.sources.{name}.key_file": str(file)}
    return keys


class Collector(Daemon):
    """`ingestd --source collector`, into a directory. Its port stays the same after a kill."""

    def __init__(self, directory: Path, more: Mapping[str, str] | None = None) -> None:
        self._port_of_events = free_port()
        self.data = directory / "data"
        keys = {
            "source": "collector",
            "sink.url": str(self.data),
            "collect.journal": str(directory / "journal.sqlite"),
            "batch.interval": "1s",
            **collect_settings(directory, self._port_of_events),
            **(more or {}),
        }
        super().__init__("collector", directory, keys, {})

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self._port_of_events}"

    def rows(self) -> list[Row]:
        """What has landed, in the order of the log."""
        return read_rows(self.data / "events")

    def rejected(self) -> list[Row]:
        """What was quarantined."""
        return read_rows(self.data / "quarantine")


class KafkaCollector(Daemon):
    """`ingestd collect`, in front of a topic; with `journal`, a journal keeps events while Kafka is away."""

    def __init__(self, directory: Path, bootstrap: str, topic: str, *, journal: bool) -> None:
        self.port = free_port()  # for events
        keys = {
            "kafka.bootstrap_servers": bootstrap,
            "collect.topic": topic,
            "collect.ack_timeout": "2s",
            **collect_settings(directory, self.port),
            **({"collect.journal": str(directory / "journal.sqlite")} if journal else {}),
        }
        super().__init__("collect", directory, keys, {}, ("-m", "ingestd", "collect"))

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"


def read_rows(folder: Path) -> list[Row]:
    """The lines of all objects, in the order of their names."""
    files = sorted(folder.rglob("*.jsonl.gz"))
    return [json.loads(line) for file in files for line in gzip.decompress(file.read_bytes()).splitlines()]
