"""The flow from a queue, one promise at a time; tests/simulation/test_queue.py has all of them at once."""

import asyncio
import gzip
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from ingestd.config.model import BatchConfig, BreakerConfig, EventsConfig, SinkConfig
from ingestd.config.types import Seconds, Size
from ingestd.core.breaker import Breaker
from ingestd.core.errors import BreakerOpen, SourceError
from ingestd.core.events import load_model
from ingestd.core.queue_keys import QueueKeys
from ingestd.core.queue_objects import FENCE_BODY, FENCE_METADATA, is_fence
from ingestd.core.records import SourceRefusal
from ingestd.core.rejections import Reason
from ingestd.core.row_origin import RowOrigin
from ingestd.core.stored import Stored
from ingestd.core.validation import EventValidator
from ingestd.ops.metrics import Metrics
from ingestd.pipeline.queue.dependencies import QueueDependencies
from ingestd.pipeline.queue.flow import QueuePipeline
from ingestd.pipeline.queue.shared_calls import SharedCalls
from ingestd.sinks.retry import SinkRetrier
from ingestd.sources.sqs.port import Message
from tests.fakes.memory_queue import MemoryQueue, MemoryQueueSource
from tests.fakes.memory_sink import Fault, MemorySink
from tests.simulation import virtual_time
from tests.simulation.virtual_time import SlowExecutor

KEYS = QueueKeys()
VISIBILITY_S = 30.0
FAULT = Fault()
NEVER = BreakerConfig(max_share=1.0, max_consecutive=10**9)


def event(number: int) -> bytes:
    return json.dumps(
        {
            "event_id": f"e{number}",
            "client_id": "c",
            "event_timestamp": "2026-11-22T23:59:30Z",
            "event_type": "web_visit",
        }
    ).encode()


class Flow:
    """A pipeline over a queue and a sink in memory."""

    def __init__(
        self,
        queue: MemoryQueue,
        sink: MemorySink,
        *,
        fenced: bool = True,
        breaker: BreakerConfig = NEVER,
        source: MemoryQueueSource | None = None,
        **limits: Any,
    ) -> None:
        self.source = source or MemoryQueueSource(queue, visibility=VISIBILITY_S, wait=1.0)
        self.metrics = Metrics()
        self.landed: list[str] = []
        config = {"interval": Seconds(2), "bytes": Size(1 << 20), "memory": Size(16 << 20), **limits}
        dependencies = QueueDependencies(
            source=self.source,
            sink=sink,
            retrier=SinkRetrier(SinkConfig(retry_initial=Seconds(0.1), retry_max=Seconds(1))),
            metrics=self.metrics,
            executor=SlowExecutor(lambda: 0.01),
            keys=KEYS,
            clock=asyncio.get_running_loop().time,
            wall_clock=lambda: 1.8e9,
            visibility=VISIBILITY_S,
            fenced=fenced,
            random=random.Random(),
            landed=self.landed.append,
        )
        validator = EventValidator(EventsConfig(), load_model(None), RowOrigin.MESSAGE_ID)
        self.pipeline = QueuePipeline(BatchConfig(**config), dependencies, validator, Breaker(breaker), receivers=2)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Flow"]:
        task = asyncio.create_task(self.pipeline.run())
        try:
            yield self
            self.source.finish()
            await task
        finally:
            task.cancel()

    def again(self, found: str) -> int:
        return self._count("queue_messages_received_again", found)

    def given_up(self, reason: str) -> int:
        return self._count("queue_batches_given_up", reason)

    def _count(self, name: str, label: str) -> int:
        families = {family.name: family for family in self.metrics.queue.families(None)}
        return int(next(s.value for s in families[f"ingestd_{name}"].samples if label in s.labels.values()))


def rows(sink: MemorySink) -> list[dict[str, Any]]:
    """All rows, of objects in the order of their names."""
    bodies = [body for key, (body, _) in sorted(sink.objects.items()) if key.startswith("events/")]
    return [json.loads(line) for body in bodies for line in gzip.decompress(body).splitlines()]


def keys_of(sink: MemorySink, prefix: str) -> list[str]:
    return [key for key in sorted(sink.objects) if key.startswith(prefix)]


async def lose_deletions(operation: str) -> None:
    if operation == "delete":
        raise SourceError("the connection was lost")


async def land_without_deleting(queue: MemoryQueue, sink: MemorySink, *, fenced: bool = True) -> None:
    """A daemon that dies before it can delete what has landed."""
    source = MemoryQueueSource(queue, visibility=VISIBILITY_S, wait=1.0, travel=lose_deletions)
    task = asyncio.create_task(Flow(queue, sink, fenced=fenced, source=source).pipeline.run())
    await until(lambda: bool(keys_of(sink, "events/")))
    task.cancel()
    assert queue.entries


