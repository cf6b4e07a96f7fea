"""The flow of `ingestd requeue`: from quarantine objects into transactions, and from these into receipts.

    read a record -> wanted? -> produced already? -> good by now? -> transaction -> receipt

A transaction commits the records together with a note of which they are, so that the note tells what was produced
wherever we are stopped. It is overwritten by the next transaction; by then the receipt says the same in the sink. So
whoever comes next first ends all others, then writes the receipt of the last note, then reads receipts.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Protocol

import msgspec

from ingestd.core.errors import SourceError
from ingestd.core.quarantine import Quarantined, QuarantineError
from ingestd.core.records import PlainRecord, TopicPartition
from ingestd.core.validation import Validator
from ingestd.requeue.batches import Produced, RequeueBatch, Selection, to_produce, to_validate
from ingestd.requeue.quarantine_reader import Found, ObjectStatus, QuarantineReader, lines
from ingestd.requeue.receipts import Receipts

log = logging.getLogger(__name__)

EXAMPLES = 10  # of records that would be produced

_BREATHE = 1000  # records between two chances for everything else on the event loop


class Target(Protocol):
    """Where records go. Errors are ``SourceError``."""

    async def note(self) -> str | None:
        """Of the last transaction that was committed; None where there is none."""
        ...

    async def produce(self, records: Sequence[tuple[int, PlainRecord]], note: str) -> None:
        """One transaction of records, each with its partition: all of them and the note, or nothing."""
        ...


class Tally(msgspec.Struct, kw_only=True):
    """What was found and done. Objects are the quarantine's; records are in those that count, unless it says more."""

    objects: int = 0
    superseded_objects: int = 0
    superseded_records: int = 0
    unlanded_objects: int = 0
    unlanded_records: int = 0
    unreadable_objects: int = 0
    read: int = 0
    matched: int = 0
    already_requeued: int = 0
    good: int = 0
    produced: int = 0
    failing: Counter[str] = msgspec.field(default_factory=Counter)  # by the reason that is found today
    examples: list[str] = msgspec.field(default_factory=list)


class Requeuer:
    """Brings records of one topic, or of several, to one target; to none of it where `target` is None."""

    def __init__(
        self,
        rejects: QuarantineReader,
        receipts: Receipts,
        validator: Validator,
        selection: Selection,
        *,
        target: Target | None,
        partitions: int,
        tally: Tally,
        clock: Callable[[], float],
        progress: Callable[[], None] = lambda: None,
    ) -> None:
        """`partitions` are the target's; `clock` is the wall clock; `progress` is called now and then."""
        self._rejects = rejects
        self._receipts = receipts
        self._validator = validator
        self._selection = selection
        self._target = target
        self._partitions = partitions
        self._tally = tally
        self._clock = clock
        self._progress = progress
        self._parcel: RequeueBatch | None = None

    async def settle(self) -> None:
        """Write the receipt of the last transaction. To be called first, when nobody else can produce any more."""
        assert self._target is not None
        if (note := await self._target.note()) is not None:
            await self._receipts.keep(read_note(note))

    async def run(self, topic: str) -> None:
        """All records of `topic`."""
        selection = self._selection
        async with aclosing(self._rejects.objects(topic, selection.since, selection.until)) as objects:
            async for found in objects:
                await self._object(found)
        await self._flush()

    async def _object(self, found: Found) -> None:
        tally, landed, key = self._tally, found.landed, found.name.key
        match found.standing:
            case ObjectStatus.SUPERSEDED if landed is not None:
                tally.superseded_objects += 1
                tally.superseded_records += landed.rejected
            case ObjectStatus.UNLANDED if landed is not None:
                tally.unlanded_objects += 1
                tally.unlanded_records += landed.rejected
            case ObjectStatus.STRANGE:
                tally.unreadable_objects += 1
                log.error("%s has no metadata of ours, so it is not known whether it counts: left alone", key)
            case ObjectStatus.COUNTS if landed is not None:
                tally.objects += 1
                try:
                    await self._read(found, landed.end)
                except QuarantineError as error:
                    tally.unreadable_objects += 1
                    log.error("%s cannot be read to its end; what is left of it stays: %s", key, error)

    async def _read(self, found: Found, end: int) -> None:
        partition = found.name.partition
        for line in lines(await self._rejects.body(found)):
            if (line.topic, line.partition) != partition:
                raise QuarantineError(f"a record of {line.topic}[{line.partition}]")
            self._tally.read += 1
            if self._tally.read % _BREATHE == 0:
                self._progress()
                await asyncio.sleep(0)
            if self._selection.takes(line):
                self._tally.matched += 1
                await self._take(partition, line, end)

    async def _take(self, partition: TopicPartition, line: Quarantined, end: int) -> None:
        parcel = self._parcel
        if parcel is not None and (parcel.partition != partition or line.offset <= parcel.last):
            await self._flush()  # so that what is in it is known to be produced
        if await self._receipts.has(partition, line.offset, end):
            self._tally.already_requeued += 1
            return
        rejected = self._validator.chunk(partition, [to_validate(line)]).rejected
        if rejected:
            self._tally.failing[rejected[0].reason] += 1
            return
        self._tally.good += 1
        if self._target is None:
            self._show(line)
            return
        if self._parcel is not None and not self._parcel.takes(line):
            await self._flush()
        if self._parcel is None:
            self._parcel = RequeueBatch(partition)
        self._parcel.add(line)

    async def _flush(self) -> None:
        parcel, self._parcel = self._parcel, None
        if parcel is None or self._target is None:
            return
        now, produced = int(self._clock() * 1000), parcel.produced
        records = [(line.partition % self._partitions, to_produce(line, now)) for line in parcel.lines]
        await self._target.produce(records, produced.note())
        self._tally.produced += len(records)
        await self._receipts.keep(produced)
        self._progress()

    def _show(self, line: Quarantined) -> None:
        if len(self._tally.examples) < EXAMPLES:
            where = f"{line.topic}[{line.partition}] at {line.offset}"
            self._tally.examples.append(f"{where}, {line.reason}: to partition {line.partition % self._partitions}")


def read_note(note: str) -> Produced:
    """What the last transaction produced. ``SourceError`` where another program has overwritten that."""
    if (produced := Produced.from_note(note)) is None:
        raise SourceError(
            "what the last transaction produced is not known: its offset was committed by another program",
            hint="where the last `ingestd requeue` ended by itself, delete the group (its name begins with "
            "kafka.group_id and .requeue.) and run it again; else look which records are in the topic",
        )
    return produced
