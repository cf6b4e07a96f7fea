"""Journals in a folder of a test, and what is in them."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from ingestd.core.records import PlainRecord, UnsentRecord
from ingestd.sources.journal.journal import Journal

MIB = 1 << 20


def record(value: bytes = b"{}", timestamp: int = 1_700_000_000_000) -> UnsentRecord:
    """An event as the collector appends it."""
    return UnsentRecord(timestamp, b"key", value, (("ingestd-source", b"web"),))


def values(records: Sequence[PlainRecord]) -> list[bytes | None]:
    """Of records that were read."""
    return [it.value for it in records]


def sizes(folder: Path) -> dict[str, int]:
    """Bytes by name of what is in a folder."""
    return {it.name: it.stat().st_size for it in folder.iterdir()}


@asynccontextmanager
async def opened(path: Path, max_bytes: int = 16 * MIB) -> AsyncIterator[Journal]:
    """A journal, until the end of the block."""
    journal = Journal(path, max_bytes)
    await journal.open()
    try:
        yield journal
    finally:
        await journal.close()
