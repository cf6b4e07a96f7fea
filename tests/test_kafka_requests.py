"""How the Kafka source commits and asks, against a fake coordinator."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from types import SimpleNamespace
from typing import Any, TypeVar, cast

import pytest
from aiokafka.errors import (
    IllegalGenerationError,
    InvalidGroupIdError,
    KafkaConnectionError,
    KafkaError,
    NotCoordinatorForGroupError,
    OffsetMetadataTooLargeError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)
from aiokafka.protocol.commit import OffsetCommitRequest, OffsetCommitRequest_v3

from ingestd.core.errors import SourceError
from ingestd.core.records import Position, TopicPartition
from ingestd.sources.error_state import ErrorState
from ingestd.sources.kafka import commits as commits_module
from ingestd.sources.kafka import retry as retry_module
from ingestd.sources.kafka.commits import Commits
from ingestd.sources.kafka.group_consumer import GroupConsumer
from ingestd.sources.kafka.requests import Answers, RequestBatcher, committed

T = TypeVar("T")

P0, P1 = TopicPartition("t", 0), TopicPartition("u", 1)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commits_module, "_RETRY_MAX_S", 0.001)
    monkeypatch.setattr(retry_module, "RETRY_MAX_S", 0.001)


class Coordinator:
    """Answers when `gate` is open: with the codes of `refusals`, one mapping a request, and then with success."""

    def __init__(self) -> None:
        self.owned = {P0, P1}
        self.generation, self.member_id = 7, "me"
        self.gate = asyncio.Event()
        self.gate.set()
        self.refusals: list[Mapping[TopicPartition, type[KafkaError]] | KafkaError] = []
        self.requests: list[OffsetCommitRequest_v3] = []
        self.forgotten = 0
        self.asked = asyncio.Event()
        self.underway = 0

    async def ask_coordinator(self, request: OffsetCommitRequest) -> Any:
        struct = request.build(OffsetCommitRequest_v3)
        self.requests.append(struct)
        self.underway += 1
        assert self.underway == 1
        self.asked.set()
        await self.gate.wait()
        self.underway -= 1
        refusal = self.refusals.pop(0) if self.refusals else {}
        if isinstance(refusal, KafkaError):
            raise refusal
        codes = {partition: error.errno for partition, error in refusal.items()}
        topics = [
            (topic, [(n, codes.get(TopicPartition(topic, n), 0)) for n, *_ in parts]) for topic, parts in struct.topics
        ]
        return SimpleNamespace(topics=topics)

    def forget_coordinator(self) -> None:
        self.forgotten += 1

    @property
    def sent(self) -> list[dict[TopicPartition, tuple[int, str]]]:
        return [
            {TopicPartition(topic, n): (offset, mark) for topic, parts in request.topics for n, offset, mark in parts}
            for request in self.requests
        ]


class Group:
    """Commits to a fake coordinator, in the background."""

    def __init__(self) -> None:
        self.coordinator, self.errors = Coordinator(), ErrorState()
        self.commits = Commits("g", self.errors)
        self._tasks: set[asyncio.Task[bool]] = set()

    def commit(self, partition: TopicPartition, offset: int) -> asyncio.Task[bool]:
        member = cast(GroupConsumer, self.coordinator)
        task = asyncio.create_task(self.commits.commit(member, partition, Position(offset, f"m{offset}")))
        self._tasks.add(task)
        return task

    async def underway(self) -> None:
        async with asyncio.timeout(10):
            await self.coordinator.asked.wait()


async def together(*each: Awaitable[T]) -> list[T]:
    return list(await asyncio.gather(*each))


@pytest.fixture
async def group() -> Group:
    return Group()


# -- commits


async def test_commits_what_queued_up_behind_a_request_in_the_next_one(group: Group) -> None:
    group.coordinator.gate.clear()
    first = group.commit(P0, 1)
    await group.underway()
    rest = [group.commit(P0, 2), group.commit(P1, 5), group.commit(P0, 3)]
    await asyncio.sleep(0)
    group.coordinator.gate.set()
    assert await together(first, *rest) == [True] * 4
    assert group.coordinator.sent == [{P0: (1, "m1")}, {P0: (3, "m3"), P1: (5, "m5")}]


async def test_commits_with_the_generation_of_the_assignment(group: Group) -> None:
    assert await group.commit(P0, 1)
    (request,) = group.coordinator.requests
    assert (request.consumer_group_generation_id, request.consumer_id) == (7, "me")


async def test_a_cancelled_caller_does_not_stop_its_commit(group: Group) -> None:
    group.coordinator.gate.clear()
    caller = group.commit(P0, 1)
    await group.underway()
    caller.cancel()
    behind = group.commit(P0, 2)
    await asyncio.sleep(0)
    group.coordinator.gate.set()
    assert await behind
    assert group.coordinator.sent == [{P0: (1, "m1")}, {P0: (2, "m2")}]


async def test_a_lost_answer_is_followed_by_the_same_commit_again(group: Group) -> None:
    group.coordinator.refusals = [KafkaConnectionError("lost")]
    assert await group.commit(P0, 1)
    assert group.coordinator.sent == [{P0: (1, "m1")}] * 2
    assert group.errors.error is None


async def test_a_newer_position_takes_the_place_of_one_that_is_tried_again(group: Group) -> None:
    group.coordinator.refusals = [{P0: NotCoordinatorForGroupError}]
    group.coordinator.gate.clear()
    first = group.commit(P0, 1)
    await group.underway()
    second = group.commit(P0, 2)
    await asyncio.sleep(0)
    group.coordinator.gate.set()
    assert await together(first, second) == [True, True]
    assert group.coordinator.sent == [{P0: (1, "m1")}, {P0: (2, "m2")}]
    assert group.coordinator.forgotten == 1


async def test_a_refused_generation_means_lost(group: Group) -> None:
    group.coordinator.refusals = [{P0: IllegalGenerationError, P1: IllegalGenerationError}]
    assert await together(group.commit(P0, 1), group.commit(P1, 1)) == [False, False]


async def test_what_one_partition_is_refused_for_does_not_touch_the_others(group: Group) -> None:
    group.coordinator.gate.clear()
    group.coordinator.refusals = [{}] + [{P0: UnknownTopicOrPartitionError}] * 3
    first = group.commit(P1, 1)
    await group.underway()
    refused, other = group.commit(P0, 1), group.commit(P1, 2)
    await asyncio.sleep(0)
    group.coordinator.gate.set()
    assert await together(first, other) == [True, True]
    assert "UnknownTopicOrPartitionError" in str(group.errors.error)
    assert await refused


async def test_missing_rights_are_waited_for_and_logged_as_an_error_once(
    group: Group, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "ingestd")
    group.coordinator.refusals = [{P0: TopicAuthorizationFailedError}] * 3
    assert await group.commit(P0, 1)
    assert [record.levelname for record in caplog.records] == ["ERROR"]


async def test_a_mark_that_is_too_long_is_an_error(group: Group) -> None:
    group.coordinator.refusals = [{P0: OffsetMetadataTooLargeError}]
    with pytest.raises(SourceError, match=r"offset\.metadata\.max\.bytes"):
        await group.commit(P0, 1)


async def test_what_was_dropped_is_not_sent(group: Group) -> None:
    group.coordinator.gate.clear()
    first = group.commit(P0, 1)
    await group.underway()
    queued = group.commit(P1, 1)
    await asyncio.sleep(0)
    group.coordinator.owned.clear()
    group.commits.drop([P0, P1])
    assert not await queued
    group.coordinator.gate.set()
    assert await first, "it was sent while the partition was ours, and accepted"
    assert not await group.commit(P0, 2)
    assert group.coordinator.sent == [{P0: (1, "m1")}]


async def test_a_commit_is_not_repeated_once_the_partition_is_lost(group: Group) -> None:
    group.coordinator.refusals = [KafkaConnectionError("lost")]
    group.coordinator.gate.clear()
    first = group.commit(P0, 1)
    await group.underway()
    group.coordinator.owned.clear()
    group.coordinator.gate.set()
    assert not await first
    assert len(group.coordinator.requests) == 1


async def test_close_finishes_what_is_under_way(group: Group) -> None:
    group.coordinator.gate.clear()
    first = group.commit(P0, 1)
    await group.underway()
    closing = asyncio.create_task(group.commits.close(60))
    group.coordinator.gate.set()
    await closing
    assert await first


async def test_close_gives_up_in_time(group: Group) -> None:
    group.coordinator.gate.clear()
    first = group.commit(P0, 1)
    await group.underway()
    queued = group.commit(P1, 1)
    await asyncio.sleep(0)
    await group.commits.close(0)
    assert await together(first, queued) == [False, False]


# -- requests for many partitions


class Asked:
    """Answers with the partition's number, after the failures that are left to it."""

    def __init__(self, *failures: Exception | Mapping[TopicPartition, BaseException]) -> None:
        self.failures = list(failures)
        self.asked: list[set[TopicPartition]] = []
        self.errors = ErrorState()
        self.questions = RequestBatcher[TopicPartition, int]("asking", self, self.errors)

    async def __call__(self, partitions: Collection[TopicPartition]) -> Answers[int]:
        self.asked.append(set(partitions))
        failure = self.failures.pop(0) if self.failures else {}
        if isinstance(failure, Exception):
            raise failure
        return {partition: partition.partition for partition in partitions} | dict(failure)


