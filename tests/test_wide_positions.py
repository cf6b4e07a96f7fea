"""Positions of up to 60 digits, as Kinesis has them: in names, metadata, rows, the quarantine and what reads them."""

import gzip
import json
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.config.load import Flag, load
from ingestd.config.model import BatchConfig, EventsConfig
from ingestd.config.types import Size
from ingestd.core import quarantine
from ingestd.core.batch import Batch
from ingestd.core.chain import ChainPolicy, ChainRules, Halt
from ingestd.core.chain_words import KAFKA, KINESIS, ChainWords
from ingestd.core.errors import ConfigError
from ingestd.core.events import load_model
from ingestd.core.gzip import compress
from ingestd.core.json_validation import JsonValidator
from ingestd.core.object_keys import DataObjectName, ObjectKeys, QuarantineObjectName, digest_of
from ingestd.core.object_metadata import ObjectMetadata
from ingestd.core.records import EpochRecords, LogRange, PlainRecord, Position, TopicPartition
from ingestd.core.rejections import Reason
from ingestd.core.row_origin import RowOrigin
from ingestd.core.stored import ObjectInfo
from ingestd.core.validation import EventValidator, Validator
from ingestd.snowflake.drift import of_table
from ingestd.snowflake.sql import setup
from ingestd.snowflake.table import columns, deduplicated
from ingestd.sources.base import Fetched
from ingestd.sources.kinesis.aggregates import OUTSIDE_OF_SHARD
from ingestd.sources.kinesis.port import KinesisRecord
from ingestd.verify.ranges import Range
from ingestd.verify.run import VerifyOptions, verify
from ingestd.verify.samples import Sample, Samples
from tests.archive import NOON, Archive
from tests.fakes.memory_source import MemorySource
from tests.simulation import virtual_time
from tests.test_ingest import Flow, ended, event

SHARD = TopicPartition("clicks", 12)
FIRST = 49_590_338_271_490_256_608_559_692_538_361_571_095_921_575_989_136_588_898  # 56 digits
SPACING = 1 << 80
POSITIONS = st.integers(0, 10**60 - 2)
MODEL = load_model(None)
WIDE = EventValidator(EventsConfig(), MODEL, RowOrigin.WIDE_OFFSET)


def settings(**keys: str) -> Any:
    return load(environ={}, flags=[Flag("--set", key.replace("__", "."), value) for key, value in keys.items()])


# -- names and metadata


@given(POSITIONS, st.integers(0, 10**12 - 1), st.integers(-1, 2**63 - 1), st.booleans())
def test_a_wide_name_says_what_it_was_made_of(start: int, shard: int, timestamp: int, exactly_once: bool) -> None:
    layout, place = ObjectKeys("spring", exactly_once=exactly_once, wide=True), TopicPartition("clicks", shard)
    key = layout.data_key(place, start, timestamp, start + 1)
    assert layout.parse(key) == DataObjectName(place, start, key)
    assert layout.batch_prefix(key) == f"clicks+{shard:05d}+{start:060d}"
    rejects = layout.quarantine_key(place, start, timestamp, digest_of(b""))
    assert layout.parse_quarantine(rejects) == QuarantineObjectName(place, start, digest_of(b""), rejects)
    assert layout.batch_prefix(rejects) == layout.batch_prefix(key)


@given(st.lists(POSITIONS, min_size=2, max_size=8))
def test_wide_names_of_a_day_are_in_the_order_of_their_starts(starts: list[int]) -> None:
    layout = ObjectKeys(wide=True)
    keys = [layout.data_key(SHARD, start, NOON, start + 1) for start in sorted(starts)]
    assert keys == sorted(keys)


@given(st.integers(0, 2**63 - 1))
def test_a_name_of_the_other_width_is_not_of_the_lineage(start: int) -> None:
    narrow, wide = ObjectKeys(), ObjectKeys(wide=True)
    assert wide.parse(narrow.data_key(SHARD, start, NOON, start + 1)) is None
    assert narrow.parse(wide.data_key(SHARD, start, NOON, start + 1)) is None
    assert wide.parse_quarantine(narrow.quarantine_key(SHARD, start, NOON, digest_of(b""))) is None


def test_the_longest_names_are_ones_that_a_file_may_have() -> None:
    for exactly_once, stream in ((True, "s" * 128), (False, "s" * 100)):
        layout = ObjectKeys(exactly_once=exactly_once, wide=True)
        place = TopicPartition(stream, 10**12 - 1)
        for key in (layout.data_key(place, 0, 0, 0), layout.quarantine_key(place, 0, 0, digest_of(b""))):
            assert len(key.rsplit("/", 1)[1]) <= 255 - len(".partial")


