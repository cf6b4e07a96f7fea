"""`ingestd verify` finds exactly the damage in chains that the tests wrote and damaged."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd import inspection, wiring
from ingestd.cli.verify import Options, run
from ingestd.config.load import Flag, Settings, load
from ingestd.core.errors import EXIT_PROBLEMS, ConfigError, SinkForbidden, SinkUnavailable, SourceError
from ingestd.core.gzip import compress
from ingestd.core.records import LogRange, Position, TopicPartition
from ingestd.core.stored import ObjectInfo
from ingestd.verify import body_verifier, chains
from ingestd.verify.chains import VerifyLimitError
from ingestd.verify.findings import VerifyFinding, VerifyReport
from ingestd.verify.run import OpenInspector, VerifyOptions, verify
from tests.archive import CLUSTER, DAY, NOON, P0, P1, Archive, rejects, rows
from tests.fakes.inspector import FakeInspector as Kafka
from tests.fakes.memory_sink import Fault, MemorySink
from tests.simulation import virtual_time

ALL = VerifyOptions()
ALONE = VerifyOptions(objects_only=True)
READ = VerifyOptions(objects_only=True, read=True)
TOPIC = P0.topic


def settings(**keys: str) -> Settings:
    flags = [Flag("--set", key.replace("__", "."), value) for key, value in keys.items()]
    return load(environ={}, flags=flags)


async def look(
    archive: Archive,
    options: VerifyOptions = ALONE,
    open_inspector: OpenInspector = inspection.open_inspector,
    **keys: str,
) -> VerifyReport:
    if not archive.layout.exactly_once:
        keys["sink__delivery"] = "at-least-once"
    return await verify(settings(**keys), options, archive.sink, open_inspector)


def found(report: VerifyReport) -> list[tuple[str, int | None, int | None]]:
    """Code and offsets of each problem."""
    return [(problem.code, problem.start, problem.end) for problem in report.problems]


def codes(report: VerifyReport) -> list[str]:
    return [problem.code for problem in report.problems]


def notes(report: VerifyReport) -> list[str]:
    return [note.code for note in report.notes]


def only(report: VerifyReport) -> VerifyFinding:
    (problem,) = report.problems
    return problem


@pytest.fixture
def archive() -> Archive:
    return Archive()


# -- chains


async def test_an_unbroken_chain_is_counted_and_nothing_is_wrong(archive: Archive) -> None:
    archive.add(P0, 5, 10)
    archive.add(P0, 10, 40, NOON + DAY, rejected=(12, 13))
    archive.add(P1, 0, 7, NOON + 2 * DAY)
    report = await look(archive, READ)
    assert report.ok
    assert not report.notes
    totals = report.totals
    assert (totals.objects, totals.rows, totals.rejected, totals.quarantine_objects) == (3, 40, 2, 1)
    assert totals.bytes == sum(len(body) for key, (body, _) in archive.sink.objects.items() if key[0] == "e")
    assert (totals.first_timestamp, totals.last_timestamp) == (NOON, NOON + 2 * DAY + 1000)
    assert [(it.partition, it.start, it.end, it.counts.objects) for it in report.partitions] == [
        (0, 5, 40, 2),
        (1, 0, 7, 1),
    ]
    assert report.days == 3


async def test_days_in_any_order_are_one_chain(archive: Archive) -> None:
    """They are of producers' clocks."""
    for start, day in ((0, 9), (10, 2), (20, 400), (30, 3), (40, 2)):
        archive.add(P0, start, start + 10, NOON + day * DAY)
    report = await look(archive, READ)
    assert report.ok
    assert (report.partitions[0].start, report.partitions[0].end) == (0, 50)


async def test_a_deleted_object_is_a_gap_between_its_neighbours(archive: Archive) -> None:
    before, lost, after, _ = archive.chain(P0, 0, 10, 20, 30, 40)
    archive.delete(lost)
    report = await look(archive)
    assert found(report) == [("gap", 10, 20)]
    assert (only(report).key, only(report).other) == (before, after)
    assert report.partitions[0].problems == 1


async def test_a_year_without_an_object_is_no_gap(archive: Archive) -> None:
    archive.add(P0, 0, 10, NOON)
    archive.add(P0, 10, 20, NOON + 400 * DAY)
    assert (await look(archive)).ok


