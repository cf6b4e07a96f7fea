"""The journal's file: who may read it, and those that it must not use."""

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path

import pytest

from ingestd.core.errors import JournalError
from ingestd.sources.journal import file as journal_file
from ingestd.sources.journal.file import JournalFile
from ingestd.sources.journal.journal import Journal
from tests.journal_world import MIB, opened, record, sizes, values


def contents(folder: Path) -> dict[str, bytes]:
    return {it.name: it.read_bytes() for it in folder.iterdir() if it.is_file()}


@pytest.fixture
async def journal(ram: Path) -> AsyncIterator[Journal]:
    async with opened(ram / "journal.sqlite") as journal:
        yield journal


async def test_only_its_owner_can_read_the_file(ram: Path) -> None:
    async with opened(ram / "a" / "b" / "journal.sqlite") as journal:
        await journal.append([record()])
        files = list(journal.path.parent.iterdir())
        assert sorted(it.name for it in files) == ["journal.sqlite", "journal.sqlite-wal"]
        assert {stat.S_IMODE(it.stat().st_mode) for it in files} == {0o600}
        assert {stat.S_IMODE(it.stat().st_mode) for it in (ram / "a", ram / "a" / "b")} == {0o700}
    assert [it.name for it in (ram / "a" / "b").iterdir()] == ["journal.sqlite"]


@pytest.mark.parametrize("where", ["the same process", "another process"])
async def test_a_second_opener_is_refused(journal: Journal, where: str) -> None:
    await journal.append([record(b"mine")])
    program = f"""if True:
        import asyncio
        from pathlib import Path
        from ingestd.sources.journal.journal import Journal
        asyncio.run(Journal(Path({str(journal.path)!r}), 1 << 20).open())
    """
    for _ in range(2):
        if where == "the same process":
            with pytest.raises(JournalError, match="in use by another process"):
                await Journal(journal.path, 16 * MIB).open()
        ended = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", program], capture_output=True, check=False, text=True
        )
        assert "in use by another process" in ended.stderr
    await journal.append([record(b"as well")])
    assert values(await journal.read(0, 10, MIB)) == [b"mine", b"as well"]


async def test_writes_are_on_the_disk_when_they_are_answered(ram: Path) -> None:
    """SQLite syncs the WAL at each commit in this mode only; readers and the images of a crash cannot tell."""
    file = JournalFile(ram / "journal.sqlite", MIB)
    with closing(file):
        assert file._pragma("journal_mode") == "wal"
        assert file._pragma("synchronous") == 2
        assert file._pragma("locking_mode") == "exclusive"


@pytest.mark.parametrize("gone", ["journal.sqlite", "journal.sqlite-wal"])
async def test_refuses_records_once_its_file_is_gone(journal: Journal, gone: str) -> None:
    await journal.append([record()])
    (journal.path.parent / gone).unlink()
    with pytest.raises(JournalError, match="removed or replaced while it is in use"):
        await journal.append([record()])
    assert len(await journal.read(0, 10, MIB)) == 1
    assert journal.error is not None


def write_text(path: Path) -> None:
    path.write_text("this is a text that somebody wrote by hand\n" * 10)


def write_nothing(path: Path) -> None:
    path.touch()


def write_other_database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE t (a)")


def write_later_version(path: Path) -> None:
    JournalFile(path, MIB).close()
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 2")


def write_directory(path: Path) -> None:
    path.mkdir()


def leave_only_wal(path: Path) -> None:
    Path(f"{path}-wal").write_bytes(b"frames")


def lose_a_segment(path: Path) -> None:
    file = JournalFile(path, MIB)
    for _ in range(3):
        file.write([journal_file.encode([record()])])
    file.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("DELETE FROM segments WHERE first_offset = 1")


def lose_the_last_segment(path: Path) -> None:
    lose_a_segment(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("DELETE FROM segments WHERE first_offset > 0")


def cut_in_half(path: Path) -> None:
    file = JournalFile(path, MIB)
    file.write([journal_file.encode([record(b"x" * 50_000)])])
    file.close()
    os.truncate(path, 3 * 4096)


def overwrite_pages(path: Path) -> None:
    file = JournalFile(path, MIB)
    file.write([journal_file.encode([record(b"x" * 50_000)])])
    file.close()
    with path.open("r+b") as content:
        content.seek(4096)
        content.write(b"\xff" * 8192)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (write_text, r"is damaged: file is not a database .*move it and its -wal away"),
        (write_nothing, r"is damaged: it is empty"),
        (write_other_database, r"is not a journal of ingestd"),
        (write_later_version, r"has version 2, and this ingestd reads version 1"),
        (write_directory, r"cannot use the journal"),
        (leave_only_wal, r"is missing, but its write-ahead log journal.sqlite-wal is there"),
        (lose_a_segment, r"is damaged: it does not have all of its records 0-3"),
        (lose_the_last_segment, r"is damaged: it does not have all of its records 0-3"),
        (cut_in_half, r"is damaged"),
        (overwrite_pages, r"is damaged"),
    ],
)
async def test_refuses_a_file_that_it_cannot_trust(ram: Path, spoil: Callable[[Path], None], message: str) -> None:
    path = ram / "journal.sqlite"
    spoil(path)
    before = contents(ram)
    with pytest.raises(JournalError, match=message):
        await Journal(path, MIB).open()
    assert contents(ram) == before


async def test_leaves_nothing_behind_where_it_cannot_be_created(ram: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_file, "_SCHEMA", "CREATE TABLE broken (;")
    with pytest.raises(JournalError, match="syntax error"):
        await Journal(ram / "journal.sqlite", MIB).open()
    assert sizes(ram) == {}


async def test_another_process_that_creates_it_first_wins(ram: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = ram / "journal.sqlite"
    connect = journal_file._connect

    def connect_late(fresh: Path) -> sqlite3.Connection:
        if fresh != path and not path.exists():
            with monkeypatch.context() as patch:
                patch.setattr(journal_file, "_connect", connect)
                file = JournalFile(path, MIB)
            file.write([journal_file.encode([record(b"first")])])
            file.close()
        return connect(fresh)

    monkeypatch.setattr(journal_file, "_connect", connect_late)
    async with opened(path) as journal:
        assert values(await journal.read(0, 1, 1)) == [b"first"]
