"""The SQS source keeps the contract on ElasticMQ and on ministack; both have gaps of their own, so neither alone."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import closing
from typing import Any

import pytest

from ingestd.config.model import SqsConfig
from ingestd.config.types import Seconds
from ingestd.core.errors import SourceError
from ingestd.sources.sqs.port import QueueSource
from ingestd.sources.sqs.source import SqsSource
from tests.contract.queue_contract import LONG_S, MakeQueue, QueueContract, QueueWorld, receipts, take, take_nothing
from tests.services.elasticmq import ElasticMQ
from tests.services.ministack import Ministack
from tests.services.seaweed import REGION

QUEUE_ARN = "QueueArn"


def config(url: str, visibility: float = LONG_S, wait: float = 1, **more: Any) -> SqsConfig:
    return SqsConfig(queue_url=url, region=REGION, visibility=Seconds(visibility), wait=Seconds(wait), **more)


def create(sqs: Any, name: str, attributes: dict[str, str]) -> tuple[str, str]:
    """Create a queue; its URL and its ARN."""
    url = sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
    return url, sqs.get_queue_attributes(QueueUrl=url, AttributeNames=[QUEUE_ARN])["Attributes"][QUEUE_ARN]


class SqsContract(QueueContract):
    """The contract, and what SQS has besides; a subclass gives the fixture `sqs`, a blocking client."""

    @pytest.fixture(autouse=True)
    def credentials(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ingestd")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "only-for-tests")

    @pytest.fixture
    async def make_queue(self, sqs: Any) -> AsyncIterator[MakeQueue]:
        sources: list[QueueSource] = []
        urls: list[str] = []

        async def make(*, fifo: bool = False, max_receive_count: int | None = None) -> QueueWorld:
            name = f"test-{uuid.uuid4().hex}"
            suffix, attributes = (".fifo", {"FifoQueue": "true"}) if fifo else ("", {})
            dead_url, dead_arn = create(sqs, f"{name}-dead{suffix}", attributes)
            if max_receive_count is not None:
                policy = {"deadLetterTargetArn": dead_arn, "maxReceiveCount": max_receive_count}
                attributes = {**attributes, "RedrivePolicy": json.dumps(policy)}
            url, _ = create(sqs, f"{name}{suffix}", attributes)
            urls.extend((url, dead_url))

            async def connect(visibility: float = LONG_S, wait: float = 1) -> QueueSource:
                source = SqsSource(config(url, visibility, wait))
                sources.append(source)
                await source.start()
                return source

            async def send(values: Sequence[bytes], group: str | None = None) -> list[str]:
                return [await asyncio.to_thread(send_one, sqs, url, value, group) for value in values]

            async def dead() -> int:
                found = sqs.get_queue_attributes(QueueUrl=dead_url, AttributeNames=["ApproximateNumberOfMessages"])
                return int(found["Attributes"]["ApproximateNumberOfMessages"])

            return QueueWorld(connect, send, dead)

        yield make
        for source in sources:
            await source.stop()
        for url in urls:
            sqs.delete_queue(QueueUrl=url)

    async def test_start_fails_where_there_is_no_queue(self, sqs: Any) -> None:
        url, _ = create(sqs, f"test-{uuid.uuid4().hex}", {})
        sqs.delete_queue(QueueUrl=url)
        source = SqsSource(config(url))
        try:
            with pytest.raises(SourceError, match=r"create the queue, or correct sqs\.queue_url"):
                await source.start()
        finally:
            await source.stop()

    async def test_attributes_become_headers(self, sqs: Any) -> None:
        url, _ = create(sqs, f"test-{uuid.uuid4().hex}", {})
        attributes = {
            "text": {"DataType": "String", "StringValue": "ü€😀"},
            "number": {"DataType": "Number", "StringValue": "12.5"},
            "bytes": {"DataType": "Binary", "BinaryValue": b"\x00\xff"},
        }
        sqs.send_message(QueueUrl=url, MessageBody="{}", MessageAttributes=attributes)
        source = SqsSource(config(url))
        await source.start()
        try:
            [message] = await take(source, 1)
        finally:
            await source.stop()
        assert dict(message.headers) == {"text": "ü€😀".encode(), "number": b"12.5", "bytes": b"\x00\xff"}

    async def test_a_group_goes_on_once_its_messages_are_deleted(self, make_queue: MakeQueue) -> None:
        world = await make_queue(fifo=True)
        for number in range(15):
            await world.send([b"%d" % number], group="g")
        source = await world.connect()
        values: list[bytes | None] = []
        while len(values) < 15:
            messages = await take(source, 1)
            values += [it.value for it in messages]
            assert await source.delete(receipts(messages)) == []
        assert values == [b"%d" % number for number in range(15)]
        await take_nothing(source)


def send_one(sqs: Any, url: str, value: bytes, group: str | None) -> str:
    more = {"MessageGroupId": group, "MessageDeduplicationId": uuid.uuid4().hex} if group is not None else {}
    sent: str = sqs.send_message(QueueUrl=url, MessageBody=value.decode(), **more)["MessageId"]
    return sent


class TestElasticMQ(SqsContract):
    @pytest.fixture
    def sqs(self, elasticmq: ElasticMQ) -> Iterator[Any]:
        with closing(elasticmq.client()) as client:
            yield client


class TestMinistack(SqsContract):
    @pytest.fixture
    def sqs(self, ministack: Ministack) -> Iterator[Any]:
        with closing(ministack.queues()) as client:
            yield client
