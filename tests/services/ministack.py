"""ministack: S3 that tells a queue of new objects, as AWS does. It accepts any signature."""

from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from tests.services.environment import ensure_environment
from tests.services.ports import HOST, free_port
from tests.services.process import Process
from tests.services.seaweed import REGION, S3Store, create_client
from tests.services.server import Server

REQUIREMENTS = Path(__file__).with_name("ministack-requirements.txt")


class Queue(NamedTuple):
    """A queue: the endpoint to ask, its URL and its ARN."""

    endpoint: str
    url: str
    arn: str


class Ministack(S3Store, Server):
    """A server of our own; what it holds is in memory and gone with it."""

    name = "ministack"

    def __init__(self, directory: Path) -> None:
        Server.__init__(self, directory)
        self._port = free_port()
        S3Store.__init__(self, f"http://{HOST}:{self._port}", access_key="ingestd", secret_key="only-for-tests")

    def queues(self) -> Any:
        """A blocking client of its queues; to be closed."""
        return self._service("sqs")

    def create_queue(self, name: str) -> Queue:
        """Create a queue."""
        with closing(self.queues()) as client:
            url = client.create_queue(QueueName=name)["QueueUrl"]
            arn = client.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        return Queue(self.endpoint, url, arn)

    def depth(self, queue: Queue) -> tuple[int, int]:
        """How many messages of a queue are visible, and how many are in flight."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        with closing(self.queues()) as client:
            told = client.get_queue_attributes(QueueUrl=queue.url, AttributeNames=names)["Attributes"]
        visible, in_flight = (int(told[name]) for name in names)
        return visible, in_flight

    def topics(self) -> Any:
        """A blocking client of SNS; to be closed."""
        return self._service("sns")

    def streams(self) -> Any:
        """A blocking client of its Kinesis streams; to be closed."""
        return self._service("kinesis")

    def create_topic(self, name: str) -> str:
        """Create a topic of SNS; its ARN."""
        with closing(self.topics()) as client:
            return str(client.create_topic(Name=name)["TopicArn"])

    def subscribe(self, topic: str, queue: Queue, *, raw: bool = False) -> None:
        """Have the queue get what is published, in SNS's envelope or raw."""
        attributes = {"RawMessageDelivery": "true"} if raw else {}
        with closing(self.topics()) as client:
            client.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue.arn, Attributes=attributes)

    def notify(self, bucket: str, queue: Queue, prefix: str, suffix: str = ".jsonl.gz") -> None:
        """Have the bucket tell the queue of new objects whose names begin and end so."""
        rules = [{"Name": "prefix", "Value": prefix}, {"Name": "suffix", "Value": suffix}]
        settings = {"QueueArn": queue.arn, "Events": ["s3:ObjectCreated:*"], "Filter": {"Key": {"FilterRules": rules}}}
        with closing(self.client()) as client:
            client.put_bucket_notification_configuration(
                Bucket=bucket, NotificationConfiguration={"QueueConfigurations": [settings]}
            )

    def _service(self, name: str) -> Any:
        return create_client(
            name,
            region_name=REGION,
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
        )

    def prepare(self) -> Process:
        environment = {
            "BIND_HOST": HOST,  # it listens on all addresses otherwise
            "GATEWAY_PORT": str(self._port),
            "SFTP_ENABLED": "0",
            "IOT_MTLS_ENABLED": "0",
            "TMPDIR": str(self.directory),  # it leaves the number of its process there
        }
        program = ensure_environment("ministack", REQUIREMENTS) / "bin" / "ministack"
        return Process(self.name, [str(program)], self.directory / "ministack.log", environment)

    def ready(self) -> bool:
        try:
            with closing(self.client()) as client:
                client.list_buckets()
        except (BotoCoreError, ClientError):
            return False
        return True
