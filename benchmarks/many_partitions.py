"""What does a daemon with very many partitions take to start, to read what waits, to restart, and when nothing comes?

    python -m benchmarks.many_partitions [--partitions 1000] [--idle 30]

Default settings, two records of each partition for each start: in an empty bucket, after a restart, for a group
without offsets, which finds its place in the objects, and for one more in a bucket that also has a year of objects of
another topic. Writes many_partitions.md and many_partitions.json into benchmarks/results.
"""

import argparse
import asyncio
import os
import signal
import time
from collections.abc import Callable, Mapping

import msgspec
import uvloop
from aiokafka import AIOKafkaProducer

from benchmarks.rig import results
from benchmarks.rig.drain import Ingestd, kafka_to_s3
from benchmarks.rig.fill import Load, events
from benchmarks.rig.results import Table
from benchmarks.rig.services import Services, create, services
from ingestd.core.object_keys import ObjectKeys
from ingestd.core.records import TopicPartition
from ingestd.ops.readiness import Status
from tests.services import process

QUESTION = "What do very many partitions cost when a daemon starts, and when nothing comes?"
TOPIC = "many"
AGED = "a group without offsets, a year of day folders"
# What differs at a start, and the group.
STARTS = {
    "an empty bucket": "first",
    "a restart": "first",
    "a group without offsets": "second",
    AGED: "third",
}
DAYS, A_DAY = 365, 24  # folders of the old topic, and the objects in each
RECORDS = 2  # of each partition
LIMIT_S = 600.0
DAY_MS = 24 * 60 * 60 * 1000
_LOOK_S = 0.1


class Run(msgspec.Struct):
    """One start of the daemon; units are in the names."""

    what: str
    ready_s: float
    read_s: float  # until the last record was read
    landed_s: float
    cpu_s: float  # until then
    idle_share: float  # of a core, afterwards


async def started(what: str, services: Services, settings: Mapping[str, str], records: int, idle_s: float) -> Run:
    """Start a daemon, wait until it has landed so many records, leave it alone, and stop it."""
    daemon = kafka_to_s3("daemon", services, settings)
    began = time.monotonic()
    daemon.start(lambda: True)
    try:
        ready = await _until(daemon, began, lambda status: status.ready and bool(status.assigned))
        read = await _until(daemon, began, lambda status: status.totals.consumed >= records)
        landed = await _until(daemon, began, lambda status: status.totals.landed >= records)
        used = daemon.usage.cpu_s
        await asyncio.sleep(5)  # the last commits
        before, at = daemon.usage.cpu_s, time.monotonic()
        await asyncio.sleep(idle_s)
        idle = (daemon.usage.cpu_s - before) / (time.monotonic() - at)
        os.kill(daemon.pid, signal.SIGTERM)
        if code := (await daemon.ended()).code:
            raise daemon.failure(f"ended with {code}")
    finally:
        daemon.kill()
    return Run(what, ready, read, landed, used, idle)


async def _until(daemon: Ingestd, began: float, reached: Callable[[Status], bool]) -> float:
    """Seconds since `began`. ServiceError where it takes too long."""
    while True:
        status = await daemon.status()
        if status is not None and reached(status):
            return time.monotonic() - began
        if time.monotonic() - began > LIMIT_S:
            raise daemon.failure(f"is not there after {LIMIT_S:.0f} s")
        await asyncio.sleep(_LOOK_S)


async def write(bootstrap: str, partitions: int) -> int:
    """Some records more into each partition; their number."""
    values = events(Load(events=0))
    async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
        sent = [
            await producer.send(TOPIC, next(values), partition=partition)
            for _ in range(RECORDS)
            for partition in range(partitions)
        ]
        await asyncio.gather(*sent)
    return len(sent)


def age(services: Services) -> None:
    """Put objects of another topic into the folders of the days before today."""
    client, keys, old = services.store.client(), ObjectKeys("bench"), TopicPartition("old", 0)
    now = int(time.time() * 1000)
    for number in range(DAYS * A_DAY):
        timestamp = now - (1 + number // A_DAY) * DAY_MS
        client.put_object(Bucket=services.bucket, Key=keys.data_key(old, number, timestamp, number + 1), Body=b"")


async def measure(partitions: int, idle_s: float) -> list[Run]:
    """The three starts, each with new records."""
    runs = []
    with services() as rig:
        await create(rig.bootstrap, TOPIC, partitions)
        for what, group in STARTS.items():
            if what == AGED:
                await asyncio.to_thread(age, rig)
            records = await write(rig.bootstrap, partitions)
            settings = {"kafka.topics": TOPIC, "kafka.group_id": group, "sink.lineage": "bench"}
            runs.append(await started(what, rig, settings, records, idle_s))
    return runs


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.many_partitions", description=QUESTION)
    parser.add_argument("--partitions", type=int, default=1000)
    parser.add_argument("--idle", type=float, default=30.0, help="seconds that the daemon is left alone")
    options = parser.parse_args()
    process.services_allowed = True
    runs = uvloop.run(measure(options.partitions, options.idle))
    rows = [
        [it.what, *(f"{value:.1f}" for value in (it.ready_s, it.read_s, it.landed_s, it.cpu_s)), f"{it.idle_share:.1%}"]
        for it in runs
    ]
    head = [
        "Start with",
        "Ready after s",
        "All read after s",
        "All landed after s",
        "CPU s until then",
        "Idle, of a core",
    ]
    note = "A batch waits for `batch.interval`, so that records land later than they are read."
    results.write(
        results.Report(
            name="many_partitions",
            question=QUESTION,
            command=f"python -m benchmarks.many_partitions --partitions {options.partitions} --idle {options.idle:g}",
            settings={"Partitions": f"{options.partitions:,}", "Records of each, for each start": str(RECORDS)},
            tables=[Table(title="Starts", head=head, rows=rows, note=note)],
            runs=runs,
        )
    )


if __name__ == "__main__":
    main()
