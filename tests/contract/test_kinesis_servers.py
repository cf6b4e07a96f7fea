"""The Kinesis source keeps the contract of sources, and follows shards, on servers that speak Kinesis' protocol."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import pytest

from ingestd.config.model import KinesisConfig
from ingestd.config.types import Seconds
from ingestd.core.records import TopicPartition
from ingestd.sources.kinesis.client import AwsKinesisClient
from ingestd.sources.kinesis.port import KinesisRefused, NumberUnknown
from ingestd.sources.kinesis.source import KinesisSource
from tests.contract.kinesis_contract import KinesisContract, Numbers
from tests.contract.source_contract import LIMIT, Reader, RecordingListener, World, values
from tests.fakes.kinesis import MemoryState
from tests.kinesis_aggregates import aggregate
from tests.services.kinesis import Kinesalite, KinesisLocal

pytestmark = pytest.mark.services

POLL_S = 0.05
DELETED_S = 1.5  # AWS takes longer to delete a stream; kinesalite tells its time of creation in whole seconds


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ingestd")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "only-for-tests")


class Stream:
    """A stream of a test's own, with two shards."""

    def __init__(self, client: Any, endpoint: str) -> None:
        self.client = client
        self.endpoint = endpoint
        self.name = f"test-{uuid.uuid4().hex}"
        self.state = MemoryState()
        self.numbers = Numbers()
        self.create()

    def config(self, **settings: Any) -> KinesisConfig:
        return KinesisConfig(
            **{
                "stream": self.name,
                "region": self.client.meta.region_name,
                "endpoint_url": self.endpoint,
                "member_id": "one",
                "poll_interval": Seconds(0.2),
                "heartbeat_interval": Seconds(0.2),
                **settings,
            }
        )

    def source(self, **settings: Any) -> KinesisSource:
        return KinesisSource(self.config(**settings), self.state, "default")

    async def append(self, partition: TopicPartition, values: Sequence[bytes]) -> None:
        await asyncio.to_thread(self._append, partition, values)

    def _append(self, partition: TopicPartition, values: Sequence[bytes]) -> None:
        """The hash key in the middle of the shard's range leads there."""
        shards = self.client.list_shards(StreamName=self.name)["Shards"]
        hashes = shards[partition.partition]["HashKeyRange"]
        middle = str((int(hashes["StartingHashKey"]) + int(hashes["EndingHashKey"])) // 2)
        for value in values:
            answer = self.client.put_record(StreamName=self.name, Data=value, PartitionKey="k", ExplicitHashKey=middle)
            assert answer["ShardId"] == f"shardId-{partition.partition:012}"
            self.numbers.of[partition].append(int(answer["SequenceNumber"]))

    async def create_again(self) -> None:
        await asyncio.to_thread(self._create_again)

    def _create_again(self) -> None:
        self.delete()
        time.sleep(DELETED_S)
        self.create()
        self.numbers.of.clear()

    def create(self) -> None:
        self.client.create_stream(StreamName=self.name, ShardCount=2)
        await_active(self.client, self.name)

    def delete(self) -> None:
        self.client.delete_stream(StreamName=self.name, EnforceConsumerDeletion=True)
        while self.name in self.client.list_streams(Limit=1000)["StreamNames"]:
            time.sleep(POLL_S)


@pytest.fixture(scope="module")
def clients() -> Iterator[dict[str, Any]]:
    """A client of each server: to make one takes longer than most tests."""
    clients: dict[str, Any] = {}
    yield clients
    for client in clients.values():
        client.close()


@pytest.fixture(params=["kinesis_local", "kinesalite"])
def stream(request: pytest.FixtureRequest, clients: dict[str, Any]) -> Iterator[Stream]:
    server: Kinesalite | KinesisLocal = request.getfixturevalue(request.param)
    client = clients.setdefault(server.endpoint, None) or server.client()
    clients[server.endpoint] = client
    stream = Stream(client, server.endpoint)
    yield stream
    stream.delete()


class TestKinesisServers(KinesisContract):
    @pytest.fixture
    async def world(self, stream: Stream) -> AsyncIterator[World]:
        source, listener = stream.source(), RecordingListener()
        await source.start(listener)
        partitions = TopicPartition(stream.name, 0), TopicPartition(stream.name, 1)
        nth = stream.numbers.nth
        yield World(source, listener, partitions, stream.append, stream.create_again, stream.source, nth=nth)
        await source.stop()


async def test_says_that_there_is_no_such_stream(stream: Stream) -> None:
    client = AwsKinesisClient(stream.config(stream="nowhere"))
    with pytest.raises(KinesisRefused) as raised:
        await client.describe()
    assert "kinesis.stream" in raised.value.hint
    await client.close()


@pytest.mark.parametrize("stream", ["kinesalite"], indirect=True)
async def test_a_number_of_no_record_of_the_stream_is_told(stream: Stream) -> None:
    client = AwsKinesisClient(stream.config())
    with pytest.raises(NumberUnknown):
        await client.iterator("shardId-000000000000", number=10**55)
    await client.close()


async def test_takes_aggregates_apart_and_reads_them_again_from_their_end(stream: Stream) -> None:
    partition = TopicPartition(stream.name, 0)
    source, listener = stream.source(), RecordingListener()
    await source.start(listener)
    await listener.wait_for({partition, TopicPartition(stream.name, 1)})
    parts: list[tuple[str, int | None, bytes]] = [("k", 0, b"%d" % number) for number in range(5)]
    await stream.append(partition, [b"before", aggregate(parts), b"after"])
    start = await source.resolve_start(partition)
    source.seek(partition, start.offset)
    reader = Reader(source)
    taken = await reader.take(partition, 7)
    assert values(taken) == [b"before", *(value for _, _, value in parts), b"after"]
    end = stream.numbers.of[partition][1] + 1
    assert taken[5].offset == end - 1
    await source.commit(partition, start._replace(offset=end))
    await source.log_range(partition)
    source.seek(partition, end)
    reader.got.clear()
    assert values(await reader.take(partition, 1)) == [b"after"]
    await source.stop()


@pytest.mark.parametrize("stream", ["kinesis_local"], indirect=True)
async def test_reads_the_children_of_a_shard_that_is_split_while_it_is_read(stream: Stream) -> None:
    first, second = TopicPartition(stream.name, 0), TopicPartition(stream.name, 1)
    source, listener = stream.source(), RecordingListener()
    await source.start(listener)
    await listener.wait_for({first, second})
    await stream.append(first, [b"parent"])
    start = await source.resolve_start(first)
    source.seek(first, start.offset)
    reader = Reader(source)
    (last,) = await reader.take(first, 1)
    await source.commit(first, start._replace(offset=last.offset + 1))
    await asyncio.to_thread(split, stream.client, stream.name)
    children = TopicPartition(stream.name, 2), TopicPartition(stream.name, 3)
    async with asyncio.timeout(LIMIT):
        while listener.owned != {second, *children}:
            await reader.fetch()
    for child in children:
        await stream.append(child, [b"child"])
        source.seek(child, (await source.resolve_start(child)).offset)
    assert [values(await reader.take(child, 1)) for child in children] == [[b"child"], [b"child"]]
    await source.stop()


def split(client: Any, name: str) -> None:
    hashes = client.list_shards(StreamName=name)["Shards"][0]["HashKeyRange"]
    middle = str((int(hashes["StartingHashKey"]) + int(hashes["EndingHashKey"])) // 2)
    client.split_shard(StreamName=name, ShardToSplit="shardId-000000000000", NewStartingHashKey=middle)
    await_active(client, name)


def await_active(client: Any, name: str) -> None:
    while client.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]["StreamStatus"] != "ACTIVE":
        time.sleep(POLL_S)
