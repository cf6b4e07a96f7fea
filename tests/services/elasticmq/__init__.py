"""ElasticMQ: SQS with standard and FIFO queues, whose messages survive SIGKILL. It checks no signatures."""

import json
import re
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, Self

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tests.services.environment import CACHE, locked
from tests.services.kafka_program import copy_dependencies
from tests.services.ports import HOST, free_port
from tests.services.process import Process, require_mark
from tests.services.seaweed import REGION, create_client

_POM = Path(__file__).with_name("pom.xml")
# A short start matters more here than the last of the throughput.
_JVM = ("-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-XX:-UsePerfData")
_ACCOUNT = "000000000000"


class SqsQueue(NamedTuple):
    """A queue: its URL and its ARN."""

    url: str
    arn: str


def elasticmq_version() -> str:
    """The server's."""
    match = re.search(r"<elasticmq\.version>(.+)</elasticmq\.version>", _POM.read_text())
    assert match, f"{_POM} names no elasticmq.version"
    return match[1]


@cache
def ensure_elasticmq() -> Path:
    """The folder with its jars, fetched through Maven the first time."""
    folder = CACHE / f"elasticmq-{elasticmq_version()}"
    with locked(folder.with_name(f"{folder.name}.lock")):
        if not folder.exists():
            # It gets its name when it is complete, so that an interrupted download is never taken for one.
            partial = folder.with_name(f"{folder.name}.partial")
            copy_dependencies(_POM, partial)
            partial.rename(folder)
    return folder


class ElasticMQ:
    """A server of our own. It keeps its messages and its port from one start to the next; its queues as well.

    `proxy_port` is that of an `AwsProxy`: the URLs of queues name it.
    """

    access_key, secret_key = "ingestd", "only-for-tests"

    def __init__(self, directory: Path, *, proxy_port: int | None = None) -> None:
        self.port = free_port()
        self.endpoint = f"http://{HOST}:{self.port}"
        self._named_port = proxy_port or self.port
        self._directory = directory
        self._process: Process | None = None

    def start(self) -> None:
        """Start the server and wait until it answers."""
        if self._process is None:
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
            "sqs",
            region_name=REGION,
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(retries={"mode": "standard", "total_max_attempts": 1}, connect_timeout=5, read_timeout=30),
        )

    def create_queue(self, name: str, *, redrive: tuple[SqsQueue, int] | None = None, **attributes: str) -> SqsQueue:
        """Create a queue; `redrive` is its dead-letter queue and after how many receives. FIFO by its name."""
        if name.endswith(".fifo"):
            attributes |= {"FifoQueue": "true"}
        if redrive is not None:
            dead, most = redrive
            policy = {"deadLetterTargetArn": dead.arn, "maxReceiveCount": most}
            attributes |= {"RedrivePolicy": json.dumps(policy)}
        with closing(self.client()) as client:
            url = client.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
        return SqsQueue(url, f"arn:aws:sqs:{REGION}:{_ACCOUNT}:{name}")

    def delete_queue(self, queue: SqsQueue) -> None:
        """Delete a queue with all that is in it."""
        with closing(self.client()) as client:
            client.delete_queue(QueueUrl=queue.url)

    def depth(self, queue: SqsQueue) -> tuple[int, int]:
        """How many messages are visible, and how many are in flight."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        with closing(self.client()) as client:
            told = client.get_queue_attributes(QueueUrl=queue.url, AttributeNames=names)["Attributes"]
        visible, in_flight = (int(told[name]) for name in names)
        return visible, in_flight

    def _prepare(self) -> Process:
        require_mark("ElasticMQ")
        file = self._directory / "elasticmq.conf"
        file.write_text(self._configuration())
        log = self._directory / "logback.xml"
        log.write_text("<configuration/>")  # each request is a line otherwise
        return Process(
            "ElasticMQ",
            ["java", *_JVM, f"-Djava.io.tmpdir={self._directory}", f"-Dconfig.file={file}",
             f"-Dlogback.configurationFile={log}", "-cp", f"{ensure_elasticmq()}/*", "org.elasticmq.server.Main"],
            self._directory / "elasticmq.log",
        )  # fmt: skip

    def _configuration(self) -> str:
        return f"""
include classpath("application.conf")
node-address {{ protocol = http, host = "{HOST}", port = {self._named_port}, context-path = "" }}
rest-sqs {{ enabled = true, bind-port = {self.port}, bind-hostname = "{HOST}", sqs-limits = strict }}
rest-stats {{ enabled = false }}
aws {{ region = "{REGION}", accountId = "{_ACCOUNT}" }}
messages-storage {{ enabled = true, uri = "jdbc:h2:{self._directory}/messages;WRITE_DELAY=0" }}
"""

    def _answers(self) -> bool:
        try:
            with closing(self.client()) as client:
                client.list_queues()
        except (BotoCoreError, ClientError):
            return False
        return True
