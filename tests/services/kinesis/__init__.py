"""Kinesis without AWS: kinesis-local, which splits as AWS does, and kinesalite, which keeps its data and expires it.

Neither throttles, and kinesis-local keeps nothing over a restart: what AWS does beside that comes from `AwsProxy`.
"""

import time
from contextlib import closing
from pathlib import Path
from typing import Any, Self

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tests.services.node import ensure_packages, node_program
from tests.services.ports import HOST, free_port
from tests.services.process import Process, ServiceError, require_mark
from tests.services.seaweed import REGION, create_client

FOLDER = Path(__file__).parent
_ACTIVE_S = 20.0  # for a stream to be created, deleted or resharded
_POLL_S = 0.02


def ensure_kinesis() -> Path:
    """The folder node_modules with both servers."""
    return ensure_packages("kinesis", FOLDER)


class KinesisServer:
    """A server of our own, on the same port in each of its runs."""

    name = ""
    access_key, secret_key = "ingestd", "only-for-tests"

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.endpoint = f"http://{HOST}:{self.port}"
        self._directory = directory
        self._process: Process | None = None

    def start(self) -> None:
        """Start the server and wait until it answers."""
        require_mark(self.name)
        assert not self.running
        self._process = self._prepare()
        self._process.start(self._answers)

    def kill(self) -> None:
        """End it at once (SIGKILL)."""
        if self._process is not None:
            self._process.kill()

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.running

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def client(self) -> Any:
        """A blocking client, for setting up and for looking; to be closed."""
        return create_client(
            "kinesis",
            region_name=REGION,
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(retries={"mode": "standard", "total_max_attempts": 1}, connect_timeout=5, read_timeout=30),
        )

    def create_stream(self, name: str, shards: int) -> str:
        """Create a stream, ready for use; its ARN."""
        with closing(self.client()) as client:
            client.create_stream(StreamName=name, ShardCount=shards)
            return await_stream(client, name)

    def delete_stream(self, name: str) -> None:
        """Delete a stream; its name is free again when this returns."""
        with closing(self.client()) as client:
            client.delete_stream(StreamName=name, EnforceConsumerDeletion=True)
            deadline = time.monotonic() + _ACTIVE_S
            while name in client.list_streams(Limit=1000)["StreamNames"]:
                assert time.monotonic() < deadline, f"{name} is not deleted after {_ACTIVE_S:g} s"
                time.sleep(_POLL_S)

    def _prepare(self) -> Process:
        raise NotImplementedError

    def _node(self, script: str, *arguments: str, environment: dict[str, str]) -> Process:
        preloaded = [part for name in ("loopback", "clock") for part in ("--require", str(FOLDER / f"{name}.cjs"))]
        command = [str(node_program()), *preloaded, str(ensure_kinesis() / script), *arguments]
        return Process(self.name, command, self._directory / f"{self.name}.log", environment)

    def _answers(self) -> bool:
        try:
            with closing(self.client()) as client:
                client.list_streams()
        except (BotoCoreError, ClientError):
            return False
        return True


class KinesisLocal(KinesisServer):
    """kinesis-local: splits, merges, and numbers of 56 digits; all in memory. Its records never age."""

    name = "kinesis-local"

    def _prepare(self) -> Process:
        environment = {
            "KINESIS_MOCK_PLAIN_PORT": str(self.port),
            "KINESIS_MOCK_TLS_PORT": str(free_port()),
            "KINESIS_MOCK_CERT_PATH": str(ensure_kinesis() / "kinesis-local" / "server.json"),
            "AWS_REGION": REGION,
            "SHARD_LIMIT": "1000",
            "LOG_LEVEL": "ERROR",
            **dict.fromkeys(_DURATIONS, "1ms"),  # half a second each unless told otherwise
        }
        return self._node("kinesis-local/main.js", environment=environment)


_DURATIONS = (
    "CREATE_STREAM_DURATION",
    "DELETE_STREAM_DURATION",
    "SPLIT_SHARD_DURATION",
    "MERGE_SHARDS_DURATION",
    "UPDATE_SHARD_COUNT_DURATION",
)


class Kinesalite(KinesisServer):
    """kinesalite: its data is on disk, survives SIGKILL, and ages. A change of a stream takes `change_ms`.

    `clock_ahead_s` is how far its clock is ahead, from its next start on: with a clock that was behind, its records
    are of any age. It knows no ChildShards, and does not answer AT_TIMESTAMP where no record is as young.
    """

    name = "kinesalite"

    def __init__(self, directory: Path, *, change_ms: int = 1) -> None:
        super().__init__(directory)
        self.clock_ahead_s = 0.0
        self._change_ms = change_ms

    def _prepare(self) -> Process:
        arguments = {
            "port": self.port,
            "path": self._directory / "kinesalite",
            "createStreamMs": self._change_ms,
            "deleteStreamMs": self._change_ms,
            "updateStreamMs": self._change_ms,
            "shardLimit": 1000,
        }
        flags = [part for name, value in arguments.items() for part in (f"--{name}", str(value))]
        environment = {"AWS_REGION": REGION, "INGESTD_CLOCK_AHEAD_MS": str(int(self.clock_ahead_s * 1000))}
        return self._node("kinesalite/cli.js", *flags, environment=environment)


def await_stream(client: Any, name: str) -> str:
    """Wait until a stream is active; its ARN."""
    deadline = time.monotonic() + _ACTIVE_S
    while True:
        told = client.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]
        if told["StreamStatus"] == "ACTIVE":
            return str(told["StreamARN"])
        if time.monotonic() > deadline:
            raise ServiceError(f"the stream {name} is {told['StreamStatus']} after {_ACTIVE_S:g} s")
        time.sleep(_POLL_S)
