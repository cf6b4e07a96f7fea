"""Records of Kafka without a value: in the quarantine, as rows, or skipped and counted."""

import json
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.capacity.estimate import Sample, Traffic, estimate
from ingestd.cli import requeue as requeue_command
from ingestd.cli.requeue_report import RequeueReport
from ingestd.config.keys import variable
from ingestd.config.load import load
from ingestd.config.model import BatchConfig, BreakerConfig, Config, EventsConfig
from ingestd.config.types import Seconds
from ingestd.core.batch import Batch
from ingestd.core.breaker import Breaker
from ingestd.core.errors import BreakerOpen, ConfigError
from ingestd.core.events import ANY_JSON, Model, load_model
from ingestd.core.gzip import compress
from ingestd.core.json_validation import make_validator
from ingestd.core.object_keys import ObjectKeys
from ingestd.core.object_metadata import ObjectMetadata
from ingestd.core.records import LogRange, PlainRecord, TopicPartition
from ingestd.core.rejections import Reason
from ingestd.core.validation import Validated
from ingestd.preflight import CheckFinding, Verdict, values
from ingestd.preflight import records as preflight
from ingestd.preflight.dry_run import DryRun, WouldBe
from ingestd.requeue.requeuer import RequeueCounts
from ingestd.snowflake.drift import of_table
from ingestd.snowflake.table import columns_of
from ingestd.verify.contents import ContentError, check_rows
from ingestd.verify.report import text
from ingestd.verify.run import VerifyOptions
from tests.archive import P0, Archive, rows
from tests.fakes.memory_sink import MemorySink
from tests.fakes.memory_source import MemorySource
from tests.requeue_world import World, event
from tests.simulation import virtual_time
from tests.test_ingest import DAY, TP, Flow, ended
from tests.test_ingest import event as flow_event
from tests.verify_world import look

EVENT = b'{"event_type":"web_visit","event_id":"e","client_id":"c","event_timestamp":"2026-01-02T03:04:05Z"}'
EVENTS = load_model(None)
MODELS = [pytest.param(ANY_JSON, id="json"), pytest.param(EVENTS, id="events")]
SKIP = EventsConfig(tombstones="skip")


def validated(model: Model, *given: bytes | None, **rules: Any) -> Validated:
    some = [PlainRecord(7 + number, 1000, value, b"k", [("h", b"v")]) for number, value in enumerate(given)]
    return make_validator(EventsConfig(**rules), model).chunk(TopicPartition("t", 0), some)


def offsets(found: Validated) -> list[int]:
    return [json.loads(line)["source_offset"] for line in found.rows.splitlines()]


def configured(**keys: str) -> Config:
    return load(environ={variable(key.replace("__", ".")): value for key, value in keys.items()}).config


# -- rows


@pytest.mark.parametrize("model", MODELS)
def test_goes_to_the_quarantine_where_nothing_else_is_said(model: Model) -> None:
    found = validated(model, EVENT, None)
    assert [(one.position, one.reason) for one in found.rejected] == [(1, Reason.NULL_VALUE)]
    assert (offsets(found), found.skipped) == ([7], 0)


def test_a_row_has_null_in_place_of_the_record_beside_its_origin_key_and_headers() -> None:
    found = validated(ANY_JSON, None, tombstones="row", include=("key", "headers"), timestamp_field="at")
    assert json.loads(found.rows) == {
        "record": None,
        "source_topic": "t",
        "source_partition": 0,
        "source_offset": 7,
        "received_at": "1970-01-01T00:00:01Z",
        "source_key": "k",
        "source_headers": [{"name": "h", "value": "v"}],
    }
    assert (found.accepted, found.rejected, found.skipped) == ({"json": 1}, [], 0)


