"""Notifications of a bucket, in the formats of S3 and SNS, and a real queue on ministack."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path

import pytest

from ingestd.config import model as config
from ingestd.config.model import S3Config, SnowflakeConfig
from ingestd.config.types import Seconds
from ingestd.demo.warehouse.local_loader import LoaderState, LocalLoader
from ingestd.demo.warehouse.process import WarehouseProcess
from ingestd.demo.warehouse.sqs_events import SqsEvents, objects_in
from ingestd.sinks.s3 import S3Sink
from tests.services.ministack import Ministack, Queue
from tests.services.seaweed import REGION
from tests.warehouse_world import COLUMNS, batch, key, only


def event(bucket: str, *keys: str) -> str:
    return json.dumps({"Records": [{"s3": {"bucket": {"name": bucket}, "object": {"key": it}}} for it in keys]})


def test_reads_messages_of_s3() -> None:
    body = event("b", "events/year%3D2026/x%2B00000%2B1.jsonl.gz", "a+b%25")
    assert objects_in(body) == [("b", "events/year=2026/x+00000+1.jsonl.gz"), ("b", "a b%")]


def test_reads_messages_through_sns() -> None:
    assert objects_in(json.dumps({"Type": "Notification", "Message": event("b", "k")})) == [("b", "k")]


@pytest.mark.parametrize(
    "body",
    ["", "no json", "[]", "5", '{"Event": "s3:TestEvent"}', '{"Records": [{}]}', '{"Records": 5}', '{"Message": "x"}'],
)
def test_other_messages_have_no_objects(body: str) -> None:
    assert objects_in(body) == []


class OneMessage:
    """A client whose queue holds one message."""

    def __init__(self, body: str, done: list[str]) -> None:
        self._body = body
        self._done = done

    async def receive_message(self, **_: object) -> dict[str, object]:
        return {"Messages": [{"Body": self._body, "ReceiptHandle": "r"}]}

    async def delete_message_batch(self, **request: object) -> None:
        self._done.append(f"delete {request['Entries']}")


async def test_a_message_is_deleted_after_its_objects_are_loaded() -> None:
    done: list[str] = []

    async def loaded(keys: list[str]) -> None:
        done.append(f"loaded {keys}")

    body = event("b", "p/events/1", "other/events/2", "p/events/3")
    events = SqsEvents("http://127.0.0.1:1/q", "s3://b/p", None)
    await events._receive(OneMessage(body, done), done.append, loaded)
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
def queue(ministack: Ministack, place: str) -> Queue:
    """A queue with the bucket's notifications of objects below the prefix."""
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
    loader = LocalLoader(
        settings, WarehouseProcess(path, SnowflakeConfig()), COLUMNS, sink, SqsEvents(queue_url, sink.url, REGION)
    )
    await loader.start()
    task = asyncio.create_task(loader.run())
    try:
        yield loader
    finally:
        assert not task.done(), task
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await loader.close()
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


async def until(loader: LocalLoader, files: int) -> LoaderState:
    async with asyncio.timeout(30):
        while loader.state().files_loaded < files:  # noqa: ASYNC110 - the state must be polled
            await asyncio.sleep(0.02)
    return loader.state()


async def test_loads_objects_of_the_queue_without_a_listing(
    ministack: Ministack, place: str, queue: Queue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await asyncio.to_thread(land, ministack, place, 0, 3)
    async with running(ministack, place, queue.url, tmp_path / "w.duckdb") as loader:
        assert (await until(loader, 1)).last_file == first
        events = loader._events
        assert events is not None
        async with asyncio.timeout(30):
            while not events.is_answering:  # noqa: ASYNC110 - the same
                await asyncio.sleep(0.02)
        await loader.settled()

        async def no_listing() -> None:
            raise AssertionError("listed")

        monkeypatch.setattr(loader, "_list", no_listing)
        for start in range(3, 30, 3):
            await asyncio.to_thread(land, ministack, place, start, start + 3)
        await until(loader, 10)
        assert only(loader.warehouse, "SELECT COUNT(DISTINCT source_offset) FROM marketing_events") == 30
        assert loader.state().rows_loaded == 30
        async with asyncio.timeout(30):
            while await asyncio.to_thread(left, ministack, queue):  # noqa: ASYNC110 - the same
                await asyncio.sleep(0.02)


async def test_a_message_that_comes_twice_loads_once(
    ministack: Ministack, place: str, queue: Queue, tmp_path: Path
) -> None:
    name = await asyncio.to_thread(land, ministack, place, 0, 3)
    with closing(ministack.queues()) as client:
        for _ in range(3):
            client.send_message(QueueUrl=queue.url, MessageBody=event(place, name.replace("=", "%3D")))
        client.send_message(QueueUrl=queue.url, MessageBody=event("another-bucket", name))
        client.send_message(QueueUrl=queue.url, MessageBody="nonsense")
    async with running(ministack, place, queue.url, tmp_path / "w.duckdb") as loader:
        async with asyncio.timeout(30):
            while await asyncio.to_thread(left, ministack, queue):  # noqa: ASYNC110 - the same
                await asyncio.sleep(0.02)
        assert (loader.state().files_loaded, loader.state().rows_loaded) == (1, 3)


async def test_lists_the_sink_while_the_queue_does_not_answer(
    ministack: Ministack, place: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    queue_url = f"{ministack.endpoint}/000000000000/nobody"
    async with running(ministack, place, queue_url, tmp_path / "w.duckdb") as loader:
        for start in (0, 3, 6):
            await asyncio.to_thread(land, ministack, place, start, start + 3)
            await until(loader, start // 3 + 1)
        async with asyncio.timeout(30):
            while not caplog.records:  # noqa: ASYNC110 - the same
                await asyncio.sleep(0.02)
    (record,) = caplog.records
    assert record.message.startswith("the notification queue does not answer; listing the sink instead:")
