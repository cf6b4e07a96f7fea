"""ministack: S3 that tells a queue of new objects, as AWS does. It accepts any signature."""

from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple, Self

from botocore.exceptions import BotoCoreError, ClientError

from tests.services.environment import ensure_environment
from tests.services.ports import HOST, free_port
from tests.services.process import Process, require_mark
from tests.services.seaweed import REGION, S3Store, create_client

REQUIREMENTS = Path(__file__).with_name("ministack-requirements.txt")


class Queue(NamedTuple):
    """A queue: the endpoint to ask, its URL and its ARN."""

    endpoint: str
    url: str
    arn: str


class Ministack(S3Store):
    """A server of our own; what it holds is in memory and gone with it."""

    def __init__(self, directory: Path) -> None:
        self._port = free_port()
        super().__init__(f"http://{HOST}:{self._port}", access_key="ingestd", secret_key="only-for-tests")
        self._directory = directory
        self._process: Process | None = None

    def start(self) -> None:
        """Start the server and wait until it answers."""
        if self._process is None:
            self._process = self._prepare()
        self._process.start(self._answers)

    def kill(self) -> None:
        """End it, with all that it holds."""
        if self._process is not None:
            self._process.kill()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

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

    def _prepare(self) -> Process:
        require_mark("ministack")
        environment = {
            "BIND_HOST": HOST,  # it listens on all addresses otherwise
            "GATEWAY_PORT": str(self._port),
            "SFTP_ENABLED": "0",
            "IOT_MTLS_ENABLED": "0",
            "TMPDIR": str(self._directory),  # it leaves the number of its process there
        }
        program = ensure_environment("ministack", REQUIREMENTS) / "bin" / "ministack"
        return Process("ministack", [str(program)], self._directory / "ministack.log", environment)

    def _answers(self) -> bool:
        try:
            with closing(self.client()) as client:
                client.list_buckets()
        except (BotoCoreError, ClientError):
            return False
        return True
