"""`ingestd verify` shows a forked chain as what it is, and finds what is wrong in its branches."""

import pytest

from ingestd.core.records import LogRange, Position
from ingestd.verify.report import text
from ingestd.verify.run import VerifyOptions
from tests.archive import DAY, NOON, P0, Archive
from tests.verify_world import TAG, after_truncation, forked, found, look, notes, with_epochs


@pytest.fixture
def archive() -> Archive:
    return Archive()


# -- branches


async def test_a_fork_is_a_note_and_no_overlap(archive: Archive) -> None:
    forked(archive)
    report = await look(archive, VerifyOptions(objects_only=True, read=True))
    assert report.ok, report.problems
    (note,) = report.notes
    assert (note.code, note.start, note.end, note.leader_epoch) == ("forked", 1000, 1500, 1)
    assert note.message == (
        "marketing_events[0]: forked at 1000, by leader epoch 3: Kafka lost offsets 1000-1500 (500) of leader epoch 1; "
        "their rows are kept"
    )
    (it,) = report.partitions
    assert (it.start, it.end, it.leader_epoch) == (0, 1900, 3)
    assert [(fork.leader_epoch, fork.start, fork.end, fork.later_epoch) for fork in it.forks] == [(1, 1000, 1500, 3)]
    assert (report.totals.rows, report.totals.lost_offsets) == (2400, 500)


async def test_the_text_names_the_fork(archive: Archive) -> None:
    forked(archive)
    lines = text(await look(archive)).splitlines()
    assert lines[-1] == "Nothing wrong: 4 objects in an unbroken chain, forked."
    header, row = (line.split() for line in lines if line.startswith("  partition") or "events[0]  " in line)
    told = dict(zip(header, row, strict=True))
    assert (told["epoch"], told["from"], told["to"]) == ("3", "0", "1900")
    assert "  lost      500 offsets by Kafka, before a fork; their rows are kept" in lines


async def test_leader_epochs_that_follow_each_other_are_no_fork(archive: Archive) -> None:
    archive.add(P0, 0, 1000, leader_epoch=1)
    archive.add(P0, 1000, 1100, named=1000, leader_epoch=2)
    archive.add(P0, 1100, 1200, leader_epoch=4)
    report = await look(archive)
    assert report.ok
    assert not report.notes
    assert not report.partitions[0].forks


async def test_objects_with_and_without_epochs_are_one_chain(archive: Archive) -> None:
    """A daemon of an older version ran in between."""
    for start, epoch in ((0, None), (100, 3), (200, None), (300, 3), (400, 4), (500, None)):
        archive.add(P0, start, start + 100, leader_epoch=epoch)
    report = await look(archive)
    assert report.ok, report.problems
    assert not report.notes
    (it,) = report.partitions
    assert (it.start, it.end) == (0, 600)


@pytest.mark.parametrize("epoch", [None, 3])
async def test_an_object_without_an_epoch_must_not_overlap_any_other(archive: Archive, epoch: int | None) -> None:
    """Nothing tells that it has other records."""
    archive.add(P0, 0, 1500, leader_epoch=epoch)
    archive.add(P0, 1000, 1700, leader_epoch=3 if epoch is None else None)
    archive.add(P0, 1700, 1800, leader_epoch=4)
    assert found(await look(archive)) == [("overlap", 1000, 1500)]


async def test_the_first_object_of_an_epoch_is_named_after_its_beginning(archive: Archive) -> None:
    """Control records of the epoch before are between."""
    archive.add(P0, 0, 1000, leader_epoch=1)
    key = archive.add(P0, 1000, 1100, named=1003, leader_epoch=2, first_offset=1005, rejected=(1050,))
    report = await look(archive)
    assert report.ok, report.problems
    assert report.totals.quarantine_objects == 1
    archive.delete(key)
    archive.add(P0, 1100, 1200, leader_epoch=2)
    assert found(await look(archive)) == [("gap", 1000, 1100)]


@pytest.mark.parametrize("named", [999, 1006])
async def test_a_name_before_or_behind_the_first_records_is_a_mismatch(archive: Archive, named: int) -> None:
    archive.add(P0, 1000, 1100, named=named, leader_epoch=2, first_offset=1005)
    assert [problem.code for problem in (await look(archive)).problems] == ["mismatch"]


