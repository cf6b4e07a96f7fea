"""Requests to a group's coordinator and to partitions' leaders, from a client that is not in the group."""

from typing import Any

from aiokafka.client import ConnectionGroup, CoordinationType

from ingestd.core.records import TopicPartition
from ingestd.sources.kafka.bootstrap import FAILURES


class CoordinatorClient:
    """``offsets.Brokers`` over an aiokafka client. It knows who leads what once the client's topics are set."""

    def __init__(self, client: Any, group_id: str) -> None:
        self._client = client
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

    async def ask_broker(self, node: int, request: Any) -> Any:
        return await self._client.send(node, request)

    def leader(self, partition: TopicPartition) -> int | None:
        node: int | None = self._client.cluster.leader_for_partition(partition)
        if node is None or node < 0:
            self.refresh()
            return None
        return node

    def refresh(self) -> None:
        self._client.force_metadata_update()
