"""The Kinesis client: aiobotocore signs and sends, msgspec decodes the records.

botocore's parser takes 44-67 us for each record, so the body of a read is taken away before it, and decoded here.
"""

import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec
from aiobotocore.config import AioConfig

from ingestd.config.model import KinesisConfig
from ingestd.ops.aws_client import AwsClient
from ingestd.ops.aws_errors import readable_settings
from ingestd.ops.aws_session import AwsSession
from ingestd.sources.kinesis.errors import classify, refused_settings
from ingestd.sources.kinesis.port import (
    KinesisRecord,
    KinesisRefused,
    KinesisUnavailable,
    Page,
    PutEntry,
    Shard,
    Stream,
)

CONNECTIONS = 32  # requests at once, of all shards together
LIST_PAGES_MAX = 1000  # of 1,000 shards each
_HOUR_MS = 3_600_000


class _Answer(msgspec.Struct, gc=False):
    records: list[KinesisRecord] = msgspec.field(name="Records")
    next_iterator: str | None = msgspec.field(name="NextShardIterator", default=None)
    behind_ms: int = msgspec.field(name="MillisBehindLatest", default=0)


_DECODER = msgspec.json.Decoder(_Answer, strict=False)  # numbers of sequences are text in JSON


def decode_page(body: bytes) -> Page:
    """The answer to GetRecords. Raises ``KinesisUnavailable`` where it is none."""
    try:
        answer = _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise KinesisUnavailable(
            f"cannot read the answer to GetRecords: it is not that of Kinesis: {error}", code=type(error).__name__
        ) from None
    records = answer.records
    return Page(records, answer.next_iterator, answer.behind_ms, sum([len(record.value) for record in records]))


class AwsKinesisClient:
    """A client of one stream. Its connections are opened by the first call.

    The promises of `ingestd.sources.kinesis.port.KinesisClient` hold.
    """

    def __init__(self, config: KinesisConfig) -> None:
        self._config = config
        self._stream = {"StreamName": config.stream}
        self._client = AwsClient(self._open, KinesisRefused)

    async def close(self) -> None:
        await self._client.close()

    async def describe(self) -> Stream:
        async with self._call("describe") as client:
            answer = await client.describe_stream_summary(**self._stream)
            found = answer["StreamDescriptionSummary"]
            status = found.get("StreamStatus")
            if status in {"CREATING", "DELETING"}:
                raise KinesisUnavailable(f"stream {self._config.stream} is {status.lower()}", code=status)
            return Stream(
                found["StreamARN"],
                round(found["StreamCreationTimestamp"].timestamp() * 1000),
                found["RetentionPeriodHours"] * _HOUR_MS,
                _server_time_ms(answer),
            )

    async def list_shards(self) -> Sequence[Shard]:
        async with self._call("list the shards of") as client:
            found: list[Shard] = []
            request = dict(self._stream)
            for _ in range(LIST_PAGES_MAX):
                answer = await client.list_shards(**request)
                found += map(_shard, answer["Shards"])
                if not (token := answer.get("NextToken")):
                    return found
                request = {"NextToken": token}
            raise KinesisRefused(
                f"stream {self._config.stream} has more than {len(found)} shards", code="TooManyShards"
            )

    async def iterator(self, shard: str, *, number: int | None = None, at_ms: int | None = None) -> str:
        where: dict[str, Any] = {"ShardIteratorType": "TRIM_HORIZON"}
        if number is not None:
            where = {"ShardIteratorType": "AT_SEQUENCE_NUMBER", "StartingSequenceNumber": str(number)}
        elif at_ms is not None:
            where = {"ShardIteratorType": "AT_TIMESTAMP", "Timestamp": at_ms / 1000}
        async with self._call(f"get an iterator of {shard} of") as client:
            answer = await client.get_shard_iterator(**self._stream, ShardId=shard, **where)
            iterator: str = answer["ShardIterator"]
            return iterator

    async def get_records(self, iterator: str, limit: int) -> Page:
        async with self._call("read") as client:
            answer = await client.get_records(ShardIterator=iterator, Limit=limit)
            return decode_page(answer["Body"])

    async def put_records(self, entries: Sequence[PutEntry]) -> Sequence[str | None]:
        records = [{"PartitionKey": entry.partition_key, "Data": entry.value} for entry in entries]
        async with self._call("write to") as client:
            answer = await client.put_records(**self._stream, Records=records)
            return [record.get("ErrorCode") for record in answer["Records"]]

    def _call(self, action: str) -> AbstractAsyncContextManager[Any]:
        """Give the client for one call, with a deadline, and turn its errors into those of the port."""
        action = f"{action} stream {self._config.stream}"
        timeout_s = self._config.connect_timeout + self._config.read_timeout
        settings = readable_settings(action, classify, refused_settings)
        return self._client.lend(timeout_s, errors=_mapped(action), settings=settings)

    @asynccontextmanager
    async def _open(self, session: AwsSession) -> AsyncIterator[Any]:
        config = self._config
        options = AioConfig(
            warm_up_loader_caches=True,  # in a thread, not on the event loop
            max_pool_connections=CONNECTIONS,
            connect_timeout=config.connect_timeout,
            read_timeout=config.read_timeout,
            retries={"mode": "standard", "total_max_attempts": 1},  # the source repeats calls itself
        )
        async with session.create_client(
            "kinesis", region_name=config.region, endpoint_url=config.endpoint_url, config=options
        ) as client:
            client.meta.events.register("before-parse.kinesis.GetRecords", _take_body)
            yield client


@contextmanager
def _mapped(action: str) -> Iterator[None]:
    """Turn what the client raises into an error of the port."""
    try:
        yield
    except (KeyError, TypeError, AttributeError) as error:
        said = f"cannot {action}: the answer is not that of Kinesis: {error!r}"
        raise KinesisUnavailable(said, code=type(error).__name__) from None
    except Exception as error:
        if (mapped := classify(error, action)) is None:
            raise
        # Without its cause: its text may be what a credential process printed.
        raise mapped from None


def _take_body(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any) -> None:
    """Keep the body of a successful read from botocore's parser. Errors have none worth the name."""
    if response_dict["status_code"] == 200:
        customized_response_dict["Body"] = response_dict["body"]
        response_dict["body"] = b"{}"


def _server_time_ms(answer: Any) -> int:
    """AWS' clock, by the header of an answer, in whole seconds; this machine's where the header is missing."""
    try:
        text = answer["ResponseMetadata"]["HTTPHeaders"]["date"]
        return round(parsedate_to_datetime(text).timestamp() * 1000)
    except (KeyError, ValueError):
        return int(time.time() * 1000)


def _shard(found: Any) -> Shard:
    names = (found.get("ParentShardId"), found.get("AdjacentParentShardId"))
    hashes = found["HashKeyRange"]
    ending = found["SequenceNumberRange"].get("EndingSequenceNumber")
    return Shard(
        found["ShardId"],
        tuple(name for name in names if name),
        int(hashes["StartingHashKey"]),
        int(hashes["EndingHashKey"]),
        ending is not None,
        int(ending) if ending is not None else None,
    )
