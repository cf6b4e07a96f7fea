"""aiokafka's consumer, with what its public methods do not tell about membership, positions and tasks."""

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaPartition
from aiokafka.errors import KafkaError

from ingestd.core.records import EpochRecords, TopicPartition
from ingestd.sources.base import OpenTransaction
from ingestd.sources.kafka._aiokafka import prefetch_limit
from ingestd.sources.kafka._aiokafka.check import with_globals
from ingestd.sources.kafka._aiokafka.connection import UvloopClient
from ingestd.sources.kafka._aiokafka.fetcher import Fetcher
from ingestd.sources.kafka._aiokafka.leader_epochs import EpochList, FetchPositions

_init = with_globals(AIOKafkaConsumer.__init__, AIOKafkaClient=UvloopClient)


class Consumer(AIOKafkaConsumer):  # type: ignore[misc]  # aiokafka has no types
    """A consumer that fetches within a bound of bytes, by the ids in `topic_ids`, and one history of each log."""

    def __init__(self, **options: Any) -> None:
        self.topic_ids: dict[TopicPartition, str] = {}
        self._fetch_positions = FetchPositions()
        _init(self, **options)

    async def start(self) -> None:
        """Connect. Raises aiokafka's errors, with everything closed."""
        fetcher = partial(Fetcher, topic_ids=self.topic_ids, positions=self._fetch_positions)
        start = with_globals(AIOKafkaConsumer.start, Fetcher=fetcher)
        try:
            await start(self)
        except BaseException:
            await self.stop()
            raise

    @property
    def client(self) -> Any:
        """The client that sends the consumer's requests."""
        return self._client

    async def take(self, wait_s: float, max_records: int) -> Mapping[KafkaPartition, EpochRecords]:
        """At most `max_records` records and about ``HANDOUT_BYTES``; waits at most `wait_s` for the first."""
        self._fetcher.allowance.left = prefetch_limit.HANDOUT_BYTES
        taken: Mapping[KafkaPartition, EpochList] = await self.getmany(
            timeout_ms=int(wait_s * 1000), max_records=max_records
        )
        return {partition: EpochRecords(records, records.leader_epoch) for partition, records in taken.items()}

    def seek(self, partition: KafkaPartition, offset: int, leader_epoch: int | None = None) -> None:
        """Go on at `offset`. `leader_epoch` is that of what lies before it in the log, None where it is not known."""
        super().seek(partition, offset)
        self._fetch_positions.set(TopicPartition(*partition), offset, leader_epoch)

    def wake(self) -> None:
        """Make a `take` that waits for a rebalance fail."""
        self._subscription.abort_waiters(KafkaError("woken"))

    def tolerate_bad_headers(self, partition: TopicPartition) -> None:
        """Read the next fetch of this partition with ``\\xff`` for a byte that is not UTF-8 in the name of a header."""
        self._fetcher.tolerant.add(partition)

    # -- the group

    @property
    def membership(self) -> tuple[int, str]:
        """The generation of the group, and our member id in it."""
        return self._coordinator.generation, self._coordinator.member_id

    async def find_coordinator(self) -> None:
        """Wait until the group's coordinator is known."""
        await self._coordinator.ensure_coordinator_known()

    async def ask_coordinator(self, request: Any) -> Any:
        return await self._coordinator._send_req(request)

    def forget_coordinator(self) -> None:
        self._coordinator.coordinator_dead()

    # -- what was fetched

    def buffered_partitions(self) -> list[TopicPartition]:
        """Partitions with fetched records, in the order in which they are handed out."""
        return [TopicPartition(*partition) for partition in self._fetcher._records]

    def state(self, partition: TopicPartition) -> Any:
        """aiokafka's state of an assigned partition: `position`, `highwater`, `lso`, `timestamp`; None without one."""
        subscription = self._subscription.subscription
        if subscription is None or subscription.assignment is None:
            return None
        return subscription.assignment.state_value(partition)

    def open_transaction(self, partition: TopicPartition) -> OpenTransaction | None:
        """The transaction that ends what can be read, of an assigned partition; None without one."""
        found: OpenTransaction | None = self._fetcher.open_transactions.get(partition)
        return found if found is not None and self.state(partition) is not None else None

    # -- the end

    def take_dead_task_error(self) -> str | None:
        """The error that ended a task which should run until we close; aiokafka does not report it. Returned once."""
        found = None
        for part, name in ((self._client, "_sync_task"), (self._fetcher, "_fetch_task")):
            task: asyncio.Future[None] = getattr(part, name)
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                # Closing awaits the task: it would end with its error and leave everything open.
                finished = asyncio.get_running_loop().create_future()
                finished.set_result(None)
                setattr(part, name, finished)
                found = f"{type(error).__name__}: {error}"
        return found

    async def close_without_leaving(self) -> None:
        """Close what `stop` closes after the group was left."""
        if self._coordinator is not None and self._group_id is not None:
            await self._coordinator._stop_heartbeat_task()
            await self._coordinator._stop_commit_offsets_refresh_task()
        if self._fetcher is not None:
            await self._fetcher.close()
        await self._client.close()
