"""Faults of the store: gone, slow, refusing, and answering less than it does."""

import asyncio
from random import Random

from ingestd.ops.readiness import PartitionStatus, Status
from tests.chaos.disk import full, small_disk
from tests.chaos.fault import fault
from tests.chaos.process_faults import ADOPTED
from tests.chaos.rig import Rig
from tests.e2e.daemon import Daemon, write_credentials

_ENOUGH = 10  # faults of one kind, in the short form


@fault(daemons=2)
async def store_killed(rig: Rig, _: Random) -> str:
    """The S3 server is killed (kill -9) and started again later."""
    await asyncio.to_thread(rig.store.kill)
    await rig.all(_unavailable)
    await rig.lasts()
    await asyncio.to_thread(rig.store.start)
    return "buffered and retried"


@fault(settings={"s3.read_timeout": "1s"})
async def store_slow(rig: Rig, rng: Random) -> str:
    """The S3 server takes up to four seconds for each request; the client gives up after one."""
    rig.s3.delays(2.0, rng)
    await rig.all(lambda status: status.sink_error)
    await rig.fired("delayed", _ENOUGH)
    await rig.lasts()
    rig.s3.heal()
    return f"buffered and retried; {rig.s3.fired['delayed']} requests delayed"


@fault(daemons=2)
async def store_errors(rig: Rig, rng: Random) -> str:
    """The S3 server answers SlowDown and ServiceUnavailable (503) and InternalError (500), mostly, and then always."""
    for status, code in ((503, "SlowDown"), (503, "ServiceUnavailable"), (500, "InternalError")):
        rig.s3.refuses(status, code, share=0.7, rng=rng)
        await rig.fired(code, _ENOUGH)
        await rig.lasts(10)
    rig.s3.refuses(503, "SlowDown")
    await rig.all(_unavailable)
    await rig.lasts()
    rig.s3.heal()
    return f"buffered and retried; {rig.s3.fired.total()} requests refused"


@fault(daemons=2)
async def answer_lost(rig: Rig, rng: Random) -> str:
    """The S3 server creates the object, and the connection is cut before its answer."""
    rig.s3.cuts_after_applying(0.7, rng)
    await rig.fired("cut", _ENOUGH)
    await rig.lasts()
    rig.s3.heal()
    return f"repeated; {rig.s3.fired['cut']} times it found its own object"


@fault(daemons=2)
async def applied_late(rig: Rig, rng: Random) -> str:
    """PUTs whose connection was cut are applied late: after their retry, or after their daemon was killed (kill -9)."""
    rig.s3.keeps_back(retries=False)
    await rig.fired("kept back", _ENOUGH)
    rig.s3.heal()
    await rig.landed()
    late = await rig.s3.release()
    assert set(late) == {412}, late

    for _ in range(5 if rig.long else 1):
        late += await _late_after_takeover(rig, *rng.sample(rig.daemons, 2))
    refused, adopted = late.count(412), rig.said(ADOPTED)
    return f"{len(late)} PUTs came late, {refused} of them were refused; {adopted} objects adopted"


async def _late_after_takeover(rig: Rig, victim: Daemon, other: Daemon) -> list[int]:
    """What the store has answered to PUTs of `victim`, after `other` had found nothing and cut batches of its own."""
    await rig.all(lambda status: status.ready and status.assigned)
    rig.s3.keeps_back(retries=True)
    names = [f"{rig.topic}+{each.partition:05}" for each in (await victim.status()).partitions]
    await rig.until(lambda: all(any(name in key for key in rig.s3.kept) for name in names), "PUTs of all partitions")
    victim.kill()
    await other.until(lambda status: len(status.partitions) == 4 and all(map(_uploads, status.partitions)))
    before = rig.said(ADOPTED)
    late = await rig.s3.release()
    rig.s3.heal()
    victim.start()
    await rig.until(lambda: rig.said(ADOPTED) > before, "what came late is adopted")
    return late


@fault()
async def forbidden(rig: Rig, _: Random) -> str:
    """The S3 server refuses everything with 403 AccessDenied, and later allows it again."""
    rig.s3.refuses(403, "AccessDenied")
    await rig.all(_forbidden)
    await rig.lasts()
    rig.s3.heal()
    return "buffered and retried; not ready (sink_forbidden)"


@fault(started=False)
async def credentials_expire(rig: Rig, _: Random) -> str:
    """The credentials expire, and others come into their file later."""
    file = rig.directory / "credentials"
    write_credentials(file, rig.store.access_key, rig.store.secret_key)
    nowhere_else = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    rig.daemon("a", environment={**nowhere_else, "AWS_SHARED_CREDENTIALS_FILE": str(file)})
    await rig.start()
    await rig.landed()

    rig.s3.expires(rig.store.access_key)
    await rig.all(_forbidden)
    await rig.lasts()
    write_credentials(file, *rig.store.other_keys)
    return "buffered and retried; not ready (sink_forbidden); the new ones were used without a restart"


@fault(started=False, mounts=True)
async def disk_full(rig: Rig, _: Random) -> str:
    """The disk of a local sink is full, and later there is room again."""
    rig.sink = rig.directory / "disk"
    rig.until_end.enter_context(small_disk(rig.sink))
    daemon = rig.daemon("a", {"sink.url": str(rig.sink)})
    await rig.start()
    await rig.landed()

    with full(rig.sink):
        refused = await daemon.until(_forbidden)
        assert "the disk is full: make room" in (refused.sink_error or ""), refused.sink_error
        await rig.lasts()
    return "buffered and retried; not ready (sink_forbidden)"


def _forbidden(status: Status) -> bool:
    return any(reason.code == "sink_forbidden" for reason in status.reasons)


def _unavailable(status: Status) -> bool:
    return any(reason.code == "sink_unavailable" for reason in status.reasons)


def _uploads(partition: PartitionStatus) -> bool:
    return partition.state == "uploading"
