"""Reads the journal of a collector that does not run, for `ingestd verify`: only one process can have it open."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from ingestd.core.errors import JournalError
from ingestd.core.records import EpochEnd, LogRange, Pin, Position, Record, TopicPartition
from ingestd.sources.journal.journal import Journal
from ingestd.sources.journal.source import FETCH_BYTES


@asynccontextmanager
async def open_journal_inspector(path: Path, max_bytes: int, topic: str) -> AsyncIterator["JournalInspector"]:
    """The journal, open as long as the context is. ``JournalInUseError`` where a collector runs."""
    if not await asyncio.to_thread(path.exists):
        raise JournalError(f"there is no journal {path}", hint="set collect.journal to that of the collector")
    journal = Journal(path, max_bytes)
    await journal.open()
    try:
        yield JournalInspector(journal, topic)
    finally:
        await journal.close()


class JournalInspector:
    """What an inspector of Kafka tells, of the one partition that a journal is."""

    def __init__(self, journal: Journal, topic: str) -> None:
        self._journal = journal
        self._partition = TopicPartition(topic, 0)
        self._offset: int | None = None  # of the next record to read

    @property
    def cluster_id(self) -> str:
        """What objects have in the place of a cluster's id."""
        return f"journal:{self._journal.journal_id}"

    @property
    def partitions(self) -> list[TopicPartition]:
        return [self._partition]

    async def committed(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, Position | None]:
        return {each: self._journal.committed() for each in partitions if each == self._partition}

    async def log_ranges(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, LogRange]:
        log = LogRange(self._journal.first_offset, self._journal.next_offset)
        return {each: log for each in partitions if each == self._partition}

    async def pins(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, Pin]:  # noqa: ARG002
        return {}

    async def topic_ids(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, str]:
        return {each: self._journal.journal_id for each in partitions if each == self._partition}

    async def epoch_ends(
        self, pairs: Collection[tuple[TopicPartition, int]]
    ) -> dict[tuple[TopicPartition, int], EpochEnd | None]:
        """There are no epochs."""
        return dict.fromkeys(pairs)

    def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        """Read from this offset on, where it is in the journal still."""
        self._offset = positions.get(self._partition)

    async def poll(self, wait_s: float, max_records: int) -> dict[TopicPartition, Sequence[Record]]:  # noqa: ARG002
        """The next records; nothing comes that is not there."""
        journal, offset = self._journal, self._offset
        if offset is None or not journal.first_offset <= offset < journal.next_offset:
            return {}
        records = await journal.read(offset, max_records, FETCH_BYTES)
        self._offset = records[-1].offset + 1
        return {self._partition: records}
