"""Connections and clients for which a lost connection is a `KafkaConnectionError`, on uvloop, too.

Writing to a connection that was just lost raises RuntimeError on uvloop; asyncio's own loop drops such bytes. aiokafka
expects that, or an OSError. Any other error ends the task that was writing, such as the one that refreshes metadata,
for good and without a message: the consumer would never find its coordinator again.
"""

from collections.abc import Callable
from typing import Any

from aiokafka import conn as module
from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.conn import AIOKafkaConnection, CloseReason, collect_hosts
from aiokafka.errors import KafkaConnectionError, KafkaError, NodeNotReadyError

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
    """A client that opens such connections, and tells whether the group's coordinator can be reached.

    aiokafka repeats a look-up that fails for ever and only logs it. `on_coordinator` is called with the failure of
    each try, and with None where one succeeds.
    """

    on_coordinator: Callable[[KafkaError | None], None] | None = None
    _is_closed = False

    bootstrap = with_globals(AIOKafkaClient.bootstrap, create_conn=create_conn)
    _get_conn = with_globals(AIOKafkaClient._get_conn, create_conn=create_conn)

    async def close(self) -> None:
        """Close, and let nobody wait for metadata that will not come: aiokafka's producer would do so for ever."""
        self._is_closed = True
        await super().close()
        if self._md_update_fut is not None and not self._md_update_fut.done():
            self._md_update_fut.set_result(False)

    def force_metadata_update(self) -> Any:
        if not self._is_closed:
            return super().force_metadata_update()
        (failed := self._loop.create_future()).set_result(False)
        return failed

    async def coordinator_lookup(self, coordinator_type: Any, coordinator_key: str) -> Any:
        try:
            return await super().coordinator_lookup(coordinator_type, coordinator_key)
        except KafkaError as error:
            # Where no connection could be opened, `ready` has told which.
            if coordinator_type == CoordinationType.GROUP and not isinstance(error, NodeNotReadyError):
                self._tell(error)
            raise

    async def ready(self, node_id: Any, *, group: Any = ConnectionGroup.DEFAULT) -> bool:
        connected = bool(await super().ready(node_id, group=group))
        if not connected:
            node = self.cluster.broker_metadata(node_id)
            address = f" at {node.host}:{node.port}" if node is not None else ""
            self._tell(
                KafkaConnectionError(
                    f"broker {node_id}{address} cannot be reached under the name that it advertises: it is down, or "
                    "its advertised.listeners or the network need correction"
                )
            )
        elif group == ConnectionGroup.COORDINATION:
            self._tell(None)
        return connected

    def _tell(self, error: KafkaError | None) -> None:
        if self.on_coordinator is not None:
            self.on_coordinator(error)
