"""An SQS queue for a daemon: filled with numbered events, watched until it is empty, and its rows counted."""

import asyncio
import gzip
import json
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Self

import msgspec

from ingestd.core.object_keys import EVENTS, QUARANTINE
from ingestd.core.quarantine import QuarantinedMessage
from ingestd.core.queue_keys import MANIFESTS
from ingestd.core.queue_objects import QueueObjectMetadata, is_fence
from tests.e2e.daemon import DEADLINE
from tests.e2e.events import event_id, events, is_good
from tests.services.elasticmq import ElasticMQ
from tests.services.seaweed import REGION, S3Store

_PER_CALL = 10
_POLL_S = 0.1
_MAX_PROBLEMS = 5

_QUARANTINED = msgspec.json.Decoder(QuarantinedMessage)


def settings(url: str, store: S3Store, bucket: str) -> dict[str, str]:
    """Keys for a daemon that brings a queue into `bucket`, with short times."""
    return {
        "source": "sqs",
        "sqs.queue_url": url,
        "sqs.region": REGION,
        "sqs.wait": "1s",
        "sqs.receivers": "2",
        "sqs.visibility": "30s",  # the shortest
        "sqs.connect_timeout": "1s",
        "sqs.read_timeout": "3s",
        "sink.url": f"s3://{bucket}",
        "sink.retry_initial": "100ms",
        "sink.retry_max": "1s",
        "s3.endpoint_url": store.endpoint,
        "batch.interval": "500ms",
    }


@dataclass
class QueueTally:
    """What is in the bucket, against what was sent. All is well when there are no problems."""

    messages: int = 0  # sent
    rows: int = 0
    quarantined: int = 0
    objects: int = 0
    manifests: int = 0
    fences: int = 0
    lost: int = 0
    doubled: int = 0
    missing: set[str] = field(default_factory=set)  # the ids of the lost ones
    problems: list[str] = field(default_factory=list)


def text(value: bytes) -> str:
    """An event as the body of a message. SQS takes neither an empty body nor invalid UTF-8: both are sent as `{`.

    Not with replaced characters: an event whose only fault is its UTF-8 would become a good one.
    """
    try:
        return value.decode() or "{"
    except UnicodeDecodeError:
        return "{"


async def emptied(depth: Callable[[], tuple[int, int]], deadline: float = DEADLINE) -> None:
    """Wait until no message is visible or in flight."""
    limit = time.monotonic() + deadline
    while (found := await asyncio.to_thread(depth)) != (0, 0):
        assert time.monotonic() < limit, f"after {deadline:g} s {found} messages are visible and in flight"
        await asyncio.sleep(_POLL_S)


def read_rows(store: S3Store, bucket: str) -> list[dict[str, Any]]:
    """All rows in a bucket."""
    rows: list[dict[str, Any]] = []
    with closing(store.client()) as client:
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=EVENTS):
            for entry in page.get("Contents", []):
                body = client.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read()
                rows += map(json.loads, gzip.decompress(body).splitlines())
    return rows


