"""`ingestd verify` compares chains with the group and the log, while a daemon goes on, and in a range of time."""

from collections.abc import AsyncIterator, Callable

import pytest

from ingestd.core.errors import SourceError
from ingestd.core.records import LogRange, Position, TopicPartition
from ingestd.verify.run import VerifyOptions
from tests.archive import CLUSTER, DAY, NOON, P0, P1, Archive
from tests.fakes.inspector import FakeInspector as Kafka
from tests.fakes.memory_sink import MemorySink
from tests.verify_world import TAG, against, codes, found, look, notes, only

ALL = VerifyOptions()


@pytest.fixture
def archive() -> Archive:
    return Archive()


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


@pytest.mark.parametrize("mark", [TAG, ""])
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
    assert [it.topic for it in report.partitions] == [P0.topic]
    assert notes(report) == ["other_topics"]


async def test_without_kafka_all_topics_are_verified_unless_some_are_named(archive: Archive) -> None:
    archive.chain(P0, 0, 10)
    archive.chain(TopicPartition("clicks", 0), 5, 10)
    assert [it.topic for it in (await look(archive)).partitions] == ["clicks", P0.topic]
    assert [it.topic for it in (await look(archive, kafka__topics="clicks")).partitions] == ["clicks"]
    assert [it.topic for it in (await look(archive, VerifyOptions(), source="simulator")).partitions] == [
        "clicks",
        P0.topic,
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
    kafka = Kafka(({P0: Position(20, TAG)}, {P0: LogRange(0, 22)}), ({P0: Position(40, TAG)}, {P0: LogRange(0, 60)}))
    first = archive.add(P0, 0, 10, NOON - DAY)
    archive.add(P0, 10, 20, NOON)
    report = await look(archive, ALL, kafka)
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
            kafka.says[0] = ({P0: Position(30, TAG)}, {P0: LogRange(0, 30)})

    grown: list[str] = []
    archive = Archive(sink=Growing(grow))
    kafka = Kafka(({P0: Position(20, TAG)}, {P0: LogRange(0, 20)}))
    archive.chain(P0, 0, 10, 20, step=0)
    report = await look(archive, ALL, kafka)
    assert grown
    assert report.ok, report.problems
    assert report.partitions[0].end == 20


async def test_kafka_unavailable_after_the_scan_is_a_note(archive: Archive) -> None:
    archive.chain(P0, 0, 10, 20)
    kafka = Kafka(({P0: Position(10, TAG)}, {P0: LogRange(0, 20)}))
    kafka.error = SourceError("it is down")
    report = await look(archive, ALL, kafka)
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