async def until(condition: Callable[[], bool], limit: float = 120.0) -> None:
    async with asyncio.timeout(limit):
        while not condition():  # noqa: ASYNC110 - the fakes have no event for it
            await asyncio.sleep(0.1)


def test_each_message_becomes_a_row_and_is_deleted() -> None:
    async def main() -> None:
        queue, sink = MemoryQueue(), MemorySink()
        ids = [queue.send(event(number)) for number in range(35)]
        async with Flow(queue, sink).running() as flow:
            await until(lambda: not queue.entries)
        found = rows(sink)
        assert Counter(row["source_message_id"] for row in found) == Counter(ids)
        assert {row["source_topic"] for row in found} == {"events"}
        assert all("source_offset" not in row or row["source_offset"] is None for row in found)
        assert flow.metrics.counters.totals().landed == 35
        assert flow.pipeline.held_records == flow.pipeline.held_bytes == 0
        assert flow.landed == keys_of(sink, "events/")
        (manifest,) = keys_of(sink, ".ingestd/manifests/")
        name = KEYS.parse_manifest(manifest)
        assert name is not None
        assert flow.landed == [KEYS.data_key("events", name.batch)]

    virtual_time.run(main())


def test_rejected_and_refused_messages_go_to_the_quarantine_and_are_deleted() -> None:
    class Pointers(MemoryQueueSource):
        async def receive(self) -> list[Message] | None:
            found = await super().receive()
            if found is None:
                return None
            refused = SourceRefusal(Reason.POINTER, "in S3")
            return [
                Message(**{name: getattr(it, name) for name in it.__struct_fields__} | {"refused": refused})
                if it.value == b"pointer"
                else it
                for it in found
            ]

    async def main() -> None:
        queue, sink = MemoryQueue(), MemorySink()
        for value in (event(1), b"pointer", b"not json", event(2)):
            queue.send(value)
        async with Flow(queue, sink, source=Pointers(queue, visibility=VISIBILITY_S)).running() as flow:
            await until(lambda: not queue.entries)
        (key,) = keys_of(sink, "quarantine/")
        lines = [json.loads(line) for line in gzip.decompress(sink.objects[key][0]).splitlines()]
        assert [line["reason"] for line in lines] == ["pointer", "not_json"]
        assert len(rows(sink)) == 2
        assert not queue.dead
        assert flow.metrics.counters.totals().quarantined == 2

    virtual_time.run(main())


def test_a_message_that_has_landed_is_only_deleted() -> None:
    """The daemon that wrote it died before it could delete it."""

    async def main() -> None:
        queue, sink = MemoryQueue(), MemorySink()
        queue.send(event(1))
        await land_without_deleting(queue, sink)
        async with Flow(queue, sink).running() as second:
            await until(lambda: not queue.entries)
        assert len(rows(sink)) == 1
        assert second.again("landed") == 1
        assert second.metrics.counters.totals().released == 1

    virtual_time.run(main())


def test_a_batch_that_was_fenced_is_given_up_and_its_messages_come_again() -> None:
    class Fencing(MemorySink):
        """Somebody else's fence comes between the first manifest and its data."""

        async def put_new(self, key: str, body: bytes, metadata: Any) -> Stored:
            if key.startswith("events/") and not keys_of(self, "events/"):
                await super().put_new(key, FENCE_BODY, FENCE_METADATA)
            return await super().put_new(key, body, metadata)

    async def main() -> None:
        queue, sink = MemoryQueue(), Fencing()
        queue.send(event(1))
        async with Flow(queue, sink).running() as flow:
            await until(lambda: not queue.entries)
        assert flow.given_up("fenced") == 1
        assert len(rows(sink)) == 1
        assert flow.again("not_landed") == 1

    virtual_time.run(main())


@pytest.mark.parametrize("later", [0.2, 5.0, 19.0])
def test_what_comes_after_the_end_of_the_stream_is_hidden_from_nobody(later: float) -> None:
    """The requests that still wait bring some of it, which lands; they are the last ones."""

    async def main() -> None:
        queue, sink = MemoryQueue(), MemorySink()
        source = MemoryQueueSource(queue, visibility=600.0, wait=20.0)
        flow = Flow(queue, sink, source=source)
        running = asyncio.create_task(flow.pipeline.run())
        await asyncio.sleep(1)
        source.finish()
        await asyncio.sleep(later)
        ids = {queue.send(event(number)) for number in range(50)}
        await running
        assert asyncio.get_running_loop().time() < 1 + later + 2
        landed = {row["source_message_id"] for row in rows(sink)}
        assert 2 <= len(landed) <= 20
        assert queue.entries.keys() == ids - landed
        assert not any(entry.receipts for entry in queue.entries.values())

    virtual_time.run(main())


