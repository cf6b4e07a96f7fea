"""A look at the first record of a shard from a place on, beside the shard's reader."""

import asyncio
from typing import NamedTuple

from ingestd.sources.kinesis.connection import READ_SPACING_S, Connection
from ingestd.sources.kinesis.continuity import Place
from ingestd.sources.kinesis.port import IteratorExpired, KinesisRecord


class Look(NamedTuple):
    """What was found."""

    record: KinesisRecord | None  # None where none is there
    ended: bool  # the shard is closed, and has no record from there on
    seen_ms: int  # before the look


async def look(connection: Connection, shard: str, place: Place) -> Look:
    """The first record from `place` on: pages without records may come before it. May raise ``NumberUnknown``."""
    while True:
        seen_ms = connection.now_ms()
        try:
            iterator: str | None = await connection.iterator(shard, place.number, place.at_ms)
            while iterator is not None:
                page = await connection.get_records(iterator, 1)
                if page.records:
                    return Look(page.records[0], False, seen_ms)
                if not page.behind_ms and page.next_iterator is not None:
                    return Look(None, False, seen_ms)
                iterator = page.next_iterator
                await asyncio.sleep(READ_SPACING_S)
            return Look(None, True, seen_ms)
        except IteratorExpired:
            await asyncio.sleep(READ_SPACING_S)
