"""What a bucket tells a queue, read as S3 and SNS write it; and the queue itself, on ministack."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path

import pytest

from ingestd.config import model as config
from ingestd.config.model import S3Config, Seconds, SnowflakeConfig
from ingestd.demo.warehouse.database import Warehouse
from ingestd.demo.warehouse.local_loader import LoaderState, LocalLoader
from ingestd.demo.warehouse.sqs_events import SqsEvents, named
from ingestd.sinks.s3 import S3Sink
from tests.services.ministack import Ministack, Queue
from tests.services.seaweed import REGION
from tests.warehouse_world import COLUMNS, batch, key, only


def event(bucket: str, *keys: str) -> str:
    return json.dumps({"Records": [{"s3": {"bucket": {"name": bucket}, "object": {"key": it}}} for it in keys]})


def test_reads_s3_s_own_form() -> None:
    body = event("b", "events/year%3D2026/x%2B00000%2B1.jsonl.gz", "a+b%25")
    assert named(body) == [("b", "events/year=2026/x+00000+1.jsonl.gz"), ("b", "a b%")]


def test_reads_what_sns_passes_on() -> None:
    assert named(json.dumps({"Type": "Notification", "Message": event("b", "k")})) == [("b", "k")]


@pytest.mark.parametrize(
    "body",
    ["", "no json", "[]", "5", '{"Event": "s3:TestEvent"}', '{"Records": [{}]}', '{"Records": 5}', '{"Message": "x"}'],
)
def test_what_tells_of_no_object_is_nothing(body: str) -> None:
    assert named(body) == []


class OneMessage:
    """A client whose queue holds one message."""

    def __init__(self, body: str, done: list[str]) -> None:
        self._body = body
        self._done = done

    async def receive_message(self, **_: object) -> dict[str, object]:
        return {"Messages": [{"Body": self._body, "ReceiptHandle": "r"}]}

    async def delete_message_batch(self, **request: object) -> None:
        self._done.append(f"delete {request['Entries']}")


async def test_a_message_is_deleted_when_its_objects_are_loaded_and_not_before() -> None:
    done: list[str] = []

    async def loaded(keys: list[str]) -> None:
        done.append(f"loaded {keys}")

    body = event("b", "p/events/1", "other/events/2", "p/events/3")
    notices = SqsEvents("http://127.0.0.1:1/q", "s3://b/p", None)
    await notices._receive(OneMessage(body, done), done.append, loaded)
    assert done == [
        "events/1",
        "events/3",
        "loaded ['events/1', 'events/3']",
        "delete [{'Id': '0', 'ReceiptHandle': 'r'}]",
    ]


@pytest.fixture
def place(ministack: Ministack) -> Iterator[str]:
    """A bucket of ministack's, for one test."""
    name = f"test-{uuid.uuid4().hex}"
    ministack.create_bucket(name)
    yield name
    ministack.delete_bucket(name)


@pytest.fixture
def told(ministack: Ministack, place: str) -> Queue:
    """A queue that the bucket tells of what lands below its prefix."""
    queue = ministack.create_queue(f"test-{uuid.uuid4().hex}")
    ministack.notify(place, queue, "some/prefix/events/")
    return queue


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ingestd")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "only-for-tests")
    monkeypatch.setenv("AWS_REGION", REGION)


@asynccontextmanager
async def running(server: Ministack, place: str, queue_url: str, path: Path) -> AsyncIterator[LocalLoader]:
    sink = S3Sink(f"s3://{place}/some/prefix", S3Config(endpoint_url=server.endpoint, region=REGION), connections=4)
    await sink.start()
    settings = config.WarehouseConfig(poll=Seconds(0.1))
    pipe = LocalLoader(
        settings, Warehouse(path, SnowflakeConfig()), COLUMNS, sink, SqsEvents(queue_url, sink.url, REGION)
    )
    await pipe.start()
    task = asyncio.create_task(pipe.run())
    try:
        yield pipe
    finally:
        assert not task.done(), task
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await pipe.close()
        await sink.close()


def land(server: Ministack, place: str, start: int, end: int) -> str:
    """Put an object below the prefix, as another process would; its name."""
    name = f"some/prefix/{key(start)}"
    with closing(server.client()) as client:
        client.put_object(Bucket=place, Key=name, Body=batch(start, end))
    return name


def left(server: Ministack, queue: Queue) -> int:
    """Messages that are in the queue, taken or not."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    with closing(server.queues()) as client:
        counts = client.get_queue_attributes(QueueUrl=queue.url, AttributeNames=names)["Attributes"]
    return sum(int(count) for count in counts.values())


async def until(pipe: LocalLoader, files: int) -> LoaderState:
    async with asyncio.timeout(30):
        while pipe.state().files_loaded < files:  # noqa: ASYNC110 - a state tells only who asks
            await asyncio.sleep(0.02)
    return pipe.state()


async def test_loads_what_the_queue_tells_of_without_listing(
    ministack: Ministack, place: str, told: Queue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await asyncio.to_thread(land, ministack, place, 0, 3)
    async with running(ministack, place, told.url, tmp_path / "w.duckdb") as pipe:
        assert (await until(pipe, 1)).last_file == first
        notices = pipe._notices
        assert notices is not None
        async with asyncio.timeout(30):
            while not notices.heard:  # noqa: ASYNC110 - the same
                await asyncio.sleep(0.02)
        await pipe.settled()

        async def no_listing() -> None:
            raise AssertionError("listed")

        monkeypatch.setattr(pipe, "_list", no_listing)
        for start in range(3, 30, 3):
            await asyncio.to_thread(land, ministack, place, start, start + 3)
        await until(pipe, 10)
        assert only(pipe.warehouse, "SELECT COUNT(DISTINCT source_offset) FROM marketing_events") == 30
        assert pipe.state().rows_loaded == 30
        async with asyncio.timeout(30):
            while await asyncio.to_thread(left, ministack, told):  # noqa: ASYNC110 - the same
                await asyncio.sleep(0.02)


async def test_a_message_that_comes_twice_loads_once(
    ministack: Ministack, place: str, told: Queue, tmp_path: Path
) -> None:
    name = await asyncio.to_thread(land, ministack, place, 0, 3)
    with closing(ministack.queues()) as client:
        for _ in range(3):
            client.send_message(QueueUrl=told.url, MessageBody=event(place, name.replace("=", "%3D")))
        client.send_message(QueueUrl=told.url, MessageBody=event("another-bucket", name))
        client.send_message(QueueUrl=told.url, MessageBody="nonsense")
    async with running(ministack, place, told.url, tmp_path / "w.duckdb") as pipe:
        async with asyncio.timeout(30):
            while await asyncio.to_thread(left, ministack, told):  # noqa: ASYNC110 - the same
                await asyncio.sleep(0.02)
        assert (pipe.state().files_loaded, pipe.state().rows_loaded) == (1, 3)


async def test_lists_while_the_queue_does_not_answer(
    ministack: Ministack, place: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    queue_url = f"{ministack.endpoint}/000000000000/nobody"
    async with running(ministack, place, queue_url, tmp_path / "w.duckdb") as pipe:
        for start in (0, 3, 6):
            await asyncio.to_thread(land, ministack, place, start, start + 3)
            await until(pipe, start // 3 + 1)
        async with asyncio.timeout(30):
            while not caplog.records:  # noqa: ASYNC110 - the same
                await asyncio.sleep(0.02)
    (record,) = caplog.records
    assert record.message.startswith("the queue of notifications does not answer; the sink is listed meanwhile:")
