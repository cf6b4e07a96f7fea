"""Logs that lose records which were acknowledged, and get others with the same offsets."""

import asyncio
import gzip
import json
from collections import Counter
from collections.abc import Collection, Mapping
from contextlib import closing
from itertools import islice
from random import Random

from aiokafka import AIOKafkaProducer

from ingestd.core.object_keys import EVENTS
from tests.chaos.fault import fault
from tests.chaos.rig import Rig
from tests.e2e.daemon import Daemon, credentials
from tests.e2e.events import event_id, events, is_good
from tests.e2e.group import caught_up
from tests.services.kafka import create_topic, topic_admin
from tests.services.kafka_cluster import KafkaCluster
from tests.services.seaweed import S3Store

CUT, OTHER = 0, 1  # partitions: the one whose log is cut, and one whose leader stays
LEADER, FOLLOWER = 1, 2  # the brokers of the first

# Numbers of events, which are written one batch of numbers after the other.
KEPT, LOST, NEW = range(1000), range(1000, 1500), range(1500, 2400)
TRUNCATED_AT, END = len(KEPT), len(KEPT) + len(NEW)
COMMITTED = len(KEPT) + len(LOST)

OTHERS = range(10_000, 10_100)

_LOSES = {"unclean.leader.election.enable": "true", "min.insync.replicas": "1"}


# Its short form takes more than a minute, and contract tests truncate the log of a real broker, too.
@fault(brokers=3, partitions=3, short=False)
async def unclean_election(rig: Rig, _: Random) -> str:
    """A broker that lacks records is elected when the other has died, for topics that allow it (unclean election)."""
    bucket = f"{rig.bucket}-cut"
    await asyncio.to_thread(rig.store.create_bucket, bucket)
    rig.until_end.callback(rig.store.delete_bucket, bucket)
    victims = {f"{rig.topic}_{name}": Victim(rig, bucket, name) for name in ("running", "frozen", "stopped")}
    rig.until_end.push_async_callback(_delete, rig.cluster, list(victims))
    for topic, victim in victims.items():
        await _create(rig.cluster, topic)
        await _write(rig.cluster, topic, CUT, KEPT)
        victim.start()
    await _committed(rig, victims, {CUT: len(KEPT), OTHER: 0})
    await _write_unreplicated(rig.cluster, victims)
    await _committed(rig, victims, {CUT: COMMITTED, OTHER: 0})
    _running, frozen, stopped = victims.values()
    assert await stopped.stop() == 0
    frozen.freeze()
    await _elect_uncleanly(rig.cluster, victims)
    await rig.outlived()
    frozen.thaw()
    stopped.start()
    await _halted(victims)
    await _stop_all(victims)
    for victim in victims.values():
        victim.start()
    await _halted(victims)
    for topic in victims:
        await _write(rig.cluster, topic, OTHER, OTHERS)
    await _committed(rig, victims, {CUT: COMMITTED, OTHER: len(OTHERS)})
    await _counted(rig, victims, bucket, KEPT, LOST, OTHERS)
    await _stop_all(victims)
    for victim in victims.values():
        victim.fork()
    await _committed(rig, victims, {CUT: END, OTHER: len(OTHERS)})
    await _counted(rig, victims, bucket, KEPT, LOST, NEW, OTHERS)
    return (
        "truncated partitions halted (log_truncated), in daemons that ran, were frozen, were stopped, and after a "
        "restart; with kafka.on_truncation = fork they continued, and rows of lost records stayed"
    )


class Victim(Daemon):
    """The only daemon of a topic whose log is cut."""

    def __init__(self, rig: Rig, bucket: str, name: str) -> None:
        topic = f"{rig.topic}_{name}"
        place = {"kafka.topics": topic, "kafka.group_id": topic, "sink.url": f"s3://{bucket}"}
        self._settings = {**rig.settings, **place}
        super().__init__(name, rig.directory, self._settings, credentials(rig.store))
        rig.until_end.callback(self.kill)

    def fork(self) -> None:
        """Start it so that it goes on where the log was cut."""
        self.configure({**self._settings, "kafka.on_truncation": "fork"})
        self.start()


async def _stop_all(victims: Mapping[str, Daemon]) -> None:
    codes = await asyncio.gather(*(victim.stop() for victim in victims.values()))
    assert set(codes) == {0}, codes


