"""The broker, or three, and the store of a fault suite: our own, to be hurt; proxies stand before store and broker."""

from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.kafka_proxy import KafkaProxy
from tests.chaos.s3_proxy import S3Proxy
from tests.services.kafka import KafkaBroker
from tests.services.kafka_cluster import KafkaCluster
from tests.services.ports import HOST, free_port
from tests.services.seaweed import S3Store, SeaweedFS

# The shortest session that the daemons of a short form have, in milliseconds; 6000 unless told otherwise.
_SHORTEST_SESSION = {"group.min.session.timeout.ms": "1000"}


@dataclass(frozen=True)
class Services:
    """Both, running, and the ports of the proxies, which every run opens anew. Three brokers have no proxy."""

    kafka: KafkaBroker | KafkaCluster
    store: SeaweedFS
    kafka_port: int
    s3_port: int

    @property
    def proxied_bootstrap(self) -> str:
        """The broker as daemons see it."""
        if isinstance(self.kafka, KafkaCluster):
            return self.kafka.bootstrap
        return f"{HOST}:{self.kafka_port}"

    @property
    def proxied_store(self) -> S3Store:
        """The store as daemons see it."""
        return S3Store(f"http://{HOST}:{self.s3_port}", self.store.access_key, self.store.secret_key)

    def kafka_proxy(self) -> AbstractAsyncContextManager[KafkaProxy | None]:
        if isinstance(self.kafka, KafkaCluster):
            return nullcontext()
        return KafkaProxy(self.kafka_port, self.kafka.proxied_port)

    def s3_proxy(self) -> S3Proxy:
        return S3Proxy(self.s3_port, self.store.port)


@contextmanager
def services(directory: Path) -> Iterator[Services]:
    """Start a broker and a store; they end with us, and their data is removed."""
    for name in ("kafka", "s3"):
        (directory / name).mkdir()
    kafka_port, s3_port = free_port(), free_port()
    broker = KafkaBroker(directory / "kafka", proxy_port=kafka_port, properties=_SHORTEST_SESSION)
    with broker, SeaweedFS(directory / "s3") as store:
        yield Services(broker, store, kafka_port, s3_port)


@contextmanager
def cluster_services(directory: Path, cluster: KafkaCluster) -> Iterator[Services]:
    """Start a store beside three brokers that run; it ends with us, and its data is removed."""
    (directory / "s3").mkdir()
    with SeaweedFS(directory / "s3") as store:
        yield Services(cluster, store, 0, free_port())
