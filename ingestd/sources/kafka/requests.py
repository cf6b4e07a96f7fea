"""Requests for offsets, leader epochs and topic ids: many partitions' in one request, repeated until answered.

The requests are our own. Reading committed offsets, aiokafka's admin client ignores the error of a whole answer, and so
takes "ask another broker" for "there is none"; its consumer does the same and drops the metadata. Asked for the end of
the log under read_committed, it tells the last stable offset.
"""

import asyncio
import re
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Generic, TypeVar

from aiokafka import errors as kafka_errors

from ingestd.core import start_time
from ingestd.core.records import EpochEnd, LogRange, Position, TopicPartition
from ingestd.core.start_time import start_time_ms
from ingestd.sources.error_state import ErrorState
from ingestd.sources.kafka._aiokafka import EpochEndRequest, ListOffsetsRequest, OffsetFetchRequest, TopicIdsRequest
from ingestd.sources.kafka.coordinator_client import BrokerClient
from ingestd.sources.kafka.errors import FAILURES, describe, log_level, permanent_error
from ingestd.sources.kafka.retry import Backoff

EARLIEST, LATEST = -2, -1  # in place of a time
READ_UNCOMMITTED, READ_COMMITTED = 0, 1
_NO_OFFSET = -1
_METADATA = re.compile(
    r"(?P<tag>\S+)?"
    r"(?:(?:^| )of (?P<topic_id>[A-Za-z0-9_-]{22}))?"
    r"(?:(?:^| )in epoch (?P<epoch>[0-9]{1,10}))?"
)

K = TypeVar("K")
V = TypeVar("V")
Answers = Mapping[TopicPartition, V | BaseException]
PartitionEpoch = tuple[TopicPartition, int]
EpochEnds = Mapping[PartitionEpoch, EpochEnd | BaseException | None]


class RequestBatcher(Generic[K, V]):
    """Collects one kind of request. `ask` gets many keys, as partitions; those without a result are asked for again."""

    def __init__(
        self,
        what: str,
        ask: Callable[[Collection[K]], Awaitable[Mapping[K, V | BaseException]]],
        errors: ErrorState,
    ) -> None:
        self._what = what
        self._ask = ask
        self._errors = errors
        self._waiting: dict[K, list[asyncio.Future[V]]] = {}
        self._task: asyncio.Task[None] | None = None

    async def get(self, key: K) -> V:
        """The answer to a request that is sent after this call. ``SourceError`` where none can be expected."""
        future: asyncio.Future[V] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, []).append(future)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name=self._what)
        return await future

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        for futures in self._waiting.values():
            for future in futures:
                future.cancel()
        self._waiting.clear()

    async def _run(self) -> None:
        delay = Backoff()
        # All partitions of one rebalance are asked for in the same turn of the loop.
        await asyncio.sleep(0)
        while asked := self._take():
            try:
                answers = await self._ask(asked.keys())
            except FAILURES as error:
                answers = dict.fromkeys(asked, error)
            except Exception as error:  # noqa: BLE001  every caller must get it, whatever it is
                self._fail(asked, error)
                continue
            except asyncio.CancelledError:
                self._waiting = asked
                raise
            if self._answer(asked, answers):
                delay.reset()
                self._errors.end(self._what)
                continue
            await delay.wait()

    def _take(self) -> dict[K, list[asyncio.Future[V]]]:
        """The keys that somebody still waits for."""
        waiting, self._waiting = self._waiting, {}
        live = {key: [each for each in futures if not each.done()] for key, futures in waiting.items()}
        return {key: futures for key, futures in live.items() if futures}

    def _answer(self, asked: Mapping[K, list[asyncio.Future[V]]], answers: Mapping[K, V | BaseException]) -> bool:
        """Give each caller its answer and keep the rest for the next try; true without a rest."""
        complete = True
        for key, futures in asked.items():
            answer = answers.get(key, kafka_errors.UnknownError(f"no answer for {key}"))
            if not isinstance(answer, BaseException):
                for future in futures:
                    if not future.done():
                        future.set_result(answer)
            elif (final := permanent_error(answer)) is not None:
                self._fail({key: futures}, final)
            else:
                complete = False
                self._errors.begin(self._what, f"{self._what} failed: {describe(answer)}", level=log_level(answer))
                self._waiting.setdefault(key, [])[:0] = futures
        return complete

    def _fail(self, asked: Mapping[K, list[asyncio.Future[V]]], error: Exception) -> None:
        for futures in asked.values():
            for future in futures:
                if not future.done():
                    future.set_exception(error)


