"""`ingestd verify` finds exactly the damage in chains that the tests wrote and damaged."""

import asyncio
import random
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.core.errors import SinkForbidden, SinkUnavailable
from ingestd.core.gzip import compress
from ingestd.core.stored import ObjectInfo
from ingestd.verify import body_verifier, chains
from ingestd.verify.chains import VerifyLimitError
from ingestd.verify.run import VerifyOptions
from tests.archive import DAY, NOON, P0, P1, Archive, rejects, rows
from tests.fakes.memory_sink import BrokenOffSink, Fault, MemorySink
from tests.simulation import virtual_time
from tests.verify_world import ALONE, against, codes, found, look, notes, only

READ = VerifyOptions(objects_only=True, read=True)


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


async def test_a_listing_that_breaks_off_goes_on_behind_what_was_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingestd.sinks.listing._PAGE_KEYS", 4)
    archive = Archive(sink=BrokenOffSink())
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
