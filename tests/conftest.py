"""What all tests share: real services, started once and on first use.

INGESTD_TEST_KAFKA (host:port) and INGESTD_TEST_S3 (an endpoint, with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY) name
running services to be used instead.
"""

import logging
import os
import signal
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import pytest
from hypothesis import settings

from tests.scheduling import ByService
from tests.services import leftovers, process
from tests.services.elasticmq import ElasticMQ
from tests.services.kafka import KafkaAddress, KafkaBroker, SecuredKafka, create_topic, topic_admin
from tests.services.kafka_cluster import KafkaCluster
from tests.services.kinesis import Kinesalite, KinesisLocal
from tests.services.ministack import Ministack, Queue
from tests.services.registry import SchemaRegistry
from tests.services.seaweed import S3Store, SeaweedFS
from tests.services.shared_broker import Door, SharedBroker, ask
from tests.services.snowflake import Snowflake

_TESTS = Path(__file__).parent
#: `make test-faults`: what breaks real services, or takes rules away to see that it is noticed. These take the longest.
FAULTS = [
    _TESTS / name
    for name in (
        "chaos",
        "services",
        "e2e/test_budget.py",
        "e2e/test_outages.py",
        "e2e/test_sdks_kafka.py",
        "collect/test_delivery_kills.py",
        "contract/test_kafka_leader_epochs.py",
        "simulation/test_mutations.py",
        "simulation/test_kinesis_mutations.py",
    )
]
#: What has a target of its own, and runs where it is named. The tests of deploy/ need tools that the others do not.
APART = {_TESTS / "deploy", *FAULTS}
SERVICE_FIXTURES = {
    "broker", "kafka", "kafka_tls", "kafka_cluster", "mortal_broker", "s3", "ministack", "snowflake",
    "kinesis_local", "kinesalite", "elasticmq", "registry",
}  # fmt: skip


_SHARED = pytest.StashKey[SharedBroker]()
_BROKER = "broker"  # among what a worker is told


class MakeTopic(Protocol):
    """Creates a topic for one test and gives its name."""

    async def __call__(self, partitions: int, config: Mapping[str, str] | None = None) -> str: ...


# By the clock, hypothesis would fail a test for the load of the machine.
settings.register_profile("ingestd", deadline=None)
settings.load_profile("ingestd")


def pytest_configure(config: pytest.Config) -> None:
    leftovers.mark_run()
    process.end_in_order()
    # A shell's background job ignores SIGINT, and what nohup starts SIGHUP; so would what the tests start.
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Workers share a broker, which we start when one of them asks for it."""
    if _SHARED not in node.config.stash:
        node.config.stash[_SHARED] = SharedBroker()
    node.workerinput[_BROKER] = tuple(node.config.stash[_SHARED].door)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByService:
    return ByService(config, log)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seeds", type=int, default=50, help="how many seeds the simulation runs")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """The tests of `APART` run where they are named, or a folder with them that is not all of the tests."""
    if collection_path not in APART:
        return None
    named = [Path(config.invocation_params.dir, argument.split("::")[0]).resolve() for argument in config.args]
    wanted = any(
        it.is_relative_to(collection_path) or (collection_path.is_relative_to(it) and not _TESTS.is_relative_to(it))
        for it in named
    )
    return None if wanted else True


# Last: by then the workers have ended.
@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workerinput"):
        return
    if (shared := session.config.stash.get(_SHARED, None)) is not None:
        shared.close()
    if sys.platform != "linux":
        return
    if left := leftovers.end_leftovers():
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        print("\nProcesses that tests have left behind:", *left, sep="\n  ")  # noqa: T201 - the end of the report


# First, because -m selects in the same hook.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if SERVICE_FIXTURES.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.services)


# First, because fixtures start services.
@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    process.services_allowed = item.get_closest_marker("services") is not None


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """Whoever sets up logging writes to a stream that is closed by the time of the next test."""
    names = ("", "ingestd", "aiokafka", "botocore", "aiobotocore", "aiohttp.access", "asyncio")
    levels = {name: logging.getLogger(name).level for name in names}
    handlers = set(logging.getLogger().handlers)
    yield
    root = logging.getLogger()
    for handler in root.handlers[:]:
        # Pytest's own come and go with the phases of a test.
        if handler not in handlers and type(handler).__module__.startswith("ingestd"):
            root.removeHandler(handler)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture
def ram(tmp_path: Path) -> Iterator[Path]:
    """A directory in memory where the system has that, for what waits for the disk often."""
    memory = Path("/dev/shm")
    if not memory.is_dir():
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def kafka_tls(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    """The run's broker, which nobody kills; it listens with TLS and SCRAM as well as in plaintext."""
    worker: Mapping[str, Door] | None = getattr(request.config, "workerinput", None)
    if worker is not None:
        yield ask(Door(*worker[_BROKER]))
        return
    with KafkaBroker(tmp_path_factory.mktemp("kafka"), tls=True) as broker:
        yield broker.secured


