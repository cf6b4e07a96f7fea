"""Kills in bulk: groups of daemons under load that are killed at random moments and restarted at once.

After so many kills a group is left in peace, every row is counted, and it goes on with a fresh topic and a fresh
bucket, so that neither memory nor disk grows with the number of kills.
"""

import asyncio
import shutil
import subprocess
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from random import Random

from aiokafka.errors import KafkaError

from ingestd.core.errors import EXIT_INTERRUPTED
from tests.chaos.process_faults import ADOPTED
from tests.chaos.runner import in_words
from tests.chaos.services import Services
from tests.e2e.daemon import Daemon, credentials, settings
from tests.e2e.events import Load, load
from tests.e2e.group import caught_up, ends
from tests.e2e.ledger import read
from tests.services.kafka import create_topic, topic_admin

GROUPS = 5  # as many as keep two cores busy: a start costs half a second of one
DAEMONS = 3
PARTITIONS = 4
_ROUND = 100  # kills between two counts
_PAUSE = 1.5  # seconds between two kills in a group, on average: with shorter ones it hardly comes to own partitions
_DELAY = 0.1  # seconds, at most, before the store applies a request and again before its answer: many kills come then
_DEADLINE = 300.0  # seconds to catch up, beside the kills of the other groups
_RATE, _PIECES = 1000, 10  # events a second, in so many writes

# The shortest session: for that long the group waits for a member that was killed. Batches as many as there can be.
_SETTINGS = {
    "kafka.session_timeout": "1s",
    "kafka.heartbeat_interval": "200ms",
    "kafka.rebalance_timeout": "2s",
    "batch.interval": "150ms",
    "sink.retry_initial": "50ms",
    "sink.retry_max": "500ms",
}


def checked_out() -> str:
    """The commit that runs."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True).stdout.strip()


@dataclass
class Bulk:
    """What kills in bulk came to. Only what was counted is in it, but for `killed`."""

    wanted: int
    seed: int
    date: str = field(default_factory=lambda: datetime.now(UTC).date().isoformat())
    commit: str = field(default_factory=checked_out)
    killed: int = 0
    kills: int = 0
    records: int = 0
    objects: int = 0
    adopted: int = 0
    lost: int = 0
    doubled: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        rate = self.killed / max(self.seconds, 1)
        left = f", {(self.wanted - self.killed) / rate / 60:.0f} minutes left" if rate else ""
        return (
            f"{self.killed:,} of {self.wanted:,} kills, {rate:.1f} a second{left}; counted so far: "
            f"{self.kills:,} kills, {self.records:,} events, {self.lost} lost, {self.doubled} doubled"
        )


async def kill_in_bulk(services: Services, directory: Path, bulk: Bulk, *, groups: int = GROUPS) -> None:
    """Kill `bulk.wanted` times. `bulk` is kept up to date, so that it says how far it came where this is cancelled."""
    began = time.monotonic()
    left = iter(rounds(bulk.wanted, groups))

    async def one_group(number: int) -> None:
        rng = Random(f"{bulk.seed} {number}")
        for kills in left:
            await _round(services, directory, bulk, kills, rng)

    async def clock() -> None:
        while True:
            await asyncio.sleep(0.2)
            bulk.seconds = time.monotonic() - began

    async with services.s3_proxy() as s3:
        s3.delays(_DELAY, Random(bulk.seed))
        ticking = asyncio.create_task(clock())
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(groups):
                    group.create_task(one_group(number))
        finally:
            ticking.cancel()


def rounds(kills: int, groups: int) -> list[int]:
    """How many kills each round has."""
    most = min(_ROUND, -(-kills // groups))
    return [min(most, kills - begin) for begin in range(0, kills, most)]


async def _round(services: Services, directory: Path, bulk: Bulk, kills: int, rng: Random) -> None:
    topic = f"kills-{uuid.uuid4().hex[:8]}"
    logs = directory / topic
    logs.mkdir()
    problems: list[str] = []
    try:
        async with _topic(services, topic), load(services.kafka.bootstrap, topic, PARTITIONS) as writer:
            daemons = _daemons(services, topic, logs, static=rng.random() < 0.3)
            try:
                await _hurt(daemons, writer, kills, rng, bulk)
                await _count(services, topic, daemons, writer, bulk)
            finally:
                for daemon in daemons:
                    daemon.kill()
    except* (AssertionError, KafkaError, OSError) as group:
        problems = [f"{topic}: {problem}" for problem in in_words(group)]
    bulk.problems += problems
    if not problems:
        bulk.kills += kills
        shutil.rmtree(logs)


async def _hurt(daemons: list[Daemon], writer: Load, kills: int, rng: Random, bulk: Bulk) -> None:
    """Kill so many times, while events are written all the time."""
    quiet = asyncio.Event()
    for daemon in daemons:
        daemon.start()
    async with asyncio.TaskGroup() as group:
        group.create_task(_write(writer, quiet))
        for _ in range(kills):
            await asyncio.sleep(rng.expovariate(1 / _PAUSE))
            victim = rng.choice(daemons)
            victim.kill()
            victim.start()
            bulk.killed += 1
        quiet.set()


async def _write(writer: Load, quiet: asyncio.Event) -> None:
    while not quiet.is_set():
        await writer.write(_RATE // _PIECES)
        await asyncio.sleep(1 / _PIECES)


async def _count(services: Services, topic: str, daemons: list[Daemon], writer: Load, bulk: Bulk) -> None:
    """Let them catch up and end, and count."""
    await caught_up(services.kafka.bootstrap, topic, topic, ends(writer.records), _DEADLINE)
    for daemon in daemons:
        # The others may have caught up before one that was just started has begun.
        assert await daemon.stop() in (0, EXIT_INTERRUPTED), f"{daemon.name} failed: {daemon.log}"
    ledger = await asyncio.to_thread(read, services.store, topic, topic)
    tally = ledger.tally(writer.records, writer.ids)
    bulk.records += tally.records
    bulk.objects += tally.objects
    bulk.lost += tally.lost
    bulk.doubled += tally.doubled
    bulk.adopted += sum(daemon.log_text().count(ADOPTED) for daemon in daemons)
    assert not tally.problems, "\n".join(tally.problems)


def _daemons(services: Services, topic: str, logs: Path, *, static: bool) -> list[Daemon]:
    """A static member comes back to its partitions at once, another one waits for the session of its former self."""
    keys = {**settings(services.kafka.bootstrap, services.proxied_store, topic, topic), **_SETTINGS}
    return [
        Daemon(
            name, logs, {**keys, **({"kafka.group_instance_id": name} if static else {})}, credentials(services.store)
        )
        for name in "abcdefgh"[:DAEMONS]
    ]


@asynccontextmanager
async def _topic(services: Services, topic: str) -> AsyncIterator[None]:
    """A topic and a bucket of this name."""
    async with topic_admin(services.kafka.bootstrap) as admin:
        await create_topic(admin, topic, PARTITIONS)
    await asyncio.to_thread(services.store.create_bucket, topic)
    try:
        yield
    finally:
        await asyncio.to_thread(services.store.delete_bucket, topic)
        async with topic_admin(services.kafka.bootstrap) as admin:
            await admin.delete_topics([topic])
