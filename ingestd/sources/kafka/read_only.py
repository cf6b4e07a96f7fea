"""Reads like the daemon without joining the group or committing anything, for `ingestd check`."""

from collections.abc import Mapping
from typing import Any

from aiokafka import TopicPartition as KafkaPartition

from ingestd.config.model import KafkaConfig
from ingestd.core.records import Position, TopicPartition
from ingestd.sources.base import Capabilities, Listener
from ingestd.sources.error_state import ErrorState
from ingestd.sources.kafka.bootstrap import Cluster
from ingestd.sources.kafka.consumer import KafkaSource
from ingestd.sources.kafka.coordinator_client import CoordinatorClient
from ingestd.sources.kafka.group_consumer import GroupConsumer


class ReadOnlySource(KafkaSource):
    """Reads all partitions of the topics from the group's positions. Commits are kept in memory only."""

    capabilities = Capabilities(has_commits=False)

    def __init__(self, config: KafkaConfig) -> None:
        super().__init__(config)
        self._commits_in_memory: dict[TopicPartition, Position] = {}

    async def committed(self, partition: TopicPartition) -> Position | None:
        return self._commits_in_memory.get(partition) or await super().committed(partition)

    async def commit(self, partition: TopicPartition, position: Position) -> bool:
        self._commits_in_memory[partition] = position
        return True

    def _new_consumer(self, options: Mapping[str, Any], cluster: Cluster, listener: Listener) -> GroupConsumer:
        return _UngroupedConsumer(self._config, options, cluster, listener, self._errors)


class _UngroupedConsumer(CoordinatorClient, GroupConsumer):
    """Assigns all partitions without joining the group."""

    def __init__(
        self,
        config: KafkaConfig,
        options: Mapping[str, Any],
        cluster: Cluster,
        listener: Listener,
        errors: ErrorState,
    ) -> None:
        GroupConsumer.__init__(self, config, options, listener, lambda _: None, errors)
        self._group_id, self._coordinator = config.group_id, None
        self._cluster = cluster

    def _group_options(self, config: KafkaConfig) -> dict[str, Any]:  # noqa: ARG002
        return {"group_id": None}

    async def join(self) -> None:
        await self._consumer.start()
        try:
            # Without a subscription the client learns the leaders of these topics only.
            await self._client.set_topics(self._config.topics)
        except BaseException:
            await self._consumer.stop()
            raise
        counts = self._cluster.partitions.items()
        assigned = [KafkaPartition(topic, number) for topic, count in counts for number in range(count)]
        self._consumer.assign(assigned)
        self.pause_unsought(assigned)
        self._own(assigned)
