"""What a fault may hurt: running daemons, their broker and store or the proxies before them, the writer of events."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path

from aiokafka.errors import KafkaError

from ingestd.ops.readiness import Status
from tests.chaos.kafka_proxy import KafkaProxy
from tests.chaos.s3_proxy import S3Proxy
from tests.chaos.services import Services
from tests.e2e.daemon import DEADLINE, Daemon, credentials, settings
from tests.e2e.events import Load
from tests.e2e.group import CommittedOffsets, ends
from tests.e2e.ledger import Ledger, read, read_directory
from tests.services.kafka_cluster import KafkaCluster

# Events a second that are written throughout. The short form shares the machine with other tests, and what daemons,
# broker and store do for each event would be most of its time.
_RATE, _SHORT_RATE = 2000, 500
_PIECES = 20  # writes a second
_POLL = 0.1
_ANSWER = 2.0  # seconds for one answer; a broker that is frozen gives none

# Small batches, so that a fault comes between two steps of many, and little patience, so that it ends soon.
_QUICK = {
    "batch.interval": "500ms",
    "sink.retry_initial": "100ms",
    "sink.retry_max": "1s",
    "s3.connect_timeout": "2s",
    "s3.read_timeout": "3s",
    "s3.put_timeout": "10s",
}
_SHORT_SESSION = {"kafka.session_timeout": "3s", "kafka.heartbeat_interval": "500ms", "kafka.rebalance_timeout": "6s"}


class Rig:
    """One topic, one bucket, one group of daemons.

    `records` of the ledger at the end are those of `load`, but for the offsets in `forgiven`, by partition.
    """

    def __init__(
        self,
        services: Services,
        proxies: tuple[KafkaProxy | None, S3Proxy],
        load: Load,
        *,
        topic: str,
        directory: Path,
        more: Mapping[str, str],
        long: bool,
    ) -> None:
        self.kafka, self.store = services.kafka, services.store
        self._wire, self.s3 = proxies
        self.load = load
        self.topic = topic
        self.bucket = bucket_name(topic)
        self.directory = directory
        self.long = long
        self.daemons: list[Daemon] = []
        self.sink: Path | None = None  # a directory, where it is not the bucket
        self.lineage: str | None = None
        self.writing = asyncio.Lock()  # whoever holds it, nobody writes meanwhile
        self.forgiven: dict[int, set[int]] = {}
        self.recovery: asyncio.Task[float] | None = None
        self.until_end = AsyncExitStack()  # what is to be undone when everything has been counted
        self._environment = credentials(services.store)
        self.settings = {
            **settings(services.proxied_bootstrap, services.proxied_store, self.bucket, topic),
            **_QUICK,
            **({} if long else _SHORT_SESSION),
            **more,
        }

    @property
    def kafka_proxy(self) -> KafkaProxy:
        """Before the only broker."""
        assert self._wire is not None
        return self._wire

    @property
    def cluster(self) -> KafkaCluster:
        """The three brokers, where there are three."""
        assert isinstance(self.kafka, KafkaCluster)
        return self.kafka

    # -- daemons

    def daemon(
        self,
        name: str,
        more: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
        program: Sequence[str] = ("-m", "ingestd"),
    ) -> Daemon:
        """One more of the group, not started yet. `more` and `environment` add to those of the run."""
        keys, variables = {**self.settings, **(more or {})}, {**self._environment, **(environment or {})}
        made = Daemon(name, self.directory, keys, variables, program)
        self.daemons.append(made)
        return made

    async def start(self) -> None:
        """Start all that do not run, and wait until each is ready and owns partitions."""
        for daemon in self.daemons:
            if not daemon.running:
                daemon.start()
        await self.all(lambda status: status.ready and status.assigned)

    @property
    def running(self) -> list[Daemon]:
        return [daemon for daemon in self.daemons if daemon.running]

    async def all(self, condition: Callable[[Status], object], deadline: float = DEADLINE) -> None:
        """Wait until the status of each running daemon has met `condition`."""
        for daemon in self.running:
            await daemon.until(condition, deadline)

    def said(self, words: str) -> int:
        """How many lines of the daemons' logs have these words, those of earlier runs among them."""
        return sum(daemon.log_text().count(words) for daemon in self.daemons)

    @property
    def session(self) -> float:
        """The session time-out, seconds."""
        return float(self.settings["kafka.session_timeout"].removesuffix("s"))

    # -- time

    async def lasts(self, seconds: float = 30.0) -> None:
        """How long a fault goes on after it was felt: so many seconds in the long form."""
        if self.long:
            await asyncio.sleep(seconds)

    async def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait for something that no daemon's status tells; `what` is said where it does not come."""
        limit = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < limit, f"after {DEADLINE:g} s still not: {what}"
            await asyncio.sleep(_POLL)

    async def fired(self, what: str, times: int) -> None:
        """Wait until the store's proxy has done `what` so many times."""
        await self.until(lambda: self.s3.fired[what] >= times, f"{what}, {times} times")

    async def landed(self) -> None:
        """Wait until all that is written now has landed and is committed."""
        await self.committed(ends(self.load.records))

    async def landed_by(self, event: Awaitable[object]) -> None:
        """Wait until all that is written now has landed, as it must by what happens meanwhile."""
        wanted = ends(self.load.records)
        await self.taken(wanted)
        await event
        await self.committed(wanted)

    async def taken(self, wanted: Mapping[int, int]) -> None:
        """Wait until the running daemons have taken all of `wanted`."""
        await _reached(wanted, self._positions, "taken")

    async def _positions(self) -> Mapping[int, int]:
        statuses = [await daemon.status() for daemon in self.running]
        return {each.partition: each.position or 0 for status in statuses for each in status.partitions}

    def over(self) -> None:
        """The fault ends now: what follows is recovery."""
        if self.recovery is None:
            self.recovery = asyncio.create_task(self._recover(ends(self.load.records)), name="recovery")

    async def outlived(self) -> None:
        """The fault has come, and the group has to live with it: what follows is recovery, until that is done.

        Of several the longest counts.
        """
        wanted = {partition: end + 1 for partition, end in ends(self.load.records).items()}
        task = asyncio.create_task(self._recover(wanted), name="recovery")
        seconds = await task
        if self.recovery is None or self.recovery.result() < seconds:
            self.recovery = task

    async def _recover(self, wanted: Mapping[int, int]) -> float:
        """Seconds until all of `wanted` is committed, and so has landed, and all running daemons are ready."""
        began = time.monotonic()
        await self.committed(wanted)
        await self.all(lambda status: status.ready)
        return time.monotonic() - began

    async def committed(self, wanted: Mapping[int, int]) -> None:
        """Wait until all of `wanted` is committed, and so has landed."""
        async with CommittedOffsets(self.kafka.bootstrap, self.topic, self.topic) as offsets:
            await _reached(wanted, offsets.get, "committed")

    # -- events

    async def write(self, enough: Callable[[], bool]) -> None:
        """Write events evenly, so that some are on their way at whatever moment."""
        loop = asyncio.get_running_loop()
        piece = (_RATE if self.long else _SHORT_RATE) // _PIECES
        due = loop.time()
        while not enough():
            async with self.writing:
                await self.load.write(piece)
            due = max(due + 1 / _PIECES, loop.time() - 1)  # what a stall of the broker cost is not made up for
            await asyncio.sleep(due - loop.time())

    @property
    def records(self) -> dict[int, set[int]]:
        """Offsets by partition that must be in a row or in quarantine."""
        return {
            partition: set(offsets) - self.forgiven.get(partition, set())
            for partition, offsets in self.load.records.items()
        }

    @property
    def ids(self) -> set[str] | None:
        """Of the events that must be in rows; None where that is not known."""
        return None if self.forgiven else self.load.ids

    def read(self) -> Ledger:
        """All that was landed, in the lineage of now."""
        if self.sink is not None:
            return read_directory(self.sink, self.topic)
        return read(self.store, self.bucket, self.topic, self.lineage)


async def _reached(wanted: Mapping[int, int], look: Callable[[], Awaitable[Mapping[int, int]]], what: str) -> None:
    limit = time.monotonic() + 2 * DEADLINE
    found: Mapping[int, int] = {}
    while any(found.get(partition, 0) < end for partition, end in wanted.items()):
        assert time.monotonic() < limit, f"after {2 * DEADLINE:g} s {found} is {what}, not {dict(wanted)}"
        await asyncio.sleep(_POLL)
        with suppress(OSError, KafkaError):  # who is asked may be hurt
            async with asyncio.timeout(_ANSWER):
                found = await look()


def bucket_name(topic: str) -> str:
    """The bucket of a run."""
    return topic.replace("_", "-")
