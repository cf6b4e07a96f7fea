"""`ingestd verify` finds truncations of the log in the past: by leader epochs, or else by timestamps."""

import asyncio
from itertools import pairwise
from typing import Any

import pytest

from ingestd.core.records import LogRange, Position
from ingestd.verify import chains, log_reader
from ingestd.verify.run import VerifyOptions
from tests.archive import DAY, NOON, P0, Archive
from tests.fakes.inspector import FakeInspector
from tests.verify_world import LOG, TAG, after_truncation, forked, found, look, notes, with_epochs


@pytest.fixture
def archive() -> Archive:
    return Archive()


# -- truncations in the past


async def test_a_chain_that_went_on_behind_a_truncation_has_lost_records(archive: Archive) -> None:
    """The counter-example: 1,000 records landed, then 500, the log was cut to 1,000 and grew by 900."""
    archive.add(P0, 0, 900, leader_epoch=0)
    archive.add(P0, 900, 1500, leader_epoch=1)
    archive.add(P0, 1500, 1900, leader_epoch=3)
    report = await look(archive, VerifyOptions(), after_truncation(Position(1900, TAG, leader_epoch=3)))
    assert found(report) == [("log_truncated", 1000, 1500)]
    assert report.problems[0].message == (
        "marketing_events[0]: Kafka has lost offsets 1000-1500 (500), whose rows are kept: leader epoch 1 had "
        "reached 1500; the new records at 1000-1500 (500 offsets) are in no object"
    )


@pytest.mark.parametrize(("log_end", "missing"), [(1200, "1000-1200 (200 offsets)"), (1000, None)])
async def test_a_truncation_that_no_daemon_has_met_yet(archive: Archive, log_end: int, missing: str | None) -> None:
    archive.add(P0, 0, 900, leader_epoch=0)
    archive.add(P0, 900, 1500, leader_epoch=1)
    kafka = after_truncation(Position(1500, TAG, leader_epoch=1), LogRange(0, log_end))
    report = await look(archive, VerifyOptions(), kafka)
    assert found(report) == [("log_truncated", 1000, 1500)], "once, and not as a topic that was created again"
    assert ("new records" in report.problems[0].message) == (missing is not None)
    assert (missing or "") in report.problems[0].message


@pytest.mark.parametrize("reached", [1100, 1600])
async def test_epochs_that_are_lost_in_full_are_one_truncation(archive: Archive, reached: int) -> None:
    """Of the epoch before them the log has more than was read: another replica had it."""
    archive.add(P0, 0, 800, leader_epoch=1)
    archive.add(P0, 800, 1300, leader_epoch=2)
    archive.add(P0, 1300, 1500, leader_epoch=4)
    archive.add(P0, 1500, 1900, leader_epoch=5)
    kafka = with_epochs({1: 0, 5: reached}, LogRange(0, 1900))
    report = await look(archive, VerifyOptions(), kafka)
    assert found(report) == [("log_truncated", 800, 1500)]
    assert "leader epochs 2 to 4 had reached 1500" in report.problems[0].message


async def test_two_truncations_are_two_problems(archive: Archive) -> None:
    for start, end, epoch in ((0, 200, 1), (200, 300, 2), (300, 500, 4), (500, 900, 5)):
        archive.add(P0, start, end, leader_epoch=epoch)
    kafka = with_epochs({1: 0, 2: 150, 4: 300, 5: 450}, LogRange(0, 900))
    report = await look(archive, VerifyOptions(), kafka)
    assert found(report) == [("log_truncated", 150, 200), ("log_truncated", 450, 500)]


async def test_what_retention_removed_is_no_truncation(archive: Archive) -> None:
    archive.add(P0, 0, 900, leader_epoch=0)
    archive.add(P0, 900, 1000, leader_epoch=1)
    archive.add(P0, 1000, 1900, leader_epoch=3)
    kafka = with_epochs({1: 950, 3: 1000}, LogRange(950, 1900))
    assert (await look(archive, VerifyOptions(), kafka, kafka__start="latest")).ok
    kafka = with_epochs({3: 1100}, LogRange(1100, 1900))
    assert (await look(archive, VerifyOptions(), kafka, kafka__start="latest")).ok


