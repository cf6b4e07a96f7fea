"""What goes into a transaction, and the note that says so."""

from itertools import cycle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.core import object_keys as layout_module
from ingestd.core.object_keys import ObjectKeys
from ingestd.core.quarantine import Quarantined
from ingestd.core.records import TopicPartition
from ingestd.core.rejections import Reason
from ingestd.requeue import batches
from ingestd.requeue.batches import SPAN, ProducedRecords, ReceiptKeys, RequeueBatch, Selection, to_produce, to_validate

PLACE = TopicPartition("marketing_events", 3)
NOTE_MAX = 4096  # offset.metadata.max.bytes, a broker's default

offsets = st.integers(0, 2**63 - 1)
gaps = st.lists(st.one_of(st.just(1), st.integers(1, 300), st.integers(1, SPAN)), max_size=50)


def line(offset: int = 7, **changes: object) -> Quarantined:
    fields: dict[str, object] = {
        "topic": PLACE.topic,
        "partition": PLACE.partition,
        "offset": offset,
        "timestamp": 1_795_000_000_000,
        "key": b"k",
        "value": b"v",
        "headers": [("trace", b"\xfe")],
        "reason": Reason.UNKNOWN_TYPE,
        "path": "$.event_type",
        "message": "",
        "ingestd_version": "0.1.0",
    }
    return Quarantined(**{**fields, **changes})  # type: ignore[arg-type]


def ascending(first: int, gaps: list[int]) -> tuple[int, ...]:
    found = [first]
    for gap in gaps:
        found.append(found[-1] + gap)
    return tuple(offset for offset in found if offset < 2**63)


# -- the note


@given(st.text(max_size=249), st.integers(0, 2**31), offsets, gaps, st.none() | st.integers(0, 2**31))
def test_a_note_says_what_was_produced(
    topic: str, partition: int, first: int, gaps: list[int], leader_epoch: int | None
) -> None:
    produced = ProducedRecords(topic, partition, ascending(first, gaps), leader_epoch)
    assert ProducedRecords.from_note(produced.note()) == produced


@given(st.text() | st.binary().map(lambda data: data.decode("latin-1")))
def test_what_is_no_note_is_told_from_one(text: str) -> None:
    assert ProducedRecords.from_note(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "ingestd:1:0123456789abcdef",
        '{"topic":"t","partition":0,"first":1,"gaps":"AA=="}',
        '{"topic":"t","partition":0,"first":1,"gaps":"gA=="}',
        '{"topic":"t","partition":0,"first":1,"gaps":"?"}',
        '{"topic":"t","partition":0,"first":-1,"gaps":""}',
        '{"topic":"t","partition":0,"first":9223372036854775807,"gaps":"AQ=="}',
        '{"topic":"t","partition":0,"first":1,"gaps":"","more":1}',
    ],
)
def test_a_note_that_is_damaged_is_none(text: str) -> None:
    assert ProducedRecords.from_note(text) is None


