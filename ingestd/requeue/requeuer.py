"""Requeues records: from quarantine objects into transactions, with a receipt for each transaction.

    read a record -> selected? -> produced already? -> valid now? -> transaction -> receipt

A transaction commits its records together with a note that says which they are. So the note is right wherever the
process stops. The next transaction overwrites it; by then a receipt in the sink says the same. A new run therefore
first fences off all other runs, then writes the receipt for the last note, and only then reads receipts.

Where the topic refuses a record, its transaction is aborted and halved until the record is alone; it stays in the
quarantine. After each refusal the run fences off all others again: it goes on only if none of them has produced.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import NamedTuple, Protocol

import msgspec

from ingestd.core.errors import RecordsRefused, SourceError
from ingestd.core.object_keys import QuarantineObjectName
from ingestd.core.object_metadata import ObjectMetadata
from ingestd.core.quarantine import Quarantined, QuarantineError
from ingestd.core.records import PlainRecord
from ingestd.core.validation import Validator
from ingestd.requeue.batches import BatchLimits, ProducedRecords, RequeueBatch, Selection, to_produce, to_validate
from ingestd.requeue.quarantine_reader import ObjectStatus, QuarantineObject, QuarantineReader, lines
from ingestd.requeue.receipts import Receipts, Standing

log = logging.getLogger(__name__)

MAX_EXAMPLES = 10  # of records that a dry run would produce
MAX_REFUSED = 100  # records that the report names; the log names each

_YIELD_RECORDS = 1000  # records between two chances for other tasks on the event loop


class Target(Protocol):
    """The topic, or the journal, that records are produced to. Errors are ``SourceError``."""

    async def note(self) -> str | None:
        """The note of the last committed transaction; None where there is none."""
        ...

    async def produce(self, records: Sequence[tuple[int, PlainRecord]], note: str) -> None:
        """Produce records, each with its partition, and the note in one transaction: all or nothing.

        ``RecordsRefused`` where the topic does not accept one of them: then nothing was produced, and nothing can be
        before a ``restart``.
        """
        ...

    async def restart(self) -> None:
        """Fence off all other runs, as at the start."""
        ...


class Destination(NamedTuple):
    """Where records are produced to, and how. In a dry run `target` is None: records are only counted."""

    target: Target | None
    partitions: int = 1
    clock: Callable[[], float] = time.time  # the wall clock: records get its time
    limits: BatchLimits | None = None


class RefusedRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A record that the target does not accept, the key of its quarantine object, and why.

    A message of a queue has an id; every other record a partition and an offset, as text where it is beyond 64 bits.
    """

    object: str
    topic: str
    partition: int | None = None
    offset: int | str | None = None
    message_id: str | None = None
    reason: str

    def __str__(self) -> str:
        place = f"[{self.partition}] at {self.offset}" if self.message_id is None else f" message {self.message_id}"
        return f"{self.topic}{place} in {self.object}: {self.reason}"


class RequeueCounts(msgspec.Struct, kw_only=True):
    """Counts of quarantine objects, and of the records in them. `objects` are those that landed."""

    objects: int = 0
    superseded_objects: int = 0
    superseded_records: int = 0
    unlanded_objects: int = 0
    unlanded_records: int = 0
    unreadable_objects: int = 0
    read: int = 0
    matched: int = 0
    already_requeued: int = 0
    unclear: int = 0  # not produced: a receipt of an older version may be of this record or of another one
    good: int = 0
    produced: int = 0
    refused: int = 0  # by the target topic
    refused_records: list[RefusedRecord] = msgspec.field(default_factory=list)
    skipped: int = 0  # not produced: tombstones, of which the daemon makes no row
    failing: Counter[str] = msgspec.field(default_factory=Counter)  # by the reason that validation gives now
    examples: list[str] = msgspec.field(default_factory=list)


