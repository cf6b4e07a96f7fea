"""Makes events safe in Kafka, or in the journal behind it while Kafka does not acknowledge.

The rule of order: while the journal has records, everything goes through it, and a forwarder sends it in order. When
Kafka stops to acknowledge, deliveries that wait for it go to the journal before all later ones. So the events of a
client arrive in the order in which they came in; what was on its way when Kafka failed may arrive twice.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from ingestd.collect.delivery.counts import DeliveryCounts
from ingestd.collect.delivery.forwarder import CHUNK_RECORDS, Forwarder
from ingestd.collect.delivery.ports import Sender, Sending, Spool
from ingestd.collect.delivery.records import Admission, unsent
from ingestd.collect.messages import Acknowledgement, Collected, RefusedError, UnavailableError
from ingestd.core.errors import SourceError
from ingestd.core.records import UnsentRecord

KAFKA_SHARE = 0.5  # of ack_timeout for Kafka; the rest is for the journal
_HOLD_SHARE = 0.1  # of ack_timeout, for the last records of the journal to be forwarded
_HOLD_AGAIN_S = 5.0
_STOP_S = 5.0


@dataclass(eq=False)
class _Waiting:
    """A delivery that waits for Kafka, or for the journal."""

    records: Sequence[UnsentRecord]
    sending: Sending | None = None  # None: it goes to the journal
    answer: "asyncio.Future[Acknowledgement]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    def succeed(self, acknowledgement: Acknowledgement) -> None:
        if not self.answer.done():
            self.answer.set_result(acknowledgement)

    def fail(self, error: BaseException) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)
            self.answer.exception()  # its delivery may have been cancelled


class KafkaDelivery:
    """A delivery that produces; with a spool, it falls back to the journal and forwards from there."""

    def __init__(
        self, sender: Sender, ack_timeout: float, spool: Spool | None = None, *, admission: Admission | None = None
    ) -> None:
        """The sender is started and stopped here; who makes the journals of `spool` opens and closes them."""
        self._sender = sender
        self._ack_timeout = ack_timeout
        self._spool = spool
        self._admission = admission or Admission()
        self.counts = DeliveryCounts()
        self._forwarder = Forwarder(sender, spool, self.counts) if spool is not None else None
        self._direct: dict[_Waiting, None] = {}  # in their order
        self._appending = 0  # to the journal
        self._tasks: set[asyncio.Task[None]] = set()
        self._gate = asyncio.Lock()
        self._held = 0
        self._no_hold_before = 0.0

    @property
    def error(self) -> str | None:
        """Why events cannot be made safe now; None while they can."""
        if self._spool is None:
            return self._sender.error
        return self._spool.waiting.error if self._queueing(self._spool) else None

    @property
    def kafka_error(self) -> str | None:
        """Why Kafka does not acknowledge now, or the journal's records do not get there."""
        return self._sender.error or (self._forwarder.error if self._forwarder is not None else None)

    @property
    def waiting(self) -> int:
        """How many records in the journal wait for Kafka."""
        return self._spool.length if self._spool is not None else 0

    async def start(self) -> None:
        """Begin to connect and to forward; returns at once."""
        await self._sender.start()
        if self._forwarder is not None:
            self._forwarder.start()

    async def stop(self) -> None:
        """Stop within a bound, after the last delivery. What is in the journal is forwarded after the next start."""
        if self._forwarder is not None:
            await self._forwarder.stop(_STOP_S)
        await self._sender.stop(_STOP_S)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_STOP_S)

    async def deliver(self, source: str, received_at: int, events: Sequence[Collected]) -> Acknowledgement:
        """Make events safe. ``UnavailableError`` where neither Kafka nor the journal has all of them in time.

        ``RefusedError`` where the topic does not take an event for its size, and there is no journal: the other events
        of the request are in the topic then.
        """
        records = unsent(source, received_at, events)
        with self._admission.admit(records):
            try:
                async with asyncio.timeout(self._ack_timeout):
                    if self._spool is None:
                        return await self._produce(records)
                    return await self._produce_or_spool(records, self._spool)
            except TimeoutError:
                reason = self.kafka_error or "no acknowledgement"
                raise UnavailableError(f"not safe within {self._ack_timeout:g} s: {reason}") from None
            except SourceError as error:
                raise UnavailableError(str(error)) from error

    # -- without a journal

    async def _produce(self, records: Sequence[UnsentRecord]) -> Acknowledgement:
        sending = self._sender.submit(records)
        try:
            await asyncio.shield(sending.done)
        finally:
            self.counts.produced += len(records) - len(sending.withdraw()) - len(sending.refused)
        if not (refused := sending.refused):
            return "kafka"
        first = next(iter(refused.values())).reason
        message = f"the topic refuses {len(refused)} of {len(records)} events for good, and has the others: {first}"
        if all(refusal.too_large for refusal in refused.values()):
            # Not 503: what is sent again for this would be in the topic many times, and this event never.
            raise RefusedError(413, "refused_by_topic", message)
        raise UnavailableError(message)

    # -- with a journal

    async def _produce_or_spool(self, records: Sequence[UnsentRecord], spool: Spool) -> Acknowledgement:
        delivery = _Waiting(records)
        if self._held or self._nearly_forwarded(spool):
            await self._hold(delivery, spool)
        else:
            self._enter(delivery, spool)
        if delivery.sending is not None:
            await asyncio.wait([delivery.answer], timeout=self._ack_timeout * KAFKA_SHARE)
            if not delivery.answer.done():
                self._divert(spool)
        return await delivery.answer

    def _enter(self, delivery: _Waiting, spool: Spool) -> None:
        """Submit a delivery to Kafka, or append it to the journal; after all that came before it."""
        if not self._queueing(spool):
            with suppress(SourceError):
                delivery.sending = self._sender.submit(delivery.records)
                self._direct[delivery] = None
                delivery.sending.done.add_done_callback(lambda _: self._sent(delivery, spool))
                return
        self._divert(spool)
        self._append([delivery], delivery.records, spool)

    def _queueing(self, spool: Spool) -> bool:
        """Whether later records must go through the journal."""
        return bool(self._appending or spool.length) or self._sender.error is not None

    def _sent(self, delivery: _Waiting, spool: Spool) -> None:
        sending = delivery.sending
        if sending is None or delivery not in self._direct:
            return  # it goes to the journal
        del self._direct[delivery]
        if sending.done.cancelled() or sending.done.exception() is not None:
            self._append([delivery], delivery.records, spool)
            return
        self.counts.produced += len(delivery.records) - len(sending.refused)
        if sending.refused:
            self._run(self._keep_refused(delivery, sending))
        else:
            delivery.succeed("kafka")

    async def _keep_refused(self, delivery: _Waiting, sending: Sending) -> None:
        assert self._forwarder is not None
        refused = dict(sorted(sending.refused.items()))
        try:
            await self._forwarder.keep_refused([delivery.records[at] for at in refused], list(refused.values()))
        except SourceError as error:
            delivery.fail(error)
        else:
            delivery.succeed("journal")

    def _divert(self, spool: Spool) -> None:
        """Move all that waits for Kafka to the journal, in its order."""
        direct = [it for it in self._direct if it.sending is not None and not it.sending.done.done()]
        records: list[UnsentRecord] = []
        for delivery in direct:
            del self._direct[delivery]
            assert delivery.sending is not None
            left = delivery.sending.withdraw()
            self.counts.produced += len(delivery.records) - len(left) - len(delivery.sending.refused)
            self.counts.repeated += len(left)
            # The forwarder finds again which of them are refused.
            records += [delivery.records[at] for at in sorted({*left, *delivery.sending.refused})]
        if direct:
            self._append(direct, records, spool)

    def _append(self, deliveries: Sequence[_Waiting], records: Sequence[UnsentRecord], spool: Spool) -> None:
        self._appending += 1
        self._run(self._appended(deliveries, records, spool))

    def _run(self, coroutine: Coroutine[object, object, None]) -> None:
        """In a task of its own, which no request's end cancels. Tasks begin in this order, and so do their appends."""
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _appended(self, deliveries: Sequence[_Waiting], records: Sequence[UnsentRecord], spool: Spool) -> None:
        try:
            await spool.waiting.append(records)
        except SourceError as error:
            for delivery in deliveries:
                delivery.fail(error)
        else:
            self.counts.journaled += len(records)
            for delivery in deliveries:
                delivery.succeed("journal")
        finally:
            self._appending -= 1

    # -- back from the journal to Kafka

    def _nearly_forwarded(self, spool: Spool) -> bool:
        """Whether the rest of the journal is forwarded within moments, if nothing new comes."""
        if not (self._appending or spool.length) or spool.length > CHUNK_RECORDS or self._sender.error is not None:
            return False
        return asyncio.get_running_loop().time() >= self._no_hold_before

    async def _hold(self, delivery: _Waiting, spool: Spool) -> None:
        """Wait, in the order of arrival, for the rest of the journal: under load, it would never be empty otherwise."""
        assert self._forwarder is not None
        self._held += 1
        try:
            async with self._gate:
                try:
                    async with asyncio.timeout(self._ack_timeout * _HOLD_SHARE):
                        while self._nearly_forwarded(spool):
                            await self._forwarder.progress()
                except TimeoutError:
                    self._no_hold_before = asyncio.get_running_loop().time() + _HOLD_AGAIN_S
                self._enter(delivery, spool)
        finally:
            self._held -= 1
