"""Faults of Kinesis and SQS in their long form: servers and a store of their own for each, and every row is counted.

Tests of tests/e2e are their short form.
"""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from random import Random

from tests.chaos.runner import Result
from tests.chaos.s3_proxy import S3Proxy
from tests.e2e.aws_worlds import QueueWorld, StreamWorld
from tests.e2e.daemon import Daemon
from tests.e2e.ledger import Tally
from tests.services.elasticmq import ElasticMQ
from tests.services.kinesis import Kinesalite, KinesisLocal
from tests.services.ports import free_port
from tests.services.seaweed import SeaweedFS

BUCKET = "chaos"
_DAY_S = 24 * 3600.0
_VISIBILITY_S = 30.0  # the shortest that a daemon takes
_LONGEST_S = 900.0
_EMPTIED_S = 6 * _VISIBILITY_S
_NEW_LINEAGE = "a new sink.lineage"  # what a halted daemon advises
_FAILURES = (AssertionError, OSError)


class AwsRig:
    """A store, with a proxy before it, and what a fault starts beside it."""

    def __init__(self, directory: Path, store: SeaweedFS, proxy: S3Proxy, port: int, rng: Random) -> None:
        self.directory, self.store, self.s3, self.rng = directory, store, proxy, rng
        self._proxied = {"s3.endpoint_url": f"http://127.0.0.1:{port}"}
        self.recovery: float | None = None

    @asynccontextmanager
    async def stream(self, server: Kinesalite | KinesisLocal, shards: int) -> AsyncIterator[StreamWorld]:
        """A stream, and daemons that reach the store through its proxy."""
        world = StreamWorld(server, self.store, BUCKET, self.directory, shards)
        world.keys.update(self._proxied)
        try:
            yield world
        finally:
            world.close()

    @asynccontextmanager
    async def queue(self, server: ElasticMQ, url: str) -> AsyncIterator[QueueWorld]:
        """A queue, and daemons that reach the store through its proxy."""
        world = QueueWorld(server, self.store, BUCKET, self.directory, url)
        world.keys.update(self._proxied)
        try:
            yield world
        finally:
            world.close()

    async def recovered(self, event: Awaitable[object]) -> None:
        """The fault is over; how long this takes is the recovery."""
        began = time.monotonic()
        await event
        self.recovery = time.monotonic() - began


Inject = Callable[[AwsRig], Awaitable[tuple[str, Tally]]]
AWS_FAULTS: dict[str, Inject] = {}


def aws_fault(inject: Inject) -> Inject:
    """Put a function on the list, by its name. The first line of its docstring says what breaks."""
    AWS_FAULTS[inject.__name__] = inject
    return inject


def about(name: str) -> str:
    """What breaks, in a line."""
    return (AWS_FAULTS[name].__doc__ or "").partition("\n")[0].rstrip(".")


async def run_aws(name: str, directory: Path, *, seed: int) -> Result:
    """Inject one fault."""
    result = Result(name, about(name), seed)
    began, port = time.monotonic(), free_port()
    (directory / "s3").mkdir()
    try:
        with SeaweedFS(directory / "s3") as store:
            store.create_bucket(BUCKET)
            async with asyncio.timeout(_LONGEST_S), S3Proxy(port, store.port) as proxy:
                rig = AwsRig(directory, store, proxy, port, Random(f"{name} {seed}"))
                result.outcome, result.tally = await AWS_FAULTS[name](rig)
                result.recovery = rig.recovery
    except* _FAILURES as group:
        result.problems += [f"{type(error).__name__}: {error}" for error in group.exceptions]
    result.seconds = time.monotonic() - began
    return result


@aws_fault
async def kinesis_daemons_killed(rig: AwsRig) -> tuple[str, Tally]:
    """Three daemons share six shards and are killed (kill -9) at random moments."""
    with Kinesalite(rig.directory) as server:
        async with rig.stream(server, 6) as world:
            daemons = [world.daemon(name, {"batch.interval": "200ms"}) for name in "abc"]
            for daemon in daemons:
                daemon.start()
            async with world.writing():
                for _ in range(60):
                    await asyncio.sleep(rig.rng.expovariate(1))
                    victim = rig.rng.choice(daemons)
                    victim.kill()
                    victim.start()
            await rig.recovered(world.landed())
            assert [await daemon.stop() for daemon in daemons] == [0, 0, 0]
            return "60 kills", await asyncio.to_thread(world.landing.check, world.stream)


