"""Apache Kafka: the real broker, one node in KRaft mode, with its jars from Maven."""

import asyncio
import base64
import shutil
import socket
import struct
import subprocess
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import trustme
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import UnknownTopicOrPartitionError, for_code
from cryptography.hazmat.primitives import serialization

from tests.services.environment import locked
from tests.services.kafka_program import class_archive, java_command
from tests.services.ports import HOST, free_port
from tests.services.process import Process, ServiceError
from tests.services.server import Server


@dataclass(frozen=True)
class KafkaAddress:
    """A broker that somebody else runs."""

    bootstrap: str


@dataclass(frozen=True)
class SecuredKafka(KafkaAddress):
    """A broker that listens with TLS and SCRAM-SHA-512 as well as in plaintext. `directory` has its data."""

    sasl_bootstrap: str
    username: str
    password: str
    ca_file: Path
    directory: Path


_MOST_BROKERS = 100


class Voter(NamedTuple):
    """A controller, as all controllers of its cluster know it from the beginning."""

    node_id: int
    address: str
    directory_id: str

    def __str__(self) -> str:
        return f"{self.node_id}@{self.address}:{self.directory_id}"


class KafkaBroker(Server):
    """A broker of our own. It keeps its data and its ports from one start to the next.

    `proxy_port` is where somebody passes connections on to `proxied_port`: clients that come that way are sent back
    there, as a broker tells each client where to find it. It is a cluster of its own until it joins others.
    """

    name = "Kafka"

    def __init__(
        self,
        directory: Path,
        *,
        tls: bool = False,
        port: int | None = None,
        proxy_port: int | None = None,
        properties: Mapping[str, str] | None = None,
        node_id: int = 1,
        heap: str = "512m",
        java_options: Sequence[str] = (),
    ) -> None:
        super().__init__(directory)
        self.node_id = node_id
        self._data = directory / "data"
        self._heap, self._java_options = heap, java_options
        self._tls = tls
        self._proxy_port = proxy_port
        self.proxied_port = free_port()
        self._extra = dict(properties or {})
        self._config = directory / "server.properties"
        self._port = port or free_port()
        self.voter = Voter(node_id, f"{HOST}:{free_port()}", random_id())
        self._cluster_id, self._voters = random_id(), [self.voter]
        self._sasl_port = free_port()
        self._frozen = False
        self.username = "ingestd"
        self.password = "only-for-tests"
        self.ca_file = directory / "ca.pem"

    @property
    def bootstrap(self) -> str:
        """The plaintext address."""
        return f"{HOST}:{self._port}"

    @property
    def sasl_bootstrap(self) -> str:
        """The address with TLS and SCRAM-SHA-512; only with tls=True."""
        return f"{HOST}:{self._sasl_port}"

    @property
    def secured(self) -> SecuredKafka:
        """What a client needs; only with tls=True."""
        return SecuredKafka(
            self.bootstrap, self.sasl_bootstrap, self.username, self.password, self.ca_file, self.directory / "data"
        )

    @property
    def answers(self) -> bool:
        """Whether it is alive and not frozen."""
        return self.running and not self._frozen

    def join(self, cluster_id: str, voters: Iterable[Voter]) -> None:
        """Be one broker and controller of several. Before the first start."""
        assert self._process is None
        self._cluster_id, self._voters = cluster_id, list(voters)

    def freeze(self) -> None:
        """Stop the broker's clock (SIGSTOP)."""
        super().freeze()
        self._frozen = True

    def thaw(self) -> None:
        """Let it go on (SIGCONT)."""
        super().thaw()
        self._frozen = False

    def remove(self) -> None:
        """End it with SIGKILL and remove its data; the log stays."""
        self.kill()
        shutil.rmtree(self._data, ignore_errors=True)

    # -- its disk, while it is down

    def wipe(self, topic: str) -> None:
        """Remove all that it has of a topic, as a new disk in place of a broken one."""
        assert not self.running
        for log in self._data.glob(f"{topic}-*"):
            shutil.rmtree(log)

    def prepare(self) -> Process:
        java = java_command(self.directory, self._heap)
        if self._tls:
            self._write_certificates()
        properties = {**self._base_properties(), **self._listeners(), **self._extra}
        self._config.write_text("".join(f"{key}={value}\n" for key, value in properties.items()))
        self._format(java)
        command = [*java, *self._java_options, "kafka.Kafka", str(self._config)]
        return Process(self.name, command, self.directory / "kafka.log")

    def _format(self, java: list[str]) -> None:
        # In one word: the id may begin with a hyphen.
        arguments = [f"--cluster-id={self._cluster_id}", "-c", str(self._config)]
        arguments += ["--initial-controllers", ",".join(map(str, self._voters))]
        if self._tls:
            arguments += ["--add-scram", f"SCRAM-SHA-512=[name={self.username},password={self.password}]"]
        command = [*java, "kafka.tools.StorageTool", "format", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ServiceError(f"Kafka's storage cannot be formatted:\n{done.stdout}{done.stderr}")

    def _base_properties(self) -> dict[str, str]:
        return {
            "process.roles": "broker,controller",
            "node.id": str(self.node_id),
            "log.dirs": str(self._data),
            "controller.quorum.bootstrap.servers": ",".join(voter.address for voter in self._voters),
            "controller.listener.names": "CONTROLLER",
            # After SIGKILL the broker comes back only when the session of its former self has run out, 9 s by default.
            "broker.session.timeout.ms": "3000",
            "broker.heartbeat.interval.ms": "500",
            "listener.security.protocol.map": (
                "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,SASL_SSL:SASL_SSL"
            ),
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "4",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            # Between two looks for something to compact, 15 s by default.
            "log.cleaner.backoff.ms": "500",
            "auto.create.topics.enable": "false",
            # Records of 1970 would be removed whenever the broker looks for old segments, every five minutes.
            "log.retention.ms": "-1",
        }

    def _listeners(self) -> dict[str, str]:
        advertised = {"PLAINTEXT": self.bootstrap}
        bound = {"PLAINTEXT": self.bootstrap, "CONTROLLER": self.voter.address}
        if self._tls:
            advertised["SASL_SSL"] = bound["SASL_SSL"] = self.sasl_bootstrap
        if self._proxy_port is not None:
            bound["PROXIED"], advertised["PROXIED"] = f"{HOST}:{self.proxied_port}", f"{HOST}:{self._proxy_port}"
        return {
            "listeners": ",".join(f"{name}://{address}" for name, address in bound.items()),
            "advertised.listeners": ",".join(f"{name}://{address}" for name, address in advertised.items()),
            **(self._sasl_properties() if self._tls else {}),
        }

    def _sasl_properties(self) -> dict[str, str]:
        return {
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(self.directory / "server.pem"),
            "listener.name.sasl_ssl.sasl.enabled.mechanisms": "SCRAM-SHA-512,OAUTHBEARER",
            # Without more it takes tokens that nobody has signed.
            "listener.name.sasl_ssl.oauthbearer.sasl.jaas.config": (
                "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;"
            ),
            "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": (
                "org.apache.kafka.common.security.scram.ScramLoginModule required;"
            ),
        }

    def _write_certificates(self) -> None:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.ca_file)
        server = authority.issue_cert(HOST, "localhost")
        # Kafka reads private keys in PKCS #8 only.
        key = serialization.load_pem_private_key(server.private_key_pem.bytes(), password=None).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        chain = b"".join(blob.bytes() for blob in server.cert_chain_pems)
        (self.directory / "server.pem").write_bytes(key + chain)

    def ready(self) -> bool:
        """Whether the broker names itself in its metadata: it does so only once it serves requests."""
        try:
            return self.node_id in _broker_ids(HOST, self._port)
        except OSError:
            return False


