"""The port to Kafka: one member of a consumer group, kept alive through whatever brokers do."""

import asyncio
import logging
import random
from collections.abc import Collection, Mapping
from typing import Any

from aiokafka import TopicPartition as KafkaPartition
from aiokafka import errors as kafka_errors

from ingestd.config.model import KafkaConfig
from ingestd.core.backoff import backoff
from ingestd.core.errors import SourceError
from ingestd.core.records import LogRange, Position, TopicPartition
from ingestd.sources.base import Fetched, Listener
from ingestd.sources.kafka import requests as offsets
from ingestd.sources.kafka import topic_ids
from ingestd.sources.kafka.bootstrap import (
    FAILURES,
    RETRY_INITIAL_S,
    RETRY_MAX_S,
    Cluster,
    client_options,
    connect,
    describe,
    level,
    meaning,
)
from ingestd.sources.kafka.commits import Commits
from ingestd.sources.kafka.error_state import ErrorState
from ingestd.sources.kafka.fast_records import forgive
from ingestd.sources.kafka.group_consumer import GroupConsumer
from ingestd.sources.kafka.requests import Answers, RequestBatcher

log = logging.getLogger(__name__)

POLL_S = 0.25
CLOSE_S = 10.0  # for commits that are under way, and again for leaving the group
SILENCE_S = 10.0  # without records and without any answer of a broker
DECODE_TRIES = 5  # of records that arrive damaged: on the wire it passes, on the broker's disk it does not
HOLD_S = 2.0  # until what may not be read, or cannot be decoded, is tried again
REBUILD_AFTER = 3  # failures of the group's membership in a row, and again after as many more

_DAMAGE = (kafka_errors.CorruptRecordException, kafka_errors.UnsupportedCodecError)


