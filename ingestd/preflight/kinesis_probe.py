"""Asks Kinesis for everything that a run needs, within bounds; ``preflight.stream`` judges the answers."""

import asyncio
import time
from collections.abc import Sequence

from ingestd.config.model import KinesisConfig
from ingestd.core.errors import SourceError
from ingestd.core.records import Record, TopicPartition
from ingestd.preflight.stream import StreamFacts
from ingestd.sources.kinesis.aggregates import split_page
from ingestd.sources.kinesis.port import KinesisClient, KinesisUnavailable, Shard
from ingestd.sources.kinesis.shards import shard_number

SAMPLE_SHARDS = 8
SAMPLE_RECORDS = 100  # of each of them
SAMPLE_PAGES = 10  # empty pages are normal where records lie far apart
RECENT_MS = 600_000  # of the records that are read, before now
TRIES = 4  # of a call that is throttled
PAUSE_S = 0.5


async def look(kinesis: KinesisConfig, client: KinesisClient) -> StreamFacts:
    """Ask every question, and read some recent records; joins nothing, and leaves no trace."""
    facts = StreamFacts()
    try:
        facts.stream = await client.describe()
        facts.now_ms = int(time.time() * 1000)
    except SourceError as error:
        facts.stream = error
        return facts
    try:
        facts.shards = await client.list_shards()
    except SourceError as error:
        facts.shards = error
        return facts
    opened = [shard for shard in facts.shards if not shard.closed][:SAMPLE_SHARDS]
    since = facts.stream.now_ms - RECENT_MS
    try:
        samples = await asyncio.gather(*(_sample(client, shard, since) for shard in opened))
    except SourceError as error:
        facts.records = error
    else:
        facts.records = {
            TopicPartition(kinesis.stream, shard_number(shard.id)): records
            for shard, records in zip(opened, samples, strict=True)
            if records
        }
    return facts


async def _sample(client: KinesisClient, shard: Shard, since_ms: int) -> Sequence[Record]:
    """Recent records of a shard, or the oldest where there are no recent ones."""
    return await _read(client, shard, since_ms) or await _read(client, shard, None)


async def _read(client: KinesisClient, shard: Shard, at_ms: int | None) -> list[Record]:
    found: list[Record] = []
    iterator: str | None = await client.iterator(shard.id, at_ms=at_ms)
    for _ in range(SAMPLE_PAGES):
        if iterator is None:
            break
        page = None
        for attempt in range(TRIES):
            try:
                page = await client.get_records(iterator, SAMPLE_RECORDS)
                break
            except KinesisUnavailable:
                if attempt == TRIES - 1:
                    raise
                await asyncio.sleep(PAUSE_S)
        assert page is not None, "the last attempt raises"
        found += split_page(page.records, shard).records
        if found or not page.behind_ms:
            break
        iterator = page.next_iterator
    return found
