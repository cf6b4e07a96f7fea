"""`ingestd verify` finds on a real broker that its log was truncated, with leader epochs in objects and without."""

import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from ingestd import inspection
from ingestd.config.load import Flag, load
from ingestd.core.records import TopicPartition
from ingestd.verify.findings import VerifyReport
from ingestd.verify.run import VerifyOptions, verify
from tests.archive import Archive
from tests.services.kafka import KafkaBroker, create_topic, topic_admin
from tests.services.kafka_log import truncate_log

pytestmark = pytest.mark.services

COUNT = 40  # records of an object
MAX_EPOCH = 10  # more than a few starts of a broker make


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kafka-of-verify")


@pytest.fixture(scope="module")
def broker(directory: Path) -> Iterator[KafkaBroker]:
    with KafkaBroker(directory) as broker:
        yield broker


class Written:
    """A topic of one partition, and two chains of the same objects: with leader epochs, and without."""

    def __init__(self, broker: KafkaBroker) -> None:
        self.partition = TopicPartition(f"test_{uuid.uuid4().hex}", 0)
        self.with_epochs, self.without = Archive(), Archive()
        self._bootstrap = broker.bootstrap
        keys = {"kafka.bootstrap_servers": broker.bootstrap, "kafka.topics": self.partition.topic}
        self._settings = load(environ={}, flags=[Flag("--set", key, value) for key, value in keys.items()])

    async def append(self, *, land: bool = True) -> None:
        """Write records to the log, and an object for them to each chain."""
        now = time.time_ns() // 1_000_000
        async with AIOKafkaProducer(bootstrap_servers=self._bootstrap, acks="all") as producer:
            sent = [
                await producer.send_and_wait(self.partition.topic, b"", partition=0, timestamp_ms=now)
                for _ in range(COUNT)
            ]
        async with inspection.open_inspector(self._settings.config) as inspector:
            cluster = inspector.cluster_id
            ends = await inspector.epoch_ends([(self.partition, epoch) for epoch in range(MAX_EPOCH)])
        epoch = max(end.epoch for end in ends.values() if end is not None)
        if land:
            for archive, known in ((self.with_epochs, epoch), (self.without, None)):
                start, end = sent[0].offset, sent[-1].offset + 1
                archive.add(self.partition, start, end, now, cluster=cluster, leader_epoch=known)

    async def verify(self, archive: Archive) -> VerifyReport:
        return await verify(self._settings, VerifyOptions(), archive.sink, inspection.open_inspector)


def found(report: VerifyReport) -> list[tuple[str, int | None, int | None]]:
    return [(problem.code, problem.start, problem.end) for problem in report.problems]


async def test_a_truncation_behind_which_the_chain_went_on_is_found(broker: KafkaBroker, directory: Path) -> None:
    written = Written(broker)
    async with topic_admin(broker.bootstrap) as admin:
        await create_topic(admin, written.partition.topic, 1)
    for _ in range(3):
        await written.append()
    for archive in (written.with_epochs, written.without):
        assert not found(await written.verify(archive))
    broker.stop()
    truncate_log(directory / "data" / f"{written.partition.topic}-0", 2 * COUNT)
    broker.start()
    await written.append(land=False)
    for archive in (written.with_epochs, written.without):
        assert found(await written.verify(archive)) == [("log_truncated", 2 * COUNT, 3 * COUNT)]
    await written.append()
    for archive in (written.with_epochs, written.without):
        report = await written.verify(archive)
        assert found(report) == [("log_truncated", 2 * COUNT, 3 * COUNT)]
        missing = f"the new records at {2 * COUNT}-{3 * COUNT} ({COUNT} offsets) are in no object"
        assert missing in report.problems[0].message
