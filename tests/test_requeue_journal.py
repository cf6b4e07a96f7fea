"""`ingestd requeue` into a real journal: each record is appended once, wherever the command is killed."""

import asyncio
import json
import random
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path

import msgspec
import pytest

from ingestd import wiring
from ingestd.cli import requeue as command
from ingestd.cli.requeue import Options
from ingestd.config.load import Settings
from ingestd.config.model import CollectConfig, SinkConfig
from ingestd.config.types import Size
from ingestd.config.validate import TOPIC_MAX
from ingestd.core.errors import ConfigError, JournalError, JournalFullError, JournalInUseError, SourceError
from ingestd.core.records import PlainRecord, UnsentRecord
from ingestd.requeue.batches import BatchLimits
from ingestd.requeue.receipts import Receipts
from ingestd.sinks.retry import SinkRetrier
from ingestd.sources.journal import transactions
from ingestd.sources.journal.file import Note
from ingestd.sources.journal.journal import Journal
from ingestd.sources.journal.transactions import JournalTransactions
from tests.fakes.memory_sink import MemorySink
from tests.journal_world import sizes
from tests.requeue_world import NOON, TOPIC, Killed, Life, World, event

MIB = 1 << 20
BROKEN = b"<html>502 Bad Gateway</html>"
LIMITS = BatchLimits(3, MIB)


