"""What was answered survives kill -9 and a loss of power, and a disk that refuses writes in the middle of one."""

import asyncio
import random
import shutil
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ingestd.core.errors import JournalFullError
from ingestd.core.records import Position, UnsentRecord
from ingestd.sources.journal import file as journal_file
from ingestd.sources.journal.file import JournalFile, JournalState, encode
from ingestd.sources.journal.journal import Journal

MIB = 1 << 20

# -- kill -9

APPENDER = """
import asyncio, sys
from pathlib import Path
from ingestd.core.records import Position, UnsentRecord
from ingestd.sources.journal.journal import Journal

async def append(journal, run, task):
    number = 0
    while True:
        values = [f"{run} {task} {number + each}" for each in range(1 + number % 4)]
        number += len(values)
        offsets = await journal.append([UnsentRecord(number, None, value.encode() * 50) for value in values])
        print("appended", offsets.start, *values, sep="\\t", flush=True)

async def deliver(journal):
    while True:
        await journal.wait_for(journal.first_offset + 200)
        target = journal.first_offset + 150
        await journal.commit(Position(target, "tag"))
        print("committed", target, sep="\\t", flush=True)
        await journal.discard(target)

async def main(path, run):
    journal = Journal(Path(path), 1 << 22)
    await journal.open()
    async with asyncio.TaskGroup() as group:
        for task in range(10):
            group.create_task(append(journal, run, task))
        group.create_task(deliver(journal))

asyncio.run(main(*sys.argv[1:]))
"""


def run_until_killed(path: Path, run: int, lines: int) -> list[list[str]]:
    """What a process has said before it was killed, at some moment after so many lines."""
    command = [sys.executable, "-c", APPENDER, str(path), str(run)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(lines)]
        process.kill()
        said += process.stdout.readlines()
    return [line.rstrip("\n").split("\t") for line in said if line.endswith("\n")]


async def test_what_was_answered_survives_kill_9_and_no_offset_is_used_twice(ram: Path) -> None:
    path, rng = ram / "journal.sqlite", random.Random(7)
    answered: dict[int, bytes] = {}
    for run in range(6):
        said = await asyncio.to_thread(run_until_killed, path, run, rng.randint(50, 800))
        for what, offset, *texts in said:
            if what == "appended":
                for number, text in enumerate(texts, int(offset)):
                    assert number not in answered, "this offset was used before"
                    answered[number] = text.encode() * 50
        committed = max((int(offset) for what, offset, *_ in said if what == "committed"), default=0)
        journal = Journal(path, 4 * MIB)
        await journal.open()
        position = journal.committed()
        assert committed == 0 or (position is not None and position.offset >= committed)
        assert journal.first_offset <= (position.offset if position is not None else 0)
        found = {it.offset: it.value for it in await journal.read(journal.first_offset, 10**9, 10**9)}
        assert list(found) == list(range(journal.first_offset, journal.next_offset))
        missing = {offset for offset in answered if offset >= journal.first_offset} - found.keys()
        assert not missing
        assert all(found[offset] == value for offset, value in answered.items() if offset in found)
        await journal.close()
    assert len(answered) > 1000


# -- loss of power

SECTOR = 512
WAL_HEADER = 32

Files = Mapping[str, bytes]  # by name


def torn(rng: random.Random, before: bytes, after: bytes) -> bytes:
    """A file as a disk may have it that was writing: any of the sectors that changed, any part of what it grew by."""
    size = rng.choice([len(before), len(after), rng.randint(*sorted((len(before), len(after))))])
    content = bytearray(before[:size].ljust(size, b"\0"))
    share = rng.choice([0.02, 0.5, 0.98])
    for start in range(0, size, SECTOR):
        place = slice(start, min(start + SECTOR, size))
        if rng.random() < share and after[place] != content[place]:
            content[place] = after[place].ljust(place.stop - place.start, b"\0")
    return bytes(content)


@dataclass
class PowerLoss:
    """Runs one call after the other on a journal, and knows which files a disk may have where the power fails in it.

    SQLite writes to the WAL, syncs it, and only then says that a transaction is committed; a checkpoint writes to the
    database, from a WAL that is on the disk, and syncs it before the WAL begins again. A WAL that begins again has its
    header on the disk before any frame. So only one of the files is ever in doubt.
    """

    path: Path
    rng: random.Random
    values: dict[int, bytes] = field(default_factory=dict)
    checkpoints: int = 0
    restarts: int = 0

    def __post_init__(self) -> None:
        self.file = JournalFile(self.path, MIB)

    def files(self) -> dict[str, bytes]:
        return {it.name: it.read_bytes() for it in self.path.parent.iterdir() if it.is_file()}

    def step(self) -> tuple[JournalState, JournalState, list[Files]]:
        """One call: the states before and after it, and images of the files from in between."""
        before, files = self.file.state, self.files()
        is_checkpoint = self.file.needs_checkpoint
        if is_checkpoint:
            self.file.checkpoint()
            self.checkpoints += 1
        else:
            self.change()
        images = self.images(files, self.files(), self.path.name if is_checkpoint else f"{self.path.name}-wal")
        return before, self.file.state, images

    def change(self) -> None:
        state, rng = self.file.state, self.rng
        if rng.random() < 0.2:
            self.file.discard(rng.randint(state.first_offset, state.next_offset))
            return
        values = [rng.randbytes(rng.choice([5, 100, 6000])) for _ in range(rng.randint(0, 6))]
        self.values.update(enumerate(values, state.next_offset))
        appends = [encode([UnsentRecord(1, None, value)]) for value in values]
        self.file.write(appends, Position(state.next_offset, "tag") if rng.random() < 0.2 or not appends else None)

    def images(self, before: Files, after: Files, written: str) -> list[Files]:
        assert {name: content for name, content in before.items() if name != written} == {
            name: content for name, content in after.items() if name != written
        }, "only one file is written to at a time"
        old, new = before[written], after[written]
        if written.endswith("-wal") and old[:WAL_HEADER] != new[:WAL_HEADER]:
            self.restarts += bool(old)
            old = new[:WAL_HEADER] + old[WAL_HEADER:]
        halves = [torn(self.rng, old, new) for _ in range(3)]
        return [before, after, *({**after, written: content} for content in halves)]

    def close(self) -> list[Files]:
        """The images from the last checkpoint, after which the WAL is removed."""
        before = self.files()
        self.file.close()
        after, name = self.files(), self.path.name
        halves = [{**before, name: torn(self.rng, before[name], after[name])} for _ in range(5)]
        return [*halves, {**before, name: after[name]}, after]


