"""The promises of every queue, as tests."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, Protocol

import pytest

from ingestd.sources.sqs.port import Message, QueueSource, clock

LIMIT = 60  # seconds until a promise counts as broken; never waited for when it is kept
VISIBILITY_S = 2
LONG_S = 600


class Connect(Protocol):
    """Makes a source of the queue, which is started and stopped by the world."""

    async def __call__(self, visibility: float = LONG_S, wait: float = 1) -> QueueSource: ...


class QueueWorld(NamedTuple):
    """An empty queue. `send` returns the message ids; `dead` counts the messages of the dead-letter queue."""

    connect: Connect
    send: Callable[..., Awaitable[list[str]]]  # (values, group=None)
    dead: Callable[[], Awaitable[int]]


class MakeQueue(Protocol):
    """Makes a queue for one test; `max_receive_count` gives it a dead-letter queue."""

    async def __call__(self, *, fifo: bool = False, max_receive_count: int | None = None) -> QueueWorld: ...


async def take(source: QueueSource, count: int) -> list[Message]:
    """The next messages, at least so many."""
    found: list[Message] = []
    async with asyncio.timeout(LIMIT):
        while len(found) < count:
            received = await source.receive()
            assert received is not None, "the stream ended"
            found += received
    return found


async def take_nothing(source: QueueSource) -> None:
    """Receive once, with the wait of the source, and find nothing."""
    async with asyncio.timeout(LIMIT):
        assert await source.receive() == []


def receipts(messages: Sequence[Message]) -> list[str]:
    return [message.receipt for message in messages]


class QueueContract:
    """Tests of any queue; a subclass gives the fixture `make_queue`."""

    @pytest.fixture
    async def world(self, make_queue: MakeQueue) -> QueueWorld:
        return await make_queue()

    async def test_hands_out_what_was_sent_under_its_id(self, world: QueueWorld) -> None:
        values = [b'{"i":%d,"text":"%s"}' % (i, "ü€😀\\u0000 \t\n".encode()) for i in range(23)]
        began_ms = int(time.time() * 1000)
        ids = await world.send(values)
        source = await world.connect()
        before = clock()
        messages = await take(source, len(values))
        assert {it.message_id: it.value for it in messages} == dict(zip(ids, values, strict=True))
        assert len(messages) == len(values)
        for message in messages:
            assert message.receive_count == 1
            assert message.refused is None
            assert before <= message.requested_at <= clock()
            assert (message.key, message.group) == (None, None)
        self.check_times(messages, began_ms)

    def check_times(self, messages: Sequence[Message], began_ms: int) -> None:
        """The times are those of the wall clock, to a second."""
        for message in messages:
            assert began_ms - 1000 <= message.timestamp <= message.first_received_ms <= time.time() * 1000 + 1000

    async def test_a_message_may_have_1_mib(self, world: QueueWorld) -> None:
        value = b'{"a":"' + b"x" * ((1 << 20) - 8) + b'"}'
        assert len(value) == 1 << 20
        await world.send([value])
        [message] = await take(await world.connect(), 1)
        assert message.value == value

    async def test_a_message_is_hidden_and_comes_again_after_its_visibility(self, world: QueueWorld) -> None:
        [message_id] = await world.send([b"{}"])
        source, other = await world.connect(VISIBILITY_S), await world.connect(VISIBILITY_S)
        [first] = await take(source, 1)
        await take_nothing(other)
        [second] = await take(other, 1)
        assert second.requested_at + 1 >= first.requested_at + VISIBILITY_S - 1
        assert [first.message_id, second.message_id] == [message_id] * 2
        assert [first.receive_count, second.receive_count] == [1, 2]
        assert second.receipt != first.receipt
        assert (second.timestamp, second.first_received_ms) == (first.timestamp, first.first_received_ms)

    async def test_an_extension_hides_for_longer(self, world: QueueWorld) -> None:
        await world.send([b"{}"])
        source, other = await world.connect(VISIBILITY_S), await world.connect(wait=VISIBILITY_S + 1)
        messages = await take(source, 1)
        assert await source.extend(receipts(messages), LONG_S) == []
        await take_nothing(other)

    async def test_an_extension_by_nothing_shows_the_message(self, world: QueueWorld) -> None:
        await world.send([b"{}"] * 12)
        source = await world.connect()
        first = await take(source, 12)
        assert await source.extend(receipts(first), 0) == []
        again = await take(source, 12)
        assert {it.message_id for it in again} == {it.message_id for it in first}
        assert {it.receive_count for it in again} == {2}

    async def test_what_is_deleted_does_not_come_again(self, world: QueueWorld) -> None:
        await world.send([b'{"i":%d}' % i for i in range(35)])
        source = await world.connect(VISIBILITY_S)
        messages = await take(source, 35)
        kept, deleted = messages[:3], messages[3:]
        assert await source.delete(receipts(deleted)) == []
        again = await take(await world.connect(), 3)
        assert {it.message_id for it in again} == {it.message_id for it in kept}
        depth = await source.depth()
        assert depth is not None
        assert depth.visible + depth.in_flight == 3

    async def test_a_receipt_that_is_none_fails_alone(self, world: QueueWorld) -> None:
        await world.send([b"{}"] * 14)
        source = await world.connect()
        messages = await take(source, 14)
        wanted = receipts(messages)
        assert await source.extend([*wanted, "no receipt"], LONG_S) == ["no receipt"]
        assert await source.delete(["no receipt", *wanted]) == ["no receipt"]
        assert await source.delete([]) == []
        depth = await source.depth()
        assert depth is not None
        assert (depth.visible, depth.in_flight) == (0, 0)

    async def test_the_last_receipt_deletes(self, world: QueueWorld) -> None:
        await world.send([b"{}"])
        source = await world.connect(VISIBILITY_S)
        await take(source, 1)
        [last] = await take(await world.connect(), 1)
        assert await source.delete([last.receipt]) == []
        depth = await source.depth()
        assert depth is not None
        assert depth.visible + depth.in_flight == 0

    async def test_says_how_much_waits(self, world: QueueWorld) -> None:
        await world.send([b"{}"] * 5)
        source = await world.connect()
        depth = await source.depth()
        assert depth is not None
        assert (depth.visible, depth.in_flight) == (5, 0)
        await take(source, 5)
        depth = await source.depth()
        assert depth is not None
        assert (depth.visible, depth.in_flight) == (0, 5)
        assert depth.oldest_s is not None
        assert depth.oldest_s >= 0
        assert source.error is None

    async def test_finish_ends_the_stream_when_its_requests_are_answered(self, world: QueueWorld) -> None:
        await world.send([b"{}"])
        source = await world.connect(wait=1)
        messages = await take(source, 1)
        requests = [asyncio.create_task(source.receive()) for _ in range(2)]
        await asyncio.sleep(0)
        source.finish()
        async with asyncio.timeout(10):
            assert not any(await asyncio.gather(*requests))
            assert await source.receive() is None
        assert await source.extend(receipts(messages), LONG_S) == []
        assert await source.delete(receipts(messages)) == []

    async def test_a_message_that_comes_after_finish_is_not_received_by_nobody(self, world: QueueWorld) -> None:
        source = await world.connect(wait=20)
        request = asyncio.create_task(source.receive())
        await asyncio.wait([request], timeout=0.5)
        source.finish()
        await asyncio.wait([request], timeout=1)
        await world.send([b"{}"])
        async with asyncio.timeout(10):
            [message] = await request or ()
            assert await source.receive() is None
        assert await source.delete([message.receipt]) == []

    async def test_goes_on_with_new_connections(self, world: QueueWorld) -> None:
        source = await world.connect(wait=2)
        request = asyncio.create_task(take(source, 1))
        await asyncio.sleep(0)
        await source.rebuild()
        await world.send([b"{}"])
        assert await source.delete(receipts(await request)) == []

    async def test_names_the_queue(self, world: QueueWorld) -> None:
        source = await world.connect()
        assert source.source_id.startswith("arn:aws:sqs:")
        assert source.source_id.endswith(f":{source.queue}")

    async def test_a_message_that_is_received_too_often_is_a_dead_letter(self, make_queue: MakeQueue) -> None:
        world = await make_queue(max_receive_count=2)
        await world.send([b"{}"])
        source = await world.connect()
        for count in (1, 2):
            [message] = await take(source, 1)
            assert message.receive_count == count
            assert await source.extend([message.receipt], 0) == []
        await take_nothing(source)
        assert await world.dead() == 1

    async def test_a_group_comes_in_order_and_waits_for_what_is_in_flight(self, make_queue: MakeQueue) -> None:
        world = await make_queue(fifo=True)
        for number in range(12):
            await world.send([b'{"i":%d}' % number], group="ab"[number % 2])
        source = await world.connect()
        assert source.queue.endswith(".fifo")
        taken: dict[str | None, list[bytes | None]] = {}
        for message in await take(source, 1):
            assert message.key is not None
            assert message.group == message.key.decode()
            taken.setdefault(message.group, []).append(message.value)
        # Whatever a group has in flight, no other receiver gets one of its messages.
        other = await world.connect()
        rest = await other.receive()
        assert not [it for it in rest or () if it.group in taken]
        for group, values in taken.items():
            assert values == [b'{"i":%d}' % number for number in range(12) if "ab"[number % 2] == group][: len(values)]
