"""A broker that asks for TLS and a password."""

from collections.abc import Mapping

from tests.conftest import MakeTopic
from tests.e2e.conftest import MakeDaemon
from tests.e2e.events import fill
from tests.e2e.group import caught_up, committed, ends
from tests.e2e.ledger import read
from tests.services.kafka import KafkaBroker
from tests.services.seaweed import S3Store

PASSWORD = "INGESTD__KAFKA__SASL_PASSWORD"


def sasl(broker: KafkaBroker) -> Mapping[str, str]:
    return {
        "kafka.bootstrap_servers": broker.sasl_bootstrap,
        "kafka.security_protocol": "SASL_SSL",
        "kafka.ssl_ca_file": str(broker.ca_file),
        "kafka.sasl_mechanism": "SCRAM-SHA-512",
        "kafka.sasl_username": broker.username,
    }


async def test_exactly_once_over_tls_with_scram(
    kafka_tls: KafkaBroker, s3: S3Store, bucket: str, make_topic: MakeTopic, make_daemon: MakeDaemon
) -> None:
    topic = await make_topic(2)
    written = await fill(kafka_tls.bootstrap, topic, 2, 20_000)
    daemon = make_daemon("a", topic, sasl(kafka_tls), {PASSWORD: kafka_tls.password})

    await daemon.start_ready()
    await caught_up(kafka_tls.bootstrap, topic, topic, ends(written.records))

    assert await daemon.stop() == 0
    read(s3, bucket, topic).check(written.records, written.ids)
    assert kafka_tls.password not in daemon.log_text()


async def test_a_wrong_password_ends_it_with_a_clear_message(
    kafka_tls: KafkaBroker, make_topic: MakeTopic, make_daemon: MakeDaemon
) -> None:
    topic = await make_topic(1)
    daemon = make_daemon("a", topic, sasl(kafka_tls), {PASSWORD: "not-the-password"})

    daemon.start()

    assert await daemon.ended() == 1
    errors = [line for line in daemon.log_text().splitlines() if '"level": "ERROR"' in line]
    assert len(errors) == 1, errors
    assert "Kafka refuses our credentials" in errors[0]
    assert "check kafka.sasl_*" in errors[0]
    assert "Traceback" not in daemon.log_text()
    assert "not-the-password" not in daemon.log_text()
    assert await committed(kafka_tls.bootstrap, topic, topic) == {}
