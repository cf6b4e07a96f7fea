"""What the tests of webhooks share: requests, keys, signatures made here, and the rows that validation makes."""

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from ingestd.collect.hooks import hook_endpoint
from ingestd.collect.messages import Client, Collected, Endpoint, Incoming, Mapped
from ingestd.config.model import CollectConfig, CollectSource, EventsConfig
from ingestd.core.events import load_model
from ingestd.core.records import PlainRecord, TopicPartition
from ingestd.core.validation import EventValidator
from ingestd.ops.http_client import HttpAnswer

NOW_MS = 1_790_000_000_000
NOW_S = NOW_MS // 1000
URL = "https://e.example.com/hooks/mail"
#: The vendor's server, which is not the person of whom its events tell.
VENDOR = Client(ip="198.51.100.0", user_agent="a vendor's robot", is_bot=True, anonymous=False)
ANONYMOUS = Client(ip=None, user_agent="", is_bot=False, anonymous=True)
_VALIDATOR = EventValidator(EventsConfig(), load_model(None))


class FakeKeys:
    """Keys that a test changes as an operator changes the file."""

    def __init__(self, *keys: bytes) -> None:
        self.keys = keys

    def all(self) -> tuple[bytes, ...]:
        return self.keys


class FakeSns:
    """Answers as Amazon SNS does, and remembers what it was asked."""

    def __init__(self, answers: Mapping[str, HttpAnswer] | None = None) -> None:
        self.answers = dict(answers or {})
        self.asked: list[str] = []

    async def fetch(self, url: str) -> HttpAnswer:
        self.asked.append(url)
        await asyncio.sleep(0)  # others run meanwhile
        return self.answers.get(url, HttpAnswer(404, b""))


def post(body: bytes, headers: Mapping[str, str] | None = None, **changes: Any) -> Incoming:
    """A request as the edge hands it over."""
    values: dict[str, Any] = {
        "source": "mail",
        "method": "POST",
        "path": "/hooks/mail",
        "query": {},
        "url": URL,
        "headers": headers or {},
        "raw_body": body,
        "body": body,
        "received_at": NOW_MS,
        "client": VENDOR,
    }
    return Incoming(**(values | changes))


def make_endpoint(kind: str, keys: FakeKeys | None = None, sns: FakeSns | None = None, **changes: Any) -> Endpoint:
    config = changes.pop("config", CollectConfig())
    source = CollectSource(kind=cast(Any, kind), **changes)
    return hook_endpoint("mail", source, config, keys, (sns or FakeSns()).fetch)


def mapping_file(folder: Path, text: str) -> str:
    file = folder / "mapping.toml"
    file.write_text(text)
    return str(file)


def mac(key: bytes, content: bytes, algorithm: str = "sha256") -> bytes:
    return hmac.new(key, content, getattr(hashlib, algorithm)).digest()


def base64_of(value: bytes) -> str:
    return base64.b64encode(value).decode()


def row_of(event: Collected) -> dict[str, Any]:
    """The row that ingestion makes of an event; fails where it would be quarantined."""
    assert event.fault is None, event.fault
    row, reason = validated(event.value)
    assert reason is None, reason
    return row


def validated(value: bytes) -> tuple[dict[str, Any], str | None]:
    """The row of a value, or why there is none."""
    result = _VALIDATOR.chunk(TopicPartition("t", 0), [PlainRecord(0, NOW_MS, value)])
    if result.rejected:
        return {}, str(result.rejected[0].reason)
    row: dict[str, Any] = json.loads(result.rows)
    return row, None


def rows_of(mapped: Mapped) -> list[dict[str, Any]]:
    return [row_of(event) for event in mapped.events]


def columns(row: Mapping[str, Any], names: Sequence[str]) -> list[Any]:
    return [row.get(name) for name in names]
