"""`ingestd verify` of a queue's objects: what the flow has written is sound, and each thing that breaks it is found."""

import asyncio
import gzip
import json
from collections.abc import Callable

import pytest

from ingestd.config.load import Flag, load
from ingestd.core.gzip import compress
from ingestd.core.queue_keys import HOUR_MS, BatchId, QueueKeys
from ingestd.core.queue_objects import FENCE_METADATA, Manifest, QueueObjectMetadata
from ingestd.verify.findings import VerifyReport
from ingestd.verify.report import text
from ingestd.verify.run import VerifyOptions, verify
from tests.fakes.inspector import FakeInspector
from tests.fakes.memory_queue import MemoryQueue
from tests.fakes.memory_sink import MemorySink
from tests.simulation import virtual_time
from tests.test_queue_flow import Flow, event, keys_of, until

KEYS = QueueKeys()
EPOCH_S = 32e8  # in the future: no manifest is old enough to be expired
DIGITS = "0123456789abcdef01234567"


async def land(sink: MemorySink) -> None:
    queue = MemoryQueue(epoch=EPOCH_S)
    async with Flow(queue, sink).running():
        for number in range(6):
            queue.send(event(number) if number % 3 else b"not json")
        await until(lambda: not queue.entries)
        queue.send(event(6))
        await until(lambda: not queue.entries)


@pytest.fixture
def sink() -> MemorySink:
    """With two batches of a queue; the first one has rejects."""
    made = MemorySink()
    virtual_time.run(land(made))
    assert len(keys_of(made, "events/")) == 2
    return made


def look(sink: MemorySink, *, read: bool = True, **keys: str) -> VerifyReport:
    url = "https://sqs.eu-central-1.amazonaws.com/000000000000/events"
    values = {"source": "sqs", "sqs.queue_url": url, **{key.replace("__", "."): value for key, value in keys.items()}}
    settings = load(environ={}, flags=[Flag("--set", key, value) for key, value in values.items()])
    return asyncio.run(verify(settings, VerifyOptions(read=read), sink, FakeInspector(({}, {})).open))


def change(sink: MemorySink, key: str, body: bytes) -> None:
    sink.objects[key] = (body, sink.objects[key][1])


def test_what_the_flow_has_written_is_sound(sink: MemorySink) -> None:
    report = look(sink)
    assert report.ok
    assert (report.totals.objects, report.totals.rows, report.totals.rejected) == (2, 5, 2)
    assert "Nothing wrong: 2 objects, and no message in two of them; every row was read." in text(report)
    assert not report.note_counts


def add_copy(sink: MemorySink) -> None:
    """The same messages under another batch, an instant later."""
    first = keys_of(sink, "events/")[0]
    name = KEYS.parse_data(first)
    assert name is not None
    batch = BatchId.new(name.batch.first_ms + 1, name.batch.last_ms + 1, DIGITS)
    body, user = sink.objects[first]
    manifest = Manifest.decode(sink.objects[KEYS.manifest_key("events", name.batch)][0])
    key = KEYS.data_key("events", batch)
    copied = Manifest(queue_arn="", data_key=key, message_ids=manifest.message_ids)
    metadata = QueueObjectMetadata.from_metadata(user)
    assert metadata is not None
    assert metadata.quarantine is not None
    rejects = sink.objects[KEYS.quarantine_key("events", name.batch, metadata.quarantine)]
    sink.objects[KEYS.quarantine_key("events", batch, metadata.quarantine)] = rejects
    sink.objects[key] = (body, {**user, "batch": batch.text})
    sink.objects[KEYS.manifest_key("events", batch)] = (copied.encode(), {})


def delete(prefix: str) -> Callable[[MemorySink], None]:
    def act(sink: MemorySink) -> None:
        del sink.objects[keys_of(sink, prefix)[0]]

    return act


def lose_a_row(sink: MemorySink) -> None:
    key = keys_of(sink, "events/")[0]
    lines = gzip.decompress(sink.objects[key][0]).splitlines(keepends=True)
    change(sink, key, compress(b"".join(lines[1:])).data)


def change_rejects(sink: MemorySink) -> None:
    change(sink, keys_of(sink, "quarantine/")[0], compress(b"{}\n").data)


