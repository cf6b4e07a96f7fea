"""Whatever is killed -9, the broker, the collector or both: each acknowledged event is in the topic, in its order."""

import asyncio
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services.kafka import KafkaBroker
from tests.test_kafka_sender import read

pytestmark = pytest.mark.services

PROGRAM = Path(__file__).with_name("delivery_process.py")


class Collector:
    """The process, started again and again; what all of its runs have answered."""

    def __init__(self, bootstrap: str, topic: str, directory: Path | None) -> None:
        self._arguments = [bootstrap, topic, str(directory or "-")]
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._runs = 0
        self.answered: list[tuple[str, str]] = []

    def start(self) -> None:
        self._runs += 1
        command = [sys.executable, "-m", "tests.collect.delivery_process", *self._arguments, str(self._runs)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._reader = threading.Thread(target=self._read, args=(self._process,))
        self._reader.start()

    def _read(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if line.endswith("\n"):
                acknowledgement, _, name = line.strip().partition(",")
                self.answered.append((acknowledgement, name))

    async def until(self, acknowledgement: str, count: int) -> None:
        """Until so many more events were answered in this way."""
        began = len(self.answered)
        async with asyncio.timeout(60):
            while sum(it[0] == acknowledgement for it in self.answered[began:]) < count:  # noqa: ASYNC110 - a thread
                await asyncio.sleep(0.02)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._end()

    def finish(self) -> None:
        """Let it forward everything."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._end() == 0

    def _end(self) -> int:
        assert self._process is not None
        assert self._reader is not None
        code = self._process.wait(60)
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        self._process = None
        return code

    def remove(self) -> None:
        if self._process is not None:
            self.kill()


@pytest.fixture(params=["journal", "no journal"])
def collector(
    request: pytest.FixtureRequest, mortal_broker: KafkaBroker, mortal_topic: str, tmp_path: Path
) -> Iterator[Collector]:
    collector = Collector(mortal_broker.bootstrap, mortal_topic, tmp_path if request.param == "journal" else None)
    yield collector
    collector.remove()


async def test_no_acknowledged_event_is_lost_or_overtaken(
    mortal_broker: KafkaBroker, mortal_topic: str, collector: Collector, request: pytest.FixtureRequest
) -> None:
    has_journal = "no journal" not in request.node.name
    collector.start()
    await collector.until("kafka", 300)
    mortal_broker.kill()
    if has_journal:
        await collector.until("journal", 200)
    else:
        await asyncio.sleep(1)
    collector.kill()
    collector.start()
    if has_journal:
        await collector.until("journal", 500)
    await asyncio.to_thread(mortal_broker.start)
    await collector.until("kafka", 300)
    for _ in range(2):
        await asyncio.sleep(random.random())
        collector.kill()
        collector.start()
        await collector.until("kafka", 100)
    mortal_broker.kill()
    await asyncio.to_thread(mortal_broker.start)
    await collector.until("kafka", 100)
    collector.finish()

    found = await read(mortal_broker.bootstrap, mortal_topic)
    arrived: dict[str, tuple[int, int]] = {}
    for record in found:
        arrived.setdefault(record.value.decode(), (record.partition, record.offset))
    answered = [name for _, name in collector.answered]
    assert len(answered) > 1000
    assert not [name for name in answered if name not in arrived]
    clients: dict[str, list[str]] = {}
    for name in answered:
        clients.setdefault(name.split()[1], []).append(name)
    for names in clients.values():
        places = [arrived[name] for name in names]
        assert places == sorted(places)
