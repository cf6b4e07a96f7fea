"""One consumer in the group, from joining to leaving. A source that is rebuilt gets a new one."""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from typing import Any

from aiokafka import ConsumerRebalanceListener
from aiokafka import TopicPartition as KafkaPartition
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import KafkaError, KafkaTimeoutError

from ingestd.config.model import KafkaConfig
from ingestd.core.records import EpochRecords, Position, TopicPartition
from ingestd.sources.base import Listener, OpenTransaction
from ingestd.sources.error_state import ErrorState
from ingestd.sources.kafka._aiokafka import Consumer
from ingestd.sources.kafka.coordinator_client import BrokerClient
from ingestd.sources.kafka.errors import describe, log_level

log = logging.getLogger(__name__)

# A consumer that is not polled for this long leaves the group. While the sink is down nothing is polled, and the
# partitions must stay ours; the daemon's watchdog decides whether there is progress.
_MAX_POLL_INTERVAL_MS = 2**31 - 1
_METADATA_AGE_MS = 60_000  # new partitions are found within this time
_FETCH_WAIT_MS = 500
_BACKOFF_MS = 250


class GroupConsumer(BrokerClient, ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """Owns partitions, and knows the next offset of each that is read.

    `on_dropped` is called with partitions that are no longer ours, after the listener's `on_revoked`. `errors`
    knows of a coordinator of the group that cannot be found or reached.
    """

    def __init__(
        self,
        config: KafkaConfig,
        options: Mapping[str, Any],
        listener: Listener,
        on_dropped: Callable[[Collection[TopicPartition]], None],
        errors: ErrorState,
    ) -> None:
        self._config = config
        self._listener = listener
        self._on_dropped = on_dropped
        self._errors = errors
        self._released = False
        self._joined = False  # the coordinator has told which partitions are ours, if any
        self._revoking = asyncio.Lock()
        self.owned: set[TopicPartition] = set()
        self.positions: dict[TopicPartition, Position] = {}  # behind what was handed out; without paused partitions
        self.failure: Exception | None = None  # what the listener raised: aiokafka would log and forget it
        self.generation = -1
        self.member_id = ""
        self._warned_of_duplicate = False
        self._consumer = Consumer(
            bootstrap_servers=list(config.bootstrap_servers),
            **self._group_options(config),
            enable_auto_commit=False,
            # Anything else jumps silently. We decide where to begin, and commit it before the first object.
            auto_offset_reset="none",
            isolation_level="read_committed",
            # Every rebalance revokes everything, so that a sticky assignment saves nothing, and aiokafka's keeps its
            # state on the class. Range gives the first members one partition more of every topic.
            partition_assignment_strategy=(RoundRobinPartitionAssignor,),
            session_timeout_ms=int(config.session_timeout * 1000),
            heartbeat_interval_ms=int(config.heartbeat_interval * 1000),
            rebalance_timeout_ms=int(config.rebalance_timeout * 1000),
            max_poll_interval_ms=_MAX_POLL_INTERVAL_MS,
            fetch_max_bytes=config.fetch_max_bytes,
            max_partition_fetch_bytes=config.partition_fetch_bytes,
            fetch_max_wait_ms=_FETCH_WAIT_MS,
            retry_backoff_ms=_BACKOFF_MS,
            metadata_max_age_ms=_METADATA_AGE_MS,
            **options,
        )
        self._consumer.client.on_coordinator = self._coordinator_told
        super().__init__(self._consumer.client)

    def _group_options(self, config: KafkaConfig) -> dict[str, Any]:
        return {"group_id": config.group_id, "group_instance_id": config.group_instance_id}

    async def join(self) -> None:
        """Connect and subscribe; assignments follow. Raises aiokafka's errors, with everything closed."""
        await self._consumer.start()
        # After the start, which would otherwise wait for the first assignment.
        self._consumer.subscribe(self._config.topics, listener=self)

    # -- ownership, called by aiokafka from inside a rebalance

    def on_partitions_assigned(self, assigned: Collection[KafkaPartition]) -> None:
        self.pause_unsought(assigned)
        if self._released:
            return
        generation, member_id = self._consumer.membership
        self._warn_of_duplicate(member_id)
        self.generation, self.member_id = generation, member_id
        self._own(assigned)

    def pause_unsought(self, assigned: Collection[KafkaPartition]) -> None:
        """Fetch nothing from these partitions before `seek`."""
        self._consumer.pause(*assigned)
        for each in assigned:
            # Without a position aiokafka would look for a committed one again and again, and fail where there is none.
            self._consumer.seek(each, 0)

    def _own(self, assigned: Collection[KafkaPartition]) -> None:
        self.owned = {TopicPartition(*each) for each in assigned}
        self._joined = True
        self._errors.end("coordinator")
        if self.owned:
            try:
                self._listener.on_assigned(frozenset(self.owned))
            except Exception as error:  # noqa: BLE001  whatever it is, aiokafka would swallow it
                self.failure = error

    def _warn_of_duplicate(self, member_id: str) -> None:
        """Warn once where another process took our place in the group.

        Two processes with one identity take it from each other for as long as both run. Nothing is lost by that, and
        no error reports it.
        """
        instance = self._config.group_instance_id
        if instance is None or self._warned_of_duplicate or self.member_id in {"", member_id}:
            return
        self._warned_of_duplicate = True
        log.warning(
            "our place in the group was taken, or had expired; if this repeats, two processes have "
            "kafka.group_instance_id = %s: give each its own",
            instance,
        )

    async def on_partitions_revoked(self, revoked: Collection[KafkaPartition]) -> None:
        self._joined = False
        await self._revoke({TopicPartition(*each) for each in revoked})

    async def release_all(self) -> None:
        """Give up all partitions, as in a rebalance, and accept no others."""
        self._released = True
        await self._revoke(frozenset(self.owned))

    async def _revoke(self, partitions: Collection[TopicPartition]) -> None:
        async with self._revoking:
            leaving = self.owned.intersection(partitions)
            if not leaving:
                return
            try:
                await self._listener.on_revoked(frozenset(leaving))
            except Exception as error:  # noqa: BLE001  whatever it is, aiokafka would swallow it
                self.failure = error
            finally:
                self.owned -= leaving
                for partition in leaving:
                    self.positions.pop(partition, None)
                self._on_dropped(leaving)

    def out_of_range(self, partition: TopicPartition) -> None:
        """Pause a partition whose log does not go on at our position, and tell the listener."""
        self.pause(partition)
        try:
            self._listener.on_out_of_range(partition)
        except Exception as error:  # noqa: BLE001  it may not raise
            self.failure = error

    # -- reading

    async def poll(self, wait_s: float) -> Mapping[KafkaPartition, EpochRecords]:
        """The next records; waits for `wait_s`, and beyond it while a rebalance lasts. Must not be cancelled."""
        polled = await self._consumer.take(wait_s, self._config.max_records)
        self._check_topics()
        for partition, (records, epoch, _) in polled.items():
            self.positions[TopicPartition(*partition)] = Position(records[-1].offset + 1, leader_epoch=epoch)
        return polled

    def _check_topics(self) -> None:
        """Tell of topics that are gone: they existed when we joined, and the group only drops their partitions."""
        known = self._client.cluster.topics(exclude_internal_topics=False)
        for topic in self._config.topics:
            if topic in known:
                self._errors.end(f"topic {topic}")
            else:
                message = f"topic {topic} does not exist any more, or is not visible to our user"
                self._errors.begin(f"topic {topic}", message, level=logging.ERROR)

    def wake(self) -> None:
        """Make a `poll` that waits fail, also where it waits for a rebalance to end."""
        self._consumer.wake()

    def bind_topic_id(self, partition: TopicPartition, topic_id: str) -> None:
        """Read the partition from the topic with this id only; "" stands for any topic of its name."""
        self._consumer.topic_ids[partition] = topic_id

    def tolerate_bad_headers(self, partition: TopicPartition) -> None:
        """Read the next fetch of this partition although it has header names that are not UTF-8."""
        self._consumer.tolerate_bad_headers(partition)

    def seek(self, partition: TopicPartition, offset: int, leader_epoch: int | None) -> None:
        """Ignored where the partition is not ours."""
        if partition in self.owned:
            target = KafkaPartition(*partition)
            self._consumer.seek(target, offset, leader_epoch)
            self._consumer.resume(target)
            self.positions[partition] = Position(offset, leader_epoch=leader_epoch)

    def pause(self, partition: TopicPartition) -> None:
        """Ignored where the partition is not ours."""
        self.positions.pop(partition, None)
        if partition in self.owned:
            self._consumer.pause(KafkaPartition(*partition))

    def pause_for(self, partition: TopicPartition, seconds: float) -> None:
        """Fetch nothing from the partition for so long; its position stays."""
        if partition not in self.positions:
            return
        self._consumer.pause(KafkaPartition(*partition))
        asyncio.get_running_loop().call_later(seconds, self._resume, partition)

    def _resume(self, partition: TopicPartition) -> None:
        if partition in self.positions:
            self._consumer.resume(KafkaPartition(*partition))

    def undecodable(self) -> TopicPartition | None:
        """The partition with the records that made the last `poll` fail. The next `poll` changes the answer.

        The fetcher serves partitions in order and keeps the records of the one that failed. The partitions that it
        served before have moved on; their records were lost with the exception.
        """
        for partition in self._consumer.buffered_partitions():
            state, position = self._consumer.state(partition), self.positions.get(partition)
            if state is None or position is None:
                continue
            if state.has_valid_position and state.position == position.offset:
                return partition
        return None

    def take_dead_task_error(self) -> str | None:
        """The error that ended a background task of the consumer, which nothing else reports. Returned once."""
        return self._consumer.take_dead_task_error()

    def rewind(self) -> None:
        """Seek back to what was handed out: a `poll` that fails has lost the records of other partitions."""
        for partition, position in self.positions.items():
            self._consumer.seek(KafkaPartition(*partition), position.offset, position.leader_epoch)

    def end_offset(self, partition: TopicPartition) -> int | None:
        """The high watermark, or our position where all records below it were handed out.

        Commit markers, aborted records and open transactions take offsets below the high watermark for which no record
        is ever handed out: measured by it, a partition with transactions would always lag.
        """
        state = self._consumer.state(partition)
        if state is None or state.highwater is None:
            return None
        caught_up = state.has_valid_position and state.lso is not None and 0 <= state.lso <= state.position
        highwater: int = state.highwater
        position = self.positions.get(partition)
        return position.offset if caught_up and position is not None else highwater

    def open_transaction(self, partition: TopicPartition) -> OpenTransaction | None:
        """The transaction that ends what can be read; None without one."""
        return self._consumer.open_transaction(partition)

    def answered_at(self) -> dict[TopicPartition, int | None]:
        """For each partition that is read, the time of the last answer of a broker."""
        states = {partition: self._consumer.state(partition) for partition in self.positions}
        return {partition: state.timestamp for partition, state in states.items() if state is not None}

    # -- requests to the group's coordinator

    async def ask_coordinator(self, request: Any) -> Any:
        try:
            async with asyncio.timeout(self._config.request_timeout):
                await self._consumer.find_coordinator()
        except TimeoutError as error:
            raise KafkaTimeoutError("the group's coordinator is not known") from error
        return await self._consumer.ask_coordinator(request)

    def _coordinator_told(self, error: KafkaError | None) -> None:
        """A coordinator that is reached may still be unable to serve: without a quorum it cannot end a rebalance."""
        if error is None:
            if self._joined:
                self._errors.end("coordinator")
        elif not self._released:
            message = f"group {self._config.group_id} has no coordinator: {describe(error)}"
            self._errors.begin("coordinator", message, level=log_level(error))

    def forget_coordinator(self) -> None:
        self._consumer.forget_coordinator()

    # -- the end

    async def close(self, within_s: float) -> None:
        """Leave the group and disconnect, within about so many seconds, without a call of the listener."""
        self._released = True
        self.owned.clear()
        self.positions.clear()
        closing = asyncio.ensure_future(self._consumer.stop())
        await asyncio.wait({closing}, timeout=within_s)
        if not closing.done():
            # It waits for a rebalance to end.
            closing.cancel()
            rest = asyncio.ensure_future(self._consumer.close_without_leaving())
            await asyncio.wait({closing, rest}, timeout=within_s)
            rest.cancel()
        if closing.done() and not closing.cancelled() and (error := closing.exception()) is not None:
            log.warning("closing the consumer failed: %s", error)
        # A poll that waits for an assignment would wait for ever.
        self.wake()
