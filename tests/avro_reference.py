"""Avro as JSON text by fastavro's readers: what ours is held against. It is for sound values, and has no bounds."""

import math
from datetime import UTC, datetime, timedelta
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal
from io import BytesIO
from typing import Any

import fastavro
from fastavro import _read_py
from fastavro.read import LOGICAL_READERS

from ingestd.core.decoding import ENCODER

_EXACT = Context(prec=MAX_PREC, Emin=MIN_EMIN, Emax=MAX_EMAX)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBERS = ("float", "double")
_NANOS = ("timestamp-nanos", "local-timestamp-nanos")


def reference_json(schema: Any, payload: bytes, *, recursive: bool = False) -> bytes:
    """Raises anything where the value is not of its schema."""
    named: dict[str, Any] = {}
    root = {"type": "record", "name": "tests.Wrapped", "fields": [{"name": "value", "type": _annotated(schema)}]}
    parsed = fastavro.parse_schema(root, named_schemas=named)
    stream = BytesIO(payload)
    read = _read_py.schemaless_reader if recursive else fastavro.schemaless_reader
    value: Any = read(stream, parsed, None)
    assert stream.tell() == len(payload), "bytes behind the value"
    return ENCODER.encode(value["value"])


def _annotated(schema: Any) -> Any:
    """With the readers below in place of fastavro's own, under names of ours: its table is one for the process."""
    if isinstance(schema, list):
        return [_annotated(branch) for branch in schema]
    if isinstance(schema, str):
        return {"type": schema, "logicalType": "tests-finite"} if schema in _NUMBERS else schema
    kind, logical = schema["type"], schema.get("logicalType")
    changed = dict(schema)
    if kind in _NUMBERS:
        changed["logicalType"] = "tests-finite"
    elif logical in {"decimal", *_NANOS}:
        changed["logicalType"] = f"tests-{logical}"
    for key in ("items", "values"):
        if key in schema:
            changed[key] = _annotated(schema[key])
    if "fields" in schema:
        changed["fields"] = [{**field, "type": _annotated(field["type"])} for field in schema["fields"]]
    return changed


def _finite(number: float, *_: object) -> float:
    assert math.isfinite(number)
    return number


def _decimal(data: bytes, schema: Any, *_: object) -> Decimal:
    return Decimal(int.from_bytes(data, signed=True)).scaleb(-int(schema.get("scale", 0)), _EXACT)


def _local_nanoseconds(number: int, *_: object) -> str:
    seconds, nanoseconds = divmod(number, 10**9)
    return f"{(_EPOCH + timedelta(seconds=seconds)).replace(tzinfo=None).isoformat()}.{nanoseconds:09d}"


def _nanoseconds(number: int, *_: object) -> str:
    return f"{_local_nanoseconds(number)}Z"


LOGICAL_READERS.update({f"{kind}-tests-finite": _finite for kind in _NUMBERS})
LOGICAL_READERS.update({f"{kind}-tests-decimal": _decimal for kind in ("bytes", "fixed")})
LOGICAL_READERS["long-tests-timestamp-nanos"] = _nanoseconds
LOGICAL_READERS["long-tests-local-timestamp-nanos"] = _local_nanoseconds
