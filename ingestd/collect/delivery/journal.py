"""Makes events safe in the journal alone, from where the pipeline reads them."""

import asyncio
from collections.abc import Sequence

from ingestd.collect.delivery.counts import DeliveryCounts
from ingestd.collect.delivery.ports import Journal
from ingestd.collect.delivery.records import Admission, unsent
from ingestd.collect.messages import Acknowledgement, Collected, UnavailableError
from ingestd.core.errors import SourceError


class JournalDelivery:
    """A delivery that appends. An event whose delivery was given up may be in the journal nevertheless."""

    def __init__(self, journal: Journal, ack_timeout: float, *, admission: Admission | None = None) -> None:
        """Who makes the journal opens and closes it."""
        self._journal = journal
        self._ack_timeout = ack_timeout
        self._admission = admission or Admission()
        self.counts = DeliveryCounts()

    @property
    def error(self) -> str | None:
        """Why events cannot be appended now; None while they can."""
        return self._journal.error

    @property
    def waiting(self) -> int:
        """How many records are in the journal."""
        return self._journal.next_offset - self._journal.first_offset

    async def start(self) -> None:
        """Nothing is to be started."""

    async def stop(self) -> None:
        """Nothing is to be stopped."""

    async def deliver(self, source: str, received_at: int, events: Sequence[Collected]) -> Acknowledgement:
        """Append the events. ``UnavailableError`` where the journal is full, fails, or takes too long."""
        records = unsent(source, received_at, events)
        with self._admission.admit(records):
            try:
                async with asyncio.timeout(self._ack_timeout):
                    await self._journal.append(records)
            except TimeoutError:
                raise UnavailableError(f"the journal did not answer within {self._ack_timeout:g} s") from None
            except SourceError as error:
                raise UnavailableError(str(error)) from error
        self.counts.journaled += len(records)
        return "journal"