@pytest.fixture(scope="session")
def kafka(request: pytest.FixtureRequest) -> KafkaAddress:
    """The run's broker, or the one named in INGESTD_TEST_KAFKA."""
    if address := os.environ.get("INGESTD_TEST_KAFKA"):
        return KafkaAddress(address)
    broker: SecuredKafka = request.getfixturevalue("kafka_tls")
    return broker


@pytest.fixture(scope="session")
def _registry_of_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SchemaRegistry]:
    with SchemaRegistry(tmp_path_factory.mktemp("registry")) as registry:
        yield registry


@pytest.fixture
def registry(_registry_of_session: SchemaRegistry) -> Iterator[SchemaRegistry]:
    """A schema registry that may be frozen: its clock runs again after the test, however that ends."""
    yield _registry_of_session
    _registry_of_session.thaw()


@pytest.fixture(scope="module")
def _broker_of_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    with KafkaBroker(tmp_path_factory.mktemp("mortal")) as broker:
        yield broker


@pytest.fixture
def mortal_broker(_broker_of_module: KafkaBroker) -> Iterator[KafkaBroker]:
    """A broker that may be killed: it runs again after the test, however that ends."""
    yield _broker_of_module
    if not _broker_of_module.running:
        _broker_of_module.start()


@pytest.fixture
async def mortal_topic(mortal_broker: KafkaBroker) -> str:
    """A topic with three partitions on that broker."""
    name = f"mortal_{uuid.uuid4().hex}"
    async with topic_admin(mortal_broker.bootstrap) as admin:
        await create_topic(admin, name, 3)
    return name


@pytest.fixture(scope="session")
def kafka_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    """The session's three brokers. Whoever hurts one leaves all of them running."""
    with KafkaCluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Store]:
    """The session's S3 server, or the one named in INGESTD_TEST_S3."""
    if endpoint := os.environ.get("INGESTD_TEST_S3"):
        yield S3Store(endpoint, os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"])
        return
    with SeaweedFS(tmp_path_factory.mktemp("s3")) as store:
        yield store


@pytest.fixture(scope="session")
def ministack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ministack]:
    """The session's S3 server that notifies queues."""
    with Ministack(tmp_path_factory.mktemp("ministack")) as server:
        yield server


@pytest.fixture(scope="session")
def queue(ministack: Ministack) -> Queue:
    """The queue that the stand-in for Snowflake listens to."""
    return ministack.create_queue("snowpipe")


@pytest.fixture(scope="session")
def snowflake(ministack: Ministack, queue: Queue, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Snowflake]:
    """The session's stand-in for Snowflake; its stages are in `ministack`."""
    with Snowflake(tmp_path_factory.mktemp("snowflake"), ministack, queue=(queue.endpoint, queue.url)) as server:
        yield server


@pytest.fixture
async def make_topic(kafka: KafkaAddress) -> AsyncIterator[MakeTopic]:
    """A function that creates topics with unique names, ready for use; they are deleted after the test."""
    created: list[str] = []
    async with topic_admin(kafka.bootstrap) as admin:

        async def make(partitions: int, config: Mapping[str, str] | None = None) -> str:
            name = f"test_{uuid.uuid4().hex}"
            await create_topic(admin, name, partitions, config)
            created.append(name)
            return name

        yield make
        if created:
            await admin.delete_topics(created)


@pytest.fixture
def bucket(s3: S3Store) -> Iterator[str]:
    """A bucket for one test, empty at its beginning and deleted after it."""
    name = f"test-{uuid.uuid4().hex}"
    s3.create_bucket(name)
    yield name
    s3.delete_bucket(name)


@pytest.fixture(scope="session")
def kinesis_local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KinesisLocal]:
    """The session's Kinesis that reshards; a test has a stream of its own there."""
    with KinesisLocal(tmp_path_factory.mktemp("kinesis-local")) as server:
        yield server


@pytest.fixture
def kinesalite(tmp_path: Path) -> Iterator[Kinesalite]:
    """A Kinesis that outlives SIGKILL, of this test alone."""
    with Kinesalite(tmp_path) as server:
        yield server


@pytest.fixture(scope="session")
def elasticmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ElasticMQ]:
    """The session's SQS; a test has a queue of its own there."""
    with ElasticMQ(tmp_path_factory.mktemp("elasticmq")) as server:
        yield server
