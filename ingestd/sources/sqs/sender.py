"""Sends messages to an SQS queue, for `ingestd requeue`."""

import asyncio
import base64
import hashlib
import re
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

import msgspec

from ingestd.config.model import SqsConfig
from ingestd.core.backoff import backoff
from ingestd.core.errors import SourceError
from ingestd.sources.sqs.address import queue_address
from ingestd.sources.sqs.client import PER_BATCH, SqsClient
from ingestd.sources.sqs.errors import SqsError

MAX_BYTES = 1 << 20  # of a message, and of a request
PATIENCE = 8  # attempts in a row that bring no message into the queue
_INITIAL_S, _MAX_S = 0.2, 5.0
#: Errors of a request of which no message was taken. After any other, such as a lost answer, all may have been.
_NOTHING_TAKEN = {"RequestThrottled", "KmsThrottled", "ThrottlingException", "TooManyRequestsException"}
# What SQS takes of XML's characters; it refuses a message with any other.
_FORBIDDEN = re.compile("[^\\t\\n\\r\\x20-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")
_GROUP = re.compile(r"[A-Za-z0-9!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~]{1,128}")


class SqsSender:
    """Sends in the order in which messages are given; a FIFO queue keeps it within a group."""

    def __init__(self, config: SqsConfig, random: Random | None = None) -> None:
        """``ConfigError`` where the configuration names no queue."""
        self._address = queue_address(config)
        self._client = SqsClient(config, self._address)
        self._wraps = config.envelope == "sns"
        self._random = random or Random()

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def put(
        self, records: Sequence[tuple[bytes, bytes | None, str, Sequence[tuple[str, bytes | None]]]]
    ) -> list[str | None]:
        """Send bodies, each with its group, if it has one, a unique id and attributes. Of each: None, or the refusal.

        Raises ``SourceError`` where the queue takes nothing for a while or an answer is lost: it may have taken some.
        """
        answers: list[str | None] = [None] * len(records)
        entries = []
        for number, record in enumerate(records):
            try:
                entries.append(self._entry(number, *record))
            except ValueError as refused:
                answers[number] = str(refused)
        for request in _requests(entries):
            for number, why in await self._send(request):
                answers[number] = why
        return answers

    def _entry(
        self, number: int, value: bytes, key: bytes | None, unique_id: str, headers: Sequence[tuple[str, bytes | None]]
    ) -> dict[str, Any]:
        """ValueError where SQS would not take the message."""
        body = value.decode()  # a UnicodeDecodeError is a ValueError
        attributes = [(name, *_attribute(data)) for name, data in headers if data]  # SQS has no empty ones
        entry: dict[str, Any] = {"Id": str(number)}
        if self._wraps:
            wrapped = {"Type": "Notification", "MessageId": unique_id, "TopicArn": "ingestd:requeue", "Message": body}
            inner = {name: {"Type": kind, "Value": text} for name, kind, text in attributes}
            body = msgspec.json.encode({**wrapped, "MessageAttributes": inner}).decode()
        elif attributes:
            entry["MessageAttributes"] = {
                name: {"DataType": kind, f"{kind}Value": text} for name, kind, text in attributes
            }
        entry["MessageBody"] = body
        if found := _FORBIDDEN.search(body):
            raise ValueError(f"SQS takes no message with the character U+{ord(found[0]):04X}")
        if (size := _size(entry)) > MAX_BYTES:
            raise ValueError(f"{size:,} bytes, more than the {MAX_BYTES:,} of a message")
        group = (key or b"").decode(errors="replace")
        if self._address.fifo or (key and _GROUP.fullmatch(group)):
            entry["MessageGroupId"] = group if _GROUP.fullmatch(group) else "ingestd-requeue"
        if self._address.fifo:
            # Within five minutes SQS drops what is sent again, as after a lost answer.
            entry["MessageDeduplicationId"] = hashlib.sha256(unique_id.encode()).hexdigest()
        return entry

    async def _send(self, entries: list[dict[str, Any]]) -> list[tuple[int, str]]:
        """Those that are refused for good."""
        refused: list[tuple[int, str]] = []
        attempt = 0
        while entries:
            left, why = entries, ""
            try:
                answer = await self._client.send(entries)
                failed = {it.id: it for it in answer.failed}
                refused += [(int(it.id), f"{it.code}: {it.message}") for it in answer.failed if it.sender_fault]
                left = [it for it in entries if it["Id"] in failed and not failed[it["Id"]].sender_fault]
                why = next((f"{it.code}: {it.message}" for it in answer.failed), "")
            except SqsError as error:
                # A FIFO queue drops what is sent again.
                if not error.transient or not (self._address.fifo or error.code in _NOTHING_TAKEN):
                    raise
                why = str(error)
            attempt = attempt + 1 if len(left) == len(entries) else 0
            if attempt == PATIENCE:
                raise SourceError(f"the queue takes no messages: {why}", hint="run it again later")
            entries = left
            if entries:
                await asyncio.sleep(backoff(attempt, _INITIAL_S, _MAX_S, self._random))
        return refused


def _attribute(data: bytes) -> tuple[str, str]:
    """The type and the text of an attribute of these bytes."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = ""
    if not text or _FORBIDDEN.search(text):
        return "Binary", base64.b64encode(data).decode()
    return "String", text


def _size(entry: dict[str, Any]) -> int:
    """The bytes that SQS counts, or somewhat more: those of binary attributes are counted in base64."""
    attributes = entry.get("MessageAttributes", {})
    texts = [entry["MessageBody"], *attributes, *(text for one in attributes.values() for text in one.values())]
    return sum(len(text.encode()) for text in texts)


def _requests(entries: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """The entries in groups that fit a request each."""
    group: list[dict[str, Any]] = []
    size = 0
    for entry in entries:
        length = _size(entry)
        if group and (len(group) == PER_BATCH or size + length > MAX_BYTES):
            yield group
            group, size = [], 0
        group.append(entry)
        size += length
    if group:
        yield group
