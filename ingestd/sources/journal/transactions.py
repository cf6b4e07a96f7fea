"""Appends records together with a note that says which they are, for `ingestd requeue`.

The journal is open as long as they are made, so no daemon reads it and no other requeue appends: nobody is fenced.
"""

from collections.abc import Sequence
from typing import cast

from ingestd.core.errors import JournalFullError, RecordsRefused
from ingestd.core.records import PlainRecord, UnsentRecord
from ingestd.sources.journal.file import Note
from ingestd.sources.journal.journal import Journal


class JournalTransactions:
    """Transactions of one name, in a journal that is open."""

    def __init__(self, journal: Journal, name: str) -> None:
        self._journal = journal
        self._name = name

    async def note(self) -> str | None:
        """The note of the last transaction; None where there is none."""
        return await self._journal.note(self._name)

    async def produce(self, records: Sequence[tuple[int, PlainRecord]], note: str) -> None:
        """Append records and keep the note: all or nothing. The journal has one partition.

        ``RecordsRefused`` where a record cannot be in a journal, ``JournalFullError`` where there is no room.
        """
        unsent = [_unsent(record) for _, record in records]
        try:
            await self._journal.append_noted(unsent, Note(self._name, note))
        except JournalFullError as error:
            raise JournalFullError(
                error.message,
                hint="let the daemon land what is in the journal, or free its disk, or raise collect.journal_bytes; "
                "then run it again: nothing is appended twice",
            ) from error

    async def restart(self) -> None:
        """Nothing to do: a transaction that was refused has not begun."""


def _unsent(record: PlainRecord) -> UnsentRecord:
    """Kafka's nulls have no place in a journal: such a record was quarantined by a daemon of another source."""
    value, headers = record.value, cast("Sequence[tuple[str, bytes | None]]", record.headers)
    nulls = [name for name, content in headers if content is None]
    if value is None or nulls:
        what = "its value" if value is None else f"its header {nulls[0]!r}"
        raise RecordsRefused(
            f"{what} is null, which only Kafka has", hint="requeue it with the configuration that it came with"
        )
    return UnsentRecord(record.timestamp, record.key, value, record.headers)
