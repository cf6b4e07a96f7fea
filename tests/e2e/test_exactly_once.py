"""Each record exactly once where nothing breaks. What breaks is in tests/chaos."""

from tests.conftest import MakeTopic
from tests.e2e.conftest import MakeDaemon
from tests.e2e.events import fill
from tests.e2e.group import caught_up, ends
from tests.e2e.ledger import read
from tests.services.kafka import KafkaAddress, KafkaBroker
from tests.services.seaweed import S3Store

Broker = KafkaAddress | KafkaBroker


async def test_every_record_is_in_one_row_or_in_quarantine(
    kafka: Broker, s3: S3Store, bucket: str, make_topic: MakeTopic, make_daemon: MakeDaemon
) -> None:
    topic = await make_topic(3)
    written = await fill(kafka.bootstrap, topic, 2, 20_000)
    records = {**written.records, 2: range(0)}
    daemon = make_daemon("a", topic)

    await daemon.start_ready()
    await caught_up(kafka.bootstrap, topic, topic, ends(records))

    assert await daemon.stop() == 0
    read(s3, bucket, topic).check(records, written.ids)
