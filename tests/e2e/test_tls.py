"""A broker that asks for TLS and a password."""

import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.conftest import MakeTopic
from tests.e2e.conftest import MakeDaemon
from tests.e2e.daemon import Daemon, credentials, settings
from tests.e2e.events import fill, load
from tests.e2e.group import caught_up, committed, ends
from tests.e2e.ledger import read
from tests.services.kafka import KafkaBroker, SecuredKafka, create_topic, topic_admin
from tests.services.seaweed import S3Store

PASSWORD = "INGESTD__KAFKA__SASL_PASSWORD"


def sasl(broker: SecuredKafka) -> Mapping[str, str]:
    return {
        "kafka.bootstrap_servers": broker.sasl_bootstrap,
        "kafka.security_protocol": "SASL_SSL",
        "kafka.ssl_ca_file": str(broker.ca_file),
        "kafka.sasl_mechanism": "SCRAM-SHA-512",
        "kafka.sasl_username": broker.username,
    }


async def test_exactly_once_over_tls_with_scram(
    kafka_tls: SecuredKafka, s3: S3Store, bucket: str, make_topic: MakeTopic, make_daemon: MakeDaemon
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
    kafka_tls: SecuredKafka, make_topic: MakeTopic, make_daemon: MakeDaemon
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


@pytest.mark.services
async def test_a_broker_that_ends_each_connection_with_its_login_costs_no_record(
    s3: S3Store, bucket: str, tmp_path: Path
) -> None:
    """As MSK does when the credentials of a connection have expired: aiokafka does not sign in again on it (#1105)."""
    topic, lives_ms = "logins", 2000
    with KafkaBroker(tmp_path, tls=True, properties={"connections.max.reauth.ms": str(lives_ms)}) as broker:
        async with topic_admin(broker.bootstrap) as admin:
            await create_topic(admin, topic, 2)
        keys = {**settings(broker.bootstrap, s3, bucket, topic), **sasl(broker.secured)}
        daemon = Daemon("a", tmp_path, keys, {**credentials(s3), PASSWORD: broker.password})
        try:
            await daemon.start_ready()
            until = time.monotonic() + 4 * lives_ms / 1000
            async with load(broker.bootstrap, topic, 2) as writer:
                while time.monotonic() < until:
                    await writer.write(200)
                    await caught_up(broker.bootstrap, topic, topic, ends(writer.records))
            assert await daemon.stop() == 0
        finally:
            daemon.kill()
    read(s3, bucket, topic).check(writer.records, writer.ids)
    assert "closed" in daemon.log_text(), "no connection was ended"
    assert '"level": "ERROR"' not in daemon.log_text()