@given(POSITIONS)
def test_metadata_keeps_every_digit(start: int) -> None:
    landed = ObjectMetadata(
        topic="clicks", partition=12, start=start, end=start + 1, rows=1, rejected=0, sha256="", first_offset=start,
        first_timestamp=NOON, last_timestamp=NOON, version="0",
    )  # fmt: skip
    assert ObjectMetadata.from_metadata(landed.to_user_metadata()) == landed


def test_a_position_without_room_in_a_name_halts_before_anything_is_written() -> None:
    rules = ChainRules(SHARD, ChainPolicy(ObjectKeys(wide=True), "tag"), "arn")
    rules.check_position(10**60 - 1)
    with pytest.raises(Halt, match=r"has 61 digits, and names of objects have room for 60") as halt:
        rules.check_position(10**60)
    assert halt.value.code == "position_too_large"
    with pytest.raises(Halt, match="room for 20"):
        ChainRules(SHARD, ChainPolicy(ObjectKeys(), "tag"), "").check_position(FIRST)


# -- rows and quarantine lines


@given(POSITIONS)
def test_an_offset_is_text_in_rows_and_lines_and_an_integer_when_they_are_read(offset: int) -> None:
    records = [PlainRecord(offset, NOON, event(1)), PlainRecord(offset + 1, NOON, b"{")]
    validated = WIDE.chunk(SHARD, records)
    row = json.loads(validated.rows)
    assert (row["source_topic"], row["source_partition"], row["source_offset"]) == ("clicks", 12, str(offset))
    line = quarantine.encode(SHARD, validated.rejected, origin=WIDE.origin)
    assert json.loads(line)["offset"] == str(offset + 1)
    assert quarantine.decode(line).offset == offset + 1


def test_a_line_with_a_number_is_read_as_before() -> None:
    rejected = WIDE.chunk(SHARD, [PlainRecord(7, NOON, None)]).rejected
    line = quarantine.encode(SHARD, rejected)
    assert json.loads(line)["offset"] == quarantine.decode(line).offset == 7


@pytest.mark.parametrize("offset", ['"-1"', '"1e3"', '""', '"\u0661"', f'"{10**60}"', "-1", "1.5", "null"])
def test_a_line_without_an_offset_is_refused(offset: str) -> None:
    line = quarantine.encode(SHARD, WIDE.chunk(SHARD, [PlainRecord(7, NOON, None)]).rejected)
    with pytest.raises(quarantine.QuarantineError):
        quarantine.decode(line.replace(b'"offset":7', f'"offset":{offset}'.encode()))


class Message(msgspec.Struct):
    """A message of a queue."""

    message_id: str
    value: bytes | None
    offset: int = 0
    timestamp: int = NOON
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = ()


@given(st.lists(st.booleans(), min_size=1, max_size=300))
def test_a_row_of_a_queue_has_the_id_of_its_own_message(good: list[bool]) -> None:
    validator = EventValidator(EventsConfig(), MODEL, RowOrigin.MESSAGE_ID)
    messages = [Message(f"m{number}", event(number) if it else b"{") for number, it in enumerate(good)]
    validated = validator.chunk(TopicPartition("queue", 0), messages)
    rows = [json.loads(row) for row in validated.rows.splitlines()]
    accepted = [number for number, it in enumerate(good) if it]
    assert [row["source_message_id"] for row in rows] == [f"m{number}" for number in accepted]
    assert [row["event_id"] for row in rows] == [json.loads(event(number))["event_id"] for number in accepted]
    assert all("source_offset" not in row and "source_partition" not in row for row in rows)
    lines = quarantine.encode_messages("queue", validated.rejected).splitlines()
    assert [json.loads(line)["message_id"] for line in lines] == [
        f"m{number}" for number, it in enumerate(good) if not it
    ]


@pytest.mark.parametrize("validator", [WIDE, JsonValidator(EventsConfig(), RowOrigin.WIDE_OFFSET)])
def test_a_record_that_its_source_refuses_is_rejected_with_its_bytes_whatever_they_are(validator: Validator) -> None:
    refused = {FIRST + 1, FIRST + 200}  # in two blocks
    records = [
        KinesisRecord(at, event(0), NOON / 1000, "k", refused=OUTSIDE_OF_SHARD if at in refused else None)
        for at in range(FIRST, FIRST + 202)
    ]
    validated = validator.chunk(SHARD, records)
    rows = [int(json.loads(row)["source_offset"]) for row in validated.rows.splitlines()]
    assert rows == [it.offset for it in records if it.offset not in refused]
    assert [(it.position, it.record, it.reason, it.path, it.message) for it in validated.rejected] == [
        (at - FIRST, records[at - FIRST], Reason.OUTSIDE_OF_SHARD, "$", OUTSIDE_OF_SHARD.message)
        for at in sorted(refused)
    ]


