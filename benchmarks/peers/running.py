"""Runs one system: its process, its group, and what it leaves in the store."""

import asyncio
import signal
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from typing import NamedTuple

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from aiokafka.protocol.group import LeaveGroupRequest

from benchmarks.peers.install import Tools
from benchmarks.peers.systems import Job, System
from benchmarks.rig.meter import Ended, Metered, Usage
from benchmarks.rig.services import Services, committed
from tests.services.kafka import topic_admin

STARTS_WITHIN = 60.0
_POLL = 0.05
_ENDS_WITHIN = 30.0
PROBE_BYTES = 4096  # less is no file of rows but what a system tries the store with


class Ground(NamedTuple):
    """Where all of them run."""

    services: Services
    tools: Tools


class Failed(Exception):
    """A system that does not do what it was started for; the message says how that was seen."""


class Run:
    """One system on one topic. It can be started, killed and started again."""

    def __init__(self, system: System, job: Job, tools: Tools, admin: AIOKafkaAdminClient) -> None:
        self.job = job
        self.group = system.group + job.group
        self._name = system.key
        self._admin = admin
        self._command = system.command(tools, job)
        self._environment = {**job.environment, **system.environment}
        self._process = self._make()

    def _make(self) -> Metered:
        return Metered(self._name, self._command, self.job.scratch / "log", self._environment)

    def start(self) -> None:
        self._process = self._make()
        self._process.start(lambda: True)

    def kill(self) -> None:
        """End it with SIGKILL. Harmless where it does not run."""
        if self._process.running:
            self._process.kill()

    @property
    def running(self) -> bool:
        return self._process.running

    @property
    def usage(self) -> Usage:
        return self._process.usage

    async def end(self) -> Ended | None:
        """Ask it to end, and what it has used then; None where it had to be killed or has ended already."""
        if not self.running:
            return None
        try:
            return await self._process.end(signal.SIGTERM, _ENDS_WITHIN)
        except TimeoutError:
            return None

    async def joined(self) -> None:
        """Wait until the group is at work, which is when records can come."""
        limit = time.monotonic() + STARTS_WITHIN
        while await self._state() != "Stable":
            self._demand(limit, "has not joined its group")
            await asyncio.sleep(_POLL)

    async def _state(self) -> str:
        with suppress(KafkaError):
            (answer,) = await self._admin.describe_consumer_groups([self.group])
            return str(answer.groups[0][2])
        return ""

    def _demand(self, limit: float, what: str) -> None:
        if not self.running:
            raise Failed(f"ended by itself; the end of its log: {self.log_end()}")
        if time.monotonic() > limit:
            raise Failed(f"{what} in time; the end of its log: {self.log_end()}")

    def log_end(self, characters: int = 300) -> str:
        text = (self.job.scratch / "log").read_text(errors="replace")
        return " ".join(text.split())[-characters:]

    async def committed(self) -> int:
        """The sum of the group's offsets."""
        with suppress(KafkaError):  # no group has committed anything yet on a new broker
            return await committed(self._admin, [self.group], self.job.topic)
        return 0

    async def evict(self) -> None:
        """Take members out of the group that were killed, so that nobody waits for their sessions to run out."""
        (answer,) = await self._admin.describe_consumer_groups([self.group])
        coordinator = await self._admin.find_coordinator(self.group)
        for member, *_ in answer.groups[0][5]:
            await self._admin._send_request(LeaveGroupRequest(self.group, member), coordinator)

    async def files(self) -> dict[str, bytes]:
        """All objects below its prefix."""
        return await asyncio.to_thread(read, self.job.services, self.job.prefix)


def read(services: Services, prefix: str) -> dict[str, bytes]:
    """All objects of the bucket below a prefix."""
    with closing(services.store.client()) as client:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=services.bucket, Prefix=f"{prefix}/")
        keys = [found["Key"] for page in pages for found in page.get("Contents", [])]
        return {key: client.get_object(Bucket=services.bucket, Key=key)["Body"].read() for key in keys}


@asynccontextmanager
async def running(
    system: System,
    ground: Ground,
    topic: str,
    partitions: int,
    *,
    rows: int,
    flush_s: float,
    s3: str = "",
) -> AsyncIterator[Run]:
    """A run with a group, a prefix and a scratch directory of its own; its process is killed at the end.

    `s3` is another way to the store than the direct one.
    """
    # Some systems take only letters, digits and underscores in a prefix.
    name = f"{system.key.replace('-', '_')}_{uuid.uuid4().hex[:8]}"
    services = ground.services
    scratch = services.directory / name
    scratch.mkdir()
    job = Job(services, s3 or services.store.endpoint, scratch, topic, partitions, name, name, rows, flush_s)
    async with topic_admin(services.bootstrap) as admin:
        run = Run(system, job, ground.tools, admin)
        try:
            yield run
        finally:
            run.kill()
