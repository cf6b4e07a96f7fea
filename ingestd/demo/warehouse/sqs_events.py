"""Receives the bucket's notifications of new objects from an SQS queue."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterator
from typing import Any
from urllib.parse import unquote_plus, urlsplit

import msgspec
from aiobotocore.config import AioConfig
from botocore.exceptions import BotoCoreError, ClientError

from ingestd.config.secrets import REDACTION
from ingestd.core.backoff import backoff
from ingestd.core.sink_url import parse_sink_url
from ingestd.ops.aws_session import new_session
from ingestd.ops.logs import Outage

log = logging.getLogger(__name__)

_WAIT_S = 20  # of one request for messages: the maximum of SQS
_MAX_MESSAGES = 10  # of one response: the maximum of SQS
_VISIBILITY_TIMEOUT_S = 120  # until SQS delivers a message again that was not deleted
_RETRY_INITIAL_S, _RETRY_MAX_S = 0.5, 30.0


class SqsEvents:
    """Reports the keys of new objects below a sink's root. Deletes a message after its objects are loaded."""

    def __init__(self, queue_url: str, sink_url: str, region: str | None) -> None:
        self._url = queue_url
        self._region = region
        place = parse_sink_url(sink_url)
        self._bucket, self._root = place.bucket, place.prefix
        self._outage = Outage()
        self.is_answering = False

    async def run(
        self, landed: Callable[[str], None], loaded: Callable[[list[str]], Awaitable[None]], failed: Callable[[], None]
    ) -> None:
        """Receives messages until cancelled.

        Calls `landed` with each key, and awaits `loaded` before it deletes a message. Calls `failed` on a queue error.
        """
        attempt = 0
        while True:
            try:
                async with self._client() as client:
                    while True:
                        await self._receive(client, landed, loaded)
                        attempt = 0
                        self._note_success()
            except (BotoCoreError, ClientError, OSError, TimeoutError) as error:
                self._note_failure(error)
                failed()
            await asyncio.sleep(backoff(attempt, _RETRY_INITIAL_S, _RETRY_MAX_S, random.Random()))
            attempt += 1

    def _client(self) -> Any:
        parts = urlsplit(self._url)
        host = parts.hostname or ""
        region = host.split(".")[1] if host.startswith("sqs.") else self._region
        return new_session().create_client(
            "sqs",
            region_name=region,
            endpoint_url=f"{parts.scheme}://{parts.netloc}",
            config=AioConfig(connect_timeout=5, read_timeout=_WAIT_S + 10, retries={"mode": "standard"}),
        )

    async def _receive(
        self, client: Any, landed: Callable[[str], None], loaded: Callable[[list[str]], Awaitable[None]]
    ) -> None:
        response = await client.receive_message(
            QueueUrl=self._url,
            WaitTimeSeconds=_WAIT_S,
            MaxNumberOfMessages=_MAX_MESSAGES,
            VisibilityTimeout=_VISIBILITY_TIMEOUT_S,
        )
        messages = response.get("Messages", [])
        keys = [key for message in messages for key in self._keys(message["Body"])]
        for key in keys:
            landed(key)
        await loaded(keys)
        if messages:
            entries = [{"Id": str(i), "ReceiptHandle": it["ReceiptHandle"]} for i, it in enumerate(messages)]
            await client.delete_message_batch(QueueUrl=self._url, Entries=entries)

    def _keys(self, body: str) -> Iterator[str]:
        for bucket, key in objects_in(body):
            if bucket == self._bucket and key.startswith(self._root):
                yield key.removeprefix(self._root)

    def _note_failure(self, error: Exception) -> None:
        self.is_answering = False
        if self._outage.begin(asyncio.get_running_loop().time()):
            text = REDACTION.clean(str(error))
            log.warning("the notification queue does not answer; listing the sink instead: %s", text)

    def _note_success(self) -> None:
        self.is_answering = True
        if ended := self._outage.end(asyncio.get_running_loop().time()):
            log.info("the notification queue answers again %s", ended)


def objects_in(body: str) -> list[tuple[str, str]]:
    """The bucket and key of each object in a message of S3, or of S3 through SNS; none in any other message."""
    try:
        message = msgspec.json.decode(body)
        if isinstance(message, dict) and isinstance(message.get("Message"), str):
            message = msgspec.json.decode(message["Message"])
        records = message.get("Records", [])
        return [(it["s3"]["bucket"]["name"], unquote_plus(it["s3"]["object"]["key"])) for it in records]
    except (msgspec.DecodeError, AttributeError, KeyError, TypeError):
        return []
