"""The servers that stand for Kinesis, as far as the other tests rely on them."""

import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from itertools import chain
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.services.kinesis import Kinesalite, KinesisLocal

Server = Kinesalite | KinesisLocal

_HALF = str(1 << 127)
_DAY_S = 24 * 3600.0
pytestmark = pytest.mark.services

SHARD = "shardId-000000000000"
_SERVERS = ("kinesis_local", "kinesalite")


@pytest.fixture(params=_SERVERS)
def server(request: pytest.FixtureRequest) -> Server:
    """Either of them."""
    found: Server = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def stream() -> str:
    return f"test-{uuid.uuid4().hex}"


@pytest.fixture
def client(server: Server) -> Iterator[Any]:
    with closing(server.client()) as client:
        yield client


def put(client: Any, stream: str, total: int, key: str = "k") -> list[int]:
    """Put so many records, one after the other; their numbers."""
    data = (b"%d" % number for number in range(total))
    answers = (client.put_record(StreamName=stream, Data=each, PartitionKey=key) for each in data)
    return [int(answer["SequenceNumber"]) for answer in answers]


def get(client: Any, stream: str, shard: str, kind: str, **options: Any) -> dict[str, Any]:
    """One answer of a shard, read from there on."""
    where = client.get_shard_iterator(StreamName=stream, ShardId=shard, ShardIteratorType=kind, **options)
    answer: dict[str, Any] = client.get_records(ShardIterator=where["ShardIterator"])
    return answer


def numbers(answer: dict[str, Any]) -> list[int]:
    return [int(record["SequenceNumber"]) for record in answer["Records"]]


@contextmanager
def at(server: Kinesalite, ahead_s: float) -> Iterator[None]:
    """It runs by a clock that is ahead by so much, and then by the right one."""
    for each in (ahead_s, 0.0):
        server.set_clock(each)
        if each:
            yield


def test_numbers_have_56_digits_and_grow(server: Server, client: Any, stream: str) -> None:
    server.create_stream(stream, 1)

    found = put(client, stream, 5)

    assert found == sorted(set(found))
    assert {len(str(number)) for number in found} == {56}
    assert numbers(get(client, stream, SHARD, "TRIM_HORIZON")) == found


def test_a_reader_at_a_number_gets_that_record_first(server: Server, client: Any, stream: str) -> None:
    server.create_stream(stream, 1)
    found = put(client, stream, 3)

    at = get(client, stream, SHARD, "AT_SEQUENCE_NUMBER", StartingSequenceNumber=str(found[1]))

    assert numbers(at) == found[1:]


def test_a_reader_from_a_time_gets_what_is_as_young(server: Server, client: Any, stream: str) -> None:
    server.create_stream(stream, 1)
    put(client, stream, 2)
    time.sleep(1.1)  # times of requests are in whole seconds for kinesalite
    moment = datetime.now(UTC)
    later = put(client, stream, 2)

    assert numbers(get(client, stream, SHARD, "AT_TIMESTAMP", Timestamp=moment)) == later


def test_a_closed_shard_is_read_to_its_end_beside_its_children(server: Server, client: Any, stream: str) -> None:
    server.create_stream(stream, 1)
    before = put(client, stream, 3)

    client.split_shard(StreamName=stream, ShardToSplit=SHARD, NewStartingHashKey=_HALF)
    server.wait_active(stream)
    after = put(client, stream, 3)

    end = get(client, stream, SHARD, "TRIM_HORIZON")
    assert numbers(end) == before
    if "NextShardIterator" in end:
        end = client.get_records(ShardIterator=end["NextShardIterator"])
    assert end.get("NextShardIterator") is None
    shards = client.list_shards(StreamName=stream)["Shards"]
    assert [shard.get("ParentShardId") for shard in shards] == [None, SHARD, SHARD]
    assert "EndingSequenceNumber" in shards[0]["SequenceNumberRange"]
    children = [numbers(get(client, stream, shard["ShardId"], "TRIM_HORIZON")) for shard in shards[1:]]
    assert sorted(chain.from_iterable(children)) == after