@aws_fault
async def kinesis_splits_under_load(rig: AwsRig) -> tuple[str, Tally]:
    """Shards are split and merged under load while two daemons read them; after each change one is killed (kill -9)."""
    with KinesisLocal(rig.directory) as server:
        async with rig.stream(server, 2) as world:
            daemons = [world.daemon(name) for name in "ab"]
            for daemon in daemons:
                daemon.start()
            async with world.writing(rate=400):
                for change in "ssmsmsms":
                    await asyncio.sleep(2)
                    await asyncio.to_thread(world.stream.split if change == "s" else world.stream.merge, 0)
                    victim = rig.rng.choice(daemons)
                    victim.kill()
                    victim.start()
            await rig.recovered(world.landed())
            assert [await daemon.stop() for daemon in daemons] == [0, 0]
            shards = len(world.stream.records)
            return f"5 splits, 3 merges, {shards} shards", await asyncio.to_thread(world.landing.check, world.stream)


@aws_fault
async def kinesis_retention_overtakes(rig: AwsRig) -> tuple[str, Tally]:
    """Retention removes records that a stopped daemon has not read; then as the message says."""
    with Kinesalite(rig.directory) as server:
        server.set_clock(-2 * _DAY_S)
        async with rig.stream(server, 3) as world:
            daemon = world.daemon("a")
            await asyncio.to_thread(world.stream.write, 2_000)
            await daemon.start_ready()
            await world.landed()
            assert await daemon.stop() == 0
            before = {shard: len(found) for shard, found in world.stream.records.items()}
            await asyncio.to_thread(world.stream.write, 2_000)
            lost = {shard: found[before.get(shard, 0) :] for shard, found in world.stream.records.items()}
            await asyncio.to_thread(server.set_clock, 0.0)
            await asyncio.to_thread(world.stream.write, 2_000)
            daemon.start()
            await _halted(daemon, "lost_upstream", 3, "set kinesis.skip_lost = true")
            assert await daemon.stop() == 0
            heir = world.daemon("b", {"kinesis.skip_lost": "true"})
            heir.start()
            await rig.recovered(world.landed())
            told = await heir.metric("ingestd_records_lost_upstream_total", topic=world.stream.name)
            assert told == len(lost), f"{told} holes are told, of {len(lost)}"
            assert await heir.stop() == 0
            tally = await asyncio.to_thread(world.landing.check, world.stream, lost=lost)
            removed, holes = sum(map(len, lost.values())), _holes(world)
            assert holes == len(lost), f"{holes} objects without rows, for {len(lost)} holes"
            what = f"{removed:,} records removed: halted (lost_upstream)"
            return f"{what}; with kinesis.skip_lost continued; {holes} objects without rows cover the gaps", tally


def _holes(world: StreamWorld) -> int:
    """How many objects stand for no record."""
    chains = world.landing.ledger(world.stream).chains.values()
    return sum(link.landed.rows == link.landed.rejected == 0 for chain in chains for link in chain)


async def _halted(daemon: Daemon, code: str, shards: int, advice: str) -> None:
    """Wait until so many shards have halted for this reason, and see that they say what to do."""
    status = await daemon.until(lambda now: sum(each.halted is not None for each in now.partitions) == shards)
    found = await daemon.metric("ingestd_partition_halts_total", code=code)
    assert found == shards, f"{found} of {shards} shards have halted for {code}: {status.partitions}"
    assert all(advice in (each.halted or "") for each in status.partitions), status.partitions


@aws_fault
async def kinesis_stream_created_again(rig: AwsRig) -> tuple[str, Tally]:
    """The stream is deleted and created again while the daemon runs; it is restarted; then as the message says."""
    with Kinesalite(rig.directory) as server:
        async with rig.stream(server, 2) as world:
            daemon = world.daemon("a")
            await asyncio.to_thread(world.stream.write, 1_000)
            await daemon.start_ready()
            await world.landed()
            stream, landing = await asyncio.to_thread(world.create_again, 2, "again")
            await _halted(daemon, "recreated_topic", 2, _NEW_LINEAGE)
            assert await daemon.stop() == 0
            await asyncio.to_thread(world.stream.write, 2_000)
            daemon.start()
            await _halted(daemon, "recreated_topic", 2, _NEW_LINEAGE)
            assert await daemon.stop() == 0
            heir = world.daemon("b")
            heir.start()
            await rig.recovered(world.landed())
            assert await heir.stop() == 0
            former = landing.ledger(stream).tally(stream.records, stream.ids)
            assert not former.problems, former.problems
            tally = await asyncio.to_thread(world.landing.check, world.stream)
            what = "halted (recreated_topic), while it ran and after its restart; landed in a new lineage"
            return f"{what}; the {former.records:,} records of the former stay as they were", tally


def tally_of(world: QueueWorld) -> Tally:
    """What the queue's rows come to, as that of a stream."""
    found = world.check()
    return Tally(
        found.messages, found.rows, found.quarantined, found.objects, found.lost, found.doubled, problems=found.problems
    )


@asynccontextmanager
async def _queue(rig: AwsRig) -> AsyncIterator[tuple[ElasticMQ, QueueWorld]]:
    with ElasticMQ(rig.directory) as server:
        url = server.create_queue(f"queue-{uuid.uuid4().hex[:8]}")
        async with rig.queue(server, url) as world:
            yield server, world


