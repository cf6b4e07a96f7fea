"""The SQS client: requests and answers of one queue, each one attempt."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from ingestd.config.model import SqsConfig
from ingestd.ops.aws_json import JsonService
from ingestd.sources.sqs import answers
from ingestd.sources.sqs.address import QueueAddress
from ingestd.sources.sqs.answers import BatchAnswer, ReceivedMessage
from ingestd.sources.sqs.errors import SqsError, from_answer, from_exception

T = TypeVar("T")

PER_BATCH = 10  # entries of one request
BATCHES_AT_ONCE = 8  # extensions and deletions; those of a large batch take turns
_MAX_ANSWER_BYTES = 64 << 20  # ten messages of 1 MiB together, each byte escaped, have less
_SYSTEM_ATTRIBUTES = (
    "SentTimestamp", "ApproximateReceiveCount", "ApproximateFirstReceiveTimestamp", "MessageGroupId",
)  # fmt: skip


class QueueAttributes(msgspec.Struct, frozen=True, kw_only=True):
    """What a queue says of itself. None: the service does not know the attribute."""

    arn: str
    visible: int
    in_flight: int
    delayed: int = 0
    visibility_s: int | None = None
    retention_s: int | None = None
    max_message_bytes: int | None = None
    redrive_policy: str = ""
    kms_key_id: str = ""


class SqsClient:
    """The requests to one queue. Connections are opened by the first. Each call raises ``SqsError``."""

    def __init__(self, config: SqsConfig, address: QueueAddress) -> None:
        self.address = address
        self._timeout_s = config.connect_timeout + config.read_timeout
        self.wait_s = min(20, math.ceil(config.wait))
        self._service = JsonService(
            "sqs",
            "AmazonSQS",
            address.endpoint_url,
            address.region,
            connect_timeout=config.connect_timeout,
            read_timeout=config.read_timeout + self.wait_s,
            connections=config.receivers + BATCHES_AT_ONCE + 2,
            max_bytes=_MAX_ANSWER_BYTES,
        )
        self._receive_request = {
            "QueueUrl": address.url,
            "MaxNumberOfMessages": PER_BATCH,
            "WaitTimeSeconds": self.wait_s,
            "VisibilityTimeout": math.ceil(config.visibility),
            "MessageSystemAttributeNames": _SYSTEM_ATTRIBUTES,
            "AttributeNames": _SYSTEM_ATTRIBUTES,  # the name in older services of others
            "MessageAttributeNames": ["All"],
        }

    async def close(self) -> None:
        """Close the connections; the next call opens new ones, with credentials that are looked for again."""
        await self._service.close()

    async def receive(self) -> list[ReceivedMessage]:
        """At most ten messages; none where none came within the wait."""
        return await self._call(
            "ReceiveMessage", "receive messages", self._receive_request, answers.received, self.wait_s
        )

    async def extend(self, receipts: Sequence[str], seconds: int) -> BatchAnswer:
        """Hide at most ten messages for so long from now on. Entries have the receipts' indexes as ids."""
        entries = [
            {"Id": str(number), "ReceiptHandle": receipt, "VisibilityTimeout": seconds}
            for number, receipt in enumerate(receipts)
        ]
        return await self._batch("ChangeMessageVisibilityBatch", "extend messages", entries)

    async def delete(self, receipts: Sequence[str]) -> BatchAnswer:
        """Delete at most ten messages. Entries have the receipts' indexes as ids."""
        entries = [{"Id": str(number), "ReceiptHandle": receipt} for number, receipt in enumerate(receipts)]
        return await self._batch("DeleteMessageBatch", "delete messages", entries)

    async def send(self, entries: Sequence[Mapping[str, Any]]) -> BatchAnswer:
        """Send at most ten messages, of 1 MiB together."""
        return await self._batch("SendMessageBatch", "send messages", entries)

    async def attributes(self) -> QueueAttributes:
        """What the queue says of itself now."""
        request = {"QueueUrl": self.address.url, "AttributeNames": ["All"]}
        return await self._call("GetQueueAttributes", "get the attributes", request, _queue_attributes)

    async def _batch(self, operation: str, action: str, entries: Sequence[Mapping[str, Any]]) -> BatchAnswer:
        request = {"QueueUrl": self.address.url, "Entries": entries}
        return await self._call(operation, action, request, answers.batch)

    async def _call(
        self,
        operation: str,
        action: str,
        request: Mapping[str, Any],
        decode: Callable[[bytes], T],
        wait_s: float = 0.0,
    ) -> T:
        action = f"{action} of queue {self.address.name}"
        try:
            answer = await self._service.call(operation, answers.encode(request), self._timeout_s + wait_s)
            if answer.status == 200:
                return decode(answer.body)
        except Exception as error:
            if (mapped := from_exception(error, action)) is None:
                raise
            raise self._failed(mapped) from None  # without its cause: its text may be what a credential process printed
        raise self._failed(from_answer(answer, action))

    def _failed(self, error: SqsError) -> SqsError:
        if not error.transient:
            self._service.forget_credentials()
        return error


def _queue_attributes(body: bytes) -> QueueAttributes:
    """Raises ``NotAnAnswer`` where what every queue has is missing."""
    found = answers.queue_attributes(body)

    def number(name: str) -> int | None:
        return int(text) if (text := found.get(name, "")).isdecimal() else None

    visible, in_flight = number("ApproximateNumberOfMessages"), number("ApproximateNumberOfMessagesNotVisible")
    if not (arn := found.get("QueueArn", "")) or visible is None or in_flight is None:
        raise answers.NotAnAnswer("attributes of the queue are missing")
    return QueueAttributes(
        arn=arn,
        visible=visible,
        in_flight=in_flight,
        delayed=number("ApproximateNumberOfMessagesDelayed") or 0,
        visibility_s=number("VisibilityTimeout"),
        retention_s=number("MessageRetentionPeriod"),
        max_message_bytes=number("MaximumMessageSize"),
        redrive_policy=found.get("RedrivePolicy", ""),
        kms_key_id=found.get("KmsMasterKeyId", ""),
    )
