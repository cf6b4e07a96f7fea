"""`ingestd verify` shows a forked chain as what it is, and finds what is wrong in its branches."""

from typing import Any

import pytest

from ingestd.core.records import LogRange, Position
from ingestd.verify.report import text
from ingestd.verify.run import VerifyOptions
from tests.archive import DAY, NOON, P0, Archive
from tests.verify_world import TAG, after_truncation, forked, found, look, notes


@pytest.fixture
def archive() -> Archive:
    return Archive()


# -- branches


async def test_a_fork_is_a_note_and_no_overlap(archive: Archive) -> None:
    forked(archive)
    report = await look(archive, VerifyOptions(objects_only=True, read=True))
    assert report.ok, report.problems
    (note,) = report.notes
    assert (note.code, note.start, note.end, note.fork) == ("forked", 1000, 1500, 3)
    assert "forked at 1000, by leader epoch 3: Kafka lost offsets 1000-1500 (500); their rows are kept" in note.message
    (it,) = report.partitions
    assert (it.start, it.end, it.fork) == (0, 1900, 3)
    assert [(fork.fork, fork.start, fork.lost_end) for fork in it.forks] == [(3, 1000, 1500)]
    assert (report.totals.rows, report.totals.lost_offsets) == (2400, 500)


async def test_the_text_names_the_fork(archive: Archive) -> None:
    forked(archive)
    lines = text(await look(archive)).splitlines()
    assert lines[-1] == "Nothing wrong: 4 objects in an unbroken chain, forked."
    header, row = (line.split() for line in lines if line.startswith("  partition") or "events[0]  " in line)
    assert dict(zip(header, row, strict=True)) | {"fork": "3", "from": "0", "to": "1900"} == dict(
        zip(header, row, strict=True)
    )
    assert "  lost      500 offsets by Kafka, before a fork; their rows are kept" in lines


async def test_a_fork_at_the_end_of_what_was_read_lost_nothing(archive: Archive) -> None:
    archive.chain(P0, 0, 1000)
    archive.add(P0, 1000, 1100, fork=0)
    report = await look(archive)
    assert report.ok
    (note,) = report.notes
    assert (note.code, note.start) == ("forked", None)
    assert report.totals.lost_offsets == 0


async def test_a_second_fork_below_the_first_replaces_it(archive: Archive) -> None:
    forked(archive)
    archive.add(P0, 700, 1200, NOON + 2 * DAY, fork=5)
    report = await look(archive)
    assert report.ok, report.problems
    assert [(note.fork, note.start, note.end) for note in report.notes] == [(3, 1000, 1500), (5, 700, 1900)]
    (it,) = report.partitions
    assert (it.start, it.end, it.fork) == (0, 1200, 5)


async def test_a_chain_may_begin_with_a_fork(archive: Archive) -> None:
    """The log was truncated before anything had landed, or the chain had begun above."""
    archive.add(P0, 100, 200)
    archive.add(P0, 50, 150, fork=2)
    report = await look(archive)
    assert report.ok
    (it,) = report.partitions
    assert (it.start, it.end) == (50, 150)


@pytest.mark.parametrize(("number", "gap"), [(1, (900, 1000)), (2, (1500, 1700))])
async def test_the_older_branch_must_reach_the_fork(archive: Archive, number: int, gap: tuple[int, int]) -> None:
    keys = forked(archive)
    archive.delete(keys[number])
    report = await look(archive)
    assert found(report) == [("gap", *gap)]
    assert (report.problems[0].key, report.problems[0].other) == (keys[number - 1], keys[number + 1])


async def test_gaps_inside_of_branches_name_their_own_neighbours(archive: Archive) -> None:
    older = archive.chain(P0, 0, 100, 200, 300)
    newer = archive.chain(P0, 50, 100, 200, 350, fork=7)
    archive.delete(older[1])
    archive.delete(newer[1])
    report = await look(archive)
    assert [(it.code, it.start, it.end, it.fork, it.key, it.other) for it in report.problems] == [
        ("gap", 100, 200, None, older[0], older[2]),
        ("gap", 100, 200, 7, newer[0], newer[2]),
    ]
    assert "in no object of fork 7" in report.problems[1].message


async def test_an_overlap_inside_of_a_branch_names_both_of_its_objects(archive: Archive) -> None:
    archive.chain(P0, 0, 100, 200)
    key = archive.add(P0, 100, 200, fork=7)
    copy = archive.add(P0, 100, 200, NOON + 5 * DAY, fork=7)
    report = await look(archive)
    assert found(report) == [("overlap", 100, 200)]
    assert {report.problems[0].key, report.problems[0].other} == {key, copy}
    assert report.problems[0].fork == 7


