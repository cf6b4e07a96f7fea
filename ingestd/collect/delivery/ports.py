"""What a delivery needs: a sender of records to Kafka, and journals. Pure but for the futures of the sender."""

from asyncio import Future
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ingestd.core.records import PlainRecord, Refusal, UnsentRecord


class Sending(Protocol):
    """Records that were submitted together."""

    @property
    def done(self) -> "Future[None]":
        """Set once each record is acknowledged or refused; a `SourceError` where the sender was stopped before."""
        ...

    @property
    def refused(self) -> Mapping[int, Refusal]:
        """The records that the topic refuses for good, by their place."""
        ...

    def withdraw(self) -> list[int]:
        """Send no more of them; the places of those that are neither acknowledged nor refused.

        Some of these may be on their way, and arrive nevertheless.
        """
        ...


class Sender(Protocol):
    """Sends records to the topic until each is acknowledged or refused, those of one key in their order."""

    @property
    def error(self) -> str | None:
        """Why records are not acknowledged now; None while they are."""
        ...

    async def start(self) -> None:
        """Begin to connect; returns at once."""
        ...

    async def stop(self, timeout_s: float) -> None:
        """Close within a bound."""
        ...

    def submit(self, records: Sequence[UnsentRecord]) -> Sending:
        """Send records after those that were submitted before. `SourceError` where too many are unacknowledged."""
        ...


class Journal(Protocol):
    """A log on the local disk. Errors are `SourceError`. Calls of `append` get their offsets in their order."""

    @property
    def error(self) -> str | None:
        """Why nothing can be appended now; None while it can."""
        ...

    @property
    def first_offset(self) -> int:
        """The first record that is not discarded; `next_offset` where there is none."""
        ...

    @property
    def next_offset(self) -> int:
        """The offset of the next record."""
        ...

    async def append(self, records: Sequence[UnsentRecord]) -> range:
        """Returns once all of them are on the disk; none is where it fails."""
        ...

    async def read(self, offset: int, max_records: int, max_bytes: int) -> list[PlainRecord]:
        """Records from an offset on, at least one if there is one."""
        ...

    async def discard(self, below: int) -> None:
        """Remove the records below an offset."""
        ...

    async def wait_for(self, offset: int) -> None:
        """Until there is a record at or after an offset."""
        ...


@dataclass(frozen=True)
class Spool:
    """The journals behind Kafka. Who makes them opens and closes them."""

    waiting: Journal  # what waits for Kafka, in the order of arrival
    refused: Journal  # what the topic refuses, each with its reason in a header: tried again now and then

    @property
    def length(self) -> int:
        """How many records wait for Kafka."""
        return self.waiting.next_offset - self.waiting.first_offset
