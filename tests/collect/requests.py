"""Requests as the server hands them to the endpoints, and what becomes of the events."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ingestd.collect.mapping import DEFECT
from ingestd.collect.messages import Client, Collected, Incoming
from ingestd.config.model import EventsConfig
from ingestd.core.events import load_model
from ingestd.core.records import PlainRecord, TopicPartition
from ingestd.core.validation import EventValidator, Validated

RECEIVED_AT = 1_796_070_000_000  # 2026-11-30T20:20:00Z
VISITOR = Client("192.0.2.0", "Mozilla/5.0", is_bot=False, anonymous=False)
NOBODY = Client(None, "Mozilla/5.0", is_bot=False, anonymous=True)
VALIDATOR = EventValidator(EventsConfig(), load_model(None))


def request(
    path: str,
    body: Any = b"",
    *,
    method: str = "POST",
    query: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    client: Client = VISITOR,
    received_at: int = RECEIVED_AT,
) -> Incoming:
    """A request to the source "web". A body that is not bytes is sent as JSON."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    url = f"https://e.example.com{path}"
    return Incoming("web", method, path, query or {}, url, headers or {}, raw, raw, received_at, client)


def validated(events: Sequence[Collected]) -> Validated:
    """What ingestion makes of the events."""
    records = [PlainRecord(i, RECEIVED_AT, event.value, event.key) for i, event in enumerate(events)]
    return VALIDATOR.chunk(TopicPartition("marketing_events", 0), records)


def rows(events: Sequence[Collected]) -> list[dict[str, Any]]:
    """The rows of events, all of which could be mapped."""
    assert [event.fault for event in events] == [None] * len(events), events
    result = validated(events)
    assert not result.rejected, result.rejected[0]
    return [json.loads(line) for line in result.rows.splitlines()]


def check_any(event: Collected, raw: bytes) -> None:
    """Either validation accepts the event, or it has a fault and is what was sent."""
    if event.fault is None:
        assert not validated([event]).rejected, validated([event]).rejected[0]
    else:
        assert event.fault != DEFECT
        assert event.value == raw
        assert event.key is None