def test_a_stream_that_is_created_again_has_another_time(server: Server, client: Any, stream: str) -> None:
    server.create_stream(stream, 1)
    old = client.describe_stream_summary(StreamName=stream)["StreamDescriptionSummary"]
    server.delete_stream(stream)
    time.sleep(1.1)  # kinesalite's time of creation is in whole seconds
    server.create_stream(stream, 1)

    new = client.describe_stream_summary(StreamName=stream)["StreamDescriptionSummary"]

    assert old["StreamARN"] == new["StreamARN"]
    assert old["StreamCreationTimestamp"] < new["StreamCreationTimestamp"]


def test_kinesis_local_names_the_children_at_a_closed_shards_end(kinesis_local: KinesisLocal, stream: str) -> None:
    kinesis_local.create_stream(stream, 2)
    with closing(kinesis_local.client()) as client:
        other = "shardId-000000000001"
        client.merge_shards(StreamName=stream, ShardToMerge=SHARD, AdjacentShardToMerge=other)
        kinesis_local.wait_active(stream)

        ends = [get(client, stream, shard, "TRIM_HORIZON") for shard in (SHARD, other)]

        (child,) = client.list_shards(StreamName=stream)["Shards"][2:]
        assert {child["ParentShardId"], child["AdjacentParentShardId"]} == {SHARD, other}
        for end in ends:
            assert end.get("NextShardIterator") is None
            assert [it["ShardId"] for it in end["ChildShards"]] == [child["ShardId"]]


def test_kinesis_local_changes_the_number_of_shards(kinesis_local: KinesisLocal, stream: str) -> None:
    kinesis_local.create_stream(stream, 2)
    with closing(kinesis_local.client()) as client:
        client.update_shard_count(StreamName=stream, TargetShardCount=4, ScalingType="UNIFORM_SCALING")
        kinesis_local.wait_active(stream)

        summary = client.describe_stream_summary(StreamName=stream)["StreamDescriptionSummary"]
        assert summary["OpenShardCount"] == 4


def test_kinesalite_keeps_records_across_sigkill(kinesalite: Kinesalite, stream: str) -> None:
    kinesalite.create_stream(stream, 1)
    with closing(kinesalite.client()) as client:
        found = put(client, stream, 20)

        kinesalite.kill()
        kinesalite.start()

        assert numbers(get(client, stream, SHARD, "TRIM_HORIZON")) == found
        assert put(client, stream, 1)[0] > found[-1]


def test_kinesalite_forgets_what_is_older_than_a_day(kinesalite: Kinesalite, stream: str) -> None:
    with at(kinesalite, -_DAY_S - 60), closing(kinesalite.client()) as client:
        kinesalite.create_stream(stream, 1)
        old = put(client, stream, 3)
    with closing(kinesalite.client()) as client:
        new = put(client, stream, 2)

        assert old[-1] < new[0]
        assert numbers(get(client, stream, SHARD, "TRIM_HORIZON")) == new
        trimmed = get(client, stream, SHARD, "AT_SEQUENCE_NUMBER", StartingSequenceNumber=str(old[-1]))
        assert numbers(trimmed) == new


def test_kinesalite_refuses_an_iterator_after_five_minutes(kinesalite: Kinesalite, stream: str) -> None:
    with at(kinesalite, -301), closing(kinesalite.client()) as client:
        kinesalite.create_stream(stream, 1)
        where = client.get_shard_iterator(StreamName=stream, ShardId=SHARD, ShardIteratorType="TRIM_HORIZON")
    with closing(kinesalite.client()) as client, pytest.raises(ClientError) as refused:
        client.get_records(ShardIterator=where["ShardIterator"])

    assert refused.value.response["Error"]["Code"] == "ExpiredIteratorException"


def test_kinesalite_refuses_the_numbers_of_a_stream_that_was_deleted(kinesalite: Kinesalite, stream: str) -> None:
    kinesalite.create_stream(stream, 1)
    with closing(kinesalite.client()) as client:
        (old,) = put(client, stream, 1)
        kinesalite.delete_stream(stream)
        time.sleep(1.1)  # its numbers begin with the whole second of its creation
        kinesalite.create_stream(stream, 1)

        with pytest.raises(ClientError, match="did not come from this stream") as refused:
            get(client, stream, SHARD, "AT_SEQUENCE_NUMBER", StartingSequenceNumber=str(old))

    assert refused.value.response["Error"]["Code"] == "InvalidArgumentException"
