"""Three Kafka brokers, each of them a controller too: every topic is on all three, and two must have a record."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple, Self

from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.admin import AlterPartitionReassignmentsRequest
from aiokafka.protocol.coordination import FindCoordinatorRequest
from aiokafka.protocol.metadata import MetadataRequest

from ingestd.core.records import EpochEnd, TopicPartition
from ingestd.sources.kafka._aiokafka.protocol import EpochEndRequest
from tests.services.kafka import KafkaBroker, random_id, topic_admin
from tests.services.kafka_requests import DescribeQuorum, ElectLeaders, IncrementalAlterConfigs

NODES = (1, 2, 3)
_DEADLINE = 60.0  # seconds until the cluster has done what it is asked
_POLL = 0.05
_ELECTION_NOT_NEEDED = 84
_QUORUM_TOPIC = "__cluster_metadata"

_PROPERTIES = {
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "share.coordinator.state.topic.replication.factor": "3",
    "share.coordinator.state.topic.min.isr": "2",
    # A session of the group's members may be as short as a test likes; 6 s unless told otherwise.
    "group.min.session.timeout.ms": "1000",
    # Preferred leaders are elected when a test says so.
    "auto.leader.rebalance.enable": "false",
    # How long a follower may lag behind before a record is acknowledged without it, 30 s by default.
    "replica.lag.time.max.ms": "5000",
}


#: Sends a request to a broker, and gets its answer.
Send = Callable[[Any], Awaitable[Any]]


class PartitionState(NamedTuple):
    """What the cluster says of a partition; `leader` is -1 where there is none."""

    leader: int
    replicas: list[int]
    in_sync: list[int]


class KafkaCluster:
    """Three brokers of our own; `nodes` are there to be killed, frozen and wiped one by one."""

    def __init__(self, directory: Path, properties: Mapping[str, str] | None = None) -> None:
        self.nodes: dict[int, KafkaBroker] = {}
        for number in NODES:
            (directory / str(number)).mkdir()
            more = {**_PROPERTIES, **(properties or {})}
            self.nodes[number] = KafkaBroker(directory / str(number), properties=more, node_id=number, heap="400m")
        cluster_id, voters = random_id(), [node.voter for node in self.nodes.values()]
        for node in self.nodes.values():
            node.join(cluster_id, voters)

    @property
    def bootstrap(self) -> str:
        """All addresses."""
        return ",".join(node.bootstrap for node in self.nodes.values())

    @property
    def running(self) -> bool:
        """Whether all of them are."""
        return all(node.running for node in self.nodes.values())

    def start(self, numbers: Iterable[int] = NODES) -> None:
        """Start those that do not run, at once, and wait until all clients are told of each."""
        _all_at_once(node.start for node in self._these(numbers) if not node.running)

    def stop(self, numbers: Iterable[int] = NODES) -> None:
        """Shut them down in an orderly way."""
        _all_at_once(node.stop for node in self._these(numbers))

    def kill(self, numbers: Iterable[int] = NODES) -> None:
        """End them with SIGKILL."""
        for node in self._these(numbers):
            node.kill()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for node in self.nodes.values():
            node.remove()

    def _these(self, numbers: Iterable[int]) -> list[KafkaBroker]:
        return [self.nodes[number] for number in numbers]

    # -- who does what

    async def partitions(self, topic: str) -> dict[int, PartitionState]:
        """What the cluster says of a topic's partitions."""
        async with self._sender() as send:
            (found,) = (await send(MetadataRequest([topic]))).to_object()["topics"]
        return {
            each["partition"]: PartitionState(each["leader"], each["replicas"], each["isr"])
            for each in found["partitions"]
        }

    async def leader(self, topic: str, partition: int = 0) -> int:
        """The broker that leads a partition."""
        return (await self.partitions(topic))[partition].leader

    async def coordinator(self, name: str, *, transactions: bool = False) -> int:
        """The broker that coordinates a group, or the transactions of a writer."""
        async with self._sender() as send, asyncio.timeout(_DEADLINE):
            while True:
                found = await send(FindCoordinatorRequest(name, int(transactions)))
                if not found.error_code:
                    return int(found.coordinator_id)
                await asyncio.sleep(_POLL)  # the topic for it is made when somebody first asks

    async def controller(self) -> int:
        """The active one."""
        async with self._sender() as send:
            answer = await send(DescribeQuorum([(_QUORUM_TOPIC, [(0, {})], {})], {}))
        ((_name, ((_partition, code, leader, *_rest),), _tags),) = answer.topics
        _check(code)
        return int(leader)

    async def epochs(self, topic: str, partition: int = 0) -> dict[int, int]:
        """Where each leader epoch of a partition's log ends; the last is the leader's, and ends where the log does."""
        async with self._sender(await self.leader(topic, partition)) as send:
            return await epochs(send, topic, partition)

    # -- changes

    async def configure(self, topic: str, config: Mapping[str, str]) -> None:
        """Set keys of a topic."""
        operations = [(key, IncrementalAlterConfigs.SET, value) for key, value in config.items()]
        async with self._sender() as send:
            answer = await send(IncrementalAlterConfigs([(IncrementalAlterConfigs.TOPIC, topic, operations)], 0))
        for code, *_ in answer.resources:
            _check(code)

    async def reassign(self, topic: str, replicas: Mapping[int, list[int]]) -> None:
        """Give partitions other brokers, the preferred leader first, and wait until they are moved."""
        moves: list[tuple[int, list[int], dict[int, bytes]]] = [
            (partition, brokers, {}) for partition, brokers in replicas.items()
        ]
        async with self._sender() as send:
            answer = await send(AlterPartitionReassignmentsRequest(10_000, [(topic, moves, {})], {}))
        _check(answer.error_code)
        for _, results, _ in answer.responses:
            for _partition, code, *_ in results:
                _check(code)
        await self.until(
            topic,
            lambda found: all(
                sorted(found[partition].replicas) == sorted(found[partition].in_sync) == sorted(brokers)
                for partition, brokers in replicas.items()
            ),
        )

    async def elect(self, topic: str, partitions: Iterable[int], *, unclean: bool = False) -> None:
        """Make the preferred replica the leader; `unclean`: any that runs, also where it lacks records."""
        kind = ElectLeaders.UNCLEAN if unclean else ElectLeaders.PREFERRED
        async with self._sender() as send:
            answer = await send(ElectLeaders(kind, [(topic, list(partitions))], 10_000))
        _check(answer.error_code)
        for _, results in answer.topics:
            for _partition, code, _message in results:
                if code != _ELECTION_NOT_NEEDED:
                    _check(code)

    async def until(self, topic: str, condition: Callable[[dict[int, PartitionState]], object]) -> None:
        """Wait until the partitions of a topic meet `condition`."""
        limit = time.monotonic() + _DEADLINE
        while not condition(found := await self.partitions(topic)):
            assert time.monotonic() < limit, f"after {_DEADLINE:g} s {topic} is still {found}"
            await asyncio.sleep(_POLL)

    async def until_without(self, topic: str, number: int) -> None:
        """Wait until a broker leads no partition of a topic and counts for none: what it does or lacks matters not."""
        await self.until(
            topic, lambda found: all(number not in {each.leader, *each.in_sync} for each in found.values())
        )

    async def until_healed(self, topic: str) -> None:
        """Wait until all replicas of a topic are in sync."""
        await self.until(
            topic, lambda found: all(sorted(each.in_sync) == sorted(each.replicas) for each in found.values())
        )

    @asynccontextmanager
    async def _sender(self, number: int | None = None) -> AsyncIterator[Send]:
        """What sends a request to this broker, or to one that answers and passes it on to whom it is for."""
        node = next(node for node in self.nodes.values() if node.answers and number in {None, node.node_id})
        async with topic_admin(node.bootstrap) as admin:
            yield lambda request: admin._send_request_to_node(node.node_id, request)


async def epochs(send: Send, topic: str, partition: int) -> dict[int, int]:
    """As a broker tells, who leads the partition and to whom `send` sends a request."""
    ends: dict[int, int] = {}
    for asked in count():
        (end,) = EpochEndRequest.ends(await send(EpochEndRequest({TopicPartition(topic, partition): asked}))).values()
        if not isinstance(end, EpochEnd):
            raise end
        if end.epoch < 0:  # later than the leader's
            break
        ends[end.epoch] = end.end
    return ends


def _check(code: int) -> None:
    if code:
        error: type[KafkaError] = for_code(code)
        raise error(f"code {code}")


def _all_at_once(steps: Iterable[Callable[[], object]]) -> None:
    with ThreadPoolExecutor(len(NODES)) as threads:
        for done in [threads.submit(step) for step in steps]:
            done.result()
