"""Questions about offsets: asked by one task per partition, sent for all partitions at once, repeated until answered.

The requests are our own. Reading committed offsets, aiokafka's admin client ignores the error of a whole answer, and so
takes "ask another broker" for "there is none"; its consumer does the same and drops the metadata. Asked for the end of
the log under read_committed, it tells the last stable offset.
"""

import asyncio
import random
import re
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, Protocol, TypeVar

import msgspec
from aiokafka import errors as kafka_errors
from aiokafka.protocol.commit import OffsetFetchRequest
from aiokafka.protocol.offset import OffsetRequest

from ingestd.core.backoff import backoff
from ingestd.core.errors import ConfigError
from ingestd.core.records import LogRange, Position, TopicPartition
from ingestd.sources.kafka.bootstrap import FAILURES, RETRY_INITIAL_S, RETRY_MAX_S, describe, level, meaning
from ingestd.sources.kafka.error_state import ErrorState

EARLIEST, LATEST = -2, -1  # in place of a time
READ_UNCOMMITTED, READ_COMMITTED = 0, 1
_NO_OFFSET = -1
_METADATA = re.compile(r"(?P<mark>\S+) of (?P<topic_id>[A-Za-z0-9_-]{22})")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

V = TypeVar("V")
Answers = Mapping[TopicPartition, V | BaseException]


class Brokers(Protocol):
    """Who sends requests for us. They raise aiokafka's errors."""

    async def ask_coordinator(self, request: Any) -> Any: ...

    def forget_coordinator(self) -> None:
        """It said that it is not the group's coordinator, or is not ready to be."""
        ...

    async def ask_broker(self, node: int, request: Any) -> Any: ...

    def leader(self, partition: TopicPartition) -> int | None:
        """The node that leads the partition; where it is not known, a search for it begins."""
        ...

    def refresh(self) -> None:
        """Learn anew who leads what."""
        ...


class RequestBatcher(Generic[V]):
    """One kind of question. `ask` is given many partitions; what it has an error or nothing for is asked again."""

    def __init__(
        self, what: str, ask: Callable[[Collection[TopicPartition]], Awaitable[Answers[V]]], troubles: ErrorState
    ) -> None:
        self._what = what
        self._ask = ask
        self._troubles = troubles
        self._waiting: dict[TopicPartition, list[asyncio.Future[V]]] = {}
        self._task: asyncio.Task[None] | None = None
        self._random = random.Random()

    async def get(self, partition: TopicPartition) -> V:
        """The answer to a request that is sent after this call. ``SourceError`` where none can be expected."""
        future: asyncio.Future[V] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(partition, []).append(future)
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
        attempt = 0
        # Whoever was assigned a partition by the same rebalance asks in the same turn of the loop.
        await asyncio.sleep(0)
        while asked := self._take():
            try:
                answers = await self._ask(asked.keys())
            except FAILURES as error:
                answers = dict.fromkeys(asked, error)
            except Exception as error:  # noqa: BLE001  whoever waits must hear of it, whatever it is
                self._fail(asked, error)
                continue
            except asyncio.CancelledError:
                self._waiting = asked
                raise
            if self._settle(asked, answers):
                attempt = 0
                self._troubles.end(self._what)
                continue
            await asyncio.sleep(backoff(attempt, RETRY_INITIAL_S, RETRY_MAX_S, self._random))
            attempt += 1

    def _take(self) -> dict[TopicPartition, list[asyncio.Future[V]]]:
        """What somebody still waits for."""
        waiting, self._waiting = self._waiting, {}
        live = {partition: [each for each in futures if not each.done()] for partition, futures in waiting.items()}
        return {partition: futures for partition, futures in live.items() if futures}

    def _settle(self, asked: Mapping[TopicPartition, list[asyncio.Future[V]]], answers: Answers[V]) -> bool:
        """Hand out what was answered and keep the rest; whether there is no rest."""
        complete = True
        for partition, futures in asked.items():
            answer = answers.get(partition, kafka_errors.UnknownError(f"no answer for {partition}"))
            if not isinstance(answer, BaseException):
                for future in futures:
                    if not future.done():
                        future.set_result(answer)
            elif (final := meaning(answer)) is not None:
                self._fail({partition: futures}, final)
            else:
                complete = False
                self._troubles.begin(self._what, f"{self._what} fails: {describe(answer)}", level=level(answer))
                self._waiting.setdefault(partition, [])[:0] = futures
        return complete

    def _fail(self, asked: Mapping[TopicPartition, list[asyncio.Future[V]]], error: Exception) -> None:
        for futures in asked.values():
            for future in futures:
                if not future.done():
                    future.set_exception(error)


