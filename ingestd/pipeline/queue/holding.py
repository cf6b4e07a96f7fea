"""The messages that this daemon holds: it knows them by their ids, extends their visibility, and deletes them."""

import asyncio
from collections.abc import Iterable, Sequence

from ingestd.core.backoff import backoff
from ingestd.core.visibility import HeldMessage, extend_after, extension, hidden_until, note_extension
from ingestd.pipeline.queue.dependencies import QueueDependencies
from ingestd.sources.sqs.port import MAX_VISIBILITY_S, Message

EXTEND_RECEIPTS = 100  # in one call, whose answer counts for all of them
DELETE_INITIAL_S, DELETE_MAX_S = 0.2, 10.0  # between attempts
CALLS_AT_ONCE = 4


class Holding:
    """Each message once: SQS may hand out a message again while it is held here.

    Such a receipt is dropped. The one that is held will be deleted, or given up, and then the message comes again.
    """

    def __init__(self, dependencies: QueueDependencies) -> None:
        self.deleting = 0  # messages that have landed and are not deleted yet
        self._source = dependencies.source
        self._visibility = dependencies.visibility
        self._clock = dependencies.clock
        self._metrics = dependencies.metrics.queue
        self._random = dependencies.random
        self._held: dict[str, HeldMessage] = {}

    def __len__(self) -> int:
        return len(self._held)

    def take(self, message: Message) -> HeldMessage | None:
        """Hold a message that was received; None if it is held already."""
        if (known := self._held.get(message.message_id)) is not None:
            known.receipt = message.receipt  # only the latest one is sure to delete it
            return None
        held = self._held[message.message_id] = HeldMessage(
            message_id=message.message_id,
            receipt=message.receipt,
            received_at=message.requested_at,
            hidden_until=hidden_until(message.requested_at, self._visibility),
        )
        return held

    def release(self, messages: Iterable[HeldMessage]) -> None:
        """Hold these messages no longer. Those that were not deleted come again."""
        for message in messages:
            del self._held[message.message_id]

    async def extend_due(self) -> None:
        """Extend what is held for so long that it could become visible to others before it is deleted."""
        now = self._clock()
        limit = now + extend_after(self._visibility)
        by_seconds: dict[int, list[HeldMessage]] = {}
        for message in self._held.values():
            if message.hidden_until < limit and message.is_hidden(now):
                seconds = extension(message, now, self._visibility, MAX_VISIBILITY_S)
                if now + seconds > message.hidden_until:
                    by_seconds.setdefault(seconds, []).append(message)
        slots = asyncio.Semaphore(CALLS_AT_ONCE)
        async with asyncio.TaskGroup() as group:
            for seconds, messages in by_seconds.items():
                for begin in range(0, len(messages), EXTEND_RECEIPTS):
                    group.create_task(self._extend(messages[begin : begin + EXTEND_RECEIPTS], seconds, slots))

    async def _extend(self, messages: Sequence[HeldMessage], seconds: int, slots: asyncio.Semaphore) -> None:
        async with slots:
            receipts = [message.receipt for message in messages]
            requested_at = self._clock()
            failed = set(await self._source.extend(receipts, seconds))
            answered_at = self._clock()
        for message, receipt in zip(messages, receipts, strict=True):
            if receipt not in failed:
                note_extension(message, requested_at, answered_at, seconds)
        self._metrics.extended(len(messages) - len(failed))

    async def delete(self, messages: Sequence[HeldMessage]) -> None:
        """Delete messages that have landed, and hold them until then.

        What cannot be deleted before others may receive it is left: whoever does will find that it has landed.
        """
        self.deleting += len(messages)
        left, attempt = list(messages), 0
        try:
            while left:
                if attempt:
                    await asyncio.sleep(backoff(attempt - 1, DELETE_INITIAL_S, DELETE_MAX_S, self._random))
                left = await self._delete_once(left)
                attempt += 1
        finally:
            self._done(left)

    async def _delete_once(self, messages: Sequence[HeldMessage]) -> list[HeldMessage]:
        """Returns those that are worth another attempt."""
        receipts = [message.receipt for message in messages]
        failed = set(await self._source.delete(receipts))
        now = self._clock()
        done: list[HeldMessage] = []
        left: list[HeldMessage] = []
        for message, receipt in zip(messages, receipts, strict=True):
            if receipt in failed and message.is_hidden(now):
                left.append(message)
            else:
                self._metrics.not_deleted(receipt in failed)
                done.append(message)
        self._done(done)
        return left

    def _done(self, messages: Sequence[HeldMessage]) -> None:
        self.release(messages)
        self.deleting -= len(messages)
