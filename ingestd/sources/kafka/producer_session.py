"""Sends records with one producer, in batches by partition, until the producer must be replaced."""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Iterable, Sequence

from ingestd.core.records import TopicPartition, UnsentRecord
from ingestd.sources.error_state import ErrorState
from ingestd.sources.kafka._aiokafka import Producer, hash_key
from ingestd.sources.kafka.errors import describe, log_level
from ingestd.sources.kafka.refusals import refusal
from ingestd.sources.kafka.sending import Entry

# Well below what a topic takes at once (max.message.bytes): a larger record goes alone.
BATCH_BYTES = 64 << 10
_BATCH_RECORDS = 2000
_RECORD_OVERHEAD_BYTES = 32  # of a record in a batch
_NO_KEY = -1

STALL_S = 1.0  # a batch without an answer for so long is an error, which may pass


class ProducerSession:
    """What is sent with one producer.

    One batch of a partition is on its way at a time, so that its records arrive in the order of `add`, whatever is
    sent again. Meanwhile, the next batch grows.
    """

    def __init__(self, producer: Producer, topic: str, partitions: int, linger_s: float, errors: ErrorState) -> None:
        self._producer = producer
        self._topic = topic
        self._partitions = partitions
        self._linger_s = linger_s
        self._errors = errors
        self._batch_bytes = BATCH_BYTES
        self._queues: dict[int, deque[Entry]] = {}
        self._sent: dict[int, Sequence[Entry]] = {}  # by partition, without an answer
        self._workers: dict[int, asyncio.Task[None]] = {}
        self.failure: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        self.acknowledged = False  # at least one batch
        producer.on_retry(self._retried)

    def add(self, entries: Iterable[Entry]) -> None:
        """Queue records; those with the same key go to one partition, in this order."""
        known = self._producer.client.cluster.partitions_for_topic(self._topic)
        self._partitions = len(known or ()) or self._partitions
        no_key = _NO_KEY
        for entry in entries:
            if (key := entry.record.key) is None:
                # Records without a key that come together go together.
                no_key = random.randrange(self._partitions) if no_key == _NO_KEY else no_key
                partition = no_key
            else:
                partition = (hash_key(key) & 0x7FFFFFFF) % self._partitions  # as Kafka's default partitioner
            self._queues.setdefault(partition, deque()).append(entry)
            if partition not in self._workers and not self.failure.done():
                self._workers[partition] = asyncio.create_task(self._send_queue(partition))

    async def end(self, timeout_s: float) -> list[Entry]:
        """Wait for the batches that are on their way, and close the producer; all that was not acknowledged.

        What had no answer in time may be in the topic. After an orderly end, with nothing queued, nothing is left.
        """
        if workers := [*self._workers.values()]:
            await asyncio.wait(workers, timeout=timeout_s)
        for worker in self._workers.values():
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        await self._producer.close(timeout_s)
        for partition in self._sent | self._queues:
            self._errors.end(_name(partition))
        left = [entry for entries in (*self._sent.values(), *self._queues.values()) for entry in entries]
        return sorted(entry for entry in left if entry.sending.is_open(entry.at))

    async def _send_queue(self, partition: int) -> None:
        """Send what is queued for a partition, until nothing is."""
        queue = self._queues[partition]
        try:
            while queue and not self.failure.done():
                await asyncio.sleep(self._linger_s)
                if entries := self._next_batch(queue):
                    self._sent[partition] = entries
                    await self._send(partition, entries)
                    del self._sent[partition]
        except Exception as error:  # noqa: BLE001 - whatever it is: another producer sends what is left
            if not self.failure.done():
                self.failure.set_result(error)
        finally:
            del self._workers[partition]

    def _next_batch(self, queue: deque[Entry]) -> list[Entry]:
        entries: list[Entry] = []
        room = self._batch_bytes
        while queue and len(entries) < _BATCH_RECORDS:
            if queue[0].sending.is_open(queue[0].at):
                room -= _size(queue[0].record)
                if entries and room < 0:
                    break
                entries.append(queue[0])
            queue.popleft()
        return entries

    async def _send(self, partition: int, entries: Sequence[Entry]) -> bool:
        """Send a batch; whether the topic takes all of it. Where it does not, halves are tried, down to one record."""
        error = await self._produce(partition, entries)
        if error is None:
            self.acknowledged = True
            self._errors.end(_name(partition))
            for entry in entries:
                entry.sending.acknowledge(entry.at)
            return True
        if (refused := refusal(error, self._topic)) is None:
            raise error
        self._producer.take_back(TopicPartition(self._topic, partition), len(entries))
        if len(entries) == 1:
            entries[0].sending.refuse(entries[0].at, refused)
            return False
        half = len(entries) // 2
        taken = [await self._send(partition, part) for part in (entries[:half], entries[half:])]
        if refused.too_large and all(taken):
            # Each record is small enough, and the batch was not.
            self._batch_bytes = min(self._batch_bytes, sum(_size(entry.record) for entry in entries) // 2)
        return all(taken)

    async def _produce(self, partition: int, entries: Sequence[Entry]) -> BaseException | None:
        builder = self._producer.create_batch()
        for entry in entries:
            record = entry.record
            headers = list(record.headers)  # of this type
            builder.append(timestamp=record.timestamp, key=record.key, value=record.value, headers=headers)
        stalled = asyncio.get_running_loop().call_later(STALL_S, self._stalled, partition)
        try:
            future = await self._producer.send_batch(builder, self._topic, partition=partition)
            future.add_done_callback(_read_error)
            await asyncio.wait([future])
        finally:
            stalled.cancel()
        error: BaseException | None = future.exception()
        return error

    def _stalled(self, partition: int) -> None:
        self._begin(partition, f"no answer for {STALL_S:g} s", logging.WARNING)

    def _retried(self, partition: int, error: BaseException) -> None:
        self._begin(partition, describe(error), log_level(error))

    def _begin(self, partition: int, what: str, level: int) -> None:
        message = f"producing to {TopicPartition(self._topic, partition)} fails: {what}"
        self._errors.begin(_name(partition), message, level=level)


def _size(record: UnsentRecord) -> int:
    headers = sum(len(name) + len(value) for name, value in record.headers)
    return len(record.value) + len(record.key or b"") + headers + _RECORD_OVERHEAD_BYTES


def _name(partition: int) -> str:
    return f"produce to partition {partition}"


def _read_error(future: "asyncio.Future[object]") -> None:
    """Where nobody waits any more: asyncio would report it."""
    future.cancelled() or future.exception()