async def committed(
    brokers: Brokers, group_id: str, partitions: Collection[TopicPartition]
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


def metadata(position: Position) -> str:
    """What is committed with an offset."""
    return f"{position.mark} of {position.topic_id}" if position.topic_id else position.mark


def _position(offset: int, text: str) -> Position:
    match = _METADATA.fullmatch(text)
    return Position(offset, match["mark"], match["topic_id"]) if match else Position(offset, text)


async def log_ranges(brokers: Brokers, partitions: Collection[TopicPartition]) -> Answers[LogRange]:
    """What the logs hold. The end is that of the log itself, the high watermark, beyond transactions that are open."""
    # Both at once: a request waits behind the fetch that the broker holds back for want of records.
    first, last = await asyncio.gather(
        offsets_at(brokers, dict.fromkeys(partitions, EARLIEST), READ_UNCOMMITTED),
        offsets_at(brokers, dict.fromkeys(partitions, LATEST), READ_UNCOMMITTED),
    )
    return {partition: _range(first[partition], last[partition]) for partition in first.keys() & last.keys()}


def _range(start: int | BaseException, end: int | BaseException) -> LogRange | BaseException:
    if isinstance(start, BaseException):
        return start
    return end if isinstance(end, BaseException) else LogRange(start, end)


async def starts(brokers: Brokers, partitions: Collection[TopicPartition], when: int) -> Answers[int]:
    """The first offset at or after a time in milliseconds, or what EARLIEST or LATEST says.

    Where there is none it is the end: the last stable offset: a transaction that is open now is newer than now.
    """
    found = dict(await offsets_at(brokers, dict.fromkeys(partitions, when), READ_COMMITTED))
    if none := [partition for partition, offset in found.items() if offset == _NO_OFFSET]:
        found |= await offsets_at(brokers, dict.fromkeys(none, LATEST), READ_COMMITTED)
    return found


async def added_later(brokers: Brokers, group_id: str, partitions: Collection[TopicPartition]) -> set[TopicPartition]:
    """Those of topics of which the group has brought others into objects. Kafka adds partitions behind the others."""
    others = {TopicPartition(topic, number) for topic, last in partitions for number in range(last)} - {*partitions}
    found = await committed(brokers, group_id, others) if others else {}
    at_work = set()
    for partition, position in found.items():
        if isinstance(position, BaseException):
            raise position
        if position is not None and position.mark:
            at_work.add(partition.topic)
    return {partition for partition in partitions if partition.topic in at_work}


def time_of(start: str) -> int:
    """``kafka.start`` as Kafka has it: milliseconds since the epoch, or a number that stands for an end of the log."""
    if start in {"earliest", "latest"}:
        return EARLIEST if start == "earliest" else LATEST
    try:
        when = msgspec.convert(start, datetime)
    except msgspec.ValidationError:
        when = None
    if when is None or when.tzinfo is None:
        hint = "give earliest, latest, or a time such as 2026-01-31T00:00:00Z"
        raise ConfigError(f"kafka.start = {start} is not a place to start", hint=hint)
    return max(0, (when - _EPOCH) // timedelta(milliseconds=1))


async def offsets_at(brokers: Brokers, times: Mapping[TopicPartition, int], isolation: int) -> Answers[int]:
    """Ask each partition's leader; -1 where no record is as young."""
    answers: dict[TopicPartition, int | BaseException] = {}
    by_leader: dict[int, dict[str, list[tuple[int, int]]]] = defaultdict(lambda: defaultdict(list))
    for partition, time in times.items():
        if (node := brokers.leader(partition)) is None:
            answers[partition] = kafka_errors.LeaderNotAvailableError(str(partition))
        else:
            by_leader[node][partition.topic].append((partition.partition, time))
    tasks = [_ask_leader(brokers, node, topics, isolation) for node, topics in by_leader.items()]
    for part in await asyncio.gather(*tasks):
        answers |= part
    return answers


async def _ask_leader(
    brokers: Brokers, node: int, topics: Mapping[str, list[tuple[int, int]]], isolation: int
) -> Answers[int]:
    try:
        response = await brokers.ask_broker(node, OffsetRequest(-1, isolation, list(topics.items())))
    except FAILURES as error:
        brokers.refresh()
        return {TopicPartition(topic, number): error for topic, parts in topics.items() for number, _ in parts}
    answers: dict[TopicPartition, int | BaseException] = {}
    for topic, parts in response.topics:
        for number, code, _, offset in parts:
            refusal, partition = kafka_errors.for_code(code), TopicPartition(topic, number)
            if refusal is kafka_errors.NoError:
                answers[partition] = offset
            else:
                answers[partition] = refusal(str(partition))
                brokers.refresh()
    return answers
