"""Reads like the daemon and leaves no trace: joins no group, commits nothing. For `ingestd check`."""

from collections.abc import Mapping
from typing import Any

from aiokafka import TopicPartition as KafkaPartition

from ingestd.config.model import KafkaConfig
from ingestd.core.records import Position, TopicPartition
from ingestd.sources.base import Listener
from ingestd.sources.kafka.bootstrap import Cluster
from ingestd.sources.kafka.coordinator_client import CoordinatorClient
from ingestd.sources.kafka.group_consumer import GroupConsumer
from ingestd.sources.kafka.source import KafkaSource


class ReadOnlySource(KafkaSource):
    """All partitions of the topics, from where the group is. Commits are remembered here and nowhere else."""

    def __init__(self, config: KafkaConfig) -> None:
        super().__init__(config)
        self._pretended: dict[TopicPartition, Position] = {}

    async def committed(self, partition: TopicPartition) -> Position | None:
        return self._pretended.get(partition) or await super().committed(partition)

    async def commit(self, partition: TopicPartition, position: Position) -> bool:
        self._pretended[partition] = position
        return True

    def _new_member(self, options: Mapping[str, Any], cluster: Cluster, listener: Listener) -> GroupConsumer:
        return _Nobody(self._config, options, cluster, listener)


class _Nobody(CoordinatorClient, GroupConsumer):
    """Has every partition and is in no group."""

    def __init__(self, config: KafkaConfig, options: Mapping[str, Any], cluster: Cluster, listener: Listener) -> None:
        GroupConsumer.__init__(self, config, options, listener, lambda _: None)
        CoordinatorClient.__init__(self, self._consumer._client, config.group_id)
        self._cluster = cluster

    def _membership(self, config: KafkaConfig) -> dict[str, Any]:  # noqa: ARG002
        return {"group_id": None}

    async def join(self) -> None:
        await self._connect()
        try:
            # Of whom nobody has subscribed to, it would never learn who leads what.
            await self._consumer._client.set_topics(self._config.topics)
        except BaseException:
            await self._consumer.stop()
            raise
        counts = self._cluster.partitions.items()
        assigned = [KafkaPartition(topic, number) for topic, count in counts for number in range(count)]
        self._consumer.assign(assigned)
        self._still(assigned)
        self._own(assigned)
