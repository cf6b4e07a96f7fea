"""`ingestd requeue` where the source is the collector: back into its journal, which no daemon has open then."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from ingestd import collector_wiring
from ingestd.config.load import Settings
from ingestd.config.model import CollectConfig
from ingestd.core.errors import ConfigError, JournalError, JournalInUseError
from ingestd.requeue.batches import BatchLimits
from ingestd.requeue.receipts import Receipts
from ingestd.requeue.requeuer import Destination, read_note

if TYPE_CHECKING:
    from ingestd.sources.journal.journal import Journal

log = logging.getLogger(__name__)

BY_HAND = (
    "the quarantine has each event as it came, in the field `value` in base64: send those that are valid now to "
    "POST /v1/events of a source with kind = native"
)
_RECORD_BYTES = 1024  # more than what the headers with its origin add to a record


def check(to: str | None, settings: Settings) -> None:
    """``ConfigError`` for flags that only topics of Kafka have."""
    topic = settings.config.collect.topic
    if to is not None:
        raise ConfigError(
            f"--to {to} is for Kafka and Kinesis: events go back into the journal of source = collector",
            hint="leave it out",
        )
    if settings.origins.get("kafka.topics") == "--topic":
        raise ConfigError(
            f"--topic is for Kafka: the quarantine of source = collector is that of collect.topic = {topic}",
            hint="leave it out",
        )


@asynccontextmanager
async def open_journal(collect: CollectConfig, receipts: Receipts, *, dry_run: bool) -> AsyncIterator[Destination]:
    """The journal, which stays open. A dry run has it open only to read the note of the last transaction."""
    from ingestd.sources.journal.transactions import JournalTransactions  # noqa: PLC0415

    journal = collector_wiring.make_journal(collect)
    if not await asyncio.to_thread(journal.path.exists):
        raise JournalError(f"there is no journal {journal.path}", hint="set collect.journal to that of the collector")
    if dry_run:
        await _assume_noted(journal, receipts)
        yield Destination(None)
        return
    try:
        await _open(journal)
        stream = f"journal:{journal.journal_id}"
        identity = await receipts.identity("journal", stream)
        _check_stream(identity.cluster, stream, journal, receipts)
        limits = BatchLimits(max(1, journal.group_bytes // 2 // _RECORD_BYTES), journal.group_bytes // 2)
        yield Destination(JournalTransactions(journal, identity.id), limits=limits)
    finally:
        await journal.close()


async def _open(journal: "Journal") -> None:
    try:
        await journal.open()
    except JournalInUseError as error:
        raise JournalInUseError(
            error.message, hint="stop the daemon, run requeue, and start the daemon again: it lands the events"
        ) from error


async def _assume_noted(journal: "Journal", receipts: Receipts) -> None:
    """What the last transaction appended has a receipt already, unless its run was killed."""
    if (known := await receipts.known_identity()) is None:
        return
    try:
        await journal.open()
    except JournalInUseError as error:
        log.warning("%s: if the last requeue was killed, it may have appended what is counted here", error.message)
        return
    try:
        _check_stream(known.cluster, f"journal:{journal.journal_id}", journal, receipts)
        if (note := await journal.note(known.id)) is not None:
            receipts.assume_produced(read_note(note))
    finally:
        await journal.close()


def _check_stream(known: str, stream: str, journal: "Journal", receipts: Receipts) -> None:
    """``ConfigError`` where events were requeued into another one: what a killed run appended, only that one tells."""
    if known != stream:
        raise ConfigError(
            f"records of this topic and lineage were requeued to {known}, and the journal {journal.path} is {stream}",
            hint="set collect.journal to that one; where it is gone, and what the last requeue appended has landed or "
            f"is gone with it, delete {receipts.identity_key} in the sink",
        )
