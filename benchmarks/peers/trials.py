"""What becomes of the rows: after SIGKILL in the middle, and of records that are hard."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice

import msgspec
from aiokafka import AIOKafkaProducer

from benchmarks.peers import hard
from benchmarks.peers.counting import Count, Loader, count, ids, lines
from benchmarks.peers.deadly import DeadlyProxy
from benchmarks.peers.running import Failed, Ground, Run, running
from benchmarks.peers.systems import System
from benchmarks.rig.fill import Load, events
from benchmarks.rig.services import create
from tests.services.ports import HOST, free_port

PARTITIONS = 6
_RATE = 6000  # events a second, so that files are closed by time as they are in a live system
_IN_A_BATCH = 500
_MOST = 1_800_000  # events
_BATCH_BYTES = 500_000
_FLUSH_S = 1.0
_FILES_IN_A_LIFE = 4
_POLL = 0.01
_NEXT_FILES_WITHIN = 30.0
_STILL = 12.0  # seconds without progress until nothing is expected any more
_ROWS = 50_000


class Killed(msgspec.Struct, kw_only=True):
    """Counted in the store at the end, and as loaders saw it that looked after each kill and at the end."""

    system: str
    events: int
    kills: int
    store: Count
    by_name: Count
    by_version: Count
    rewritten: int  # files that changed after they were there


class Tried(msgspec.Struct, kw_only=True):
    """What became of each kind of hard record, in words, by its key."""

    system: str
    outcomes: dict[str, str]


# -- SIGKILL


async def kill(system: System, ground: Ground, topic: str, times: int) -> Killed:
    """While events come, kill the system when one of its files is about to be taken, or was, and start it again.

    The topic is made here. Failed where a system does not come to its next file.
    """
    await create(ground.services.bootstrap, topic, PARTITIONS)
    loader, port = Loader(), free_port()
    async with (
        DeadlyProxy(port, ground.services.store.port) as proxy,
        running(system, ground, topic, PARTITIONS, rows=_ROWS, flush_s=_FLUSH_S, s3=f"http://{HOST}:{port}") as run,
    ):
        run.start()
        await run.joined()
        enough = asyncio.Event()
        producing = asyncio.create_task(_produce(ground.services.bootstrap, topic, enough))
        try:
            for life in range(times):
                proxy.kills(_FILES_IN_A_LIFE, run.kill, applied=life % 2 == 0)
                await _until_dead(run)
                await run.evict()
                loader.look(await run.files())
                run.start()
            enough.set()
            number = await producing
            await _until_still(run, number)
        finally:
            producing.cancel()
            with suppress(asyncio.CancelledError):
                await producing
        await run.end()
        files = await run.files()
    loader.look(files)
    expected = set(_ids(number))
    return Killed(
        system=system.key,
        events=number,
        kills=times,
        store=count(expected, (it for body in files.values() for it in ids(body))),
        by_name=count(expected, loader.by_name),
        by_version=count(expected, loader.by_version),
        rewritten=loader.rewritten,
    )


def _values(number: int) -> Iterator[bytes]:
    return islice(events(Load(events=_MOST)), number)


def _ids(number: int) -> list[bytes]:
    return ids(b"\n".join(_values(number)))


async def _produce(bootstrap: str, topic: str, enough: asyncio.Event) -> int:
    """Events at a steady rate, to the partitions in turn, until it is enough; how many it were."""
    number, began = 0, time.monotonic()
    values = _values(_MOST)
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks=1, max_batch_size=_BATCH_BYTES) as producer:
        while number < _MOST and not enough.is_set():
            builder, now = producer.create_batch(), int(time.time() * 1000)
            for value in islice(values, _IN_A_BATCH):
                assert builder.append(timestamp=now, key=None, value=value) is not None
            partition = number // _IN_A_BATCH % PARTITIONS
            await (await producer.send_batch(builder, topic, partition=partition))
            number += _IN_A_BATCH
            await asyncio.sleep(max(0.0, began + number / _RATE - time.monotonic()))
    return number


async def _until_dead(run: Run) -> None:
    limit = time.monotonic() + _NEXT_FILES_WITHIN
    while run.running:
        if time.monotonic() > limit:
            raise Failed(f"has put nothing in {_NEXT_FILES_WITHIN:g} s; the end of its log: {run.log_end()}")
        await asyncio.sleep(_POLL)


async def _until_still(run: Run, wanted: int) -> bool:
    """Wait until the group has committed so many records, or ends, or gets nowhere; whether it has."""
    done, limit = -1, 0.0
    while run.running:
        if (now := await run.committed()) >= wanted:
            return True
        if now != done:
            done, limit = now, time.monotonic() + _STILL
        if time.monotonic() > limit:
            return False
        await asyncio.sleep(0.1)
    return False


# -- hard records


async def endure(system: System, ground: Ground, topic: str) -> Tried:
    """All kinds at once, one to a partition; where not everything comes through, one after the other."""
    kinds = hard.KINDS
    outcomes = await _endure(system, ground, topic, kinds)
    if "stops" in outcomes.values():
        outcomes = {}
        for kind in kinds:
            outcomes |= await _endure(system, ground, f"{topic}-{kind.key}", [kind])
    return Tried(system=system.key, outcomes=outcomes)


async def _endure(system: System, ground: Ground, topic: str, kinds: Sequence[hard.Kind]) -> dict[str, str]:
    total = await _write(ground.services.bootstrap, topic, kinds)
    async with running(system, ground, topic, len(kinds), rows=_ROWS, flush_s=_FLUSH_S) as run:
        run.start()
        with suppress(Failed):  # at the first record already: it is seen by what is missing
            await run.joined()
        await _until_still(run, total)
        await run.end()
        files = await run.files()
    rows = [line for key, body in files.items() if not _is_aside(key) for line in lines(body)]
    aside = [line for key, body in files.items() if _is_aside(key) for line in lines(body)]
    seen = set(ids(b"\n".join(rows)))
    return {kind.key: hard.outcome(kind, rows, aside) if hard.ordinary(kind) <= seen else "stops" for kind in kinds}


def _is_aside(key: str) -> bool:
    return "/quarantine/" in key


async def _write(bootstrap: str, topic: str, kinds: Sequence[hard.Kind]) -> int:
    """How many records it were."""
    await create(bootstrap, topic, len(kinds))
    total = 0
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=20) as producer:
        for partition, kind in enumerate(kinds):
            for value in hard.records(kind):
                await producer.send(topic, value, key=kind.key.encode(), partition=partition)
                total += 1
        await producer.flush()
    return total
