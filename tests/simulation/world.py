"""One seeded run of everything: workers over a faulty broker and a faulty store, and what must hold at the end."""

import asyncio
import gzip
import json
import random
from collections import Counter
from datetime import UTC, datetime
from itertools import pairwise

from ingestd.core.object_keys import ObjectKeys
from ingestd.core.object_metadata import ObjectMetadata
from ingestd.core.records import PlainRecord, Position, TopicPartition
from tests.simulation.broker import Broker, Member
from tests.simulation.store import Connection, Store
from tests.simulation.worker import PARTITIONS, START, Violation, Worker

Identity = tuple[TopicPartition, int, int | None]
"""Of a record: its partition, offset and leader epoch."""


class World:
    """Everything of one seed."""

    member_type = Member

    def __init__(self, seed: int, truncations: float = 0.04, *, skips: bool = False) -> None:
        """`truncations` is their share of what goes wrong. With `skips`, every other worker skips tombstones."""
        self.truncations = truncations
        self.skips = skips
        self.rng = random.Random(seed)
        self.broker = Broker(self.rng, PARTITIONS)
        self.store = Store(self.rng)
        self.workers: list[Worker] = []
        self.forks = self.rng.random() < 0.7  # else partitions halt where their log was truncated, until the end
        self.produced: set[Identity] = set()
        self.tombstones: set[Identity] = set()  # of those
        self.lost_upstream: set[Identity] = set()  # to retention, or with a replica
        self.truncated: Counter[TopicPartition] = Counter()
        self.halted: set[TopicPartition] = set()  # at the end
        self.went_back: set[TopicPartition] = set()  # to the log before a truncation: these may halt whatever is set
        self._extra: set[asyncio.Task[None]] = set()

    async def run(self, seconds: float = 90) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(self.rng.randint(1, 3)):
            self._spawn()
        producer = asyncio.create_task(self._produce(seconds * 0.9))
        while loop.time() < seconds:
            await asyncio.sleep(self.rng.expovariate(0.5))
            await self._mishap()
            self._check_workers()
        await producer
        await self._heal()
        self._check_end()

    # -- what happens

    def _spawn(self, *, forks: bool | None = None) -> Worker:
        worker = Worker(
            self,
            strict=self.rng.random() < 0.5,
            skips=self.skips and len(self.workers) % 2 == 1,
            interval=self.rng.choice([0.5, 3.0, 8.0]),
            forks=self.forks if forks is None else forks,
        )
        self.workers.append(worker)
        return worker

    async def _produce(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        number = 0
        bad_until = 0.0
        busy = PARTITIONS[: self.rng.randint(1, 3)]  # the others stay empty
        while loop.time() < seconds:
            await asyncio.sleep(self.rng.expovariate(2))
            if self.rng.random() < 0.03:
                bad_until = loop.time() + self.rng.uniform(1, 10)
            for _ in range(self.rng.randint(1, 10)):
                number += 1
                partition = self.rng.choice(busy)
                gap = self.rng.choice([0, 0, 0, 0, 1, 3])
                skew = self.rng.choice([0, 0, 0, -5, 3])
                value = None if loop.time() < bad_until else self._value(number)
                self.broker.append(partition, value, int((START + loop.time() + skew) * 1000), gap)
                self.produced.add(identity := self._identity(partition, self.broker.logs[partition][-1]))
                if value is None:
                    self.tombstones.add(identity)

    def _value(self, number: int) -> bytes | None:
        kind = self.rng.random()
        if kind < 0.05:
            return None
        if kind < 0.1:
            return b"not json"
        event_type = "mystery" if kind < 0.2 else "web_visit"  # accepted by some workers, rejected by others
        return json.dumps(
            {
                "event_id": f"e{number}",
                "client_id": "c",
                "event_timestamp": "2026-11-22T23:59:30Z",
                "event_type": event_type,
            }
        ).encode()

    async def _mishap(self) -> None:
        if self.rng.random() < self.truncations:
            self._truncate()
            return
        alive = [worker for worker in self.workers if worker.member.alive]
        kind = self.rng.random()
        if kind < 0.25 and alive:
            self.rng.choice(alive).crash()
            self._later(self._expel(self.rng.uniform(0, 3)))
        elif kind < 0.5 and len(alive) < 4:
            self._spawn()
        elif kind < 0.65 and alive:
            self._later(self.rng.choice(alive).member.become_zombie(self.rng.uniform(0.5, 15)))
        elif kind < 0.72:
            self._later(self._outage())
        elif kind < 0.78:
            self._later(self._refusal())
        elif kind < 0.86:
            self._roll_back()
        elif kind < 0.9:
            self.broker.committed.clear()  # the group is deleted, or expires
        elif kind < 0.95:
            self._retain()
        elif alive:
            self.rng.choice(alive).member.finish()  # an orderly stop

    async def _expel(self, seconds: float) -> None:
        """The session of the dead runs out."""
        await asyncio.sleep(seconds)
        await self.broker.rebalance()

    async def _outage(self) -> None:
        self.store.down = True
        await asyncio.sleep(self.rng.uniform(0.5, 10))
        self.store.down = False

    async def _refusal(self) -> None:
        self.store.forbidden = True
        await asyncio.sleep(self.rng.uniform(0.5, 10))
        self.store.forbidden = False

    def _roll_back(self) -> None:
        """Somebody resets the group to a boundary of the chain, or a commit of ours from some time ago comes late."""
        objects = self._objects()
        if not objects:
            return
        partition, landed = self.rng.choice(objects)
        if self.rng.random() < 0.5:
            tag = ObjectKeys().commit_tag(Connection.url)
            position = Position(landed.end, tag, "sim", landed.leader_epoch)
        else:
            position = Position(landed.start)  # a tool does not know our mark
            if landed not in self._chain(partition):
                return
        if self.broker.starts[partition] <= position.offset:
            self.broker.committed[partition] = position

    def _truncate(self) -> None:
        """A leader is elected that lacks the last records, as by an unclean election."""
        partition = self.rng.choice(PARTITIONS)
        start, end = self.broker.starts[partition], self.broker.ends[partition]
        before = self._in_log(partition)
        self.truncated[partition] += 1
        if partition in self.broker.replicas and self.rng.random() < 0.4:
            self.broker.go_back(partition)
            self.went_back.add(partition)
        else:
            self.broker.truncate(partition, max(start, end - self.rng.choice([0, 1, 5, 20, 60])))
        self.lost_upstream |= before
        self.lost_upstream -= self._in_log(partition)
        if self.rng.random() < 0.5:
            self._later(self._commit_late(partition))

    async def _commit_late(self, partition: TopicPartition) -> None:
        """The commit of a paused worker comes: of what it read last before the truncation."""
        read = [landed for each, landed in self._objects() if each == partition]
        await asyncio.sleep(self.rng.uniform(0, 15))
        if read and not self.broker.calm:
            last = self.rng.choice(read[-3:])
            tag = ObjectKeys().commit_tag(Connection.url)
            self.broker.committed[partition] = Position(last.end, tag, "sim", last.leader_epoch)

    def _retain(self) -> None:
        partition = self.rng.choice(PARTITIONS)
        end = self.broker.ends[partition]
        reached = self._read_up_to(partition)
        until = min(end, (reached or 0) + self.rng.choice([0, 0, 0, 4]))
        if (reached is None or until > reached) and self._somebody_holds(partition, until):
            return
        before = self._in_log(partition)
        self.broker.retain_from(partition, until)
        self.lost_upstream |= before - self._in_log(partition)

    def _read_up_to(self, partition: TopicPartition) -> int | None:
        """The committed offset; where the log was truncated below it, the offset at which the chain will fork."""
        committed = self.broker.committed.get(partition)
        if committed is None or committed.leader_epoch is None:
            return committed.offset if committed else None
        return min(committed.offset, self.broker.epoch_end(partition, committed.leader_epoch).end)

    def _in_log(self, partition: TopicPartition) -> set[Identity]:
        return {self._identity(partition, record) for record in self.broker.logs[partition]}

    def _identity(self, partition: TopicPartition, record: PlainRecord) -> Identity:
        return partition, record.offset, self.broker.epochs[partition].at(record.offset)

    def _somebody_holds(self, partition: TopicPartition, until: int) -> bool:
        """Whether records that retention is about to remove may still be written by somebody.

        A hole's name has the day of the first record after it, so a writer that holds a record from within it may use
        another name: with kafka.skip_lost an operator answers for there being none.
        """
        alive = [worker for worker in self.workers if worker.member.alive]
        writers = [worker.pipeline.writers.get(partition) for worker in alive]
        held = [batch for writer in writers if writer is not None for batch in writer.buffer.batches]
        return bool(self.store.late) or any(batch.start < until for batch in held)

    def _later(self, coroutine: "asyncio.Coroutine[None, None, None]") -> None:  # type: ignore[name-defined]
        task = asyncio.create_task(coroutine)
        self._extra.add(task)
        task.add_done_callback(self._extra.discard)

    # -- what must hold

    def _check_workers(self) -> None:
        for worker in self.workers:
            if worker.task.done() and not worker.task.cancelled() and worker.task.exception():
                raise Violation("a worker failed") from worker.task.exception()
            if worker.member.alive:
                worker.check()

    async def _heal(self) -> None:
        """I8: when the faults end, one healthy worker reaches the log's end."""
        while self._extra:
            await asyncio.gather(*self._extra)
        self.broker.calm = self.store.calm = True
        for worker in self.workers:
            if worker.member.alive:
                worker.crash()
        await self.store.settle()
        for partition, position in list(self.broker.committed.items()):
            if not position.commit_tag and self.truncated[partition]:
                del self.broker.committed[partition]  # an operator resets it to the end of the chain
        healthy = self._spawn(forks=True)
        try:
            async with asyncio.timeout(300):
                while any(not self._reached(partition) and not self._halted(partition) for partition in PARTITIONS):
                    await asyncio.sleep(1)
                    self._check_workers()
        except TimeoutError:
            raise Violation(f"I8: committed {self.broker.committed}, log ends {self.broker.ends}") from None
        self.halted = {partition for partition in PARTITIONS if self._halted(partition)}
        healthy.member.finish()
        await healthy.task
        self._check_workers()

    def _halted(self, partition: TopicPartition) -> bool:
        writers = [each.pipeline.writers.get(partition) for each in self.workers if each.member.alive]
        return any(writer is not None and writer.halt is not None for writer in writers)

    def _reached(self, partition: TopicPartition) -> bool:
        log = self.broker.logs[partition]
        if not log or self._awaits_fork(partition):
            return True
        committed = self.broker.committed.get(partition)
        if committed is None or committed.leader_epoch is None:
            return committed is not None and committed.offset > log[-1].offset
        epoch, end = self.broker.epoch_end(partition, committed.leader_epoch)
        return epoch == committed.leader_epoch and min(committed.offset, end) > log[-1].offset

    def _awaits_fork(self, partition: TopicPartition) -> bool:
        """Whether the log was truncated and has nothing new since, so that there is nothing to commit."""
        if not self.broker.logs[partition]:
            return False
        _, offset, epoch = self._identity(partition, self.broker.logs[partition][-1])
        objects = [each for place, each in self._objects() if place == partition]
        landed = any(each.start <= offset < each.end and each.leader_epoch == epoch for each in objects)
        return landed and self.truncated[partition] > 0

    def _chain(self, partition: TopicPartition) -> list[ObjectMetadata]:
        """The objects in order, without those whose records are all lost: later epochs take the place of earlier."""
        chain: list[ObjectMetadata] = []
        objects = sorted((landed for each, landed in self._objects() if each == partition), key=lambda it: it.start)
        for epoch in sorted({_epoch(landed) for landed in objects}):
            begun = [landed for landed in objects if _epoch(landed) == epoch]
            chain = [landed for landed in chain if landed.start < begun[0].start] + begun
        return chain

    def _ends(self, partition: TopicPartition) -> set[int]:
        """Where the chain ends; each end of its last objects, where the log has lost them and has nothing new yet."""
        ends = set()
        for landed in reversed(self._chain(partition)):
            ends.add(landed.end)
            epoch, end = self.broker.epoch_end(partition, _epoch(landed))
            if epoch == landed.leader_epoch and end >= landed.end:
                break
        return ends

    def _objects(self) -> list[tuple[TopicPartition, ObjectMetadata]]:
        found = []
        for key, (_, metadata) in self.store.objects.items():
            if key.startswith("events/"):
                landed = ObjectMetadata.from_metadata(metadata)
                assert landed is not None
                found.append((TopicPartition(landed.topic, landed.partition), landed))
        return found

    def _check_end(self) -> None:
        if self.store.overwritten:
            raise Violation(f"I5: overwritten {self.store.overwritten}")
        rows = self._rows("events/", "source_offset", "source_partition")
        quarantined = self._rows("quarantine/", "offset", "partition")
        doubled = {where: count for where, count in rows.items() if count > 1}
        if doubled:
            raise Violation(f"doubled: {doubled}")
        if unknown := (set(rows) | set(quarantined)) - self.produced:
            raise Violation(f"never produced: {unknown}")
        missing = self.produced - set(rows) - set(quarantined) - self.lost_upstream - self._skipped()
        missing = {identity for identity in missing if identity[0] not in self.halted}
        if missing:
            raise Violation(f"I2: lost {sorted(missing)}")
        for partition in set(PARTITIONS) - self.halted:
            self._check_chain(partition)

    def _skipped(self) -> set[Identity]:
        """The tombstones in the ranges of objects that count them. Some that Kafka lost may not have been read."""
        found = set[Identity]()
        for partition, landed in self._objects():
            if not landed.skipped:
                continue
            offsets = range(landed.start, landed.end)
            within = {it for it in self.tombstones if it[::2] == (partition, _epoch(landed)) and it[1] in offsets}
            if not len(within - self.lost_upstream) <= landed.skipped <= len(within):
                raise Violation(f"I2: {landed} counts {landed.skipped} skipped records; produced were {within}")
            found |= within
        return found

    def _check_chain(self, partition: TopicPartition) -> None:
        # Where the log went back, an earlier epoch is in the chain again.
        chain = [(each.start, each.end, _epoch(each)) for each in self._chain(partition)]
        for (_, end, epoch), (start, _, next_epoch) in pairwise(chain):
            if (end < start or (end > start and epoch == next_epoch)) and partition not in self.went_back:
                raise Violation(f"{'I1: overlap' if start < end else 'I3: gap'} in {partition}: {chain}")
        committed = self.broker.committed.get(partition)
        untagged = committed is None or not committed.commit_tag
        is_empty = not self.broker.logs[partition]
        if self._awaits_fork(partition) or (is_empty and (untagged or self.truncated[partition])):
            return  # nothing was left to read, so the worker was stopped before it found or adopted the chain's end
        ends = self._ends(partition)
        if partition in self.went_back:
            last = committed.leader_epoch if committed is not None else None
            ends = {each.end for _, each in self._objects() if each.leader_epoch == last}
        if chain and (committed is None or committed.offset not in ends):
            raise Violation(f"I3: committed {committed}, the chain ends at {ends}")
        keys = ObjectKeys()
        for key, (_, metadata) in self.store.objects.items():
            landed = ObjectMetadata.from_metadata(metadata)
            if key.startswith("events/") and landed is not None and landed.partition == partition.partition:
                day = datetime.fromtimestamp(landed.first_timestamp / 1000, UTC)
                name = keys.parse(key)
                starts = name is not None and landed.start <= name.start <= landed.first_offset
                if f"day={day.day:02d}/" not in key or not starts:
                    raise Violation(f"I4: {key} holds {landed}")

    def _rows(self, prefix: str, offset: str, partition: str) -> Counter[Identity]:
        found: Counter[Identity] = Counter()
        for key, (body, user_metadata) in self.store.objects.items():
            metadata = ObjectMetadata.from_metadata(user_metadata)
            if key.startswith(prefix) and metadata is not None:
                for line in gzip.decompress(body).splitlines():
                    row = json.loads(line)
                    found[TopicPartition("events", row[partition]), row[offset], metadata.leader_epoch] += 1
        return found


def _epoch(landed: ObjectMetadata) -> int:
    assert landed.leader_epoch is not None
    return landed.leader_epoch
