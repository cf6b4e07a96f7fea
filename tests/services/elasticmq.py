"""ElasticMQ, a stand-in for SQS: standard and FIFO queues, dead letters, SQS's limits; it outlives SIGKILL."""

import json
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

from tests.services.aws_emulator import AwsEmulator
from tests.services.environment import ensure_folder
from tests.services.maven import fetch, pom_version
from tests.services.ports import HOST

_POM = Path(__file__).with_name("emulators") / "pom.xml"
_JVM = ("-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-XX:-UsePerfData")


@cache
def elasticmq_jars() -> Path:
    """ElasticMQ's jars, fetched through Maven the first time."""
    return ensure_folder(f"elasticmq-{pom_version(_POM, 'elasticmq')}", lambda folder: fetch(_POM, folder))


class ElasticMQ(AwsEmulator):
    """A server of our own. Queues and messages are in H2, in its directory, and there again after `kill` and `start`.

    Without `durable` they are in memory alone: H2 writes to the disk for each message that is sent or deleted.
    A SequenceNumber is 0, 1, 2 there; queues have no retention; an old receipt handle is refused.
    """

    name = "elasticmq"
    service = "sqs"

    def __init__(self, directory: Path, *, durable: bool = True) -> None:
        super().__init__(directory)
        self._durable = durable

    def command(self) -> list[str]:
        config = self.directory / "elasticmq.conf"
        database = self.directory / "elasticmq"
        durable = str(self._durable).lower()
        config.write_text(
            'include classpath("application.conf")\n'
            f'node-address {{ protocol = http, host = "{HOST}", port = {self.port}, context-path = "" }}\n'
            f'rest-sqs {{ enabled = true, bind-port = {self.port}, bind-hostname = "{HOST}", sqs-limits = strict }}\n'
            "rest-stats { enabled = false }\n"
            f'aws {{ region = "{self.region}", accountId = "000000000000" }}\n'
            f'messages-storage {{ enabled = {durable}, uri = "jdbc:h2:{database};WRITE_DELAY=0" }}\n'
            f'queues-storage {{ enabled = {durable}, path = "{self.directory}/queues.conf" }}\n'
        )
        main = "org.elasticmq.server.Main"
        return ["java", *_JVM, f"-Dconfig.file={config}", "-cp", f"{elasticmq_jars()}/*", main]

    def ask(self, client: Any) -> None:
        client.list_queues()

    def create_queue(self, name: str, *, redrive: tuple[str, int] | None = None, **attributes: str) -> str:
        """Create a queue; its URL. `redrive` is its dead-letter queue, and how many receives are allowed."""
        if name.endswith(".fifo"):
            attributes["FifoQueue"] = "true"
        if redrive is not None:
            policy = {"deadLetterTargetArn": self.arn(redrive[0]), "maxReceiveCount": redrive[1]}
            attributes["RedrivePolicy"] = json.dumps(policy)
        with closing(self.client()) as client:
            url: str = client.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
        return url

    def delete_queue(self, url: str) -> None:
        """Delete a queue with all that is in it."""
        with closing(self.client()) as client:
            client.delete_queue(QueueUrl=url)

    def arn(self, url: str) -> str:
        """Of the queue with this URL."""
        account, name = url.split("/")[-2:]
        return f"arn:aws:sqs:{self.region}:{account}:{name}"

    def depth(self, url: str) -> tuple[int, int]:
        """How many messages are visible, and how many are in flight."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        with closing(self.client()) as client:
            told = client.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
        visible, in_flight = (int(told[name]) for name in names)
        return visible, in_flight
