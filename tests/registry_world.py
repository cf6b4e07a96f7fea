"""Values in the formats of a schema registry, and a registry without a server."""

import asyncio
import io
import json
from collections.abc import Mapping
from typing import Any

import fastavro

from ingestd.core.values.base import Schema, SchemaError, SchemaRef
from ingestd.sources.registry.client import RegistryUnavailable

AVRO = {
    "type": "record",
    "name": "Event",
    "fields": [
        {"name": "event_id", "type": "string"},
        {"name": "event_type", "type": "string"},
        {"name": "client_id", "type": "string"},
        {"name": "event_timestamp", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "page_url", "type": ["null", "string"], "default": None},
    ],
}
FIELDS = {"event_type": "web_visit", "client_id": "c", "page_url": None}
TIME_MS = 1_767_323_045_678
TIME_TEXT = "2026-01-02T03:04:05.678Z"


def framed(schema_id: int, payload: bytes) -> bytes:
    """A value that names its schema."""
    return b"\x00" + schema_id.to_bytes(4) + payload


def avro(schema: Any, value: Any) -> bytes:
    """By fastavro's own writer."""
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, fastavro.parse_schema(schema), value)
    return stream.getvalue()


def avro_event(number: int, schema_id: int = 1) -> bytes:
    """An event of `AVRO` in the wire format."""
    return framed(schema_id, avro(AVRO, {"event_id": f"e{number}", "event_timestamp": TIME_MS, **FIELDS}))


class FakeRegistry:
    """In place of the client: schemas by their ids. It answers neither while it is `away`, nor for `failing` ids."""

    def __init__(self, schemas: Mapping[int, Schema]) -> None:
        self.schemas = dict(schemas)
        self.away = False
        self.failing: set[int] = set()
        self.requests = self.failures = 0
        self.asked: list[SchemaRef] = []

    async def fetch(self, ref: SchemaRef) -> Schema | None:
        await asyncio.sleep(0)
        self.requests += 1
        self.asked.append(ref)
        if self.away or int(ref.name) in self.failing:
            self.failures += 1
            raise RegistryUnavailable("the registry is away")
        found = self.schemas.get(int(ref.name))
        if found is not None and found.kind == "BROKEN":
            raise SchemaError("its references are a circle")
        return found


AVRO_SCHEMA = Schema("AVRO", json.dumps(AVRO))
