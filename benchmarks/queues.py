"""What does an event of a Kinesis stream or an SQS queue cost, beside one of Kafka?

    python -m benchmarks.queues [--messages 10000] [--records 100000] [--rounds 3]

The stream is kinesis-local's, the queue ElasticMQ's, the sink is a directory. All in turn, in the same run. Writes
queues.md and queues.json into benchmarks/results.
"""

import argparse
import asyncio
import os
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path

import msgspec
import uvloop

from benchmarks.rig import results
from benchmarks.rig.fill import TYPICAL, Load, events
from benchmarks.rig.fill import fill as fill_topic
from benchmarks.rig.results import Table, median, spread
from ingestd.config.model import SqsConfig
from ingestd.sources.sqs.source import SqsSource
from tests.e2e.daemon import Daemon
from tests.services import process
from tests.services.aws_emulator import CREDENTIALS
from tests.services.elasticmq import ElasticMQ
from tests.services.kafka import KafkaBroker
from tests.services.kinesis import KinesisLocal
from tests.services.seaweed import REGION

QUESTION = "What does an event of a stream or a queue cost?"
KAFKA, KINESIS = "Kafka: the daemon", "Kinesis: the daemon"
SOURCE, DAEMON = "SQS: received and deleted, no more", "SQS: the daemon"
STREAM = "events"
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


async def of_daemon(what: str, sources: Sequence[Mapping[str, str]], messages: int, folder: Path) -> Run:
    """What a daemon takes for all of the first source, without what it takes for the second, which is empty."""
    full, idle = sources
    _, start = await _drain(idle, 0, folder / "idle")
    elapsed, used = await _drain(full, messages, folder / "full")
    used = max(0.0, used - start)
    return Run(what=what, messages=messages, messages_per_s=messages / elapsed, cpu_us=used / messages * 1e6)


async def _drain(source: Mapping[str, str], messages: int, folder: Path) -> tuple[float, float]:
    """Seconds from readiness until so many have landed, and the process's CPU until then."""
    await asyncio.to_thread(folder.mkdir, parents=True)
    keys = {**source, "sink.url": str(folder / "out"), "batch.interval": "5s"}
    daemon = Daemon("bench", folder, keys, {**CREDENTIALS, "AWS_REGION": REGION})
    try:
        await daemon.start_ready()
        began = time.perf_counter()
        await daemon.until(lambda status: status.totals.landed == messages, DEADLINE_S)
        elapsed = time.perf_counter() - began
        used = _cpu_s(daemon.pid)
        assert await daemon.stop() == 0
        return elapsed, used
    finally:
        daemon.kill()


def of_kafka(bootstrap: str, topic: str) -> dict[str, str]:
    return {"kafka.bootstrap_servers": bootstrap, "kafka.topics": topic, "kafka.group_id": f"bench-{uuid.uuid4().hex}"}


def of_kinesis(server: KinesisLocal, stream: str) -> dict[str, str]:
    place = {"kinesis.endpoint_url": server.endpoint, "kinesis.region": server.region}
    return {"source": "kinesis", "kinesis.stream": stream, "kinesis.poll_interval": "200ms", **place}


def of_queue(server: ElasticMQ, url: str) -> dict[str, str]:
    return {"source": "sqs", "sqs.queue_url": url, "sqs.region": server.region}


def fill_stream(server: KinesisLocal, records: int) -> None:
    """Put events of the usual size into both shards."""
    server.create_stream(STREAM, 2)
    with closing(server.client()) as client:
        values = enumerate(islice(events(Load(events=records)), records))
        while batch := list(islice(values, 500)):
            entries = [{"Data": value, "PartitionKey": str(number)} for number, value in batch]
            client.put_records(StreamName=STREAM, Records=entries)


def _cpu_s(pid: int) -> float:
    """What a process has used, of all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def table(runs: Sequence[Run]) -> Table:
    kafka = median([it.cpu_us for it in runs if it.what == KAFKA])
    rows = []
    for what in (KAFKA, KINESIS, DAEMON, SOURCE):
        own = [it for it in runs if it.what == what]
        costs = [it.cpu_us for it in own]
        rates = spread([it.messages_per_s for it in own], 0)
        rows.append([what, spread(costs, 1), f"{median(costs) / kafka:.1f}", rates])
    note = "CPU is that of ingestd alone. The stand-ins for AWS share the cores, and are what limits events a second."
    return Table(title="Cost", head=["Events come from", "CPU µs", "x Kafka", "Events/s"], rows=rows, note=note)


async def measure(messages: int, records: int, rounds: int, directory: Path) -> list[Run]:
    runs: list[Run] = []
    (directory / "kafka").mkdir()
    with KafkaBroker(directory / "kafka") as broker:
        load = Load(events=records, partitions=2)
        await fill_topic(broker.bootstrap, "full", load)
        await fill_topic(broker.bootstrap, "idle", Load(events=0, partitions=2))
        for number in range(rounds):
            folder = directory / str(number)
            for name in ("kinesis", "sqs"):
                (folder / name).mkdir(parents=True)
            kafka = [of_kafka(broker.bootstrap, topic) for topic in ("full", "idle")]
            runs.append(await of_daemon(KAFKA, kafka, records, folder / "out-kafka"))
            with KinesisLocal(folder / "kinesis") as streams:
                await asyncio.to_thread(fill_stream, streams, records)
                await asyncio.to_thread(streams.create_stream, "idle", 2)
                places = [of_kinesis(streams, stream) for stream in (STREAM, "idle")]
                runs.append(await of_daemon(KINESIS, places, records, folder / "out-kinesis"))
            with ElasticMQ(folder / "sqs") as queues:
                urls = [queues.create_queue(it) for it in ("source", "daemon", "idle")]
                for url in urls[:2]:
                    await asyncio.to_thread(fill, queues, url, messages)
                runs.append(await of_source(queues, urls[0], messages))
                places = [of_queue(queues, it) for it in urls[1:]]
                runs.append(await of_daemon(DAEMON, places, messages, folder / "out"))
    return runs


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.queues", description=QUESTION)
    parser.add_argument("--messages", type=int, default=10_000, help="of the queue")
    parser.add_argument("--records", type=int, default=100_000, help="of the topic and the stream")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    os.environ |= CREDENTIALS
    process.services_allowed = True
    with tempfile.TemporaryDirectory(prefix="ingestd-bench-") as name:
        runs = uvloop.run(measure(options.messages, options.records, options.rounds, Path(name)))
    settings = {
        "Events": f"about {TYPICAL} bytes; {options.records:,} of Kafka and Kinesis, {options.messages:,} of SQS",
        "Rounds, interleaved": str(options.rounds),
    }
    command = f"python -m benchmarks.queues --rounds {options.rounds}"
    results.write(
        results.Report(
            name="queues", question=QUESTION, command=command, settings=settings, tables=[table(runs)], runs=runs
        )
    )


if __name__ == "__main__":
    main()
