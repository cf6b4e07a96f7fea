"""Who else reads the stream for this lineage: each daemon writes a heartbeat, and looks at those of the others.

There are no leases. Two daemons may read one shard for a while: that costs reads only, since the first object under a
name wins. So nothing waits for a daemon that was given up, and clocks need not agree.
"""

import asyncio
import os
import re
import socket
from collections.abc import Callable, Mapping

from ingestd.sources.kinesis.continuity import CaughtUp
from ingestd.sources.kinesis.state import StreamState, heartbeat

READS_AT_ONCE = 16
_OTHER = re.compile(r"[^A-Za-z0-9._-]")


def default_member_id() -> str:
    """The host's name and the process."""
    return _OTHER.sub("-", f"{socket.gethostname()[:100]}-{os.getpid()}")


class _Peer:
    """Another daemon, as it was last seen."""

    def __init__(self, version: str) -> None:
        self.version = version
        self.alive_until = 0.0  # on the loop's clock


class Membership:
    """`proofs` gives what this daemon tells of its shards; `on_proofs` gets what others tell of theirs.

    `now_ms` is AWS' clock, `created` the stream's id. `on_change` is called when the members have changed.
    """

    def __init__(
        self,
        state: StreamState,
        member_id: str,
        *,
        interval_s: float,
        timeout_s: float,
        now_ms: Callable[[], int],
        created: Callable[[], str],
        proofs: Callable[[], Mapping[int, CaughtUp]],
        on_proofs: Callable[[Mapping[int, CaughtUp]], None],
        on_change: Callable[[], None],
    ) -> None:
        self.member_id = member_id
        self.members: frozenset[str] = frozenset({member_id})
        self.has_looked = asyncio.Event()
        self._state = state
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._now_ms = now_ms
        self._created = created
        self._proofs = proofs
        self._on_proofs = on_proofs
        self._on_change = on_change
        self._peers: dict[str, _Peer] = {}
        self._reads = asyncio.Semaphore(READS_AT_ONCE)

    async def run(self) -> None:
        """Write and look until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            await self.beat()
            await self.look()
            self.has_looked.set()
            await asyncio.sleep(max(0.0, began + self._interval_s - loop.time()))

    async def beat(self) -> None:
        await self._state.beat(self.member_id, heartbeat(self._now_ms(), self._created(), self._proofs()))

    async def leave(self) -> None:
        """Tell the others to go on at once."""
        await self._state.beat(self.member_id, heartbeat(self._now_ms(), self._created(), self._proofs(), left=True))

    async def look(self) -> None:
        """Read the heartbeats that have changed. A member lives for the time-out after each change."""
        beats = await self._state.beats()
        beats.pop(self.member_id, None)
        for gone in self._peers.keys() - beats.keys():
            del self._peers[gone]
        changed = [name for name, text in beats.items() if name not in self._peers or self._peers[name].version != text]
        await asyncio.gather(*(self._hear(name, beats[name]) for name in changed))
        now = asyncio.get_running_loop().time()
        alive = {name for name, peer in self._peers.items() if peer.alive_until > now}
        members = frozenset({self.member_id, *alive})
        if members != self.members:
            self.members = members
            self._on_change()

    async def _hear(self, name: str, version: str) -> None:
        async with self._reads:
            body = await self._state.heard(name)
        is_new = name not in self._peers
        peer = self._peers.setdefault(name, _Peer(version))
        peer.version = version
        if body is None or body.left:
            peer.alive_until = 0.0
        else:
            # Of one that was never seen to change only its own clock says that it lives; most are from former days.
            age_s = max(0.0, (self._now_ms() - body.at_ms) / 1000) if is_new else 0.0
            peer.alive_until = asyncio.get_running_loop().time() + self._timeout_s - age_s
        if body is not None and body.created == self._created():
            self._on_proofs(body.proofs())
