"""Kafka as a source: a member of a consumer group that recovers from failures of brokers."""

import asyncio
import logging
from collections.abc import Awaitable, Collection, Mapping
from typing import Any

from aiokafka import TopicPartition as KafkaPartition
from aiokafka import errors as kafka_errors

from ingestd.config.model import KafkaConfig
from ingestd.core.errors import SourceError
from ingestd.core.records import EpochEnd, LogRange, Position, TopicPartition
from ingestd.sources.base import Capabilities, Fetched, Listener, OpenTransaction
from ingestd.sources.error_state import ErrorState
from ingestd.sources.kafka import requests
from ingestd.sources.kafka.auth import client_options
from ingestd.sources.kafka.bootstrap import Cluster, connect
from ingestd.sources.kafka.commits import Commits
from ingestd.sources.kafka.epoch_ends import EpochEnds
from ingestd.sources.kafka.errors import describe, log_level, permanent_error
from ingestd.sources.kafka.group_consumer import GroupConsumer
from ingestd.sources.kafka.requests import Answers, RequestBatcher
from ingestd.sources.kafka.retry import Backoff, retry

log = logging.getLogger(__name__)

POLL_S = 0.25
CLOSE_S = 10.0  # for commits in flight, and again for leaving the group
SILENCE_S = 10.0  # without records and without any answer of a broker
PAUSE_S = 2.0  # until a partition that may not be read, or cannot be decoded, is fetched again
DECODE_TRIES = 5  # of damaged records: damage on the wire passes, damage on the broker's disk does not
REBUILD_AFTER_FAILURES = 3  # of the group's membership in a row, and again after as many more

_DAMAGED = (kafka_errors.CorruptRecordException, kafka_errors.UnsupportedCodecError)


