"""Connections and clients for which a lost connection is a `KafkaConnectionError`, on uvloop, too.

Writing to a connection that was just lost raises RuntimeError on uvloop; asyncio's own loop drops such bytes. aiokafka
expects that, or an OSError. Any other error ends the task that was writing, such as the one that refreshes metadata,
for good and without a message: the consumer would never find its coordinator again.
"""

from typing import Any

from aiokafka import conn as module
from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.conn import AIOKafkaConnection, CloseReason, collect_hosts
from aiokafka.errors import KafkaConnectionError

from ingestd.sources.kafka._aiokafka.check import with_globals

__all__ = ["ConnectionGroup", "CoordinationType", "UvloopClient", "collect_hosts", "create_conn"]


class UvloopConnection(AIOKafkaConnection):  # type: ignore[misc]  # aiokafka has no types
    """A connection whose `send` raises only aiokafka's errors where the connection is lost."""

    def send(self, request: Any, expect_response: bool = True) -> Any:
        try:
            return super().send(request, expect_response)
        except NotImplementedError:  # a RuntimeError, too: the broker does not know this request
            raise
        except RuntimeError as error:
            self.close(reason=CloseReason.CONNECTION_BROKEN)
            raise KafkaConnectionError(f"Connection at {self.host}:{self.port} was lost: {error}") from error


create_conn = with_globals(module.create_conn, AIOKafkaConnection=UvloopConnection)


class UvloopClient(AIOKafkaClient):  # type: ignore[misc]
    """A client that opens such connections."""

    bootstrap = with_globals(AIOKafkaClient.bootstrap, create_conn=create_conn)
    _get_conn = with_globals(AIOKafkaClient._get_conn, create_conn=create_conn)
