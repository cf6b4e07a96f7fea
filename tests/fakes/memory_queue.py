"""A queue in memory that behaves as SQS does: visibility, receive counts, groups, dead letters, limits, duplicates."""

import asyncio
import hashlib
import uuid
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from ingestd.core.errors import SourceError
from ingestd.sources.sqs.port import MAX_IN_FLIGHT, MAX_VISIBILITY_S, Depth, Message

CLOCK_S = 1e-6  # a timer may end a little before its time
PER_REQUEST = 10  # messages of one receive, extend or delete


@dataclass(eq=False)
class Entry:
    """A message as the queue keeps it."""

    message_id: str
    value: bytes
    group: str | None
    sent_at: float
    receipts: list[str] = field(default_factory=list)
    first_received_at: float | None = None
    received_at: float = 0.0
    visible_at: float = 0.0


class MemoryQueue:
    """The messages; it outlives the connections to it. Times are those of the event loop, from `epoch` on."""

    def __init__(
        self,
        name: str = "events",
        *,
        max_receive_count: int | None = None,
        max_in_flight: int = MAX_IN_FLIGHT,
        epoch: float = 1.8e9,
        receives_twice: Callable[[], bool] = lambda: False,
    ) -> None:
        """`receives_twice`: whether a message that is received is not hidden this time, as a standard queue may do."""
        self.name = name
        self.fifo = name.endswith(".fifo")
        self.arn = f"arn:aws:sqs:eu-central-1:000000000000:{name}"
        self.entries: dict[str, Entry] = {}  # by message id, in the order of sending
        self.dead: list[Entry] = []
        self.deleted: set[str] = set()
        self.twice = 0  # messages that were not hidden
        self._max_receive_count = max_receive_count
        self._max_in_flight = max_in_flight
        self._epoch = epoch
        self._receives_twice = receives_twice
        self._numbers = 0
        self._changed = asyncio.Event()
        self._requests: set[asyncio.Task[list[Message]]] = set()

    def send(self, value: bytes, group: str | None = None, message_id: str | None = None) -> str:
        """Send a message. Returns its id."""
        self._numbers += 1
        if message_id is None:
            message_id = str(uuid.UUID(bytes=hashlib.sha256(f"{self.name} {self._numbers}".encode()).digest()[:16]))
        self.entries[message_id] = Entry(message_id, value, group, self._now())
        self._change()
        return message_id

    async def long_poll(self, visibility: float, requested_at: float, wait: float) -> list[Message]:
        """The answer to a request that waits for a message. One that is cancelled goes on, and its answer is lost."""
        request = asyncio.create_task(self._long_poll(visibility, requested_at, wait))
        self._requests.add(request)
        request.add_done_callback(self._requests.discard)
        return await asyncio.shield(request)

    async def _long_poll(self, visibility: float, requested_at: float, wait: float) -> list[Message]:
        until = self._now() + wait
        while not (found := self.receive(visibility, requested_at)) and self._now() < until:
            await self._wait_for_change(until)
        return found

    def receive(self, visibility: float, requested_at: float, count: int = PER_REQUEST) -> list[Message]:
        """Hand out messages that are visible. ``SourceError`` (OverLimit) where a standard queue has handed out all."""
        now = self._now()
        hidden = [entry for entry in self.entries.values() if entry.receipts and entry.visible_at > now]
        if len(hidden) >= self._max_in_flight:
            if self.fifo:
                return []
            raise SourceError("OverLimit: too many messages are in flight")
        blocked = {entry.group for entry in hidden} if self.fifo else set()
        found: list[Message] = []
        for entry in list(self.entries.values()):
            if entry.visible_at > now or (self.fifo and entry.group in blocked) or len(found) == count:
                continue
            if self._max_receive_count is not None and len(entry.receipts) >= self._max_receive_count:
                self.dead.append(self.entries.pop(entry.message_id))
                continue
            found.append(self._hand_out(entry, now, visibility, requested_at))
        return found

    def _hand_out(self, entry: Entry, now: float, visibility: float, requested_at: float) -> Message:
        entry.receipts.append(f"{entry.message_id}#{len(entry.receipts)}")
        if entry.first_received_at is None:
            entry.first_received_at = now
        if not self.fifo and self._receives_twice():
            self.twice += 1
        else:
            entry.received_at, entry.visible_at = now, now + visibility
        return Message(
            message_id=entry.message_id,
            receipt=entry.receipts[-1],
            receive_count=len(entry.receipts),
            first_received_ms=int((self._epoch + entry.first_received_at) * 1000),
            timestamp=int((self._epoch + entry.sent_at) * 1000),
            requested_at=requested_at,
            value=entry.value,
            key=entry.group.encode() if entry.group is not None else None,
            group=entry.group if self.fifo else None,
        )

    def extend(self, receipt: str, seconds: float) -> bool:
        """Whether it took. Through an old receipt it has no effect, and says that it has."""
        entry, now = self._entry(receipt), self._now()
        if entry is None or entry.visible_at <= now:
            return False
        if receipt != entry.receipts[-1]:
            return not self.fifo
        if now + seconds > entry.received_at + MAX_VISIBILITY_S:
            return False
        entry.visible_at = now + seconds
        if not seconds:
            self._change()  # who waits for a message has one
        return True

    def delete(self, receipt: str) -> bool:
        """Whether it took. Through an old receipt it has no effect, and a standard queue says that it has."""
        entry = self._entry(receipt)
        if entry is None:
            return receipt.partition("#")[0] in self.deleted
        if receipt != entry.receipts[-1]:
            return not self.fifo
        if self.fifo and entry.visible_at <= self._now():
            return False
        del self.entries[entry.message_id]
        self.deleted.add(entry.message_id)
        self._change()  # a group may go on
        return True

    async def _wait_for_change(self, until: float) -> None:
        """Wait until there may be a message to receive, at most until then."""
        now = self._now()
        hidden = [entry.visible_at for entry in self.entries.values() if entry.visible_at > now]
        with suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), min([until, *hidden]) - now + CLOCK_S)

    def _change(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def depth(self) -> Depth:
        now = self._now()
        hidden = sum(entry.visible_at > now for entry in self.entries.values())
        oldest = min((entry.sent_at for entry in self.entries.values()), default=None)
        return Depth(len(self.entries) - hidden, hidden, now - oldest if oldest is not None else None)

    def _entry(self, receipt: str) -> Entry | None:
        return self.entries.get(receipt.partition("#")[0])

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


async def _no_latency(_: str) -> None:
    await asyncio.sleep(0)


class MemoryQueueSource:
    """One connection. `travel` is awaited with the operation's name before and after it: a fault raises there."""

    def __init__(
        self,
        memory: MemoryQueue,
        *,
        visibility: float = 30.0,
        wait: float = 20.0,
        travel: Callable[[str], Awaitable[None]] = _no_latency,
    ) -> None:
        self.memory = memory
        self.rebuilt = 0
        self._visibility = visibility
        self._wait = wait
        self._travel = travel
        self._finished = asyncio.Event()
        self._error: str | None = None
        self._error_since: float | None = None

    @property
    def source_id(self) -> str:
        return self.memory.arn

    @property
    def queue(self) -> str:
        return self.memory.name

    @property
    def error(self) -> str | None:
        return self._error

    @property
    def error_since(self) -> float | None:
        return self._error_since

    async def start(self) -> None:
        await asyncio.sleep(0)

    async def stop(self) -> None:
        await asyncio.sleep(0)

    def finish(self) -> None:
        self._finished.set()

    async def receive(self) -> Sequence[Message] | None:
        """Waits for a message for as long as a long poll does, also where the stream ends meanwhile."""
        while not self._finished.is_set():
            try:
                found = await self._receive_once()
            except SourceError as error:
                if self._error is None:
                    self._error_since = _now()
                self._error = str(error)
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._finished.wait(), 1.0)
            else:
                self._error = self._error_since = None
                return found
        return None

    async def _receive_once(self) -> list[Message]:
        requested_at = _now()
        await self._travel("receive")
        found = await self.memory.long_poll(self._visibility, requested_at, self._wait)
        await self._travel("received")
        return found

    async def extend(self, receipts: Sequence[str], seconds: int) -> Sequence[str]:
        return await self._batches("extend", receipts, lambda receipt: self.memory.extend(receipt, seconds))

    async def delete(self, receipts: Sequence[str]) -> Sequence[str]:
        return await self._batches("delete", receipts, self.memory.delete)

    async def _batches(self, operation: str, receipts: Sequence[str], act: Callable[[str], bool]) -> list[str]:
        failed: list[str] = []
        for begin in range(0, len(receipts), PER_REQUEST):
            batch = receipts[begin : begin + PER_REQUEST]
            try:
                await self._travel(operation)
                refused = [receipt for receipt in batch if not act(receipt)]
                await self._travel(f"{operation}d")
            except SourceError:
                refused = list(batch)
            failed += refused
        return failed

    async def rebuild(self) -> None:
        self.rebuilt += 1
        await asyncio.sleep(0)

    async def depth(self) -> Depth | None:
        try:
            await self._travel("depth")
        except SourceError:
            return None
        return self.memory.depth()


def _now() -> float:
    return asyncio.get_running_loop().time()
