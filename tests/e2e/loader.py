"""Reads objects with the eyes of a warehouse that refuses a whole file for one bad row."""

import gzip
import json
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from ingestd.core import gzip_extra
from ingestd.core.object_keys import EVENTS, QUARANTINE, REQUEUED, ObjectKeys
from ingestd.core.object_metadata import ObjectMetadata
from ingestd.sinks.create_only import PROBE_KEY
from tests.services.seaweed import S3Store

Row = dict[str, Any]

FIRST_YEAR = 1582  # of Snowflake's timestamps
_OUT_OF_RANGE = Decimal(2**1024 - 2**970)  # rounds to a double's infinity


class DataObject(NamedTuple):
    """An object with rows: `lines` as they are, `rows` as they were read."""

    key: str
    landed: ObjectMetadata
    lines: list[bytes]
    rows: list[Row]

    def pairs(self) -> Iterator[tuple[bytes, Row]]:
        return zip(self.lines, self.rows, strict=True)

    @property
    def offsets(self) -> list[int]:
        return [row["source_offset"] for row in self.rows]


def in_bucket(store: S3Store, bucket: str) -> list[DataObject]:
    """All data objects of a bucket, in the order of their keys; AssertionError where one could not be loaded."""
    with closing(store.client()) as client:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        keys = [found["Key"] for page in pages for found in page.get("Contents", [])]
        return [
            _data_object(key, (found := client.get_object(Bucket=bucket, Key=key))["Body"].read(), found["Metadata"])
            for key in _data_keys(keys)
        ]


def in_directory(root: Path) -> list[DataObject]:
    """As `in_bucket`, of a local sink."""
    keys = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.gz"))
    return [
        _data_object(key, body := (root / key).read_bytes(), gzip_extra.extract(body[: gzip_extra.MAX_HEADER]))
        for key in _data_keys(keys)
    ]


def _data_keys(keys: list[str]) -> Iterator[str]:
    for key in keys:
        assert key == PROBE_KEY or key.startswith((EVENTS, QUARANTINE, REQUEUED)), f"{key}: in none of our folders"
        if key.startswith(EVENTS):
            yield key


def _data_object(key: str, body: bytes, metadata: dict[str, str]) -> DataObject:
    landed = ObjectMetadata.from_metadata(metadata)
    assert landed is not None, f"{key}: no metadata of ours: {metadata}"
    name = ObjectKeys().parse(key)
    assert name is not None, f"{key}: not the name of a data object"
    assert (name.partition, name.start) == ((landed.topic, landed.partition), landed.start)
    lines = _lines(body)
    rows = [_row(line) for line in lines]
    assert len(rows) == landed.rows
    return DataObject(key, landed, lines, rows)


def _lines(body: bytes) -> list[bytes]:
    data = gzip.decompress(body)
    assert not data or data.endswith(b"\n"), "the last line has no end"
    return data.split(b"\n")[:-1]


def _row(line: bytes) -> Row:
    """One line, read as strictly as its loader may be."""
    row = json.loads(
        line.decode("utf-8"), object_pairs_hook=_object, parse_float=_number, parse_int=_integer, parse_constant=_refuse
    )
    assert isinstance(row, dict), line
    line_again = json.dumps(row, default=str, ensure_ascii=False)
    line_again.encode("utf-8")  # a lone surrogate in an escape decodes, and fails here
    assert row["event_id"], line
    assert row["client_id"], line
    for name in ("event_timestamp", "received_at"):
        time = datetime.fromisoformat(row[name])
        assert time.tzinfo == UTC, line
        assert FIRST_YEAR <= time.year <= 9999, line
    return row


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    assert len(found) == len(pairs), f"a key is there twice: {pairs}"
    return found


def _number(text: str) -> Decimal:
    number = Decimal(text)
    assert abs(number) < _OUT_OF_RANGE, f"beyond a double's range: {text}"
    return number


def _integer(text: str) -> int:
    _number(text)
    return int(text)


def _refuse(text: str) -> None:
    raise AssertionError(f"not a JSON number: {text}")
