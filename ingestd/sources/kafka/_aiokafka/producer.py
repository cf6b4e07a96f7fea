"""The producer: it tells records that a topic does not accept, and asyncio reports no error that was raised already."""

from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka import errors as kafka_errors
from aiokafka.producer.sender import Sender, SendProduceReqHandler

from ingestd.sources.kafka._aiokafka.check import with_globals
from ingestd.sources.kafka._aiokafka.connection import UvloopClient


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


class _Sender(Sender):  # type: ignore[misc]  # aiokafka has no types
    _send_produce_req = with_globals(Sender._send_produce_req, SendProduceReqHandler=_ProduceHandler)


class Producer(AIOKafkaProducer):  # type: ignore[misc]  # aiokafka has no types
    """aiokafka's producer on our connections."""

    client: Any
    __init__ = with_globals(AIOKafkaProducer.__init__, AIOKafkaClient=UvloopClient, Sender=_Sender)

    def discard_errors(self) -> None:
        """Read the errors of batches and of the transaction: asyncio would report each that nobody has read."""
        batches = [batch for unsent in self._message_accumulator._batches.values() for batch in unsent]
        for future in (self._txn_manager._transaction_waiter, *(batch._drain_waiter for batch in batches)):
            if future is not None and future.done() and not future.cancelled():
                future.exception()