@pytest.mark.parametrize("model", MODELS)
@given(kinds=st.lists(st.sampled_from([EVENT, b"[", None]), max_size=300))
def test_skipped_ones_are_counted_and_change_nothing_for_the_others(model: Model, kinds: list[bytes | None]) -> None:
    found = validated(model, *kinds, tombstones="skip", include=("key",))
    numbered = list(enumerate(kinds, 7))
    assert offsets(found) == [offset for offset, value in numbered if value == EVENT]
    assert [one.record.offset for one in found.rejected] == [offset for offset, value in numbered if value == b"["]
    kept = [value for value in kinds if value is not None]
    assert [one.position for one in found.rejected] == [at for at, value in enumerate(kept) if value == b"["]
    assert found.skipped == kinds.count(None)
    assert sum(found.accepted.values()) == kinds.count(EVENT)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("tombstones", ["quarantine", "row", "skip"])
def test_an_empty_value_is_no_tombstone(model: Model, tombstones: str) -> None:
    (one,) = validated(model, b"", tombstones=tombstones).rejected
    assert one.reason is Reason.EMPTY_VALUE


def test_skipped_ones_neither_open_the_breaker_nor_hide_what_is_bad() -> None:
    found = validated(EVENTS, *[None, b"["] * 3, tombstones="skip")
    breaker = Breaker(BreakerConfig(max_share=1.0, max_consecutive=3))
    reason = breaker.observe(TP, 6 - found.skipped, found.rejected)
    assert reason is not None
    assert "3 records in a row" in reason
    only = validated(EVENTS, *[None] * 6, tombstones="skip")
    assert Breaker(BreakerConfig(max_consecutive=1)).observe(TP, 6 - only.skipped, only.rejected) is None


def test_bad_records_are_in_a_row_across_chunks_whatever_is_skipped_between_them() -> None:
    async def main() -> None:
        log = [PlainRecord(offset, DAY, [b"[", None][offset % 2]) for offset in range(200)]
        flow = Flow({TP: log}, breaker=BreakerConfig(max_share=1.0, max_consecutive=60), events=SKIP)
        with pytest.RaisesGroup(pytest.RaisesExc(BreakerOpen, match="60 records in a row"), flatten_subgroups=True):
            await ended(flow, 10)

    virtual_time.run(main())


# -- settings


def test_rows_are_for_any_json_only() -> None:
    with pytest.raises(
        ConfigError, match=r"events\.tombstones = row .*is for events\.model = json only.*quarantine or skip"
    ):
        configured(events__tombstones="row")
    assert configured(events__tombstones="row", events__model="json").events.tombstones == "row"
    assert configured(events__tombstones="skip").events.tombstones == "skip"


def test_another_value_is_an_error_that_names_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"events\.tombstones = drop .*give one of quarantine, row, skip"):
        configured(events__tombstones="drop")


def test_the_table_takes_a_row_whose_record_is_null() -> None:
    plain, rows_ = configured(events__model="json"), configured(events__model="json", events__tombstones="row")
    assert [it.name for it in columns_of(plain, ANY_JSON) if it.required] == ["record"]
    assert [it.name for it in columns_of(rows_, ANY_JSON) if it.required] == []


@pytest.mark.parametrize(("tombstones", "drifts"), [("quarantine", 0), ("row", 1)])
def test_a_table_that_refuses_such_rows_is_told_with_the_statement_that_changes_it(
    tombstones: str, drifts: int
) -> None:
    config = configured(events__model="json", events__tombstones=tombstones)
    wanted = columns_of(config, ANY_JSON)
    present = [
        {"name": it.name.upper(), "type": it.type, "null?": "N" if it.name == "record" else "Y"} for it in wanted
    ]
    found = list(of_table(present, config.snowflake, wanted))
    assert [drift.remedy.rpartition(" ALTER ")[2] for drift in found] == ["COLUMN record DROP NOT NULL"] * drifts


def notes(found: Sequence[CheckFinding]) -> list[str]:
    return [it.seen for it in found if it.verdict is Verdict.NOTE]


def test_check_notes_a_row_that_does_not_say_what_was_deleted() -> None:
    keyless = configured(events__model="json", events__tombstones="row", events__include="headers")
    keyed = configured(events__model="json", events__tombstones="row", events__include="key")
    assert [it for it in notes([*values.findings(keyless)]) if "without the key" in it]
    assert not [it for it in notes([*values.findings(keyed)]) if "without the key" in it]


