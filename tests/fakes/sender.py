"""A sender to a topic in memory, whose broker can be slow, away, or lose its answers."""

import asyncio
from collections.abc import Callable, Sequence

from ingestd.core.errors import SourceError
from ingestd.core.records import Refusal, UnsentRecord
from ingestd.sources.kafka.sending import Entry, Sending


class MemorySender:
    """One batch is on its way at a time, as to a topic with one partition.

    While the broker is away, a batch on its way waits and goes on when it is back. `latency_s` gives the time to and
    from the broker. `refuses` tells which records the topic does not take.
    """

    def __init__(
        self, latency_s: Callable[[], float] = lambda: 0.002, refuses: Callable[[UnsentRecord], bool] | None = None
    ) -> None:
        self.topic: list[UnsentRecord] = []
        self._back = asyncio.Event()
        self._back.set()
        self.notices = True  # `error` tells that the broker is away
        self.error: str | None = None
        self.full = False
        self.too_large = True
        self.latency_s = latency_s
        self.refuses = refuses or (lambda _: False)
        self._queue: list[Entry] = []
        self._sent: list[Entry] = []
        self._submitted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self, timeout_s: float) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        for entry in self._sent + self._queue:
            entry.sending.fail(SourceError("stopped"))

    def submit(self, records: Sequence[UnsentRecord]) -> Sending:
        if self.full:
            raise SourceError("too many are unacknowledged")
        sending = Sending(records, 0, lambda _: None)
        self._queue += [Entry(0, sending, at) for at in range(len(records))]
        self._submitted.set()
        return sending

    def set_away(self, *, away: bool) -> None:
        if away:
            self._back.clear()
        else:
            self._back.set()
        self.error = "away" if away and self.notices else None

    async def _run(self) -> None:
        while True:
            queue = [it for it in self._queue if it.sending.is_open(it.at)]
            self._sent, self._queue = queue[:50], queue[50:]
            if not (batch := self._sent):
                self._submitted.clear()
                await self._submitted.wait()
                continue
            await self._travel()
            taken = [entry for entry in batch if not self.refuses(entry.record)]
            self.topic += [entry.record for entry in taken]
            await self._travel()
            for entry in batch:
                if entry in taken:
                    entry.sending.acknowledge(entry.at)
                else:
                    entry.sending.refuse(entry.at, Refusal("it is too large", self.too_large))

    async def _travel(self) -> None:
        await asyncio.sleep(self.latency_s())
        await self._back.wait()
