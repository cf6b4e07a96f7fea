"""Faults of the collector, of the broker behind it, and of its journal's disk."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from aiokafka.errors import KafkaError

from tests.chaos.collector_rig import CollectorRig, collector_rig
from tests.chaos.disk import can_mount, full, small_disk
from tests.chaos.runner import Result, in_words
from tests.chaos.services import Services

Inject = Callable[[CollectorRig, Random], Awaitable[None]]

_LONGEST_SHORT, _LONGEST = 120.0, 900.0  # seconds that a run may take


@dataclass(frozen=True)
class CollectorFault:
    """Something that breaks while events come in over HTTP. It is called by the name of its function."""

    name: str
    about: str
    inject: Inject
    in_front_of_kafka: bool
    mounts: bool  # whether it mounts a file system
    brokers: int = 1

    @property
    def possible(self) -> bool:
        """Whether this process has the rights that it takes."""
        return not self.mounts or can_mount()


COLLECTOR_FAULTS: dict[str, CollectorFault] = {}


def _fault(*, in_front_of_kafka: bool, mounts: bool = False) -> Callable[[Inject], Inject]:
    """Put a function on the list. Events are sent all the time; it returns when the fault is over."""

    def put(inject: Inject) -> Inject:
        name, about = getattr(inject, "__name__", ""), (inject.__doc__ or "").partition("\n")[0].rstrip(".")
        COLLECTOR_FAULTS[name] = CollectorFault(name, about, inject, in_front_of_kafka, mounts)
        return inject

    return put


@_fault(in_front_of_kafka=False)
async def collector_killed(rig: CollectorRig, rng: Random) -> None:
    """The collector with its journal, without Kafka, is killed (kill -9) amid requests, and restarted at once."""
    for _ in range(12 if rig.long else 3):
        await rig.sender.until_accepted(rng.randrange(100, 400))
        await rig.restart()


@_fault(in_front_of_kafka=True)
async def collector_killed_before_kafka(rig: CollectorRig, rng: Random) -> None:
    """The collector in front of Kafka is killed (kill -9) amid requests, and restarted at once."""
    for _ in range(12 if rig.long else 2):
        await rig.sender.until_accepted(rng.randrange(100, 400))
        await rig.restart()


@_fault(in_front_of_kafka=True)
async def collector_without_broker(rig: CollectorRig, _: Random) -> None:
    """The broker is killed (kill -9); events go to the journal; the collector is killed, too; the broker is back."""
    await asyncio.to_thread(rig.kafka.kill)
    await rig.until(lambda: rig.sender.acknowledged["journal"] >= 10, "10 requests answered by the journal")
    await rig.restart()
    await rig.sender.until_accepted(200)
    await rig.lasts()
    await asyncio.to_thread(rig.kafka.start)


@_fault(in_front_of_kafka=False, mounts=True)
async def journal_disk_full(rig: CollectorRig, _: Random) -> None:
    """The disk of the journal is full, and later there is room again."""
    with full(rig.folder):
        repeated = rig.sender.repeated
        await rig.until(lambda: rig.sender.repeated >= repeated + 8, "8 requests answered 503")
        await rig.lasts()


async def run_collector(services: Services, fault: CollectorFault, directory: Path, *, seed: int, long: bool) -> Result:
    """Inject one fault, and count the events that were answered 200."""
    result = Result(fault.name, fault.about, seed)
    began = time.monotonic()
    try:
        async with (
            asyncio.timeout(_LONGEST if long else _LONGEST_SHORT),
            collector_rig(services, fault.name, directory, in_front_of_kafka=fault.in_front_of_kafka, long=long) as rig,
        ):
            if fault.mounts:
                rig.until_end.enter_context(small_disk(rig.folder))
            async with rig.running():
                await fault.inject(rig, Random(f"{fault.name} {seed}"))
                result.recovery = await rig.recovered()
            result.tally, came_twice = await rig.tally()
            asked_again = f"{rig.sender.repeated:,} requests were sent again"
            acknowledged = ", ".join(f"{count:,} by {where}" for where, count in rig.sender.acknowledged.items())
            result.outcome = f"{came_twice}; {asked_again}; acknowledged {acknowledged}"
            result.problems += result.tally.problems
    except* (AssertionError, KafkaError, OSError) as group:
        result.problems += in_words(group)
    result.seconds = time.monotonic() - began
    return result
