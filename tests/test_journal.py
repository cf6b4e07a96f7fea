"""The journal: group commit, its bound, a full disk."""

import asyncio
import os
import sqlite3
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ingestd.core.errors import JournalError, JournalFullError
from ingestd.core.records import Position, UnsentRecord
from ingestd.sources.journal import file as journal_file
from ingestd.sources.journal import journal as journal_module
from ingestd.sources.journal.file import JournalFile, Note
from ingestd.sources.journal.journal import Journal
from tests.journal_world import MIB, opened, record, sizes, values


async def threads_end() -> None:
    for thread in threading.enumerate():
        if thread.name == "journal":
            await asyncio.to_thread(thread.join, 60)
            assert not thread.is_alive()


async def fill(journal: Journal, records: Sequence[UnsentRecord]) -> None:
    """Until it is full. It stays within its bound."""
    while True:
        await journal.append(records)
        assert sum(sizes(journal.path.parent).values()) <= journal.max_bytes


@pytest.fixture
async def journal(ram: Path) -> AsyncIterator[Journal]:
    async with opened(ram / "journal.sqlite") as journal:
        yield journal


class Gate:
    """Holds the journal's thread before it writes, and counts the transactions."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open = threading.Event()
        self.reached = threading.Event()
        self.groups: list[int] = []
        write = JournalFile.write

        def gated(file: JournalFile, appends: Sequence[journal_file.EncodedRecords], *more: Any) -> None:
            self.reached.set()
            assert self.open.wait(60)
            self.groups.append(len(appends))
            write(file, appends, *more)

        monkeypatch.setattr(JournalFile, "write", gated)

    async def wait(self) -> None:
        assert await asyncio.to_thread(self.reached.wait, 60)


# -- appends


async def test_gives_consecutive_offsets_in_the_order_of_the_calls(journal: Journal) -> None:
    ranges = await asyncio.gather(*(journal.append([record(b"%d" % n)] * (1 + n % 3)) for n in range(20)))
    assert [it.start for it in ranges] == [sum(1 + n % 3 for n in range(number)) for number in range(20)]
    found = await journal.read(0, 100, MIB)
    assert [it.offset for it in found] == list(range(journal.next_offset))
    assert [found[it.start].value for it in ranges] == [b"%d" % n for n in range(20)]


async def test_an_append_of_nothing_takes_no_offset(journal: Journal) -> None:
    await journal.append([record()])
    assert await journal.append([]) == range(1, 1)


async def test_commits_all_that_waits_at_once(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch)
    first = asyncio.create_task(journal.append([record()]))
    await gate.wait()
    others = [asyncio.create_task(journal.append([record()])) for _ in range(50)]
    await asyncio.sleep(0)
    gate.open.set()
    await asyncio.gather(first, *others)
    assert gate.groups == [1, 50]


async def test_a_group_has_a_bound(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "GROUP_RECORDS", 10)
    gate = Gate(monkeypatch)
    first = asyncio.create_task(journal.append([record()]))
    await gate.wait()
    others = [asyncio.create_task(journal.append([record()] * 5)) for _ in range(5)]
    large = [asyncio.create_task(journal.append([record(b"x" * 700_000)])) for _ in range(4)]
    await asyncio.sleep(0)
    gate.open.set()
    await asyncio.gather(first, *others, *large)
    assert gate.groups == [1, 2, 2, 3, 2]


async def test_answers_only_after_the_transaction(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch)
    append = asyncio.create_task(journal.append([record()]))
    waiting = asyncio.create_task(journal.wait_for(0))
    await gate.wait()
    for _ in range(3):
        await asyncio.sleep(0)
    assert not append.done()
    assert not waiting.done()
    assert journal.next_offset == 0
    gate.open.set()
    assert await append == range(1)
    await waiting


async def test_a_cancelled_append_takes_no_answer_from_the_others(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch)
    under_way = asyncio.create_task(journal.append([record(b"under way")]))
    await gate.wait()
    waits = asyncio.create_task(journal.append([record(b"cancelled")]))
    others = [asyncio.create_task(journal.append([record(b"%d" % n)])) for n in range(3)]
    await asyncio.sleep(0)
    under_way.cancel()
    waits.cancel()
    await asyncio.sleep(0)
    gate.open.set()
    assert await asyncio.gather(*others) == [range(1, 2), range(2, 3), range(3, 4)]
    assert values(await journal.read(0, 10, MIB)) == [b"under way", b"0", b"1", b"2"]


async def test_a_write_that_fails_is_told_to_all_of_its_group_and_the_next_one_succeeds(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert = JournalFile._insert

    def fail(file: JournalFile, appends: Sequence[journal_file.EncodedRecords]) -> int:
        insert(file, appends)
        raise sqlite3.OperationalError("disk I/O error")

    await journal.append([record(b"before")])
    with monkeypatch.context() as patch:
        patch.setattr(JournalFile, "_insert", fail)
        found = await asyncio.gather(*(journal.append([record()]) for _ in range(3)), return_exceptions=True)
    assert [type(it) for it in found] == [JournalError] * 3
    assert "disk I/O error" in (journal.error or "")
    assert journal.next_offset == 1
    assert await journal.append([record(b"after")]) == range(1, 2)
    assert journal.error is None
    assert values(await journal.read(0, 10, MIB)) == [b"before", b"after"]


async def test_bounds_what_waits_for_a_slow_disk(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "PENDING_BYTES", 1000)
    gate = Gate(monkeypatch)
    first = asyncio.create_task(journal.append([record(b"x" * 900)]))
    await gate.wait()
    with pytest.raises(JournalError, match="too slow"):
        await journal.append([record(b"x" * 900)])
    gate.open.set()
    await first
    await journal.append([record(b"x" * 900)])
    await journal.append([record(b"x" * 2000)])  # larger than the bound, but nothing waits


async def test_tells_of_a_disk_that_does_not_answer(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch)
    append = asyncio.create_task(journal.append([record()]))
    await gate.wait()
    errors = [journal.error]
    monkeypatch.setattr(journal_module, "STALL_S", -1.0)
    errors.append(journal.error)
    gate.open.set()
    await append
    errors.append(journal.error)
    assert errors == [None, f"the disk of the journal {journal.path} has not answered for 0 s", None]


# -- reads


async def test_reads_no_more_than_asked_for_but_at_least_one(journal: Journal) -> None:
    await journal.append([record(b"x" * 100)] * 10)
    await journal.append([record(b"x" * 100)] * 10)
    assert [it.offset for it in await journal.read(8, 4, MIB)] == [8, 9, 10, 11]
    assert [it.offset for it in await journal.read(8, 100, 350)] == [8, 9, 10]
    assert [it.offset for it in await journal.read(8, 100, 1)] == [8]
    assert await journal.read(20, 100, 1) == []


@pytest.mark.parametrize("offset", [0, 2, 6])
async def test_reads_nothing_in_place_of_what_it_does_not_have(journal: Journal, offset: int) -> None:
    await journal.append([record()] * 5)
    await journal.discard(3)
    with pytest.raises(JournalError, match=f"3-5, and {offset} was"):
        await journal.read(offset, 1, 1)


async def test_notices_a_record_that_was_changed_on_the_disk(ram: Path) -> None:
    path = ram / "journal.sqlite"
    async with opened(path) as journal:
        await journal.append([record(b"good" * 10)])
    content = path.read_bytes()
    assert b"goodgood" in content
    path.write_bytes(content.replace(b"goodgood", b"goodgoof", 1))
    async with opened(path) as journal:
        with pytest.raises(JournalError, match=r"is damaged: the checksum of records 0 .*sqlite3 FILE \.recover"):
            await journal.read(0, 1, MIB)


# -- offsets, positions


async def test_never_uses_an_offset_twice_even_when_all_records_are_gone(ram: Path) -> None:
    path = ram / "journal.sqlite"
    async with opened(path) as journal:
        await journal.append([record()] * 7)
        await journal.discard(7)
        assert (journal.first_offset, journal.next_offset, journal.oldest_timestamp) == (7, 7, None)
    async with opened(path) as journal:
        assert await journal.append([record()]) == range(7, 8)


async def test_discards_no_more_than_there_is(journal: Journal) -> None:
    await journal.append([record()] * 3)
    await journal.discard(100)
    assert (journal.first_offset, journal.next_offset) == (3, 3)
    assert await journal.append([record()]) == range(3, 4)
    await journal.discard(1)
    assert journal.first_offset == 3


async def test_discards_in_parts(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others get their turn in between: to free pages takes time."""
    monkeypatch.setattr(journal_file, "DISCARD_SEGMENTS", 3)
    for _ in range(10):
        await journal.append([record()] * 2)
    parts = []
    discard = JournalFile.discard

    def recorded(file: JournalFile, below: int) -> bool:
        is_done = discard(file, below)
        parts.append(file.state.first_offset)
        return is_done

    monkeypatch.setattr(JournalFile, "discard", recorded)
    await journal.discard(19)
    assert parts == [8, 16, 19]
    assert [it.offset for it in await journal.read(19, 9, MIB)] == [19]


