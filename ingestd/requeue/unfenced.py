"""Requeues records into a stream or a queue, which has no transactions: an intent, then the records, then the outcome.

    read a line -> selected? -> put already? -> valid now? -> intent -> put -> outcome

No record is put twice: where a run died between an intent and its outcome, the records of that intent may have been put
or not, so they are counted as unclear and left alone, unless the operator wants them to be put again.
"""

import asyncio
import gzip
import logging
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from io import BytesIO
from typing import Any, NamedTuple, Protocol

from ingestd.core.quarantine import Quarantined, QuarantinedMessage, QuarantineError
from ingestd.core.records import Record, TopicPartition
from ingestd.core.validation import Validator
from ingestd.requeue.attempts import Attempts, Outcome
from ingestd.requeue.batches import Selection
from ingestd.requeue.requeuer import MAX_EXAMPLES, MAX_REFUSED, RefusedRecord, RequeueCounts

log = logging.getLogger(__name__)

BATCH_RECORDS = 500  # of one intent
BATCH_BYTES = 4 << 20
# One record in base64. It may be larger than any event may be, and is then still invalid.
_MAX_LINE_BYTES = 256 << 20
_YIELD_RECORDS = 1000  # records between two chances for other tasks on the event loop

Line = Quarantined | QuarantinedMessage


class Put(NamedTuple):
    """A record to be put."""

    value: bytes
    key: bytes | None
    unique_id: str  # the same whenever the record is put
    headers: Sequence[tuple[str, bytes | None]] = ()


class UnfencedTarget(Protocol):
    """A stream or a queue. Errors are ``SourceError``."""

    async def put(self, records: Sequence[Put]) -> Sequence[str | None]:
        """Put records in order, and repeat what fails for the moment. Of each: None, or why it is refused for good."""
        ...


class LandedObject(NamedTuple):
    """A quarantine object whose records are in no row and in no other such object."""

    key: str
    place: TopicPartition  # for validation


class LineFormat(NamedTuple):
    """How the lines of a quarantine object become records."""

    decode: Callable[[bytes], Line]
    to_validate: Callable[[Line], Record]


class UnfencedRequeuer:
    """Requeues the objects of one quarantine; in a dry run (`target` is None) only counts their records."""

    def __init__(
        self,
        body: Callable[[str], Awaitable[bytes]],
        attempts: Callable[[str], Attempts],
        line_format: LineFormat,
        *,
        validator: Validator,
        selection: Selection,
        counts: RequeueCounts,
        target: UnfencedTarget | None,
        repeat_unclear: bool,
        progress: Callable[[], None] = lambda: None,
    ) -> None:
        """`body` reads a quarantine object by its key, and `attempts` makes those on it."""
        self._body = body
        self._attempts = attempts
        self._format = line_format
        self._validator = validator
        self._selection = selection
        self._counts = counts
        self._target = target
        self._repeat_unclear = repeat_unclear
        self._progress = progress

    async def run(self, objects: AsyncIterator[LandedObject]) -> None:
        """Requeue the selected records of `objects`."""
        async for found in objects:
            self._counts.objects += 1
            try:
                await self._requeue_object(found)
            except QuarantineError as error:
                self._counts.unreadable_objects += 1
                log.error("quarantine object %s is damaged, the rest of it was skipped: %s", found.key, error)

    async def _requeue_object(self, found: LandedObject) -> None:
        attempts = self._attempts(found.key)
        await attempts.load()
        batch: list[tuple[int, Line]] = []
        size = 0
        for number, line in enumerate(self._lines(await self._body(found.key))):
            self._counts.read += 1
            if self._counts.read % _YIELD_RECORDS == 0:
                self._progress()
                await asyncio.sleep(0)
            if not self._is_wanted(found, attempts, number, line):
                continue
            if self._target is None:
                self._add_example(line)
                continue
            if batch and (len(batch) == BATCH_RECORDS or size + len(line.value or b"") > BATCH_BYTES):
                await self._put(self._target, found, attempts, batch)
                batch, size = [], 0
            batch.append((number, line))
            size += len(line.value or b"")
        if batch and self._target is not None:
            await self._put(self._target, found, attempts, batch)

    def _is_wanted(self, found: LandedObject, attempts: Attempts, number: int, line: Line) -> bool:
        counts = self._counts
        if not self._selection.matches(line):
            return False
        counts.matched += 1
        if number in attempts.produced:
            counts.already_requeued += 1
            return False
        if number in attempts.unclear and not self._repeat_unclear:
            counts.unclear += 1
            return False
        rejected = self._validator.chunk(found.place, [self._format.to_validate(line)]).rejected
        if rejected:
            counts.failing[rejected[0].reason] += 1
            return False
        counts.good += 1
        return True

    async def _put(
        self, target: UnfencedTarget, found: LandedObject, attempts: Attempts, batch: Sequence[tuple[int, Line]]
    ) -> None:
        number = await attempts.begin([line for line, _ in batch])
        name = found.key.rpartition("/")[2]
        puts = [Put(line.value or b"", line.key, f"{name}:{each}", line.headers) for each, line in batch]
        answers = await target.put(puts)
        produced, refused = [], []
        for (each, line), why in zip(batch, answers, strict=True):
            if why is None:
                produced.append(each)
            else:
                refused.append(each)
                self._add_refused(found, line, why)
        await attempts.end(number, Outcome(tuple(produced), tuple(refused)))
        self._counts.produced += len(produced)
        self._progress()

    def _lines(self, body: bytes) -> Iterator[Line]:
        """Decode an object's records, one at a time: a small body may be large when decompressed."""
        try:
            with gzip.GzipFile(fileobj=BytesIO(body)) as file:
                while line := file.readline(_MAX_LINE_BYTES):
                    yield self._format.decode(line)
        except (OSError, EOFError, zlib.error) as error:
            raise QuarantineError(f"not a gzip file of lines: {error}") from error

    def _add_refused(self, found: LandedObject, line: Line, why: str) -> None:
        record = RefusedRecord(object=found.key, reason=why, **place_of(line))
        log.error("a record stays in the quarantine: %s", record)
        self._counts.refused += 1
        if len(self._counts.refused_records) < MAX_REFUSED:
            self._counts.refused_records.append(record)

    def _add_example(self, line: Line) -> None:
        if len(self._counts.examples) < MAX_EXAMPLES:
            self._counts.examples.append(f"{name_of(line)}, {line.reason}")


def place_of(line: Line) -> dict[str, Any]:
    """What names a record, for `RefusedRecord`."""
    if isinstance(line, QuarantinedMessage):
        return {"topic": line.topic, "message_id": line.message_id}
    return {"topic": line.topic, "partition": line.partition, "offset": str(line.offset)}


def name_of(line: Line) -> str:
    """A record's name, for people."""
    if isinstance(line, QuarantinedMessage):
        return f"{line.topic} message {line.message_id}"
    return f"{line.topic}[{line.partition}] at {line.offset}"