class MessageQueue:
    """Sends numbered events, and knows what it has sent: `sent` has the numbers by the ids of their messages."""

    def __init__(self, server: ElasticMQ, url: str, first: int = 0) -> None:
        self.url = url
        self.sent: dict[str, int] = {}
        self._server = server
        self._client: Any = server.client()
        self._events = events(first)
        self._fifo = url.endswith(".fifo")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def send(self, total: int) -> None:
        """Send so many events; they are in the queue when this returns."""
        left = total
        while left > 0:
            some = list(islice(self._events, min(left, _PER_CALL)))
            left -= len(some)
            entries = [
                {"Id": str(number), "MessageBody": text(value), **self._group(number)} for number, _, value in some
            ]
            answer = self._client.send_message_batch(QueueUrl=self.url, Entries=entries)
            assert not answer.get("Failed"), answer["Failed"]
            self.sent |= {each["MessageId"]: int(each["Id"]) for each in answer["Successful"]}

    async def send_until(self, quiet: asyncio.Event, *, rate: int = 200) -> None:
        """Send evenly until told to stop."""
        while not quiet.is_set():
            await asyncio.to_thread(self.send, rate // 10)
            await asyncio.sleep(0.1)

    def client(self) -> Any:
        """A blocking client of the queue's server; to be closed."""
        return self._server.client()

    def kill_messages(self, dead: str) -> int:
        """Receive each message as often as it may be, without deleting it: all move to `dead`; how many."""
        while self._server.depth(self.url) != (0, 0):
            self._client.receive_message(QueueUrl=self.url, MaxNumberOfMessages=10, VisibilityTimeout=0)
        return sum(self._server.depth(dead))

    def redrive(self, dead: str) -> None:
        """Move all messages of `dead` back by hand: as new messages, whose ids are those that count now."""
        while found := self._client.receive_message(QueueUrl=dead, MaxNumberOfMessages=10).get("Messages"):
            for each in found:
                number = self.sent.pop(each["MessageId"])
                answer = self._client.send_message(QueueUrl=self.url, MessageBody=each["Body"])
                self.sent[answer["MessageId"]] = number
                self._client.delete_message(QueueUrl=dead, ReceiptHandle=each["ReceiptHandle"])

    async def emptied(self, deadline: float = DEADLINE) -> None:
        """Wait until no message is left: all have landed and are deleted."""
        await emptied(lambda: self._server.depth(self.url), deadline)

    def _group(self, number: int) -> dict[str, str]:
        if not self._fifo:
            return {}
        return {"MessageGroupId": f"group-{number % 3}", "MessageDeduplicationId": str(number)}

    def tally(self, store: S3Store, bucket: str) -> QueueTally:
        """Each message, and no other, is in one row or in quarantine."""
        tally = QueueTally(messages=len(self.sent))
        rows: Counter[str] = Counter()
        rejected: Counter[str] = Counter()
        with closing(store.client()) as client:
            for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
                for entry in page.get("Contents", []):
                    key = entry["Key"]
                    if key.startswith(MANIFESTS):
                        tally.manifests += 1
                    elif key.startswith((EVENTS, QUARANTINE)):
                        found = client.get_object(Bucket=bucket, Key=key)
                        lines = gzip.decompress(found["Body"].read()).splitlines()
                        if key.startswith(QUARANTINE):
                            rejected.update(_QUARANTINED.decode(line).message_id for line in lines)
                        elif is_fence(found["Metadata"]):
                            assert not lines, key
                            tally.fences += 1
                        else:
                            tally.objects += 1
                            rows.update(self._row_ids(key, lines, found["Metadata"]))
        tally.rows, tally.quarantined = rows.total(), rejected.total()
        self._compare(tally, rows, rejected)
        return tally

    def check(self, store: S3Store, bucket: str) -> QueueTally:
        """The same, without problems."""
        tally = self.tally(store, bucket)
        assert not tally.problems, "\n".join(tally.problems)
        return tally

    def _row_ids(self, key: str, lines: list[bytes], metadata: dict[str, str]) -> list[str]:
        landed = QueueObjectMetadata.from_metadata(metadata)
        assert landed is not None, f"{key}: no metadata of ours: {metadata}"
        assert landed.rows == len(lines), f"{key}: {len(lines)} rows, says {landed.rows}"
        ids = []
        for row in map(json.loads, lines):
            message_id = row["source_message_id"]
            assert not row.keys() & {"source_partition", "source_offset"}, f"{key}: {row}"
            assert row["source_topic"] == self.url.rpartition("/")[2], f"{key}: {row}"
            if (number := self.sent.get(message_id)) is not None:
                assert row["event_id"] == event_id(number), f"{key}: {row}"
            ids.append(message_id)
        return ids

    def _compare(self, tally: QueueTally, rows: Counter[str], rejected: Counter[str]) -> None:
        wanted = self.sent.keys()
        good = {each for each in wanted if is_good(self.sent[each])}
        lost = (good - rows.keys()) | (wanted - good - rejected.keys())
        again = [each for each, times in rows.items() if times > 1]
        strange = (rows.keys() - good) | (rejected.keys() - (wanted - good))
        tally.missing = lost
        tally.lost, tally.doubled = len(lost), sum(rows[each] - 1 for each in again)
        for what, found in (("lost", lost), ("in two rows", again), ("not sent, or in the wrong place", strange)):
            if found:
                tally.problems.append(f"{len(found)} messages are {what}: {sorted(found)[:_MAX_PROBLEMS]}")