@given(st.lists(st.integers(1, SPAN // 100), min_size=1, max_size=30), st.integers(0, 2**62))
def test_the_note_of_a_full_batch_fits_a_broker(pattern: list[int], first: int) -> None:
    batch = RequeueBatch(TopicPartition("t" * 249, 2**31 - 1), 2**31 - 1)
    offset = first // SPAN * SPAN
    for gap in cycle(pattern):
        offset += gap
        if not batch.fits(one := line(offset)):
            break
        batch.add(one, "key")
    assert len(batch.produced.note().encode()) < NOTE_MAX


# -- batches


def test_a_batch_ends_with_its_span() -> None:
    batch = RequeueBatch(PLACE, None)
    batch.add(line(SPAN - 1), "key")
    assert not batch.fits(line(SPAN))


def test_a_batch_holds_so_many_bytes_or_one_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "_MAX_BYTES", 100)
    batch = RequeueBatch(PLACE, None)
    large = line(1, value=b"x" * 1000)
    assert batch.fits(large)
    batch.add(large, "key")
    assert not batch.fits(line(2))

    batch = RequeueBatch(PLACE, None)
    batch.add(line(1, value=b"x" * 80), "key")
    assert batch.fits(line(2, value=b""))
    assert not batch.fits(line(2, value=b"x" * 9))


def test_a_batch_holds_so_many_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "_MAX_RECORDS", 2)
    batch = RequeueBatch(PLACE, None)
    batch.add(line(1), "key")
    assert batch.fits(line(2))
    batch.add(line(2), "key")
    assert not batch.fits(line(3))


# -- what is produced


def test_a_record_goes_back_as_it_came_with_its_origin_and_the_time() -> None:
    record = to_produce(line(59), now=1_800_000_000_000)
    assert (record.key, record.value, record.timestamp) == (b"k", b"v", 1_800_000_000_000)
    assert record.headers == (
        ("trace", b"\xfe"),
        ("ingestd-origin-topic", b"marketing_events"),
        ("ingestd-origin-partition", b"3"),
        ("ingestd-origin-offset", b"59"),
        ("ingestd-origin-timestamp", b"1795000000000"),
        ("ingestd-origin-reason", b"unknown_type"),
    )


def test_the_origin_has_the_leader_epoch_where_it_is_known() -> None:
    assert ("ingestd-origin-leader-epoch", b"3") in to_produce(line(59, leader_epoch=3), now=1).headers


def test_a_record_that_failed_again_keeps_its_first_origin() -> None:
    once = to_produce(line(59), now=1)
    again = to_produce(line(4711, headers=list(once.headers), reason=Reason.WRONG_TYPE), now=2)
    assert again.headers == once.headers


def test_validates_the_record_as_it_came() -> None:
    record = to_validate(one := line(5, key=None))
    assert (record.offset, record.timestamp, record.value) == (5, one.timestamp, one.value)
    assert (record.key, record.headers) == (None, (("trace", b"\xfe"),))


# -- selection


@pytest.mark.parametrize(
    ("selection", "taken"),
    [
        (Selection(), True),
        (Selection(since=1_795_000_000_000), True),
        (Selection(since=1_795_000_000_001), False),
        (Selection(until=1_795_000_000_000), False),
        (Selection(until=1_795_000_000_001), True),
        (Selection(reasons={Reason.UNKNOWN_TYPE, Reason.NOT_JSON}), True),
        (Selection(reasons={Reason.NOT_JSON}), False),
    ],
)
def test_selects_by_time_and_reason(selection: Selection, *, taken: bool) -> None:
    assert selection.matches(line()) == taken


# -- names


@pytest.mark.parametrize("lineage", [None, "2026-02"])
def test_names_of_receipts_read_back(lineage: str | None) -> None:
    names = ReceiptKeys(ObjectKeys(lineage), "repaired")
    produced = ProducedRecords(*PLACE, (SPAN + 5, SPAN + 9))
    key = names.receipt(produced)
    assert key.startswith(names.span(PLACE, 1))
    found = names.parse(key)
    assert found is not None
    assert (found.first, found.last, found.key) == (SPAN + 5, SPAN + 9, key)
    assert names.parse(names.identity) is None


def test_receipts_are_neither_events_nor_quarantine() -> None:
    for layout in (ObjectKeys(), ObjectKeys("2026-02")):
        key = ReceiptKeys(layout, "repaired").receipt(ProducedRecords(*PLACE, (1,)))
        assert not key.startswith((layout_module.EVENTS, layout_module.QUARANTINE))


def test_a_lineage_is_not_taken_for_a_target() -> None:
    assert ReceiptKeys(ObjectKeys("to"), "x").identity != ReceiptKeys(ObjectKeys(), "to").identity
    assert ReceiptKeys(ObjectKeys("a"), "b").identity.startswith("requeued/a/to=b/")
