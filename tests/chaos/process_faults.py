"""Faults of daemons: killed, frozen, twice the same, restarted, with a wrong clock, fed with nonsense."""

import asyncio
from random import Random

from ingestd.ops.readiness import Status
from tests.chaos import clock
from tests.chaos.fault import fault
from tests.chaos.rig import Rig
from tests.e2e.daemon import partition

ADOPTED = "another writer was first"
_HOUR = 3600.0


@fault(daemons=3)
async def killed(rig: Rig, rng: Random) -> str:
    """Daemons are killed (kill -9) at random moments and amid uploads, and restarted at once."""
    rig.s3.delays(0.2, rng)  # so that a kill can come before a PUT is applied, or before its answer
    for _ in range(12 if rig.long else 3):
        victim = rng.choice(rig.daemons)
        await victim.until(lambda status: status.ready and status.assigned)
        if rng.random() < 0.5:
            await victim.until(lambda status: any(each.state == "uploading" for each in status.partitions))
        else:
            await asyncio.sleep(rng.uniform(0, 2))
        victim.kill()
        victim.start()
    return f"taken over; {rig.said(ADOPTED)} objects adopted"


@fault(daemons=2)
async def zombie(rig: Rig, _: Random) -> str:
    """A daemon with flushed batches is frozen (SIGSTOP) for longer than its session, and continues (SIGCONT)."""
    frozen, other = rig.daemons
    rig.s3.refuses(503, "SlowDown")
    held = await frozen.until(lambda status: all(each.sealed_batches for each in status.partitions))
    frozen.freeze()
    rig.s3.heal()
    await other.until(lambda status: _has_passed(status, held))
    await rig.lasts()
    frozen.thaw()
    rig.over()
    await frozen.until(lambda status: status.totals.adopted and status.totals.released)
    return f"taken over; the zombie's PUT was refused, it adopted and released ({rig.said(ADOPTED)} objects adopted)"


@fault(settings={"kafka.group_instance_id": "the-same", "kafka.client_id": "the-same"})
async def same_identity(rig: Rig, _: Random) -> str:
    """A second daemon runs with the client id and the group instance id of the first, and later it is stopped."""
    second = rig.daemon("b")
    second.start()
    said = "two processes have kafka.group_instance_id = the-same"
    await rig.until(lambda: rig.said(said) == len(rig.daemons), said)
    await rig.all(lambda status: status.totals.adopted)
    await rig.lasts()
    displaced = rig.said("partition lost to another member")
    assert await second.stop() == 0
    return f"they displaced each other and logged it; {displaced} commits refused, {rig.said(ADOPTED)} objects adopted"


@fault(daemons=3, short=False)
async def rolling_restart(rig: Rig, _: Random) -> str:
    """Three daemons are restarted (SIGTERM) one after the other, each when the one before is back."""
    for daemon in rig.daemons * (5 if rig.long else 1):
        await rig.all(lambda status: status.ready and status.assigned)
        assert await daemon.stop() == 0
        daemon.start()
    return "each landed its buffered records"


@fault(started=False)
async def clock_jumps(rig: Rig, _: Random) -> str:
    """The wall clock jumps back by ten minutes, then by an hour, then forward by an hour, and is set right."""
    file = rig.directory / "clock"
    daemon = rig.daemon("a", program=clock.program(file))
    await rig.start()
    await rig.landed()
    clock.set_wrong(file, -_HOUR / 6)
    await rig.landed()
    for wrong in (-_HOUR, _HOUR):
        clock.set_wrong(file, 0)
        await daemon.until(lambda status: status.ready)
        clock.set_wrong(file, wrong)
        refused = await daemon.until(lambda status: status.sink_forbidden)
        assert "RequestTimeTooSkewed" in (refused.sink_error or ""), refused.sink_error
        await rig.lasts()
    clock.set_wrong(file, 0)
    return "ten minutes change nothing; at an hour S3 refuses (RequestTimeTooSkewed): buffered and retried"


@fault(settings={"breaker.window": "1000", "breaker.max_consecutive": "500"})
async def poison_storm(rig: Rig, _: Random) -> str:
    """A storm of malformed events opens the breaker; the operator lets them pass and restarts."""
    (daemon,) = rig.daemons
    rig.load.spoil(2_500)
    assert await daemon.ended() == 1
    assert "breaker" in daemon.log_text().splitlines()[-1]
    await rig.lasts()
    await rig.until(lambda: not rig.load.spoiling, "the end of the storm")
    daemon.configure({**rig.settings, "breaker.max_share": "1", "breaker.max_consecutive": "1000000"})
    daemon.start()
    return "stopped (exit code 1); read again and quarantined after the restart"


def _has_passed(status: Status, earlier: Status) -> bool:
    """Whether all partitions of `earlier` have changed hands, and something landed that was held then."""
    return all(
        (now := partition(status, then.partition)) is not None and (now.landed or 0) > (then.landed or 0)
        for then in earlier.partitions
    )
