"""The servers that stand for SQS and SNS, as far as the other tests rely on them."""

import json
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.services.elasticmq import ElasticMQ
from tests.services.ministack import Ministack

pytestmark = pytest.mark.services


@pytest.fixture
def client(elasticmq: ElasticMQ) -> Iterator[Any]:
    with closing(elasticmq.client()) as client:
        yield client


def new_queue(elasticmq: ElasticMQ, suffix: str = "", **options: Any) -> str:
    return elasticmq.create_queue(f"test-{uuid.uuid4().hex}{suffix}", **options)


def send(client: Any, queue: str, *bodies: str, **options: Any) -> list[str]:
    """Send messages; their ids."""
    return [client.send_message(QueueUrl=queue, MessageBody=body, **options)["MessageId"] for body in bodies]


def receive(client: Any, queue: str, most: int = 10, wait_s: int = 0, **options: Any) -> list[dict[str, Any]]:
    answer = client.receive_message(
        QueueUrl=queue, MaxNumberOfMessages=most, WaitTimeSeconds=wait_s, AttributeNames=["All"], **options
    )
    found: list[dict[str, Any]] = answer.get("Messages", [])
    return found


def bodies(messages: list[dict[str, Any]]) -> list[str]:
    return [message["Body"] for message in messages]


def test_messages_survive_sigkill_and_those_in_flight_stay_so(elasticmq: ElasticMQ) -> None:
    queue = new_queue(elasticmq, VisibilityTimeout="300")
    with closing(elasticmq.client()) as client:
        sent = send(client, queue, "one", "two", "three")
        client.delete_message(QueueUrl=queue, ReceiptHandle=receive(client, queue, 1)[0]["ReceiptHandle"])
        receive(client, queue, 1)

    elasticmq.kill()
    elasticmq.start()

    with closing(elasticmq.client()) as client:
        assert elasticmq.depth(queue) == (1, 1)
        (left,) = receive(client, queue)
    assert left["MessageId"] in sent


def test_a_message_comes_again_when_its_visibility_has_ended(elasticmq: ElasticMQ, client: Any) -> None:
    queue = new_queue(elasticmq, VisibilityTimeout="1")
    send(client, queue, "one")
    (first,) = receive(client, queue)

    (second,) = receive(client, queue, wait_s=5)

    counts = [int(message["Attributes"]["ApproximateReceiveCount"]) for message in (first, second)]
    assert counts == [1, 2]
    for name in ("SentTimestamp", "ApproximateFirstReceiveTimestamp"):
        assert first["Attributes"][name] == second["Attributes"][name]
        assert 0 <= time.time() * 1000 - int(first["Attributes"][name]) < 60_000
    assert first["ReceiptHandle"] != second["ReceiptHandle"]


def test_a_longer_visibility_keeps_a_message_away(elasticmq: ElasticMQ, client: Any) -> None:
    queue = new_queue(elasticmq, VisibilityTimeout="1")
    send(client, queue, "one", "two")
    first, _ = receive(client, queue)

    entries = [{"Id": "0", "ReceiptHandle": first["ReceiptHandle"], "VisibilityTimeout": 60}]
    client.change_message_visibility_batch(QueueUrl=queue, Entries=entries)
    (second,) = receive(client, queue, wait_s=5)

    assert second["MessageId"] != first["MessageId"]
    assert elasticmq.depth(queue) == (0, 2)


def test_an_old_handle_deletes_nothing_and_the_others_of_its_batch_are_deleted(
    elasticmq: ElasticMQ, client: Any
) -> None:
    queue = new_queue(elasticmq, VisibilityTimeout="1")
    send(client, queue, "one")
    (old,) = receive(client, queue)
    (new,) = receive(client, queue, wait_s=5, VisibilityTimeout=60)
    send(client, queue, "two")
    (other,) = receive(client, queue)

    handles = [old["ReceiptHandle"], other["ReceiptHandle"]]
    entries = [{"Id": str(number), "ReceiptHandle": handle} for number, handle in enumerate(handles)]
    answer = client.delete_message_batch(QueueUrl=queue, Entries=entries)

    assert [each["Id"] for each in answer["Successful"]] == ["1"]
    assert [each["Id"] for each in answer["Failed"]] == ["0"]
    assert elasticmq.depth(queue) == (0, 1)
    client.delete_message(QueueUrl=queue, ReceiptHandle=new["ReceiptHandle"])
    assert elasticmq.depth(queue) == (0, 0)


