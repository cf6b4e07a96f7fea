"""The journal keeps the contract of sources, with its one partition."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from ingestd.core.errors import JournalError, JournalFullError
from ingestd.core.records import Position, TopicPartition, UnsentRecord
from ingestd.sources.journal.journal import Journal
from ingestd.sources.journal.source import JournalSource
from tests.contract.source_contract import Reader, RecordingListener, SourceContract, World, offsets
from tests.journal_world import record

P0 = TopicPartition("web", 0)


async def remove_and_make_again(journal: Journal) -> None:
    await journal.close()
    journal.path.unlink()
    await journal.open()


class TestJournalSource(SourceContract):
    @pytest.fixture
    async def world(self, ram: Path) -> AsyncIterator[World]:
        journal = Journal(ram / "journal.sqlite", 1 << 24)
        await journal.open()
        source, listener = JournalSource(journal, P0.topic), RecordingListener()

        async def append(partition: TopicPartition, values: Sequence[bytes]) -> None:
            assert partition == P0
            await journal.append([record(value) for value in values])

        async def create_again() -> None:
            await remove_and_make_again(journal)

        await source.start(listener)
        yield World(source, listener, (P0,), append, create_again, lambda: JournalSource(journal, P0.topic))
        await source.stop()
        await journal.close()


@pytest.fixture
async def journal(ram: Path) -> AsyncIterator[Journal]:
    journal = Journal(ram / "journal.sqlite", 1 << 24)
    await journal.open()
    yield journal
    await journal.close()


async def started(journal: Journal, listener: RecordingListener | None = None) -> JournalSource:
    source = JournalSource(journal, P0.topic)
    await source.start(listener or RecordingListener())
    return source


async def test_hands_out_records_as_they_were_appended(journal: Journal) -> None:
    await journal.append([record(b"a", 7), UnsentRecord(5, None, b"b")])
    source = await started(journal)
    source.seek(P0, 0)
    first, second = await Reader(source).take(P0, 2)
    assert (first.timestamp, first.key, first.value, first.headers) == (7, b"key", b"a", (("ingestd-source", b"web"),))
    assert (second.timestamp, second.key, second.value, second.headers) == (5, None, b"b", ())


async def test_names_the_journal_as_what_keeps_the_stream(journal: Journal) -> None:
    source = await started(journal)
    before = source.source_id, await source.stream_id(P0)
    assert before == (f"journal:{journal.journal_id}", journal.journal_id)
    await remove_and_make_again(journal)
    assert source.source_id != before[0]


async def test_discards_what_is_below_the_committed_position_and_nothing_else(journal: Journal) -> None:
    """A record that has landed is needed until then: after a crash the chain looks for its object by its timestamp."""
    await journal.append([record(b"%d" % number) for number in range(5)])
    source = await started(journal)
    source.seek(P0, 0)
    assert len(await Reader(source).take(P0, 5)) == 5
    assert await source.log_range(P0) == (0, 5)
    assert await source.commit(P0, Position(3, "tag"))
    assert await source.log_range(P0) == (3, 5)
    source.seek(P0, 3)
    assert offsets(await Reader(source).take(P0, 2)) == [3, 4]


async def test_a_commit_that_fails_discards_nothing(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(position: Position) -> None:
        raise JournalError("the disk is gone")

    await journal.append([record(), record()])
    source = await started(journal)
    monkeypatch.setattr(journal, "commit", fail)
    with pytest.raises(JournalError):
        await source.commit(P0, Position(2))
    assert await source.log_range(P0) == (0, 2)


async def test_tells_where_records_were_discarded_under_it(journal: Journal) -> None:
    listener = RecordingListener()
    source = await started(journal, listener)
    await journal.append([record()] * 3)
    source.seek(P0, 0)
    await journal.discard(2)
    assert await source.fetch() == {}
    assert listener.heard[-1] == ("out of range", frozenset({P0}))
    assert (await source.resolve_start(P0)).offset == 2
    assert await source.fetch() == {}
    assert len(listener.heard) == 2


async def test_a_fetch_under_way_hands_out_nothing_after_a_seek(journal: Journal) -> None:
    await journal.append([record()] * 4)
    source = await started(journal)
    source.seek(P0, 0)
    fetching = asyncio.create_task(source.fetch())
    await asyncio.sleep(0)
    source.seek(P0, 3)
    assert await fetching == {}
    assert offsets(await Reader(source).take(P0, 1)) == [3]


async def test_a_commit_waits_while_the_disk_is_full(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    full = 2
    commit = journal.commit

    async def commit_once_there_is_room(position: Position) -> None:
        nonlocal full
        full -= 1
        if full >= 0:
            raise JournalFullError("no room")
        assert source.error == "no room"
        assert source.error_since is not None
        await commit(position)

    source = await started(journal)
    await journal.append([record()])
    monkeypatch.setattr(journal, "commit", commit_once_there_is_room)
    monkeypatch.setattr("ingestd.sources.journal.source.RETRY_S", 0)
    assert await source.commit(P0, Position(1))
    assert (source.error, source.error_since) == (None, None)
    assert journal.committed() == Position(1)


async def test_refuses_partitions_of_others(journal: Journal) -> None:
    source, other = await started(journal), TopicPartition(P0.topic, 1)
    assert not await source.commit(other, Position(1))
    assert await source.committed(other) is None
    with pytest.raises(ValueError, match=r"web\[1\]"):
        source.seek(other, 0)
    await source.stop()
    assert not await source.commit(P0, Position(1))


async def test_a_rebuild_begins_again(journal: Journal) -> None:
    listener = RecordingListener()
    source = await started(journal, listener)
    await journal.append([record()])
    source.seek(P0, 0)
    await source.rebuild()
    assert [what for what, _ in listener.heard] == ["assigned", "revoked", "assigned"]
    assert await source.fetch() == {}
    source.seek(P0, 0)
    assert offsets(await Reader(source).take(P0, 1)) == [0]
