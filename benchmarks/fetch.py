"""Fetches a topic to its end and does nothing with it: what a client alone takes.

    python -m benchmarks.fetch BOOTSTRAP TOPIC PARTITIONS EVENTS --client aiokafka|ingestd

`ingestd` is the daemon's own source, as a member of a group; `aiokafka` is the library as it is, a `ConsumerRecord` for
each record. Prints one JSON line, from the first records to the end.
"""

import argparse
import os
import time
import uuid
from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing

import msgspec
from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaPartition

from benchmarks.rig.meter import tree
from benchmarks.yardstick import Result
from ingestd import wiring
from ingestd.config.model import KafkaConfig
from ingestd.core.records import TopicPartition
from ingestd.ops.gc_tuning import calm_collector
from ingestd.sources.base import Source
from ingestd.sources.kafka import KafkaSource

CLIENTS = ("aiokafka", "ingestd")


async def by_aiokafka(bootstrap: str, topic: str, partitions: int) -> AsyncGenerator[int, None]:
    """Numbers of records, as they come."""
    config = KafkaConfig()
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        auto_offset_reset="earliest",
        fetch_max_bytes=config.fetch_max_bytes,
        max_partition_fetch_bytes=config.partition_fetch_bytes,
    )
    await consumer.start()
    try:
        consumer.assign([KafkaPartition(topic, number) for number in range(partitions)])
        while True:
            fetched = await consumer.getmany(timeout_ms=1000, max_records=config.max_records)
            yield sum(map(len, fetched.values()))
    finally:
        await consumer.stop()


class _Everything:
    """A listener that reads what it is given from the beginning."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def on_assigned(self, partitions: Collection[TopicPartition]) -> None:
        for partition in partitions:
            self._source.seek(partition, 0)

    async def on_revoked(self, partitions: Collection[TopicPartition]) -> None: ...

    def on_out_of_range(self, partition: TopicPartition) -> None:
        raise AssertionError(f"{partition} does not begin at 0")


async def by_ingestd(bootstrap: str, topic: str) -> AsyncGenerator[int, None]:
    """Numbers of records, as they come."""
    kafka = KafkaConfig(bootstrap_servers=(bootstrap,), topics=(topic,), group_id=f"fetch-{uuid.uuid4().hex[:8]}")
    source = KafkaSource(kafka)
    await source.start(_Everything(source))
    try:
        while (fetched := await source.fetch()) is not None:
            yield sum(len(found.records) for found in fetched.values())
    finally:
        await source.stop()


async def main(options: argparse.Namespace) -> Result:
    if options.client == "ingestd":
        numbers = by_ingestd(options.bootstrap, options.topic)
    else:
        numbers = by_aiokafka(options.bootstrap, options.topic, options.partitions)
    done, wall, cpu = 0, 0.0, 0.0
    begin = None
    with calm_collector():  # as the daemon does, for all of them
        async with aclosing(numbers):
            async for number in numbers:
                if begin is None and number:
                    begin = time.perf_counter(), time.process_time()
                done += number
                if begin is not None and done >= options.events:
                    wall, cpu = time.perf_counter() - begin[0], time.process_time() - begin[1]
                    break
    peak = sum(tree(os.getpid())[1].values()) / 2**20
    return Result(events=done, wall_s=wall, cpu_s=cpu, peak_mib=peak)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fetch", description=__doc__.split("\n")[0])
    parser.add_argument("bootstrap")
    parser.add_argument("topic")
    parser.add_argument("partitions", type=int)
    parser.add_argument("events", type=int, help="how many there are")
    parser.add_argument("--client", choices=CLIENTS, default=CLIENTS[-1])
    print(msgspec.json.encode(wiring.run(main(parser.parse_args()))).decode())