def test_a_message_that_was_received_too_often_goes_to_the_dead_letter_queue(elasticmq: ElasticMQ, client: Any) -> None:
    dead = new_queue(elasticmq)
    queue = new_queue(elasticmq, redrive=(dead, 2), VisibilityTimeout="0")
    (sent,) = send(client, queue, "one")

    received = [bodies(receive(client, queue)) for _ in range(3)]

    assert received == [["one"], ["one"], []]
    (moved,) = receive(client, dead)
    assert (moved["MessageId"], moved["Body"]) == (sent, "one")


def test_a_group_of_a_fifo_queue_waits_for_its_messages_in_flight(elasticmq: ElasticMQ, client: Any) -> None:
    queue = new_queue(elasticmq, ".fifo", ContentBasedDeduplication="true", VisibilityTimeout="30")
    send(client, queue, "a1", "a2", MessageGroupId="a")
    send(client, queue, "b1", MessageGroupId="b")

    (first,) = receive(client, queue, 1)
    meanwhile = receive(client, queue)

    assert (first["Body"], bodies(meanwhile)) == ("a1", ["b1"])
    assert first["Attributes"]["MessageGroupId"] == "a"
    client.delete_message(QueueUrl=queue, ReceiptHandle=first["ReceiptHandle"])
    assert bodies(receive(client, queue, wait_s=2)) == ["a2"]


def test_a_fifo_queue_takes_a_message_once(elasticmq: ElasticMQ, client: Any) -> None:
    queue = new_queue(elasticmq, ".fifo", ContentBasedDeduplication="true")
    send(client, queue, "same", "same", MessageGroupId="a")

    assert bodies(receive(client, queue)) == ["same"]


def test_a_queue_takes_a_message_of_a_mebibyte_and_no_more(elasticmq: ElasticMQ, client: Any) -> None:
    queue = new_queue(elasticmq)
    send(client, queue, "x" * (1 << 20))

    with pytest.raises(ClientError):
        send(client, queue, "x" * ((1 << 20) + 1))
    (found,) = receive(client, queue)
    assert len(found["Body"]) == 1 << 20


def test_a_purged_queue_is_empty(elasticmq: ElasticMQ, client: Any) -> None:
    queue = new_queue(elasticmq)
    send(client, queue, "one", "two")
    receive(client, queue, 1)

    client.purge_queue(QueueUrl=queue)

    assert elasticmq.depth(queue) == (0, 0)


def test_a_queue_that_is_gone_has_its_own_error(elasticmq: ElasticMQ, client: Any) -> None:
    queue = new_queue(elasticmq)
    elasticmq.delete_queue(queue)

    with pytest.raises(ClientError) as refused:
        receive(client, queue)

    assert refused.value.response["Error"]["Code"] in {
        "AWS.SimpleQueueService.NonExistentQueue",
        "QueueDoesNotExist",
    }


def test_a_notification_reaches_its_queue_in_an_envelope_or_raw(ministack: Ministack) -> None:
    names = [f"test-{uuid.uuid4().hex}" for _ in range(2)]
    queues = [ministack.create_queue(name) for name in names]
    topic = ministack.create_topic(names[0])
    for queue, raw in zip(queues, (False, True), strict=True):
        ministack.subscribe(topic, queue, raw=raw)
    with closing(ministack.topics()) as topics:
        topics.publish(TopicArn=topic, Message='{"event_id": "é"}')

    with closing(ministack.queues()) as client:
        enveloped, raw_one = (
            client.receive_message(QueueUrl=queue.url, WaitTimeSeconds=5)["Messages"][0]["Body"] for queue in queues
        )
    envelope = json.loads(enveloped)
    assert (envelope["Type"], envelope["TopicArn"]) == ("Notification", topic)
    assert envelope["Message"] == raw_one == '{"event_id": "é"}'
