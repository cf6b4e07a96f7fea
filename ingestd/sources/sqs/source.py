"""The SQS source: receives messages of one queue, extends and deletes them.

A receive request that is cancelled goes on at SQS for as long as it waits: a message that it is answered with is hidden
for the whole visibility, has used up a receipt, and nobody knows it. So the end of the stream cancels none: what the
last requests bring is received like the rest. Handed back it would be received once more, by the next request that
still waits.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from typing import TypeVar

from ingestd.config.model import SqsConfig
from ingestd.core.backoff import backoff
from ingestd.core.errors import SourceError
from ingestd.ops.logs import Outage
from ingestd.sources.error_state import ErrorState
from ingestd.sources.sqs.address import queue_address
from ingestd.sources.sqs.answers import BatchAnswer, ReceivedMessage
from ingestd.sources.sqs.client import BATCHES_AT_ONCE, PER_BATCH, SqsClient
from ingestd.sources.sqs.envelope import unwrap
from ingestd.sources.sqs.errors import NO_QUEUE, OVER_LIMIT, SqsError
from ingestd.sources.sqs.oldest import OldestMessage
from ingestd.sources.sqs.port import Depth, Message, clock

log = logging.getLogger(__name__)

T = TypeVar("T")

_RETRY_INITIAL_S, _RETRY_MAX_S = 0.2, 10.0
_SILENT_ATTEMPTS = 2  # transient failures in a row that are nothing to tell of, as in AWS's own clients
_LAST_ANSWER_S = 2.0  # for an answer at the end of the stream, beside the wait; later, the connection is dead
_LOOK_UP, _RECEIVE, _MD5 = "look up", "receive", "MD5"


class SqsSource:
    """One queue. The promises of `ingestd.sources.sqs.port.QueueSource` hold.

    ``ConfigError`` where the configuration names no queue.
    """

    def __init__(self, config: SqsConfig) -> None:
        self._config = config
        self._client = SqsClient(config, queue_address(config))
        self._errors = ErrorState()
        self._oldest = OldestMessage()
        self._depth_outage = Outage()
        self._arn = ""
        self._finished = asyncio.Event()
        self._requests: set[asyncio.Task[list[ReceivedMessage]]] = set()
        self._batches = asyncio.Semaphore(BATCHES_AT_ONCE)
        self._random = random.Random()

    @property
    def source_id(self) -> str:
        return self._arn

    @property
    def queue(self) -> str:
        return self._client.address.name

    @property
    def error(self) -> str | None:
        return self._errors.error

    @property
    def error_since(self) -> float | None:
        return self._errors.since

    async def start(self) -> None:
        attempt = 0
        while True:
            try:
                self._arn = (await self._client.attributes()).arn
            except SqsError as error:
                if error.code in NO_QUEUE:
                    raise
                self._failed(_LOOK_UP, error, attempt)
                await asyncio.sleep(self._delay(attempt))
                attempt += 1
            else:
                self._errors.end(_LOOK_UP)
                return

    async def stop(self) -> None:
        await self._client.close()

    async def rebuild(self) -> None:
        await self._client.close()

    def finish(self) -> None:
        if not self._finished.is_set():
            self._finished.set()
            answered_in = self._client.wait_s + _LAST_ANSWER_S
            asyncio.get_running_loop().call_later(answered_in, self._cancel_requests)

    def _cancel_requests(self) -> None:
        for request in self._requests:
            request.cancel()

    async def receive(self) -> Sequence[Message] | None:
        attempt = 0
        while not self._finished.is_set():
            requested_at = clock()
            try:
                found = await self._request(self._client.receive())
            except SqsError as error:
                self._failed(_RECEIVE, error, attempt)
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._finished.wait(), self._delay(attempt))
                attempt += 1
            else:
                if found is None:
                    return None
                self._errors.end(_RECEIVE)
                return self._messages(found, requested_at)
        return None

    async def _request(self, call: Coroutine[object, object, list[ReceivedMessage]]) -> list[ReceivedMessage] | None:
        """The answer; None where it did not come in time after the end of the stream."""
        request = asyncio.create_task(call)
        self._requests.add(request)
        try:
            await asyncio.wait([request])
        finally:
            self._requests.discard(request)
            request.cancel()
        return None if request.cancelled() else request.result()

    def _messages(self, found: Sequence[ReceivedMessage], requested_at: float) -> list[Message]:
        self._oldest.note(clock(), time.time(), [it.attributes.sent_timestamp for it in found])
        messages = []
        corrupt = ""
        for it in found:
            if (value := it.value()) is None:
                corrupt = it.message_id
            else:
                messages.append(self._message(it, value, requested_at))
        if corrupt:
            what = f"message {corrupt} of queue {self.queue} has another MD5 than it was sent with"
            self._errors.begin(_MD5, f"{what}; it is received again", level=logging.ERROR)
        elif found:
            self._errors.end(_MD5)
        return messages

    def _message(self, it: ReceivedMessage, value: bytes, requested_at: float) -> Message:
        content = unwrap(value, it.headers(), self._config.envelope)
        attributes = it.attributes
        group = attributes.message_group_id or None
        return Message(
            message_id=it.message_id,
            receipt=it.receipt_handle,
            receive_count=attributes.approximate_receive_count,
            first_received_ms=attributes.approximate_first_receive_timestamp,
            timestamp=attributes.sent_timestamp,
            requested_at=requested_at,
            value=content.value,
            key=group.encode(errors="surrogatepass") if group is not None else None,
            headers=content.headers,
            group=group if self._client.address.fifo else None,
            refused=content.refused,
        )

    async def extend(self, receipts: Sequence[str], seconds: int) -> Sequence[str]:
        return await self._in_batches("extend", receipts, lambda batch: self._client.extend(batch, seconds))

    async def delete(self, receipts: Sequence[str]) -> Sequence[str]:
        return await self._in_batches("delete", receipts, self._client.delete)

    async def _in_batches(
        self, name: str, receipts: Sequence[str], call: Callable[[Sequence[str]], Awaitable[BatchAnswer]]
    ) -> list[str]:
        """Call with ten at a time. The receipts for which it failed, in the order in which that was known."""
        batches = (receipts[begin : begin + PER_BATCH] for begin in range(0, len(receipts), PER_BATCH))
        failed: list[str] = []

        async def take_turns(batches: Iterator[Sequence[str]]) -> None:
            for batch in batches:
                failed.extend(await self._one_batch(name, batch, call))

        workers = min(BATCHES_AT_ONCE, -(-len(receipts) // PER_BATCH))
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(take_turns(batches))
        return failed

    async def _one_batch(
        self, name: str, receipts: Sequence[str], call: Callable[[Sequence[str]], Awaitable[BatchAnswer]]
    ) -> Sequence[str]:
        try:
            async with self._batches:
                answer = await call(receipts)
        except SourceError as error:
            self._errors.begin(name, str(error), level=_level(error))
            return receipts
        done = {entry.id for entry in answer.successful}
        failed = [receipt for number, receipt in enumerate(receipts) if str(number) not in done]
        if failed:
            why = next((f"{entry.code}: {entry.message}" for entry in answer.failed), "no answer for it")
            said = f"cannot {name} {len(failed)} of {len(receipts)} messages of queue {self.queue}, such as: {why}"
            self._errors.begin(name, said)
        else:
            self._errors.end(name)
        return failed

    async def depth(self) -> Depth | None:
        try:
            found = await self._client.attributes()
        except SqsError as error:
            if self._depth_outage.begin(clock()):
                log.warning("the depth of the queue is not known: %s", error)
            return None
        if ended := self._depth_outage.end(clock()):
            log.info("the depth of the queue is known again %s", ended)
        return Depth(found.visible, found.in_flight, self._oldest.age_s(clock()))

    def _failed(self, name: str, error: SqsError, attempt: int) -> None:
        if not error.transient or error.code == OVER_LIMIT or attempt >= _SILENT_ATTEMPTS:
            self._errors.begin(name, str(error), level=_level(error))

    def _delay(self, attempt: int) -> float:
        return backoff(attempt, _RETRY_INITIAL_S, _RETRY_MAX_S, self._random)


def _level(error: SourceError) -> int:
    return logging.WARNING if isinstance(error, SqsError) and error.transient else logging.ERROR
