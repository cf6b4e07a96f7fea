"""What reads a source to its end: a daemon of ours, its SQS source alone, and Bento. Each wait has an end.

All sinks are directories. Each run ends with a count of the rows.
"""

import asyncio
import gzip
import socket
import time
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from benchmarks.peers.install import Tools
from benchmarks.queues.report import BENTO, OURS, OURS_BARE, SQS, Run
from benchmarks.rig.drain import Ingestd, drain_with
from benchmarks.rig.meter import Metered
from ingestd.config.model import SqsConfig
from ingestd.sources.sqs.source import SqsSource
from tests.services.aws_emulator import CREDENTIALS
from tests.services.elasticmq import ElasticMQ
from tests.services.ports import HOST, free_port
from tests.services.process import ServiceError
from tests.services.seaweed import REGION

ENVIRONMENT = {**CREDENTIALS, "AWS_REGION": REGION}
LIMIT_S = 300.0  # without any progress
_LOOK_S = 0.2  # between two looks at what Bento has written
_RECEIVERS = 4
_CONFIGURATIONS = Path(__file__).parents[1] / "peers" / "bento"


class Job(NamedTuple):
    """To read so many events from a source; `folder` is empty, or to be made."""

    source: str
    events: int
    folder: Path


async def run_daemon(job: Job, keys: Mapping[str, str]) -> Run:
    """A daemon with default settings, but for `keys`."""
    await asyncio.to_thread(job.folder.mkdir, parents=True)
    out = job.folder / "out"
    daemon = Ingestd(f"the daemon on {job.source}", {**keys, "sink.url": str(out)}, job.folder, ENVIRONMENT)
    drained = await drain_with([daemon], job.events)
    rows = await asyncio.to_thread(Rows(out).count)
    if rows != job.events:
        raise daemon.failure(f"has written {rows} rows of {job.events} events")
    return Run(job.source, OURS, job.events, drained.events_per_s, drained.cpu_s_per_million)


async def run_sqs_source(server: ElasticMQ, url: str, messages: int) -> Run:
    """Receive and delete in this process, without a pipeline."""
    source = SqsSource(SqsConfig(queue_url=url, region=server.region))
    done = 0

    async def receive_and_delete() -> None:
        nonlocal done
        while (found := await source.receive()) is not None:
            if await source.delete([it.receipt for it in found]):
                raise ServiceError(f"{server.name} does not delete messages: {source.error}")
            done += len(found)
            if done >= messages:
                source.finish()

    try:
        async with asyncio.timeout(LIMIT_S):
            await source.start()
            began, cpu = time.perf_counter(), time.process_time()
            async with asyncio.TaskGroup() as group:
                for _ in range(_RECEIVERS):
                    group.create_task(receive_and_delete())
            used, elapsed = time.process_time() - cpu, time.perf_counter() - began
    except TimeoutError:
        said = f"{done} of {messages} messages in {LIMIT_S:.0f} s: {source.error or 'no error'}"
        raise ServiceError(f"{server.name} has given {said}") from None
    finally:
        await source.stop()
    return Run(SQS, OURS_BARE, done, done / elapsed, used / done * 1e6)


async def run_bento(job: Job, variables: Mapping[str, str], is_empty: Callable[[], bool]) -> Run:
    """Bento with the configuration that is named after the source, until `is_empty` says that all is acknowledged."""
    out = job.folder / "out"
    await asyncio.to_thread(out.mkdir, parents=True)
    port = free_port()
    configuration = _CONFIGURATIONS / f"{job.source.lower()}.yaml"
    places = {"ADDRESS": f"{HOST}:{port}", "OUT": str(out), **variables, **ENVIRONMENT}
    command = [Tools().bento(), "-c", str(configuration)]
    bento = _Bento(f"Bento on {job.source}", command, job.folder / "log", places)
    try:
        await asyncio.to_thread(bento.start, lambda: _is_open(port))
        began, start = time.perf_counter(), bento.usage.cpu_s
        await bento.wait(job.events, Rows(out), is_empty)
        elapsed, used = time.perf_counter() - began, bento.usage.cpu_s - start
    finally:
        bento.kill()
    return Run(job.source, BENTO, job.events, job.events / elapsed, used / job.events * 1e6)


class _Bento(Metered):
    async def wait(self, events: int, rows: "Rows", is_empty: Callable[[], bool]) -> None:
        """Until all is written and acknowledged. ServiceError where it ends, or nothing more comes."""
        most, limit = -1, time.monotonic()
        while True:
            count = await asyncio.to_thread(rows.count)
            if count >= events and await asyncio.to_thread(is_empty):
                return
            if not self.running:
                raise ServiceError(f"{self.name} has ended; {self._tail()}")
            if count > most:
                most, limit = count, time.monotonic() + LIMIT_S
            if time.monotonic() > limit:
                said = f"has written {count} of {events} rows, and no more in {LIMIT_S:.0f} s"
                raise ServiceError(f"{self.name} {said}; {self._tail()}")
            await asyncio.sleep(_LOOK_S)


class Rows:
    """The rows below a folder, in files that are whole. Each file is read once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[Path, int] = {}

    def count(self) -> int:
        for file in self._folder.rglob("*.gz"):
            if file not in self._known and not _is_hidden(file.relative_to(self._folder)):
                try:
                    self._known[file] = len(gzip.decompress(file.read_bytes()).splitlines())
                except (EOFError, OSError, zlib.error):  # it is being written
                    continue
        return sum(self._known.values())


def _is_hidden(file: Path) -> bool:
    return any(part.startswith(".") for part in file.parts)


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0
