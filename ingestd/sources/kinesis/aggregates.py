"""Takes aggregates of the Kinesis Producer Library apart, and gives each of their records a position. Pure.

An aggregate is one Kinesis record: four bytes of magic, a protobuf message, its MD5. Positions count down to the
record's number: record i of n has `number - (n - 1) + i`. So the last one has the number itself, and whatever ends
behind an aggregate ends at `number + 1`.
"""

import hashlib
from collections.abc import Sequence
from itertools import accumulate

from ingestd.core.errors import SourceError
from ingestd.core.records import EpochRecords, SourceRefusal
from ingestd.core.rejections import Reason
from ingestd.sources.kinesis.port import KinesisRecord, Shard

MAGIC = b"\xf3\x89\x9a\xc2"
#: Its producer knew other shards: the event was put, or will be, into the shard of its key, too.
OUTSIDE_OF_SHARD = SourceRefusal(
    Reason.OUTSIDE_OF_SHARD, "the event is in an aggregate in another shard than that of its partition key"
)
_DIGEST_BYTES = 16
_MAX_VARINT_BYTES = 10
_MAX_FIELDS = 250_000  # of a message: more take too much memory, and no producer writes so many
_BYTES_FIELD = 2  # protobuf's wire type of texts, bytes and messages
_VARINT = 0


class _Malformed(Exception):
    """The bytes are not an aggregate."""


def split_page(records: Sequence[KinesisRecord], shard: Shard) -> EpochRecords:
    """The records of a page, and of its aggregates, with the places at which a batch may end."""
    if not any(record.value.startswith(MAGIC) for record in records):
        return EpochRecords(records)
    split = [split_record(record, shard) for record in records]
    return EpochRecords([each for some in split for each in some], None, [*accumulate(map(len, split))])


def split_record(record: KinesisRecord, shard: Shard) -> Sequence[KinesisRecord]:
    """The records of an aggregate; a record that is none, or is a broken one, as it is."""
    if not record.value.startswith(MAGIC):
        return [record]
    try:
        parts = _decode(record.value)
    except _Malformed:
        return [record]
    first = record.offset - (len(parts) - 1)
    return [
        KinesisRecord(
            first + index,
            value,
            record.arrival,
            key,
            refused=None if shard.hash_start <= at <= shard.hash_end else OUTSIDE_OF_SHARD,
        )
        for index, (key, at, value) in enumerate(parts)
    ]


def check_room(before: int, record: KinesisRecord, count: int) -> None:
    """``SourceError`` where the positions of an aggregate of `count` would reach down to the record before it."""
    if record.offset - (count - 1) <= before:
        raise SourceError(
            f"the aggregate at sequence number {record.offset} has {count} records, and only "
            f"{record.offset - before} numbers are free below it",
            hint="numbers of AWS lie far enough apart: what answers is another service; put records into it without "
            "aggregation",
        )


def _decode(value: bytes) -> list[tuple[str, int, bytes]]:
    """The key, the place in the range of hashes, and the value of each record."""
    body, digest = value[len(MAGIC) : -_DIGEST_BYTES], value[-_DIGEST_BYTES:]
    if hashlib.md5(body, usedforsecurity=False).digest() != digest:
        raise _Malformed
    keys: list[str] = []
    hashes: list[int] = []
    parts: list[bytes] = []
    for field, data in _fields(body):
        if not isinstance(data, bytes):
            raise _Malformed
        if field == 1:
            keys.append(_text(data))
        elif field == 2:
            hashes.append(_number(_text(data)))
        elif field == 3:
            parts.append(data)
    found = [_part(data, keys, hashes) for data in parts]
    if not found:
        raise _Malformed
    return found


def _part(data: bytes, keys: Sequence[str], hashes: Sequence[int]) -> tuple[str, int, bytes]:
    fields = dict(_fields(data))
    key_index, hash_index, value = fields.get(1), fields.get(2), fields.get(3)
    if not isinstance(key_index, int) or key_index >= len(keys) or not isinstance(value, bytes):
        raise _Malformed
    key = keys[key_index]
    if hash_index is None:
        return key, int.from_bytes(hashlib.md5(key.encode(), usedforsecurity=False).digest(), "big"), value
    if not isinstance(hash_index, int) or hash_index >= len(hashes):
        raise _Malformed
    return key, hashes[hash_index], value


def _fields(data: bytes) -> list[tuple[int, int | bytes]]:
    """The fields of a protobuf message: varints and byte strings; an aggregate has no others."""
    found: list[tuple[int, int | bytes]] = []
    at, end = 0, len(data)
    while at < end:
        if len(found) >= _MAX_FIELDS:
            raise _Malformed
        tag, at = _varint(data, at)
        if tag & 7 == _VARINT:
            number, at = _varint(data, at)
            found.append((tag >> 3, number))
        elif tag & 7 == _BYTES_FIELD:
            length, at = _varint(data, at)
            if length > end - at:
                raise _Malformed
            found.append((tag >> 3, data[at : at + length]))
            at += length
        else:
            raise _Malformed
    return found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    number = 0
    for index in range(_MAX_VARINT_BYTES):
        if at + index >= len(data):
            break
        byte = data[at + index]
        number |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return number, at + index + 1
    raise _Malformed


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise _Malformed from None


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 39):
        raise _Malformed
    return int(text)