async def committed(
    brokers: BrokerClient, group_id: str, partitions: Collection[TopicPartition]
) -> Answers[Position | None]:
    """The group's committed positions, None where there is none."""
    topics: dict[str, list[int]] = defaultdict(list)
    for topic, number in partitions:
        topics[topic].append(number)
    answer = await brokers.ask_coordinator(OffsetFetchRequest(group_id, list(topics.items())))
    error = kafka_errors.for_code(getattr(answer, "error_code", 0))
    if error is not kafka_errors.NoError:
        # GroupLoadInProgress comes from the right broker, but looking it up once more costs nothing.
        brokers.forget_coordinator()
        raise error(group_id)
    answers: dict[TopicPartition, Position | BaseException | None] = {}
    for topic, parts in answer.topics:
        for number, offset, text, code in parts:
            error, partition = kafka_errors.for_code(code), TopicPartition(topic, number)
            if error is not kafka_errors.NoError:
                answers[partition] = error(str(partition))
            else:
                answers[partition] = _position(offset, text or "") if offset != _NO_OFFSET else None
    return answers


def commit_metadata(position: Position) -> str:
    """The text that is committed with an offset: ``TAG of TOPIC_ID in epoch 5``, without what is not known."""
    topic_id, epoch = position.topic_id, position.leader_epoch
    words = (
        position.commit_tag,
        f"of {topic_id}" if topic_id else "",
        f"in epoch {epoch}" if epoch is not None else "",
    )
    return " ".join(word for word in words if word)


def _position(offset: int, text: str) -> Position:
    """What was committed. Any other text is a commit tag that is not ours."""
    match = _METADATA.fullmatch(text)
    if match is None:
        return Position(offset, text)
    tag, topic_id, epoch = match.groups()
    return Position(offset, tag or "", topic_id or "", int(epoch) if epoch else None)


async def log_ranges(brokers: BrokerClient, partitions: Collection[TopicPartition]) -> Answers[LogRange]:
    """The offsets in the logs. The end is the high watermark, which is beyond open transactions."""
    # Both at once: each waits behind a fetch that the broker holds back until records come.
    first, last = await asyncio.gather(
        offsets_at(brokers, dict.fromkeys(partitions, EARLIEST), READ_UNCOMMITTED),
        offsets_at(brokers, dict.fromkeys(partitions, LATEST), READ_UNCOMMITTED),
    )
    return {partition: _range(first[partition], last[partition]) for partition in first.keys() & last.keys()}


def _range(start: Position | BaseException, end: Position | BaseException) -> LogRange | BaseException:
    if isinstance(start, BaseException):
        return start
    return end if isinstance(end, BaseException) else LogRange(start.offset, end.offset)


async def starts(brokers: BrokerClient, partitions: Collection[TopicPartition], when: int) -> Answers[Position]:
    """The first offset at or after a time in milliseconds, or at the end of the log that EARLIEST or LATEST names.

    Without such an offset it is the last stable offset: records of an open transaction come after it.
    """
    found = dict(await offsets_at(brokers, dict.fromkeys(partitions, when), READ_COMMITTED))
    if none := [each for each, at in found.items() if isinstance(at, Position) and at.offset == _NO_OFFSET]:
        found |= await offsets_at(brokers, dict.fromkeys(none, LATEST), READ_COMMITTED)
    return found


async def added_later(
    brokers: BrokerClient, group_id: str, partitions: Collection[TopicPartition]
) -> set[TopicPartition]:
    """The partitions that Kafka added to a topic behind others that the group already writes to objects."""
    others = {TopicPartition(topic, number) for topic, last in partitions for number in range(last)} - {*partitions}
    found = await committed(brokers, group_id, others) if others else {}
    ingested = set()
    for partition, position in found.items():
        if isinstance(position, BaseException):
            raise position
        if position is not None and position.commit_tag:
            ingested.add(partition.topic)
    return {partition for partition in partitions if partition.topic in ingested}


