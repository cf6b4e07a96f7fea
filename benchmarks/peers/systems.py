"""Which systems there are, and how each is started: its best honest settings, for files of the same number of rows."""

import string
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from benchmarks.peers.install import Tools
from benchmarks.rig.services import Services
from tests.services.ports import free_port

_HERE = Path(__file__).parent
# The heap is that of Kafka's own start script for Connect.
_JVM = ("-Xms256M", "-Xmx2G", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")


class Job(NamedTuple):
    """What a system is asked to do: bring `topic` into files of so many rows below `prefix`, as `group`."""

    services: Services
    s3: str  # the URL of the store
    scratch: Path
    topic: str
    partitions: int
    group: str
    prefix: str
    rows: int
    flush_s: float  # a file is closed after this time at the latest

    @property
    def environment(self) -> dict[str, str]:
        """Where everything is, for programs that take it from there."""
        return {
            **self.services.credentials,
            "BOOTSTRAP": self.services.bootstrap,
            "S3_ENDPOINT": self.s3,
            "AWS_ENDPOINT_URL": self.s3,
            "AWS_ALLOW_HTTP": "true",
            "BUCKET": self.services.bucket,
            "SCRATCH": str(self.scratch),
            "TOPIC": self.topic,
            "PARTITIONS": str(self.partitions),
            "GROUP": self.group,
            "PREFIX": self.prefix,
            "ROWS": str(self.rows),
            "TWICE_ROWS": str(2 * self.rows),
            "FLUSH_S": f"{self.flush_s:g}",
        }


class System(NamedTuple):
    """A system with one way to use it. `variant` is what it does to an event, `parses` whether it looks inside."""

    key: str
    name: str
    variant: str
    parses: bool
    needs: Callable[[Tools], object]  # installs what it runs on, or says why that cannot be had
    command: Callable[[Tools, Job], list[str]]
    environment: Mapping[str, str] = {}  # beside the job's
    group: str = ""  # what it puts before the name of its group


def _ingestd(_: Tools, job: Job) -> list[str]:
    keys = {
        "kafka.bootstrap_servers": job.services.bootstrap,
        "kafka.topics": job.topic,
        "kafka.group_id": job.group,
        "kafka.session_timeout": "6s",
        "kafka.heartbeat_interval": "1s",
        "sink.url": f"s3://{job.services.bucket}/{job.prefix}",
        "s3.endpoint_url": job.s3,
        "batch.records": str(job.rows),
        "batch.interval": f"{job.flush_s:g}s",
        "health.port": str(free_port()),
        "log.level": "WARNING",
    }
    return [sys.executable, "-m", "ingestd", *(f"--set={key}={value}" for key, value in keys.items())]


def _python(script: str, *arguments: str) -> Callable[[Tools, Job], list[str]]:
    return lambda tools, _: [tools.python(), str(_HERE / script), *arguments]


def _bento(look: str) -> Callable[[Tools, Job], list[str]]:
    files = ["-r", str(_HERE / "bento" / f"{look}.yaml"), "-c", str(_HERE / "bento" / "bento.yaml")]
    return lambda tools, _: [tools.bento(), *files]


def _connect(values: str) -> Callable[[Tools, Job], list[str]]:
    def command(tools: Tools, job: Job) -> list[str]:
        classes = tools.connect()
        known = {**job.environment, "PLUGINS": str(tools.connect_plugins), "PORT": str(free_port())}
        worker, sink = job.scratch / "worker.properties", job.scratch / "sink.properties"
        worker.write_text(_filled("worker.properties", known))
        sink.write_text(_filled("aiven.properties", known) + _filled(f"{values}.properties", known))
        main = "org.apache.kafka.connect.cli.ConnectStandalone"
        return ["java", *_JVM, "-cp", classes, main, str(worker), str(sink)]

    return command


def _filled(name: str, known: Mapping[str, str]) -> str:
    return string.Template((_HERE / "connect" / name).read_text()).substitute(known)


def _vector(tools: Tools, _: Job) -> list[str]:
    return [tools.vector_program(), "--quiet", "--config", str(_HERE / "vector.yaml")]


SYSTEMS = (
    System("ingestd", "ingestd", "validated, with lineage", True, lambda _: None, _ingestd),
    System("bento-parsed", "Bento 1.19", "parsed, encoded again", True, Tools.bento, _bento("parsed")),
    System("bento-read", "Bento 1.19", "parsed, original bytes written", True, Tools.bento, _bento("read")),
    System("bento-passed", "Bento 1.19", "not parsed", False, Tools.bento, _bento("passed")),
    System("handwritten-json", "confluent-kafka, json, gzip, boto3", "parsed, encoded again", True,
           Tools.python, _python("handwritten.py", "json")),
    System("handwritten-bytes", "confluent-kafka, gzip, boto3", "not parsed", False,
           Tools.python, _python("handwritten.py", "bytes")),
    System("quix-json", "Quix Streams 3.28", "parsed, encoded again", True, Tools.python, _python("quix.py", "json")),
    System("quix-bytes", "Quix Streams 3.28", "not parsed", False, Tools.python, _python("quix.py", "bytes")),
    System("mq-bridge", "mq-bridge 1.2", "not parsed", False, Tools.python, _python("mqbridge.py")),
    System("connect-json", "Kafka Connect, Aiven's S3 sink", "parsed, encoded again", True,
           Tools.connect, _connect("json"), group="connect-"),
    System("connect-bytes", "Kafka Connect, Aiven's S3 sink", "not parsed", False,
           Tools.connect, _connect("bytes"), group="connect-"),
    System("vector-json", "Vector", "parsed, encoded again", True,
           Tools.vector_program, _vector, {"CODEC": "json", "ENCODING": "json"}),
    System("vector-bytes", "Vector", "not parsed", False,
           Tools.vector_program, _vector, {"CODEC": "bytes", "ENCODING": "text"}),
)  # fmt: skip