async def test_records_in_two_branches_are_an_overlap(archive: Archive) -> None:
    """A daemon without forks went on behind the truncation, and later one with forks ingested all of it."""
    archive.add(P0, 0, 1500, leader_epoch=1)
    archive.add(P0, 1500, 1900, leader_epoch=3)
    archive.add(P0, 1000, 2000, fork=3, leader_epoch=3)
    report = await look(archive)
    assert found(report) == [("overlap", 1500, 1900)]


@pytest.mark.parametrize("changes", [{"fork": 4}, {"fork": None}, {"leader_epoch": 2}, {"leader_epoch": -1}], ids=str)
async def test_metadata_of_another_fork_is_a_mismatch(archive: Archive, changes: dict[str, Any]) -> None:
    keys = forked(archive)
    archive.say(keys[3], **changes)
    assert [problem.code for problem in (await look(archive)).problems] == ["mismatch"]


async def test_a_copy_under_the_name_of_another_fork_is_a_mismatch(archive: Archive) -> None:
    keys = forked(archive)
    archive.put(archive.layout.data_key(P0, 900, NOON, 0, 3), b"", archive.landed(keys[1]))
    report = await look(archive)
    assert [problem.code for problem in report.problems] == ["mismatch"]
    assert report.partitions[0].forks[0].start == 1000


async def test_at_least_once_names_have_forks_too() -> None:
    archive = Archive(exactly_once=False)
    archive.chain(P0, 0, 100, 200)
    archive.add(P0, 150, 250, fork=7)
    archive.add(P0, 150, 220, fork=7)
    report = await look(archive, sink__delivery="at-least-once")
    assert report.ok
    assert report.totals.repeated_offsets == 70
    assert sorted(notes(report)) == ["forked", "repeated"]


async def test_the_start_of_a_fork_out_of_the_time_range_is_known_by_its_name(archive: Archive) -> None:
    """The older branch reaches into the range with records that Kafka has lost since."""
    archive.add(P0, 0, 1500, NOON + DAY, last_timestamp=NOON + 3 * DAY, leader_epoch=1)
    archive.add(P0, 1000, 1600, NOON + DAY, fork=3, leader_epoch=3)
    archive.add(P0, 1600, 1900, NOON + 3 * DAY, fork=3, leader_epoch=3)
    kafka = after_truncation(Position(1900, TAG, fork=3, leader_epoch=3))
    report = await look(archive, VerifyOptions(since=NOON + 2 * DAY), kafka)
    assert report.totals.objects == 2
    assert report.ok, report.problems
    assert [(note.code, note.start, note.end) for note in report.notes] == [("forked", 1000, 1500)]


# -- the group


async def test_a_group_in_the_fork_has_no_problem(archive: Archive) -> None:
    forked(archive)
    report = await look(archive, VerifyOptions(), after_truncation(Position(1700, TAG, fork=3, leader_epoch=3)))
    assert report.ok, report.problems
    assert notes(report) == ["trails", "forked"]
    (it,) = report.partitions
    assert (it.committed, it.committed_fork, it.committed_epoch) == (1700, 3, 3)


@pytest.mark.parametrize("log_end", [1900, 2500])
async def test_a_group_from_before_the_fork_trails(archive: Archive, log_end: int) -> None:
    """The daemon stopped between the first object of the fork and its commit."""
    forked(archive)
    kafka = after_truncation(Position(1500, TAG, leader_epoch=1), LogRange(0, log_end))
    report = await look(archive, VerifyOptions(), kafka)
    assert report.ok, report.problems
    assert notes(report) == ["trails", "forked"]


async def test_a_group_behind_a_short_fork_trails(archive: Archive) -> None:
    for key in forked(archive)[2:]:
        archive.delete(key)
    archive.add(P0, 1000, 1200, fork=3, leader_epoch=3)
    report = await look(archive, VerifyOptions(), after_truncation(Position(1500, TAG, leader_epoch=1)))
    assert report.ok, report.problems
    (trails, _) = report.notes
    assert "1500 is committed, from before fork 3" in trails.message


@pytest.mark.parametrize(
    ("commit", "problem"),
    [
        (Position(2000, TAG, fork=3), ("lost", 1900, 2000)),
        (Position(1600, TAG), ("lost", 1500, 1600)),
        (Position(1900, TAG, fork=4), ("lost", None, None)),
        (Position(1800, TAG, fork=3), ("misaligned", 1700, 1900)),
        (Position(1500, ""), ("misaligned", 1000, 1700)),
        (Position(900, ""), None),
    ],
    ids=str,
)
async def test_the_committed_offset_is_compared_with_its_branch(
    archive: Archive, commit: Position, problem: tuple[str, int, int] | None
) -> None:
    forked(archive)
    report = await look(archive, VerifyOptions(), after_truncation(commit, LogRange(0, 2000)))
    assert found(report) == ([problem] if problem else [])
