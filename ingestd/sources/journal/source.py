"""The journal as a source: a topic of one partition whose log, and whose committed position, are in one file.

What may be discarded: the records below the committed position, and no others, also where they have landed. Between an
object's PUT and the commit the process may die; the next one begins at the position that is in the file, and reads on
from there: it needs the first record, whose timestamp is part of the object's name, to find that object and adopt it.
(Without the record the chain looks the object up by listing, so nothing would be lost; but where the sink or the
lineage was changed meanwhile, the partition would halt.) A position counts only where it is on the disk: the journal
answers a commit after the fsync, and the records below it are removed by a later transaction, so no loss of power
leaves a position without its records. That no position is committed before an object reaches it is the chain's rule.

A file that was removed and made again is another stream, with another id, like a topic that was created again: the
partition halts where objects of the former one are in the sink, since the offsets in their names come again.
"""

import asyncio
from contextlib import suppress

from ingestd.core.errors import JournalFullError
from ingestd.core.records import EpochEnd, EpochRecords, LogRange, Position, TopicPartition
from ingestd.sources.base import Capabilities, Fetched, Listener, OpenTransaction
from ingestd.sources.journal.journal import Journal

POLL_S = 0.25
RETRY_S = 1.0  # of a commit for which there is no room
FETCH_RECORDS = 5_000
FETCH_BYTES = 2 << 20


class JournalSource:
    """Reads a journal that is open, and is closed after `stop`: what is appended to it meanwhile is its owner's.

    The promises of `ingestd.sources.base.Source` hold; docstrings here add to them.
    """

    capabilities = Capabilities()
    revoke_timeout = 30.0  # used by `rebuild` only: there are no other members

    def __init__(self, journal: Journal, topic: str) -> None:
        self._journal = journal
        self._partition = TopicPartition(topic, 0)
        self._listener: Listener | None = None
        self._assigned = False
        self._offset: int | None = None  # of the next record; None where it is not sought, or paused
        self._seeks = 0
        self._sought = asyncio.Event()
        self._stream_id: str | None = None
        self._committing = asyncio.Lock()
        self._finished = asyncio.Event()
        self._stopped = False
        self._error: str | None = None
        self._error_since: float | None = None

    @property
    def source_id(self) -> str:
        return f"journal:{self._journal.journal_id}"

    @property
    def error(self) -> str | None:
        return self._error

    @property
    def error_since(self) -> float | None:
        return self._error_since

    async def start(self, listener: Listener) -> None:
        self._listener = listener
        self._assign()

    async def stop(self) -> None:
        self.finish()
        self._stopped = True
        async with self._committing:
            self._assigned = False

    async def rebuild(self) -> None:
        """Nothing is connected, but whoever reads begins again at the committed position."""
        if self._listener is not None and not self._stopped:
            await self._listener.on_revoked([self._partition])
            self.pause(self._partition)
            self._assign()

    def _assign(self) -> None:
        self._assigned = True
        if self._listener is not None:
            self._listener.on_assigned([self._partition])

    # -- records

    async def fetch(self) -> Fetched | None:
        fetched = {} if self._finished.is_set() else await self._fetch()
        return None if self._finished.is_set() else fetched

    async def _fetch(self) -> Fetched:
        offset, seeks = self._offset, self._seeks
        if offset is None:
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._sought.wait()
            return {}
        if self._is_out_of_range(offset):
            self.pause(self._partition)
            if self._listener is not None:
                self._listener.on_out_of_range(self._partition)
            return {}
        try:
            async with asyncio.timeout(POLL_S):
                await self._journal.wait_for(offset)
        except TimeoutError:
            return {}
        records = await self._journal.read(offset, FETCH_RECORDS, FETCH_BYTES) if seeks == self._seeks else []
        if not records or seeks != self._seeks:  # meanwhile
            return {}
        self._offset = records[-1].offset + 1
        return {self._partition: EpochRecords(records)}

    def _is_out_of_range(self, offset: int) -> bool:
        journal = self._journal
        is_another = self._stream_id is not None and self._stream_id != journal.journal_id
        return is_another or not journal.first_offset <= offset <= journal.next_offset

    def finish(self) -> None:
        self._finished.set()
        self._sought.set()

    def seek(self, partition: TopicPartition, offset: int, leader_epoch: int | None = None) -> None:  # noqa: ARG002 (there are none)
        if partition != self._partition:
            raise ValueError(f"{partition} is not {self._partition}")
        self._offset = offset
        self._seeks += 1
        self._sought.set()

    def pause(self, partition: TopicPartition) -> None:
        if partition == self._partition:
            self._offset = None
            self._seeks += 1
            self._sought.clear()

    # -- the log

    async def stream_id(self, partition: TopicPartition) -> str:  # noqa: ARG002 (there is one)
        self._stream_id = self._journal.journal_id
        return self._stream_id

    async def log_range(self, partition: TopicPartition) -> LogRange:  # noqa: ARG002 (there is one)
        return LogRange(self._journal.first_offset, self._journal.next_offset)

    async def epoch_end(self, partition: TopicPartition, leader_epoch: int) -> EpochEnd | None:  # noqa: ARG002
        """There are no epochs: what was read stays as it was."""
        return None

    async def resolve_start(self, partition: TopicPartition) -> Position:  # noqa: ARG002 (there is one)
        """The first record: nobody else has read it."""
        return Position(self._journal.first_offset)

    def end_offset(self, partition: TopicPartition) -> int | None:  # noqa: ARG002 (there is one)
        return self._journal.next_offset

    def behind_s(self, partition: TopicPartition) -> float | None:  # noqa: ARG002 (offsets tell)
        return None

    def open_transaction(self, partition: TopicPartition) -> OpenTransaction | None:  # noqa: ARG002
        """The journal has no transactions of producers."""
        return None

    # -- positions

    async def committed(self, partition: TopicPartition) -> Position | None:
        return self._journal.committed() if partition == self._partition else None

    async def commit(self, partition: TopicPartition, position: Position) -> bool:
        """Discards the records below the position then. Where the disk is full it waits for room."""
        async with self._committing:
            if partition != self._partition or not self._assigned:
                return False
            await self._commit(position)
            with suppress(JournalFullError):  # the next commit discards them
                await self._journal.discard(position.offset)
            return True

    async def _commit(self, position: Position) -> None:
        while True:
            try:
                await self._journal.commit(position)
            except JournalFullError as error:
                if self._stopped:
                    raise
                self._error = str(error)
                self._error_since = self._error_since or asyncio.get_running_loop().time()
                await asyncio.sleep(RETRY_S)
            else:
                self._error = self._error_since = None
                return


class ReadOnlyJournalSource(JournalSource):
    """Reads a journal from its committed position on, and keeps its own commits in memory: the file is unchanged."""

    def __init__(self, journal: Journal, topic: str) -> None:
        super().__init__(journal, topic)
        self._commit_in_memory: Position | None = None

    async def committed(self, partition: TopicPartition) -> Position | None:
        return self._commit_in_memory or await super().committed(partition)

    async def commit(self, partition: TopicPartition, position: Position) -> bool:  # noqa: ARG002 (there is one)
        self._commit_in_memory = position
        return True