class Requeuer:
    """Requeues records to one destination."""

    def __init__(
        self,
        reader: QuarantineReader,
        receipts: Receipts,
        validator: Validator,
        selection: Selection,
        destination: Destination,
        *,
        counts: RequeueCounts,
        progress: Callable[[], None] = lambda: None,
    ) -> None:
        """`progress` is called now and then."""
        self._reader = reader
        self._receipts = receipts
        self._validator = validator
        self._selection = selection
        self._target, self._partitions, self._clock, self._limits = destination
        self._counts = counts
        self._progress = progress
        self._batch: RequeueBatch | None = None
        self._last_note: str | None = None
        self._must_restart = False

    async def recover(self) -> None:
        """Write the receipt of the last transaction. Call it first, when no other run can produce any more."""
        assert self._target is not None
        self._last_note = await self._target.note()
        if self._last_note is not None:
            await self._receipts.record(read_note(self._last_note))

    async def run(self, topic: str) -> None:
        """Requeue the selected records of `topic`."""
        selection = self._selection
        async with aclosing(self._reader.objects(topic, selection.since, selection.until)) as objects:
            async for found in objects:
                await self._requeue_object(found)
        await self._flush()

    async def _requeue_object(self, found: QuarantineObject) -> None:
        counts, metadata, key = self._counts, found.metadata, found.name.key
        match found.status:
            case ObjectStatus.SUPERSEDED if metadata is not None:
                counts.superseded_objects += 1
                counts.superseded_records += metadata.rejected
            case ObjectStatus.UNLANDED if metadata is not None:
                counts.unlanded_objects += 1
                counts.unlanded_records += metadata.rejected
            case ObjectStatus.UNREADABLE:
                counts.unreadable_objects += 1
                log.error("skipped quarantine object %s: it has no valid metadata of ingestd", key)
            case ObjectStatus.LANDED if metadata is not None:
                counts.objects += 1
                try:
                    await self._requeue_lines(found, metadata)
                except QuarantineError as error:
                    counts.unreadable_objects += 1
                    log.error("quarantine object %s is damaged, the rest of it was skipped: %s", key, error)

    async def _requeue_lines(self, found: QuarantineObject, metadata: ObjectMetadata) -> None:
        partition = found.name.partition
        for line in lines(await self._reader.body(found)):
            if (line.topic, line.partition) != partition:
                raise QuarantineError(f"it has a record of {line.topic}[{line.partition}]")
            self._counts.read += 1
            if self._counts.read % _YIELD_RECORDS == 0:
                self._progress()
                await asyncio.sleep(0)
            if self._selection.matches(line):
                self._counts.matched += 1
                epoch = line.leader_epoch if line.leader_epoch is not None else metadata.leader_epoch
                await self._requeue_record(found.name, msgspec.structs.replace(line, leader_epoch=epoch), metadata.end)

    async def _requeue_record(self, name: QuarantineObjectName, line: Quarantined, end: int) -> None:
        partition = name.partition
        batch, epoch = self._batch, line.leader_epoch
        if batch is not None and (
            (batch.partition, batch.leader_epoch) != (partition, epoch) or line.offset <= batch.last
        ):
            await self._flush()  # its receipt must exist before receipts are read again
        standing = await self._receipts.find(partition, line.offset, epoch, end)
        if standing is Standing.PRODUCED:
            self._counts.already_requeued += 1
            return
        if standing is Standing.UNCLEAR:
            self._counts.unclear += 1
            return
        record = to_validate(line)
        if (values := self._validator.values) is not None:
            await values.prepare([record], lambda: True)
        validated = self._validator.chunk(partition, [record])
        if validated.rejected:
            self._counts.failing[validated.rejected[0].reason] += 1
            return
        if validated.skipped:
            self._counts.skipped += 1
            return
        self._counts.good += 1
        if self._target is None:
            self._add_example(line)
            return
        if self._batch is not None and not self._batch.fits(line):
            await self._flush()
        if self._batch is None:
            self._batch = RequeueBatch(partition, epoch, self._limits)
        self._batch.add(line, name.key)

    async def _flush(self) -> None:
        """Produce the batch; where the topic refuses records, produce all others in smaller transactions.

        In a batch of n records, a refused one costs log2(n) + 1 restarts at most, rounded up; n refused ones 2n - 1.
        """
        batch, self._batch = self._batch, None
        if batch is None or self._target is None:
            return
        todo = [batch]
        while todo:
            batch = todo.pop()
            try:
                await self._produce(self._target, batch)
            except RecordsRefused as refusal:
                self._must_restart = True
                if len(batch.lines) > 1:
                    todo += reversed(batch.halves())
                else:
                    self._add_refused(batch, str(refusal))
            self._progress()

    async def _produce(self, target: Target, batch: RequeueBatch) -> None:
        if self._must_restart:
            await self._restart(target)
        now, produced = int(self._clock() * 1000), batch.produced
        records = [(line.partition % self._partitions, to_produce(line, now)) for line in batch.lines]
        note = produced.note()
        await target.produce(records, note)
        self._last_note = note
        self._counts.produced += len(records)
        await self._receipts.record(produced)

    async def _restart(self, target: Target) -> None:
        await target.restart()
        # It has fenced off a run that had fenced off this one. What that one produced, these receipts do not tell.
        if await target.note() != self._last_note:
            raise SourceError(
                "another requeue to the topic has begun, and has produced records",
                hint="see whether another one runs; run it again: nothing is produced twice",
            )
        self._must_restart = False

    def _add_refused(self, batch: RequeueBatch, reason: str) -> None:
        [line], [key] = batch.lines, batch.objects
        record = RefusedRecord(
            object=key, topic=line.topic, partition=line.partition, offset=line.offset, reason=reason
        )
        log.error("a record stays in the quarantine: %s", record)
        self._counts.refused += 1
        if len(self._counts.refused_records) < MAX_REFUSED:
            self._counts.refused_records.append(record)

    def _add_example(self, line: Quarantined) -> None:
        if len(self._counts.examples) < MAX_EXAMPLES:
            where = f"{line.topic}[{line.partition}] at {line.offset}"
            self._counts.examples.append(f"{where}, {line.reason}: to partition {line.partition % self._partitions}")


def read_note(note: str) -> ProducedRecords:
    """Parse the note of the last transaction. ``SourceError`` where another program overwrote it."""
    if (produced := ProducedRecords.from_note(note)) is None:
        raise SourceError(
            "cannot tell which records the last transaction produced: another program overwrote its committed offset",
            hint="if the last `ingestd requeue` exited normally, delete its group (kafka.group_id followed by "
            ".requeue.) and run it again; otherwise compare the records in the topic with the quarantine first",
        )
    return produced
