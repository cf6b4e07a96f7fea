"""Drains a topic with daemons, and says what that takes.

What starting and ending take is told apart: the drain is from the last look at which nothing was consumed to the first
at which everything was landed and committed.
"""

import asyncio
import os
import signal
import sys
import time
import urllib.request
import uuid
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from benchmarks.rig.fill import Load
from benchmarks.rig.meter import Metered, tree
from benchmarks.rig.services import Services, committed
from ingestd.ops.readiness import Status
from tests.services.kafka import topic_admin
from tests.services.ports import HOST, free_port
from tests.services.process import ServiceError

_SHARP = 0.02  # seconds between two looks, while nothing is consumed yet
_LOOSE = 1.0  # at most, afterwards: looking costs the daemon something
_LIMIT = 300.0
_ANY_SHARE = {"breaker.max_share": "1", "breaker.max_consecutive": "1000000000"}


class Drained(msgspec.Struct, frozen=True, kw_only=True):
    """One drain, of all its processes together; units are in the names."""

    events: int
    wall_s: float
    cpu_s: float
    start_cpu_s: float  # before that
    end_cpu_s: float  # after that, to the end of the processes
    peak_mib: float  # of the largest process
    broker_cpu_s: float = 0.0  # meanwhile
    store_cpu_s: float = 0.0

    @property
    def events_per_s(self) -> float:
        return self.events / self.wall_s

    @property
    def cpu_s_per_million(self) -> float:
        return self.cpu_s / self.events * 1e6


class Ingestd(Metered):
    """One daemon, with its default settings but for `settings`."""

    def __init__(self, name: str, services: Services, settings: Mapping[str, str]) -> None:
        self._port = free_port()
        keys = {
            "kafka.bootstrap_servers": services.bootstrap,
            "sink.url": f"s3://{services.bucket}",
            "s3.endpoint_url": services.store.endpoint,
            "health.port": str(self._port),
            "log.level": "WARNING",
            **settings,
        }
        flags = [part for key, value in keys.items() for part in ("--set", f"{key}={value}")]
        command = [sys.executable, "-m", "ingestd", *flags]
        super().__init__(name, command, services.directory / f"{name}.log", services.credentials)

    async def status(self) -> Status | None:
        """None where it does not answer yet. ServiceError where it has ended."""
        try:
            return msgspec.json.decode(await self.get("/status"), type=Status)
        except OSError:
            if not self.running:
                raise ServiceError(f"{self.name} has ended; {self._tail()}") from None
            return None

    async def get(self, path: str) -> bytes:
        """The body of an answer. OSError where there is none."""
        return await asyncio.to_thread(self._get, path)

    def _get(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://{HOST}:{self._port}{path}", timeout=10) as answer:
            body: bytes = answer.read()
            return body


async def drain(
    services: Services, topic: str, load: Load, daemons: int = 1, settings: Mapping[str, str] | None = None
) -> Drained:
    """Read all of a topic that was filled with `load`, in a new group, into a new chain. Errors: ServiceError."""
    run = f"{topic}-{uuid.uuid4().hex[:8]}"
    names = {"kafka.topics": topic, "kafka.group_id": run, "sink.lineage": run}
    keys = {**names, **(_ANY_SHARE if load.bad else {}), **(settings or {})}
    group = [Ingestd(f"{run}-{number}", services, keys) for number in range(daemons)]
    try:
        for daemon in group:
            daemon.start(lambda: True)
        return await _watch(services, group, run, topic, load)
    finally:
        for daemon in group:
            daemon.kill()


class _Mark(NamedTuple):
    """A moment, and what everybody had used by then: CPU-seconds."""

    at: float
    cpu_s: float
    broker_s: float
    store_s: float

    @classmethod
    def now(cls, services: Services, group: Sequence[Ingestd]) -> "_Mark":
        used = sum(daemon.usage.cpu_s for daemon in group)
        return cls(time.monotonic(), used, tree(services.broker.pid)[0], tree(services.store.pid)[0])


async def _watch(services: Services, group: Sequence[Ingestd], run: str, topic: str, load: Load) -> Drained:
    begin = await _beginning(services, group)
    await _all_consumed(group, load.events, begin.at)
    for daemon in group:
        os.kill(daemon.pid, signal.SIGTERM)
    end = await _all_landed(services, group)
    ended = await asyncio.gather(*(daemon.ended() for daemon in group))
    for daemon, outcome in zip(group, ended, strict=True):
        if outcome.code:
            raise ServiceError(f"{daemon.name} ended with {outcome.code}; {daemon.log}")
    async with topic_admin(services.bootstrap) as admin:
        if (total := await committed(admin, [run], topic)) != load.events:
            raise ServiceError(f"{run} has committed {total} of {load.events} records")
    return Drained(
        events=load.events,
        wall_s=end.at - begin.at,
        cpu_s=end.cpu_s - begin.cpu_s,
        start_cpu_s=begin.cpu_s,
        end_cpu_s=sum(it.usage.cpu_s for it in ended) - end.cpu_s,
        peak_mib=max(it.usage.peak_bytes for it in ended) / (1 << 20),
        broker_cpu_s=end.broker_s - begin.broker_s,
        store_cpu_s=end.store_s - begin.store_s,
    )


async def _beginning(services: Services, group: Sequence[Ingestd]) -> _Mark:
    """The last moment at which nothing was consumed."""
    limit = time.monotonic() + _LIMIT
    last = _Mark.now(services, group)
    while True:
        mark = _Mark.now(services, group)
        statuses = await asyncio.gather(*(daemon.status() for daemon in group))
        if any(status is not None and status.totals.consumed for status in statuses):
            if idle := [
                daemon.name for daemon, it in zip(group, statuses, strict=True) if it is None or not it.assigned
            ]:
                raise ServiceError(f"{idle[0]} came too late to share the partitions: the machine is too busy")
            return last
        if mark.at > limit:
            raise ServiceError(f"{group[0].name} has consumed nothing in {_LIMIT:.0f} s; {group[0].log}")
        last = mark
        await asyncio.sleep(_SHARP)


async def _all_consumed(group: Sequence[Ingestd], events: int, began: float) -> None:
    """Looks seldom at first, and more often as the end comes near."""
    while True:
        statuses = await asyncio.gather(*(daemon.status() for daemon in group))
        consumed = sum(status.totals.consumed for status in statuses if status is not None)
        if consumed >= events:
            return
        elapsed = time.monotonic() - began
        if elapsed > _LIMIT:
            raise ServiceError(f"{group[0].name}: {consumed} of {events} records are consumed; {group[0].log}")
        left = elapsed * (events - consumed) / max(consumed, 1)
        await asyncio.sleep(min(_LOOSE, max(_SHARP, left / 2)))


async def _all_landed(services: Services, group: Sequence[Ingestd]) -> _Mark:
    """The first moment at which nothing is held or to be committed. Who does not answer any more has ended in order."""
    limit = time.monotonic() + _LIMIT
    while True:
        mark = _Mark.now(services, group)
        statuses = await asyncio.gather(*(daemon.status() for daemon in group), return_exceptions=True)
        if all(not isinstance(status, Status) or _is_clean(status) for status in statuses):
            return mark
        if mark.at > limit:
            raise ServiceError(f"{group[0].name} has not landed all that it holds after {_LIMIT:.0f} s; {group[0].log}")
        await asyncio.sleep(_SHARP)


def _is_clean(status: Status) -> bool:
    return not status.totals.in_flight and all(it.committed == it.landed for it in status.partitions)