async def test_a_truncation_is_found_as_long_as_retention_has_not_passed_it(archive: Archive) -> None:
    archive.add(P0, 0, 1500, leader_epoch=1)
    archive.add(P0, 1500, 1900, leader_epoch=3)
    kafka = with_epochs({3: 1200}, LogRange(1200, 1900))
    report = await look(archive, VerifyOptions(), kafka, kafka__start="latest")
    assert found(report) == [("log_truncated", 1200, 1500)]


async def test_the_missing_first_object_of_a_fork_is_a_gap(archive: Archive) -> None:
    archive.delete(forked(archive)[2])
    report = await look(archive, VerifyOptions(), after_truncation(Position(1900, TAG, leader_epoch=3)))
    assert found(report) == [("gap", 1000, 1400)]
    assert "1000-1400 (400 offsets) in no object of leader epoch 3, whose first objects are missing" in (
        report.problems[0].message
    )


@pytest.mark.parametrize("epochs", [(0, 1), (1, 1)])
async def test_where_the_chain_had_ended_nothing_tells_that_it_forked(
    archive: Archive, epochs: tuple[int, int]
) -> None:
    """It had forked before that: what older epochs have from there on says nothing about the one that continues."""
    for start, end, epoch in zip((0, 300), (300, 400), epochs, strict=True):
        archive.add(P0, start, end, leader_epoch=epoch)
    archive.add(P0, 100, 300, NOON + DAY, named=100, leader_epoch=2)
    archive.add(P0, 300, 900, NOON + DAY, named=300, leader_epoch=3)
    kafka = with_epochs({epochs[0]: 0, 2: 100, 3: 200}, LogRange(0, 900))
    report = await look(archive, VerifyOptions(), kafka)
    assert found(report) == [("log_truncated", 200, 300)]
    assert "the new records at 200-300 (100 offsets) are in no object" in report.problems[0].message


async def test_the_missing_first_object_is_told_of_a_fork_back_to_an_older_epoch(archive: Archive) -> None:
    """The chain had ended at 600, so nobody goes on at 800 without a fork."""
    archive.add(P0, 0, 1000, leader_epoch=0)
    archive.add(P0, 400, 600, NOON + DAY, named=400, leader_epoch=1)
    archive.add(P0, 800, 900, NOON + DAY, named=800, leader_epoch=2)
    kafka = with_epochs({0: 0, 2: 700}, LogRange(0, 900))
    report = await look(archive, VerifyOptions(), kafka)
    assert found(report) == [("gap", 700, 800)]
    assert "in no object of leader epoch 2, whose first objects are missing" in report.problems[0].message


async def test_a_log_that_knows_no_epoch_so_late_was_restored(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_reader, "_EPOCH_INTERVAL_S", 0)
    archive.add(P0, 0, 900, leader_epoch=0)
    archive.add(P0, 900, 1500, leader_epoch=7)
    kafka = after_truncation(Position(1500, TAG, leader_epoch=7))
    report = await look(archive, VerifyOptions(), kafka)
    assert found(report) == [("log_truncated", 900, 1500)]
    assert "it knows no leader epoch 7, as if restored from an older state" in report.problems[0].message


@pytest.mark.parametrize(
    ("now", "code"), [("one", "log_truncated"), ("another", "recreated_topic"), ("", "log_truncated")]
)
async def test_topic_ids_tell_a_truncation_from_another_topic(archive: Archive, now: str, code: str) -> None:
    archive.add(P0, 0, 1500, leader_epoch=1, topic_id="one")
    kafka = after_truncation(Position(1500, TAG), LogRange(0, 1200))
    kafka.ids[P0] = now
    assert [problem.code for problem in (await look(archive, VerifyOptions(), kafka)).problems] == [code]
    archive = Archive()
    archive.add(P0, 0, 1500, topic_id="one")
    kafka = FakeInspector(({P0: Position(1500, TAG)}, {P0: LogRange(0, 1200)}))
    kafka.ids[P0] = now
    kafka.timestamps[P0] = {0: NOON}
    assert [problem.code for problem in (await look(archive, VerifyOptions(), kafka)).problems] == [code]


