"""Faults of the broker and of the group: gone, cut off, answering less than it does, and never at rest."""

import asyncio
from random import Random

from ingestd.ops.readiness import Status
from tests.chaos.fault import fault
from tests.chaos.kafka_proxy import COMMIT, FETCH
from tests.chaos.process_faults import ADOPTED
from tests.chaos.rig import Rig
from tests.e2e.group import until_group_is

_MINUTES = 180.0  # seconds without a broker, in the long form
_ENOUGH = 3  # answers of one kind that are cut, in the short form

IMPATIENT = {
    "kafka.session_timeout": "3s",
    "kafka.rebalance_timeout": "3s",
    "kafka.request_timeout": "4s",
    "health.source_unavailable": "4s",
}
_HELD = {"batch.interval": "1h"}


@fault(daemons=2)
async def broker_killed(rig: Rig, rng: Random) -> str:
    """The broker is killed (kill -9) under load, and started again later."""
    for number in range(5 if rig.long else 1):
        if number:
            await rig.landed()
        await asyncio.to_thread(rig.kafka.kill)
        await rig.lasts(rng.uniform(0, 15))
        await asyncio.to_thread(rig.kafka.start)
    return await _went_on(rig)


@fault(daemons=2, settings=IMPATIENT)
async def broker_refuses(rig: Rig, _: Random) -> str:
    """Connections to the broker are reset, and refused for longer than the session time-out."""
    rig.kafka_proxy.refuse()
    await rig.all(_unavailable)
    await rig.lasts(_MINUTES)
    await rig.kafka_proxy.heal()
    return f"not ready (source_unavailable); {await _went_on(rig)}"


@fault(daemons=2, settings=IMPATIENT)
async def broker_silent(rig: Rig, _: Random) -> str:
    """Nothing passes to or from the broker for longer than the session time-out; then what was kept back arrives."""
    rig.kafka_proxy.black_hole()
    await until_group_is("Empty", rig.kafka.bootstrap, rig.topic)
    await rig.lasts(_MINUTES)
    await rig.kafka_proxy.heal()
    return await _went_on(rig)


@fault(daemons=2, settings=IMPATIENT)
async def broker_answers_lost(rig: Rig, _: Random) -> str:
    """The broker gets requests, and its answers are lost for longer than the session time-out."""
    rig.kafka_proxy.black_hole(answers_only=True)
    await until_group_is("Empty", rig.kafka.bootstrap, rig.topic)
    await rig.lasts(_MINUTES)
    rig.kafka_proxy.reset()
    await rig.kafka_proxy.heal()
    return await _went_on(rig)


@fault(daemons=2)
async def broker_cuts(rig: Rig, rng: Random) -> str:
    """Connections are cut: between a commit, which is applied, and its answer; within one; within a fetch's answer."""
    wanted = 20 * _ENOUGH if rig.long else _ENOUGH
    wire = rig.kafka_proxy
    for kind, passes in ((COMMIT, 0.0), (COMMIT, 0.5), (FETCH, 0.5)):
        await _cut(rig, kind, wanted, rng, passes)
    await wire.heal()
    return f"repeated; {await _went_on(rig)}"


async def _cut(rig: Rig, kind: int, times: int, rng: Random, passes: float) -> None:
    wire = rig.kafka_proxy
    wire.fired.clear()
    wire.cuts_answers(kind, 0.5, rng, passes=passes)
    await rig.until(lambda: wire.fired[kind] >= times, f"{times} answers cut")


@fault(settings=_HELD, started=False, short=False)
async def rebalance_storm(rig: Rig, rng: Random) -> str:
    """Daemons join and leave every few seconds, while no batch is ever sealed by its age."""
    residents = [rig.daemon("a"), rig.daemon("b")]
    await rig.start()
    rounds = 60 if rig.long else 3
    for number in range(rounds):
        await rig.landed_by(_comes_and_goes(rig, f"guest-{number}", rng))
    for resident in residents:
        assert await resident.stop() == 0
        resident.configure({**rig.settings, "batch.interval": "500ms"})
        resident.start()
    return f"{rounds} joined and left; each time the buffered records landed"


async def _comes_and_goes(rig: Rig, name: str, rng: Random) -> None:
    guest = rig.daemon(name)
    await guest.start_ready()
    await rig.lasts(rng.uniform(0, 3))
    if rng.random() < 0.5:
        guest.kill()
    else:
        assert await guest.stop() == 0
    rig.daemons.remove(guest)


@fault(daemons=2, short=False)
async def coordinator_killed(rig: Rig, _: Random) -> str:
    """The group's coordinator is killed (kill -9) amid a rebalance, while partitions are about to change hands."""
    second = rig.daemons[1]
    for _number in range(5 if rig.long else 1):
        rig.s3.refuses(503, "SlowDown")  # so that whoever has to let go takes a while
        await rig.all(lambda status: all(each.sealed_batches for each in status.partitions))
        second.kill()
        await until_group_is("PreparingRebalance", rig.kafka.bootstrap, rig.topic)
        await asyncio.to_thread(rig.kafka.kill)
        rig.s3.heal()
        await asyncio.to_thread(rig.kafka.start)
        second.start()
        await rig.landed()
    return await _went_on(rig)


async def _went_on(rig: Rig) -> str:
    """What became of it, once all has landed that was written meanwhile."""
    rig.over()
    await rig.landed()
    refused, adopted = rig.said("partition lost to another member"), rig.said(ADOPTED)
    return f"continued by itself; {refused} commits refused, {adopted} objects adopted"


def _unavailable(status: Status) -> bool:
    return any(reason.code == "source_unavailable" for reason in status.reasons)