def sample(*given: bytes | None) -> Sample:
    some = [PlainRecord(number, 1_750_000_000_000, value) for number, value in enumerate(given)]
    return preflight.take({TP: some}, make_validator(SKIP, EVENTS))


def test_check_says_how_many_of_a_sample_make_no_row() -> None:
    found = [*preflight.findings(sample(EVENT, None, None), BreakerConfig())]
    assert notes(found) == ["2 of 3 records are tombstones, which make no row"]
    assert found[-1].seen.startswith("all others make rows")
    only = [*preflight.findings(sample(None), BreakerConfig())]
    assert [it.check for it in only] == ["kafka.read", "events.sample"]
    bad = [*preflight.findings(sample(b"[", EVENT, *[None] * 9), BreakerConfig(max_share=0.4))]
    assert bad[-1].verdict is Verdict.WRONG, "the breaker judges one of two"


def test_skipped_ones_are_expected_in_no_quarantine() -> None:
    found = estimate({TP: Traffic(LogRange(0, 9000), 0, 0)}, sample(EVENT, EVENT, None), BatchConfig())
    assert found is not None
    assert found.quarantine_objects == 0


# -- batches, objects and the chain


def batch(*given: bytes | None, start: int = 7) -> ObjectMetadata:
    some = [PlainRecord(start + number, DAY, value) for number, value in enumerate(given)]
    found = Batch(TP, start)
    found.add(some, make_validator(SKIP, EVENTS).chunk(TP, some), b"", 0.0)
    return found.encode(ObjectKeys(), "c", "0").metadata


def test_the_metadata_count_skipped_records_and_say_nothing_where_there_are_none() -> None:
    found = batch(EVENT, None, None)
    assert (found.start, found.end, found.rows, found.rejected, found.skipped, found.records) == (7, 10, 1, 0, 2, 3)
    assert found.to_user_metadata()["skipped"] == "2"
    assert ObjectMetadata.from_metadata(found.to_user_metadata()) == found
    assert "skipped" not in batch(EVENT).to_user_metadata()


def test_a_partition_of_nothing_but_tombstones_goes_on_by_objects_without_rows() -> None:
    async def main() -> None:
        limits = BatchConfig(interval=Seconds(5), records=20)
        flow = Flow({TP: [PlainRecord(offset, DAY, None) for offset in range(25)]}, limits, events=SKIP)
        await ended(flow, 8)
        chain = await flow.chain()
        assert [(it.start, it.end, it.rows, it.skipped) for it in chain] == [(0, 20, 0, 20), (20, 25, 0, 5)]
        assert flow.log.commits[TP].offset == 25
        totals = flow.metrics.counters.totals()
        assert (totals.consumed, totals.landed, totals.skipped, totals.in_flight) == (25, 0, 25, 0)
        assert flow.pipeline.held_bytes == 0
        assert not [key for key in flow.sink.objects if key.startswith("quarantine/")]

    virtual_time.run(main())


def test_consumed_is_landed_plus_quarantined_plus_skipped() -> None:
    async def main() -> None:
        kinds = [flow_event(1), None, b"[", None]
        log = [PlainRecord(offset, DAY, kinds[offset % 4]) for offset in range(40)]
        flow = Flow({TP: log}, BatchConfig(interval=Seconds(5)), events=SKIP)
        await ended(flow, 6)
        totals = flow.metrics.counters.totals()
        assert (totals.consumed, totals.landed, totals.quarantined, totals.skipped) == (40, 10, 10, 20)
        exposed = flow.metrics.exposition()[0].decode()
        assert 'ingestd_records_skipped_total{topic="t"} 20.0' in exposed

    virtual_time.run(main())


# -- verify


def with_skipped(*skipped: int, end: int = 10, **changes: Any) -> tuple[bytes, ObjectMetadata]:
    """An object of offsets 0 to `end`, whose rows lack `skipped`."""
    body = compress(rows(P0, [offset for offset in range(end) if offset not in skipped]))
    archive = Archive()
    says = archive.landed(archive.add(P0, 0, end))
    fields = {"rows": end - len(skipped), "skipped": len(skipped) or None, "sha256": body.sha256, **changes}
    return body.data, msgspec.structs.replace(says, **fields)