async def test_a_second_fork_below_the_first_replaces_it(archive: Archive) -> None:
    forked(archive)
    archive.add(P0, 700, 1200, NOON + 2 * DAY, named=700, leader_epoch=5)
    report = await look(archive)
    assert report.ok, report.problems
    lost = [(note.leader_epoch, note.start, note.end) for note in report.notes]
    assert lost == [(0, 700, 900), (1, 900, 1500), (3, 1000, 1900)]
    (it,) = report.partitions
    assert (it.start, it.end, it.leader_epoch) == (0, 1200, 5)


@pytest.mark.parametrize("reached", [1200, 1700])
async def test_an_epoch_that_kafka_has_lost_in_full_is_no_gap(archive: Archive, reached: int) -> None:
    """A replica became the leader that never had it, and that had all of the epoch before it."""
    archive.chain(P0, 0, 1000, 1500, leader_epoch=0)
    archive.add(P0, 1000, reached, named=1000, leader_epoch=1)
    archive.add(P0, 1500, 1600, named=1500, leader_epoch=2)
    kafka = with_epochs({0: 0, 2: 1500}, LogRange(0, 1600))
    report = await look(archive, VerifyOptions(), kafka)
    assert report.ok, report.problems
    assert {note.code for note in report.notes} == {"forked"}


async def test_a_fork_is_by_the_epoch_that_replaced_the_lost_one(archive: Archive) -> None:
    """Neither by one that came where the chain had ended later, nor by an older one that Kafka went back to."""
    archive.add(P0, 0, 300, leader_epoch=0)
    archive.add(P0, 300, 400, leader_epoch=1)
    archive.add(P0, 100, 300, named=100, leader_epoch=2)
    archive.add(P0, 300, 900, named=300, leader_epoch=3)
    archive.add(P0, 500, 700, named=500, leader_epoch=4)
    archive.add(P0, 800, 900, named=800, leader_epoch=5)
    report = await look(archive)
    assert report.ok, report.problems
    assert [note.message.split("; ")[0].split("]: ")[1] for note in report.notes] == [
        "forked at 100, by leader epoch 2: Kafka lost offsets 100-300 (200) of leader epoch 0",
        "forked at 100, by leader epoch 2: Kafka lost offsets 300-400 (100) of leader epoch 1",
        "forked at 500, by leader epoch 4: Kafka lost offsets 800-900 (100) of leader epoch 3",
        "forked at 800, by leader epoch 5: Kafka lost offsets 500-700 (200) of leader epoch 4",
    ]
    assert [fork.later_epoch for fork in report.partitions[0].forks] == [2, 2, 4, 5]


async def test_a_chain_may_begin_with_a_fork(archive: Archive) -> None:
    """The chain had begun above."""
    archive.add(P0, 100, 200, leader_epoch=1)
    archive.add(P0, 50, 150, named=50, leader_epoch=2)
    report = await look(archive)
    assert report.ok
    (it,) = report.partitions
    assert (it.start, it.end) == (50, 150)


async def test_what_is_before_a_fork_must_reach_it(archive: Archive) -> None:
    keys = forked(archive)
    archive.delete(keys[1])
    report = await look(archive)
    assert found(report) == [("gap", 900, 1000)]
    assert (report.problems[0].key, report.problems[0].other) == (keys[0], keys[2])


async def test_gaps_in_the_chain_and_in_what_kafka_lost_name_their_neighbours(archive: Archive) -> None:
    older = archive.chain(P0, 0, 100, 200, 300, leader_epoch=1)
    newer = [
        archive.add(P0, start, end, NOON + DAY, named=start, leader_epoch=7)
        for start, end in ((50, 120), (120, 180), (180, 350))
    ]
    archive.delete(older[1])
    archive.delete(newer[1])
    report = await look(archive)
    assert [(it.code, it.start, it.end, it.leader_epoch, it.key, it.other) for it in report.problems] == [
        ("gap", 120, 180, None, newer[0], newer[2]),
        ("gap", 100, 200, 1, older[0], older[2]),
    ]
    assert "in no object of leader epoch 1, and Kafka has lost their records" in report.problems[1].message


async def test_an_overlap_in_an_epoch_names_both_of_its_objects(archive: Archive) -> None:
    archive.chain(P0, 0, 100, 200, leader_epoch=1)
    archive.add(P0, 150, 180, named=150, leader_epoch=9)
    key = archive.add(P0, 100, 200, NOON + DAY, named=100, leader_epoch=7)
    copy = archive.add(P0, 100, 200, NOON + 5 * DAY, named=100, leader_epoch=7)
    report = await look(archive)
    assert found(report) == [("overlap", 100, 200)]
    assert {report.problems[0].key, report.problems[0].other} == {key, copy}
    assert report.problems[0].leader_epoch == 7


