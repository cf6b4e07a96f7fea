"""Which shards this daemon reads: assigns and revokes them as shards and members come and go."""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress

from ingestd.core.records import TopicPartition
from ingestd.sources.base import Listener
from ingestd.sources.kinesis.connection import Connection
from ingestd.sources.kinesis.continuity import CaughtUp, WasOpen
from ingestd.sources.kinesis.port import Shard
from ingestd.sources.kinesis.reader import ShardReader
from ingestd.sources.kinesis.shards import Sharing, by_number, readable, shard_number
from ingestd.sources.kinesis.state import StreamState

log = logging.getLogger(__name__)

LIST_INTERVAL_S = 30.0  # the end of a shard of ours is noticed at once


class Assignment:
    """`readers` are those of the shards that are ours. `members` gives the daemons that live, this one among them."""

    def __init__(
        self,
        topic: str,
        connection: Connection,
        state: StreamState,
        member_id: str,
        *,
        members: Callable[[], Collection[str]],
        new_reader: Callable[[int, Shard], ShardReader],
        done_interval_s: float,
    ) -> None:
        self.readers: dict[int, ShardReader] = {}
        self._topic = topic
        self._connection = connection
        self._state = state
        self._member_id = member_id
        self._members = members
        self._new_reader = new_reader
        self._done_interval_s = done_interval_s
        self._listener: Listener | None = None
        self._shards: dict[int, Shard] = {}
        self._created = ""
        self._done: set[int] = set()
        self._proofs: dict[int, CaughtUp] = {}
        self._proofs_of = ""  # the id of the stream
        self._ended: set[int] = set()  # read to their ends and handed out
        self._open_ms: dict[int, int] = {}  # the last time at which each shard was listed as open
        self._sharing = Sharing()
        self._lock = asyncio.Lock()
        self._wake = asyncio.Event()
        self._list_at = 0.0

    # -- what others tell

    def wake(self) -> None:
        """The members have changed."""
        self._wake.set()

    def list_again(self) -> None:
        """The shards may have changed, or the stream."""
        self._list_at = 0.0
        self._wake.set()

    def ended(self, number: int) -> None:
        """All records of a shard that is closed were handed out, and those before the last are in batches."""
        self._ended.add(number)
        self.list_again()

    def out_of_range(self, number: int) -> None:
        """The log does not continue what was read."""
        self._listener_or_raise().on_out_of_range(TopicPartition(self._topic, number))

    def add_proofs(self, proofs: Mapping[int, CaughtUp]) -> None:
        """What another daemon knows of this stream."""
        if self._proofs_of != self._connection.created:
            self._proofs, self._proofs_of = {}, self._connection.created
        for number, proof in proofs.items():
            known = self._proofs.get(number)
            # Of two of one time, that counts which knows of a shorter retention.
            if known is None or (known.at_ms, -known.retention_ms) < (proof.at_ms, -proof.retention_ms):
                self._proofs[number] = proof

    def proofs(self) -> dict[int, CaughtUp]:
        """When the log of each shard was last seen empty behind what has landed."""
        self.add_proofs({number: proof for number, it in self.readers.items() if (proof := it.proof()) is not None})
        for number, proof in self._proofs.items():
            shortest_ms = min(proof.retention_ms, self._connection.retention.since(proof.at_ms))
            self._proofs[number] = proof._replace(retention_ms=shortest_ms)
        return self._proofs

    # -- the loop

    async def run(self, listener: Listener) -> None:
        """Assign and revoke until cancelled."""
        self._listener = listener
        while True:
            self._wake.clear()
            await self.update()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._next_look_s()):
                    await self._wake.wait()

    async def update(self) -> None:
        """Make what is assigned what should be."""
        async with self._lock:
            await self._finish_ended()
            if asyncio.get_running_loop().time() >= self._list_at:
                await self._list()
            if self._has_open_questions():
                self._done |= await self._state.done(self._created)
            ours = self._sharing.of(self._member_id, self._members(), readable(self._shards, self._done))
            await self._revoke(self.readers.keys() - ours)
            self._assign(sorted(ours - self.readers.keys()))

    async def revoke_all(self) -> None:
        """Revoke every shard, and look again who reads what."""
        async with self._lock:
            await self._revoke(self.readers.keys())
            self.list_again()

    def close(self) -> None:
        """Read no more."""
        for reader in self.readers.values():
            reader.pause()
        self.readers.clear()

    def _next_look_s(self) -> float:
        until_list = max(0.0, self._list_at - asyncio.get_running_loop().time())
        return min(until_list, self._done_interval_s) if self._has_open_questions() else until_list

    def _has_open_questions(self) -> bool:
        """Whether another daemon may come to the end of a shard whose children wait for that."""
        return any(shard.closed and number not in self._done for number, shard in self._shards.items())

    async def _list(self) -> None:
        stream = await self._connection.describe(max_age_s=1.0)
        created = str(stream.created_ms)
        if self._created not in {"", created}:
            self._done, self._ended, self._open_ms = set(), set(), {}
            for reader in self.readers.values():
                if reader.created != created:
                    reader.lose()
        self._created = created
        listed_ms = self._connection.now_ms()
        self._shards = by_number(await self._connection.list_shards())
        self._open_ms |= {number: listed_ms for number, shard in self._shards.items() if not shard.closed}
        self._list_at = asyncio.get_running_loop().time() + LIST_INTERVAL_S
        self._done &= self._shards.keys()
        self._proofs = {number: proof for number, proof in self._proofs.items() if number in self._shards}
        self._open_ms = {number: at for number, at in self._open_ms.items() if number in self._shards}

    async def _finish_ended(self) -> None:
        """Land the rest of the shards that are read, and say so to all: then their children can be read."""
        numbers = [number for number in sorted(self._ended) if self._is_at_end(number)]
        self._ended.clear()
        if not numbers:
            return
        await self._listener_or_raise().on_revoked(self._partitions(numbers))
        again = []
        for number in numbers:
            reader = self.readers[number]
            end = reader.ended_at
            if end is None or reader.landed is None or reader.landed < end:
                reader.pause()
                again.append(number)
                continue
            await self._state.mark_done(reader.created, number, end, await self._was_open(number, reader))
            self._done.add(number)
            del self.readers[number]
            log.info("%s is closed, and has landed to its end", reader.shard.id)
        if again:  # the sink was down, or another daemon was ahead
            self._listener_or_raise().on_assigned(self._partitions(again))

    async def _was_open(self, number: int, reader: ShardReader) -> WasOpen | None:
        """When the shard was open, or not there yet: its children are younger. None where no such time is known.

        An answer to a read tells nothing: AWS may hand out an iterator at the end of a shard that is closed already.
        """
        retention = self._connection.retention
        parents = [await self._state.was_open(reader.created, shard_number(it)) for it in reader.shard.parents]
        known = [WasOpen(it.at_ms, min(it.retention_ms, retention.since(it.at_ms))) for it in parents if it is not None]
        if (open_ms := self._open_ms.get(number)) is not None:
            known.append(WasOpen(open_ms, retention.since(open_ms)))
        if reader.last_ms is not None:
            known.append(WasOpen(reader.last_ms, retention.since(reader.read_ms)))
        return max(known, key=sum, default=None)

    def _is_at_end(self, number: int) -> bool:
        reader = self.readers.get(number)
        return reader is not None and reader.is_at_end

    async def _revoke(self, numbers: Iterable[int]) -> None:
        leaving = sorted(numbers)
        if not leaving:
            return
        await self._listener_or_raise().on_revoked(self._partitions(leaving))
        self.proofs()
        for number in leaving:
            self.readers.pop(number).pause()

    def _assign(self, numbers: Collection[int]) -> None:
        if not numbers:
            return
        for number in numbers:
            self.readers[number] = self._new_reader(number, self._shards[number])
        self._listener_or_raise().on_assigned(self._partitions(numbers))

    def _partitions(self, numbers: Iterable[int]) -> list[TopicPartition]:
        return [TopicPartition(self._topic, number) for number in numbers]

    def _listener_or_raise(self) -> Listener:
        if self._listener is None:
            raise RuntimeError("start() comes first")
        return self._listener
