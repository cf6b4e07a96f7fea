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
from pathlib import Path
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
LIMIT_S = 300.0  # seconds without any progress
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
    """One daemon, with its default settings but for `settings`. Its log is in `folder`."""

    def __init__(self, name: str, settings: Mapping[str, str], folder: Path, environment: Mapping[str, str]) -> None:
        self._port = free_port()
        keys = {"health.port": str(self._port), "log.level": "WARNING", **settings}
        flags = [part for key, value in keys.items() for part in ("--set", f"{key}={value}")]
        super().__init__(name, [sys.executable, "-m", "ingestd", *flags], folder / f"{name}.log", environment)

    async def status(self) -> Status | None:
        """None where it does not answer yet. ServiceError where it has ended."""
        try:
            return msgspec.json.decode(await self.get("/status"), type=Status)
        except OSError:
            if not self.running:
                raise self.failure("has ended") from None
            return None

    def failure(self, what: str) -> ServiceError:
        """What it has done instead of what was waited for, with the end of its log."""
        return ServiceError(f"{self.name} {what}; {self._tail()}")

    async def get(self, path: str) -> bytes:
        """The body of an answer. OSError where there is none."""
        return await asyncio.to_thread(self._get, path)

    def _get(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://{HOST}:{self._port}{path}", timeout=10) as answer:
            body: bytes = answer.read()
            return body


class Beside(NamedTuple):
    """Ids of processes whose CPU time is measured, too; None: there is none."""

    broker: int | None = None
    store: int | None = None


_ALONE = Beside()


def kafka_to_s3(name: str, services: Services, settings: Mapping[str, str]) -> Ingestd:
    """A daemon that reads from the broker and writes into the store."""
    keys = {
        "kafka.bootstrap_servers": services.bootstrap,
        "sink.url": f"s3://{services.bucket}",
        "s3.endpoint_url": services.store.endpoint,
        **settings,
    }
    return Ingestd(name, keys, services.directory, services.credentials)


async def drain(
    services: Services, topic: str, load: Load, daemons: int = 1, settings: Mapping[str, str] | None = None
) -> Drained:
    """Read all of a topic that was filled with `load`, in a new group, into a new chain. Errors: ServiceError."""
    run = f"{topic}-{uuid.uuid4().hex[:8]}"
    names = {"kafka.topics": topic, "kafka.group_id": run, "sink.lineage": run}
    keys = {**names, **(_ANY_SHARE if load.bad else {}), **(settings or {})}
    drained = await drain_with(
        [kafka_to_s3(f"{run}-{number}", services, keys) for number in range(daemons)],
        load.events,
        Beside(services.broker.pid, services.store.pid),
    )
    async with topic_admin(services.bootstrap) as admin:
        if (total := await committed(admin, [run], topic)) != load.events:
            raise ServiceError(f"{run} has committed {total} of {load.events} records")
    return drained


async def drain_with(group: Sequence[Ingestd], events: int, beside: Beside = _ALONE) -> Drained:
    """Start daemons, wait until they have read and landed so many events, and end them. Errors: ServiceError."""
    try:
        for daemon in group:
            daemon.start(lambda: True)
        return await _watch(group, events, beside)
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
    def now(cls, group: Sequence[Ingestd], beside: Beside) -> "_Mark":
        used = sum(daemon.usage.cpu_s for daemon in group)
        return cls(time.monotonic(), used, *(0.0 if pid is None else tree(pid)[0] for pid in beside))


async def _watch(group: Sequence[Ingestd], events: int, beside: Beside) -> Drained:
    begin = await _beginning(group, beside)
    await _all_consumed(group, events, begin.at)
    for daemon in group:
        os.kill(daemon.pid, signal.SIGTERM)
    end = await _all_landed(group, beside)
    ended = await asyncio.gather(*(daemon.ended() for daemon in group))
    for daemon, outcome in zip(group, ended, strict=True):
        if outcome.code:
            raise daemon.failure(f"ended with {outcome.code}")
    return Drained(
        events=events,
        wall_s=end.at - begin.at,
        cpu_s=end.cpu_s - begin.cpu_s,
        start_cpu_s=begin.cpu_s,
        end_cpu_s=sum(it.usage.cpu_s for it in ended) - end.cpu_s,
        peak_mib=max(it.usage.peak_bytes for it in ended) / (1 << 20),
        broker_cpu_s=end.broker_s - begin.broker_s,
        store_cpu_s=end.store_s - begin.store_s,
    )


async def _beginning(group: Sequence[Ingestd], beside: Beside) -> _Mark:
    """The last moment at which nothing was consumed."""
    limit = time.monotonic() + LIMIT_S
    last = _Mark.now(group, beside)
    while True:
        mark = _Mark.now(group, beside)
        statuses = await asyncio.gather(*(daemon.status() for daemon in group))
        if any(status is not None and status.totals.consumed for status in statuses):
            if idle := [
                daemon.name for daemon, it in zip(group, statuses, strict=True) if it is None or not it.assigned
            ]:
                raise ServiceError(f"{idle[0]} came too late to share the partitions: the machine is too busy")
            return last
        if mark.at > limit:
            raise group[0].failure(f"has consumed nothing in {LIMIT_S:g} s")
        last = mark
        await asyncio.sleep(_SHARP)


async def _all_consumed(group: Sequence[Ingestd], events: int, began: float) -> None:
    """Looks seldom at first, and more often as the end comes near."""
    most, limit = 0, began + LIMIT_S
    while True:
        statuses = await asyncio.gather(*(daemon.status() for daemon in group))
        consumed = sum(status.totals.consumed for status in statuses if status is not None)
        if consumed >= events:
            return
        now = time.monotonic()
        if consumed > most:
            most, limit = consumed, now + LIMIT_S
        if now > limit:
            raise group[0].failure(f"has consumed {most} of {events} records, and no more in {LIMIT_S:g} s")
        left = (now - began) * (events - consumed) / max(consumed, 1)
        await asyncio.sleep(min(_LOOSE, max(_SHARP, left / 2)))


async def _all_landed(group: Sequence[Ingestd], beside: Beside) -> _Mark:
    """The first moment at which nothing is held or to be committed. Who does not answer any more has ended in order."""
    limit = time.monotonic() + LIMIT_S
    while True:
        mark = _Mark.now(group, beside)
        statuses = await asyncio.gather(*(daemon.status() for daemon in group), return_exceptions=True)
        if all(not isinstance(status, Status) or _is_clean(status) for status in statuses):
            return mark
        if mark.at > limit:
            raise group[0].failure(f"has not landed all that it holds after {LIMIT_S:g} s")
        await asyncio.sleep(_SHARP)


def _is_clean(status: Status) -> bool:
    """A queue's messages are held until they are deleted."""
    if status.totals.in_flight or (status.queue is not None and status.queue.held):
        return False
    return all(it.committed == it.landed for it in status.partitions)
