"""The ledger finds what is lost, doubled, or out of its chain. Every other test here rests on that."""

from collections.abc import Sequence

import pytest

from ingestd.core import quarantine
from ingestd.core.object_keys import ObjectKeys
from ingestd.core.object_metadata import ObjectMetadata
from ingestd.core.records import PlainRecord, TopicPartition
from ingestd.core.rejections import Reason
from ingestd.core.validation import Rejected
from tests.e2e.ledger import Ledger, Link, Tally, set_lost_apart

TOPIC = "t"
NOON = 1_772_366_400_000


def link(
    start: int, end: int, offsets: Sequence[int] | None = None, rejected: int = 0, epoch: int | None = None
) -> Link:
    """An object; it has all of its rows, unless told otherwise."""
    rows = list(range(start, end) if offsets is None else offsets)
    landed = ObjectMetadata(
        topic=TOPIC,
        partition=0,
        start=start,
        end=end,
        rows=len(rows),
        rejected=rejected,
        sha256="",
        first_offset=start,
        first_timestamp=NOON,
        last_timestamp=NOON,
        cluster="c",
        leader_epoch=epoch,
        version="0",
    )
    key = ObjectKeys().data_key(TopicPartition(TOPIC, 0), start, NOON, end, epoch)
    return Link(key, landed, rows, [f"{epoch}-{offset}" for offset in rows])


def tally(*links: Link, quarantined: Sequence[int] = (), records: int = 10) -> Tally:
    ledger = Ledger(TOPIC, ObjectKeys())
    ledger.chains[0] = list(links)
    ledger.quarantined[0] = set(quarantined)
    return ledger.tally({0: range(records)})


def test_all_is_well() -> None:
    found = tally(link(0, 4), link(4, 10, [4, 5, 7, 8, 9], rejected=1), quarantined=[6])

    assert not found.problems
    assert (found.records, found.rows, found.quarantined, found.objects) == (10, 9, 1, 2)
    assert (found.lost, found.doubled, found.strange, found.gaps, found.overlaps) == (0, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("found", "counted"),
    [
        pytest.param(tally(link(0, 4), link(4, 10, [4, 5, 7, 8, 9])), {"lost": 1}, id="a row is missing"),
        pytest.param(tally(link(0, 4), link(6, 10)), {"lost": 2, "gaps": 1}, id="a gap"),
        pytest.param(tally(link(0, 6), link(4, 10)), {"doubled": 2, "overlaps": 1}, id="an overlap"),
        pytest.param(tally(link(0, 4)), {"lost": 6}, id="the end is missing"),
        pytest.param(tally(), {"lost": 10}, id="nothing is there"),
        pytest.param(tally(link(0, 10), quarantined=[3, 4]), {"doubled": 2}, id="in a row and in quarantine"),
        pytest.param(tally(link(0, 10, [*range(10), 9])), {"doubled": 1}, id="a row twice in one object"),
        pytest.param(tally(link(0, 12)), {"strange": 2}, id="rows that nobody wrote"),
    ],
)
def test_counts_what_is_wrong(found: Tally, counted: dict[str, int]) -> None:
    names = ("lost", "doubled", "strange", "gaps", "overlaps")
    assert {name: getattr(found, name) for name in names if getattr(found, name)} == counted
    assert found.problems


def test_what_an_object_says_of_itself_is_compared() -> None:
    renamed = link(0, 10)
    renamed.key = renamed.key.replace("day=01", "day=02")
    assert tally(renamed).problems

    fewer = link(0, 10, [*range(9)])
    assert any("says 9" in problem for problem in tally(fewer, quarantined=[9]).problems)


def forked(*links: Link, rejected: Sequence[tuple[int, int]] = ()) -> Ledger:
    """`rejected` are leader epochs and offsets."""
    ledger = Ledger(TOPIC, ObjectKeys())
    ledger.chains[0] = sorted(links, key=lambda each: each.landed.start)
    records = {offset: Rejected(0, PlainRecord(offset, NOON, b"{"), Reason.INVALID, "$", "") for _, offset in rejected}
    partition = TopicPartition(TOPIC, 0)
    lines = [quarantine.encode(partition, [records[offset]], epoch) for epoch, offset in rejected]
    set_lost_apart(ledger, list(map(quarantine.decode, lines)))
    return ledger


def test_what_kafka_has_lost_before_a_fork_is_apart() -> None:
    ledger = forked(
        link(0, 4, epoch=0),
        link(4, 10, [4, 5, 6, 8, 9], rejected=1, epoch=1),
        link(6, 9, [6, 8], rejected=1, epoch=3),
        link(9, 12, epoch=3),
        rejected=[(1, 7), (3, 7)],
    )
    found = ledger.tally(
        {0: range(12)}, [*("0-0", "0-1", "0-2", "0-3", "1-4", "1-5"), *("3-6", "3-8", "3-9", "3-10", "3-11")]
    )
    assert not found.problems
    assert (found.records, found.rows, found.quarantined, found.objects) == (12, 11, 1, 4)
    assert ledger.lost_by_kafka[0] == {(1, 6), (1, 7), (1, 8), (1, 9)}
    assert sorted(ledger.lost_event_ids) == ["1-6", "1-8", "1-9"]


@pytest.mark.parametrize(
    ("links", "counted"),
    [
        pytest.param((link(0, 8, epoch=1), link(6, 9, epoch=3)), {"lost": 1}, id="the end is missing"),
        pytest.param((link(0, 4, epoch=1), link(6, 10, epoch=3)), {"lost": 2, "gaps": 1}, id="a gap"),
        pytest.param(
            (link(0, 8, epoch=1), link(6, 10, epoch=3), link(8, 10, epoch=3)),
            {"doubled": 2, "overlaps": 1},
            id="an overlap",
        ),
    ],
)
def test_counts_what_is_wrong_in_a_fork(links: Sequence[Link], counted: dict[str, int]) -> None:
    found = forked(*links).tally({0: range(10)})
    names = ("lost", "doubled", "strange", "gaps", "overlaps")
    assert {name: getattr(found, name) for name in names if getattr(found, name)} == counted
