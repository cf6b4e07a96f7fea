"""The collector's life cycle: journals, delivery and HTTP server are started and stopped in order.

The server stops first and the journals last: an event that was accepted always has a place that is open.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Protocol

from ingestd.collect.delivery import DeliveryCounts
from ingestd.collect.messages import Acknowledgement, Collected
from ingestd.core.formatting import address
from ingestd.ops.collect_metrics import CollectMetrics
from ingestd.ops.collector_status import CollectorStatus, JournalStatus

log = logging.getLogger(__name__)

ANSWER_S = 2.0  # for a request in flight, beside `collect.ack_timeout`: it reads the body, and answers


class Server(Protocol):
    """The HTTP server."""

    async def start(self) -> int: ...
    async def stop(self, grace: float) -> None: ...


class RunningDelivery(Protocol):
    """A delivery that is started and stopped."""

    @property
    def error(self) -> str | None: ...
    @property
    def counts(self) -> DeliveryCounts: ...
    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    async def deliver(self, source: str, received_at: int, events: Sequence[Collected]) -> Acknowledgement: ...


class OpenedJournal(Protocol):
    """A journal that is opened and closed here."""

    @property
    def error(self) -> str | None: ...
    @property
    def first_offset(self) -> int: ...
    @property
    def next_offset(self) -> int: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def max_bytes(self) -> int: ...
    @property
    def oldest_timestamp(self) -> int | None: ...
    async def open(self) -> None: ...
    async def close(self) -> None: ...


class CountedDelivery:
    """Counts events that are accepted: their sender is told so."""

    def __init__(self, delivery: RunningDelivery, metrics: CollectMetrics) -> None:
        self._delivery = delivery
        self._metrics = metrics
        self.accepted = 0

    @property
    def error(self) -> str | None:
        return self._delivery.error

    async def deliver(self, source: str, received_at: int, events: Sequence[Collected]) -> Acknowledgement:
        """Deliver, and count what was delivered."""
        where = await self._delivery.deliver(source, received_at, events)
        self.accepted += len(events)
        self._metrics.accepted(where, len(events), sum(len(event.value) for event in events))
        return where


class CollectorService:
    """One collector."""

    def __init__(
        self,
        server: Server,
        host: str,
        delivery: RunningDelivery,
        counted: CountedDelivery,
        metrics: CollectMetrics,
        *,
        ack_timeout: float,
        journal: OpenedJournal | None = None,
        refused: OpenedJournal | None = None,
        kafka: "KafkaState | None" = None,
    ) -> None:
        """`journal` has what waits; `refused` what the topic does not take; `kafka` is how Kafka is, if used."""
        self._server = server
        self._host = host
        self._delivery = delivery
        self._counted = counted
        self._metrics = metrics
        self._answer_s = ack_timeout + ANSWER_S
        self._journals = [it for it in (journal, refused) if it is not None]
        self._journal, self._refused, self._kafka = journal, refused, kafka
        self.address = ""  # where it listens
        self._status = CollectorStatus(address="", uses_kafka=kafka is not None)
        self._first = self._next = self._refused_at_start = 0  # of the journals when they were opened
        self._is_open = False
        self._ends: asyncio.Task[None] | None = None
        metrics.bind(self.status)

    async def open(self) -> None:
        """Open the journals. `close` closes them, also where this fails."""
        for journal in self._journals:
            await journal.open()
        self._is_open = True
        if self._journal is not None:
            self._first, self._next = self._journal.first_offset, self._journal.next_offset
        if self._refused is not None:
            self._refused_at_start = self._refused.next_offset - self._refused.first_offset

    async def start(self) -> None:
        """Listen. ConfigError where that is not possible."""
        await self._delivery.start()
        port = await self._server.start()
        self.address = address(self._host, port)
        log.info("collecting events at http://%s", self.address)

    async def drain(self, grace: float) -> None:
        """Close the port and answer what is in flight, within `grace` seconds. No event comes after that."""
        self.address = ""
        await self._server.stop(min(grace, self._answer_s))

    async def stop(self) -> None:
        """Answer what is in flight, where `drain` has not, and stop to deliver. The journal keeps its events."""
        await self.drain(self._answer_s)
        await self._delivery.stop()

    async def close(self) -> None:
        """Close the journals, after those who read them have stopped."""
        self.status()
        self._is_open = False
        for journal in reversed(self._journals):
            await journal.close()

    def status(self) -> CollectorStatus:
        """The current status; once the journals are closed, the last one."""
        if self._is_open or not self._journals:
            self._status = self._take()
        return self._status

    def _take(self) -> CollectorStatus:
        journal = self._journal_status(self._journal) if self._journal is not None else None
        counts, kafka = self._delivery.counts, self._kafka
        kept_apart = self._refused.next_offset - self._refused.first_offset if self._refused is not None else 0
        produced = counts.produced + counts.forwarded + counts.accepted_later
        if kafka is None and journal is not None:
            produced = journal.removed
        at_start = self._refused_at_start + (journal.at_start if journal is not None else 0)
        return CollectorStatus(
            address=self.address,
            accepted=self._counted.accepted,
            safe=produced + kept_apart + (journal.records if journal is not None else 0) - at_start,
            produced=produced,
            kept_apart=kept_apart,
            outcomes=dict(self._metrics.outcomes),
            uses_kafka=kafka is not None,
            kafka_error=kafka.kafka_error if kafka is not None else None,
            journal=journal,
            error=self._delivery.error,
        )

    def _journal_status(self, journal: OpenedJournal) -> JournalStatus:
        first, end, oldest = journal.first_offset, journal.next_offset, journal.oldest_timestamp
        return JournalStatus(
            records=end - first,
            at_start=self._next - self._first,
            appended=end - self._next,
            removed=first - self._first,
            bytes=journal.size_bytes,
            limit_bytes=journal.max_bytes,
            oldest=max(0.0, time.time() - oldest / 1000) if oldest is not None and end > first else None,
            error=journal.error,
        )


class KafkaState(Protocol):
    """How Kafka is."""

    @property
    def kafka_error(self) -> str | None: ...
