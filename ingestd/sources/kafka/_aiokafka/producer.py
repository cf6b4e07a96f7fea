"""The producer: errors that aiokafka does not know, sequence numbers that go round, and an end within a bound."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka import errors as kafka_errors
from aiokafka.partitioner import murmur2
from aiokafka.producer.sender import Sender, SendProduceReqHandler
from aiokafka.producer.transaction_manager import TransactionManager

from ingestd.core.records import TopicPartition
from ingestd.sources.kafka._aiokafka.check import with_globals
from ingestd.sources.kafka._aiokafka.connection import UvloopClient
from ingestd.sources.kafka.errors import FAILURES

_SEQUENCE_NUMBERS = 1 << 31  # then they begin at 0 again
_HASHED_KEYS = 1 << 14  # that are remembered: aiokafka hashes in Python

hash_key = lru_cache(_HASHED_KEYS)(murmur2)


class InvalidRecordError(kafka_errors.BrokerResponseError):  # type: ignore[misc]  # aiokafka has no types
    """The topic does not accept a record, such as one without a key where it is compacted."""

    errno = 87
    message = "INVALID_RECORD"
    description = "The broker has rejected a record of the batch."


class _Errors:
    """The errors of a produce response. To aiokafka, INVALID_RECORD is an unexpected error of the server."""

    NoError = kafka_errors.NoError

    @staticmethod
    def for_code(code: int) -> Any:
        return InvalidRecordError if code == InvalidRecordError.errno else kafka_errors.for_code(code)


class _ProduceHandler(SendProduceReqHandler):  # type: ignore[misc]  # aiokafka has no types
    handle_response = with_globals(SendProduceReqHandler.handle_response, Errors=_Errors)

    def _can_retry(self, error: Any, batch: Any) -> bool:
        retries = bool(super()._can_retry(error, batch))
        if retries and self._sender.on_retry is not None:
            self._sender.on_retry(batch.tp.partition, error)
        return retries


class _Sender(Sender):  # type: ignore[misc]  # aiokafka has no types
    on_retry: Callable[[int, BaseException], None] | None = None

    _send_produce_req = with_globals(Sender._send_produce_req, SendProduceReqHandler=_ProduceHandler)


class _TransactionManager(TransactionManager):  # type: ignore[misc]  # aiokafka has no types
    def increment_sequence_number(self, tp: Any, increment: int) -> None:
        """aiokafka goes on below zero, where brokers refuse every batch."""
        self._sequence_numbers[tp] = (self._sequence_numbers[tp] + increment) % _SEQUENCE_NUMBERS


class Producer(AIOKafkaProducer):  # type: ignore[misc]  # aiokafka has no types
    """aiokafka's producer on our connections."""

    client: Any
    __init__ = with_globals(
        AIOKafkaProducer.__init__, AIOKafkaClient=UvloopClient, Sender=_Sender, TransactionManager=_TransactionManager
    )

    def on_retry(self, listener: Callable[[int, BaseException], None]) -> None:
        """Call `listener` with the partition and the error of each batch that is going to be sent again."""
        self._sender.on_retry = listener

    def take_back(self, partition: TopicPartition, count: int) -> None:
        """The partition's last batch, of `count` records, was refused: the next one has its sequence numbers.

        Without it, brokers refuse all later batches of the partition.
        """
        self._txn_manager.increment_sequence_number(partition, -count)

    def discard_errors(self) -> None:
        """Read the errors of batches and of the transaction: asyncio would report each that nobody has read."""
        batches = [batch for unsent in self._message_accumulator._batches.values() for batch in unsent]
        for future in (self._txn_manager._transaction_waiter, *(batch._drain_waiter for batch in batches)):
            if future is not None and future.done() and not future.cancelled():
                future.exception()

    async def close(self, timeout_s: float) -> None:
        """Close; each of two steps takes `timeout_s` at most. aiokafka waits for ever for records that it cannot send.

        Nothing is sent afterwards: what is not acknowledged by then fails.
        """
        for step in (self.stop, self.client.close):
            with suppress(*FAILURES):
                async with asyncio.timeout(timeout_s):
                    await step()
        self._message_accumulator.fail_all(kafka_errors.ProducerClosed())
        # aiokafka's task waits for its requests, which end with their connections.
        if (task := self._sender.sender_task) is not None and not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=timeout_s)
        self.discard_errors()
