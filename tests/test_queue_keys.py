"""Names of a queue's objects: a redelivered message always finds the manifests that can hold it."""

from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from ingestd.core.object_keys import ObjectKeys
from ingestd.core.queue_keys import HOUR_MS, TOLERANCE_MS, BatchId, QueueKeys, receipt_hour
from ingestd.core.queue_objects import Manifest, MessageIds, QueueObjectMetadata, is_fence

DIGITS = "0123456789abcdef01234567"
TIME = 1_795_910_400_000  # 2026-11-29T00:00:00Z

times = st.integers(0, 2**42)


def test_names_a_batch_s_objects_after_its_first_receipts() -> None:
    keys, batch = QueueKeys("v2"), BatchId.new(TIME + 1_234, TIME + 31_000, DIGITS)
    assert batch.text == f"20261129T000001234-0029766-{DIGITS}"
    day = "year=2026/month=11/day=29/"
    assert keys.data_key("events", batch) == f"events/v2/{day}events+{batch.text}.jsonl.gz"
    assert keys.quarantine_key("events", batch, "0" * 16) == (
        f"quarantine/v2/{day}events+{batch.text}+{'0' * 16}.jsonl.gz"
    )
    assert keys.manifest_key("events", batch) == (
        f".ingestd/manifests/lineage=v2/events/2026-11-29T00/{batch.text}.json.gz"
    )


@given(times, st.integers(0, HOUR_MS - 1), st.sampled_from(["events", "events.fifo", "a-B_9"]))
def test_each_name_is_read_back_as_it_was_written(first_ms: int, span: int, queue: str) -> None:
    keys, batch = QueueKeys(), BatchId.new(first_ms, first_ms + span, DIGITS)
    assert BatchId.parse(batch.text) == batch
    for name in (
        keys.parse_data(keys.data_key(queue, batch)),
        keys.parse_manifest(keys.manifest_key(queue, batch)),
        keys.parse_quarantine(keys.quarantine_key(queue, batch, "f" * 16)),
    ):
        assert name is not None
        assert (name.queue, name.batch) == (queue, batch)


@given(times, st.lists(st.integers(0, HOUR_MS - 1), min_size=1), st.integers(-TOLERANCE_MS, TOLERANCE_MS))
def test_a_message_that_comes_again_finds_its_manifest(hour_ms: int, places: list[int], drift: int) -> None:
    """Whichever message of the batch, and although SQS tells a slightly different time of its first receipt."""
    begin = receipt_hour(hour_ms) * HOUR_MS
    received = [begin + place for place in places]
    keys, batch = QueueKeys(), BatchId.new(min(received), max(received), DIGITS)
    manifest = keys.manifest_key("events", batch)
    for time in received:
        assert batch.may_hold(time + drift)
        folders = keys.manifest_folders("events", time + drift)
        assert any(manifest.startswith(folder) for folder in folders)
        assert len(folders) <= 2


def test_a_message_looks_into_one_folder_but_near_the_end_of_an_hour() -> None:
    keys = QueueKeys()
    assert len(keys.manifest_folders("events", TIME + HOUR_MS // 2)) == 1
    assert len(keys.manifest_folders("events", TIME + 1)) == 2


def test_names_that_are_not_its_own_are_none() -> None:
    keys, batch = QueueKeys(), BatchId.new(TIME, TIME, DIGITS)
    good = keys.data_key("events", batch)
    for bad in (
        good.replace("day=29", "day=28"),
        good.replace(".jsonl", ""),
        good.replace("events+", "ev ents+"),
        good.replace("T0000", "T9900"),
        "events/year=2026/month=11/day=29/events+00000+00000000000000000000.jsonl.gz",
    ):
        assert keys.parse_data(bad) is None
    assert ObjectKeys().parse(good) is None  # nor is it taken for an object of a chain


def test_a_manifest_is_read_back_and_tells_its_messages() -> None:
    manifest = Manifest(queue_arn="arn", data_key="k", message_ids=[f"m{number}" for number in range(1000)])
    assert Manifest.decode(manifest.encode()) == manifest
    ids = MessageIds(manifest.message_ids)
    assert len(ids) == len(list(ids)) == 1000
    assert list(ids) == sorted(ids)
    assert all(ids.has(message_id) for message_id in manifest.message_ids)
    assert not ids.has("m1000")
    assert not MessageIds([]).has("m0")


def test_an_iteration_over_message_ids_ends() -> None:
    assert len(list(islice(MessageIds(["m0", "m1"]), 3))) == 2
    assert not list(islice(MessageIds([]), 1))


def test_metadata_survives_as_text_and_is_no_fence() -> None:
    metadata = QueueObjectMetadata(
        queue="events", batch="b", messages=3, rows=2, rejected=1, sha256="s", first_timestamp=1, last_timestamp=2,
        queue_arn="arn", version="1", quarantine="q",
    )  # fmt: skip
    user = metadata.to_user_metadata()
    assert QueueObjectMetadata.from_metadata(user) == metadata
    assert not is_fence(user)
    assert QueueObjectMetadata.from_metadata({"purpose": "fence"}) is None