async def test_the_same_records_under_names_with_and_without_an_epoch_are_an_overlap(archive: Archive) -> None:
    """A daemon that halts and one that forks ran at once."""
    archive.add(P0, 0, 100, leader_epoch=1)
    archive.add(P0, 100, 200, leader_epoch=1)
    archive.add(P0, 100, 220, named=100, leader_epoch=1)
    assert found(await look(archive)) == [("overlap", 100, 200)]


@pytest.mark.parametrize("epoch", [4, None, -1, 2**31], ids=str)
async def test_metadata_of_another_epoch_is_a_mismatch(archive: Archive, epoch: int | None) -> None:
    keys = forked(archive)
    archive.say(keys[3], leader_epoch=epoch)
    assert [problem.code for problem in (await look(archive)).problems] == ["mismatch"]


async def test_at_least_once_names_have_epochs_too() -> None:
    archive = Archive(exactly_once=False)
    archive.chain(P0, 0, 100, 200, leader_epoch=1)
    archive.add(P0, 150, 250, named=150, leader_epoch=7)
    archive.add(P0, 150, 220, named=150, leader_epoch=7)
    report = await look(archive, sink__delivery="at-least-once")
    assert report.ok
    assert report.totals.repeated_offsets == 70
    assert sorted(notes(report)) == ["forked", "repeated"]


@pytest.mark.parametrize("reached", [1500, 1600])
async def test_an_epoch_that_begins_out_of_the_time_range_is_known_by_its_name(archive: Archive, reached: int) -> None:
    """The older epoch reaches into the range with records that Kafka has lost since."""
    archive.add(P0, 0, reached, NOON + DAY, last_timestamp=NOON + 3 * DAY, leader_epoch=1)
    archive.add(P0, 1000, 1600, NOON + DAY, named=1000, leader_epoch=3)
    archive.add(P0, 1600, 1900, NOON + 3 * DAY, named=1600, leader_epoch=3)
    kafka = after_truncation(Position(1900, TAG, leader_epoch=3))
    report = await look(archive, VerifyOptions(since=NOON + 2 * DAY), kafka)
    assert report.totals.objects == 2
    assert report.ok, report.problems
    assert [(note.code, note.start, note.end) for note in report.notes] == [("forked", 1000, reached)]


# -- the group


async def test_a_group_in_the_fork_has_no_problem(archive: Archive) -> None:
    forked(archive)
    report = await look(archive, VerifyOptions(), after_truncation(Position(1400, TAG, leader_epoch=3)))
    assert report.ok, report.problems
    assert notes(report) == ["trails", "forked"]
    (it,) = report.partitions
    assert (it.committed, it.committed_epoch) == (1400, 3)


@pytest.mark.parametrize("log_end", [1900, 2500])
async def test_a_group_from_before_the_fork_trails(archive: Archive, log_end: int) -> None:
    """The daemon stopped between the first object of the fork and its commit."""
    forked(archive)
    kafka = after_truncation(Position(1500, TAG, leader_epoch=1), LogRange(0, log_end))
    report = await look(archive, VerifyOptions(), kafka)
    assert report.ok, report.problems
    assert notes(report) == ["trails", "forked"]


async def test_a_group_behind_a_short_fork_trails(archive: Archive) -> None:
    archive.delete(forked(archive)[3])
    report = await look(archive, VerifyOptions(), after_truncation(Position(1500, TAG, leader_epoch=1)))
    assert report.ok, report.problems
    (trails, _) = report.notes
    assert "1500 is committed, from before the chain forked; its end is 1400" in trails.message


@pytest.mark.parametrize(
    ("commit", "problem"),
    [
        (Position(2000, TAG, leader_epoch=3), ("lost", 1900, 2000)),
        (Position(1600, TAG, leader_epoch=1), ("lost", 1500, 1600)),
        (Position(1500, TAG, leader_epoch=1), None),
        (Position(1800, TAG, leader_epoch=3), ("misaligned", 1400, 1900)),
        (Position(1500, ""), ("misaligned", 1400, 1900)),
        (Position(1500, TAG), ("misaligned", 1400, 1900)),
        (Position(1000, ""), None),
        (Position(900, ""), None),
    ],
    ids=str,
)
async def test_the_committed_offset_is_compared_with_the_chain_of_its_epoch(
    archive: Archive, commit: Position, problem: tuple[str, int, int] | None
) -> None:
    forked(archive)
    report = await look(archive, VerifyOptions(), after_truncation(commit, LogRange(0, 2000)))
    assert found(report) == ([problem] if problem else [])
