"""A broker and a store of our own, with a bucket, for as long as a benchmark runs."""

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from aiokafka.admin import AIOKafkaAdminClient

from tests.services.kafka import KafkaBroker, create_topic, delete_topic, topic_admin
from tests.services.process import end_in_order
from tests.services.seaweed import REGION, SeaweedFS

BUCKET = "bench"
# So long a new group waits for more members, 3 s by default: those that start together share its first generation, and
# no rebalance is measured. Their clients are up by then, so that the beginning of a drain is sharp.
_PROPERTIES = {"group.initial.rebalance.delay.ms": "500"}


class Services(NamedTuple):
    """What is measured runs beside them, on the same cores. `directory` is scratch, removed at the end."""

    directory: Path
    broker: KafkaBroker
    store: SeaweedFS
    bucket: str = BUCKET

    @property
    def bootstrap(self) -> str:
        return self.broker.bootstrap

    @property
    def credentials(self) -> dict[str, str]:
        """Environment variables with which a process may use the store."""
        return {
            "AWS_ACCESS_KEY_ID": self.store.access_key,
            "AWS_SECRET_ACCESS_KEY": self.store.secret_key,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
        }

    def empty(self) -> None:
        """Remove all objects, so that the disk need not hold every run's."""
        self.store.delete_bucket(self.bucket)
        self.store.create_bucket(self.bucket)


@contextlib.contextmanager
def services() -> Iterator[Services]:
    """Both started, with an empty bucket. What they keep is in the place that TMPDIR names."""
    end_in_order()
    with tempfile.TemporaryDirectory(prefix="ingestd-bench-") as name:
        directory = Path(name)
        for part in ("kafka", "s3"):
            (directory / part).mkdir()
        with KafkaBroker(directory / "kafka", properties=_PROPERTIES) as broker, SeaweedFS(directory / "s3") as store:
            store.create_bucket(BUCKET)
            yield Services(directory, broker, store)


async def create(bootstrap: str, topic: str, partitions: int) -> None:
    async with topic_admin(bootstrap) as admin:
        await create_topic(admin, topic, partitions)


async def delete(bootstrap: str, topic: str) -> None:
    async with topic_admin(bootstrap) as admin:
        await delete_topic(admin, topic)


async def committed(admin: AIOKafkaAdminClient, groups: Sequence[str], topic: str) -> int:
    """The sum of the offsets that these groups have committed; in a topic that only we fill, a number of records."""
    total = 0
    for group in groups:
        offsets = await admin.list_consumer_group_offsets(group)
        total += sum(max(0, it.offset) for partition, it in offsets.items() if partition.topic == topic)
    return total
