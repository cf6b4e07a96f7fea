"""What the bucket tells of new objects, through an SQS queue."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterator
from typing import Any
from urllib.parse import unquote_plus, urlsplit

import msgspec
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from botocore.exceptions import BotoCoreError, ClientError

from ingestd.config.secrets import REDACTION
from ingestd.core.backoff import backoff
from ingestd.core.sink_url import parse_sink_url
from ingestd.ops.logs import Outage

log = logging.getLogger(__name__)

_WAIT = 20  # seconds that one request waits for messages: SQS' most
_MOST = 10  # messages of one answer: SQS' most
_HIDDEN = 120  # seconds until a message that was not deleted comes again
_RETRY_INITIAL, _RETRY_MAX = 0.5, 30.0  # seconds


class SqsEvents:
    """Tells of the keys of objects below a sink's root. A message is deleted when its objects are loaded."""

    def __init__(self, queue_url: str, sink_url: str, region: str | None) -> None:
        self._url = queue_url
        self._region = region
        place = parse_sink_url(sink_url)
        self._bucket, self._root = place.bucket, place.prefix
        self._trouble = Outage()
        self.heard = False  # the queue answers

    async def run(
        self, landed: Callable[[str], None], loaded: Callable[[list[str]], Awaitable[None]], lost: Callable[[], None]
    ) -> None:
        """Runs until it is cancelled.

        Says each key to `landed`, and awaits `loaded` before it deletes a message; `lost` where the queue fails.
        """
        attempt = 0
        while True:
            try:
                async with self._client() as client:
                    while True:
                        await self._receive(client, landed, loaded)
                        attempt = 0
                        self._answering()
            except (BotoCoreError, ClientError, OSError, TimeoutError) as error:
                self._failing(error)
                lost()
            await asyncio.sleep(backoff(attempt, _RETRY_INITIAL, _RETRY_MAX, random.Random()))
            attempt += 1

    def _client(self) -> Any:
        parts = urlsplit(self._url)
        host = parts.hostname or ""
        region = self._region or (host.split(".")[1] if host.startswith("sqs.") else None)
        return AioSession().create_client(
            "sqs",
            region_name=region,
            endpoint_url=f"{parts.scheme}://{parts.netloc}",
            config=AioConfig(connect_timeout=5, read_timeout=_WAIT + 10, retries={"mode": "standard"}),
        )

    async def _receive(
        self, client: Any, landed: Callable[[str], None], loaded: Callable[[list[str]], Awaitable[None]]
    ) -> None:
        answer = await client.receive_message(
            QueueUrl=self._url, WaitTimeSeconds=_WAIT, MaxNumberOfMessages=_MOST, VisibilityTimeout=_HIDDEN
        )
        messages = answer.get("Messages", [])
        keys = [key for message in messages for key in self._keys(message["Body"])]
        for key in keys:
            landed(key)
        await loaded(keys)
        if messages:
            entries = [{"Id": str(i), "ReceiptHandle": it["ReceiptHandle"]} for i, it in enumerate(messages)]
            await client.delete_message_batch(QueueUrl=self._url, Entries=entries)

    def _keys(self, body: str) -> Iterator[str]:
        for bucket, key in named(body):
            if bucket == self._bucket and key.startswith(self._root):
                yield key.removeprefix(self._root)

    def _failing(self, error: Exception) -> None:
        self.heard = False
        if self._trouble.begin(asyncio.get_running_loop().time()):
            text = REDACTION.clean(str(error))
            log.warning("the queue of notifications does not answer; the sink is listed meanwhile: %s", text)

    def _answering(self) -> None:
        self.heard = True
        if ended := self._trouble.end(asyncio.get_running_loop().time()):
            log.info("the queue of notifications answers again %s", ended)


def named(body: str) -> list[tuple[str, str]]:
    """Bucket and key of each object that a message tells of: S3's own form, or inside of SNS'; none for any other."""
    try:
        message = msgspec.json.decode(body)
        if isinstance(message, dict) and isinstance(message.get("Message"), str):
            message = msgspec.json.decode(message["Message"])
        records = message.get("Records", [])
        return [(it["s3"]["bucket"]["name"], unquote_plus(it["s3"]["object"]["key"])) for it in records]
    except (msgspec.DecodeError, AttributeError, KeyError, TypeError):
        return []
