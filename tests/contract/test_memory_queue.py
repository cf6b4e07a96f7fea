"""The queue in memory keeps the contract."""

from collections.abc import AsyncIterator, Sequence

import pytest

from ingestd.sources.sqs.port import Message, QueueSource
from tests.contract.queue_contract import LONG_S, MakeQueue, QueueContract, QueueWorld
from tests.fakes.memory_queue import MemoryQueue, MemoryQueueSource


class TestMemoryQueue(QueueContract):
    @pytest.fixture
    async def make_queue(self) -> AsyncIterator[MakeQueue]:
        sources: list[QueueSource] = []

        async def make(*, fifo: bool = False, max_receive_count: int | None = None) -> QueueWorld:
            queue = MemoryQueue("events.fifo" if fifo else "events", max_receive_count=max_receive_count)

            async def connect(visibility: float = LONG_S, wait: float = 1) -> QueueSource:
                source = MemoryQueueSource(queue, visibility=visibility, wait=wait)
                sources.append(source)
                await source.start()
                return source

            async def send(values: Sequence[bytes], group: str | None = None) -> list[str]:
                return [queue.send(value, group) for value in values]

            async def dead() -> int:
                return len(queue.dead)

            return QueueWorld(connect, send, dead)

        yield make
        for source in sources:
            await source.stop()

    def check_times(self, messages: Sequence[Message], began_ms: int) -> None:
        """The queue has a clock of its own."""
        assert began_ms
        for message in messages:
            assert message.timestamp <= message.first_received_ms