def time_of(start: str) -> int:
    """``kafka.start`` as a time in milliseconds since the epoch, or as EARLIEST or LATEST."""
    if (time_ms := start_time_ms("kafka.start", start)) is not None:
        return time_ms
    return EARLIEST if start == start_time.EARLIEST else LATEST


async def offsets_at(brokers: BrokerClient, times: Mapping[TopicPartition, int], isolation: int) -> Answers[Position]:
    """The first offset at or after a time, asked of each partition's leader; -1 where all records are older.

    Its epoch is that of the record there, or the leader's own at the log's end; None from brokers that do not tell.
    """

    async def ask(node: int, partitions: Collection[TopicPartition]) -> Answers[Position]:
        topics: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for partition in partitions:
            topics[partition.topic].append((partition.partition, times[partition]))
        answer = await brokers.ask_broker(node, ListOffsetsRequest(isolation, list(topics.items())))
        return {
            partition: found if isinstance(found, BaseException) else Position(found[0], leader_epoch=found[1])
            for partition, found in ListOffsetsRequest.offsets(answer).items()
        }

    return await _ask_leaders(brokers, times, ask)


async def epoch_ends(brokers: BrokerClient, wanted: Collection[PartitionEpoch]) -> EpochEnds:
    """Where leader epochs end, asked of each partition's leader; None from brokers that cannot tell."""

    async def ask(node: int, partitions: Collection[TopicPartition]) -> Answers[EpochEnd | None]:
        request = EpochEndRequest({partition: epochs[partition] for partition in partitions})
        try:
            found = EpochEndRequest.ends(await brokers.ask_broker(node, request))
        except (NotImplementedError, kafka_errors.IncompatibleBrokerVersion):
            return dict.fromkeys(partitions)
        if any(isinstance(end, EpochEnd) and end.epoch < 0 for end in found.values()):
            brokers.refresh_metadata()  # another broker may lead by now
        return found

    found: dict[PartitionEpoch, EpochEnd | BaseException | None] = {}
    left = {*wanted}
    while left:
        # An answer does not repeat the epoch that was asked for, so a request has one for each partition.
        epochs = dict(left)
        answers = await _ask_leaders(brokers, epochs, ask)
        found |= {(partition, epochs[partition]): answer for partition, answer in answers.items()}
        left.difference_update(epochs.items())
    return found


async def topic_ids(brokers: BrokerClient, partitions: Collection[TopicPartition]) -> Answers[str]:
    """The ids of the partitions' topics, as each partition's leader knows them; "" for a topic without one."""

    async def ask(node: int, asked: Collection[TopicPartition]) -> Answers[str]:
        found = TopicIdsRequest.topic_ids(
            await brokers.ask_broker(node, TopicIdsRequest(sorted({partition.topic for partition in asked})))
        )
        return {
            partition: found.get(partition.topic, kafka_errors.UnknownTopicOrPartitionError(str(partition)))
            for partition in asked
        }

    return await _ask_leaders(brokers, partitions, ask)


async def _ask_leaders(
    brokers: BrokerClient,
    partitions: Iterable[TopicPartition],
    ask: Callable[[int, Collection[TopicPartition]], Awaitable[Answers[V]]],
) -> Answers[V]:
    """The answers of all leaders, each asked once; leaders are looked up again where one fails."""
    answers: dict[TopicPartition, V | BaseException] = {}
    by_leader: dict[int, list[TopicPartition]] = defaultdict(list)
    for partition in partitions:
        if (node := brokers.leader(partition)) is None:
            answers[partition] = kafka_errors.LeaderNotAvailableError(str(partition))
        else:
            by_leader[node].append(partition)

    async def ask_one(node: int, led: Collection[TopicPartition]) -> Answers[V]:
        try:
            found = await ask(node, led)
        except FAILURES as error:
            found = dict.fromkeys(led, error)
        if any(isinstance(answer, BaseException) for answer in found.values()):
            brokers.refresh_metadata()
        return found

    for found in await asyncio.gather(*(ask_one(node, led) for node, led in by_leader.items())):
        answers |= found
    return answers
