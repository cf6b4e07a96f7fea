"""Sends events to a collector over HTTP, and remembers which of them it has accepted."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import asynccontextmanager
from itertools import islice

import aiohttp
from aiokafka import AIOKafkaConsumer

from tests.e2e.daemon import DEADLINE, Daemon
from tests.e2e.events import event_id, events, is_good
from tests.services.ports import HOST

BATCH = 10
SENDERS = 4
_AGAIN_S = 0.05


class Sender:
    """Sends events as SDKs do: the same batch again until it is answered with success."""

    def __init__(self, port: int, key: str) -> None:
        self.accepted: set[str] = set()  # ids of events that must become rows
        self.acknowledged: Counter[str] = Counter()  # requests, by what has their events
        self.repeated = 0  # requests that were sent again
        self.sent_again: set[str] = set()  # ids of their events
        self._url = f"http://{HOST}:{port}/v1/events?key={key}"
        self._grown = asyncio.Event()
        self._good_events = ((event_id(number), value) for number, _, value in events() if is_good(number))

    @asynccontextmanager
    async def sending(self) -> AsyncIterator[None]:
        """Send while the context is open; what is being sent then is still sent to its end."""
        stop = asyncio.Event()
        async with aiohttp.ClientSession() as session:
            tasks = [asyncio.create_task(self._send(session, stop)) for _ in range(SENDERS)]
            try:
                yield
                stop.set()
                await asyncio.wait_for(asyncio.gather(*tasks), DEADLINE)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)

    async def until_accepted(self, more: int, deadline: float = DEADLINE) -> None:
        """Wait until so many more events are accepted."""
        wanted = len(self.accepted) + more
        async with asyncio.timeout(deadline):
            while len(self.accepted) < wanted:
                self._grown.clear()
                await self._grown.wait()

    async def _send(self, session: aiohttp.ClientSession, stop: asyncio.Event) -> None:
        while not stop.is_set():
            batch = dict(islice(self._good_events, BATCH))
            while not await self._post(session, batch.values()):
                self.repeated += 1
                self.sent_again |= batch.keys()
                await asyncio.sleep(_AGAIN_S)
            self.accepted |= batch.keys()
            self._grown.set()

    async def _post(self, session: aiohttp.ClientSession, batch: Iterable[bytes]) -> bool:
        try:
            async with session.post(self._url, data=b"\n".join(batch)) as response:
                if response.status == 200:
                    self.acknowledged[response.headers["Ingestd-Ack"]] += 1
                return response.status == 200
        except (aiohttp.ClientError, ConnectionError):
            return False


async def until_ready(daemon: Daemon, deadline: float = DEADLINE) -> None:
    """Wait until a collector is ready: its status is not that of a daemon."""
    await _until_answers(daemon, {200}, deadline)


async def until_answers(daemon: Daemon, deadline: float = DEADLINE) -> None:
    """Wait until a collector says that it takes requests, whether or not it is ready."""
    await _until_answers(daemon, {200, 503}, deadline)


async def _until_answers(daemon: Daemon, codes: Collection[int], deadline: float) -> None:
    async with asyncio.timeout(deadline):
        while True:
            assert daemon.running, daemon.log_text()
            try:
                code, body = await daemon.get("/readyz")
            except OSError:  # it does not listen yet
                pass
            else:
                if code in codes and json.loads(body)["phase"] != "starting":
                    return
            await asyncio.sleep(_AGAIN_S)


async def event_ids_in(bootstrap: str, topic: str) -> list[str]:
    """The ids of all events in a topic."""
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        ends = await consumer.end_offsets(consumer.assignment())
        found: list[str] = []
        while any([await consumer.position(partition) < end for partition, end in ends.items()]):
            for records in (await consumer.getmany(timeout_ms=1000)).values():
                found += [json.loads(record.value)["event_id"] for record in records]
        return found
    finally:
        await consumer.stop()
