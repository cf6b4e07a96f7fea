"""The journal beside a model of it, through any sequence of calls, restarts and crashes."""

import asyncio
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from ingestd.core.records import PlainRecord, Position, UnsentRecord
from ingestd.sources.journal.journal import Journal

MAX_BYTES = 64 << 20

positions = st.builds(
    Position, st.integers(0, 2**62), st.text(max_size=5), st.text(max_size=5), st.none() | st.integers(0, 9)
)
records = st.builds(
    UnsentRecord,
    st.integers(-1, 2**62),
    st.none() | st.binary(max_size=20),
    st.binary(max_size=20) | st.integers(0, 20_000).map(bytes),
    st.lists(st.tuples(st.text(st.characters(codec="utf-8"), max_size=5), st.binary(max_size=5)), max_size=2).map(
        tuple
    ),
)
appends = st.lists(st.lists(records, max_size=20), min_size=1, max_size=5)
fractions = st.floats(0, 1.2)
actions = st.one_of(
    st.tuples(st.just("append"), appends),
    st.tuples(st.just("read"), st.tuples(fractions, st.integers(1, 30), st.integers(1, 10_000))),
    st.tuples(st.just("discard"), fractions),
    st.tuples(st.just("commit"), positions),
    st.tuples(st.just("restart"), st.just(None)),
    st.tuples(st.just("crash"), st.just(None)),
)


@dataclass
class Model:
    """What a journal must have."""

    records: list[PlainRecord] = field(default_factory=list)
    first: int = 0
    end: int = 0
    position: Position | None = None

    def append(self, some: list[UnsentRecord]) -> range:
        for it in some:
            self.records.append(PlainRecord(self.end, it.timestamp, it.value, it.key, it.headers))
            self.end += 1
        return range(self.end - len(some), self.end)

    def offset(self, fraction: float) -> int:
        return self.first + round(fraction * (self.end - self.first))

    def discard(self, below: int) -> None:
        self.first = max(self.first, min(below, self.end))
        self.records = [it for it in self.records if it.offset >= self.first]

    def read(self, offset: int, max_records: int, max_bytes: int) -> list[PlainRecord]:
        found: list[PlainRecord] = []
        for it in self.records:
            if it.offset >= offset:
                size = sum(len(each.value or b"") for each in (*found, it))
                if found and (len(found) >= max_records or size > max_bytes):
                    break
                found.append(it)
        return found


def crash(folder: Path, number: int) -> Path:
    """The files as they are, without their process."""
    after = folder / f"{number}"
    shutil.copytree(folder / f"{number - 1}", after)
    return after


async def follow(folder: Path, script: list[tuple[str, object]]) -> None:
    model, crashes = Model(), 0
    (folder / "0").mkdir()
    journal = Journal(folder / "0" / "journal.sqlite", MAX_BYTES)
    left: list[Journal] = []
    await journal.open()
    journal_id = journal.journal_id
    for action, argument in script:
        match action, argument:
            case "append", list(groups):
                assert await asyncio.gather(*map(journal.append, groups)) == [model.append(it) for it in groups]
            case "read", (float(fraction), int(max_records), int(max_bytes)):
                offset = min(model.offset(fraction), model.end)
                assert await journal.read(offset, max_records, max_bytes) == model.read(offset, max_records, max_bytes)
            case "discard", float(fraction):
                await journal.discard(model.offset(fraction))
                model.discard(model.offset(fraction))
            case "commit", Position() as position:
                await journal.commit(position)
                model.position = position
            case "restart", _:
                await journal.close()
                await journal.open()
            case "crash", _:
                crashes += 1
                left.append(journal)
                journal = Journal(crash(folder, crashes) / "journal.sqlite", MAX_BYTES)
                await journal.open()
        assert (journal.first_offset, journal.next_offset) == (model.first, model.end)
        assert journal.committed() == model.position
        assert journal.journal_id == journal_id
        assert (journal.oldest_timestamp is None) == (not model.records)
    everything = await journal.read(model.first, len(model.records) + 1, MAX_BYTES)
    assert everything == model.records
    for each in (journal, *left):
        await each.close()


@settings(max_examples=60)
@given(st.lists(actions, max_size=25))
def test_has_what_was_appended_and_not_discarded(script: list[tuple[str, object]]) -> None:
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        asyncio.run(follow(Path(folder), script))
