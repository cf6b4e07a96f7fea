"""The journal: an append-only log of records on the local disk, for one process.

One thread does all that touches the file. It takes what waits, commits it in one transaction, and then answers all of
it: while an fsync takes its time, the next group gathers.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar, TypeVarTuple

from ingestd.core.errors import JournalError, JournalFullError
from ingestd.core.records import PlainRecord, Position, UnsentRecord
from ingestd.sources.journal.file import EncodedRecords, JournalFile, JournalState, Note, encode, wal_room

GROUP_RECORDS = 5_000  # committed together
PENDING_BYTES = 64 << 20  # of records that wait for the disk
ROOM_SHARE = 32  # a journal with less room than this part of its capacity is reported as full
PROBE_S = 1.0  # after a write that failed, without another one
STALL_S = 5.0  # without an answer of the disk: then an error is reported

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


@dataclass(slots=True, eq=False)
class _Open:
    answer: asyncio.Future[None]


@dataclass(slots=True, eq=False)
class _Append:
    answer: asyncio.Future[range]
    records: EncodedRecords


@dataclass(slots=True, eq=False)
class _Commit:
    answer: asyncio.Future[None]
    position: Position


@dataclass(slots=True, eq=False)
class _Call(Generic[T]):
    """Anything that is not part of a group."""

    answer: asyncio.Future[T]
    function: Callable[[JournalFile], T]


@dataclass(slots=True, eq=False)
class _Close:
    answer: asyncio.Future[None]


_Request = _Open | _Append | _Commit | _Call[Any] | _Close
_Answer = tuple[_Request, Any]  # what was asked, and the result or the error


class Journal:
    """Records get consecutive offsets, none of which is ever used again, and remain until they are discarded.

    Calls are for one event loop. A call that is cancelled may still take effect. Errors are `JournalError`; after one
    of them the journal can be used as before.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        """`max_bytes` bounds the file together with its write-ahead log."""
        self.path = path
        self.max_bytes = max_bytes
        self._state: JournalState | None = None  # remains after the end; None before the beginning
        self._is_open = False
        self._requests: SimpleQueue[_Request] = SimpleQueue()
        self._pending_bytes = 0
        self._waiting_since: float | None = None  # for the disk, on the loop's clock
        self._error: str | None = None
        self._appended = asyncio.Event()  # another one after each append
        self._closing: asyncio.Future[None] | None = None

    async def open(self) -> None:
        """Open the file, and create it where there is none. It can be opened again after `close`."""
        loop = asyncio.get_running_loop()
        self._requests = SimpleQueue()
        self._pending_bytes, self._waiting_since = 0, None
        self._closing = None
        opened = _Open(loop.create_future())
        worker = _Worker(self._requests, lambda *news: _call_on(loop, self._settle, *news))
        arguments = (self.path, self.max_bytes, opened)
        # A daemon thread, for which the end of the process does not wait: its disk may hang.
        threading.Thread(target=worker.run, args=arguments, daemon=True, name="journal").start()
        try:
            await opened.answer
        except asyncio.CancelledError:
            self._requests.put(_Close(loop.create_future()))
            raise
        self._is_open = True

    async def close(self) -> None:
        """Finish what waits and close the file."""
        if not self._is_open:
            return
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_future()
            self._requests.put(_Close(self._closing))
        try:
            await asyncio.shield(self._closing)
        finally:
            self._is_open = False
            self._wake()

    # -- what is in it

    @property
    def journal_id(self) -> str:
        """Another one for each file: it is kept in it."""
        return self._opened.journal_id

    @property
    def first_offset(self) -> int:
        """The first record that is not discarded; `next_offset` where there is none."""
        return self._opened.first_offset

    @property
    def next_offset(self) -> int:
        return self._opened.next_offset

    @property
    def size_bytes(self) -> int:
        """What the records take in the file, with all that is around them."""
        return self._opened.size_bytes

    @property
    def group_bytes(self) -> int:
        """What is appended at once should not have more: beyond it the files may exceed `max_bytes` for a moment."""
        return wal_room(self.max_bytes)[1]

    @property
    def oldest_timestamp(self) -> int | None:
        """Of the oldest record, in milliseconds; may be that of a record just before, committed together with it."""
        return self._opened.oldest_timestamp

    @property
    def error(self) -> str | None:
        """Why records cannot be appended now, for people, or hardly any; None while they can."""
        if not self._is_open:
            return self._closed().message
        state, since = self._opened, self._waiting_since
        if since is not None and (waited := asyncio.get_running_loop().time() - since) > STALL_S:
            return f"the disk of the journal {self.path} has not answered for {waited:.0f} s"
        is_full = state.size_bytes + self._pending_bytes > state.capacity - state.capacity // ROOM_SHARE
        return self._full() if is_full and self._error is None else self._error

    def committed(self) -> Position | None:
        """The position that was committed last."""
        return self._opened.committed

    async def wait_for(self, offset: int) -> None:
        """Until there is a record at or after an offset."""
        while self._is_open and self.next_offset <= offset:
            await self._appended.wait()
        if not self._is_open:
            raise self._closed()

    # -- what is done with it

    async def append(self, records: Sequence[UnsentRecord]) -> range:
        """Append all of them or none, and return their offsets once they are on the disk.

        ``JournalFullError`` where there is no room for them.
        """
        self._check_open()
        state = self._opened
        if not records:
            return range(state.next_offset, state.next_offset)
        encoded = encode(records)
        size = len(encoded.data)
        if state.size_bytes + self._pending_bytes + size > state.capacity:
            hint = "its events must be delivered, which makes room; raise collect.journal_bytes for longer outages"
            raise JournalFullError(self._full(), hint=hint)
        if self._pending_bytes and self._pending_bytes + size > PENDING_BYTES:
            raise JournalError(
                f"the disk of the journal {self.path} is too slow: {self._pending_bytes} bytes wait to be written"
            )
        self._pending_bytes += size
        if self._waiting_since is None:
            self._waiting_since = asyncio.get_running_loop().time()
        return await self._ask(lambda answer: _Append(answer, encoded))

    async def append_noted(self, records: Sequence[UnsentRecord], note: Note) -> None:
        """Append at least one record and keep the note, all or nothing; both are on the disk when this returns.

        ``JournalFullError`` where there is no room.
        """
        encoded = encode(records)
        await self._call(lambda file: file.write([encoded], note=note))

    async def note(self, name: str) -> str | None:
        """The last note of this name."""
        return await self._call(lambda file: file.note(name))

    async def read(self, offset: int, max_records: int, max_bytes: int) -> list[PlainRecord]:
        """Records from an offset on, at least one if there is one; `max_bytes` of values.

        ``JournalError`` where the offset is discarded, or is past `next_offset`.
        """
        return await self._call(lambda file: file.read(offset, max_records, max_bytes))

    async def discard(self, below: int) -> None:
        """Remove the records below an offset."""
        below = min(below, self.next_offset)
        while not await self._call(lambda file: file.discard(below)):
            pass

    async def commit(self, position: Position) -> None:
        """Keep a position; it is on the disk when this returns."""
        await self._ask(lambda answer: _Commit(answer, position))

    async def _call(self, function: Callable[[JournalFile], T]) -> T:
        return await self._ask(lambda answer: _Call(answer, function))

    async def _ask(self, request: Callable[[asyncio.Future[T]], _Request]) -> T:
        self._check_open()
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._requests.put(request(answer))
        return await answer

    def _check_open(self) -> None:
        if not self._is_open or self._closing is not None:
            raise self._closed()

    @property
    def _opened(self) -> JournalState:
        if self._state is None:
            raise self._closed()
        return self._state

    def _closed(self) -> JournalError:
        return JournalError(f"the journal {self.path} is closed")

    def _full(self) -> str:
        return f"the journal {self.path} is full: its records take {self.size_bytes} of {self.max_bytes} bytes"

    def _settle(self, answers: Sequence[_Answer], state: JournalState | None, error: str | None) -> None:
        """Give answers to those who wait for them. Called from the thread, on the loop."""
        grown = state is not None and self._state is not None and state.next_offset > self._state.next_offset
        self._state, self._error = state or self._state, error
        for request, result in answers:
            if isinstance(request, _Append):
                self._pending_bytes -= len(request.records.data)
            if request.answer.done():
                continue  # cancelled
            if isinstance(result, BaseException):
                request.answer.set_exception(result)
            else:
                request.answer.set_result(result)
        self._waiting_since = asyncio.get_running_loop().time() if self._pending_bytes else None
        if grown:
            self._wake()

    def _wake(self) -> None:
        """Have those who wait for records look again."""
        self._appended.set()
        self._appended = asyncio.Event()