def check(folder: Path, image: Files, states: list[JournalState], values: Mapping[int, bytes]) -> JournalState:
    """An image opens as it was before or after the call; it has every record, and takes more."""
    folder.mkdir()
    for name, content in image.items():
        (folder / name).write_bytes(content)
    with closing(JournalFile(folder / "journal.sqlite", MIB)) as file:
        found = file.state
        places = [(it.first_offset, it.next_offset, it.committed) for it in states]
        assert (found.first_offset, found.next_offset, found.committed) in places
        records = file.read(found.first_offset, 10**9, 10**9)
        assert [it.offset for it in records] == list(range(found.first_offset, found.next_offset))
        assert all(it.value == values[it.offset] for it in records)
        file.write([encode([UnsentRecord(1, None, b"more")])])
        assert file.state.next_offset == found.next_offset + 1
    return found


@pytest.mark.parametrize("seed", range(4))
def test_what_was_answered_survives_a_loss_of_power(ram: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    monkeypatch.setattr(journal_file, "WAL_BYTES", 100_000)
    (ram / "original").mkdir()
    power = PowerLoss(ram / "original" / "journal.sqlite", random.Random(seed))
    outcomes = set()
    for number in range(60):
        before, after, images = power.step()
        check(ram / f"{number} before", images[0], [before], power.values)
        check(ram / f"{number} after", images[1], [after], power.values)
        for each, image in enumerate(images[2:]):
            found = check(ram / f"{number} torn {each}", image, [before, after], power.values)
            outcomes.add(found.next_offset == after.next_offset)
    state = power.file.state
    for number, image in enumerate(power.close()):
        check(ram / f"closed {number}", image, [state], power.values)
    assert outcomes == {True, False}
    assert power.checkpoints > 2
    assert power.restarts > 1


def test_a_wal_does_not_grow_from_crash_to_crash(ram: Path) -> None:
    folder = ram / "0"
    folder.mkdir()
    for life in range(1, 11):
        with closing(JournalFile(folder / "journal.sqlite", MIB)) as file:
            for _ in range(6):
                file.write([encode([UnsentRecord(1, None, bytes(1000))])])
                if file.needs_checkpoint:
                    file.checkpoint()
            shutil.copytree(folder, folder := ram / f"{life}")
        assert (folder / "journal.sqlite-wal").stat().st_size < MIB // 8 + 100_000


# -- a disk that refuses


async def test_a_disk_that_is_full_in_the_middle_of_a_write_leaves_the_journal_usable(ram: Path) -> None:
    journal = Journal(ram / "journal.sqlite", MIB)
    await journal.open()
    await journal.append([UnsentRecord(1, None, b"x" * 20_000)] * 3)
    pages = await journal._call(lambda file: int(file._pragma("page_count")))
    await journal._call(lambda file: int(file._pragma(f"max_page_count = {pages + 5}")))
    appends = await asyncio.gather(
        *(journal.append([UnsentRecord(1, None, b"x" * 15_000)]) for _ in range(3)),
        journal.commit(Position(2, "tag")),
        return_exceptions=True,
    )
    assert [type(it) for it in appends] == [JournalFullError] * 3 + [type(None)]
    assert "database or disk is full" in (journal.error or "")
    assert len(await journal.read(0, 10, MIB)) == 3
    await journal.discard(3)
    assert await journal.append([UnsentRecord(1, None, b"x" * 15_000)]) == range(3, 4)
    assert (journal.error, journal.committed()) == (None, Position(2, "tag"))
    await journal.close()


LIMITED = """
import asyncio, resource, sys
from pathlib import Path
from ingestd.core.errors import JournalError
from ingestd.core.records import Position, UnsentRecord
from ingestd.sources.journal.journal import Journal

async def main(path):
    journal = Journal(Path(path), 1 << 24)
    await journal.open()
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
    appended = 0
    while True:
        try:
            appended = (await journal.append([UnsentRecord(1, None, bytes(9000))])).stop
        except JournalError as error:
            print(error, file=sys.stderr)
            break
    assert journal.next_offset == appended
    assert len(await journal.read(0, 10**9, 10**9)) == appended
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert await journal.append([UnsentRecord(1, None, bytes(9000))]) == range(appended, appended + 1)
    await journal.close()
    print(appended)

asyncio.run(main(sys.argv[1]))
"""


async def test_a_write_that_the_system_refuses_leaves_the_journal_usable(ram: Path) -> None:
    path = ram / "journal.sqlite"
    command = [sys.executable, "-c", LIMITED, str(path)]
    ended = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=False, text=True)
    assert ended.returncode == 0, ended.stderr
    assert "disk I/O error" in ended.stderr
    journal = Journal(path, 16 * MIB)
    await journal.open()
    assert journal.next_offset == int(ended.stdout) + 1 > 10
    await journal.close()
