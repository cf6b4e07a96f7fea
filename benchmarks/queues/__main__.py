"""What does an event of a Kinesis stream or an SQS queue cost, beside one of Kafka?

    python -m benchmarks.queues [--events 1000000] [--records 100000] [--messages 10000] [--rounds 3]

The stream is kinesalite's, the queue ElasticMQ's, in memory; every sink is a directory. Bento reads the same events,
where it can be built (Go): the same queue, and a stream of ministack, because it needs DynamoDB at the same address and
names streams in a way that kinesalite does not know. All in turn, in one run. Writes queues.md and queues.json into
benchmarks/results. kinesis-local is of no use here: to put a record takes the longer, the more it has.
"""

import argparse
import asyncio
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import uvloop

from benchmarks.peers.install import Missing, Tools
from benchmarks.queues.consumers import Job, run_bento, run_daemon, run_sqs_source
from benchmarks.queues.feeds import ONCE, PER_PUT, SHARDS, fill_queue, fill_stream
from benchmarks.queues.report import KAFKA, KINESIS, SQS, Run, cost_table, goal_table
from benchmarks.rig import results
from benchmarks.rig.fill import TYPICAL, Load, fill
from tests.services.aws_emulator import CREDENTIALS
from tests.services.elasticmq import ElasticMQ, elasticmq_jars
from tests.services.kafka import KafkaBroker
from tests.services.kinesis import PINS, Kinesalite
from tests.services.ministack import Ministack

QUESTION = "What does an event of a stream or a queue cost?"
TOPIC = "events"
_INTERVAL = {"batch.interval": "5s"}


class Counts(NamedTuple):
    """How many events are in each source."""

    events: int
    records: int
    messages: int


async def measure(
    counts: Counts, rounds: int, folder: Path, record: Callable[[Run], None], *, with_bento: bool
) -> None:
    """Each round has all sources in turn, the stream and the queue in new emulators."""
    (folder / "kafka").mkdir()
    with KafkaBroker(folder / "kafka") as broker:
        await fill(broker.bootstrap, TOPIC, Load(events=counts.events, partitions=SHARDS))
        for number in range(rounds):
            place = folder / f"round-{number}"
            place.mkdir()
            record(await run_daemon(Job(KAFKA, counts.events, place / "kafka"), _kafka_keys(broker)))
            await _measure_kinesis(counts.records, place, record, with_bento=with_bento)
            await _measure_sqs(counts.messages, place, record, with_bento=with_bento)
            await asyncio.to_thread(shutil.rmtree, place)


def _kafka_keys(broker: KafkaBroker) -> dict[str, str]:
    group = f"bench-{uuid.uuid4().hex}"
    return {"kafka.bootstrap_servers": broker.bootstrap, "kafka.topics": TOPIC, "kafka.group_id": group, **_INTERVAL}


async def _measure_kinesis(records: int, place: Path, record: Callable[[Run], None], *, with_bento: bool) -> None:
    for name in ("stream", "stream-bento"):
        (place / name).mkdir()
    with Kinesalite(place / "stream") as server:
        await asyncio.to_thread(fill_stream, server.client(config=ONCE), TOPIC, records)
        where = {"kinesis.endpoint_url": server.endpoint, "kinesis.region": server.region}
        keys = {"source": "kinesis", "kinesis.stream": TOPIC, **where, **_INTERVAL}
        record(await run_daemon(Job(KINESIS, records, place / "kinesis"), keys))
    if with_bento:
        with Ministack(place / "stream-bento") as other:
            await asyncio.to_thread(fill_stream, other.streams(), TOPIC, records)
            variables = {"STREAM": TOPIC, "TABLE": "checkpoints", "ENDPOINT": other.endpoint}
            record(await run_bento(Job(KINESIS, records, place / "kinesis-bento"), variables, lambda: True))


async def _measure_sqs(messages: int, place: Path, record: Callable[[Run], None], *, with_bento: bool) -> None:
    """One queue after the other is filled, so that a small heap holds it."""
    (place / "queues").mkdir()
    with ElasticMQ(place / "queues", durable=False) as server:
        url = await asyncio.to_thread(fill_queue, server, "daemon", messages)
        keys = {"source": "sqs", "sqs.queue_url": url, "sqs.region": server.region, **_INTERVAL}
        record(await run_daemon(Job(SQS, messages, place / "sqs"), keys))
        url = await asyncio.to_thread(fill_queue, server, "bare", messages)
        record(await run_sqs_source(server, url, messages))
        if with_bento:
            url = await asyncio.to_thread(fill_queue, server, "bento", messages)
            job, variables = Job(SQS, messages, place / "sqs-bento"), {"QUEUE_URL": url, "ENDPOINT": server.endpoint}
            record(await run_bento(job, variables, lambda: server.depth(url) == (0, 0)))


async def collect(counts: Counts, rounds: int, *, with_bento: bool) -> list[Run]:
    """All runs; each is printed when it is done."""
    runs: list[Run] = []

    def record(run: Run) -> None:
        runs.append(run)
        cost = f"{run.cpu_us:8.1f} CPU us/event {run.events_per_s:9,.0f} events/s"
        print(f"{run.source:8} {run.system:40} {cost}", flush=True)

    with tempfile.TemporaryDirectory(prefix="ingestd-bench-") as name:
        await measure(counts, rounds, Path(name), record, with_bento=with_bento)
    return runs


def report(runs: list[Run], counts: Counts, rounds: int) -> results.Report:
    kinesalite = json.loads((PINS / "package.json").read_text())["dependencies"]["kinesalite"]
    settings = {
        "Events": f"about {TYPICAL} bytes; {counts.events:,} of Kafka, {counts.records:,} of Kinesis, "
        f"{counts.messages:,} of SQS; {SHARDS} partitions or shards",
        "Rounds, interleaved": str(rounds),
        "Stand-ins for AWS": f"kinesalite {kinesalite} (ministack for Bento), {elasticmq_jars().name} in memory",
        "Load average of the machine": results.load(),
    }
    return results.Report(
        name="queues",
        question=QUESTION,
        command="python -m benchmarks.queues",
        settings=settings,
        tables=[cost_table(runs), goal_table(runs)],
        runs=runs,
    )


def main() -> None:
    """Measure and write a page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000, help="of the topic")
    parser.add_argument("--records", type=int, default=100_000, help=f"of the stream, a multiple of {PER_PUT}")
    parser.add_argument("--messages", type=int, default=10_000, help="of each queue")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=results.RESULTS, help="where the page is written")
    options = parser.parse_args()
    if options.records % PER_PUT:
        parser.error(f"--records {options.records} is not a multiple of {PER_PUT}")
    os.environ |= CREDENTIALS
    try:
        Tools().bento()
    except Missing as why:
        print(f"without Bento: {why}")
        with_bento = False
    else:
        with_bento = True
    counts = Counts(options.events, options.records, options.messages)
    runs = uvloop.run(collect(counts, options.rounds, with_bento=with_bento))
    results.write(report(runs, counts, options.rounds), directory=options.folder)


if __name__ == "__main__":
    main()