def other_manifest(sink: MemorySink) -> None:
    key = keys_of(sink, ".ingestd/manifests/")[0]
    manifest = Manifest.decode(sink.objects[key][0])
    ids = [*manifest.message_ids[:-1], "other"]
    change(sink, key, Manifest(queue_arn="", data_key=manifest.data_key, message_ids=ids).encode())


def damaged_manifest(sink: MemorySink) -> None:
    change(sink, keys_of(sink, ".ingestd/manifests/")[0], b"")


def foreign_object(sink: MemorySink) -> None:
    day = keys_of(sink, "events/")[0].rpartition("/")[0]
    sink.objects[f"{day}/mine.csv"] = (b"", {})


def rows_in_a_fence(sink: MemorySink) -> None:
    key = keys_of(sink, "events/")[1]
    sink.objects[key] = (sink.objects[key][0], FENCE_METADATA)


def other_counts(sink: MemorySink) -> None:
    key = keys_of(sink, "events/")[0]
    body, user = sink.objects[key]
    sink.objects[key] = (body, {**user, "messages": "99"})


@pytest.mark.parametrize(
    ("act", "code"),
    [
        (add_copy, "message_repeated"),
        (delete(".ingestd/manifests/"), "manifest_missing"),
        (damaged_manifest, "manifest_content"),
        (other_manifest, "manifest_content"),
        (delete("quarantine/"), "quarantine_missing"),
        (change_rejects, "quarantine_content"),
        (lose_a_row, "content"),
        (rows_in_a_fence, "content"),
        (foreign_object, "foreign"),
        (other_counts, "mismatch"),
    ],
    ids=lambda it: it if isinstance(it, str) else getattr(it, "__name__", ""),
)
def test_finds_what_is_broken(sink: MemorySink, act: Callable[[MemorySink], None], code: str) -> None:
    act(sink)
    report = look(sink)
    assert code in report.problem_counts
    assert not report.ok
    assert code in text(report)


def test_a_message_that_landed_twice_is_found_without_reading_rows(sink: MemorySink) -> None:
    add_copy(sink)
    assert look(sink, read=False).problem_counts == {"message_repeated": 6}


def test_a_message_near_the_end_of_an_hour_is_found_in_the_next_one() -> None:
    sink = MemorySink()
    hour = int(EPOCH_S * 1000) // HOUR_MS * HOUR_MS
    for first, digits in ((hour - 10, DIGITS), (hour + 10, DIGITS[::-1])):
        batch = BatchId.new(first, first, digits)
        body = compress(json.dumps({"source_topic": "events", "source_message_id": "m"}).encode() + b"\n")
        metadata = QueueObjectMetadata(
            queue="events", batch=batch.text, messages=1, rows=1, rejected=0, sha256=body.sha256, first_timestamp=1,
            last_timestamp=1, queue_arn="arn", version="1",
        )  # fmt: skip
        key = KEYS.data_key("events", batch)
        manifest = Manifest(queue_arn="arn", data_key=key, message_ids=["m"])
        sink.objects[key] = (body.data, metadata.to_user_metadata())
        sink.objects[KEYS.manifest_key("events", batch)] = (manifest.encode(), {})
    assert look(sink).problem_counts == {"message_repeated": 1}


def test_fences_and_unfinished_batches_are_notes(sink: MemorySink) -> None:
    key = keys_of(sink, "events/")[0]
    name = KEYS.parse_data(key)
    assert name is not None
    for digits, fence in ((DIGITS, True), (DIGITS[::-1], False)):
        batch = BatchId.new(name.batch.first_ms, name.batch.last_ms, digits)
        data_key = KEYS.data_key("events", batch)
        manifest = Manifest(queue_arn="", data_key=data_key, message_ids=["x"])
        sink.objects[KEYS.manifest_key("events", batch)] = (manifest.encode(), {})
        if fence:
            sink.objects[data_key] = (compress(b"").data, FENCE_METADATA)
    report = look(sink)
    assert report.ok
    assert report.note_counts == {"fences": 1, "unfinished": 1}


def test_without_fences_no_manifest_is_expected(sink: MemorySink) -> None:
    delete(".ingestd/manifests/")(sink)
    assert look(sink, sqs__delivery="at-least-once").ok
