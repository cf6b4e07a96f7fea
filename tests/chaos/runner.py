"""Runs one fault: daemons under load, the fault, recovery, and then every row is counted."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from random import Random

from aiokafka.errors import KafkaError

from tests.chaos.fault import Fault
from tests.chaos.librdkafka import read_offsets
from tests.chaos.rig import Rig, bucket_name
from tests.chaos.services import Services
from tests.e2e.events import load
from tests.e2e.group import caught_up, ends
from tests.e2e.ledger import Ledger, Tally
from tests.services.kafka import create_topic, topic_admin

_LONGEST_SHORT, _LONGEST = 240.0, 1800.0  # seconds that a run may take
# For one answer, of a broker that may be frozen; what it has no leader for is given up after as long.
_PATIENCE = {"request_timeout_ms": 10_000}
_FAILURES = (AssertionError, KafkaError, OSError)


@dataclass
class Result:
    """What became of one fault. All is well when there are no problems."""

    name: str
    about: str
    seed: int
    date: str = field(default_factory=lambda: datetime.now(UTC).date().isoformat())
    outcome: str = ""
    recovery: float | None = None  # seconds
    seconds: float = 0.0  # of the whole run
    tally: Tally | None = None  # None where it did not come to counting
    problems: list[str] = field(default_factory=list)


async def run(services: Services, fault: Fault, directory: Path, *, seed: int, long: bool) -> Result:
    """Inject one fault into a group of daemons of its own, on a topic and a bucket of its own."""
    result = Result(fault.name, fault.about, seed)
    began = time.monotonic()
    try:
        async with asyncio.timeout(_LONGEST if long else _LONGEST_SHORT), _rig(services, fault, directory, long) as rig:
            try:
                await _hurt(rig, fault, result)
                await caught_up(rig.kafka.bootstrap, rig.topic, rig.topic, ends(rig.load.records))
                await _stop(rig, result)
            except* _FAILURES as group:
                result.problems += in_words(group)
            for daemon in rig.daemons:
                daemon.kill()
            await asyncio.to_thread(_start, services)
            ledger = await asyncio.to_thread(rig.read)
            result.tally = tally = ledger.tally(rig.records, rig.ids)
            if fault.brokers > 1:
                await asyncio.to_thread(_count_again, rig, ledger, tally)
            result.problems += tally.problems
    except* _FAILURES as group:
        result.problems += in_words(group)
    result.seconds = time.monotonic() - began
    return result


def check(result: Result) -> None:
    """That nothing was lost or doubled, and everything recovered."""
    assert not result.problems, "\n".join([result.outcome, *result.problems])
    assert result.recovery is not None
    assert result.tally is not None
    assert result.tally.records > 0
    assert (result.tally.lost, result.tally.doubled) == (0, 0)


async def _hurt(rig: Rig, fault: Fault, result: Result) -> None:
    """Events are written from before the fault until all that was written before its end has landed."""
    quiet = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(rig.write(quiet.is_set), name="load")
        if fault.started:
            for number in range(fault.daemons):
                rig.daemon(f"daemon-{number}")
            await rig.start()
            await rig.landed()
        try:
            result.outcome = await fault.inject(rig, Random(f"{fault.name} {result.seed}"))
            rig.over()
            assert rig.recovery is not None
            result.recovery = await rig.recovery
        finally:
            quiet.set()


def _count_again(rig: Rig, ledger: Ledger, tally: Tally) -> None:
    """Hold what is there against what librdkafka finds in the topic."""
    for partition, offsets in read_offsets(rig.kafka.bootstrap, rig.topic, len(rig.records)).items():
        landed = {offset for link in ledger.chains[partition] for offset in link.offsets}
        found = landed | ledger.quarantined[partition]
        tally.demand(
            found == offsets, f"{partition}: librdkafka finds {len(offsets)} records, {len(found)} have landed"
        )


async def _stop(rig: Rig, result: Result) -> None:
    for daemon in rig.running:
        if code := await daemon.stop():
            result.problems.append(f"daemon {daemon.name} ended with {code}")


@asynccontextmanager
async def _rig(services: Services, fault: Fault, directory: Path, long: bool) -> AsyncIterator[Rig]:
    """Everything of one run; it is removed at the end, and the services run again."""
    topic = f"{fault.name}_{uuid.uuid4().hex[:8]}"
    store, broker = services.store, services.kafka.bootstrap
    async with topic_admin(broker) as admin:
        await create_topic(admin, topic, fault.partitions)
    await asyncio.to_thread(store.create_bucket, bucket_name(topic))
    rig: Rig | None = None
    try:
        async with (
            services.kafka_proxy() as wire,
            services.s3_proxy() as s3,
            load(broker, topic, fault.partitions, **(_PATIENCE if fault.brokers > 1 else {})) as writer,
        ):
            rig = Rig(services, (wire, s3), writer, topic=topic, directory=directory, more=fault.settings, long=long)
            try:
                yield rig
            finally:
                for daemon in rig.daemons:
                    daemon.kill()
                if rig.recovery is not None:
                    rig.recovery.cancel()
                await asyncio.to_thread(_start, services)
                await rig.until_end.aclose()
    finally:
        await asyncio.to_thread(store.delete_bucket, bucket_name(topic))
        async with topic_admin(broker) as admin:
            await admin.delete_topics([topic])


def in_words(group: BaseExceptionGroup[BaseException]) -> list[str]:
    """What went wrong, an error each."""
    return [f"{type(error).__name__}: {error}" for error in _leaves(group)]


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _leaves(each)
    else:
        yield error


def _start(services: Services) -> None:
    """Both, where the fault has left one dead."""
    if not services.kafka.running:
        services.kafka.start()
    if not services.store.running:
        services.store.start()
