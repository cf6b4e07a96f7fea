"""The use of aiokafka's internals: one exact version, checked at import, in one package, for our clients alone."""

import ast
import asyncio
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import aiokafka
import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection
from aiokafka.consumer import fetcher
from aiokafka.consumer.subscription_state import TopicPartitionState
from aiokafka.protocol.fetch import FetchRequest_v11

from ingestd.core.errors import SourceError
from ingestd.sources.kafka._aiokafka import SUPPORTED_VERSION
from ingestd.sources.kafka._aiokafka.check import ATTRIBUTES, SIGNATURES, check_internals, check_version
from ingestd.sources.kafka._aiokafka.connection import UvloopClient
from tests.syntax import parsed

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "ingestd" / "sources" / "kafka"
OTHER_FILES = [file for file in sorted(PACKAGE.rglob("*.py")) if file.parent.name != "_aiokafka"]
#: Documented modules. What these do not offer is used in `_aiokafka` only.
PUBLIC_MODULES = {
    "aiokafka",
    "aiokafka.abc",
    "aiokafka.coordinator.assignors.roundrobin",
    "aiokafka.errors",
    "aiokafka.structs",
}
OURS_AS_WELL = {"_client", "_coordinator", "_group_id"}  # attributes of BrokerClient and CoordinatorClient
PRIVATE_NAMES = {
    name
    for names in (*ATTRIBUTES.values(), *(path.rpartition(".")[2] for path in SIGNATURES))
    for name in names.split()
    if name.startswith("_") and name not in OURS_AS_WELL and not name.startswith("__")
}


def test_the_version_is_pinned_and_installed() -> None:
    assert f'"aiokafka[lz4,snappy,zstd]=={SUPPORTED_VERSION}"' in (ROOT / "pyproject.toml").read_text()
    assert version("aiokafka") == SUPPORTED_VERSION


def test_another_version_is_one_clear_error() -> None:
    with pytest.raises(SourceError, match=r"aiokafka 0\.15\.0 is installed, .* \(install aiokafka==0\.14\.0\)"):
        check_version("0.15.0")


def test_another_version_ends_the_import() -> None:
    lines = "import aiokafka; aiokafka.__version__ = '9'; del aiokafka.conn; import ingestd.sources.kafka"
    done = subprocess.run([sys.executable, "-c", lines], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].startswith("ingestd.core.errors.SourceError: aiokafka 9 is installed")


def changed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Change aiokafka as a patch of it could."""
    match name:
        case "client:AIOKafkaClient.send":
            monkeypatch.setattr(AIOKafkaClient, "send", lambda self, node_id, request: None)
        case "consumer.fetcher:PartitionRecords._unpack_records":
            monkeypatch.delattr(fetcher.PartitionRecords, "_unpack_records")
        case "consumer.subscription_state:TopicPartitionState.has_valid_position":
            monkeypatch.delattr(TopicPartitionState, "has_valid_position")
        case "protocol.fetch:FetchRequest_v11":
            monkeypatch.setattr(FetchRequest_v11, "SCHEMA", fetcher.Fetcher)


@pytest.mark.parametrize(
    "name",
    [
        "client:AIOKafkaClient.send",
        "consumer.fetcher:PartitionRecords._unpack_records",
        "consumer.subscription_state:TopicPartitionState.has_valid_position",
        "protocol.fetch:FetchRequest_v11",
    ],
)
def test_an_internal_that_is_not_as_expected_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    changed(name, monkeypatch)
    with pytest.raises(SourceError, match=f"aiokafka.{name} is not as in aiokafka"):
        check_internals()


def test_a_function_that_no_longer_uses_a_replaced_name_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async def bootstrap(self: AIOKafkaClient) -> None: ...

    monkeypatch.setattr(AIOKafkaClient, "bootstrap", bootstrap)
    with pytest.raises(SourceError, match=r"AIOKafkaClient\.bootstrap, which uses create_conn, is not as"):
        check_internals()


def test_other_clients_of_the_process_are_not_changed() -> None:
    changed_in = [
        f"{kind.__name__}.{name}"
        for kind in (AIOKafkaConnection, AIOKafkaClient, fetcher.Fetcher, fetcher.FetchResult, fetcher.PartitionRecords)
        for name, value in vars(kind).items()
        if getattr(value, "__module__", kind.__module__) != kind.__module__
    ]
    assert not changed_in
    for name in ("FetchResult", "PartitionRecords", "MemoryRecords"):
        assert getattr(fetcher, name).__module__.startswith("aiokafka.")


def imported_modules(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "aiokafka":
            for alias in node.names:
                yield "aiokafka" if alias.name in aiokafka.__all__ else f"aiokafka.{alias.name}"
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


@pytest.mark.parametrize("file", OTHER_FILES, ids=lambda file: file.name)
def test_internals_are_used_in_one_package(file: Path) -> None:
    tree = parsed(file.read_text())
    internal = {name for name in imported_modules(tree) if name.startswith("aiokafka")} - PUBLIC_MODULES
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not internal, "import it from _aiokafka"
    assert not used & PRIVATE_NAMES, "give it a public method in _aiokafka"


async def test_a_closed_client_lets_nobody_wait_for_metadata() -> None:
    client = UvloopClient(bootstrap_servers="127.0.0.1:1")
    waits = client.force_metadata_update()
    await client.close()
    async with asyncio.timeout(5):
        assert not await waits
        assert not await client.force_metadata_update()