async def test_too_many_epochs_for_memory_leave_the_oldest_out(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chains, "MAX_EPOCHS", 3)
    for start, end, epoch in ((0, 950, 0), (950, 1000, 1), (1000, 1500, 2), (1500, 1900, 3)):
        archive.add(P0, start, end, leader_epoch=epoch)
    report = await look(archive, VerifyOptions(), after_truncation(Position(1900, TAG, leader_epoch=3)))
    assert found(report) == [("log_truncated", 1000, 1500)], "of epoch 0, 900-950 was lost, too"
    assert notes(report) == ["not_compared"]


# -- without leader epochs


def by_timestamps(archive: Archive, *wrong: str, log: LogRange = LOG) -> FakeInspector:
    """The log has the first record of each object, but another one where it is `wrong`."""
    kafka = FakeInspector(({P0: Position(log.end, TAG)}, {P0: log}))
    kafka.timestamps[P0] = {
        metadata.first_offset: metadata.first_timestamp + (key in wrong)
        for key, metadata in ((key, archive.landed(key)) for key in archive.sink.objects if key[0] == "e")
        if log.start <= metadata.first_offset < log.end
    }
    return kafka


async def test_timestamps_find_a_truncation_where_there_are_no_epochs(archive: Archive) -> None:
    keys = archive.chain(P0, 0, 1000, 1200, 1500, 1900, step=1)
    report = await look(archive, VerifyOptions(), by_timestamps(archive, keys[1], keys[2]))
    assert found(report) == [("log_truncated", 1000, 1500)]
    first = NOON + 1
    assert report.problems[0].message == (
        "marketing_events[0]: Kafka has lost offsets 1000-1500 (500), whose rows are kept: the record at 1000 "
        f"has timestamp {first + 1} and had {first}; the new records at 1000-1500 (500 offsets) are in no object"
    )
    assert (await look(archive, VerifyOptions(), by_timestamps(archive))).ok


async def test_only_records_in_the_log_are_read(archive: Archive) -> None:
    archive.chain(P0, *range(0, 1901, 100), step=1)
    kafka = by_timestamps(archive, log=LogRange(1000, 1900))
    report = await look(archive, VerifyOptions(), kafka, kafka__start="latest")
    assert report.ok
    assert sorted(offset for read in kafka.reads for offset in read.values()) == list(range(1000, 1900, 100))


async def test_the_newest_objects_are_read_first_and_a_note_says_that_not_all_were(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chains, "MAX_SAMPLES", 10)
    archive.chain(P0, *range(0, 1901, 10), step=1)
    kafka = by_timestamps(archive)
    report = await look(archive, VerifyOptions(), kafka)
    assert report.ok
    read = [offset for each in kafka.reads for offset in each.values()]
    assert read == sorted(read, reverse=True)
    assert (len(read), read[0]) == (10, 1890)
    assert max(a - b for a, b in pairwise(read)) < 600, "they are spread"
    (note,) = report.notes
    assert note.message == "marketing_events[0]: 10 of 190 objects without a leader epoch were compared with the log"


async def test_a_partition_that_does_not_answer_is_not_waited_for_twice(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Silent(FakeInspector):
        async def poll(self, wait_s: float, max_records: int) -> dict[Any, Any]:
            await asyncio.sleep(0.001)
            return {}

    monkeypatch.setattr(log_reader, "_ROUND_S", 0.01)
    archive.chain(P0, *range(0, 1901, 10), step=1)
    kafka = Silent(({P0: Position(1900, TAG)}, {P0: LogRange(0, 1900)}))
    report = await look(archive, VerifyOptions(), kafka)
    assert report.ok
    assert len(kafka.reads) == 1
    assert notes(report) == ["not_compared"]
