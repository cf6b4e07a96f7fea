"""A writer of transactions, of which one in three is aborted."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

from aiokafka import AIOKafkaProducer

from tests.e2e.events import Load, event_id, is_good

_ABORTED = 1 / 3  # of all transactions


class TransactionalLoad(Load):
    """Goes on where another writer has stopped. `records` and `ids` are of what was committed."""

    def __init__(self, producer: AIOKafkaProducer, former: Load) -> None:
        super().__init__(producer, former.topic, len(former.records), first=1_000_000)
        self._offsets = {number: list(offsets) for number, offsets in former.records.items()}
        self.records, self.ids = dict(self._offsets), former.ids
        self.committed = self.aborted = 0
        self._rng = Random(former.topic)

    async def write(self, total: int) -> None:
        """Write one transaction, into one partition."""
        partition, lasting = next(self._turn), self._rng.random() > _ABORTED
        await self._producer.begin_transaction()
        written = [next(self._events) for _ in range(total)]
        sent = [
            await self._producer.send(self.topic, value, key, partition=partition) for _number, key, value in written
        ]
        placed = await asyncio.gather(*sent)
        if not lasting:
            await self._producer.abort_transaction()
            self.aborted += 1
            return
        await self._producer.commit_transaction()
        self.committed += 1
        self._offsets[partition] += [record.offset for record in placed]
        self.ids |= {event_id(number) for number, _, _ in written if is_good(number)}


@asynccontextmanager
async def transactions_after(former: Load, bootstrap: str, transactional_id: str) -> AsyncIterator[TransactionalLoad]:
    """Such a writer; `former` must not write any more."""
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap,
        transactional_id=transactional_id,
        request_timeout_ms=10_000,
        compression_type="lz4",
    )
    await producer.start()
    try:
        yield TransactionalLoad(producer, former)
    finally:
        await producer.stop()