@aws_fault
async def sqs_daemons_killed(rig: AwsRig) -> tuple[str, Tally]:
    """Three daemons share a queue and are killed (kill -9) at random moments."""
    async with _queue(rig) as (_, world):
        daemons = [world.daemon(name) for name in "abc"]
        for daemon in daemons:
            daemon.start()
        async with world.sending(rate=100):
            for _ in range(40):
                await asyncio.sleep(rig.rng.expovariate(0.7))
                victim = rig.rng.choice(daemons)
                victim.kill()
                victim.start()
        await rig.recovered(world.queue.emptied(_EMPTIED_S))
        assert [await daemon.stop() for daemon in daemons] == [0, 0, 0]
        return "40 kills", await asyncio.to_thread(tally_of, world)


@aws_fault
async def sqs_store_stands_still_beyond_the_visibility(rig: AwsRig) -> tuple[str, Tally]:
    """The store refuses everything for longer than the visibility; messages are kept, and none is received again."""
    async with _queue(rig) as (server, world):
        daemon = world.daemon("a")
        daemon.start()
        await daemon.until(lambda status: status.ready)
        rig.s3.refuses(503, "SlowDown")
        await asyncio.to_thread(world.queue.send, 200)
        await asyncio.sleep(2.5 * _VISIBILITY_S)
        visible, in_flight = server.depth(world.queue.url)
        rig.s3.heal()
        await rig.recovered(world.queue.emptied(_EMPTIED_S))
        assert await daemon.stop() == 0
        tally = await asyncio.to_thread(tally_of, world)
        return f"{visible} visible and {in_flight} in flight at its end", tally


@aws_fault
async def sqs_zombie_after_the_visibility(rig: AwsRig) -> tuple[str, Tally]:
    """A daemon stands still (SIGSTOP) until its messages have gone to another, and goes on."""
    async with _queue(rig) as (_, world):
        zombie, heir = world.daemon("a", {"batch.interval": "20s"}), world.daemon("b")
        zombie.start()
        await zombie.until(lambda status: status.ready)
        await asyncio.to_thread(world.queue.send, 200)
        await zombie.until(lambda status: status.queue is not None and status.queue.held >= 200)
        zombie.freeze()
        heir.start()
        await rig.recovered(world.queue.emptied(_EMPTIED_S))
        zombie.thaw()
        await asyncio.sleep(_VISIBILITY_S / 2)
        assert [await daemon.stop() for daemon in (zombie, heir)] == [0, 0]
        return "the heir has landed them", await asyncio.to_thread(tally_of, world)


@aws_fault
async def sqs_queue_purged(rig: AwsRig) -> tuple[str, Tally]:
    """The queue is purged while a daemon that holds some of its messages stands still (SIGSTOP)."""
    async with _queue(rig) as (_, world):
        daemon = world.daemon("a", {"batch.interval": "5s"})
        daemon.start()
        await daemon.until(lambda status: status.ready)
        await asyncio.to_thread(world.queue.send, 300)
        await daemon.until(lambda status: status.queue is not None and status.queue.held > 0)
        daemon.freeze()
        await asyncio.to_thread(world.queue.send, 200)
        with closing(world.queue.client()) as client:
            client.purge_queue(QueueUrl=world.queue.url)
        daemon.thaw()
        await asyncio.to_thread(world.queue.send, 100)
        await rig.recovered(world.queue.emptied(_EMPTIED_S))
        assert await daemon.stop() == 0
        gone = world.forget_missing()
        assert gone >= 150, gone  # of the 200; receive requests under way may have been answered with some
        return f"{gone} messages purged before they were received", await asyncio.to_thread(tally_of, world)


@aws_fault
async def sqs_dead_letters_redriven(rig: AwsRig) -> tuple[str, Tally]:
    """Messages that a careless consumer has received too often are redriven from the dead-letter queue, under load."""
    with ElasticMQ(rig.directory) as server:
        dead = server.create_queue("dead")
        url = server.create_queue("queue", redrive=(dead, 1))
        async with rig.queue(server, url) as world:
            await asyncio.to_thread(world.queue.send, 300)
            former = set(world.queue.sent)
            moved = await asyncio.to_thread(world.queue.kill_messages, dead)
            daemon = world.daemon("a")
            daemon.start()
            await daemon.until(lambda status: status.ready)
            async with world.sending(rate=100):
                await asyncio.to_thread(world.queue.redrive, dead)
            assert former.isdisjoint(world.queue.sent), "messages have come back with their former ids"
            await rig.recovered(world.queue.emptied(_EMPTIED_S))
            assert await daemon.stop() == 0
            assert await asyncio.to_thread(server.depth, dead) == (0, 0)
            tally = await asyncio.to_thread(tally_of, world)
            return f"{moved} messages moved and redriven with new ids, amid {tally.records - moved} others", tally