# -- the pipeline


class InAggregates(MemorySource):
    """Names the end of every fourth record as the only places where a batch may end."""

    async def fetch(self) -> Fetched | None:
        if (fetched := await super().fetch()) is None:
            return None
        return {partition: self._cut(found) for partition, found in fetched.items()}

    def _cut(self, found: EpochRecords) -> EpochRecords:
        ends = [at for at, record in enumerate(found.records, 1) if record.offset % 4 == 3]
        return EpochRecords(found.records[: ends[-1] if ends else 0], found.leader_epoch, ends)


@pytest.mark.parametrize("limits", [BatchConfig(records=10), BatchConfig(records=1), BatchConfig(bytes=Size(1024))])
def test_a_batch_never_ends_inside_of_an_aggregate(limits: BatchConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingestd.pipeline.ingest.CHUNK_BYTES", 1000)
    monkeypatch.setattr(Batch, "chunk_bytes", 600)
    monkeypatch.setattr("tests.test_ingest.MemorySource", InAggregates)

    async def main() -> None:
        flow = Flow({SHARD: [PlainRecord(offset, NOON, event(offset)) for offset in range(400)]}, limits)
        await ended(flow, 60)
        ranges = await flow.ranges(SHARD)
        assert (ranges[0][0], ranges[-1][1]) == (0, 400)
        assert all(end % 4 == 0 for _, end in ranges)
        assert len(ranges) > 3

    virtual_time.run(main())


def test_records_before_the_position_leave_the_rest_cut_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.test_ingest.MemorySource", InAggregates)

    async def main() -> None:
        flow = Flow({SHARD: [PlainRecord(offset, NOON, event(offset)) for offset in range(40)]}, BatchConfig(records=6))
        flow.log.commits[SHARD] = Position(8)
        await ended(flow, 60)
        assert await flow.ranges(SHARD) == [(8, 16), (16, 24), (24, 32), (32, 40)]

    virtual_time.run(main())


def test_the_end_of_the_chain_is_the_checkpoint_of_a_source_without_commits() -> None:
    rules = ChainRules(SHARD, ChainPolicy(ObjectKeys(wide=True), "tag", has_commits=False), "arn")
    rules.stream_id = "1700000000000"
    archive = Archive(wide=True)
    key = archive.add(SHARD, FIRST, FIRST + 2)
    assert rules.position_after(archive.landed(key)) == Position(FIRST + 2, "tag", "1700000000000")


# -- what an operator reads


def halts(words: ChainWords) -> dict[str, str]:
    """The messages of the halts that a source without leader epochs can have."""
    policy = ChainPolicy(ObjectKeys(wide=True), "tag", words=words)
    rules = ChainRules(SHARD, policy, "arn")
    rules.stream_id = "now"
    archive = Archive(wide=True)
    key = archive.add(SHARD, 5, 9, cluster="arn")
    metadata = archive.landed(key)
    info = ObjectInfo(key, 1, archive.sink.objects[key][1])
    other = partial(msgspec.structs.replace, info)
    calls: dict[str, Callable[[], object]] = {
        "retention": partial(rules.check_retention, 5, LogRange(7, 9)),
        "inside": partial(rules.check_aligned, 7, 9),
        "behind": partial(rules.check_aligned, 11, 9),
        "before": partial(rules.check_nothing_after, 3, metadata),
        "foreign": partial(rules.read_object, other(metadata={**info.metadata, "cluster": "b"}), key),
        "deleted": partial(rules.read_object, other(metadata={**info.metadata, "topic-id": "b"}), key),
        "end": partial(rules.check_same_log, metadata, key, LogRange(0, 7), None, proven=False),
    }
    found = {}
    for name, call in calls.items():
        with pytest.raises(Halt) as halt:
            call()
        found[name] = halt.value.message
    return found


def test_a_halt_of_a_shard_has_no_word_of_kafka() -> None:
    for name, message in halts(KINESIS).items():
        assert not any(word in message.lower() for word in ("kafka", "topic", "group", "offset", "cluster")), name
    assert "set kinesis.skip_lost = true" in halts(KINESIS)["retention"]
    assert "stream arn" in halts(KINESIS)["foreign"]


def test_a_halt_of_a_partition_names_the_groups_offset_and_the_keys_of_kafka() -> None:
    found = halts(KAFKA)
    assert "removed 2 offsets of clicks[12] before they were read (5-7); set kafka.skip_lost" in found["retention"]
    assert "reset the group's offset for this partition to 9" in found["inside"]
    assert "kafka.group_id" in found["end"]


# -- Snowflake


def test_the_table_of_a_source_has_the_columns_that_name_its_records() -> None:
    def of(origin: RowOrigin) -> dict[str, str]:
        return {it.name: it.type for it in columns(MODEL, origin) if it.name.startswith("source_")}

    assert of(RowOrigin.WIDE_OFFSET)["source_offset"] == "VARCHAR(60)"
    assert of(RowOrigin.WIDE_OFFSET).keys() == of(RowOrigin.OFFSET).keys()
    assert of(RowOrigin.MESSAGE_ID) == {"source_topic": "VARCHAR(256)", "source_message_id": "VARCHAR(256)"}


@pytest.mark.parametrize(("source", "column"), [("kafka", "NUMBER(38,0)"), ("kinesis", "VARCHAR(60)"), ("sqs", "")])
def test_the_set_up_of_snowflake_is_that_of_the_source(source: str, column: str) -> None:
    config = settings(
        source=source, sink__url="s3://bucket", snowflake__compute="C", sqs__queue_url="https://sqs.eu-west-1.x.com/1/q",
        snowflake__aws_role_arn="arn:aws:iam::123456789012:role/snowflake",
    ).config  # fmt: skip
    text = "\n".join(statement.text for part in setup(config, MODEL, "select") for statement in part.statements)
    assert ("source_offset" in text) is bool(column)
    assert ("source_message_id" in text) is (source == "sqs")
    assert not column or f"source_offset {column} COMMENT" in text


def test_a_table_with_numbers_does_not_fit_rows_of_kinesis() -> None:
    present = [{"name": it.name.upper(), "type": it.type, "null?": "N"} for it in columns(MODEL)]
    wanted = columns(MODEL, RowOrigin.WIDE_OFFSET)
    (drift,) = of_table(present, settings().config.snowflake, wanted)
    assert "source_offset is NUMBER(38,0), but the rows have VARCHAR(60)" in drift.difference


def test_duplicates_are_told_apart_by_what_names_a_record() -> None:
    assert "received_at, source_topic, source_message_id, file_name" in deduplicated(
        "t", columns(MODEL, RowOrigin.MESSAGE_ID)
    )


# -- verification


@pytest.mark.parametrize("read", [False, True], ids=["metadata", "bodies"])
async def test_chains_with_wide_positions_are_verified(read: bool) -> None:
    archive = Archive(wide=True)
    archive.chain(SHARD, FIRST, FIRST + 3, FIRST + 9, rejected=(FIRST + 1, FIRST + 5))
    report = await verify(settings(source="kinesis"), VerifyOptions(objects_only=True, read=read), archive.sink, None)  # type: ignore[arg-type]
    assert report.ok, report.problems
    assert (report.totals.rows, report.totals.rejected) == (7, 2)
    assert (report.partitions[0].start, report.partitions[0].end) == (FIRST, FIRST + 9)


async def test_a_gap_and_a_changed_row_of_a_shard_are_found() -> None:
    archive = Archive(wide=True)
    keys = archive.chain(SHARD, FIRST, FIRST + 3, FIRST + 6, FIRST + 9)
    archive.delete(keys[1])
    body = gzip.decompress(archive.sink.objects[keys[2]][0]).replace(f'"{FIRST + 6}"'.encode(), b'"x"')
    archive.overwrite(keys[2], compress(body).data)
    options = VerifyOptions(objects_only=True, read=True)
    report = await verify(settings(source="kinesis"), options, archive.sink, None)  # type: ignore[arg-type]
    assert report.problem_counts == {"gap": 1, "content": 1}
    assert {problem.code: problem.start for problem in report.problems}["gap"] == FIRST + 3


def test_samples_of_wide_positions_are_spread_evenly() -> None:
    samples = Samples(20)
    for number in range(1000):
        at = FIRST + number * SPACING
        samples.add(Sample(Range(at, at + 1), at, NOON))
    kept = [(sample.offset - FIRST) // SPACING for sample in samples.newest_first()]
    assert max(one - other for one, other in pairwise(kept)) < 200


# -- settings


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"kinesis__start": "yesterday"}, "kinesis.start"),
        ({"kinesis__heartbeat_interval": "20s"}, "more than a third of kinesis.member_timeout"),
        ({"kinesis__stream": "s" * 101, "sink__delivery": "at-least-once"}, "leaves no room in object keys"),
    ],
)
def test_settings_of_kinesis_that_cannot_work_are_refused(keys: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings(**keys)
