"""The Kinesis client against an HTTP server that gives the answers that a test has prepared."""

import base64
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from botocore.exceptions import ClientError

from ingestd.config.model import KinesisConfig
from ingestd.config.types import Seconds
from ingestd.sources.kinesis.client import AwsKinesisClient, decode_page
from ingestd.sources.kinesis.errors import classify
from ingestd.sources.kinesis.port import (
    IteratorExpired,
    KinesisError,
    KinesisRefused,
    KinesisUnavailable,
    NumberUnknown,
    PutEntry,
    Shard,
)

NUMBER = 49_590_338_271_490_256_608_559_692_538_361_571_095_921_575_989_136_588_898


class Service:
    """Gives one prepared answer after the other, the last one again and again, and keeps the requests."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, Any]] = []
        self.requests: list[tuple[str, Any]] = []
        self.url = ""
        self.date = "Sat, 28 Nov 2026 12:00:00 GMT"

    async def handle(self, request: web.Request) -> web.Response:
        operation = request.headers["X-Amz-Target"].rpartition(".")[2]
        self.requests.append((operation, msgspec.json.decode(await request.read())))
        status, body = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        data = body if isinstance(body, bytes) else msgspec.json.encode(body)
        return web.Response(status=status, body=data, content_type="application/x-amz-json-1.1", headers=self.headers)

    @property
    def headers(self) -> dict[str, str]:
        return {"Date": self.date}


@pytest.fixture
async def service(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Service]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    service = Service()
    app = web.Application()
    app.router.add_post("/", service.handle)
    async with TestServer(app) as server:
        service.url = str(server.make_url("/"))
        yield service


@pytest.fixture
async def client(service: Service) -> AsyncIterator[AwsKinesisClient]:
    config = KinesisConfig(
        stream="events",
        region="eu-central-1",
        endpoint_url=service.url,
        read_timeout=Seconds(5),
    )
    client = AwsKinesisClient(config)
    yield client
    await client.close()


def wire(number: int, value: bytes, **more: object) -> dict[str, object]:
    data = base64.b64encode(value).decode()
    return {"SequenceNumber": str(number), "Data": data, "ApproximateArrivalTimestamp": 1.7e9, **more}


async def test_reads_records_with_numbers_of_56_digits(service: Service, client: AwsKinesisClient) -> None:
    records = [wire(NUMBER, b"\x00a", PartitionKey="ü"), wire(NUMBER + 1, b"")]
    service.answers = [(200, {"Records": records, "NextShardIterator": "next", "MillisBehindLatest": 7})]
    page = await client.get_records("it", 10)
    assert [(each.offset, each.value, each.timestamp, each.key) for each in page.records] == [
        (NUMBER, b"\x00a", 1_700_000_000_000, "ü".encode()),
        (NUMBER + 1, b"", 1_700_000_000_000, None),
    ]
    assert page[1:] == ("next", 7, 2)
    assert service.requests == [("GetRecords", {"ShardIterator": "it", "Limit": 10})]


async def test_knows_the_end_of_a_closed_shard(service: Service, client: AwsKinesisClient) -> None:
    service.answers = [(200, {"Records": [], "NextShardIterator": None, "ChildShards": [{"ShardId": "x"}]})]
    assert (await client.get_records("it", 10)).next_iterator is None
    service.answers = [(200, {"Records": [], "MillisBehindLatest": 0})]
    assert (await client.get_records("it", 10)).next_iterator is None


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"{}", b'{"Records": [{}]}', b'{"Records": [{"Data": "%"}]}', b"\xff"]
)
def test_an_answer_that_is_not_of_kinesis_is_tried_again(body: bytes) -> None:
    with pytest.raises(KinesisUnavailable, match="it is not that of Kinesis"):
        decode_page(body)


async def test_describes_the_stream_by_the_clock_of_aws(service: Service, client: AwsKinesisClient) -> None:
    summary = {
        "StreamName": "events",
        "StreamARN": "arn:aws:kinesis:eu-central-1:1:stream/events",
        "StreamStatus": "ACTIVE",
        "RetentionPeriodHours": 24,
        "StreamCreationTimestamp": 1_700_000_000.123,
        "OpenShardCount": 1,
        "EnhancedMonitoring": [],
    }
    service.answers = [(200, {"StreamDescriptionSummary": summary})]
    stream = await client.describe()
    assert stream == (summary["StreamARN"], 1_700_000_000_123, 24 * 3_600_000, 1_795_867_200_000)
    service.answers = [(200, {"StreamDescriptionSummary": {**summary, "StreamStatus": "CREATING"}})]
    with pytest.raises(KinesisUnavailable, match="is creating"):
        await client.describe()


async def test_lists_the_shards_of_all_pages(service: Service, client: AwsKinesisClient) -> None:
    def listed(number: int, **numbers: str) -> dict[str, object]:
        hashes = {"StartingHashKey": "0", "EndingHashKey": str(2**128 - 1)}
        numbers = {"StartingSequenceNumber": "1", **numbers}
        return {"ShardId": f"shardId-{number:012}", "HashKeyRange": hashes, "SequenceNumberRange": numbers}

    parents = {"ParentShardId": "shardId-000000000000", "AdjacentParentShardId": "shardId-000000000009"}
    service.answers = [
        (200, {"Shards": [listed(0, EndingSequenceNumber=str(NUMBER))], "NextToken": "token"}),
        (200, {"Shards": [{**listed(1), **parents}]}),
    ]
    assert await client.list_shards() == [
        Shard("shardId-000000000000", (), 0, 2**128 - 1, True, NUMBER),
        Shard(
            "shardId-000000000001", (parents["ParentShardId"], parents["AdjacentParentShardId"]), 0, 2**128 - 1, False
        ),
    ]
    assert [request for _, request in service.requests] == [{"StreamName": "events"}, {"NextToken": "token"}]


async def test_asks_for_iterators_at_numbers_times_and_the_oldest_record(
    service: Service, client: AwsKinesisClient
) -> None:
    service.answers = [(200, {"ShardIterator": "it"})]
    assert await client.iterator("shardId-000000000000") == "it"
    await client.iterator("shardId-000000000000", number=NUMBER)
    await client.iterator("shardId-000000000000", at_ms=1_700_000_000_500)
    shard = {"StreamName": "events", "ShardId": "shardId-000000000000"}
    assert [request for _, request in service.requests] == [
        {**shard, "ShardIteratorType": "TRIM_HORIZON"},
        {**shard, "ShardIteratorType": "AT_SEQUENCE_NUMBER", "StartingSequenceNumber": str(NUMBER)},
        {**shard, "ShardIteratorType": "AT_TIMESTAMP", "Timestamp": 1_700_000_000.5},
    ]


async def test_tells_which_records_were_not_put(service: Service, client: AwsKinesisClient) -> None:
    code = "ProvisionedThroughputExceededException"
    put = {"SequenceNumber": "1", "ShardId": "s"}
    service.answers = [(200, {"FailedRecordCount": 1, "Records": [put, {"ErrorCode": code, "ErrorMessage": "slow"}]})]
    assert await client.put_records([PutEntry("a", b"1"), PutEntry("b", b"2")]) == [None, code]
    assert service.requests[0][1]["Records"] == [
        {"PartitionKey": "a", "Data": "MQ=="},
        {"PartitionKey": "b", "Data": "Mg=="},
    ]


@pytest.mark.parametrize(
    ("status", "code", "kind", "hint"),
    [
        (400, "ProvisionedThroughputExceededException", KinesisUnavailable, ""),
        (400, "LimitExceededException", KinesisUnavailable, ""),
        (400, "KMSThrottlingException", KinesisUnavailable, ""),
        (400, "ThrottlingException", KinesisUnavailable, ""),
        (500, "InternalFailure", KinesisUnavailable, ""),
        (503, "Whatever", KinesisUnavailable, ""),
        (400, "ExpiredIteratorException", IteratorExpired, ""),
        (400, "InvalidArgumentException", IteratorExpired, ""),
        (400, "ResourceNotFoundException", KinesisRefused, "kinesis.stream, kinesis.region"),
        (400, "AccessDeniedException", KinesisRefused, "kinesis:GetRecords"),
        (400, "KMSDisabledException", KinesisRefused, "kms:Decrypt"),
        (400, "KMSAccessDeniedException", KinesisRefused, "kms:Decrypt"),
        (400, "KMSOptInRequired", KinesisRefused, "activate AWS KMS"),
        (400, "UnrecognizedClientException", KinesisRefused, "valid AWS credentials"),
        (400, "ExpiredTokenException", KinesisRefused, "valid AWS credentials"),
        (400, "InvalidSignatureException", KinesisRefused, "kinesis.region"),
        (400, "NobodyKnows", KinesisRefused, "look the code up"),
    ],
)
def test_an_error_says_whether_to_try_again_and_what_to_do(
    status: int, code: str, kind: type[KinesisError], hint: str
) -> None:
    answer: Any = {"Error": {"Code": code, "Message": "said AWS"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    found = classify(ClientError(answer, "GetRecords"), "read stream events")
    assert found is not None
    assert type(found) is kind
    assert found.message == f"cannot read stream events: {code}" + (": said AWS" if "said" in found.message else "")
    assert found.code == code
    assert hint in found.hint
    assert bool(hint) == bool(found.hint)


async def test_a_call_is_sent_once(service: Service, client: AwsKinesisClient) -> None:
    """The source repeats calls, with its own pauses."""
    service.answers = [(400, {"__type": "ProvisionedThroughputExceededException", "message": "slow"})]
    with pytest.raises(
        KinesisUnavailable, match="cannot read stream events: ProvisionedThroughputExceededException: slow"
    ):
        await client.get_records("it", 10)
    assert len(service.requests) == 1


async def test_tells_a_number_of_another_stream_from_a_time_that_is_to_come(
    service: Service, client: AwsKinesisClient
) -> None:
    service.answers = [(400, {"__type": "InvalidArgumentException", "message": "did not come from this stream"})]
    with pytest.raises(NumberUnknown):
        await client.iterator("shardId-000000000000", number=NUMBER)
    said = "The timestampInMillis parameter cannot be greater than the currentTimestampInMillis"
    service.answers = [(400, {"__type": "InvalidArgumentException", "message": said})]
    with pytest.raises(KinesisUnavailable):
        await client.iterator("shardId-000000000000", at_ms=1)


async def test_the_text_of_an_error_shows_no_credentials(service: Service, client: AwsKinesisClient) -> None:
    said = "Credential=AKIDSECRET/20261128 is wrong\nauthorization: AWS4-HMAC-SHA256 SECRET"
    service.answers = [(400, {"__type": "AccessDeniedException", "message": said})]
    with pytest.raises(KinesisRefused) as raised:
        await client.get_records("it", 10)
    assert "SECRET" not in str(raised.value)


async def test_looks_for_credentials_again_after_a_refusal(
    service: Service, client: AwsKinesisClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    service.answers = [(200, {"ShardIterator": "it"})]
    with pytest.raises(KinesisRefused, match="credentials") as raised:
        await client.iterator("shardId-000000000000")
    assert "valid AWS credentials" in raised.value.hint
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    assert await client.iterator("shardId-000000000000") == "it"


async def test_a_server_that_is_not_there_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    client = AwsKinesisClient(KinesisConfig(stream="s", region="r", endpoint_url="http://127.0.0.1:1"))
    with pytest.raises(KinesisUnavailable):
        await client.describe()
    await client.close()


async def test_what_is_not_kinesis_is_tried_again(service: Service, client: AwsKinesisClient) -> None:
    answers: list[Any] = [{}, {"StreamDescriptionSummary": 5}, b"<html>", b"[1]"]
    for answer in answers:
        service.answers = [(200, answer)]
        with pytest.raises(KinesisUnavailable):
            await client.describe()
