"""Commits positions: one request at a time, in order, never cancelled once it is sent.

The requests are our own. aiokafka's ``commit()`` repeats a failed one under whatever generation it has by then, so that
it is accepted for a partition that is no longer ours; it tells only the first error of a request for many partitions;
and it would repeat the commit of a deleted topic for ever, in front of all others.
"""

import asyncio
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from aiokafka import errors as kafka_errors

from ingestd.core.records import Position, TopicPartition
from ingestd.sources.error_state import ErrorState
from ingestd.sources.kafka._aiokafka import OffsetCommitRequest
from ingestd.sources.kafka.errors import FAILURES, describe, log_level, permanent_error
from ingestd.sources.kafka.group_consumer import GroupConsumer
from ingestd.sources.kafka.requests import commit_metadata
from ingestd.sources.kafka.retry import Backoff

# Short: while the commit of one partition is refused for a while, those of others go with its next try.
_RETRY_MAX_S = 1.0
_NOT_OURS = (
    kafka_errors.UnknownMemberIdError,
    kafka_errors.IllegalGenerationError,
    kafka_errors.RebalanceInProgressError,
)
_OTHER_COORDINATOR = (
    kafka_errors.GroupCoordinatorNotAvailableError,
    kafka_errors.NotCoordinatorForGroupError,
    kafka_errors.RequestTimedOutError,
)


@dataclass
class _PendingCommit:
    """The newest position of a partition to commit, and the callers that wait for it or for an older one."""

    consumer: GroupConsumer
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


_PendingCommits = dict[TopicPartition, _PendingCommit]


class Commits:
    """Queues positions to commit, at most one per partition, and sends them."""

    def __init__(self, group_id: str, errors: ErrorState) -> None:
        self._group_id = group_id
        self._errors = errors
        self._pending: _PendingCommits = {}
        self._task: asyncio.Task[None] | None = None

    async def commit(self, consumer: GroupConsumer, partition: TopicPartition, position: Position) -> bool:
        """False where the partition is not, or no longer, this consumer's. Cancelling the caller does not stop it."""
        if partition not in consumer.owned:
            return False
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        older = self._pending.get(partition)
        self._pending[partition] = _PendingCommit(consumer, position, [*(older.futures if older else ()), future])
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="commits")
        return await future

    def drop(self, partitions: Collection[TopicPartition]) -> None:
        """Refuse the commits of these partitions that are not sent yet: they are no longer ours."""
        for partition in partitions:
            if (pending := self._pending.pop(partition, None)) is not None:
                pending.answer(False)

    async def close(self, within_s: float) -> None:
        """Finish the commits that were accepted, within so many seconds; refuse the rest."""
        if self._task is not None and not self._task.done():
            await asyncio.wait({self._task}, timeout=within_s)
            self._task.cancel()
            await asyncio.wait({self._task})
        self.drop(list(self._pending))

    async def _run(self) -> None:
        delay = Backoff(_RETRY_MAX_S)
        while self._pending:
            sent, self._pending = self._pending, {}
            try:
                failed = await self._send(sent)
            except Exception as error:  # noqa: BLE001  every caller must get it, whatever it is
                for pending in sent.values():
                    pending.fail(error)
                continue
            except asyncio.CancelledError:
                for pending in sent.values():
                    pending.answer(False)
                raise
            if not failed:
                delay.reset()
                self._errors.end("commit")
                continue
            self._put_back(failed)
            await delay.wait()

    def _put_back(self, commits: _PendingCommits) -> None:
        for partition, pending in commits.items():
            if (newer := self._pending.get(partition)) is not None:
                newer.futures = pending.futures + newer.futures
            else:
                self._pending[partition] = pending

    async def _send(self, commits: _PendingCommits) -> _PendingCommits:
        """Send the commits of partitions that are still ours in one request; returns those to retry."""
        ours = {partition: pending for partition, pending in commits.items() if partition in pending.consumer.owned}
        for partition in commits.keys() - ours.keys():
            commits[partition].answer(False)
        if not ours:
            return {}
        consumer = next(iter(ours.values())).consumer
        try:
            answer = await consumer.ask_coordinator(self._request(consumer, ours))
        except FAILURES as error:
            return self._failed(ours, error)
        codes = {TopicPartition(topic, number): code for topic, parts in answer.topics for number, code in parts}
        return self._handle_codes(consumer, ours, codes)

    def _request(self, consumer: GroupConsumer, commits: _PendingCommits) -> OffsetCommitRequest:
        """With the generation in which the partitions became ours: the broker refuses it once there is another."""
        topics: dict[str, list[tuple[int, int, str]]] = defaultdict(list)
        for (topic, number), pending in commits.items():
            topics[topic].append((number, pending.position.offset, commit_metadata(pending.position)))
        retention = OffsetCommitRequest.DEFAULT_RETENTION_TIME
        generation, member_id = consumer.generation, consumer.member_id
        return OffsetCommitRequest(self._group_id, generation, member_id, retention, list(topics.items()))

    def _handle_codes(
        self, consumer: GroupConsumer, commits: _PendingCommits, codes: Mapping[TopicPartition, int]
    ) -> _PendingCommits:
        failed: _PendingCommits = {}
        for partition, pending in commits.items():
            error = kafka_errors.for_code(codes.get(partition, kafka_errors.UnknownError.errno))
            if error is kafka_errors.NoError:
                pending.answer(True)
            elif issubclass(error, _NOT_OURS):
                pending.answer(False)
            else:
                if issubclass(error, _OTHER_COORDINATOR):
                    consumer.forget_coordinator()
                failed |= self._failed({partition: pending}, error(str(partition)))
        return failed

    def _failed(self, commits: _PendingCommits, error: BaseException) -> _PendingCommits:
        """The commits to retry: none where retrying cannot help."""
        if (final := permanent_error(error)) is not None:
            for pending in commits.values():
                pending.fail(final)
            return {}
        self._errors.begin("commit", f"commit failed: {describe(error)}", level=log_level(error))
        return commits