class KafkaSource:
    """Reads the configured topics. See ``ingestd.sources.base.Source``; what is said here is beyond it."""

    def __init__(self, config: KafkaConfig) -> None:
        self._config = config
        self._start = offsets.time_of(config.start)
        self._listener: Listener | None = None
        self._member: GroupConsumer | None = None  # None before start, after stop and while it is rebuilt
        self._member_changed = asyncio.Event()
        self._rebuilding = asyncio.Lock()
        self._cluster_id = ""
        self._at_first: Mapping[str, int] = {}  # how many partitions each topic had when we began
        self._finished = asyncio.Event()
        self._stopped = False
        self._troubles = ErrorState()
        self._commits = Commits(config.group_id, self._troubles)
        self._topic_ids = RequestBatcher("asking for the topic's id", self._ask_topic_ids, self._troubles)
        self._committed = RequestBatcher("reading committed offsets", self._ask_committed, self._troubles)
        self._ranges = RequestBatcher("reading the range of the log", self._ask_ranges, self._troubles)
        self._starts = RequestBatcher("looking for where to start", self._ask_starts, self._troubles)
        self._failures = 0  # of the membership, in a row
        self._damaged: dict[TopicPartition | None, int] = {}  # whose records cannot be decoded: tries in a row
        self._quiet_since: float | None = None
        self._answers: Mapping[TopicPartition, int | None] = {}
        self._denied: dict[
            str, Mapping[TopicPartition, int | None]
        ] = {}  # topics that may not be read: answers till then
        self._random = random.Random()

    @property
    def cluster_id(self) -> str:
        return self._cluster_id

    @property
    def error(self) -> str | None:
        """What is wrong now, for people; None while all is well. Whatever it is, it is tried again."""
        return self._troubles.error

    # -- life

    async def start(self, listener: Listener) -> None:
        """Waits for as long as no broker can be reached. ``ConfigError`` where a file or a key is missing."""
        self._listener = listener
        self._adopt(await self._join(listener))

    async def rebuild(self) -> None:
        """Replace the consumer: the listener lets go of everything, then assignments begin anew. For the stuck.

        Bounded by the listener and the time-outs of leaving, but for the wait until a broker can be reached.
        """
        async with self._rebuilding:
            member, listener = self._member, self._listener
            if member is None or listener is None:
                return
            log.warning("the consumer is rebuilt; what is held is landed first")
            await member.surrender()
            self._member = None
            await member.close(CLOSE_S)
            self._adopt(await self._join(listener))
            if self._stopped:  # meanwhile
                await self._leave()

    async def stop(self) -> None:
        """Within about three times ``CLOSE_S``."""
        self._stopped = True
        self.finish()
        await self._commits.close(CLOSE_S)
        for questions in (self._topic_ids, self._committed, self._ranges, self._starts):
            await questions.close()
        await self._leave()

    def finish(self) -> None:
        self._finished.set()
        self._member_changed.set()
        if self._member is not None:
            self._member.wake()

    def _adopt(self, member: GroupConsumer) -> None:
        self._member = member
        self._member_changed.set()
        self._member_changed.clear()

    async def _leave(self) -> None:
        member, self._member = self._member, None
        if member is not None:
            await member.close(CLOSE_S)

    async def _join(self, listener: Listener) -> GroupConsumer:
        attempt = 0
        while True:
            # Made anew for each try, because files with passwords and certificates change.
            options = client_options(self._config)
            cluster = await connect(self._config, options, self._config.topics, self._troubles)
            if self._cluster_id and cluster.id != self._cluster_id:
                raise SourceError(
                    f"kafka.bootstrap_servers led to cluster {self._cluster_id} before, and to {cluster.id} now",
                    hint="restart ingestd if that is meant",
                )
            self._cluster_id = cluster.id
            self._at_first = self._at_first or cluster.partitions
            member = self._new_member(options, cluster, listener)
            try:
                await member.join()
            except FAILURES as error:
                if (final := meaning(error)) is not None:
                    raise final from error
                self._troubles.begin("join", f"joining group {self._config.group_id} fails: {describe(error)}")
            else:
                self._troubles.end("join")
                log.info("joining group %s in cluster %s", self._config.group_id, cluster.id)
                return member
            await asyncio.sleep(backoff(attempt, RETRY_INITIAL_S, RETRY_MAX_S, self._random))
            attempt += 1

    def _new_member(self, options: Mapping[str, Any], cluster: Cluster, listener: Listener) -> GroupConsumer:  # noqa: ARG002
        return GroupConsumer(self._config, options, listener, self._commits.drop)

    # -- reading

    async def fetch(self) -> Fetched | None:
        """At most ``max_records`` records. ``SourceError`` where what is next cannot be read, whatever we do."""
        if self._finished.is_set():
            return None
        member = self._member
        if member is None:
            await self._member_changed.wait()
            return None if self._finished.is_set() else {}
        try:
            # Awaited here, not in a task of its own: between aiokafka's answer and ours no seek can come.
            polled = await member.poll(POLL_S)
        except Exception as error:  # noqa: BLE001  a decompressor can raise anything
            polled = {}
            if member is self._member and member.failure is None and not self._finished.is_set():
                await self._mend(member, error)
        else:
            self._well(member, polled)
            if (death := member.bury()) is not None and not self._finished.is_set():
                log.warning("a part of the consumer has ended: %s", death)
                await self.rebuild()
        if member.failure is not None:
            raise member.failure
        if self._finished.is_set():
            return None
        if member is not self._member:
            return {}
        return {TopicPartition(*partition): records for partition, records in polled.items()}

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Ignored where the partition is not ours, as a rebalance may come first."""
        if self._member is not None:
            self._member.seek(partition, offset)

    def pause(self, partition: TopicPartition) -> None:
        """Ignored where the partition is not ours, as a rebalance may come first."""
        if self._member is not None:
            self._member.pause(partition)

    def end_offset(self, partition: TopicPartition) -> int | None:
        """The high watermark, or what was handed out where no more can be read below it."""
        return self._member.end_offset(partition) if self._member is not None else None

    # -- offsets

    async def topic_id(self, partition: TopicPartition) -> str:
        """ "" also where a broker does not know of ids."""
        return await self._topic_ids.get(partition)

    async def committed(self, partition: TopicPartition) -> Position | None:
        return await self._committed.get(partition)

    async def log_range(self, partition: TopicPartition) -> LogRange:
        """Up to the high watermark: the end of the log, not the end of what ``read_committed`` hands out."""
        return await self._ranges.get(partition)

    async def resolve_start(self, partition: TopicPartition) -> int:
        """``latest``, and a time that no record is as young as, are the end of what can be read now.

        Whatever the policy is, a partition that was added since the group began is read from its beginning: who wrote
        to it before we knew of it would have written for nobody.
        """
        return await self._starts.get(partition)

    async def commit(self, partition: TopicPartition, position: Position) -> bool:
        """Where positions of a partition queue up, the newest is sent and answers for those before it."""
        member = self._member
        return member is not None and await self._commits.commit(member, partition, position)

    async def _ask_topic_ids(self, partitions: Collection[TopicPartition]) -> Answers[str]:
        member = self._current()
        answers = await topic_ids.ask(member, partitions)
        for partition, answer in answers.items():
            if isinstance(answer, str):
                member.pin(partition, answer)
        return answers

    async def _ask_committed(self, partitions: Collection[TopicPartition]) -> Answers[Position | None]:
        return await offsets.committed(self._current(), self._config.group_id, partitions)

    async def _ask_ranges(self, partitions: Collection[TopicPartition]) -> Answers[LogRange]:
        return await offsets.log_ranges(self._current(), partitions)

    async def _ask_starts(self, partitions: Collection[TopicPartition]) -> Answers[int]:
        member = self._current()
        added: set[TopicPartition] = set()
        if self._start != offsets.EARLIEST:
            added = await offsets.added_later(member, self._config.group_id, partitions)
            added |= {each for each in partitions if each.partition >= self._at_first.get(each.topic, 0)}
        first, policy = await asyncio.gather(
            offsets.starts(member, added, offsets.EARLIEST),
            offsets.starts(member, {*partitions} - added, self._start),
        )
        return {**first, **policy}

    def _current(self) -> GroupConsumer:
        if self._member is None:
            raise kafka_errors.NoBrokersAvailable("the consumer is being rebuilt")
        return self._member

    # -- failures of reading

    def _well(self, member: GroupConsumer, polled: Mapping[KafkaPartition, object]) -> None:
        """A poll went through. What it was in trouble for before is over, but for topics that are not read yet."""
        self._failures = 0
        if polled:
            self._quiet_since = None
        else:
            self._listen(member)
        if self._denied:
            self._check_rights(member)
        if self._damaged:
            self._check_damage(member, polled)
        if self._troubles:
            self._troubles.end("group")
            if polled:
                self._troubles.end("silence")

    def _listen(self, member: GroupConsumer) -> None:
        """Nothing came. Without records, too, brokers answer twice a second: that they do not is seen here only."""
        now = asyncio.get_running_loop().time()
        if self._quiet_since is not None and now - self._quiet_since < SILENCE_S:
            return
        answers = member.answers()
        if self._quiet_since is not None:
            silent = [each for each, stamp in answers.items() if self._answers.get(each, ...) == stamp]
            if silent:
                message = f"no broker has answered for {len(silent)} of {len(answers)} partitions for {SILENCE_S:.0f} s"
                self._troubles.begin("silence", message)
            else:
                self._troubles.end("silence")
        self._quiet_since, self._answers = now, answers

    async def _mend(self, member: GroupConsumer, error: Exception) -> None:
        """Do what lets the next poll go on, at once or after a while."""
        culprit = member.undecodable()
        member.rewind()
        match error:
            case UnicodeDecodeError():  # of the name of a header
                for partition in [culprit] if culprit else member.upcoming:
                    forgive(partition)
            case kafka_errors.NoOffsetForPartitionError():
                pass  # asked for between an assignment and its first seek
            case kafka_errors.OffsetOutOfRangeError():
                self._out_of_range(member, error)
            case kafka_errors.TopicAuthorizationFailedError():
                self._unauthorised(member, error)
            case kafka_errors.RecordTooLargeError():
                # aiokafka has moved past the record, the rewind has undone that.
                hint = "raise kafka.partition_fetch_bytes above the topic's max.message.bytes"
                raise SourceError(f"a record is larger than can be fetched: {error.args[1:]}", hint=hint) from error
            case kafka_errors.ConsumerStoppedError():
                pass  # rebuilt or stopped meanwhile
            case kafka_errors.KafkaError() if not isinstance(error, _DAMAGE):
                await self._membership_failed(error)
            case _:
                await self._cannot_decode(member, culprit, error)

    def _out_of_range(self, member: GroupConsumer, error: kafka_errors.OffsetOutOfRangeError) -> None:
        """The log was checked before the seek: it was trimmed, truncated or created anew since."""
        for (topic, number), offset in error.args[0].items():
            partition = TopicPartition(topic, number)
            if member.upcoming.get(partition) is None:
                continue
            log.warning("offset %d of %s is not in the log", offset, partition)
            member.out_of_range(partition)

    def _unauthorised(self, member: GroupConsumer, error: kafka_errors.TopicAuthorizationFailedError) -> None:
        """Hold the topic and go on with the others; the right may be given back at any time."""
        topic = error.args[0]
        message = f"reading topic {topic} is not allowed; grant READ on it to our user"
        self._troubles.begin(f"rights to {topic}", message, level=logging.ERROR)
        self._denied[topic] = member.answers()
        for partition in [each for each in member.upcoming if each.topic == topic]:
            member.hold(partition, HOLD_S)

    def _check_rights(self, member: GroupConsumer) -> None:
        """A topic may be read again as soon as a broker has answered for any partition of it."""
        now = member.answers()
        for topic, before in list(self._denied.items()):
            mine = [each for each in now if each.topic == topic]
            if not mine or any(now[each] != before.get(each) for each in mine):
                del self._denied[topic]
                self._troubles.end(f"rights to {topic}")

    async def _membership_failed(self, error: kafka_errors.KafkaError) -> None:
        """The coordinator's tasks report here. They may have ended with it, and then only a new consumer helps."""
        if (final := meaning(error)) is not None:
            raise final from error
        message = f"membership of group {self._config.group_id} fails: {describe(error)}"
        self._troubles.begin("group", message, level=level(error))
        self._failures += 1
        await self._wait(backoff(self._failures - 1, RETRY_INITIAL_S, RETRY_MAX_S, self._random))
        if self._failures % REBUILD_AFTER == 0 and not self._finished.is_set():
            await self.rebuild()

    async def _cannot_decode(self, member: GroupConsumer, partition: TopicPartition | None, error: Exception) -> None:
        """Hold the partition and fetch anew: damage on the wire passes, damage on the broker's disk does not."""
        tries = self._damaged[partition] = self._damaged.get(partition, 0) + 1
        where = f"{partition} from offset {member.upcoming[partition]} on" if partition else "one of our partitions"
        if tries >= DECODE_TRIES:
            hint = "the log is damaged, or written with a codec that is not installed: mend or remove those records"
            raise SourceError(f"records of {where} cannot be decoded: {describe(error)}", hint=hint) from error
        self._troubles.begin("decode", f"records of {where} cannot be decoded: {describe(error)}")
        if partition is not None:
            member.hold(partition, HOLD_S)
        else:
            await self._wait(HOLD_S)

    def _check_damage(self, member: GroupConsumer, polled: Mapping[KafkaPartition, object]) -> None:
        """Over for a partition as soon as it gives records again, or is no longer read by us."""
        for partition in list(self._damaged):
            if partition is None or partition in polled or partition not in member.upcoming:
                del self._damaged[partition]
        if not self._damaged:
            self._troubles.end("decode")

    async def _wait(self, seconds: float) -> None:
        """Not beyond the end of the stream."""
        try:
            async with asyncio.timeout(seconds):
                await self._finished.wait()
        except TimeoutError:
            pass
