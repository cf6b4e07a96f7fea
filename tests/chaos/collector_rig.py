"""A collector under load, and what becomes of the events that it has accepted: each must be a row in the store."""

import asyncio
import json
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from aiokafka import AIOKafkaConsumer

from tests.chaos.rig import bucket_name
from tests.chaos.services import Services
from tests.e2e.daemon import DEADLINE, Daemon, credentials, settings
from tests.e2e.http_sender import Sender, until_answers
from tests.e2e.ledger import Tally, read
from tests.services.kafka import create_topic, topic_admin
from tests.services.ports import free_port

PARTITIONS = 2
_POLL = 0.1
_SOURCE = {"collect.sources.shop.kind": "native", "collect.sources.shop.rate": "1000000/s"}


class CollectorRig:
    """One collector, and behind Kafka one daemon; both write into a bucket of their own."""

    def __init__(self, services: Services, topic: str, directory: Path, *, in_front_of_kafka: bool, long: bool) -> None:
        self.kafka, self.store = services.kafka, services.store
        self.topic, self.bucket = topic, bucket_name(topic)
        self.long = long
        self.folder = directory / "journal"  # of the journal
        self.until_end = AsyncExitStack()  # what is to be undone at the end
        port = free_port()
        self.sender = Sender(port, "shop")
        self._in_front = in_front_of_kafka
        self._keys = {
            **settings(services.kafka.bootstrap, services.store, self.bucket, topic),
            **_SOURCE,
            "batch.interval": "500ms",
            "sink.retry_max": "1s",
            "collect.port": str(port),
            "collect.topic": topic,
            "collect.ack_timeout": "2s",
            "collect.journal": str(self.folder / "journal.sqlite"),
        }
        self._environment = credentials(services.store)
        program = ("-m", "ingestd", "collect") if in_front_of_kafka else ("-m", "ingestd")
        more = {} if in_front_of_kafka else {"source": "collector"}
        self.collector = Daemon("collector", directory, {**self._keys, **more}, self._environment, program)
        self.daemon = Daemon("daemon", directory, {**self._keys, "collect.journal": ""}, self._environment)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Send events while the context is open. At its end the collector and the daemon have landed all of them."""
        await self.start()
        if self._in_front:
            self.daemon.start()
        async with self.sender.sending():
            await self.sender.until_accepted(200)
            yield
        await self._end()

    async def start(self) -> None:
        """Start the collector and wait until it takes requests."""
        self.collector.start()
        await until_answers(self.collector)

    async def restart(self) -> None:
        """kill -9, and start again."""
        self.collector.kill()
        await self.start()

    async def lasts(self, seconds: float = 30.0) -> None:
        """How long a fault goes on after it was felt: so many seconds in the long form."""
        if self.long:
            await asyncio.sleep(seconds)

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for what the sender has seen."""
        limit = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < limit, f"after {DEADLINE:g} s still not: {what}"
            await asyncio.sleep(_POLL)

    async def recovered(self) -> float:
        """Seconds until events are accepted again as before."""
        began = time.monotonic()
        await self.sender.until_accepted(300)
        return time.monotonic() - began

    async def _end(self) -> None:
        """The journal is empty, and what was in it has landed."""
        await self._until_journal_is_empty()
        if self._in_front:
            self.collector.signal(signal.SIGTERM)
            assert await self.collector.ended() == 0, "the collector"
            wanted = sum(map(len, (await self.records()).values()))
            await self.daemon.until(lambda it: it.totals.in_flight == 0 and it.totals.consumed >= wanted)
            assert await self.daemon.stop() == 0, "the daemon"
        else:
            assert await self.collector.stop() == 0, "the collector"

    async def _until_journal_is_empty(self) -> None:
        async with asyncio.timeout(DEADLINE):
            while await self._waiting():  # noqa: ASYNC110 - the collector tells only who asks
                await asyncio.sleep(_POLL)

    async def _waiting(self) -> int:
        """The number of events in the journal."""
        journal: dict[str, int] = json.loads((await self.collector.get("/status"))[1])["collector"]["journal"]
        return journal["records"]

    async def records(self) -> Mapping[int, set[int]]:
        """The offsets of all events, by partition: in the topic."""
        found: dict[int, set[int]] = {partition: set() for partition in range(PARTITIONS)}
        consumer = AIOKafkaConsumer(self.topic, bootstrap_servers=self.kafka.bootstrap, auto_offset_reset="earliest")
        await consumer.start()
        try:
            ends = await consumer.end_offsets(consumer.assignment())
            while any([await consumer.position(partition) < end for partition, end in ends.items()]):
                for place, records in (await consumer.getmany(timeout_ms=1000)).items():
                    found[place.partition] |= {record.offset for record in records}
        finally:
            await consumer.stop()
        return found

    async def tally(self) -> tuple[Tally, str]:
        """What is there against what was accepted, and what came twice."""
        ledger = await asyncio.to_thread(read, self.store, self.bucket, self.topic)
        if self._in_front:
            records: Mapping[int, set[int]] = await self.records()
        else:  # the journal's offsets have no gap
            records = {0: set(range(max((link.end for link in ledger.chains[0]), default=0)))}
        tally, sender = ledger.tally(records), self.sender
        rows = Counter(ledger.event_ids)
        missing = sender.accepted - rows.keys()
        tally.lost += len(missing)
        tally.demand(not missing, f"{len(missing)} events were answered 200 and are in no row")
        tally.demand(rows.keys() <= sender.accepted, "events are in rows that were never sent to their end")
        twice = {event for event, count in rows.items() if count > 1}
        if not self._in_front:
            tally.doubled += len(twice - sender.sent_again)
            tally.demand(twice <= sender.sent_again, "events are in two rows that were sent once")
        return tally, f"{len(sender.accepted):,} answered 200; {len(twice):,} came twice, with the same event_id"

    def remove(self) -> None:
        """Kill what runs."""
        self.collector.kill()
        self.daemon.kill()


@asynccontextmanager
async def collector_rig(
    services: Services, name: str, directory: Path, *, in_front_of_kafka: bool, long: bool
) -> AsyncIterator[CollectorRig]:
    """A rig on a topic and a bucket of its own; both are removed at the end, and the services run again."""
    topic = f"{name}_{time.time_ns():x}"
    store, broker = services.store, services.kafka.bootstrap
    async with topic_admin(broker) as admin:
        await create_topic(admin, topic, PARTITIONS)
    await asyncio.to_thread(store.create_bucket, bucket_name(topic))
    rig = CollectorRig(services, topic, directory, in_front_of_kafka=in_front_of_kafka, long=long)
    try:
        yield rig
    finally:
        rig.remove()
        await rig.until_end.aclose()
        if not services.kafka.running:
            await asyncio.to_thread(services.kafka.start)
        await asyncio.to_thread(store.delete_bucket, bucket_name(topic))
        async with topic_admin(broker) as admin:
            await admin.delete_topics([topic])