async def test_keeps_the_position_that_was_committed_last(ram: Path) -> None:
    path = ram / "journal.sqlite"
    async with opened(path) as journal:
        assert journal.committed() is None
        for offset in (5, 4):
            await journal.commit(Position(offset, "tag", "id", 3))
        assert journal.committed() == Position(4, "tag", "id", 3)
    async with opened(path) as journal:
        assert journal.committed() == Position(4, "tag", "id", 3)


async def test_a_note_is_kept_with_its_records_or_neither_is(ram: Path) -> None:
    async with opened(ram / "journal.sqlite", MIB) as journal:
        assert await journal.note("name") is None
        with pytest.raises(JournalFullError):
            await journal.append_noted([record()], Note("name", "x" * MIB))
        with pytest.raises(JournalFullError):
            await journal.append_noted([record(b"x" * MIB)], Note("name", "first"))
        assert (journal.next_offset, await journal.note("name")) == (0, None)
        for text in ("first", "second"):
            await journal.append_noted([record(text.encode())], Note("name", text))
        await journal.append_noted([record()], Note("other", "of another"))
    async with opened(ram / "journal.sqlite", MIB) as journal:
        assert (await journal.note("name"), await journal.note("other")) == ("second", "of another")
        assert values(await journal.read(0, 10, MIB)) == [b"first", b"second", b"{}"]