def test_a_batch_whose_manifest_comes_too_late_is_given_up() -> None:
    class Deaf(MemoryQueueSource):
        async def extend(self, receipts: Any, seconds: int) -> list[str]:
            return list(receipts)

    async def main() -> None:
        queue, sink = MemoryQueue(), MemorySink()
        queue.send(event(1))
        loop = asyncio.get_running_loop()
        sink.fail_when(lambda _: FAULT if loop.time() < 100 else None)
        source = Deaf(queue, visibility=VISIBILITY_S, wait=1.0)
        async with Flow(queue, sink, source=source).running() as flow:
            await until(lambda: not queue.entries, 400)
        assert flow.given_up("late") >= 1
        assert len(rows(sink)) == 1

    virtual_time.run(main())


def test_an_outage_of_the_sink_sends_no_message_to_the_dead_letters() -> None:
    """Messages stay hidden for as long as it lasts, so that they are received once."""

    async def main() -> None:
        queue, sink = MemoryQueue(max_receive_count=2), MemorySink()
        for number in range(30):
            queue.send(event(number))
        loop = asyncio.get_running_loop()
        sink.fail_when(lambda _: FAULT if loop.time() < 3600 else None)
        async with Flow(queue, sink).running():
            await until(lambda: not queue.entries, 4000)
        assert not queue.dead
        assert len(rows(sink)) == 30

    virtual_time.run(main())


def test_a_fifo_queue_whose_groups_are_all_in_flight_is_flushed_at_once() -> None:
    """Else three groups would give thirty messages in each interval."""

    async def main() -> None:
        queue, sink = MemoryQueue("events.fifo"), MemorySink()
        for number in range(90):
            queue.send(event(number), group=f"g{number % 3}")
        async with Flow(queue, sink, interval=Seconds(600)).running():
            await until(lambda: len(queue.entries) <= 10, 60)  # the last ones wait for more
        by_group: dict[int, list[int]] = {}
        for row in sorted(rows(sink), key=lambda row: row["received_at"]):
            by_group.setdefault(int(row["event_id"][1:]) % 3, []).append(int(row["event_id"][1:]))
        assert sorted(map(len, by_group.values())) == [30, 30, 30]

    virtual_time.run(main())


def test_without_fences_messages_may_come_twice_and_no_manifest_is_written() -> None:
    async def main() -> None:
        queue, sink = MemoryQueue(), MemorySink()
        queue.send(event(1))
        await land_without_deleting(queue, sink, fenced=False)
        async with Flow(queue, sink, fenced=False).running():
            await until(lambda: not queue.entries)
        assert len(rows(sink)) == 2
        assert not keys_of(sink, ".ingestd/")

    virtual_time.run(main())


def test_a_queue_with_messages_that_hands_out_none_is_a_wait() -> None:
    class Stuck(MemoryQueueSource):
        async def receive(self) -> list[Message] | None:
            await asyncio.sleep(1)
            return None if self._finished.is_set() else []

    async def main() -> None:
        queue = MemoryQueue()
        queue.send(event(1))
        async with Flow(queue, MemorySink(), source=Stuck(queue)).running() as flow:
            await asyncio.sleep(60)
            assert 40 < flow.pipeline.longest_wait() <= 60
            (status,) = flow.pipeline.partitions(asyncio.get_running_loop().time())
            assert (status.topic, status.lag) == ("events", 1)

    virtual_time.run(main())


def test_too_many_rejected_messages_stop_the_daemon_and_name_one() -> None:
    async def main() -> None:
        queue = MemoryQueue()
        ids = [queue.send(b"not json") for _ in range(20)]
        with pytest.raises(ExceptionGroup) as raised:
            async with Flow(queue, MemorySink(), breaker=BreakerConfig(max_consecutive=15)).running():
                await asyncio.sleep(60)
        opened, _ = raised.value.split(BreakerOpen)
        assert opened is not None
        assert any(f"events message {message_id}" in str(opened.exceptions) for message_id in ids)

    virtual_time.run(main())


def test_a_question_is_answered_by_a_call_that_began_after_it() -> None:
    async def main() -> None:
        begun: list[str] = []

        async def call(key: str) -> int:
            begun.append(key)
            number = len(begun)
            await asyncio.sleep(1)
            return number

        calls = SharedCalls(call, at_once=4)
        async with asyncio.TaskGroup() as group:
            first = group.create_task(calls.get("a", group))
            await asyncio.sleep(0.5)
            later = [group.create_task(calls.get("a", group)) for _ in range(3)]
        assert [first.result(), *(task.result() for task in later)] == [1, 2, 2, 2]

    virtual_time.run(main())


def test_a_fence_is_an_empty_file_that_says_so() -> None:
    assert gzip.decompress(FENCE_BODY) == b""
    assert is_fence(FENCE_METADATA)
