"""Faults of three brokers, of which two must have a record, and of a group that works with all three."""

import asyncio
from collections.abc import Collection
from random import Random

from tests.chaos.fault import fault
from tests.chaos.kafka_faults import IMPATIENT
from tests.chaos.process_faults import ADOPTED
from tests.chaos.rig import Rig
from tests.chaos.transactions import TransactionalLoad, transactions_after
from tests.services.kafka_cluster import NODES

_ROUNDS = 3  # in the long form
_MINUTE = 60.0
_MANY, _SOME = 30, 6  # daemons


@fault(brokers=3, daemons=3, partitions=6, short=False)
async def leader_killed(rig: Rig, rng: Random) -> str:
    """A broker that leads partitions is killed (kill -9) under load, and started again later."""
    for _ in range(_rounds(rig)):
        await _without(rig, await rig.cluster.leader(rig.topic, rng.randrange(6)))
    return _went_on(rig)


@fault(brokers=3, daemons=3, partitions=6, short=False)
async def group_coordinator_killed(rig: Rig, _: Random) -> str:
    """The broker that coordinates the group is killed (kill -9), and started again later."""
    for _number in range(_rounds(rig)):
        await _without(rig, await rig.cluster.coordinator(rig.topic))
    return _went_on(rig)


@fault(brokers=3, daemons=3, partitions=6, short=False)
async def controller_killed(rig: Rig, _: Random) -> str:
    """The active controller of the cluster is killed (kill -9), and started again later."""
    for _number in range(_rounds(rig)):
        await _without(rig, await rig.cluster.controller())
    return _went_on(rig)


@fault(brokers=3, daemons=3, partitions=6, short=False)
async def brokers_restarted(rig: Rig, _: Random) -> str:
    """All brokers are restarted (SIGTERM) one after the other, each when the one before has caught up."""
    for number in NODES * (3 if rig.long else 1):
        await asyncio.to_thread(rig.cluster.stop, [number])
        await rig.outlived()
        await _started(rig, [number])
    return _went_on(rig)


@fault(brokers=3, daemons=3, partitions=6, short=False)
async def two_brokers_down(rig: Rig, rng: Random) -> str:
    """Two of three brokers are killed (kill -9) for a minute: nobody may write, and nobody is elected."""
    down = rng.sample(NODES, 2)
    await asyncio.to_thread(rig.cluster.kill, down)
    await asyncio.sleep(_MINUTE if rig.long else 3)
    await asyncio.to_thread(rig.cluster.start, down)
    await rig.outlived()
    await rig.cluster.until_healed(rig.topic)
    return _went_on(rig)


@fault(brokers=3, daemons=3, partitions=6)
async def replicas_reassigned(rig: Rig, _: Random) -> str:
    """Partitions are moved to other brokers and get other leaders, by preferred election, under load."""
    for number in range(2 * _rounds(rig)):
        # Two of the brokers, then all three, another one the first each time.
        brokers = {at: [1 + (at + number + step) % 3 for step in range(2 + number % 2)] for at in range(6)}
        await rig.cluster.reassign(rig.topic, brokers)
        await rig.cluster.elect(rig.topic, brokers)
        await rig.cluster.until(rig.topic, lambda now: all(now[at].leader == now[at].replicas[0] for at in range(6)))
        await rig.outlived()
    return _went_on(rig)


# By default an answer is waited for as long as a broker may take for it, 70 s: so long nobody sees that it is frozen.
@fault(brokers=3, daemons=3, partitions=6, settings=IMPATIENT)
async def broker_frozen(rig: Rig, _: Random) -> str:
    """The broker that coordinates the group is frozen (SIGSTOP) for longer than its session, and continues."""
    for _number in range(_rounds(rig)):
        frozen = await rig.cluster.coordinator(rig.topic)
        rig.cluster.nodes[frozen].freeze()
        try:
            await rig.cluster.until_without(rig.topic, frozen)
            await rig.outlived()
            await rig.lasts()
        finally:
            rig.cluster.nodes[frozen].thaw()
        await rig.outlived()
        await rig.cluster.until_healed(rig.topic)
    return _went_on(rig)


