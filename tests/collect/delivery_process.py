"""A process that delivers events of some clients, and says which were answered; for tests that kill it.

The end of its input ends the traffic; the process ends when everything in the journal is forwarded.
"""

import asyncio
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path

import uvloop

from ingestd.collect.delivery import KafkaDelivery, Spool
from ingestd.collect.messages import Collected, UnavailableError
from ingestd.config.model import KafkaConfig
from ingestd.sources.journal.journal import Journal
from ingestd.sources.kafka.sender import KafkaSender

CLIENTS = 8
ACK_TIMEOUT_S = 2.0


async def client(delivery: KafkaDelivery, run: str, number: int, ended: asyncio.Event) -> None:
    """One event or three at a time, each after the answer to the former ones."""
    count = 0
    while not ended.is_set():
        names = [f"{run} {number} {count + at}" for at in range(1 + 2 * (count % 5 == 0))]
        count += len(names)
        events = [Collected(name.encode(), f"client {number}".encode()) for name in names]
        try:
            acknowledgement = await delivery.deliver("web", int(time.time() * 1000), events)
        except UnavailableError:
            continue
        for name in names:
            print(f"{acknowledgement},{name}", flush=True)  # noqa: T201 - the test reads it
        await asyncio.sleep(0.005)


async def main(bootstrap: str, topic: str, directory: str, run: str) -> None:
    async with AsyncExitStack() as stack:
        spool = None
        if directory != "-":
            spool = Spool(*(Journal(Path(directory, f"{name}.sqlite"), 64 << 20) for name in ("waiting", "refused")))
            for journal in (spool.waiting, spool.refused):
                await journal.open()  # type: ignore[attr-defined]  # the port has no life
                stack.push_async_callback(journal.close)  # type: ignore[attr-defined]
        delivery = KafkaDelivery(KafkaSender(KafkaConfig(bootstrap_servers=(bootstrap,)), topic), ACK_TIMEOUT_S, spool)
        await delivery.start()
        stack.push_async_callback(delivery.stop)
        ended = asyncio.Event()
        clients = [asyncio.create_task(client(delivery, run, number, ended)) for number in range(CLIENTS)]
        await asyncio.to_thread(sys.stdin.read)
        ended.set()
        await asyncio.gather(*clients)
        while delivery.waiting:  # noqa: ASYNC110 - nobody else waits for it
            await asyncio.sleep(0.01)


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
