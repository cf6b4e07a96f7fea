"""Names of objects: a pure function of place, partition, start and the first record's timestamp."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from ingestd.config.validate import TOPIC_MAX
from ingestd.core.object_keys import DataObjectName, ObjectKeys, QuarantineObjectName, digest_of
from ingestd.core.object_metadata import ObjectMetadata
from ingestd.core.records import TopicPartition

TOPICS = st.text("abcXYZ019._-", min_size=1, max_size=30).filter(lambda topic: topic not in {".", ".."})
OFFSETS = st.integers(0, 2**63 - 1)
NOON = int(datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp() * 1000)


@given(
    topic=TOPICS,
    partition=st.integers(0, 99_999),
    start=OFFSETS,
    timestamp=st.integers(-1, 2**63 - 1),
    leader_epoch=st.none() | st.integers(0, 2**31 - 1),
    exactly_once=st.booleans(),
)
def test_a_name_says_what_it_was_made_of(
    topic: str, partition: int, start: int, timestamp: int, leader_epoch: int | None, *, exactly_once: bool
) -> None:
    layout, tp = ObjectKeys("spring", exactly_once=exactly_once), TopicPartition(topic, partition)
    key = layout.data_key(tp, start, timestamp, start + 1, leader_epoch)
    assert layout.parse(key) == DataObjectName(tp, start, key, leader_epoch)


def test_the_longest_name_is_one_that_a_file_may_have() -> None:
    longest = ObjectKeys(exactly_once=False).data_key(TopicPartition("t" * TOPIC_MAX, 99_999), 0, 0, 0, 2**31 - 1)
    assert len(longest.rsplit("/", 1)[1]) <= 255 - len(".partial")


@given(TOPICS, st.integers(0, 99_999), OFFSETS, st.integers(-1, 2**63 - 1), st.binary())
def test_the_name_of_a_quarantine_object_says_what_it_was_made_of(
    topic: str, partition: int, start: int, timestamp: int, body: bytes
) -> None:
    layout, tp = ObjectKeys("spring"), TopicPartition(topic, partition)
    key = layout.quarantine_key(tp, start, timestamp, digest_of(body))
    assert layout.parse_quarantine(key) == QuarantineObjectName(tp, start, digest_of(body), key)
    assert layout.parse_quarantine(layout.data_key(tp, start, timestamp, start + 1)) is None


def test_the_name_has_the_day_of_the_first_record_in_utc() -> None:
    key = ObjectKeys().data_key(TopicPartition("t", 7), 42, NOON, 99)
    assert key == "events/year=2026/month=11/day=22/t+00007+00000000000000000042.jsonl.gz"


def test_the_end_is_not_in_the_name_so_that_two_attempts_meet() -> None:
    layout, tp = ObjectKeys(), TopicPartition("t", 0)
    assert layout.data_key(tp, 5, NOON, 9) == layout.data_key(tp, 5, NOON, 70)


def test_at_least_once_puts_the_end_into_the_name_so_that_they_do_not() -> None:
    layout, tp = ObjectKeys(exactly_once=False), TopicPartition("t", 0)
    keys = {layout.data_key(tp, 5, NOON, end) for end in (9, 70)}
    assert len(keys) == 2
    assert {name.start for key in keys if (name := layout.parse(key))} == {5}


@given(st.integers(-(2**63), 2**63 - 1))
def test_every_timestamp_has_a_day(timestamp: int) -> None:
    assert ObjectKeys().data_key(TopicPartition("t", 0), 0, timestamp, 0).startswith("events/year=")


def test_quarantine_lies_outside_of_what_the_pipe_reads_and_is_named_by_content() -> None:
    layout, tp = ObjectKeys(), TopicPartition("t", 0)
    one, other = (layout.quarantine_key(tp, 5, NOON, digest_of(body)) for body in (b"one", b"other"))
    assert one != other
    assert one.startswith("quarantine/")
    assert layout.parse(one) is None


def test_names_of_a_partition_are_listed_without_its_neighbours() -> None:
    layout = ObjectKeys()
    prefix = layout.day_prefix("d/", TopicPartition("t", 1))
    assert not layout.day_prefix("d/", TopicPartition("t", 11)).startswith(prefix)
    assert not layout.day_prefix("d/", TopicPartition("t1", 1)).startswith(prefix)


def test_what_is_not_a_data_object_has_no_name() -> None:
    layout = ObjectKeys()
    for key in ("events/readme.txt", "events/year=2026/t+1+2.jsonl.gz", ".ingestd/probe.gz", ""):
        assert layout.parse(key) is None


def test_another_place_has_another_mark() -> None:
    marks = {layout.commit_tag(url) for layout in (ObjectKeys(), ObjectKeys("x")) for url in ("s3://a", "s3://b")}
    assert len(marks) == 4
    assert ObjectKeys().commit_tag("s3://a") == ObjectKeys().commit_tag("s3://a")


@given(
    st.builds(
        ObjectMetadata,
        topic=TOPICS,
        partition=st.integers(0, 10**6),
        start=OFFSETS,
        end=OFFSETS,
        rows=OFFSETS,
        rejected=OFFSETS,
        sha256=st.just("ab" * 32),
        first_offset=OFFSETS,
        first_timestamp=st.integers(-1, 2**60),
        last_timestamp=st.integers(-1, 2**60),
        cluster=st.none() | TOPICS,
        version=st.just("1.0"),
        quarantine=st.none() | st.just("0123456789abcdef"),
    )
)
def test_metadata_is_read_back_as_it_was_written(landed: ObjectMetadata) -> None:
    metadata = landed.to_user_metadata()
    assert ObjectMetadata.from_metadata(metadata) == landed
    assert all(name == name.lower() and name.isascii() and value.isascii() for name, value in metadata.items())


def test_metadata_of_somebody_else_is_not_taken_for_ours() -> None:
    assert ObjectMetadata.from_metadata({}) is None
    assert ObjectMetadata.from_metadata({"topic": "t", "partition": "x"}) is None
