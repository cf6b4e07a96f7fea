"""How the Kafka source and the producer find a cluster: topics, credentials, what is missing."""

import asyncio
import gc
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.metadata import MetadataRequest

from ingestd.config.model import KafkaConfig
from ingestd.config.types import Secret
from ingestd.core.errors import ConfigError, SourceError
from ingestd.core.records import LogRange, Position
from ingestd.sources.kafka import KafkaSource, produce
from ingestd.sources.kafka._aiokafka import create_conn
from ingestd.wiring import run
from tests.chaos.tcp_proxy import TcpProxy
from tests.conftest import MakeTopic
from tests.contract.source_contract import LIMIT, Reader, RecordingListener, values
from tests.services.kafka import SecuredKafka
from tests.services.ports import HOST, free_port
from tests.test_kafka_source import Broker, kafka_config, partitions_of, running, until

# -- the first contact


async def test_a_missing_topic_is_an_error_that_names_it(kafka: Broker, make_topic: MakeTopic) -> None:
    source = KafkaSource(kafka_config(kafka, await make_topic(1), "no_such_topic"))
    with pytest.raises(SourceError, match="topic no_such_topic does not exist"):
        await source.start(RecordingListener())
    await source.stop()


async def test_waits_for_a_broker_that_is_not_there_and_can_be_stopped() -> None:
    source = KafkaSource(KafkaConfig(bootstrap_servers=(f"127.0.0.1:{free_port()}",)))
    starting = asyncio.create_task(source.start(RecordingListener()))
    await until(lambda: source.error is not None)
    starting.cancel()
    await asyncio.wait([starting])
    await source.stop()
    assert await source.fetch() is None


async def test_a_connection_that_was_just_lost_fails_as_one_on_the_daemons_loop(kafka: Broker) -> None:
    ours = asyncio.get_running_loop()

    async def send() -> None:
        connection = await create_conn(HOST, proxy.port)
        ours.call_soon_threadsafe(proxy.reset)
        with pytest.raises(KafkaConnectionError):
            await send_for_ever(connection)

    async with TcpProxy(free_port(), int(kafka.bootstrap.rpartition(":")[2])) as proxy:
        await asyncio.to_thread(run, send())


async def send_for_ever(connection: Any) -> None:
    while True:
        connection.send(MetadataRequest([])).close()
        connection._requests[-1][2].add_done_callback(lambda answer: answer.exception())  # nobody waits for it
        await asyncio.sleep(0)


def secure(broker: SecuredKafka, topic: str, **changes: Any) -> KafkaConfig:
    settings = {
        "bootstrap_servers": (broker.sasl_bootstrap,),
        "security_protocol": "SASL_SSL",
        "ssl_ca_file": str(broker.ca_file),
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_username": broker.username,
        "sasl_password": Secret(broker.password),
    }
    return kafka_config(broker, topic, **{**settings, **changes})


async def test_reads_and_writes_over_tls_with_scram_and_a_password_from_a_file(
    kafka_tls: SecuredKafka, make_topic: MakeTopic, tmp_path: Path
) -> None:
    async def messages() -> AsyncIterator[tuple[int, bytes, bytes, int]]:
        yield 0, b"key", b"a", 0

    topic = await make_topic(1)
    (only,) = partitions_of(topic, 1)
    file = tmp_path / "password"
    file.write_text(f"{kafka_tls.password}\n")
    listener = RecordingListener()
    config = secure(kafka_tls, topic, sasl_password=None, sasl_password_file=str(file))
    assert await produce(config, topic, messages(), lambda _: None) == 1
    async with running(config, listener) as source:
        await listener.wait_for([only])
        source.seek(only, 0)
        assert values(await Reader(source).take(only, 1)) == [b"a"]
        assert await source.commit(only, Position(1, "m"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sasl_password": Secret("wrong-password")}, "refuses our credentials"),
        ({"sasl_mechanism": "PLAIN"}, "refuses our credentials: .*UnsupportedSaslMechanism"),
        ({"ssl_ca_file": None}, "certificate is not valid.*kafka.ssl_ca_file"),
    ],
    ids=["password", "mechanism", "authority"],
)
async def test_wrong_credentials_end_the_start_at_once(
    kafka_tls: SecuredKafka, tmp_path: Path, changes: Mapping[str, Any], message: str
) -> None:
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    source = KafkaSource(secure(kafka_tls, "any", **{key: value or str(other) for key, value in changes.items()}))
    async with asyncio.timeout(LIMIT):
        with pytest.raises(SourceError, match=message) as caught:
            await source.start(RecordingListener())
    await source.stop()
    assert "wrong-password" not in str(caught.value)
    # asyncio closes the socket of a failed handshake some turns of the loop later, which may have ended by then.
    await until(lambda: not open_sockets())


def open_sockets() -> list[object]:
    """Transports of this process that hold a socket."""
    kind = asyncio.selector_events._SelectorTransport  # type: ignore[attr-defined]
    return [each for each in gc.get_objects() if isinstance(each, kind) and each._sock is not None]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ssl_ca_file": "/does/not/exist"}, "kafka.ssl_ca_file cannot be used.*/does/not/exist"),
        ({"sasl_password": None}, "kafka.sasl_password or kafka.sasl_password_file is not set"),
        ({"sasl_password": None, "sasl_password_file": "/nope"}, "the secret file /nope cannot be read"),
        ({"sasl_username": None}, "kafka.sasl_username is not set"),
        ({"sasl_mechanism": "OAUTHBEARER"}, "kafka.oauth_token_url is not set"),
    ],
)
async def test_what_is_missing_for_credentials_is_a_configuration_error(
    changes: Mapping[str, Any], message: str
) -> None:
    settings = {
        "security_protocol": "SASL_SSL",
        "sasl_username": "me",
        "sasl_password": Secret("password"),
    }
    source = KafkaSource(KafkaConfig(**{**settings, **changes}))
    with pytest.raises(ConfigError, match=message):
        await source.start(RecordingListener())
    await source.stop()


# -- producing


async def test_produce_writes_every_message_once_into_the_partitions_that_exist(
    kafka: Broker, make_topic: MakeTopic
) -> None:
    async def messages() -> AsyncIterator[tuple[int, bytes, bytes, int]]:
        for number in range(1000):
            yield number, b"key", b"%d" % number, 1_767_225_600_000 + number

    topic = await make_topic(2)
    both = partitions_of(topic, 2)
    progress: list[int] = []
    config, listener = kafka_config(kafka, topic), RecordingListener()
    assert await produce(config, topic, messages(), progress.append) == 1000
    assert sum(progress) == 1000
    async with running(config, listener) as source:
        await listener.wait_for(both)
        for each in both:
            source.seek(each, 0)
        reader = Reader(source)
        for each in both:
            records = await reader.take(each, 500)
            assert values(records) == [b"%d" % number for number in range(each.partition, 1000, 2)]
            assert [record.timestamp % 1000 for record in records] == list(range(each.partition, 1000, 2))
            assert await source.log_range(each) == LogRange(0, 500)


async def test_produce_into_a_missing_topic_is_an_error_that_names_it(kafka: Broker) -> None:
    async def messages() -> AsyncIterator[tuple[int, bytes, bytes, int]]:
        yield 0, b"key", b"value", 0

    with pytest.raises(SourceError, match="topic no_such_topic does not exist"):
        await produce(kafka_config(kafka, "any"), "no_such_topic", messages(), lambda _: None)