@fault(brokers=3, daemons=3, partitions=6, short=False)
async def replica_wiped(rig: Rig, _: Random) -> str:
    """A broker is killed (kill -9), loses all that it has of the topic, fills its disk again, and leads."""
    for number in NODES if rig.long else NODES[:1]:
        await asyncio.to_thread(rig.cluster.kill, [number])
        # A broker without a disk must not count as one that has the records.
        await rig.cluster.until_without(rig.topic, number)
        await rig.outlived()
        rig.cluster.nodes[number].wipe(rig.topic)
        await _started(rig, [number])
        preferred = {at for at, each in (await rig.cluster.partitions(rig.topic)).items() if each.replicas[0] == number}
        await rig.cluster.elect(rig.topic, preferred)
        await rig.outlived()
    return _went_on(rig)


@fault(brokers=3, daemons=3, partitions=6, short=False)
async def all_daemons_killed(rig: Rig, rng: Random) -> str:
    """All daemons of the group are killed (kill -9) at once, and started again."""
    for _ in range(_rounds(rig)):
        for daemon in rig.daemons:
            daemon.kill()
        await rig.lasts(rng.uniform(0, 15))
        for daemon in rig.daemons:
            daemon.start()
        await rig.outlived()
    return _went_on(rig)


@fault(brokers=3, daemons=3, partitions=6, short=False)
async def transactions_over_failover(rig: Rig, rng: Random) -> str:
    """Transactions are committed and aborted while their coordinator is killed (kill -9), and then a leader."""
    async with rig.writing:
        made = transactions_after(rig.load, rig.cluster.bootstrap, transactional_id=rig.topic)
        rig.load = writer = await rig.until_end.enter_async_context(made)
    # The coordinator of the transactions leads partitions, too, so the short form kills no other.
    for number in range(2 * _ROUNDS if rig.long else 1):
        await _one_more_aborted(rig, writer)
        if number % 2:
            victim = await rig.cluster.leader(rig.topic, rng.randrange(6))
        else:
            victim = await rig.cluster.coordinator(rig.topic, transactions=True)
        await _without(rig, victim)
    return f"{writer.committed} transactions committed, {writer.aborted} aborted; {_went_on(rig)}"


@fault(brokers=3, partitions=_MANY, started=False, short=False)
async def thirty_daemons(rig: Rig, _: Random) -> str:
    """Thirty daemons start at once, lose the group's coordinator, and half of them are killed (kill -9) at once."""
    for number in range(_MANY if rig.long else _SOME):
        rig.daemon(f"daemon-{number}")
    await rig.start()
    await rig.landed()
    await _without(rig, await rig.cluster.coordinator(rig.topic))
    for daemon in rig.daemons[::2]:
        daemon.kill()
    await rig.outlived()
    return _went_on(rig)


async def _one_more_aborted(rig: Rig, writer: TransactionalLoad) -> None:
    before = writer.aborted
    await rig.until(lambda: writer.aborted > before, "one more transaction that is aborted")


def _rounds(rig: Rig) -> int:
    return _ROUNDS if rig.long else 1


async def _without(rig: Rig, number: int) -> None:
    """Kill a broker, and start it when the group is back without it."""
    await asyncio.to_thread(rig.cluster.kill, [number])
    await rig.outlived()
    await rig.lasts(15)
    await _started(rig, [number])


async def _started(rig: Rig, numbers: Collection[int]) -> None:
    await asyncio.to_thread(rig.cluster.start, numbers)
    await rig.cluster.until_healed(rig.topic)


def _went_on(rig: Rig) -> str:
    refused, adopted = rig.said("partition lost to another member"), rig.said(ADOPTED)
    return f"continued by itself; {refused} commits refused, {adopted} objects adopted"
