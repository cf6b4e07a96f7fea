"""Faults of committed offsets: reset, deleted, and what other tools may do to a group that lives."""

import asyncio
import re
from random import Random

from aiokafka.errors import KafkaError

from ingestd.ops.readiness import Status
from tests.chaos.fault import fault
from tests.chaos.rig import Rig
from tests.e2e.daemon import Daemon, partition
from tests.e2e.group import committed, delete_group, ends, reset

_MORE = 300  # events: more than an object has
_SMALL = {"batch.records": "100"}  # chains of many objects


# Its short form takes as long as all others of the store together, and the simulation resets groups, too.
@fault(settings=_SMALL, short=False)
async def offsets_reset_to_boundary(rig: Rig, _: Random) -> str:
    """The group's offsets are reset to the start of earlier objects; while the daemon runs the broker refuses that."""
    (daemon,) = rig.daemons
    refused = await _refusal(reset(rig.kafka.bootstrap, rig.topic, rig.topic, {0: 0}))
    await _stop(rig)
    ledger = await asyncio.to_thread(rig.read)
    wanted = {0: 0, 1: ledger.boundaries(1)[2], 2: ledger.boundaries(2)[-2]}
    await reset(rig.kafka.bootstrap, rig.topic, rig.topic, wanted)
    await daemon.start_ready()
    rig.over()
    again = sum(link.landed.start >= start for number, start in wanted.items() for link in ledger.chains[number])
    await daemon.until(lambda status: status.totals.adopted == again)
    return f"{again} objects adopted one after the other; while it ran: {refused}"


@fault(settings=_SMALL, short=False)
async def offsets_reset_off_boundary(rig: Rig, _: Random) -> str:
    """The group's offsets are reset to the inside of an object and past the last; then as the message says."""
    (daemon,) = rig.daemons
    await _stop(rig)
    ledger = await asyncio.to_thread(rig.read)
    inside, past = ledger.boundaries(1), ledger.boundaries(2)
    await reset(rig.kafka.bootstrap, rig.topic, rig.topic, {1: inside[1] + 1, 2: past[-1] + 50})
    await daemon.start_ready()
    await halted(rig, daemon, "misaligned", [1, 2])
    await rig.committed({number: end for number, end in ends(rig.load.records).items() if number not in {1, 2}})
    told = {each.partition: _told(each.halted or "") for each in (await daemon.status()).partitions if each.halted}
    assert told == {1: inside[2], 2: past[-1]}
    assert await daemon.stop() == 0
    await reset(rig.kafka.bootstrap, rig.topic, rig.topic, told)
    rig.over()
    await daemon.start_ready()
    return "those partitions halted (misaligned), the others continued; reset as the message says, they continued"


def _told(message: str) -> int:
    """Where to reset to."""
    match = re.search(r"reset the group's offset for this partition to (\d+)", message)
    assert match, message
    return int(match[1])


@fault(settings=_SMALL)
async def group_deleted(rig: Rig, _: Random) -> str:
    """The group is deleted while the daemon is stopped; while it runs the broker refuses that."""
    (daemon,) = rig.daemons
    refused = await _refusal(delete_group(rig.kafka.bootstrap, rig.topic))
    await _stop(rig)
    await delete_group(rig.kafka.bootstrap, rig.topic)
    assert await committed(rig.kafka.bootstrap, rig.topic, rig.topic) == {}
    # Of the policies the one that would lose what was written meanwhile; the other would walk through all objects.
    daemon.configure({**rig.settings, "kafka.start": "latest"})
    await daemon.start_ready()
    rig.over()
    adopted = await daemon.until(lambda status: status.totals.adopted)
    assert adopted.totals.adopted <= len(adopted.partitions), "the whole chain was walked along"
    return f"continued at the end of the chain; while it ran: {refused}"


async def halted(rig: Rig, daemon: Daemon, code: str, partitions: list[int]) -> str:
    """Wait until these partitions, and no others, are halted for that reason; the first one's message."""

    def are(status: Status) -> bool:
        # A daemon that was frozen tells for some seconds that its loop was blocked, too.
        codes = {reason.code for reason in status.reasons}
        return codes == {"partition_halted"} and partitions == sorted(
            each.partition for each in status.partitions if each.halted
        )

    status = await daemon.until(are)
    assert (await daemon.get("/readyz"))[0] == 503
    found = await daemon.metric("ingestd_partition_halts_total", topic=rig.topic, code=code)
    assert found == len(partitions), f"{found} partitions are halted as {code}: {daemon.log_text()}"
    await rig.lasts(5)
    first = partition(status, partitions[0])
    assert first is not None
    assert first.halted
    return first.halted


async def _stop(rig: Rig) -> None:
    """Stop the only daemon, with a chain of some objects in each partition, while events are written on."""
    (daemon,) = rig.daemons
    await daemon.until(lambda status: status.totals.objects > 5 * len(status.partitions))
    assert await daemon.stop() == 0
    now = rig.load.total
    await rig.until(lambda: rig.load.total > now + _MORE, "more events")


async def _refusal(attempt: "asyncio.Future[None] | object") -> str:
    """What the broker says to it."""
    try:
        await attempt  # type: ignore[misc]
    except KafkaError as error:
        return type(error).__name__
    raise AssertionError("the broker allows it")
