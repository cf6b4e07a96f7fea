"""Commits: one request at a time, in order, never cancelled once it is sent.

The requests are our own. aiokafka's ``commit()`` repeats a failed one under whatever generation it has by then, so that
it is accepted for a partition that is no longer ours; it tells only the first error of a request for many partitions;
and it would repeat the commit of a deleted topic for ever, in front of all others.
"""

import asyncio
import random
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from aiokafka import errors as kafka_errors
from aiokafka.protocol.commit import OffsetCommitRequest

from ingestd.core.backoff import backoff
from ingestd.core.records import Position, TopicPartition
from ingestd.sources.kafka import requests as offsets
from ingestd.sources.kafka.bootstrap import FAILURES, RETRY_INITIAL_S, describe, level, meaning
from ingestd.sources.kafka.error_state import ErrorState
from ingestd.sources.kafka.group_consumer import GroupConsumer

# Short: while one partition's commit is refused for a while, those of others go with its next try.
_RETRY_MAX_S = 1.0
_LOST = (
    kafka_errors.UnknownMemberIdError,
    kafka_errors.IllegalGenerationError,
    kafka_errors.RebalanceInProgressError,
)
_ELSEWHERE = (
    kafka_errors.GroupCoordinatorNotAvailableError,
    kafka_errors.NotCoordinatorForGroupError,
    kafka_errors.RequestTimedOutError,
)


@dataclass
class _Wish:
    """The newest position of a partition that is to be committed, and who waits for it or for an older one."""

    member: GroupConsumer
    position: Position
    futures: list[asyncio.Future[bool]]

    def answer(self, accepted: bool) -> None:
        for future in self.futures:
            if not future.done():
                future.set_result(accepted)

    def fail(self, error: Exception) -> None:
        for future in self.futures:
            if not future.done():
                future.set_exception(error)


_Wishes = dict[TopicPartition, _Wish]


class Commits:
    """What is to be committed and is not yet. At most one position per partition waits."""

    def __init__(self, group_id: str, troubles: ErrorState) -> None:
        self._group_id = group_id
        self._troubles = troubles
        self._waiting: _Wishes = {}
        self._task: asyncio.Task[None] | None = None
        self._random = random.Random()

    async def commit(self, member: GroupConsumer, partition: TopicPartition, position: Position) -> bool:
        """False where the partition is not, or no longer, this member's. Cancelling the caller does not stop it."""
        if partition not in member.owned:
            return False
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        older = self._waiting.get(partition)
        self._waiting[partition] = _Wish(member, position, [*(older.futures if older else ()), future])
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="commits")
        return await future

    def drop(self, partitions: Collection[TopicPartition]) -> None:
        """These are no longer ours: what is not under way is not sent."""
        for partition in partitions:
            if (wish := self._waiting.pop(partition, None)) is not None:
                wish.answer(False)

    async def close(self, within: float) -> None:
        """Finish what was accepted, within so many seconds; the rest is refused."""
        if self._task is not None and not self._task.done():
            await asyncio.wait({self._task}, timeout=within)
            self._task.cancel()
            await asyncio.wait({self._task})
        self.drop(list(self._waiting))

    async def _run(self) -> None:
        attempt = 0
        while self._waiting:
            sent, self._waiting = self._waiting, {}
            try:
                again = await self._send(sent)
            except Exception as error:  # noqa: BLE001  whoever waits must hear of it, whatever it is
                for wish in sent.values():
                    wish.fail(error)
                continue
            except asyncio.CancelledError:
                for wish in sent.values():
                    wish.answer(False)
                raise
            if not again:
                attempt = 0
                self._troubles.end("commit")
                continue
            self._put_back(again)
            await asyncio.sleep(backoff(attempt, RETRY_INITIAL_S, _RETRY_MAX_S, self._random))
            attempt += 1

    def _put_back(self, wishes: _Wishes) -> None:
        for partition, wish in wishes.items():
            if (newer := self._waiting.get(partition)) is not None:
                newer.futures = wish.futures + newer.futures
            else:
                self._waiting[partition] = wish

    async def _send(self, wishes: _Wishes) -> _Wishes:
        """Send what is still ours in one request; what is to be tried again."""
        ours = {partition: wish for partition, wish in wishes.items() if partition in wish.member.owned}
        for partition in wishes.keys() - ours.keys():
            wishes[partition].answer(False)
        if not ours:
            return {}
        member = next(iter(ours.values())).member
        try:
            answer = await member.ask_coordinator(self._request(member, ours))
        except FAILURES as error:
            return self._failed(ours, error)
        codes = {TopicPartition(topic, number): code for topic, parts in answer.topics for number, code in parts}
        return self._judge(member, ours, codes)

    def _request(self, member: GroupConsumer, wishes: Mapping[TopicPartition, _Wish]) -> OffsetCommitRequest:
        """With the generation in which the partitions became ours, which the broker refuses once there is another."""
        topics: dict[str, list[tuple[int, int, str]]] = defaultdict(list)
        for (topic, number), wish in wishes.items():
            topics[topic].append((number, wish.position.offset, offsets.metadata(wish.position)))
        retention = OffsetCommitRequest.DEFAULT_RETENTION_TIME
        return OffsetCommitRequest(self._group_id, member.generation, member.member_id, retention, list(topics.items()))

    def _judge(self, member: GroupConsumer, wishes: _Wishes, codes: Mapping[TopicPartition, int]) -> _Wishes:
        again: _Wishes = {}
        for partition, wish in wishes.items():
            error = kafka_errors.for_code(codes.get(partition, kafka_errors.UnknownError.errno))
            if error is kafka_errors.NoError:
                wish.answer(True)
            elif issubclass(error, _LOST):
                wish.answer(False)
            else:
                if issubclass(error, _ELSEWHERE):
                    member.forget_coordinator()
                again |= self._failed({partition: wish}, error(str(partition)))
        return again

    def _failed(self, wishes: _Wishes, error: BaseException) -> _Wishes:
        if (final := meaning(error)) is not None:
            for wish in wishes.values():
                wish.fail(final)
            return {}
        self._troubles.begin("commit", f"committing fails: {describe(error)}", level=level(error))
        return wishes