async def test_an_overlap_names_both_objects(archive: Archive) -> None:
    *_, third, _ = archive.chain(P0, 0, 10, 20, 30, 40)
    strange = archive.add(P0, 25, 40, NOON)
    report = await look(archive)
    assert set(codes(report)) == {"overlap"}
    pairs = [{problem.key, problem.other} for problem in report.problems]
    assert {third, strange} in pairs
    assert all(problem.other in problem.message for problem in report.problems if problem.other)
    assert report.totals.repeated_offsets == 0


async def test_a_copy_on_another_day_is_an_overlap(archive: Archive) -> None:
    key = archive.add(P0, 0, 10)
    archive.add(P0, 10, 20)
    copy = archive.add(P0, 0, 10, NOON + DAY)
    report = await look(archive)
    assert found(report) == [("overlap", 0, 10)]
    assert {only(report).key, only(report).other} == {key, copy}


async def test_foreign_objects_are_found(archive: Archive) -> None:
    (key,) = archive.chain(P0, 0, 10)
    folder = key.rpartition("/")[0]
    archive.put(f"{folder}/report.csv", b"a", None)
    archive.put(archive.layout.data_key(P0, 10, NOON, 0), compress(b"").data, None)
    report = await look(archive)
    assert codes(report) == ["foreign", "foreign"]
    assert {problem.key for problem in report.problems} == {
        f"{folder}/report.csv",
        archive.layout.data_key(P0, 10, NOON, 0),
    }


async def test_a_renamed_object_is_not_counted(archive: Archive) -> None:
    first, second, third = archive.chain(P0, 0, 10, 20, 30)
    archive.move(second, second.replace("10.jsonl", "12.jsonl"))
    report = await look(archive)
    assert sorted(found(report)) == [("gap", 10, 20), ("mismatch", None, None)]
    assert report.totals.objects == 2
    assert {first, third} == {report.problems[1].key, report.problems[1].other}


async def test_an_object_moved_to_another_day_is_counted_and_found(archive: Archive) -> None:
    (key,) = archive.chain(P0, 0, 10)
    archive.move(key, other := archive.layout.data_key(P0, 0, NOON + 3 * DAY, 10))
    report = await look(archive)
    assert (only(report).code, only(report).key, only(report).other) == ("mismatch", other, key)
    assert report.totals.objects == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"end": 0},
        {"end": 2**70},
        {"partition": 1},
        {"topic": "other"},
        {"rows": 11},
        {"rows": -1},
        {"rejected": 5},
        {"first_offset": 10},
        {"quarantine": "../../../escape"},
        {"first_timestamp": 2**80},
    ],
    ids=str,
)
async def test_impossible_metadata_is_found(archive: Archive, changes: Mapping[str, object]) -> None:
    (key,) = archive.chain(P0, 0, 10)
    archive.say(key, **changes)
    assert codes(await look(archive)) == ["mismatch"]


async def test_objects_of_another_cluster_than_the_others_are_found(archive: Archive) -> None:
    archive.chain(P0, 0, 10, 20, 30)
    archive.add(P0, 30, 40, cluster="another")
    report = await look(archive)
    assert codes(report) == ["cluster"]
    assert "1 object of cluster another, not a-cluster" in only(report).message


async def test_a_hole_that_retention_left_is_part_of_the_chain(archive: Archive) -> None:
    archive.add(P0, 0, 10)
    archive.hole(P0, 10, 500)
    archive.add(P0, 500, 510)
    report = await look(archive, READ)
    assert report.ok
    assert notes(report) == ["holes"]
    assert (report.totals.holes, report.totals.hole_offsets) == (1, 490)


class Vanishing(MemorySink):
    """Loses an object when it is looked at."""

    lost = ""

    async def head(self, key: str) -> ObjectInfo | None:
        if key == self.lost:
            self.objects.pop(key, None)
        return await super().head(key)


async def test_an_object_deleted_after_the_listing_is_found() -> None:
    sink = Vanishing()
    archive = Archive(sink=sink)
    _, sink.lost, _ = archive.chain(P0, 0, 10, 20, 30)
    assert codes(await look(archive)) == ["deleted", "gap"]


# -- the quarantine


async def test_a_deleted_quarantine_object_is_found(archive: Archive) -> None:
    archive.chain(P0, 0, 10, 20, rejected=(3,))
    (key,) = [key for key in archive.sink.objects if key.startswith("quarantine/") and "000000+" in key]
    archive.delete(key)
    for options in (ALONE, READ):
        report = await look(archive, options)
        assert (only(report).code, only(report).key) == ("quarantine_missing", key)


