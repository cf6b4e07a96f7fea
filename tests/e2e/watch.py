"""Load that fills a budget, and what is seen of a daemon meanwhile."""

import asyncio
import json
import re
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

from aiokafka import AIOKafkaProducer

from ingestd.ops.readiness import Status
from tests.e2e.daemon import Daemon
from tests.e2e.events import event_id


@asynccontextmanager
async def noise(bootstrap: str, topic: str, partitions: int) -> AsyncIterator["WriteNoise"]:
    """Writes large events that hardly compress, to each partition in turn."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, max_request_size=1 << 20, max_batch_size=256 << 10)
    await producer.start()
    try:
        yield WriteNoise(producer, topic, partitions)
    finally:
        await producer.stop()


class WriteNoise:
    def __init__(self, producer: Any, topic: str, partitions: int) -> None:
        self._producer = producer
        self._topic = topic
        self._partitions = partitions
        self._written = 0
        self._random = Random(7)

    async def __call__(self, count: int) -> None:
        """Write so many events; they are acknowledged when this returns."""
        for _ in range(count):
            noise = b64encode(self._random.randbytes(9_000)).decode()
            event = {
                "event_id": event_id(self._written),
                "client_id": "CLIENT_1",
                "event_timestamp": "2026-03-01T12:00:00Z",
                "event_type": "web_visit",
                "properties": {"noise": noise},
            }
            partition = self._written % self._partitions
            await self._producer.send(self._topic, json.dumps(event).encode(), partition=partition)
            self._written += 1
        await self._producer.flush()


@asynccontextmanager
async def watched(daemon: Daemon) -> AsyncIterator[list[Status]]:
    """What the daemon says of itself many times a second, meanwhile."""
    seen: list[Status] = []

    async def look() -> None:
        while True:
            seen.append(await daemon.status())
            await asyncio.sleep(0.05)

    looking = asyncio.create_task(look())
    try:
        yield seen
    finally:
        looking.cancel()
        await asyncio.wait([looking])
    assert seen


def has_reason(status: Status, code: str) -> bool:
    return any(reason.code == code for reason in status.reasons)


def peak_memory(daemon: Daemon) -> int:
    """The most that the process has had in memory, in bytes."""
    text = Path(f"/proc/{daemon.pid}/status").read_text()
    match = re.search(r"^VmHWM:\s+(\d+) kB$", text, re.MULTILINE)
    assert match
    return int(match[1]) * 1024
