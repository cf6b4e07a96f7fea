"""The producer, without asyncio's reports of errors that were already raised to the caller."""

from typing import Any

from aiokafka import AIOKafkaProducer

from ingestd.sources.kafka._aiokafka.check import with_globals
from ingestd.sources.kafka._aiokafka.connection import UvloopClient


class Producer(AIOKafkaProducer):  # type: ignore[misc]  # aiokafka has no types
    """aiokafka's producer on our connections."""

    client: Any
    __init__ = with_globals(AIOKafkaProducer.__init__, AIOKafkaClient=UvloopClient)

    def discard_errors(self) -> None:
        """Read the errors of batches and of the transaction: asyncio would report each that nobody has read."""
        batches = [batch for unsent in self._message_accumulator._batches.values() for batch in unsent]
        for future in (self._txn_manager._transaction_waiter, *(batch._drain_waiter for batch in batches)):
            if future is not None and future.done() and not future.cancelled():
                future.exception()
