"""What does a message of an SQS queue cost? CPU of the source alone, and of the whole daemon.

    python -m benchmarks.queues [--messages 10000] [--rounds 3]

The queue is ElasticMQ's, the sink is a directory. Writes queues.md and queues.json into benchmarks/results.
"""

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path

import msgspec
import uvloop

from benchmarks.rig import results
from benchmarks.rig.fill import TYPICAL, Load, events
from benchmarks.rig.results import Table, spread
from ingestd.config.model import SqsConfig
from ingestd.sources.sqs.source import SqsSource
from tests.e2e.daemon import Daemon
from tests.services import process
from tests.services.aws_emulator import CREDENTIALS
from tests.services.elasticmq import ElasticMQ

QUESTION = "What does a message of a queue cost?"
SOURCE, DAEMON = "received and deleted", "received, validated, landed and deleted"
DEADLINE_S = 600


class Run(msgspec.Struct):
    """One round."""

    what: str
    messages: int
    messages_per_s: float
    cpu_us: float  # a message


def fill(server: ElasticMQ, url: str, messages: int) -> None:
    """Send events of the usual size."""
    with closing(server.client()) as client:
        values = islice(events(Load(events=messages)), messages)
        while batch := list(islice(values, 10)):
            entries = [{"Id": str(number), "MessageBody": value.decode()} for number, value in enumerate(batch)]
            client.send_message_batch(QueueUrl=url, Entries=entries)


async def of_source(server: ElasticMQ, url: str, messages: int) -> Run:
    """Receive and delete in this process."""
    source = SqsSource(SqsConfig(queue_url=url, region=server.region))
    await source.start()
    done = 0
    began, cpu = time.perf_counter(), time.process_time()

    async def drain() -> None:
        nonlocal done
        while done < messages:
            found = await source.receive() or ()
            assert not await source.delete([it.receipt for it in found])
            done += len(found)
            if done == messages:
                source.finish()

    async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(drain())
    used, elapsed = time.process_time() - cpu, time.perf_counter() - began
    await source.stop()
    return Run(what=SOURCE, messages=done, messages_per_s=done / elapsed, cpu_us=used / done * 1e6)


async def of_daemon(server: ElasticMQ, url: str, idle: str, messages: int, folder: Path) -> Run:
    """What a daemon takes for a full queue, without what it takes for an empty one until it is ready."""
    _, start = await _drain(server, idle, folder / "idle")
    elapsed, used = await _drain(server, url, folder / "full")
    used = max(0.0, used - start)
    return Run(what=DAEMON, messages=messages, messages_per_s=messages / elapsed, cpu_us=used / messages * 1e6)


async def _drain(server: ElasticMQ, url: str, folder: Path) -> tuple[float, float]:
    """Seconds from readiness until the queue is empty, and the process's CPU until then."""
    await asyncio.to_thread(folder.mkdir)
    keys = {"source": "sqs", "sqs.queue_url": url, "sink.url": str(folder / "out"), "batch.interval": "5s"}
    daemon = Daemon("bench", folder, keys, {**CREDENTIALS, "AWS_REGION": server.region})
    try:
        await daemon.start_ready()
        began = time.perf_counter()
        async with asyncio.timeout(DEADLINE_S):
            while await asyncio.to_thread(server.depth, url) != (0, 0):  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.1)
        elapsed = time.perf_counter() - began
        used = _cpu_s(daemon.pid)
        assert await daemon.stop() == 0
        return elapsed, used
    finally:
        daemon.kill()


def _cpu_s(pid: int) -> float:
    """What a process has used, of all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def table(runs: Sequence[Run]) -> Table:
    rows = []
    for what in (SOURCE, DAEMON):
        own = [it for it in runs if it.what == what]
        rows.append([what, spread([it.cpu_us for it in own], 0), spread([it.messages_per_s for it in own], 0)])
    note = "ElasticMQ, which shares the cores, is what limits messages a second; CPU is that of ingestd alone."
    return Table(title="SQS", head=["A message is", "CPU µs", "Messages/s"], rows=rows, note=note)


async def run(messages: int, rounds: int) -> None:
    os.environ |= CREDENTIALS
    process.services_allowed = True
    runs: list[Run] = []
    with tempfile.TemporaryDirectory(prefix="ingestd-bench-") as name:
        for number in range(rounds):
            folder = Path(name) / str(number)
            folder.mkdir()
            with ElasticMQ(folder) as server:
                queues = [server.create_queue(it) for it in ("source", "daemon", "idle")]
                for url in queues[:2]:
                    await asyncio.to_thread(fill, server, url, messages)
                runs.append(await of_source(server, queues[0], messages))
                runs.append(await of_daemon(server, queues[1], queues[2], messages, folder))
    settings = {"Events": f"about {TYPICAL} bytes", "Rounds": f"{rounds} of {messages:,} messages"}
    command = "python -m benchmarks.queues"
    results.write(
        results.Report(
            name="queues", question=QUESTION, command=command, settings=settings, tables=[table(runs)], runs=runs
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=QUESTION)
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    uvloop.run(run(options.messages, options.rounds))


if __name__ == "__main__":
    main()
