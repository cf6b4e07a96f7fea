"""The journal's SQLite file: its layout, its transactions and its bound. Every call blocks.

Records that are committed together are one row, a segment: a transaction is a handful of statements however many
records it has. In WAL mode with ``synchronous=FULL`` a transaction is on the disk when COMMIT returns, and no reader
sees it before that. The locking mode is EXCLUSIVE: SQLite's own lock keeps other processes out, and the index of the
WAL is in memory, so the file works wherever POSIX locks do.

The bound covers the file and its WAL. Pages in use are measured, not estimated, so overhead of trees and of half-filled
pages counts; the room of the WAL, which holds pages twice until a checkpoint, is set aside once. Freed pages are used
again and never given back to the file system (``auto_vacuum`` is off): moving pages costs writes while events come in,
and a file that has grown once has its room for the next outage even when the disk is full by then.
"""

import os
import sqlite3
import uuid
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ingestd.core.errors import JournalError, JournalFullError
from ingestd.core.records import PlainRecord, Position, UnsentRecord
from ingestd.sources.journal.directories import make_directory, sync_directory
from ingestd.sources.journal.errors import corrupt, mapped

APPLICATION_ID = 0x696E6A6C  # "injl", in the header of the file
VERSION = 1

PAGE_BYTES = 4096
WAL_BYTES = 4 << 20  # written since the last checkpoint
GROUP_BYTES = 1 << 20  # of records that are committed together
DISCARD_BYTES = 8 << 20  # removed at once: a transaction that frees pages has to read them
DISCARD_SEGMENTS = 10_000
#: Left free on the disk: positions and discarded records need room in the WAL, too, and they make room.
FREE_BYTES = 8 << 20
_MARGIN_BYTES = 16 * PAGE_BYTES  # for pages of trees, when records are written to freed pages

_SCHEMA = f"""
PRAGMA page_size = {PAGE_BYTES};
PRAGMA auto_vacuum = NONE;
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {VERSION};
CREATE TABLE segments (
    first_offset INTEGER PRIMARY KEY,
    records INTEGER NOT NULL,
    timestamp INTEGER NOT NULL,
    crc INTEGER NOT NULL,
    body BLOB NOT NULL
);
CREATE TABLE journal (
    id TEXT NOT NULL,
    first_offset INTEGER NOT NULL DEFAULT 0,
    next_offset INTEGER NOT NULL DEFAULT 0,
    committed INTEGER,
    commit_tag TEXT NOT NULL DEFAULT '',
    topic_id TEXT NOT NULL DEFAULT '',
    leader_epoch INTEGER
);
"""
_OPTIONS = (
    "PRAGMA locking_mode = EXCLUSIVE",
    "PRAGMA synchronous = FULL",
    "PRAGMA wal_autocheckpoint = 0",  # a checkpoint waits until the records' senders were answered
    "PRAGMA secure_delete = OFF",  # some builds overwrite freed pages, which doubles what is written
    "PRAGMA cell_size_check = ON",
)
#: Made for the first note. It changes nothing for those that do not know it, so the file keeps its version.
_NOTES = "CREATE TABLE IF NOT EXISTS notes (name TEXT PRIMARY KEY, note TEXT NOT NULL)"
#: The segments that do not begin where the one before ends.
_COUNT_GAPS = """
SELECT count(*) FROM (
    SELECT first_offset AS begins, lag(first_offset + records) OVER (ORDER BY first_offset) AS ended FROM segments
) WHERE begins <> ended
"""

_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(list[tuple[int, bytes | None, bytes, tuple[tuple[str, bytes], ...]]])


class EncodedRecords(msgspec.Struct, frozen=True):
    """Records as they are in a segment, which is a msgpack array of them."""

    count: int
    timestamp: int  # of the first
    data: bytes


