"""The policies in deploy/iam for Kinesis allow every call that ingestd makes on a stream, and nothing beyond."""

import uuid
from contextlib import closing
from pathlib import Path

import pytest

from ingestd.sources.kinesis import errors
from tests.e2e.daemon import Daemon, credentials
from tests.e2e.iam import Need, allowed
from tests.e2e.iam_streams import EVENT, REQUEUEABLE, STRICT, Recording, granted, named_in, source_policy
from tests.e2e.stream import settings
from tests.e2e.test_iam import THEIRS, recorder
from tests.services.aws_proxy import AwsProxy
from tests.services.kinesis import KinesisLocal
from tests.services.seaweed import S3Store

THEIR_STREAM = "arn:aws:kinesis:eu-central-1:123456789012:stream/your-marketing-events"
EVENTS = 20


def put(server: KinesisLocal, stream: str, first: int) -> None:
    values = [EVENT % ("web_visit", first + number) for number in range(EVENTS - 1)] + [REQUEUEABLE]
    records = [{"Data": value.encode(), "PartitionKey": str(number)} for number, value in enumerate(values)]
    with closing(server.client()) as client:
        assert client.put_records(StreamName=stream, Records=records)["FailedRecordCount"] == 0


@pytest.mark.services
async def test_the_policies_are_what_the_calls_on_a_stream_need_and_no_more(
    kinesis_local: KinesisLocal, s3: S3Store, bucket: str, tmp_path: Path
) -> None:
    stream = f"iam-{uuid.uuid4().hex[:12]}"
    kinesis_local.create_stream(stream)
    with closing(kinesis_local.client()) as client:
        arn = client.describe_stream_summary(StreamName=stream)["StreamDescriptionSummary"]["StreamARN"]
    async with AwsProxy(kinesis_local.port) as proxy, recorder(s3) as (store, way):
        keys = {**settings(proxy.endpoint, s3, bucket, stream), **way}
        recording = Recording(proxy, store, "kinesis", arn)
        for member in ("a", "b"):  # the second one meets what the first one has left: its heartbeat, a closed shard
            put(kinesis_local, stream, 0)
            daemon = Daemon(member, tmp_path, {**keys, **STRICT, "kinesis.member_id": member}, credentials(s3))
            try:
                await daemon.start_ready()
                await daemon.until(lambda status: status.totals.landed + status.totals.quarantined == EVENTS)
                assert await daemon.stop() == 0
            finally:
                daemon.kill()
            if member == "a":
                kinesis_local.split(stream, kinesis_local.open_shards(stream)[0])
        recording.note("daemon")
        await recording.run_commands(keys, credentials(s3), tmp_path)
    recording.check(THEIR_STREAM, bucket)


def test_a_streams_policy_allows_no_writing_and_no_change_of_the_stream() -> None:
    given = source_policy("kinesis", "daemon", THEIR_STREAM, THEIR_STREAM, THEIRS)
    for action in ("PutRecord", "PutRecords", "SplitShard", "MergeShards", "DeleteStream", "UpdateShardCount", "*"):
        assert not allowed(Need(f"kinesis:{action}", THEIR_STREAM, {}), given)
    assert not allowed(Need("kinesis:GetRecords", f"{THEIR_STREAM}-2", {}), given)


def test_the_rights_that_errors_ask_for_are_those_of_the_streams_policy() -> None:
    assert named_in(errors.RIGHTS_HINT, "kinesis") == granted("kinesis")