async def test_the_listing_of_the_quarantine_saves_looking_at_each_object(archive: Archive) -> None:
    archive.chain(P0, *range(0, 1000, 10), rejected=range(5, 1000, 10))
    assert (await look(archive)).totals.quarantine_objects == 99
    assert archive.sink.calls["head"] == 99


async def test_quarantine_objects_that_no_data_object_names_are_counted(archive: Archive) -> None:
    archive.add(P0, 10, 20, rejected=(12,))
    for start in (0, 10, 20):  # before, at, and after the only data object
        archive.put(archive.layout.quarantine_key(P0, start, NOON, "0" * 16), b"", None)
    archive.put(archive.layout.quarantine_key(P1, 0, NOON + DAY, "0" * 16), b"", None)
    report = await look(archive)
    assert report.ok
    assert (report.totals.quarantine_objects, report.totals.superseded) == (1, 4)
    assert notes(report) == ["superseded"]


async def test_rejected_records_without_a_quarantine_object_are_found(archive: Archive) -> None:
    (key,) = archive.chain(P0, 0, 10, rejected=(3,))
    archive.say(key, quarantine=None)
    assert codes(await look(archive)) == ["quarantine_missing"]


async def test_a_strange_name_in_the_quarantine_is_a_note(archive: Archive) -> None:
    (key,) = archive.chain(P0, 0, 10, rejected=(3,))
    folder = key.rpartition("/")[0].replace("events/", "quarantine/")
    for name in ("!first", "~last"):
        archive.put(f"{folder}/{name}", b"", None)
    report = await look(archive)
    assert report.ok
    assert notes(report) == ["strange_quarantine"]


# -- what is in the objects


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (compress(rows(P0, range(9))).data, "it has 9 rows, its metadata says 10"),
        (compress(rows(P0, range(11))).data, "row 10 has offset 10; expected one after 9 in 0-10"),
        (compress(rows(P0, [*range(9), 8])).data, "row 9 has offset 8; expected one after 8"),
        (compress(rows(P1, range(10))).data, "row 0 is from marketing_events[1]"),
        (
            compress(rows(P0, range(10)).replace(b"e3", b"e4")).data,
            "the sha256 of its body is not the one in its metadata",
        ),
        (compress(rows(P0, range(9)) + b"{}\n").data, "a line is not a row"),
        (compress(rows(P0, range(10))[:-1]).data, "its last line is incomplete"),
        (compress(rows(P0, range(10))).data[:-1], "it has no end"),
        (compress(rows(P0, range(10))).data + b"x", "bytes after its end"),
        (b"no gzip", "not a gzip file"),
        (b"", "it has no end"),
    ],
)
async def test_overwritten_rows_are_found_by_reading(archive: Archive, body: bytes, words: str) -> None:
    (key,) = archive.chain(P0, 0, 10)
    archive.overwrite(key, body)
    assert (await look(archive)).ok, "the metadata alone does not tell"
    report = await look(archive, READ)
    assert (only(report).code, only(report).key) == ("content", key)
    assert words in only(report).message


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (rejects(P0, (3,)), "the digest of its contents is not"),
        (rejects(P0, (3, 4, 5)), "the digest of its contents is not"),
        (b"", "the digest of its contents is not"),
    ],
)
async def test_overwritten_quarantine_objects_are_found_by_reading(archive: Archive, body: bytes, words: str) -> None:
    archive.chain(P0, 0, 10, rejected=(3, 4))
    (key,) = [key for key in archive.sink.objects if key.startswith("quarantine/")]
    archive.overwrite(key, body)
    assert (await look(archive)).ok
    report = await look(archive, READ)
    assert (only(report).code, only(report).key) == ("quarantine_content", key)
    assert words in only(report).message