class JournalWorld(World):
    """Processes that requeue into a journal, and die around each of its transactions."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path, limits: BatchLimits | None = LIMITS) -> None:
        super().__init__(monkeypatch)
        folder.mkdir(exist_ok=True)
        self.path = folder / "journal.sqlite"
        collect = CollectConfig(topic=TOPIC, journal=str(self.path), journal_bytes=Size(MIB))
        self.config = msgspec.structs.replace(self.config, source="collector", collect=collect)
        world = self

        class Mortal(JournalTransactions):
            async def note(self) -> str | None:
                await world._life().step()
                return await super().note()

            async def produce(self, records: Sequence[tuple[int, PlainRecord]], note: str) -> None:
                await world._life().step()
                await super().produce(records, note)
                await world._life().step()

        monkeypatch.setattr(transactions, "JournalTransactions", Mortal)
        if limits is not None:
            monkeypatch.setattr("ingestd.cli.requeue_journal.BatchLimits", lambda *_: limits)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Journal]:
        """The journal, as a daemon has it open."""
        journal = Journal(self.path, MIB)
        await journal.open()
        try:
            yield journal
        finally:
            await journal.close()

    async def records(self) -> list[PlainRecord]:
        """All that is in the journal."""
        async with self.opened() as journal:
            first, end = journal.first_offset, journal.next_offset
            return await journal.read(first, end - first, 1 << 30) if end > first else []

    async def drain(self) -> None:
        """As a daemon that lands everything."""
        async with self.opened() as journal:
            await journal.discard(journal.next_offset)


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch, ram: Path) -> JournalWorld:
    world = JournalWorld(monkeypatch, ram)
    await world.drain()  # makes it
    return world


def numbers(records: Sequence[PlainRecord]) -> Counter[str]:
    return Counter(json.loads(record.value or b"")["event_id"] for record in records)


def of(count: int, first: int = 0) -> Counter[str]:
    return Counter(f"e{number}" for number in range(first, first + count))


def a_quarantine(world: World) -> Counter[str]:
    """Records that are valid now, among others, in several objects; which ones."""
    for place in range(3):
        first = 10 * place
        world.attempt(0, first, [event(first + number) for number in range(5)] + [BROKEN])
    return of(5) + of(5, 10) + of(5, 20)


# -- which records


async def test_appends_records_that_are_valid_now_with_the_time_of_now(world: JournalWorld) -> None:
    world.attempt(0, 100, [event(0), BROKEN, event(1, "web_visit"), event(2)])
    counts = await world.run()
    assert (counts.read, counts.good, counts.produced) == (3, 2, 2)
    assert counts.failing == {"not_json": 1}
    first, second = await world.records()
    assert (first.value, first.key) == (event(0), b"key 0")
    assert first.timestamp > NOON
    assert (second.value, second.key) == (event(2), b"key 3")
    assert first.headers[0] == ("trace", b"\xfe")
    assert dict(first.headers)["ingestd-origin-offset"] == b"100"


async def test_goes_behind_what_waits_in_the_journal(world: JournalWorld) -> None:
    async with world.opened() as journal:
        await journal.append([UnsentRecord(NOON, None, event(7))])
    world.attempt(0, 0, [event(0)])
    await world.run()
    assert [record.value for record in await world.records()] == [event(7), event(0)]


async def test_a_second_run_appends_nothing(world: JournalWorld) -> None:
    expected = a_quarantine(world)
    await world.run()
    counts = await world.run()
    assert (counts.already_requeued, counts.produced) == (15, 0)
    assert numbers(await world.records()) == expected


async def test_another_topic_in_the_sink_is_not_read(world: JournalWorld) -> None:
    world.attempt(0, 0, [event(0)], topic="of_kafka")
    assert (await world.run()).read == 0


async def test_what_only_kafka_has_stays_in_the_quarantine(world: JournalWorld) -> None:
    """Null is a header of Kafka: in a journal it would make the whole file unreadable."""
    target = JournalTransactions(Journal(world.path, MIB), "name")
    headers: list[tuple[str, bytes]] = [("trace", None)]  # type: ignore[list-item]
    for record in (PlainRecord(0, NOON, b"{}", headers=headers), PlainRecord(0, NOON, None)):
        with pytest.raises(SourceError, match=r"is null, which only Kafka has"):
            await target.produce([(0, record)], "note")


# -- none twice


async def test_killed_between_the_append_and_the_receipt_it_appends_none_twice(
    world: JournalWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def die(*_: object) -> None:
        raise Killed

    expected = a_quarantine(world)
    with monkeypatch.context() as patch:
        patch.setattr("ingestd.requeue.receipts.Receipts.record", die)
        with pytest.raises(Killed):
            await world.run()
    assert sum(numbers(await world.records()).values()) == LIMITS.records
    assert not world.receipts
    dry = await world.run(dry_run=True)
    assert (dry.already_requeued, dry.good) == (3, 12)
    assert (await world.run()).already_requeued == 3
    assert numbers(await world.records()) == expected


async def test_killed_at_any_moment_and_run_again(monkeypatch: pytest.MonkeyPatch, ram: Path) -> None:
    for step in range(1, 200):
        world = JournalWorld(monkeypatch, ram / f"{step}")
        await world.drain()
        expected = a_quarantine(world)
        try:
            await world.run(Life(step))
        except Killed:
            await world.run()
            assert numbers(await world.records()) == expected
        else:
            assert step > 30
            return
    pytest.fail("never got to its end")


@pytest.mark.parametrize("seed", range(4))
async def test_each_event_is_appended_once_whatever_happens_in_between(
    monkeypatch: pytest.MonkeyPatch, ram: Path, seed: int
) -> None:
    """Objects land, runs are killed, daemons empty the journal: nothing is lost, and nothing comes twice."""
    rng, world = random.Random(seed), JournalWorld(monkeypatch, ram)
    await world.drain()
    expected: Counter[str] = Counter()
    landed: Counter[str] = Counter()
    offset = number = 0
    for _ in range(25):
        match rng.choice(["quarantine", "requeue", "daemon"]):
            case "quarantine":
                good = [event(number + each) for each in range(rng.randint(1, 6))]
                values = [*good, *[BROKEN] * rng.randint(0, 2)]
                rng.shuffle(values)
                world.attempt(0, offset, values)
                expected += of(len(good), number)
                offset, number = offset + len(values), number + len(good)
            case "requeue":
                with suppress(Killed):
                    await world.run(Life(rng.randint(1, 60)))
            case _:
                landed += numbers(await world.records())
                await world.drain()
    await world.run()
    assert landed + numbers(await world.records()) == expected


# -- room


async def test_a_full_journal_takes_nothing_and_the_next_run_goes_on(
    monkeypatch: pytest.MonkeyPatch, ram: Path
) -> None:
    world = JournalWorld(monkeypatch, ram, None)
    await world.drain()
    for place in range(30):
        value = json.loads(event(place)) | {"properties": {"text": "x" * 40_000}}
        world.attempt(0, place, [json.dumps(value).encode()])
    found: Counter[str] = Counter()
    for _ in range(10):
        with pytest.raises(JournalFullError, match=r"let the daemon land .* nothing is appended twice"):
            await world.run()
        assert sum(sizes(ram).values()) <= MIB
        found += numbers(await world.records())
        await world.drain()
        if sum(found.values()) > 12:
            break
    assert (await world.run()).produced
    assert found + numbers(await world.records()) == of(30)


async def test_its_transactions_stay_within_the_journal_s_bytes(monkeypatch: pytest.MonkeyPatch, ram: Path) -> None:
    world = JournalWorld(monkeypatch, ram, None)
    await world.drain()
    world.attempt(0, 0, [event(number) for number in range(1000)])
    most = 0
    append = Journal.append_noted

    async def measured(journal: Journal, records: Sequence[UnsentRecord], *note: Note) -> None:
        nonlocal most
        await append(journal, records, *note)
        headers = sum(len(name) + len(value) for it in records for name, value in it.headers)
        most = max(most, headers + sum(len(it.value) + len(it.key or b"") for it in records))

    monkeypatch.setattr(Journal, "append_noted", measured)
    await world.run()
    assert numbers(await world.records()) == of(1000)
    async with world.opened() as journal:
        assert journal.group_bytes / 8 < most < journal.group_bytes


# -- the file


async def test_the_daemon_must_be_stopped(world: JournalWorld) -> None:
    world.attempt(0, 0, [event(0)])
    async with world.opened():
        with pytest.raises(JournalInUseError, match=r"is in use by another process \(stop the daemon, run requeue"):
            await world.run()
    assert (await world.run()).produced == 1


async def test_a_dry_run_beside_a_daemon_counts_and_changes_nothing(
    world: JournalWorld, caplog: pytest.LogCaptureFixture
) -> None:
    world.attempt(0, 0, [event(0)])
    async with world.opened() as journal:
        assert (await world.run(dry_run=True)).good == 1
        assert not caplog.records
    await world.run()
    world.attempt(0, 1, [event(1)])
    async with world.opened() as journal:
        dry = await world.run(dry_run=True)
        assert (dry.already_requeued, dry.good, journal.next_offset) == (1, 1, 1)
    assert "if the last requeue was killed" in caplog.text


async def test_a_dry_run_leaves_the_journal_to_others_at_once(world: JournalWorld) -> None:
    expected = a_quarantine(world)
    await world.run()
    async with command.Requeue(world.config, Options(dry_run=True))._open(TOPIC, _receipts(world)) as destination:
        assert destination.target is None
        assert numbers(await world.records()) == expected


def _receipts(world: JournalWorld) -> Receipts:
    world.begin(Life())
    sink = wiring.make_sink(world.config)
    return Receipts(sink, SinkRetrier(world.config.sink, effect=""), world.layout, TOPIC)


@pytest.mark.parametrize("dry_run", [True, False])
async def test_a_journal_that_is_missing_is_not_made(
    monkeypatch: pytest.MonkeyPatch, ram: Path, *, dry_run: bool
) -> None:
    world = JournalWorld(monkeypatch, ram)
    with pytest.raises(JournalError, match=r"there is no journal .* \(set collect.journal to that of the collector\)"):
        await world.run(dry_run=dry_run)
    assert sizes(ram) == {}


@pytest.mark.parametrize("dry_run", [True, False])
async def test_another_journal_than_before_is_refused(world: JournalWorld, *, dry_run: bool) -> None:
    """What a killed run appended to the former one, only that one tells."""
    world.attempt(0, 0, [event(0)])
    await world.run()
    world.path.unlink()
    await world.drain()
    with pytest.raises(ConfigError, match=r"were requeued to journal:.*delete requeued/to=.*identity.json.gz"):
        await world.run(dry_run=dry_run)
    assert not await world.records()


async def test_a_file_of_an_older_version_takes_notes_and_keeps_its_version(world: JournalWorld) -> None:
    def facts() -> tuple[int, set[str]]:
        with closing(sqlite3.connect(world.path)) as db:
            tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            return db.execute("PRAGMA user_version").fetchone()[0], tables

    assert facts() == (1, {"segments", "journal"})
    world.attempt(0, 0, [event(0)])
    await world.run()
    assert facts() == (1, {"segments", "journal", "notes"})


# -- the command


@pytest.mark.parametrize(
    ("options", "origins", "message"),
    [
        (Options(to="other"), {}, r"--to other is for Kafka and Kinesis.*\(leave it out\)"),
        (Options(repeat_unclear=True), {}, r"--repeat-unclear is for source = kinesis or sqs"),
        (Options(), {"kafka.topics": "--topic"}, r"--topic is for Kafka.*collect.topic = marketing_events"),
    ],
)
def test_refuses_flags_that_make_no_sense(
    monkeypatch: pytest.MonkeyPatch, ram: Path, options: Options, origins: dict[str, str], message: str
) -> None:
    world = JournalWorld(monkeypatch, ram)
    with pytest.raises(ConfigError, match=message):
        command.run(Settings(world.config, origins), options)


def lives(monkeypatch: pytest.MonkeyPatch, world: JournalWorld) -> None:
    """Have the command's own task be a process."""
    original = command.Requeue.run

    async def lively(process: command.Requeue) -> None:
        world.begin(Life())
        await original(process)

    monkeypatch.setattr(command.Requeue, "run", lively)


def test_the_report_names_the_journal(
    monkeypatch: pytest.MonkeyPatch, ram: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = JournalWorld(monkeypatch, ram)
    asyncio.run(world.drain())
    world.attempt(0, 0, [event(0)])
    lives(monkeypatch, world)
    assert command.run(Settings(world.config, {}), Options()) == 0
    assert capsys.readouterr().out.startswith(f"requeue to journal {world.path}\n")


def test_a_receipt_without_room_is_refused_before_anything_is_appended(
    monkeypatch: pytest.MonkeyPatch, ram: Path
) -> None:
    world = JournalWorld(monkeypatch, ram)
    monkeypatch.setattr(MemorySink, "url", f"memory:///{'p' * 400}")
    collect = msgspec.structs.replace(world.config.collect, topic="t" * TOPIC_MAX)
    world.config = msgspec.structs.replace(world.config, collect=collect, sink=SinkConfig(lineage="l" * 249))
    lives(monkeypatch, world)
    with pytest.raises(ConfigError, match=r"would have keys of 1\d\d\d characters.*valid now to POST"):
        command.run(Settings(world.config, {}), Options())
