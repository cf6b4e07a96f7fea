"""Sends the journal's records to Kafka, in their order, and discards them once they are acknowledged."""

import asyncio
import logging
import random
from collections.abc import Sequence

from ingestd.collect.delivery.counts import DeliveryCounts
from ingestd.collect.delivery.ports import Sender, Spool
from ingestd.collect.delivery.records import with_reason, without_reason
from ingestd.core.backoff import backoff
from ingestd.core.errors import SourceError
from ingestd.core.records import PlainRecord, Refusal, UnsentRecord
from ingestd.ops.logs import Outage

log = logging.getLogger(__name__)

CHUNK_RECORDS = 2000
CHUNK_BYTES = 4 << 20
RETRY_REFUSED_S = 3600.0
_REFUSED_RECORDS = 100
_RETRY_INITIAL_S, _RETRY_MAX_S = 0.1, 5.0


class Forwarder:
    """Two tasks: one for what waits for Kafka, one for what the topic has refused.

    A record is discarded after it was acknowledged, or written to the journal of refused ones. Between the two, a
    crash makes it go twice, with the same event_id.
    """

    def __init__(self, sender: Sender, spool: Spool, counts: DeliveryCounts) -> None:
        self._sender = sender
        self._spool = spool
        self._counts = counts
        self._random = random.Random()
        self._progress = asyncio.Event()  # another one after each chunk
        self._busy = False  # a chunk is on its way
        self._stopping = False
        self._refusing = Outage()
        self._tasks: list[asyncio.Task[None]] = []
        self.error: str | None = None  # of a journal

    def start(self) -> None:
        """Begin with what a former process has left."""
        self._tasks = [
            asyncio.create_task(self._forward()),
            asyncio.create_task(self._retry_refused()),
        ]

    async def stop(self, timeout_s: float) -> None:
        """Stop; a chunk that is on its way gets this time, so that it is not sent twice."""
        self._stopping = True
        if self._busy and self._sender.error is None:
            await asyncio.wait(self._tasks[:1], timeout=timeout_s)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    async def progress(self) -> None:
        """Until the next chunk is discarded."""
        await self._progress.wait()

    async def keep_refused(self, records: Sequence[UnsentRecord], reasons: Sequence[Refusal]) -> None:
        """Write records to the journal of refused ones."""
        await self._spool.refused.append([with_reason(*pair) for pair in zip(records, reasons, strict=True)])
        self._counts.refused += len(records)
        if self._refusing.begin(asyncio.get_running_loop().time()):
            log.error("the topic refuses an event, which is kept apart and tried again later: %s", reasons[0].reason)

    async def _forward(self) -> None:
        outage, failures = Outage(), 0
        while not self._stopping:
            try:
                await self._forward_chunk()
            except SourceError as error:
                self.error = f"forwarding from the journal to Kafka fails: {error}"
                failures += 1
                if outage.begin(asyncio.get_running_loop().time()):
                    log.error("%s; nothing is lost, retrying", self.error)
                await asyncio.sleep(backoff(failures - 1, _RETRY_INITIAL_S, _RETRY_MAX_S, self._random))
            else:
                if ended := outage.end(asyncio.get_running_loop().time()):
                    log.info("recovered %s: %s", ended, self.error)
                self.error, failures = None, 0

    async def _forward_chunk(self) -> None:
        journal = self._spool.waiting
        first = journal.first_offset
        await journal.wait_for(first)
        self._busy = True
        try:
            records = await journal.read(first, CHUNK_RECORDS, CHUNK_BYTES)
            unsent, refused = await self._send(records)
            if refused:
                await self.keep_refused([unsent[at] for at in refused], list(refused.values()))
            self._counts.forwarded += len(records) - len(refused)
            await journal.discard(records[-1].offset + 1)
        finally:
            self._busy = False
        self._progress.set()
        self._progress = asyncio.Event()

    async def _retry_refused(self) -> None:
        """At the start, and every hour: an operator may have changed the topic."""
        while True:
            try:
                await self._retry_refused_once()
            except SourceError as error:
                log.warning("events that the topic has refused cannot be tried again now: %s; nothing is lost", error)
            await asyncio.sleep(RETRY_REFUSED_S)

    async def _retry_refused_once(self) -> None:
        journal = self._spool.refused
        end = journal.next_offset
        while (first := journal.first_offset) < end:
            records = (await journal.read(first, _REFUSED_RECORDS, CHUNK_BYTES))[: end - first]
            unsent, refused = await self._send(records)
            if refused:
                await journal.append([with_reason(unsent[at], reason) for at, reason in refused.items()])
            self._counts.accepted_later += len(records) - len(refused)
            await journal.discard(records[-1].offset + 1)
            if not refused and (ended := self._refusing.end(asyncio.get_running_loop().time())):
                log.info("recovered %s: the topic accepts events that it has refused", ended)

    async def _send(self, records: Sequence[PlainRecord]) -> tuple[list[UnsentRecord], dict[int, Refusal]]:
        """Send until each record is acknowledged or refused; the refused ones by their place, in order."""
        unsent = [UnsentRecord(it.timestamp, it.key, it.value or b"", without_reason(it.headers)) for it in records]
        sending = self._sender.submit(unsent)
        try:
            await asyncio.shield(sending.done)
        finally:
            sending.withdraw()
        return unsent, dict(sorted(sending.refused.items()))
