"""The source in memory keeps the contract, and its methods for tests behave like a group."""

from collections.abc import AsyncIterator, Collection, Sequence

import pytest

from ingestd.core.errors import SourceError
from ingestd.core.records import EpochEnd, PlainRecord, Position, TopicPartition
from tests.contract.leader_epoch_contract import EpochWorld, LeaderEpochContract
from tests.contract.source_contract import Reader, RecordingListener, SourceContract, offsets
from tests.fakes.memory_source import MemoryLog, MemorySource

P0, P1 = TopicPartition("t", 0), TopicPartition("t", 1)


def record(offset: int, value: bytes = b"{}") -> PlainRecord:
    return PlainRecord(offset=offset, timestamp=1_700_000_000_000 + offset, value=value)


class TestMemorySource(SourceContract, LeaderEpochContract):
    @pytest.fixture
    async def world(self) -> AsyncIterator[EpochWorld]:
        log = MemoryLog({P0: [], P1: []})
        source, listener = MemorySource(log), RecordingListener()

        async def append(partition: TopicPartition, values: Sequence[bytes]) -> None:
            for value in values:
                log.append(partition, record(log.range(partition).end, value))

        async def create_again() -> None:
            log.create_again()

        async def elect(partition: TopicPartition, end: int | None, values: Sequence[bytes]) -> None:
            log.elect(partition, end)
            await append(partition, values)

        await source.start(listener)
        yield EpochWorld(source, listener, (P0, P1), append, create_again, lambda: MemorySource(log), elect)
        await source.stop()


async def started(log: MemoryLog, listener: RecordingListener | None = None) -> MemorySource:
    source = MemorySource(log, moment=0)
    await source.start(listener or RecordingListener())
    return source


async def test_another_source_reads_on_from_the_same_log() -> None:
    log = MemoryLog({P0: [record(0), record(5), record(9)]})
    first = await started(log)
    assert await first.commit(P0, Position(1, "m"))
    await first.stop()
    second = await started(log)
    position = await second.committed(P0)
    assert position == Position(1, "m")
    second.seek(P0, position.offset)
    assert offsets(await Reader(second).take(P0, 2)) == [5, 9]


async def test_partitions_stay_ours_until_the_listener_let_go_of_them() -> None:
    class Committing(RecordingListener):
        async def on_revoked(self, partitions: Collection[TopicPartition]) -> None:
            self.fetched = await source.fetch()
            self.accepted = await source.commit(P0, Position(1))

    log, listener = MemoryLog({P0: [record(0), record(1)]}), Committing()
    source = await started(log, listener)
    source.seek(P0, 0)
    await source.revoke([P0])
    assert listener.fetched == {}
    assert listener.accepted
    assert not await source.commit(P0, Position(2))
    assert log.commits == {P0: Position(1)}
    assert await source.fetch() == {}


async def test_a_partition_given_back_hands_out_nothing_before_seek() -> None:
    source = await started(MemoryLog({P0: [record(0)]}))
    source.seek(P0, 0)
    source.lose([P0])
    source.assign([P0])
    assert await source.fetch() == {}
    source.seek(P0, 0)
    assert offsets(await Reader(source).take(P0, 1)) == [0]


async def test_refuses_to_seek_in_what_is_not_ours() -> None:
    source = await started(MemoryLog({P0: [record(0)]}))
    await source.revoke([P0])
    with pytest.raises(SourceError, match=r"t\[0\] is not ours"):
        source.seek(P0, 0)


async def test_tells_where_retention_has_overtaken_it() -> None:
    log, listener = MemoryLog({P0: [record(0), record(1), record(2)]}), RecordingListener()
    source = await started(log, listener)
    source.seek(P0, 0)
    log.trim(P0, 2)
    assert await source.log_range(P0) == (2, 3)
    assert (await source.resolve_start(P0)).offset == 2
    assert await source.fetch() == {}
    assert listener.heard[-1] == ("out of range", frozenset({P0}))


def test_the_log_only_grows_at_its_end() -> None:
    log = MemoryLog({P0: [record(3)]})
    with pytest.raises(ValueError, match="below the log's end 4"):
        log.append(P0, record(3))


@pytest.mark.parametrize(
    ("start", "ends"), [(1, [2, 4, 6]), (2, [2, 4, 6]), (3, [3, 4, 6]), (5, [5, 5, 6]), (6, [6, 6, 6])]
)
def test_an_epoch_that_retention_has_removed_ends_where_the_log_begins(start: int, ends: list[int]) -> None:
    """As a broker says: it has forgotten where the epoch ended."""
    log = MemoryLog({P0: [record(0), record(1)]})
    for offset in (2, 4):
        log.elect(P0)
        log.append(P0, record(offset), record(offset + 1))
    log.trim(P0, start)
    assert [log.epoch_end(P0, epoch) for epoch in range(3)] == [EpochEnd(epoch, end) for epoch, end in enumerate(ends)]
