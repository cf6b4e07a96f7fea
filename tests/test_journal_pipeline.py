"""The pipeline on a journal: every event that was appended is one row, wherever the process dies."""

import asyncio
import gzip
import json
import random
import shutil
from collections import Counter
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from pathlib import Path

import pytest

from ingestd.config.model import BatchConfig, BreakerConfig, EventsConfig, SinkConfig
from ingestd.config.types import Seconds
from ingestd.core.breaker import Breaker
from ingestd.core.chain import ChainPolicy
from ingestd.core.events import load_model
from ingestd.core.object_keys import ObjectKeys
from ingestd.core.object_metadata import ObjectMetadata
from ingestd.core.records import Position, TopicPartition, UnsentRecord
from ingestd.core.validation import EventValidator
from ingestd.ops.metrics import Metrics
from ingestd.pipeline.chain_objects import Dependencies
from ingestd.pipeline.ingest import Pipeline
from ingestd.sinks.retry import SinkRetrier
from ingestd.sources.journal.journal import Journal
from ingestd.sources.journal.source import JournalSource
from tests.fakes.memory_sink import MemorySink

MIB = 1 << 20
PARTITION = TopicPartition("web", 0)
BATCH_RECORDS = 7
MAX_COMMITS = 4  # of one life
#: Where a process dies: when the object has landed, when the position is on the disk, when it has discarded.
MOMENTS = ("landed", "committed", "discarded")


def event(number: int) -> UnsentRecord:
    fields = {"event_id": f"e{number}", "client_id": "c", "event_timestamp": "2026-01-01T00:00:00Z"}
    value = json.dumps({**fields, "event_type": "web_visit"}).encode()
    return UnsentRecord(1_700_000_000_000 + number * 3_600_000, b"c", value)


class DyingSource(JournalSource):
    """Goes no further than a moment of one of its commits, or than a halt."""

    def __init__(self, journal: Journal, moment: str, commits: int) -> None:
        super().__init__(journal, PARTITION.topic)
        self._moment = moment
        self._left = commits
        self.died = asyncio.Event()

    async def commit(self, partition: TopicPartition, position: Position) -> bool:
        self._left -= 1
        if self._left > 0:
            return await super().commit(partition, position)
        if self._moment == "committed":
            await self._journal.commit(position)
        elif self._moment == "discarded":
            await super().commit(partition, position)
        self.died.set()
        await asyncio.Event().wait()
        return False

    def pause(self, partition: TopicPartition) -> None:
        super().pause(partition)
        self.died.set()


class EndingSource(JournalSource):
    """Ends when everything is committed."""

    async def commit(self, partition: TopicPartition, position: Position) -> bool:
        accepted = await super().commit(partition, position)
        if position.offset == self._journal.next_offset:
            self.finish()
        return accepted


@asynccontextmanager
async def running(source: JournalSource, sink: MemorySink) -> AsyncIterator[tuple[Pipeline, asyncio.Task[None]]]:
    metrics = Metrics()
    with ThreadPoolExecutor(1) as executor:
        dependencies = Dependencies(
            source=source,
            sink=sink,
            retrier=SinkRetrier(SinkConfig(retry_initial=Seconds(0.1)), metrics.upload_retried, random.Random(1)),
            metrics=metrics,
            executor=executor,
            wall_clock=lambda: 0.0,
        )
        layout = ObjectKeys()
        pipeline = Pipeline(
            BatchConfig(interval=Seconds(1), records=BATCH_RECORDS),
            dependencies,
            EventValidator(EventsConfig(), load_model(None)),
            Breaker(BreakerConfig()),
            ChainPolicy(layout, layout.commit_tag(sink.url)),
            revoke_timeout=1.0,
        )
        task = asyncio.create_task(pipeline.run())
        try:
            yield pipeline, task
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


def rows(sink: MemorySink) -> Counter[str]:
    bodies = [gzip.decompress(body) for key, (body, _) in sink.objects.items() if key.startswith("events/")]
    return Counter(json.loads(line)["event_id"] for body in bodies for line in body.splitlines())


def chain(sink: MemorySink) -> list[ObjectMetadata]:
    found = [ObjectMetadata.from_metadata(metadata) for _, metadata in sink.objects.values()]
    return sorted((it for it in found if it is not None), key=lambda it: it.start)


@pytest.mark.parametrize("seed", range(3))
async def test_every_event_is_one_row_wherever_the_process_dies(ram: Path, seed: int) -> None:
    rng, sink = random.Random(seed), MemorySink()
    appended = 0
    folder = ram / "0"
    folder.mkdir()
    moments = [*MOMENTS, *rng.choices(MOMENTS, k=3)]
    rng.shuffle(moments)
    for life, moment in enumerate(moments, 1):
        journal = Journal(folder / "journal.sqlite", MIB)
        await journal.open()
        source = DyingSource(journal, moment, rng.randint(1, MAX_COMMITS))
        async with running(source, sink), asyncio.timeout(60):
            until = appended + MAX_COMMITS * BATCH_RECORDS + rng.randint(0, 20)
            while appended < until:
                count = rng.randint(1, 5)
                await journal.append([event(appended + number) for number in range(count)])
                appended += count
            await source.died.wait()
        shutil.copytree(folder, folder := ram / f"{life}")  # as the process leaves it
        await journal.close()
    journal = Journal(folder / "journal.sqlite", MIB)
    await journal.open()
    await journal.append([event(appended)])
    appended += 1
    async with running(EndingSource(journal, PARTITION.topic), sink) as (_, task), asyncio.timeout(60):
        await task
    assert rows(sink) == Counter(f"e{number}" for number in range(appended))
    objects = chain(sink)
    assert all(before.end == after.start for before, after in pairwise(objects))
    assert (objects[0].start, objects[-1].end) == (0, appended)
    assert (journal.first_offset, journal.next_offset) == (appended, appended)
    assert sink.overwritten == {}
    await journal.close()


async def test_a_journal_that_was_made_again_halts_where_objects_of_the_former_one_are(ram: Path) -> None:
    """Its offsets come again, and so would the objects' names."""
    sink = MemorySink()
    for _ in range(2):
        journal = Journal(ram / "journal.sqlite", MIB)
        await journal.open()
        await journal.append([event(number) for number in range(BATCH_RECORDS)])
        source = DyingSource(journal, "discarded", 2)
        async with running(source, sink) as (pipeline, _), asyncio.timeout(60):
            await source.died.wait()
            await asyncio.sleep(0)
            halts = [it.halt for it in pipeline.writers.values() if it.halt]
        await journal.close()
        journal.path.unlink()
    assert [it.code for it in halts] == ["foreign_object"]
    assert "set a new sink.lineage" in halts[0].message
    assert len(rows(sink)) == BATCH_RECORDS