async def test_tells_the_age_of_its_oldest_record(ram: Path) -> None:
    async with opened(ram / "journal.sqlite") as journal:
        for timestamp in (3000, 1000, 2000):
            await journal.append([record(timestamp=timestamp)])
        assert journal.oldest_timestamp == 3000
        await journal.discard(1)
        assert journal.oldest_timestamp == 1000
    async with opened(ram / "journal.sqlite") as journal:
        assert journal.oldest_timestamp == 1000


# -- bounds


@pytest.mark.parametrize("size", [10, 3000, 5000, 100_000])
async def test_stays_within_its_bytes_and_goes_on_once_there_is_room(ram: Path, size: int) -> None:
    path, max_bytes = ram / "journal.sqlite", 1 * MIB
    async with opened(path, max_bytes) as journal:
        count = 0
        for _ in range(2):
            with pytest.raises(JournalFullError, match="full"):
                await fill(journal, [record(os.urandom(size))] * max(1, 2000 // size))
            assert size > 10_000 or "is full" in (journal.error or "")
            assert len(await journal.read(journal.first_offset, 1, 1)) == 1
            assert journal.next_offset - journal.first_offset > 0.5 * max_bytes / (size + 50)
            count = journal.next_offset
            await journal.discard(count)
            assert journal.error is None
            assert journal.size_bytes < 40_000
        assert await journal.append([record(os.urandom(size))]) == range(count, count + 1)


def test_what_was_not_foreseen_meets_the_bound_of_the_file(ram: Path) -> None:
    with closing(JournalFile(ram / "journal.sqlite", MIB)) as file:
        some = [journal_file.encode([record(bytes(100_000))])]
        for _ in range(7):
            file.write(some)
        with pytest.raises(JournalFullError, match="database or disk is full"):
            file.write(some)
        assert sum(sizes(ram).values()) <= MIB
        assert file.discard(7)
        file.write(some)


async def test_uses_freed_pages_again(ram: Path) -> None:
    async with opened(ram / "journal.sqlite", 4 * MIB) as journal:
        for _ in range(40):
            await journal.append([record(b"x" * 100_000)] * 5)
            await journal.discard(journal.next_offset)
    assert (ram / "journal.sqlite").stat().st_size < 2 * MIB


async def test_a_journal_that_is_larger_than_its_bound_is_drained(ram: Path) -> None:
    path = ram / "journal.sqlite"
    async with opened(path) as journal:
        await journal.append([record(b"x" * 100_000)] * 50)
    async with opened(path, 1 * MIB) as journal:
        with pytest.raises(JournalFullError):
            await journal.append([record()])
        assert len(await journal.read(0, 100, 16 * MIB)) == 50
        await journal.commit(Position(50))
        await journal.discard(50)
        assert await journal.append([record()]) == range(50, 51)


async def test_a_disk_that_is_nearly_full_takes_positions_but_no_records(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    await journal.append([record()] * 3)
    monkeypatch.setattr(journal_module, "PROBE_S", 0.01)
    with monkeypatch.context() as patch:
        patch.setattr(journal_file, "FREE_BYTES", 1 << 60)
        append, commit = await asyncio.gather(
            journal.append([record()]), journal.commit(Position(2)), return_exceptions=True
        )
        assert isinstance(append, JournalFullError)
        assert commit is None
        assert "free" in (journal.error or "")
        await journal.discard(2)
        assert (journal.first_offset, journal.next_offset) == (2, 3)
    probed = threading.Event()
    write = JournalFile.write

    def tell(file: JournalFile, appends: Sequence[journal_file.EncodedRecords], *more: Any) -> None:
        write(file, appends, *more)
        probed.set()

    monkeypatch.setattr(JournalFile, "write", tell)
    assert await asyncio.to_thread(probed.wait, 60)  # although nobody appends
    await journal.read(2, 1, 1)  # is answered later
    assert journal.error is None


async def test_a_disk_without_any_room_takes_positions_and_discards(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They go where the files have their place already."""
    for _ in range(30):
        await journal.append([record(b"x" * 10_000)])
    monkeypatch.setattr(journal_file, "FREE_BYTES", 1 << 60)
    with pytest.raises(JournalFullError):
        await journal.append([record()])
    await journal.read(0, 1, 1)  # after the checkpoint
    before = sizes(journal.path.parent)
    for offset in range(1, 31):
        await journal.commit(Position(offset))
        await journal.discard(offset)
    assert sizes(journal.path.parent) == before
    for offset in range(30, 50):  # and records, once they have freed some
        assert await journal.append([record(b"x" * 10_000)]) == range(offset, offset + 1)
    await journal.read(50, 1, 1)
    assert sizes(journal.path.parent) == before
    with pytest.raises(JournalFullError):
        await journal.append([record(b"x" * 100_000)])


# -- life


async def test_close_finishes_what_waits_and_refuses_more(ram: Path) -> None:
    journal = Journal(ram / "journal.sqlite", MIB)
    await journal.open()
    appends = [asyncio.create_task(journal.append([record()])) for _ in range(5)]
    waiting = asyncio.create_task(journal.wait_for(100))
    await asyncio.sleep(0)
    closing_twice = asyncio.gather(journal.close(), journal.close())
    await asyncio.sleep(0)
    with pytest.raises(JournalError, match="is closed"):
        await journal.append([record()])
    await closing_twice
    assert [await it for it in appends] == [range(n, n + 1) for n in range(5)]
    with pytest.raises(JournalError, match="is closed"):
        await asyncio.wait_for(waiting, 60)
    with pytest.raises(JournalError, match="is closed"):
        await journal.read(0, 1, 1)
    await journal.close()
    assert (journal.first_offset, journal.next_offset) == (0, 5)  # still on metrics
    assert "is closed" in (journal.error or "")


async def test_can_be_opened_again_as_if_it_were_new(ram: Path) -> None:
    journal = Journal(ram / "journal.sqlite", MIB)
    for number in range(3):
        await journal.open()
        waiting = asyncio.create_task(journal.wait_for(100))
        assert await journal.append([record()]) == range(number, number + 1)
        await journal.close()
        with pytest.raises(JournalError, match="is closed"):
            await journal.append([record(bytes(500_000))])
        await journal.open()
        assert journal._pending_bytes == 0
        await journal.close()
        with pytest.raises(JournalError, match="is closed"):
            await waiting


async def test_an_open_that_is_cancelled_keeps_no_lock(ram: Path) -> None:
    path = ram / "journal.sqlite"
    opening = asyncio.create_task(Journal(path, MIB).open())
    await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    await threads_end()
    async with opened(path) as journal:
        assert journal.next_offset == 0


async def test_a_thread_whose_loop_has_ended_closes_the_file(ram: Path) -> None:
    path = ram / "journal.sqlite"

    def leave() -> Journal:
        async def leave_open() -> Journal:
            journal = Journal(path, MIB)
            await journal.open()
            return journal

        return asyncio.run(leave_open())

    left = await asyncio.to_thread(leave)
    left._requests.put(journal_module._Call(asyncio.get_running_loop().create_future(), lambda file: file.state))
    await threads_end()
    async with opened(path):
        pass
