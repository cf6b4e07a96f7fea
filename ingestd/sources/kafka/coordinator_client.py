"""Sends requests to partitions' leaders and to a group's coordinator."""

from abc import ABC, abstractmethod
from typing import Any

from ingestd.core.records import TopicPartition
from ingestd.sources.kafka._aiokafka import ConnectionGroup, CoordinationType
from ingestd.sources.kafka.errors import FAILURES


class BrokerClient(ABC):
    """Requests to brokers over an aiokafka client. All of them raise aiokafka's errors."""

    def __init__(self, client: Any) -> None:
        self._client = client

    @abstractmethod
    async def ask_coordinator(self, request: Any) -> Any:
        """Send a request to the group's coordinator."""

    @abstractmethod
    def forget_coordinator(self) -> None:
        """Look for the coordinator again: it answered that it is not the coordinator, or not ready."""

    async def ask_broker(self, node: int, request: Any) -> Any:
        """Send a request to one broker."""
        return await self._client.send(node, request)

    def leader(self, partition: TopicPartition) -> int | None:
        """The node that leads the partition; where it is not known, metadata is refreshed."""
        node: int | None = self._client.cluster.leader_for_partition(partition)
        if node is None or node < 0:
            self.refresh_metadata()
            return None
        return node

    def refresh_metadata(self) -> None:
        """Ask again which node leads which partition."""
        self._client.force_metadata_update()


class CoordinatorClient(BrokerClient):
    """Requests to brokers and to a group's coordinator, from a client that is not in the group."""

    def __init__(self, client: Any, group_id: str) -> None:
        super().__init__(client)
        self._group_id = group_id
        self._coordinator: int | None = None

    async def ask_coordinator(self, request: Any) -> Any:
        try:
            if self._coordinator is None:
                self._coordinator = await self._client.coordinator_lookup(CoordinationType.GROUP, self._group_id)
            return await self._client.send(self._coordinator, request, group=ConnectionGroup.COORDINATION)
        except FAILURES:
            self.forget_coordinator()
            raise

    def forget_coordinator(self) -> None:
        self._coordinator = None