async def test_bodies_take_bounded_memory(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    class Counting(MemorySink):
        held = most = 0

        async def get(self, key: str, limit: int | None = None) -> bytes:
            size = len(self.objects[key][0])
            self.held += size
            self.most = max(self.most, self.held)
            for _ in range(20):
                await asyncio.sleep(0)
            self.held -= size
            return await super().get(key, limit)

    sink = Counting()
    archive = Archive(sink=sink)
    archive.chain(P0, *range(0, 600, 10), 1000)
    largest = max(len(body) for body, _ in sink.objects.values())
    monkeypatch.setattr(body_verifier, "MAX_BODIES_BYTES", 3 * largest // 2)
    assert (await look(archive, READ)).ok
    assert largest <= sink.most <= 3 * largest // 2


# -- Kafka


MARK = Archive().layout.commit_tag("memory:///")


async def against(
    archive: Archive,
    committed: int | None,
    log: tuple[int, int],
    *,
    mark: str = MARK,
    options: VerifyOptions = ALL,
    **keys: str,
) -> VerifyReport:
    """Look at an archive of one partition, and at a group and a log that stay as they are."""
    position = Position(committed, mark) if committed is not None else None
    kafka = Kafka(({P0: position}, {P0: LogRange(*log)}))
    return await look(archive, options, kafka.open, **keys)


async def test_a_group_at_the_end_of_the_chain_has_no_problem(archive: Archive) -> None:
    archive.chain(P0, 10, 20, 30)
    report = await against(archive, 30, (10, 45))
    assert report.ok
    assert not report.notes
    (it,) = report.partitions
    assert (it.committed, it.log_start, it.log_end, it.lag) == (30, 10, 45, 15)
    assert (report.cluster, report.group) == (CLUSTER, "ingestd")


@pytest.mark.parametrize("committed", [10, 20])
async def test_a_group_behind_the_chain_trails(archive: Archive, committed: int) -> None:
    archive.chain(P0, 10, 20, 30)
    report = await against(archive, committed, (10, 30))
    assert report.ok
    assert notes(report) == ["trails"]


async def test_an_offset_inside_of_an_object_is_misaligned(archive: Archive) -> None:
    _, key = archive.chain(P0, 10, 20, 30)
    report = await against(archive, 25, (10, 30), mark="")
    assert codes(report) == ["misaligned"]
    assert f"25 is committed, which is inside {key}; reset it to 30" in only(report).message


async def test_an_offset_before_the_first_object_is_misaligned(archive: Archive) -> None:
    archive.chain(P0, 10, 20, 30)
    report = await against(archive, 5, (5, 30), mark="", kafka__start="latest")
    assert codes(report) == ["misaligned"]


@pytest.mark.parametrize("mark", [MARK, ""])
async def test_an_offset_past_the_chain_is_records_lost(archive: Archive, mark: str) -> None:
    archive.chain(P0, 10, 20, 30)
    report = await against(archive, 35, (10, 40), mark=mark)
    assert found(report) == [("lost", 30, 35)]


async def test_all_objects_deleted_are_records_lost(archive: Archive) -> None:
    report = await against(archive, 30, (10, 40))
    assert codes(report) == ["lost"]


async def test_a_group_that_has_landed_nothing_yet_is_a_note(archive: Archive) -> None:
    for committed in (None, 10):
        report = await against(archive, committed, (10, 40), mark="")
        assert report.ok
        assert notes(report) == ["no_objects"]
    assert not (await against(archive, None, (10, 10))).notes


async def test_a_chain_without_a_group_is_a_note(archive: Archive) -> None:
    archive.chain(P0, 10, 20)
    report = await against(archive, None, (10, 40))
    assert report.ok
    assert notes(report) == ["no_commit"]


async def test_a_mark_of_another_place_is_a_note(archive: Archive) -> None:
    archive.chain(P0, 10, 20)
    report = await against(archive, 20, (10, 40), mark="ingestd:1:0000")
    assert report.ok
    assert notes(report) == ["mark"]


async def test_retention_that_overtook_the_chain_is_found(archive: Archive) -> None:
    archive.chain(P0, 10, 20)
    report = await against(archive, 20, (25, 40))
    assert found(report) == [("lost_upstream", 20, 25)]


async def test_a_chain_past_the_end_of_the_log_is_of_another_topic(archive: Archive) -> None:
    archive.chain(P0, 0, 10, 20)
    report = await against(archive, 20, (0, 15))
    assert found(report) == [("recreated_topic", 15, 20)]


async def test_objects_of_a_partition_that_the_topic_does_not_have_are_found(archive: Archive) -> None:
    archive.chain(P0, 0, 10)
    archive.chain(P1, 0, 10)
    assert codes(await against(archive, 10, (0, 10))) == ["recreated_topic"]


async def test_records_before_the_first_object_are_found_when_starting_at_earliest(archive: Archive) -> None:
    first, _ = archive.chain(P0, 0, 10, 20)
    archive.delete(first)
    assert found(await against(archive, 20, (0, 20))) == [("before_first", 0, 10)]
    assert (await against(archive, 20, (0, 20), kafka__start="latest")).ok
    assert (await against(archive, 20, (10, 20))).ok


async def test_objects_of_another_cluster_than_kafka_s_are_found(archive: Archive) -> None:
    archive.chain(P0, 0, 10, cluster="another")
    assert codes(await against(archive, 10, (0, 10))) == ["cluster"]


async def test_other_topics_are_skipped(archive: Archive) -> None:
    archive.chain(P0, 0, 10)
    archive.chain(TopicPartition("clicks", 0), 5, 10, rejected=(7,))
    report = await against(archive, 10, (0, 10))
    assert report.ok
    assert [it.topic for it in report.partitions] == [TOPIC]
    assert notes(report) == ["other_topics"]


async def test_without_kafka_all_topics_are_verified_unless_some_are_named(archive: Archive) -> None:
    archive.chain(P0, 0, 10)
    archive.chain(TopicPartition("clicks", 0), 5, 10)
    assert [it.topic for it in (await look(archive)).partitions] == ["clicks", TOPIC]
    assert [it.topic for it in (await look(archive, kafka__topics="clicks")).partitions] == ["clicks"]
    assert [it.topic for it in (await look(archive, VerifyOptions(), source="simulator")).partitions] == [
        "clicks",
        TOPIC,
    ]


# -- a daemon that goes on


class Growing(MemorySink):
    """Calls `when` before a listing."""

    def __init__(self, when: Callable[[str], None]) -> None:
        super().__init__()
        self.when = when

    async def list(self, prefix: str) -> AsyncIterator[str]:
        keys = [key async for key in super().list(prefix)]
        self.when(prefix)
        for key in keys:
            yield key


async def test_a_daemon_that_runs_meanwhile_gives_no_false_alarm() -> None:
    """The next object goes to a day that was listed, the one after it to one that was not."""

    def grow(prefix: str) -> None:
        if prefix == first.rpartition("/")[0] + "/" and not grown:
            grown.append(archive.add(P0, 20, 30, NOON - DAY, rejected=(25,)))
            grown.append(archive.add(P0, 30, 40, NOON, rejected=(33,)))

    grown: list[str] = []
    archive = Archive(sink=Growing(grow))
    kafka = Kafka(({P0: Position(20, MARK)}, {P0: LogRange(0, 22)}), ({P0: Position(40, MARK)}, {P0: LogRange(0, 60)}))
    first = archive.add(P0, 0, 10, NOON - DAY)
    archive.add(P0, 10, 20, NOON)
    report = await look(archive, ALL, kafka.open)
    assert grown
    assert report.partitions[0].end == 40
    assert report.ok, report.problems
    assert not report.notes
    assert kafka.asked == 2


async def test_kafka_is_asked_before_the_first_listing() -> None:
    """What lands and is committed behind a listing is not missed in it."""

    def grow(prefix: str) -> None:
        if prefix.startswith("events/") and not grown:
            grown.append(archive.add(P0, 20, 30))
            kafka.says[0] = ({P0: Position(30, MARK)}, {P0: LogRange(0, 30)})

    grown: list[str] = []
    archive = Archive(sink=Growing(grow))
    kafka = Kafka(({P0: Position(20, MARK)}, {P0: LogRange(0, 20)}))
    archive.chain(P0, 0, 10, 20, step=0)
    report = await look(archive, ALL, kafka.open)
    assert grown
    assert report.ok, report.problems
    assert report.partitions[0].end == 20


async def test_kafka_unavailable_after_the_scan_is_a_note(archive: Archive) -> None:
    archive.chain(P0, 0, 10, 20)
    kafka = Kafka(({P0: Position(10, MARK)}, {P0: LogRange(0, 20)}))
    kafka.error = SourceError("it is down")
    report = await look(archive, ALL, kafka.open)
    assert report.ok
    assert notes(report) == ["not_asked_again"]


# -- a range of time


def between(since: int | None, until: int | None = None) -> VerifyOptions:
    return VerifyOptions(objects_only=True, since=since, until=until)


async def test_only_objects_of_the_range_count(archive: Archive) -> None:
    archive.chain(P0, *range(0, 100, 10), step=DAY)
    report = await look(archive, between(NOON + 3 * DAY, NOON + 5 * DAY))
    assert report.ok
    assert (report.partitions[0].start, report.partitions[0].end, report.totals.objects) == (30, 50, 2)
    assert report.days == 4, "the day before and the day that it reaches into"


async def test_an_object_that_reaches_into_the_range_counts(archive: Archive) -> None:
    archive.add(P0, 0, 10, NOON, last_timestamp=NOON + DAY)
    archive.add(P0, 10, 20, NOON + DAY, last_timestamp=NOON + DAY + 1)
    report = await look(archive, between(NOON + DAY // 2 + 1, NOON + DAY))
    assert (report.totals.objects, report.totals.rows) == (1, 10)


async def test_a_gap_out_of_the_range_is_not_reported(archive: Archive) -> None:
    keys = archive.chain(P0, *range(0, 100, 10), step=DAY)
    archive.delete(keys[1])
    assert (await look(archive, between(NOON + 3 * DAY))).ok
    assert found(await look(archive, between(NOON))) == [("gap", 10, 20)]


async def test_a_chain_that_passes_through_other_days_has_no_gap(archive: Archive) -> None:
    for start, day in ((0, 5), (10, 6), (20, 100), (30, 101), (40, 1), (50, 6)):
        archive.add(P0, start, start + 10, NOON + day * DAY)
    report = await look(archive, between(NOON + 5 * DAY, NOON + 7 * DAY))
    assert report.ok
    assert report.totals.objects == 3
    archive.delete(archive.layout.data_key(P0, 30, NOON + 101 * DAY, 40))
    report = await look(archive, between(NOON + 5 * DAY, NOON + 7 * DAY))
    assert found(report) == [("gap", 30, 40)]


@pytest.mark.parametrize(
    ("committed", "expected"),
    [
        (0, []),
        (10, []),
        (15, [("misaligned", 10, 20)]),
        (20, []),
        (25, [("lost", 20, 25)]),
        (40, [("lost", 20, 40)]),
    ],
)
async def test_a_group_that_stands_before_the_range_is_compared_with_the_objects_there(
    archive: Archive,
    committed: int,
    expected: list[tuple[str, int, int]],
) -> None:
    """As when nothing has come for days."""
    archive.chain(P0, 0, 10, 20, step=DAY)
    report = await against(
        archive, committed, (0, 50), options=VerifyOptions(since=NOON + 50 * DAY), kafka__start="earliest"
    )
    assert found(report) == expected
    assert report.totals.objects == 0


async def test_a_group_that_stands_before_all_objects_is_misaligned_whatever_the_range(archive: Archive) -> None:
    archive.chain(P0, 10, 20, step=DAY)
    report = await against(archive, 5, (0, 50), mark="", options=VerifyOptions(since=NOON + 50 * DAY))
    assert codes(report) == ["misaligned"]
    assert "before the first object, at 10" in only(report).message


async def test_the_end_of_an_idle_chain_is_found_without_listing_all_days(archive: Archive) -> None:
    archive.chain(P0, *range(0, 500, 10), step=DAY)
    options = VerifyOptions(since=NOON + 100 * DAY)
    assert (await against(archive, 490, (0, 490), options=options)).ok
    assert archive.sink.calls["list"] == 1


async def test_objects_out_of_the_range_are_not_reported_as_missing(archive: Archive) -> None:
    archive.chain(P0, 0, 10, step=DAY)
    report = await against(archive, None, (0, 50), options=VerifyOptions(since=NOON + 50 * DAY))
    assert report.ok
    assert not report.notes


async def test_a_chain_that_ends_on_an_earlier_day_is_followed_to_its_end(archive: Archive) -> None:
    for start, day in ((0, 50), (10, 51), (20, 2), (30, 1)):
        archive.add(P0, start, start + 10, NOON + day * DAY)
    options = VerifyOptions(since=NOON + 50 * DAY)
    assert (await against(archive, 40, (0, 40), options=options)).ok
    archive.delete(archive.layout.data_key(P0, 20, NOON + 2 * DAY, 30))
    assert found(await against(archive, 40, (0, 40), options=options)) == [("gap", 20, 30)]


async def test_with_until_kafka_is_not_asked(archive: Archive) -> None:
    archive.chain(P0, 0, 10)
    report = await against(archive, 5, (0, 10), options=VerifyOptions(until=NOON + DAY))
    assert report.ok
    assert report.group is None


# -- at least once


async def test_at_least_once_objects_that_overlap_are_counted() -> None:
    archive = Archive(exactly_once=False)
    archive.chain(P0, 0, 10, 20, 30, rejected=(5,))
    archive.add(P0, 10, 25)
    archive.add(P0, 0, 10, NOON + DAY)
    report = await look(archive, READ)
    assert report.ok
    assert report.totals.repeated_offsets == 25
    assert report.totals.quarantine_objects == 1
    assert notes(report) == ["repeated"]


async def test_at_least_once_gaps_are_found_and_any_committed_offset_is_valid() -> None:
    archive = Archive(exactly_once=False)
    archive.chain(P0, 0, 10, 20, 30)
    mark = archive.layout.commit_tag("memory:///")
    assert (await against(archive, 15, (0, 30), mark=mark)).ok
    assert codes(await against(archive, 31, (0, 31), mark=mark)) == ["lost"]
    archive.delete(archive.layout.data_key(P0, 10, NOON + DAY // 4, 20))
    assert found(await look(archive)) == [("gap", 10, 20)]


async def test_names_of_the_other_delivery_are_found(archive: Archive) -> None:
    careless = Archive(exactly_once=False, sink=archive.sink)
    careless.add(P0, 0, 10)
    assert codes(await look(archive)) == ["mismatch"]


# -- a store that fails


async def test_calls_that_fail_are_repeated(archive: Archive) -> None:
    archive.chain(P0, *range(0, 200, 10), rejected=(5, 15, 25))
    random_ = random.Random(7)
    archive.sink.fail_when(lambda call: Fault() if random_.random() < 0.3 else None)
    report = await look(archive, READ, sink__retry_initial="1ms", sink__retry_max="2ms")
    assert report.ok
    assert (report.totals.objects, report.totals.rejected) == (19, 3)


class Breaking(MemorySink):
    """Breaks every listing off, each time a little later."""

    given = 0

    async def list(self, prefix: str) -> AsyncIterator[str]:
        self.given += 5
        left = self.given
        async for key in super().list(prefix):
            if not left:
                raise SinkUnavailable("the connection was lost", code="Fault")
            left -= 1
            yield key


async def test_a_listing_that_breaks_off_goes_on_behind_what_was_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingestd.sinks.listing._PAGE_KEYS", 4)
    archive = Archive(sink=Breaking())
    archive.chain(P0, *range(0, 200, 10), step=1)
    report = await look(archive, sink__retry_initial="1ms", sink__retry_max="2ms")
    assert report.ok
    assert report.totals.objects == 19


@pytest.mark.parametrize("kind", [SinkUnavailable, SinkForbidden])
def test_gives_up_a_store_that_fails(kind: type[SinkUnavailable]) -> None:
    async def main() -> float:
        archive = Archive()
        archive.chain(P0, *range(0, 2000, 10))
        archive.sink.fail_when(lambda call: Fault(kind) if call.operation == "head" else None)
        with pytest.raises(ExceptionGroup) as failed:
            await look(archive)
        assert failed.group_contains(kind)
        return asyncio.get_running_loop().time()

    assert 60 <= virtual_time.run(main()) <= 65


def test_gives_up_a_store_that_does_not_answer() -> None:
    class Silent(MemorySink):
        async def head(self, key: str) -> ObjectInfo | None:
            await asyncio.sleep(1e6)
            return None

    async def main() -> float:
        archive = Archive(sink=Silent())
        archive.chain(P0, 0, 10)
        with pytest.raises(ExceptionGroup) as failed:
            await look(archive)
        assert failed.group_contains(SinkUnavailable)
        return asyncio.get_running_loop().time()

    assert 60 <= virtual_time.run(main()) <= 61


async def test_too_many_ranges_for_memory_end_it_with_a_hint(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chains, "MAX_RANGES", 20)
    for start in range(0, 1000, 20):
        archive.add(P0, start, start + 10)
    with pytest.raises(ExceptionGroup) as failed:
        await look(archive)
    assert failed.group_contains(VerifyLimitError, match="--since")


# -- the command


def the_sink(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wiring, "make_sink", lambda config, connections: archive.sink)


def test_the_last_line_says_that_nothing_is_wrong(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    archive.chain(P0, 0, 10, 20)
    the_sink(archive, monkeypatch)
    assert run(settings(), Options(objects_only=True, read=True)) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == "Nothing wrong: 2 objects in an unbroken chain; every row was read."


def test_each_problem_is_printed_with_meaning_and_remedy(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = archive.chain(P0, *range(0, 400, 10))
    for key in keys[2:-1:2]:
        archive.delete(key)
    the_sink(archive, monkeypatch)
    assert run(settings(), Options(objects_only=True)) == EXIT_PROBLEMS == 4
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "18 problems: gap 18"
    assert any(line.strip().startswith("gap (18): Offsets between two objects are in none of them") for line in lines)
    assert f"      20-30 (10 offsets) in no object, between {keys[1]} and {keys[3]}" in lines
    assert len(lines) < 100


def test_the_report_as_json_has_the_same_problems(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, lost, _ = archive.chain(P0, 0, 10, 20, 30)
    archive.delete(lost)
    the_sink(archive, monkeypatch)
    assert run(settings(), Options(objects_only=True, json=True)) == EXIT_PROBLEMS
    report = msgspec.json.decode(capsys.readouterr().out, type=VerifyReport)
    assert not report.ok
    assert report.problem_counts == {"gap": 1}
    assert found(report) == [("gap", 10, 20)]


def test_hundreds_of_partitions_are_a_short_report(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(300):
        archive.add(TopicPartition(TOPIC, number), 0, 2)
        if number >= 280:
            archive.add(TopicPartition(TOPIC, number), 3, 4)
    the_sink(archive, monkeypatch)
    assert run(settings(), Options(objects_only=True)) == EXIT_PROBLEMS
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) < 100
    assert any(f"{TOPIC}[299]" in line and line.endswith(" 1") for line in lines)
    assert "  and 260 more partitions, without problems" in lines


def test_the_whole_report_has_no_escape_sequences(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    archive.chain(P0, 0, 10, cluster="\x1b[31mred")
    archive.put(f"{archive.layout.events}year=2026/month=01/day=01/\x1b]0;title", b"", None)
    the_sink(archive, monkeypatch)
    run(settings(), Options(objects_only=True))
    assert "\x1b" not in capsys.readouterr().out


def test_one_error_is_raised_not_one_for_each_call(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    archive.chain(P0, *range(0, 500, 10))
    archive.sink.fail_when(lambda call: Fault(SinkForbidden) if call.operation == "head" else None)
    the_sink(archive, monkeypatch)
    monkeypatch.setattr("ingestd.verify.run.PATIENCE_S", 1)
    with pytest.raises(SinkForbidden):
        run(settings(), Options(objects_only=True))


def test_an_empty_time_range_is_an_error() -> None:
    with pytest.raises(ConfigError, match="--since"):
        run(settings(), Options(since=5, until=5))


def test_a_missing_directory_is_an_error_and_not_created(tmp_path: Path) -> None:
    place = tmp_path / "typo"
    with pytest.raises(SinkForbidden, match="gone"):
        run(settings(sink__url=str(place)), Options(objects_only=True))
    assert not place.exists()


# -- all of it, at random

BOUNDS = st.lists(st.integers(1, 9), min_size=2, max_size=12)


@given(BOUNDS, st.data())
def test_exactly_the_missing_and_the_repeated_offsets_are_found(sizes: list[int], data: st.DataObject) -> None:
    archive = Archive()
    start, spans = 100, []
    for size in sizes:
        day = data.draw(st.integers(0, 4))
        spans.append((start, start + size, archive.add(P0, start, start + size, NOON + day * DAY)))
        start += size
    gone = data.draw(st.sets(st.sampled_from(spans[1:-1]))) if len(spans) > 2 else set()
    for _, _, key in gone:
        archive.delete(key)
    copied = data.draw(st.sets(st.sampled_from([span for span in spans if span not in gone])))
    for first, end, _ in copied:
        archive.add(P0, first, end, NOON + 9 * DAY)
    report = asyncio.run(look(archive))
    missing = {offset for first, end, _ in gone for offset in range(first, end)}
    doubled = {offset for first, end, _ in copied for offset in range(first, end)}
    told: dict[str, set[int]] = {"gap": set(), "overlap": set()}
    for code, first_, end_ in found(report):
        assert first_ is not None
        assert end_ is not None
        assert not told[code] & set(range(first_, end_))
        told[code] |= set(range(first_, end_))
    assert told == {"gap": missing, "overlap": doubled}