async def test_what_is_asked_at_once_is_one_request() -> None:
    asked = Asked()
    partitions = [TopicPartition("t", number) for number in range(200)]
    assert await asyncio.gather(*map(asked.questions.get, partitions)) == list(range(200))
    assert asked.asked == [set(partitions)]


async def test_asks_again_until_there_is_an_answer() -> None:
    asked = Asked(KafkaConnectionError("down"), OSError("down"), {P0: NotCoordinatorForGroupError()})
    assert await together(asked.questions.get(P0), asked.questions.get(P1)) == [0, 1]
    assert asked.asked == [{P0, P1}, {P0, P1}, {P0, P1}, {P0}]
    assert asked.errors.error is None


async def test_no_answer_is_not_taken_for_an_empty_one() -> None:
    asked = Asked()
    asked.questions = RequestBatcher("asking", _nothing_then(asked), asked.errors)
    assert await asked.questions.get(P0) == 0
    assert asked.asked == [{P0}]


def _nothing_then(asked: Asked) -> Callable[[Collection[TopicPartition]], Any]:
    silent = [True]

    async def ask(partitions: Collection[TopicPartition]) -> Answers[int]:
        return {} if silent and silent.pop() else await asked(partitions)

    return ask


async def test_what_no_retry_mends_reaches_those_it_concerns() -> None:
    asked = Asked({P0: InvalidGroupIdError()})
    results = await asyncio.gather(asked.questions.get(P0), asked.questions.get(P1), return_exceptions=True)
    assert isinstance(results[0], SourceError)
    assert results[1] == 1


async def test_what_nobody_waits_for_any_more_is_not_asked_again() -> None:
    asked = Asked(KafkaConnectionError("down"))
    gone = asyncio.create_task(asked.questions.get(P0))
    await asyncio.sleep(0)
    gone.cancel()
    assert await asked.questions.get(P1) == 1
    assert asked.asked[-1] == {P1}


@pytest.mark.parametrize("place", ["answer", "partition"])
async def test_an_error_code_is_noticed_where_committed_offsets_are_read(place: str) -> None:
    code = NotCoordinatorForGroupError.errno
    partition_code = code if place == "partition" else 0
    answer = SimpleNamespace(
        error_code=code if place == "answer" else 0,
        topics=[] if place == "answer" else [("t", [(0, -1, "", partition_code)])],
    )

    async def ask_coordinator(_: Any) -> Any:
        return answer

    member = cast(GroupConsumer, SimpleNamespace(ask_coordinator=ask_coordinator, forget_coordinator=lambda: None))
    try:
        found: object = (await committed(member, "g", [P0]))[P0]
    except NotCoordinatorForGroupError as error:
        found = error
    assert isinstance(found, NotCoordinatorForGroupError)