def encode(records: Sequence[UnsentRecord]) -> EncodedRecords:
    """Encode at least one record."""
    data = b"".join([_encode((it.timestamp, it.key, it.value, it.headers)) for it in records])
    return EncodedRecords(len(records), records[0].timestamp, data)


class JournalState(msgspec.Struct, frozen=True):
    """What is in the file after a transaction."""

    journal_id: str
    first_offset: int
    next_offset: int
    size_bytes: int
    capacity: int  # the most that `size_bytes` may be
    oldest_timestamp: int | None
    committed: Position | None


class Note(NamedTuple):
    """A text that replaces the one of the same name."""

    name: str
    text: str


class JournalFile:
    """Used by one thread. A call that raises has changed nothing, and the next one may succeed."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        """Create the file where there is none. ``JournalError`` where it cannot be used as it is."""
        self._path = path
        self._wal = Path(f"{path}-wal")
        self._wal_limit, self.group_bytes = wal_room(max_bytes)
        self._is_short = False  # of free space on the disk
        with mapped(path):
            if not path.exists():
                self._create()
            if not path.stat().st_size:
                raise corrupt(path, "it is empty")
            self._db = _connect(path)
            try:
                self.state = self._take_over(max_bytes - self._wal_limit - self.group_bytes)
                self._identity = self._identify()
                self._written = self._wal.stat().st_size  # bytes of the WAL since the last checkpoint, about
            except BaseException:
                self._db.close()
                raise

    def close(self) -> None:
        """Leave everything in the one file."""
        with mapped(self._path):
            self._db.close()

    # -- writing

    def write(
        self, appends: Sequence[EncodedRecords], position: Position | None = None, note: Note | None = None
    ) -> None:
        """Append records, commit a position, keep a note, in one transaction that is on the disk when this returns.

        With nothing to write, it tells whether the disk takes writes.
        """
        with mapped(self._path):
            self._check_in_place()
            if appends or position is None:
                self._check_free(sum(len(it.data) for it in appends))
            if self._written > 2 * self._wal_limit:
                self.checkpoint()  # which failed before: the WAL must not grow without an end
            state = self.state
            changes: dict[str, object] = {}
            with self._transaction(changes):
                if appends:
                    changes["next_offset"] = self._insert(appends)
                    if state.oldest_timestamp is None:
                        changes["oldest_timestamp"] = appends[0].timestamp
                else:
                    self._db.execute("UPDATE journal SET next_offset = next_offset")
                if position is not None:
                    changes["committed"] = position
                    self._db.execute(
                        "UPDATE journal SET committed = ?, commit_tag = ?, topic_id = ?, leader_epoch = ?", position
                    )
                if note is not None:
                    self._db.execute(_NOTES)
                    self._db.execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", note)
                    self._written += len(note.text) + 4 * PAGE_BYTES

    def discard(self, below: int) -> bool:
        """Remove records below an offset. False where some are left for another call, so that others get their turn."""
        with mapped(self._path):
            self._check_in_place()
            if below <= self.state.first_offset:
                return True
            target = self._discardable(below)
            changes: dict[str, object] = {"first_offset": target}
            with self._transaction(changes):
                # The segment that has the offset stays until all of it is discarded.
                self._db.execute(
                    "DELETE FROM segments WHERE first_offset < ? AND first_offset + records <= ?", (target, target)
                )
                self._db.execute("UPDATE journal SET first_offset = ?", (target,))
                self._written += 8 * PAGE_BYTES
                changes["oldest_timestamp"] = self._oldest_timestamp()
        return target == below

    @property
    def needs_checkpoint(self) -> bool:
        """Where the disk is short, at once: from then on positions and discards overwrite what the files have."""
        return self._written > (0 if self._is_short else self._wal_limit)

    def checkpoint(self) -> None:
        """Copy the pages of the WAL to the file, so that the WAL begins again."""
        with mapped(self._path):
            busy, frames, copied = self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            if not busy and frames == copied:
                self._written = 0

    def _insert(self, appends: Sequence[EncodedRecords]) -> int:
        """Insert a segment. Returns the next offset."""
        first, count = self.state.next_offset, sum(it.count for it in appends)
        body = b"".join((b"\xdd", count.to_bytes(4, "big"), *(it.data for it in appends)))
        row = (first, count, appends[0].timestamp, zlib.crc32(body), body)
        self._db.execute("INSERT INTO segments VALUES (?, ?, ?, ?, ?)", row)
        self._db.execute("UPDATE journal SET next_offset = ?", (first + count,))
        self._written += len(body) + 4 * PAGE_BYTES
        return first + count

    def _discardable(self, below: int) -> int:
        """Up to where records are removed at once: a part of those below an offset, or all."""
        size = count = 0
        query = "SELECT first_offset, length(body) FROM segments WHERE first_offset < ? ORDER BY first_offset"
        with closing(self._db.execute(query, (below,))) as segments:
            for first_offset, length in segments:
                if size > DISCARD_BYTES or count > DISCARD_SEGMENTS:
                    return int(first_offset)
                size += length
                count += 1
        return below

    @contextmanager
    def _transaction(self, changes: dict[str, object]) -> Iterator[None]:
        """The `changes` of the state, and its size, count once the transaction is on the disk."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            after = msgspec.structs.replace(self.state, size_bytes=self._size(), **changes)
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # some failures have rolled back
                with suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
            raise
        self.state = after

    def _check_in_place(self) -> None:
        """Records written to a file that was removed would be gone with this process."""
        with suppress(FileNotFoundError):
            if self._identify() == self._identity:
                return
        raise JournalError(
            f"the journal {self._path} was removed or replaced while it is in use",
            hint="put the file and its -wal back, or restart to begin a new journal",
        )

    def _identify(self) -> tuple[int, ...]:
        database, wal = self._path.stat(), self._wal.stat()
        return database.st_dev, database.st_ino, wal.st_ino

    def _check_free(self, size: int) -> None:
        disk = os.statvfs(self._path.parent)
        free = disk.f_bavail * disk.f_frsize
        self._is_short = bool(disk.f_blocks) and free < size + FREE_BYTES
        # Pages that were freed need no more of the disk.
        if self._is_short and int(self._pragma("freelist_count")) * PAGE_BYTES < 2 * size + _MARGIN_BYTES:
            raise JournalFullError(
                f"the disk of the journal {self._path} has {free} bytes left, and {FREE_BYTES} are kept free",
                hint="free some space: events are refused until then",
            )

    # -- reading

    def read(self, offset: int, max_records: int, max_bytes: int) -> list[PlainRecord]:
        """Records from an offset on: at least one where there is one, however large it is."""
        state = self.state
        if not state.first_offset <= offset <= state.next_offset:
            raise JournalError(
                f"the journal {self._path} holds records {state.first_offset}-{state.next_offset}, and {offset} was "
                f"to be read"
            )
        records: list[PlainRecord] = []
        query = (
            "SELECT first_offset, crc, body FROM segments WHERE first_offset >= "
            "(SELECT max(first_offset) FROM segments WHERE first_offset <= ?) ORDER BY first_offset"
        )
        with mapped(self._path), closing(self._db.execute(query, (offset,))) as segments:
            size = 0
            for first_offset, crc, body in segments:
                if zlib.crc32(body) != crc:
                    raise corrupt(self._path, f"the checksum of records {first_offset} and following is wrong")
                for number, (timestamp, key, value, headers) in enumerate(_decoder.decode(body), first_offset):
                    if number < offset:
                        continue
                    size += len(value)
                    if records and (len(records) >= max_records or size > max_bytes):
                        return records
                    records.append(PlainRecord(number, timestamp, value, key, headers))
        return records

    def note(self, name: str) -> str | None:
        """The note of this name that was written last."""
        with mapped(self._path):
            if self._db.execute("SELECT 1 FROM sqlite_master WHERE name = 'notes'").fetchone() is None:
                return None
            row = self._db.execute("SELECT note FROM notes WHERE name = ?", (name,)).fetchone()
        return row[0] if row is not None else None

    # -- opening

    def _create(self) -> None:
        """Under another name until it is complete: a file that is empty, or has no tables, is a damaged one."""
        if self._wal.exists():
            raise JournalError(
                f"the journal {self._path} is missing, but its write-ahead log {self._wal.name} is there",
                hint="put the file back beside it, or move that away to begin a new journal",
            )
        make_directory(self._path.parent)
        fresh = self._path.with_name(f"{self._path.name}.new-{uuid.uuid4().hex}")
        descriptor = os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        try:
            with closing(_connect(fresh)) as db:
                db.executescript(f"{_SCHEMA}PRAGMA journal_mode = WAL;")
                db.execute("INSERT INTO journal (id) VALUES (?)", (str(uuid.uuid4()),))
            os.fsync(descriptor)
            with suppress(FileExistsError):  # another process was first
                self._path.hardlink_to(fresh)
            sync_directory(self._path.parent)
        finally:
            os.close(descriptor)
            for path in (fresh, Path(f"{fresh}-wal"), Path(f"{fresh}-journal")):
                path.unlink(missing_ok=True)

    def _take_over(self, capacity: int) -> JournalState:
        for option in _OPTIONS:
            self._db.execute(option)
        if self._pragma("application_id") != APPLICATION_ID:
            raise JournalError(f"{self._path} is not a journal of ingestd", hint="set collect.journal to another file")
        if (version := self._pragma("user_version")) != VERSION:
            raise JournalError(
                f"the journal {self._path} has version {version}, and this ingestd reads version {VERSION}",
                hint="use the version of ingestd that wrote it",
            )
        if self._pragma("journal_mode = WAL") != "wal" or not os.access(self._path, os.W_OK):
            raise JournalError(f"the journal {self._path} cannot be written to")
        row = self._db.execute(
            "SELECT id, first_offset, next_offset, committed, commit_tag, topic_id, leader_epoch FROM journal"
        ).fetchone()
        if row is None:
            raise corrupt(self._path, "it has no id")
        journal_id, first, end, *committed = row
        self._check_offsets(first, end)
        self._pragma(f"max_page_count = {capacity // PAGE_BYTES}")
        position = Position(*committed) if committed[0] is not None else None
        return JournalState(journal_id, first, end, self._size(), capacity, self._oldest_timestamp(), position)

    def _check_offsets(self, first: int, end: int) -> None:
        """Every offset from the first to the last is in a segment."""
        gaps = self._db.execute(_COUNT_GAPS).fetchone()[0]
        begins, ends = self._db.execute(
            "SELECT min(first_offset), max(first_offset + records) FROM segments"
        ).fetchone()
        is_complete = first == end if begins is None else begins <= first < end == ends
        if gaps or not is_complete:
            raise corrupt(self._path, f"it does not have all of its records {first}-{end}")

    # -- state

    def _size(self) -> int:
        return (int(self._pragma("page_count")) - int(self._pragma("freelist_count"))) * PAGE_BYTES

    def _oldest_timestamp(self) -> int | None:
        """The timestamp of the first record of the first segment, of which some may be discarded already."""
        row = self._db.execute("SELECT timestamp FROM segments ORDER BY first_offset LIMIT 1").fetchone()
        return row[0] if row is not None else None

    def _pragma(self, what: str) -> Any:
        return self._db.execute(f"PRAGMA {what}").fetchone()[0]


def wal_room(max_bytes: int) -> tuple[int, int]:
    """The bytes of a WAL before its checkpoint, and of one more group: small where the journal is."""
    return min(WAL_BYTES, max_bytes // 8), min(GROUP_BYTES, max_bytes // 8)


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=0, isolation_level=None)
