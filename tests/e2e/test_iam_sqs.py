"""The policies in deploy/iam allow every call that a daemon on a queue makes, and sqs-policy nothing beyond."""

import asyncio
import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

from ingestd.sources.sqs import errors
from tests.e2e.daemon import Daemon, credentials
from tests.e2e.iam import Need, Policy, allowed, listed
from tests.e2e.test_iam import FOLDER, THEIRS, parts, policy, recorder, run
from tests.services.aws_proxy import AwsProxy
from tests.services.elasticmq import ElasticMQ
from tests.services.seaweed import S3Store

THEIR_QUEUE = "arn:aws:sqs:eu-central-1:123456789012:your-marketing-events"
#: The actions that calls need; those of batches have no actions of their own.
ACTIONS = {
    "GetQueueAttributes": "sqs:GetQueueAttributes",
    "ReceiveMessage": "sqs:ReceiveMessage",
    "ChangeMessageVisibilityBatch": "sqs:ChangeMessageVisibility",
    "DeleteMessageBatch": "sqs:DeleteMessage",
}
EVENT = '{"event_type":"web_visit","event_id":"e%d","client_id":"c","event_timestamp":"2026-01-01T00:00:00Z"}'
DEADLINE_S = 60


def sqs_policy(bucket: str, queue_arn: str) -> Policy:
    """Ours, for a bucket and a queue."""
    text = (FOLDER / "sqs-policy.json").read_text()
    found: Policy = json.loads(text.replace(THEIR_QUEUE, queue_arn).replace(THEIRS, bucket))
    return found


def needs(calls: Mapping[str, int], queue_arn: str) -> Iterator[Need]:
    for operation in calls:
        yield Need(ACTIONS[operation], queue_arn, {})  # KeyError: a call that no policy of ours speaks of


async def test_the_policies_are_what_a_queues_daemon_needs_and_no_more(
    elasticmq: ElasticMQ, s3: S3Store, bucket: str, tmp_path: Path
) -> None:
    queue = elasticmq.create_queue(f"iam-{bucket}")
    with closing(elasticmq.client()) as client:
        for number in range(5):
            client.send_message(QueueUrl=queue, MessageBody=EVENT % number)
    async with AwsProxy(elasticmq.port) as proxy, recorder(s3) as (store, way):
        keys = {
            "source": "sqs",
            "sqs.queue_url": queue,
            "sqs.endpoint_url": proxy.endpoint,
            "sqs.wait": "1s",
            "sink.url": f"s3://{bucket}",
            "batch.interval": "1s",
            **way,
        }
        # It receives a sample, so that the daemon looks for manifests with messages that were received before.
        await run(["check", "--dry-run"], keys, credentials(s3), tmp_path)
        daemon = Daemon("queue", tmp_path, keys, credentials(s3))
        try:
            await daemon.start_ready()
            async with asyncio.timeout(DEADLINE_S):
                while await asyncio.to_thread(elasticmq.depth, queue) != (0, 0):  # noqa: ASYNC110 - nothing tells
                    await asyncio.sleep(0.1)
            assert await daemon.stop() == 0
        finally:
            daemon.kill()
        assert {"ReceiveMessage", "DeleteMessageBatch"} <= set(proxy.calls)
        arn = elasticmq.arn(queue)
        wanted = [*needs(proxy.calls, arn), *(need for call in store.calls for need in call.needs())]
    elasticmq.delete_queue(queue)

    daemons, ours = policy("daemon", bucket), sqs_policy(bucket, arn)
    assert [need for need in wanted if not allowed(need, daemons, ours)] == []
    for less in parts(ours):
        assert [need for need in wanted if not allowed(need, daemons, less)], f"one part is not needed, as in {less}"


def test_a_queues_policy_allows_no_sending_and_no_change_of_the_queue() -> None:
    given = policy("sqs")
    for action in ("SendMessage", "PurgeQueue", "DeleteQueue", "SetQueueAttributes", "AddPermission", "*"):
        assert not allowed(Need(f"sqs:{action}", THEIR_QUEUE, {}), given)
    assert not allowed(Need("sqs:ReceiveMessage", f"{THEIR_QUEUE}-2", {}), given)


def test_the_rights_that_errors_ask_for_are_those_of_the_queues_policy() -> None:
    granted = {
        action
        for statement in policy("sqs")["Statement"]
        for action in listed(statement["Action"])
        if action.startswith("sqs:")
    }
    assert {word.strip("',.;") for word in errors.RIGHTS_HINT.split() if word.startswith("sqs:")} == granted
    assert granted == set(ACTIONS.values())