@pytest.mark.parametrize("skipped", [(0,), (9,), (4, 5), (0, 9), tuple(range(10))], ids=str)
def test_an_object_whose_metadata_account_for_its_skipped_records_is_as_written(skipped: tuple[int, ...]) -> None:
    check_rows(*with_skipped(*skipped), ())


@pytest.mark.parametrize(
    ("skipped", "changes"),
    [((0,), {"skipped": None}), ((9,), {"skipped": None}), ((0, 9), {"skipped": 1}), ((1,), {"first_offset": 1})],
    ids=str,
)
def test_a_row_that_is_missing_at_an_end_is_not_taken_for_a_skipped_record(
    skipped: tuple[int, ...], changes: dict[str, Any]
) -> None:
    with pytest.raises(ContentError, match="its records are"):
        check_rows(*with_skipped(*skipped, **changes), ())


async def test_verify_counts_skipped_records_and_takes_no_object_of_them_for_a_hole() -> None:
    archive = Archive()
    body, says = with_skipped(*range(10))
    key = archive.add(P0, 0, 10)
    archive.put(key, body, says)
    archive.add(P0, 10, 20, rejected=(12,))
    report = await look(archive, VerifyOptions(objects_only=True, read=True))
    assert (report.problems, report.totals.holes) == ([], 0)
    assert (report.totals.rows, report.totals.rejected, report.totals.skipped) == (9, 1, 10)
    shown = text(report)
    assert "10 tombstones: 20 records = 9 landed + 1 quarantined + 10 skipped" in shown
    assert "skipped" not in text(await look(Archive()))


async def test_verify_finds_more_records_than_an_object_has_offsets() -> None:
    archive = Archive()
    archive.add(P0, 0, 10, skipped=1)
    [problem] = (await look(archive)).problems
    assert problem.code == "mismatch"
    assert "10 rows and 0 rejected and 1 skipped records do not fit into 0-10" in problem.message


# -- a dry run


async def test_a_dry_run_counts_skipped_records() -> None:
    told: list[WouldBe] = []
    log = {TP: [PlainRecord(offset, DAY, [flow_event(1), None, b"["][offset % 3]) for offset in range(30)]}
    config = Config(source="kafka", grace=Seconds(10))
    validator = make_validator(SKIP, EVENTS)
    summary = await DryRun(config, MemorySource(log), MemorySink(), validator, told.append).run()
    assert (summary.records, summary.rows, summary.rejected, summary.skipped) == (30, 10, 10, 10)
    assert sorted((it.quarantine, it.rows, it.rejected, it.skipped) for it in told) == [
        (False, 10, 10, 10), (True, 0, 10, 0)
    ]  # fmt: skip


# -- requeue


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch, repaired=3, other=2)


async def test_requeue_produces_no_tombstone_that_would_be_skipped(world: World) -> None:
    world.attempt(1, 100, [None, event(0)])
    world.config = msgspec.structs.replace(world.config, events=SKIP)
    counts = await world.run()
    assert world.log.places() == [(1, 101)]
    assert (counts.good, counts.skipped, counts.failing) == (1, 1, {})


async def test_requeue_produces_a_tombstone_that_makes_a_row_now_without_a_value(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.attempt(1, 100, [None])
    monkeypatch.setattr(requeue_command, "load_model", lambda _: ANY_JSON)
    world.config = msgspec.structs.replace(world.config, events=EventsConfig(model="json", tombstones="row"))
    assert (await world.run()).produced == 1
    [(_, record)] = next(records for records in world.log.committed.values() if records)
    assert (record.key, record.value) == (b"key 0", None)


def test_the_report_of_a_requeue_names_skipped_ones_only_where_there_are_some() -> None:
    some = RequeueReport(RequeueCounts(skipped=2), ["t"], dry_run=False).as_text()
    assert "  skipped     2 tombstones not produced: with events.tombstones = skip they make no row\n" in some
    assert "skipped" not in RequeueReport(RequeueCounts(), ["t"], dry_run=False).as_text()
