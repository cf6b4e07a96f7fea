"""The collector as a child process: with its journal and a directory (no broker), or in front of Kafka."""

import asyncio
import gzip
import json
import signal
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.e2e.daemon import DEADLINE, Daemon
from tests.e2e.http_sender import event_ids_in, until_ready
from tests.services.ports import HOST, free_port

SOURCES = {"web": "web", "segment": "segment", "rudder": "rudderstack", "snowplow": "snowplow", "native": "native"}

Row = dict[str, Any]

_AGAIN_S = 0.05


def collect_settings(directory: Path, port: int) -> dict[str, str]:
    """One source of each kind of SDK; its key is its name."""
    keys = {"collect.host": HOST, "collect.port": str(port), "collect.origins": "*"}
    for name, kind in SOURCES.items():
        file = directory / f"{name}.key"
        file.touch(mode=0o600)
        file.write_text(f"{name}\n")
        keys |= {f"collect.sources.{name}.kind": kind, f"collect.sources.{name}.key_file": str(file)}
    return keys


class Edge(Daemon):
    """A process that takes events of `SOURCES`. Its port stays the same after a kill."""

    def __init__(
        self, name: str, directory: Path, keys: Mapping[str, str], program: Sequence[str] = ("-m", "ingestd")
    ) -> None:
        self.port = free_port()  # for events
        self.url = f"http://{HOST}:{self.port}"
        super().__init__(name, directory, {**collect_settings(directory, self.port), **keys}, {}, program)

    async def until_journal_is_empty(self) -> None:
        """Wait until all that was answered 200 has gone on."""
        async with asyncio.timeout(DEADLINE):
            while await self.metric("ingestd_collect_journal_records"):  # noqa: ASYNC110 - another process knows
                await asyncio.sleep(_AGAIN_S)


class Collector(Edge):
    """`ingestd --source collector`, into a directory."""

    def __init__(self, directory: Path, more: Mapping[str, str] | None = None) -> None:
        self.data = directory / "data"
        keys = {"collect.journal": str(directory / "journal.sqlite"), **_into(self.data), **(more or {})}
        super().__init__("collector", directory, {"source": "collector", **keys})

    async def landed(self) -> list[Row]:
        """Stop it once its journal is empty: what it has not read yet would wait for its next start.

        All that has landed, in the order of the log; nothing was quarantined.
        """
        await self.until_journal_is_empty()
        assert await self.stop() == 0
        return rows_in(self.data)

    def rows(self) -> list[Row]:
        """What has landed until now, in the order of the log."""
        return read_rows(self.data / "events")

    def rejected(self) -> list[Row]:
        """What was quarantined."""
        return read_rows(self.data / "quarantine")


class KafkaCollector(Edge):
    """`ingestd collect`, in front of a topic; with `journal`, a journal keeps events while Kafka is away."""

    def __init__(self, directory: Path, bootstrap: str, topic: str, *, journal: bool) -> None:
        self._bootstrap, self._topic = bootstrap, topic
        self._directory = directory
        keys = {"kafka.bootstrap_servers": bootstrap, "collect.topic": topic, "collect.ack_timeout": "2s"}
        if journal:
            keys["collect.journal"] = str(directory / "journal.sqlite")
        super().__init__("collect", directory, keys, ("-m", "ingestd", "collect"))

    async def start_ready(self, deadline: float = DEADLINE) -> None:
        self.start()
        await until_ready(self, deadline)

    async def landed(self) -> list[Row]:
        """Stop it once its journal is empty. The rows that a daemon makes of the topic, one of each record."""
        await self.until_journal_is_empty()
        self.signal(signal.SIGTERM)
        assert await self.ended() == 0
        ids = await event_ids_in(self._bootstrap, self._topic)
        data = self._directory / "data"
        keys = {"kafka.bootstrap_servers": self._bootstrap, "kafka.topics": self._topic, "kafka.group_id": self._topic}
        daemon = Daemon("daemon", self._directory, {**keys, **_into(data)}, {})
        try:
            await daemon.start_ready()
            await daemon.until(lambda status: status.totals.landed == len(ids))
            assert await daemon.stop() == 0
        finally:
            daemon.kill()
        rows = rows_in(data)
        assert Counter(row["event_id"] for row in rows) == Counter(ids)
        return rows


def _into(data: Path) -> dict[str, str]:
    return {"sink.url": str(data), "batch.interval": "1s"}


def rows_in(data: Path) -> list[Row]:
    """The rows of all objects, in the order of their names; nothing was quarantined."""
    assert not read_rows(data / "quarantine")
    return read_rows(data / "events")


def read_rows(folder: Path) -> list[Row]:
    """The lines of all objects, in the order of their names."""
    files = sorted(folder.rglob("*.jsonl.gz"))
    return [json.loads(line) for file in files for line in gzip.decompress(file.read_bytes()).splitlines()]