class KafkaSource:
    """Reads the configured topics. The promises of `ingestd.sources.base.Source` hold; docstrings here add to them."""

    capabilities = Capabilities()

    def __init__(self, config: KafkaConfig) -> None:
        self._config = config
        self._start = requests.time_of(config.start)
        self._listener: Listener | None = None
        self._consumer: GroupConsumer | None = None  # None before start, after stop and during a rebuild
        self._consumer_changed = asyncio.Event()
        self._rebuilding = asyncio.Lock()
        self._cluster_id: str | None = None  # None before the first contact
        self._partitions_at_start: Mapping[str, int] = {}  # their number, by topic
        self._finished = asyncio.Event()
        self._stopped = False
        self._errors = ErrorState()
        self._commits = Commits(config.group_id, self._errors)
        self._topic_ids = RequestBatcher("reading topic ids", self._ask_topic_ids, self._errors)
        self._committed = RequestBatcher("reading committed offsets", self._ask_committed, self._errors)
        self._ranges = RequestBatcher("reading the range of the log", self._ask_ranges, self._errors)
        self._epoch_ends = EpochEnds(self._current_consumer, self._errors)
        self._starts = RequestBatcher("finding the start offset", self._ask_starts, self._errors)
        self._membership_failures = 0  # in a row
        self._membership_backoff = Backoff()
        self._decode_tries: dict[TopicPartition | None, int] = {}  # in a row
        self._quiet_since: float | None = None
        self._answered_at: Mapping[TopicPartition, int | None] = {}
        self._denied: dict[str, Mapping[TopicPartition, int | None]] = {}  # topic: the last answers before the refusal

    @property
    def source_id(self) -> str:
        """The cluster's id, "" for a cluster without one."""
        return self._cluster_id or ""

    @property
    def revoke_timeout(self) -> float:
        """Half of ``kafka.rebalance_timeout``: the other half is for the group's other members."""
        return self._config.rebalance_timeout / 2

    @property
    def error(self) -> str | None:
        return self._errors.error

    @property
    def error_since(self) -> float | None:
        return self._errors.since

    # -- life cycle

    async def start(self, listener: Listener) -> None:
        """Waits until a broker can be reached. ``ConfigError`` where a file or a key is missing."""
        self._listener = listener
        self._set_consumer(await self._join(listener))

    async def rebuild(self) -> None:
        """Takes as long as the listener and the time-outs of leaving, and then until a broker can be reached."""
        async with self._rebuilding:
            consumer, listener = self._consumer, self._listener
            if consumer is None or listener is None:
                return
            log.warning("rebuilding the consumer; buffered records are written first")
            await consumer.release_all()
            self._consumer = None
            await consumer.close(CLOSE_S)
            self._set_consumer(await self._join(listener))
            if self._stopped:  # meanwhile
                await self._leave()

    async def stop(self) -> None:
        """Takes at most about three times ``CLOSE_S``."""
        self._stopped = True
        self.finish()
        await self._commits.close(CLOSE_S)
        for batcher in (self._topic_ids, self._committed, self._ranges, self._epoch_ends, self._starts):
            await batcher.close()
        await self._leave()

    def finish(self) -> None:
        self._finished.set()
        self._consumer_changed.set()
        if self._consumer is not None:
            self._consumer.wake()

    def _set_consumer(self, consumer: GroupConsumer) -> None:
        self._consumer = consumer
        self._consumer_changed.set()
        self._consumer_changed.clear()

    async def _leave(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await consumer.close(CLOSE_S)

    async def _join(self, listener: Listener) -> GroupConsumer:
        group = self._config.group_id

        async def join() -> GroupConsumer:
            # New options for each try: files with passwords and certificates change.
            options = client_options(self._config)
            cluster = await connect(self._config, options, self._config.topics, self._errors)
            self._check_cluster(cluster)
            consumer = self._new_consumer(options, cluster, listener)
            await consumer.join()
            return consumer

        consumer = await retry(
            join, "join", self._errors, message=lambda error: f"joining group {group} failed: {describe(error)}"
        )
        log.info("joining group %s in cluster %s", group, self._cluster_id or "without an id")
        return consumer

    def _check_cluster(self, cluster: Cluster) -> None:
        if self._cluster_id is not None and cluster.id != self._cluster_id:
            raise SourceError(
                f"kafka.bootstrap_servers led to cluster {self._cluster_id or 'without an id'} before, and to "
                f"{cluster.id or 'one without an id'} now",
                hint="restart ingestd if the change is intended",
            )
        self._cluster_id = cluster.id
        self._partitions_at_start = self._partitions_at_start or cluster.partitions

    def _new_consumer(self, options: Mapping[str, Any], cluster: Cluster, listener: Listener) -> GroupConsumer:  # noqa: ARG002
        return GroupConsumer(self._config, options, listener, self._commits.drop, self._errors)

    # -- reading

    async def fetch(self) -> Fetched | None:
        """At most ``kafka.max_records`` records. ``SourceError`` where the next records cannot be read at all."""
        if self._finished.is_set():
            return None
        consumer = self._consumer
        if consumer is None:
            await self._consumer_changed.wait()
            return None if self._finished.is_set() else {}
        try:
            # Awaited here, not in a task of its own: no seek can come between aiokafka's answer and ours.
            polled = await consumer.poll(POLL_S)
        except Exception as error:  # noqa: BLE001  a decompressor can raise anything
            polled = {}
            if consumer is self._consumer and consumer.failure is None and not self._finished.is_set():
                await self._recover(consumer, error)
        else:
            self._poll_succeeded(consumer, polled)
            if (dead := consumer.take_dead_task_error()) is not None and not self._finished.is_set():
                log.warning("a background task of the consumer has ended: %s", dead)
                await self.rebuild()
        if consumer.failure is not None:
            raise consumer.failure
        if self._finished.is_set():
            return None
        if consumer is not self._consumer:
            return {}
        return {TopicPartition(*partition): found for partition, found in polled.items()}

    def seek(self, partition: TopicPartition, offset: int, leader_epoch: int | None = None) -> None:
        """Ignored where the partition is not ours: a rebalance may come first. Kafka before 2.7 ignores the epoch."""
        if self._consumer is not None:
            self._consumer.seek(partition, offset, leader_epoch)

    def pause(self, partition: TopicPartition) -> None:
        """Ignored where the partition is not ours: a rebalance may come first."""
        if self._consumer is not None:
            self._consumer.pause(partition)

    def end_offset(self, partition: TopicPartition) -> int | None:
        """The high watermark, or our position where all records below it were handed out."""
        return self._consumer.end_offset(partition) if self._consumer is not None else None

    def behind_s(self, partition: TopicPartition) -> float | None:  # noqa: ARG002 (offsets tell)
        return None

    def open_transaction(self, partition: TopicPartition) -> OpenTransaction | None:
        return self._consumer.open_transaction(partition) if self._consumer is not None else None

    # -- offsets

    async def stream_id(self, partition: TopicPartition) -> str:
        """The topic's id; "" where a broker does not support ids."""
        return await self._topic_ids.get(partition)

    async def committed(self, partition: TopicPartition) -> Position | None:
        return await self._committed.get(partition)

    async def log_range(self, partition: TopicPartition) -> LogRange:
        """Up to the high watermark: the end of the log, not the end of what ``read_committed`` hands out."""
        return await self._ranges.get(partition)

    async def epoch_end(self, partition: TopicPartition, leader_epoch: int) -> EpochEnd | None:
        """None from brokers before Kafka 2.3. Takes some seconds where the log does not know the epoch."""
        return await self._epoch_ends.get(partition, leader_epoch)

    async def resolve_start(self, partition: TopicPartition) -> Position:
        """``latest``, and a time after that of all records, are the end of what can be read now.

        A partition that was added since the group began is read from its beginning, whatever the policy is: records
        that were written to it before we knew of it would be skipped.
        """
        return await self._epoch_ends.with_records(partition, await self._starts.get(partition))

    async def commit(self, partition: TopicPartition, position: Position) -> bool:
        """Of several positions of a partition that wait, the newest is sent, and its answer is that of all."""
        consumer = self._consumer
        return consumer is not None and await self._commits.commit(consumer, partition, position)

    async def _ask_topic_ids(self, partitions: Collection[TopicPartition]) -> Answers[str]:
        consumer = self._current_consumer()
        answers = await requests.topic_ids(consumer, partitions)
        for partition, answer in answers.items():
            if isinstance(answer, str):
                consumer.bind_topic_id(partition, answer)
        return answers

    def _ask_committed(self, partitions: Collection[TopicPartition]) -> Awaitable[Answers[Position | None]]:
        return requests.committed(self._current_consumer(), self._config.group_id, partitions)

    def _ask_ranges(self, partitions: Collection[TopicPartition]) -> Awaitable[Answers[LogRange]]:
        return requests.log_ranges(self._current_consumer(), partitions)

    async def _ask_starts(self, partitions: Collection[TopicPartition]) -> Answers[Position]:
        consumer = self._current_consumer()
        added: set[TopicPartition] = set()
        if self._start != requests.EARLIEST:
            added = await requests.added_later(consumer, self._config.group_id, partitions)
            added |= {each for each in partitions if each.partition >= self._partitions_at_start.get(each.topic, 0)}
        first, policy = await asyncio.gather(
            requests.starts(consumer, added, requests.EARLIEST),
            requests.starts(consumer, {*partitions} - added, self._start),
        )
        return {**first, **policy}

    def _current_consumer(self) -> GroupConsumer:
        if self._consumer is None:
            raise kafka_errors.NoBrokersAvailable("the consumer is being rebuilt")
        return self._consumer

    # -- failures of polls

    def _poll_succeeded(self, consumer: GroupConsumer, polled: Mapping[KafkaPartition, object]) -> None:
        """End the errors that a poll without an error disproves."""
        self._membership_failures = 0
        self._membership_backoff.reset()
        if polled:
            self._quiet_since = None
        else:
            self._check_silence(consumer)
        if self._denied:
            self._check_rights(consumer)
        if self._decode_tries:
            self._check_decoded(consumer, polled)
        if self._errors:
            self._errors.end("group")
            if polled:
                self._errors.end("silence")

    def _check_silence(self, consumer: GroupConsumer) -> None:
        """Find brokers that do not answer: they do so twice a second, without records, too."""
        now = asyncio.get_running_loop().time()
        if self._quiet_since is not None and now - self._quiet_since < SILENCE_S:
            return
        answered_at = consumer.answered_at()
        if self._quiet_since is not None:
            silent = [each for each, time in answered_at.items() if self._answered_at.get(each, ...) == time]
            if silent:
                silence = (
                    f"no broker has answered for {len(silent)} of {len(answered_at)} partitions for {SILENCE_S:.0f} s"
                )
                self._errors.begin("silence", silence, since=self._quiet_since)
            else:
                self._errors.end("silence")
        self._quiet_since, self._answered_at = now, answered_at

    async def _recover(self, consumer: GroupConsumer, error: Exception) -> None:
        """Do what lets the next poll succeed, at once or after a while."""
        undecodable = consumer.undecodable()
        consumer.rewind()
        match error:
            case UnicodeDecodeError():  # of the name of a header
                for partition in [undecodable] if undecodable else consumer.positions:
                    consumer.tolerate_bad_headers(partition)
            case kafka_errors.NoOffsetForPartitionError():
                pass  # between an assignment and its first seek
            case kafka_errors.OffsetOutOfRangeError():
                self._out_of_range(consumer, error)
            case kafka_errors.TopicAuthorizationFailedError():
                self._topic_denied(consumer, error)
            case kafka_errors.RecordTooLargeError():
                # aiokafka has moved past the record, and `rewind` back to it.
                hint = "raise kafka.partition_fetch_bytes above the topic's max.message.bytes"
                raise SourceError(f"a record is larger than can be fetched: {error.args[1:]}", hint=hint) from error
            case kafka_errors.ConsumerStoppedError():
                pass  # rebuilt or stopped meanwhile
            case kafka_errors.KafkaError() if not isinstance(error, _DAMAGED):
                await self._membership_failed(error)
            case _:
                await self._decode_failed(consumer, undecodable, error)

    def _out_of_range(self, consumer: GroupConsumer, error: kafka_errors.OffsetOutOfRangeError) -> None:
        """The log was trimmed, truncated or created again since the seek, or since the checks before it."""
        for (topic, number), offset in error.args[0].items():
            partition = TopicPartition(topic, number)
            if partition in consumer.positions:
                log.warning("the log of %s does not go on at offset %d after what was read", partition, offset)
                consumer.out_of_range(partition)

    def _topic_denied(self, consumer: GroupConsumer, error: kafka_errors.TopicAuthorizationFailedError) -> None:
        """Pause the topic and go on with the others; the right may be granted at any time."""
        topic = error.args[0]
        message = f"reading topic {topic} is not allowed; grant READ on it to our user"
        self._errors.begin(f"rights to {topic}", message, level=logging.ERROR)
        self._denied[topic] = consumer.answered_at()
        for partition in [each for each in consumer.positions if each.topic == topic]:
            consumer.pause_for(partition, PAUSE_S)

    def _check_rights(self, consumer: GroupConsumer) -> None:
        """A topic may be read again as soon as a broker has answered for any partition of it."""
        now = consumer.answered_at()
        for topic, before in list(self._denied.items()):
            ours = [each for each in now if each.topic == topic]
            if not ours or any(now[each] != before.get(each) for each in ours):
                del self._denied[topic]
                self._errors.end(f"rights to {topic}")

    async def _membership_failed(self, error: kafka_errors.KafkaError) -> None:
        """Wait, or rebuild: the coordinator's tasks may have ended with the error, and only a new consumer helps."""
        if (final := permanent_error(error)) is not None:
            raise final from error
        message = f"membership of group {self._config.group_id} failed: {describe(error)}"
        self._errors.begin("group", message, level=log_level(error))
        self._membership_failures += 1
        await self._wait(self._membership_backoff.next_delay_s())
        if self._membership_failures % REBUILD_AFTER_FAILURES == 0 and not self._finished.is_set():
            await self.rebuild()

    async def _decode_failed(self, consumer: GroupConsumer, partition: TopicPartition | None, error: Exception) -> None:
        """Pause the partition and fetch again: damage on the wire passes, damage on the broker's disk does not."""
        tries = self._decode_tries[partition] = self._decode_tries.get(partition, 0) + 1
        where = f"{partition} from offset {consumer.positions[partition].offset} on" if partition else "some partition"
        if tries >= DECODE_TRIES:
            hint = "the log is damaged, or written with a codec that is not installed: repair or remove those records"
            raise SourceError(f"records of {where} cannot be decoded: {describe(error)}", hint=hint) from error
        self._errors.begin("decode", f"records of {where} cannot be decoded: {describe(error)}")
        if partition is not None:
            consumer.pause_for(partition, PAUSE_S)
        else:
            await self._wait(PAUSE_S)

    def _check_decoded(self, consumer: GroupConsumer, polled: Mapping[KafkaPartition, object]) -> None:
        """A partition has recovered as soon as it gives records again, or is no longer read by us."""
        for partition in list(self._decode_tries):
            if partition is None or partition in polled or partition not in consumer.positions:
                del self._decode_tries[partition]
        if not self._decode_tries:
            self._errors.end("decode")

    async def _wait(self, seconds: float) -> None:
        """Wait, but not beyond the end of the stream."""
        try:
            async with asyncio.timeout(seconds):
                await self._finished.wait()
        except TimeoutError:
            pass
