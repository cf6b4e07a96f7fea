"""The policies in deploy/iam for SQS allow every call that ingestd makes on a queue, and nothing beyond."""

import uuid
from contextlib import closing
from pathlib import Path

import pytest

from ingestd.sources.sqs import errors
from tests.e2e.daemon import Daemon, credentials
from tests.e2e.iam import Need, allowed
from tests.e2e.iam_streams import EVENT, REQUEUEABLE, STRICT, Recording, granted, named_in, source_policy
from tests.e2e.message_queue import emptied, settings
from tests.e2e.test_iam import THEIRS, recorder, run
from tests.services.aws_proxy import AwsProxy
from tests.services.elasticmq import ElasticMQ
from tests.services.seaweed import S3Store

THEIR_QUEUE = "arn:aws:sqs:eu-central-1:123456789012:your-marketing-events"


@pytest.mark.services
async def test_the_policies_are_what_the_calls_on_a_queue_need_and_no_more(
    elasticmq: ElasticMQ, s3: S3Store, bucket: str, tmp_path: Path
) -> None:
    queue = elasticmq.create_queue(f"iam-{uuid.uuid4().hex[:12]}")
    with closing(elasticmq.client()) as client:
        for body in (*(EVENT % ("web_visit", number) for number in range(5)), REQUEUEABLE):
            client.send_message(QueueUrl=queue, MessageBody=body)
    async with AwsProxy(elasticmq.port) as proxy, recorder(s3) as (store, way):
        keys = {**settings(queue, s3, bucket), "sqs.endpoint_url": proxy.endpoint, **way}
        recording = Recording(proxy, store, "sqs", elasticmq.arn(queue))
        # It receives messages, so that the daemon looks for manifests with some that were received before.
        await run(["check", "--dry-run", "--duration", "2s"], keys, credentials(s3), tmp_path)
        recording.note("check")
        daemon = Daemon("queue", tmp_path, {**keys, **STRICT}, credentials(s3))
        try:
            await daemon.start_ready()
            await emptied(lambda: elasticmq.depth(queue))
            assert await daemon.stop() == 0
        finally:
            daemon.kill()
        recording.note("daemon")
        await recording.run_commands(keys, credentials(s3), tmp_path)
    elasticmq.delete_queue(queue)
    recording.check(THEIR_QUEUE, bucket)


def test_a_queues_policy_allows_no_sending_and_no_change_of_the_queue() -> None:
    given = source_policy("sqs", "daemon", THEIR_QUEUE, THEIR_QUEUE, THEIRS)
    for action in ("SendMessage", "PurgeQueue", "DeleteQueue", "SetQueueAttributes", "AddPermission", "*"):
        assert not allowed(Need(f"sqs:{action}", THEIR_QUEUE, {}), given)
    assert not allowed(Need("sqs:ReceiveMessage", f"{THEIR_QUEUE}-2", {}), given)


def test_the_rights_that_errors_ask_for_are_those_of_the_queues_policy() -> None:
    assert named_in(errors.RIGHTS_HINT, "sqs") == granted("sqs")
