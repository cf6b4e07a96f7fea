"""An unclean leader election: records that were acknowledged are lost, and others take their offsets."""

import asyncio
import gzip
import json
from collections import Counter
from collections.abc import Collection
from contextlib import closing
from itertools import islice

from aiokafka import AIOKafkaProducer

from ingestd.core.object_keys import EVENTS
from tests.e2e.events import event_id, events, is_good
from tests.services.kafka import create_topic, topic_admin
from tests.services.kafka_cluster import KafkaCluster
from tests.services.seaweed import S3Store

CUT, OTHER = 0, 1  # partitions: the one whose log is cut, and one whose leader stays
LEADER, FOLLOWER = 1, 2  # the brokers of the first

# Numbers of events, which are written one batch of numbers after the other.
KEPT, LOST, NEW = range(1000), range(1000, 1500), range(1500, 2400)
TRUNCATED_AT, END = len(KEPT), len(KEPT) + len(NEW)
COMMITTED = len(KEPT) + len(LOST)

_LOSES = {"unclean.leader.election.enable": "true", "min.insync.replicas": "1"}


async def create(cluster: KafkaCluster, topic: str) -> None:
    """Create a topic that puts being there above being whole."""
    async with topic_admin(cluster.bootstrap) as admin:
        await create_topic(admin, topic, 2, _LOSES, {CUT: [LEADER, FOLLOWER], OTHER: [3, LEADER]})


async def write(cluster: KafkaCluster, topic: str, partition: int, numbers: range) -> None:
    """Write the events of these numbers; all replicas that are in sync have them when this returns."""
    async with AIOKafkaProducer(bootstrap_servers=cluster.bootstrap, acks="all") as producer:
        sent = [
            await producer.send(topic, value, key, partition=partition)
            for _, key, value in islice(events(numbers.start), len(numbers))
        ]
        await asyncio.gather(*sent)


async def write_unreplicated(cluster: KafkaCluster, topics: Collection[str]) -> None:
    """Kill the follower, and write what will be lost to the leader, which is alone."""
    cluster.kill([FOLLOWER])
    for topic in topics:
        await cluster.until_without(topic, FOLLOWER)
        await write(cluster, topic, CUT, LOST)


async def elect_uncleanly(cluster: KafkaCluster, topics: Collection[str]) -> None:
    """Kill the leader, start the follower, which lacks records, and write more than it lacks.

    AssertionError where the cluster has not truncated the logs.
    """
    epochs = {topic: max(await cluster.epochs(topic)) for topic in topics}
    cluster.kill([LEADER])
    await asyncio.to_thread(cluster.start, [FOLLOWER])
    for topic in topics:
        await cluster.until(topic, lambda now: now[CUT].leader == FOLLOWER)
        await write(cluster, topic, CUT, NEW)
    await asyncio.to_thread(cluster.start)
    for topic, epoch in epochs.items():
        await cluster.until_healed(topic)
        ends = await cluster.epochs(topic)
        kept = max((each for each in ends if each <= epoch), default=None)
        assert kept is not None, f"{topic}: nothing is kept: {ends}"
        assert ends[kept] == TRUNCATED_AT, f"{topic}: epoch {epoch} was the last, and is not truncated: {ends}"
        assert max(ends) > epoch, f"{topic}: no new epoch: {ends}"
        assert ends[max(ends)] == END, f"{topic}: the log has another end: {ends}"


def count_rows(store: S3Store, bucket: str, topic: str) -> Counter[str]:
    """How many rows each event of a topic has, whatever the names of the objects."""
    found: Counter[str] = Counter()
    with closing(store.client()) as client:
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=EVENTS):
            for entry in page.get("Contents", []):
                body = client.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read()
                rows = map(json.loads, gzip.decompress(body).splitlines())
                found.update(row["event_id"] for row in rows if row["source_topic"] == topic)
    return found


def once(*numbers: range) -> Counter[str]:
    """One row for each good event of these numbers."""
    return Counter(event_id(number) for each in numbers for number in each if is_good(number))
