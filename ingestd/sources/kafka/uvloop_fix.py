"""Mends aiokafka's connections on uvloop, where writing to one that has just been lost is a RuntimeError.

asyncio's own loop drops such bytes; aiokafka expects that, or an OSError. Anything else ends the task that was writing,
such as the one that refreshes metadata: for good, and without a word. The consumer would never find its coordinator
again. The method that sends is replaced on the class.
"""

from typing import Any

from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError

_send = AIOKafkaConnection.send


def _send_or_lose(connection: Any, request: Any, expect_response: bool = True) -> Any:
    try:
        return _send(connection, request, expect_response)
    except NotImplementedError:  # a RuntimeError, too: the broker does not know this request
        raise
    except RuntimeError as error:
        connection.close(reason=CloseReason.CONNECTION_BROKEN)
        raise KafkaConnectionError(f"Connection at {connection.host}:{connection.port} was lost: {error}") from error


AIOKafkaConnection.send = _send_or_lose