def ensure_class_archive() -> Path:
    """A broker's classes as this Java has loaded them, written once: brokers start in two thirds of the time."""
    archive = class_archive()
    with locked(archive.with_suffix(".lock")):
        if not archive.exists():
            partial = archive.with_suffix(".partial")
            options = [f"-XX:ArchiveClassesAtExit={partial}"]
            with (
                tempfile.TemporaryDirectory(prefix="classes-", dir=archive.parent) as directory,
                KafkaBroker(Path(directory), tls=True, java_options=options) as broker,
            ):
                if not broker.stop():
                    raise ServiceError("The archive of Kafka's classes was not written in time: run it again.")
            partial.rename(archive)
    return archive


@asynccontextmanager
async def topic_admin(bootstrap: str) -> AsyncIterator[Any]:
    """A client that creates, describes and deletes topics."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def create_topic(
    admin: Any,
    name: str,
    partitions: int,
    config: Mapping[str, str] | None = None,
    replicas: Mapping[int, list[int]] | None = None,
) -> None:
    """Create a topic and wait until all of its partitions have a leader.

    `replicas` are the brokers of each partition, the preferred leader first; by default they are the cluster's choice.
    """
    layout = (-1, -1, dict(replicas)) if replicas else (partitions, -1, {})
    topic = NewTopic(name, *layout, dict(config or {}))
    async with asyncio.timeout(30):
        # A broker under load leaves the controller out of its metadata, and aiokafka's admin takes that for given.
        while admin._client.cluster.controller is None:
            await admin._client.force_metadata_update()
    response = await admin.create_topics([topic])
    for _, code, *_ in response.topic_errors:
        if code:
            raise for_code(code)(name)
    async with asyncio.timeout(30):
        while not _has_leaders((await admin.describe_topics([name]))[0], partitions):  # noqa: ASYNC110 - Kafka tells only who asks
            await asyncio.sleep(0.02)


async def delete_topic(admin: Any, name: str) -> None:
    """Delete a topic and wait until its name is free."""
    await admin.delete_topics([name])
    unknown = UnknownTopicOrPartitionError.errno
    async with asyncio.timeout(30):
        while (await admin.describe_topics([name]))[0]["error_code"] != unknown:  # noqa: ASYNC110 - the same
            await asyncio.sleep(0.02)


def _has_leaders(topic: dict[str, Any], partitions: int) -> bool:
    found = topic["partitions"]
    return len(found) == partitions and all(partition["leader"] >= 0 for partition in found)


def random_id() -> str:
    """An id as Kafka has it for clusters and directories."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")


def _broker_ids(host: str, port: int) -> set[int]:
    """Ask for metadata without topics. By hand: the clients need an event loop, and a test may have one running."""
    api_key, version, correlation_id, no_client_id, no_topics, auto_create = 3, 4, 1, -1, 0, False
    request = struct.pack(">hhihi?", api_key, version, correlation_id, no_client_id, no_topics, auto_create)
    with socket.create_connection((host, port), timeout=5) as sock, sock.makefile("rb") as answers:
        sock.sendall(struct.pack(">i", len(request)) + request)
        answer = BytesIO(answers.read(int.from_bytes(answers.read(4))))
    if not answer.getvalue():
        return set()
    _correlation_id, _throttle_ms, brokers = struct.unpack(">iii", answer.read(12))
    found = set()
    for _ in range(min(brokers, _MOST_BROKERS)):  # somebody else may have the port meanwhile, and answer anything
        found.add(int.from_bytes(answer.read(4)))
        _host, _port, _rack = _string(answer), answer.read(4), _string(answer)
    return found


def _string(answer: BytesIO) -> bytes:
    return answer.read(max(0, int.from_bytes(answer.read(2), signed=True)))