async def _halted(victims: Mapping[str, Daemon]) -> None:
    """Wait until each daemon has halted the partition that was cut, and only that."""
    for topic, victim in victims.items():
        status = await victim.until(lambda now: any(each.halted for each in now.partitions))
        found = [each.partition for each in status.partitions if each.halted]
        assert found == [CUT], f"{victim.name} has halted {found}"
        code = await victim.metric("ingestd_partition_halts_total", topic=topic, code="log_truncated")
        assert code, f"{victim.name} has halted for another reason: {victim.log_text()}"


async def _committed(rig: Rig, topics: Collection[str], wanted: Mapping[int, int]) -> None:
    for topic in topics:
        await caught_up(rig.cluster.bootstrap, topic, topic, wanted)


async def _counted(rig: Rig, topics: Collection[str], bucket: str, *numbers: range) -> None:
    """Each good event of these numbers is in one row, and no other is in any."""
    wanted = Counter(event_id(number) for each in numbers for number in each if is_good(number))
    for topic in topics:
        found = await asyncio.to_thread(_count_rows, rig.store, bucket, topic)
        lost, more = (wanted - found).total(), (found - wanted).total()
        assert found == wanted, f"{topic}: {lost} rows are lost, {more} are too many"


async def _create(cluster: KafkaCluster, topic: str) -> None:
    """Create a topic that puts being there above being whole."""
    async with topic_admin(cluster.bootstrap) as admin:
        await create_topic(admin, topic, 2, _LOSES, {CUT: [LEADER, FOLLOWER], OTHER: [3, LEADER]})


async def _delete(cluster: KafkaCluster, topics: list[str]) -> None:
    async with topic_admin(cluster.bootstrap) as admin:
        await admin.delete_topics(topics)


async def _write(cluster: KafkaCluster, topic: str, partition: int, numbers: range) -> None:
    """Write the events of these numbers; all replicas that are in sync have them when this returns."""
    async with AIOKafkaProducer(bootstrap_servers=cluster.bootstrap, acks="all") as producer:
        sent = [
            await producer.send(topic, value, key, partition=partition)
            for _, key, value in islice(events(numbers.start), len(numbers))
        ]
        await asyncio.gather(*sent)


async def _write_unreplicated(cluster: KafkaCluster, topics: Collection[str]) -> None:
    """Kill the follower, and write what will be lost to the leader, which is alone."""
    cluster.kill([FOLLOWER])
    for topic in topics:
        await cluster.until_without(topic, FOLLOWER)
        await _write(cluster, topic, CUT, LOST)


async def _elect_uncleanly(cluster: KafkaCluster, topics: Collection[str]) -> None:
    """Kill the leader, start the follower, which lacks records, and write more than it lacks.

    AssertionError where the cluster has not truncated the logs.
    """
    epochs = {topic: max(await cluster.epochs(topic)) for topic in topics}
    cluster.kill([LEADER])
    await asyncio.to_thread(cluster.start, [FOLLOWER])
    for topic in topics:
        await cluster.until(topic, lambda now: now[CUT].leader == FOLLOWER)
        await _write(cluster, topic, CUT, NEW)
    await asyncio.to_thread(cluster.start)
    for topic, epoch in epochs.items():
        await cluster.until_healed(topic)
        ends = await cluster.epochs(topic)
        kept = max((each for each in ends if each <= epoch), default=None)
        assert kept is not None, f"{topic}: nothing is kept: {ends}"
        assert ends[kept] == TRUNCATED_AT, f"{topic}: epoch {epoch} was the last, and is not truncated: {ends}"
        assert max(ends) > epoch, f"{topic}: no new epoch: {ends}"
        assert ends[max(ends)] == END, f"{topic}: the log has another end: {ends}"


def _count_rows(store: S3Store, bucket: str, topic: str) -> Counter[str]:
    """How many rows each event of a topic has, whatever the names of the objects."""
    found: Counter[str] = Counter()
    with closing(store.client()) as client:
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=EVENTS):
            for entry in page.get("Contents", []):
                body = client.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read()
                rows = map(json.loads, gzip.decompress(body).splitlines())
                found.update(row["event_id"] for row in rows if row["source_topic"] == topic)
    return found