class _Worker:
    """What runs in the thread. `settle` hands to the loop what `Journal._settle` takes; False where it has ended."""

    def __init__(
        self,
        requests: "SimpleQueue[_Request]",
        settle: Callable[[Sequence[_Answer], JournalState | None, str | None], bool],
    ) -> None:
        self._requests = requests
        self._settle = settle
        self._error: str | None = None  # of the last write

    def run(self, path: Path, max_bytes: int, opened: _Open) -> None:
        try:
            file = JournalFile(path, max_bytes)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is the caller's
            self._settle([(opened, error)], None, None)
            return
        goes_on = self._settle([(opened, None)], file.state, None)
        while goes_on:
            goes_on = self._serve(file)
        with suppress(JournalError):
            file.close()  # the loop has ended without `Journal.close`

    def _serve(self, file: JournalFile) -> bool:
        """Do what waits, and answer. False at the end."""
        group = self._take_group(file.group_bytes)
        is_last = bool(group) and isinstance(group[-1], _Close)
        writes = [it for it in group if isinstance(it, _Append | _Commit)]
        answers = self._write(file, writes) if writes or not group else []
        goes_on = self._settle(answers, file.state, self._error)
        for call in [it for it in group if isinstance(it, _Call)]:
            result = _result(call.function, file)
            goes_on = self._settle([(call, result)], file.state, self._error)
        if is_last:
            self._settle([(group[-1], _result(JournalFile.close, file))], None, None)
        elif file.needs_checkpoint:
            with suppress(JournalError):  # it is tried again after the next group
                file.checkpoint()
        return goes_on and not is_last

    def _take_group(self, max_bytes: int) -> list[_Request]:
        """What waits, up to a bound. Appends of one group are committed together. Empty: see whether writes succeed."""
        group: list[_Request] = []
        size = count = 0
        try:
            request = self._requests.get(timeout=PROBE_S if self._error is not None else None)
        except Empty:
            return group
        while True:
            group.append(request)
            if isinstance(request, _Append):
                size += len(request.records.data)
                count += request.records.count
            if isinstance(request, _Close) or size >= max_bytes or count >= GROUP_RECORDS:
                return group
            try:
                request = self._requests.get_nowait()
            except Empty:
                return group

    def _write(self, file: JournalFile, requests: Sequence[_Append | _Commit]) -> list[_Answer]:
        """Write what was asked for; without requests, see whether the disk takes writes."""
        answers: list[_Answer] = []
        appends: list[_Append] = []
        commits: list[_Commit] = []
        for request in requests:
            if isinstance(request, _Commit):
                commits.append(request)
            elif request.answer.cancelled():
                answers.append((request, None))
            else:
                appends.append(request)
        if requests and not appends and not commits:
            return answers
        first = file.state.next_offset
        try:
            file.write([it.records for it in appends], commits[-1].position if commits else None)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the caller's
            self._error = str(error)
            answers += [(it, error) for it in appends]
            if appends and commits:  # where records have no room, a position may: then rows below it are discarded
                return answers + self._write(file, commits)
            return answers + [(it, error) for it in commits]
        if appends or not commits:
            self._error = None
        for it in appends:
            answers.append((it, range(first, first + it.records.count)))
            first += it.records.count
        return answers + [(it, None) for it in commits]


def _result(function: Callable[[JournalFile], object], file: JournalFile) -> object:
    try:
        return function(file)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the caller's
        return error


def _call_on(loop: asyncio.AbstractEventLoop, function: Callable[[*Ts], object], *arguments: *Ts) -> bool:
    try:
        loop.call_soon_threadsafe(function, *arguments)
    except RuntimeError:  # the loop has ended: nobody waits
        return False
    return True
