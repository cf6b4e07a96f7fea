"""The services themselves, as far as the other tests rely on them."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaConnectionError
from botocore.exceptions import ClientError

from tests.conftest import MakeTopic
from tests.services.elasticmq import ElasticMQ
from tests.services.kafka import KafkaAddress, KafkaBroker, SecuredKafka, create_topic, topic_admin
from tests.services.kafka_cluster import epochs
from tests.services.kafka_log import truncate_log
from tests.services.kinesis import Kinesalite, KinesisLocal
from tests.services.seaweed import S3Store, SeaweedFS


@pytest.fixture
def s3_client(s3: S3Store) -> Iterator[Any]:
    with closing(s3.client()) as client:
        yield client


def sasl(broker: SecuredKafka) -> dict[str, Any]:
    return {
        "security_protocol": "SASL_SSL",
        "ssl_context": ssl.create_default_context(cafile=broker.ca_file),
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": broker.username,
        "sasl_plain_password": broker.password,
    }


@asynccontextmanager
async def started(client: Any) -> AsyncIterator[Any]:
    await client.start()
    try:
        yield client
    finally:
        await client.stop()


async def produce(bootstrap: str, topic: str, values: list[bytes], **options: Any) -> None:
    async with started(AIOKafkaProducer(bootstrap_servers=bootstrap, **options)) as producer:
        for value in values:
            await producer.send_and_wait(topic, value, partition=0)


async def consume(bootstrap: str, topic: str, count: int, **options: Any) -> list[bytes]:
    async with started(AIOKafkaConsumer(bootstrap_servers=bootstrap, **options)) as consumer:
        consumer.assign([TopicPartition(topic, 0)])
        await consumer.seek_to_beginning()
        async with asyncio.timeout(20):
            return [(await consumer.getone()).value for _ in range(count)]


async def test_kafka_in_plaintext(kafka: KafkaAddress, make_topic: MakeTopic) -> None:
    topic = await make_topic(2)

    await produce(kafka.bootstrap, topic, [b"one", b"two"])

    assert await consume(kafka.bootstrap, topic, 2) == [b"one", b"two"]


async def test_kafka_with_tls_and_scram(kafka_tls: SecuredKafka) -> None:
    async with topic_admin(kafka_tls.bootstrap) as admin:
        await create_topic(admin, "tls", 1)

    await produce(kafka_tls.sasl_bootstrap, "tls", [b"secret"], **sasl(kafka_tls))

    assert await consume(kafka_tls.sasl_bootstrap, "tls", 1, **sasl(kafka_tls)) == [b"secret"]


async def test_kafka_refuses_a_wrong_password(kafka_tls: SecuredKafka) -> None:
    client = AIOKafkaProducer(
        bootstrap_servers=kafka_tls.sasl_bootstrap, **{**sasl(kafka_tls), "sasl_plain_password": "wrong"}
    )

    with pytest.raises(KafkaConnectionError):
        await client.start()

    await client.stop()


@pytest.mark.services
async def test_kafka_keeps_records_across_sigkill(tmp_path: Path) -> None:
    with KafkaBroker(tmp_path) as broker:
        async with topic_admin(broker.bootstrap) as admin:
            await create_topic(admin, "kept", 1)
        await produce(broker.bootstrap, "kept", [b"one"], acks="all")

        broker.kill()
        broker.start()

        await produce(broker.bootstrap, "kept", [b"two"], acks="all")
        assert await consume(broker.bootstrap, "kept", 2) == [b"one", b"two"]


@pytest.mark.services
async def test_kafka_goes_back_to_an_older_disk(tmp_path: Path) -> None:
    with KafkaBroker(tmp_path) as broker:
        async with topic_admin(broker.bootstrap) as admin:
            await create_topic(admin, "cut", 1)
        await produce(broker.bootstrap, "cut", [b"kept"] * 10, acks="all")
        broker.restart()
        await produce(broker.bootstrap, "cut", [b"lost"] * 5, acks="all")
        before = await _epochs(broker, "cut")
        broker.stop()
        truncate_log(tmp_path / "data" / "cut-0", 10)
        broker.start()
        await produce(broker.bootstrap, "cut", [b"new"] * 9, acks="all")
        after = await _epochs(broker, "cut")

        assert await consume(broker.bootstrap, "cut", 19) == [b"kept"] * 10 + [b"new"] * 9
        kept, lost = before
        assert before == {kept: 10, lost: 15}
        assert after == {kept: 10, max(after): 19}
        assert max(after) > lost


async def _epochs(broker: KafkaBroker, topic: str) -> dict[int, int]:
    async with topic_admin(broker.bootstrap) as admin:
        return await epochs(lambda request: admin._send_request_to_node(broker.node_id, request), topic, 0)


def test_s3_creates_an_object_only_once(s3_client: Any, bucket: str) -> None:
    s3_client.put_object(Bucket=bucket, Key="a", Body=b"first", IfNoneMatch="*")

    with pytest.raises(ClientError) as refused:
        s3_client.put_object(Bucket=bucket, Key="a", Body=b"second", IfNoneMatch="*")

    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 412
    assert s3_client.get_object(Bucket=bucket, Key="a")["Body"].read() == b"first"


@pytest.mark.services
def test_s3_keeps_objects_across_sigkill(tmp_path: Path) -> None:
    with SeaweedFS(tmp_path) as store, closing(store.client()) as client:
        store.create_bucket("kept")
        client.put_object(Bucket="kept", Key="a", Body=b"one", Metadata={"end": "7"})

        store.kill()
        store.start()

        found = client.get_object(Bucket="kept", Key="a")
        assert (found["Body"].read(), found["Metadata"]) == (b"one", {"end": "7"})


def kinesis_numbers(server: Kinesalite | KinesisLocal, stream: str) -> list[int]:
    """The sequence numbers of all records, in the order of the shards."""
    found = []
    with closing(server.client()) as client:
        for shard in client.list_shards(StreamName=stream)["Shards"]:
            place = {"StreamName": stream, "ShardId": shard["ShardId"], "ShardIteratorType": "TRIM_HORIZON"}
            answer = client.get_records(ShardIterator=client.get_shard_iterator(**place)["ShardIterator"])
            found += [int(record["SequenceNumber"]) for record in answer["Records"]]
    return found


def test_kinesalite_keeps_records_across_sigkill(kinesalite: Kinesalite) -> None:
    kinesalite.create_stream("kept", 2)
    with closing(kinesalite.client()) as client:
        put = [
            int(client.put_record(StreamName="kept", Data=b"x", PartitionKey=str(n))["SequenceNumber"])
            for n in range(6)
        ]
    kinesalite.kill()
    kinesalite.start()
    assert sorted(kinesis_numbers(kinesalite, "kept")) == sorted(put)


def test_kinesis_local_reshards_as_aws_does(kinesis_local: KinesisLocal) -> None:
    kinesis_local.create_stream("resharded", 1)
    with closing(kinesis_local.client()) as client:
        client.put_record(StreamName="resharded", Data=b"x", PartitionKey="k")
        client.update_shard_count(StreamName="resharded", TargetShardCount=2, ScalingType="UNIFORM_SCALING")
        kinesis_local.wait_active("resharded")
        shards = client.list_shards(StreamName="resharded")["Shards"]
        place = {"StreamName": "resharded", "ShardId": shards[0]["ShardId"], "ShardIteratorType": "TRIM_HORIZON"}
        answer = client.get_records(ShardIterator=client.get_shard_iterator(**place)["ShardIterator"])
        while answer.get("NextShardIterator"):
            answer = client.get_records(ShardIterator=answer["NextShardIterator"])
    assert [shard.get("ParentShardId") for shard in shards] == [None, shards[0]["ShardId"], shards[0]["ShardId"]]
    assert {child["ShardId"] for child in answer["ChildShards"]} == {shard["ShardId"] for shard in shards[1:]}


@pytest.mark.services
def test_elasticmq_keeps_messages_across_sigkill(tmp_path: Path) -> None:
    with ElasticMQ(tmp_path) as server:
        url = server.create_queue("kept", VisibilityTimeout="30")
        with closing(server.client()) as client:
            client.send_message(QueueUrl=url, MessageBody="a")
        server.kill()
        server.start()
        with closing(server.client()) as client:
            (message,) = client.receive_message(QueueUrl=url, WaitTimeSeconds=2)["Messages"]
            assert message["Body"] == "a"
            assert not client.receive_message(QueueUrl=url).get("Messages"), "it is hidden"
