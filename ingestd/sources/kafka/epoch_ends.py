"""Asks where leader epochs end, and does not take a former leader's word for it."""

import asyncio
from collections.abc import Awaitable, Callable, Collection

from ingestd.core.records import EpochEnd, Position, TopicPartition
from ingestd.sources.error_state import ErrorState
from ingestd.sources.kafka import requests
from ingestd.sources.kafka.coordinator_client import BrokerClient
from ingestd.sources.kafka.requests import PartitionEpoch, RequestBatcher

# For a former leader to learn that it is one, and for us to learn who leads now.
TRIES, WAIT_S = 6, 1.0


class EpochEnds:
    """Where leader epochs end in the logs. `client` returns the client to ask with; it may raise aiokafka's errors."""

    def __init__(self, client: Callable[[], BrokerClient], errors: ErrorState) -> None:
        self._client = client
        self._batcher = RequestBatcher("reading the end of a leader epoch", self._ask, errors)

    async def close(self) -> None:
        await self._batcher.close()

    async def get(self, partition: TopicPartition, leader_epoch: int) -> EpochEnd | None:
        """None from brokers before Kafka 2.3.

        A broker that led before, and has not learned of the next leader, does not know that leader's epoch. So an epoch
        is unknown only if it stays so.
        """
        end = await self._batcher.get((partition, leader_epoch))
        for _ in range(TRIES - 1):
            if end is None or end.epoch >= 0:
                break
            await asyncio.sleep(WAIT_S)
            end = await self._batcher.get((partition, leader_epoch))
        return end

    async def with_records(self, partition: TopicPartition, start: Position) -> Position:
        """The same offset, with an epoch that the log will not forget.

        The epoch that begins at an offset may be without records, and is forgotten then when the next one begins. A
        chain would still start there (``ChainRules.check_epoch``), but a fetch that names a forgotten epoch is answered
        as one that diverges: each election before the first record would warn of a truncated log.
        """
        if start.leader_epoch:  # not the first
            former = await self.get(partition, start.leader_epoch - 1)
            if former is not None and former.end >= start.offset:
                return Position(start.offset, leader_epoch=former.epoch)
        return start

    def _ask(self, wanted: Collection[PartitionEpoch]) -> Awaitable[requests.EpochEnds]:
        return requests.epoch_ends(self._client(), wanted)
