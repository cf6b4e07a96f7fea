"""The page of a run on a queue: its objects, its messages and its rejected messages have no offsets."""

import asyncio
import json
import subprocess

import msgspec
import pytest

from ingestd.config.model import EventsConfig
from ingestd.core.events import load_model
from ingestd.core.object_keys import ObjectKeys
from ingestd.core.queue_objects import FENCE_BODY, FENCE_METADATA
from ingestd.core.row_origin import RowOrigin
from ingestd.core.validation import EventValidator
from ingestd.demo.page.recent_activity import ObservedSink, ObservedValidator, RecentActivity, SimulatedOutage
from ingestd.demo.page.routes import STATIC
from tests.fakes.memory_queue import MemoryQueue
from tests.fakes.memory_sink import MemorySink
from tests.services.node import node_program
from tests.test_page import P0, Served
from tests.test_page import served as served  # noqa: PLC0414 - a fixture
from tests.test_queue_flow import Flow, event, keys_of, until

BATCH = "20261122T235930123-0000012-0123456789abcdef01234567"
DAY = "year=2026/month=11/day=22/"
NAMES = {
    f"events/{DAY}clicks.fifo+{BATCH}.jsonl.gz": "clicks.fifo 23:59:30 012345",
    f"quarantine/{DAY}clicks+{BATCH}+fedcba9876543210.jsonl.gz": "clicks 23:59:30 012345",
    f"events/{DAY}clicks+00003+00000000000000000120.jsonl.gz": "P3 from 120",
    f"events/{DAY}shop+00000+00000000000000000000+epoch0000000007.jsonl.gz": "shop P0 from 0",
    f"quarantine/{DAY}clicks+00003+00000000000000000120+fedcba9876543210.jsonl.gz": "P3 from 120",
    f"events/{DAY}clicks+00012+000049590338271490256608559692538361571095921575989136588898.jsonl.gz": (
        "P12 from 49590338…36588898"
    ),
    "events/elsewhere.jsonl.gz": "elsewhere.jsonl.gz",
}


@pytest.fixture
async def landed(served: Served) -> Served:
    """The page of a run that has landed three messages, of which one was rejected."""
    queue = MemoryQueue("clicks")
    for value in (event(0), b"{", event(1)):
        queue.send(value)
    async with Flow(queue, served.store).running() as flow:
        await until(lambda: flow.metrics.counters.totals().in_flight > 0)
        flow.source.finish()
        await until(lambda: not queue.entries)
    return served


async def test_an_object_of_a_queue_is_shown_with_its_messages(landed: Served) -> None:
    [data], [bad] = keys_of(landed.store, "events/"), keys_of(landed.store, "quarantine/")
    for key, lines in ((data, 2), (bad, 1)):
        status, text = await landed.request(f"/page/object?key={key.replace('+', '%2B')}")
        found = msgspec.json.decode(text)
        assert (status, found["key"], len(found["lines"])) == (200, key, lines)
        metadata = found["metadata"]
        assert [metadata[name] for name in ("queue", "messages", "rows", "rejected")] == ["clicks", "3", "2", "1"]
        assert not metadata.keys() & {"start", "end"}


async def test_a_manifest_is_not_shown(landed: Served) -> None:
    [manifest] = keys_of(landed.store, ".ingestd/")
    assert (await landed.request(f"/page/object?key={manifest.replace('+', '%2B')}"))[0] == 404


async def test_messages_are_told_apart_by_their_ids() -> None:
    """The page keeps what it has shown before, by that name."""
    queue, activity = MemoryQueue("clicks"), RecentActivity()
    validator = EventValidator(EventsConfig(), load_model(None), RowOrigin.MESSAGE_ID)
    ids = [queue.send(value) for value in (event(0), b"{", event(1), b"[")]
    ObservedValidator(validator, activity).chunk(P0, queue.receive(30.0, 0.0))
    assert [it.source_message_id for it in activity.events] == [ids[2], ids[0]]
    assert [it.record for it in activity.rejects] == [ids[3], ids[1]]


async def test_a_fence_is_no_object_of_the_run() -> None:
    activity = RecentActivity()
    sink = ObservedSink(MemorySink(), ObjectKeys(), activity, SimulatedOutage())
    await sink.put_new(next(iter(NAMES)), FENCE_BODY, FENCE_METADATA)
    assert activity.objects == []


@pytest.mark.services
async def test_objects_have_short_names() -> None:
    script = (STATIC / "base.js").read_text()
    script += f"\nconsole.log(JSON.stringify({json.dumps([*NAMES])}.map(shortName)));"
    command = [str(node_program()), "--input-type=module"]
    done = await asyncio.to_thread(subprocess.run, command, input=script, capture_output=True, text=True, check=False)
    assert not done.stderr
    assert json.loads(done.stdout) == [*NAMES.values()]
