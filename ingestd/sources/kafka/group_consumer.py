"""One consumer in the group, from joining to leaving. A source that is rebuilt gets a new one.

aiokafka's consumer does the work. Where its public methods do not tell enough, its coordinator, its fetcher and its
subscription state are used; all of that is in this file, and the version of aiokafka is fixed because of it.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka import TopicPartition as KafkaPartition
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import KafkaError, KafkaTimeoutError

from ingestd.config.model import KafkaConfig
from ingestd.core.records import Record, TopicPartition
from ingestd.sources.base import Listener
from ingestd.sources.kafka import prefetch_limit, topic_ids
from ingestd.sources.kafka.fast_records import lean

log = logging.getLogger(__name__)

# A consumer that is not polled for this long leaves the group. While the store is down nothing is polled, and the
# partitions must stay ours; whether there is progress is judged by a watchdog of our own.
_MAX_POLL_INTERVAL_MS = 2**31 - 1
_METADATA_AGE_MS = 60_000  # new partitions are found within this time
_FETCH_WAIT_MS = 500
_BACKOFF_MS = 250


class GroupConsumer(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """What is ours, and where each partition that is handed out is read next.

    `on_dropped` hears of partitions that are no longer ours, after the listener let go of them.
    """

    def __init__(
        self,
        config: KafkaConfig,
        options: Mapping[str, Any],
        listener: Listener,
        on_dropped: Callable[[Collection[TopicPartition]], None],
    ) -> None:
        self._config = config
        self._listener = listener
        self._on_dropped = on_dropped
        self._surrendered = False
        self._revoking = asyncio.Lock()
        self.owned: set[TopicPartition] = set()
        self.upcoming: dict[
            TopicPartition, int
        ] = {}  # the next offset to hand out; only of what is sought and not paused
        self._topic_ids: dict[TopicPartition, str] = {}
        self.failure: Exception | None = None  # what the listener raised: aiokafka would log and forget it
        self.generation = -1
        self.member_id = ""
        self._displaced = False
        self._consumer: Any = AIOKafkaConsumer(
            bootstrap_servers=list(config.bootstrap_servers),
            **self._membership(config),
            enable_auto_commit=False,
            # Anything else jumps silently. Where to begin is decided by us and committed before the first object.
            auto_offset_reset="none",
            key_deserializer=lean,
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

    def _membership(self, config: KafkaConfig) -> dict[str, Any]:
        return {"group_id": config.group_id, "group_instance_id": config.group_instance_id}

    async def join(self) -> None:
        """Connect and subscribe; assignments follow. Raises aiokafka's errors, with everything closed."""
        await self._connect()
        # After the start, which would otherwise wait for the first assignment.
        self._consumer.subscribe(self._config.topics, listener=self)

    async def _connect(self) -> None:
        try:
            await self._consumer.start()
        except BaseException:
            await self._consumer.stop()
            raise
        prefetch_limit.bound(self._consumer._fetcher, self._config.fetch_max_bytes)
        topic_ids.fetch_by_id(self._consumer._fetcher, self._topic_ids)

    # -- ownership, called by aiokafka from inside a rebalance

    def on_partitions_assigned(self, assigned: Collection[KafkaPartition]) -> None:
        self._still(assigned)
        if self._surrendered:
            return
        coordinator = self._consumer._coordinator
        self._tell_displaced(coordinator.member_id)
        self.generation, self.member_id = coordinator.generation, coordinator.member_id
        self._own(assigned)

    def _still(self, assigned: Collection[KafkaPartition]) -> None:
        """Let nothing be fetched until it is sought."""
        self._consumer.pause(*assigned)
        for each in assigned:
            # Without a position aiokafka would look for a committed one again and again, and fail where there is none.
            self._consumer.seek(each, 0)

    def _own(self, assigned: Collection[KafkaPartition]) -> None:
        self.owned = {TopicPartition(*each) for each in assigned}
        if self.owned:
            try:
                self._listener.on_assigned(frozenset(self.owned))
            except Exception as error:  # noqa: BLE001  whatever it is, aiokafka would swallow it
                self.failure = error

    def _tell_displaced(self, member_id: str) -> None:
        """Say it once where our place in the group was given to somebody else.

        Two processes of one identity take it from each other for as long as both run. Nothing is lost by that, and
        nothing else tells of it.
        """
        instance = self._config.group_instance_id
        if instance is None or self._displaced or self.member_id in {"", member_id}:
            return
        self._displaced = True
        log.warning(
            "our place in the group was taken, or had expired; if that goes on, kafka.group_instance_id = %s was given "
            "to two processes: give each its own",
            instance,
        )

    async def on_partitions_revoked(self, revoked: Collection[KafkaPartition]) -> None:
        await self._revoke({TopicPartition(*each) for each in revoked})

    async def surrender(self) -> None:
        """Let go of everything, as in a rebalance, and take nothing more."""
        self._surrendered = True
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
                    self.upcoming.pop(partition, None)
                self._on_dropped(leaving)

    def out_of_range(self, partition: TopicPartition) -> None:
        """What was to be read next is not in the log: pause, and tell the listener."""
        self.pause(partition)
        try:
            self._listener.on_out_of_range(partition)
        except Exception as error:  # noqa: BLE001  it may not raise
            self.failure = error

    # -- reading

    async def poll(self, wait: float) -> Mapping[KafkaPartition, list[Record]]:
        """What aiokafka has; waits for `wait` seconds, but through all of a rebalance. Never to be cancelled."""
        polled = await prefetch_limit.take(self._consumer, wait, self._config.max_records)
        for partition, records in polled.items():
            self.upcoming[TopicPartition(*partition)] = records[-1].offset + 1
        return polled

    def wake(self) -> None:
        """Make a `poll` that waits fail, also where it waits for a rebalance to end."""
        self._consumer._subscription.abort_waiters(KafkaError("woken"))

    def pin(self, partition: TopicPartition, topic_id: str) -> None:
        """Read the partition from the topic of this id only; "" for whatever has its name."""
        self._topic_ids[partition] = topic_id

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Harmless where the partition is not ours."""
        if partition in self.owned:
            target = KafkaPartition(*partition)
            self._consumer.seek(target, offset)
            self._consumer.resume(target)
            self.upcoming[partition] = offset

    def pause(self, partition: TopicPartition) -> None:
        """Harmless where the partition is not ours."""
        self.upcoming.pop(partition, None)
        if partition in self.owned:
            self._consumer.pause(KafkaPartition(*partition))

    def hold(self, partition: TopicPartition, seconds: float) -> None:
        """Read the partition no further for a while, without forgetting where it is read next."""
        if partition not in self.upcoming:
            return
        self._consumer.pause(KafkaPartition(*partition))
        asyncio.get_running_loop().call_later(seconds, self._release, partition)

    def _release(self, partition: TopicPartition) -> None:
        if partition in self.upcoming:
            self._consumer.resume(KafkaPartition(*partition))

    def undecodable(self) -> TopicPartition | None:
        """Whose records made the `poll` before fail; to be asked at once, as the next one changes the answer.

        The fetcher serves partitions in order and keeps the records of the one that failed. Those it served before,
        whose records were lost with the exception, have moved on.
        """
        for buffered in self._consumer._fetcher._records:
            partition = TopicPartition(*buffered)
            state = self._state(partition)
            if state is not None and state.has_valid_position and state.position == self.upcoming.get(partition):
                return partition
        return None

    def bury(self) -> str | None:
        """What ended a task of aiokafka's that should go on until we close: nothing else tells of it. Told once."""
        found = None
        for part, name in ((self._consumer._client, "_sync_task"), (self._consumer._fetcher, "_fetch_task")):
            task: asyncio.Future[None] = getattr(part, name)
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                # Closing awaits the task, and would end with its error and everything open.
                buried = asyncio.get_running_loop().create_future()
                buried.set_result(None)
                setattr(part, name, buried)
                found = f"{type(error).__name__}: {error}"
        return found

    def rewind(self) -> None:
        """Read on from what was handed out. A `poll` that fails for one partition has lost what it took of others."""
        for partition, offset in self.upcoming.items():
            self._consumer.seek(KafkaPartition(*partition), offset)

    def end_offset(self, partition: TopicPartition) -> int | None:
        """Where handing out will have caught up: the high watermark, unless all that can be read was handed out.

        Commit markers, aborted records and transactions that are open take offsets below the high watermark that no
        record is ever handed out for: by it, a partition with transactions would always lag.
        """
        state = self._state(partition)
        if state is None or state.highwater is None:
            return None
        caught_up = state.has_valid_position and state.lso is not None and 0 <= state.lso <= state.position
        highwater: int = state.highwater
        return self.upcoming.get(partition, highwater) if caught_up else highwater

    def answers(self) -> dict[TopicPartition, int | None]:
        """For each partition that is read: a stamp that changes with each answer of a broker."""
        states = {partition: self._state(partition) for partition in self.upcoming}
        return {partition: state.timestamp for partition, state in states.items() if state is not None}

    def _state(self, partition: TopicPartition) -> Any:
        subscription = self._consumer._subscription.subscription
        if subscription is None or subscription.assignment is None:
            return None
        return subscription.assignment.state_value(partition)

    # -- requests of our own

    async def ask_coordinator(self, request: Any) -> Any:
        """Send a request to the group's coordinator. Raises aiokafka's errors."""
        coordinator = self._consumer._coordinator
        try:
            async with asyncio.timeout(self._config.request_timeout):
                await coordinator.ensure_coordinator_known()
        except TimeoutError as error:
            raise KafkaTimeoutError("the group's coordinator is not known") from error
        return await coordinator._send_req(request)

    def forget_coordinator(self) -> None:
        """It said that it is not the coordinator, or is not ready to be."""
        self._consumer._coordinator.coordinator_dead()

    async def ask_broker(self, node: int, request: Any) -> Any:
        return await self._consumer._client.send(node, request)

    def leader(self, partition: TopicPartition) -> int | None:
        """The node that leads the partition; where it is not known, a search for it begins."""
        node: int | None = self._consumer._client.cluster.leader_for_partition(partition)
        if node is None or node < 0:
            self.refresh()
            return None
        return node

    def refresh(self) -> None:
        """Learn anew who leads what."""
        self._consumer._client.force_metadata_update()

    # -- the end

    async def close(self, within: float) -> None:
        """Leave the group and disconnect, within about so many seconds; the listener hears nothing."""
        self._surrendered = True
        self.owned.clear()
        self.upcoming.clear()
        closing = asyncio.ensure_future(self._consumer.stop())
        await asyncio.wait({closing}, timeout=within)
        if not closing.done():
            # It waits for a rebalance to end. What stop() would have done after that is done here.
            closing.cancel()
            rest = asyncio.ensure_future(self._abandon())
            await asyncio.wait({closing, rest}, timeout=within)
            rest.cancel()
        if closing.done() and not closing.cancelled() and (error := closing.exception()) is not None:
            log.warning("the consumer did not close in an orderly way: %s", error)
        # A poll that waits for an assignment would wait for ever.
        self.wake()

    async def _abandon(self) -> None:
        coordinator = self._consumer._coordinator
        if coordinator is not None:
            await coordinator._stop_heartbeat_task()
            await coordinator._stop_commit_offsets_refresh_task()
        if self._consumer._fetcher is not None:
            await self._consumer._fetcher.close()
        await self._consumer._client.close()
