"""Compares the body of a queue's data or quarantine object with its metadata, and finds message ids twice. Pure."""

import hashlib
from collections.abc import Iterator, Sequence
from heapq import merge
from itertools import repeat
from typing import TypeVar

import msgspec

from ingestd.core import gzip_extra
from ingestd.core.object_keys import digest_of
from ingestd.core.queue_keys import QueueObjectName
from ingestd.core.queue_objects import MessageIds, QueueObjectMetadata
from ingestd.verify.contents import ContentError, whole_lines

T = TypeVar("T")


class _RowSource(msgspec.Struct, gc=False):
    """The message that a row was made from."""

    source_topic: str
    source_message_id: str


class _RejectedSource(msgspec.Struct, gc=False):
    """The message that was rejected."""

    topic: str
    message_id: str


_ROWS = msgspec.json.Decoder(_RowSource)
_REJECTED = msgspec.json.Decoder(_RejectedSource)


def row_ids(body: bytes, metadata: QueueObjectMetadata) -> list[str]:
    """The message ids of a data object's rows. Errors: ``ContentError``."""
    if hashlib.sha256(gzip_extra.without(body)).hexdigest() != metadata.sha256:
        raise ContentError("its sha256 is not the one in its metadata")
    ids: list[str] = []
    for row in _lines(body, _ROWS):
        if row.source_topic != metadata.queue:
            raise ContentError(f"row {len(ids)} is of queue {row.source_topic}, expected {metadata.queue}")
        ids.append(row.source_message_id)
    if len(ids) != metadata.rows:
        raise ContentError(f"it has {len(ids)} rows, its metadata says {metadata.rows}")
    return ids


def rejected_ids(body: bytes, metadata: QueueObjectMetadata) -> list[str]:
    """The message ids of a quarantine object. Errors: ``ContentError``."""
    if digest_of(gzip_extra.without(body)) != metadata.quarantine:
        raise ContentError("the digest of its contents is not the one in its name")
    ids: list[str] = []
    for line in _lines(body, _REJECTED):
        if line.topic != metadata.queue:
            raise ContentError(f"line {len(ids)} is of queue {line.topic}, expected {metadata.queue}")
        ids.append(line.message_id)
    if len(ids) != metadata.rejected:
        raise ContentError(f"it has {len(ids)} messages, its data object says {metadata.rejected}")
    return ids


def has_rows(body: bytes) -> bool:
    """Whether a fence has rows, or is no gzip file."""
    try:
        return any(whole_lines(body))
    except ContentError:
        return True


def _lines(body: bytes, decoder: msgspec.json.Decoder[T]) -> Iterator[T]:
    for lines in whole_lines(body):
        try:
            yield from decoder.decode_lines(lines)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ContentError(f"a line does not name its message: {error}") from None


class LandedIds(msgspec.Struct, frozen=True):
    """The messages of a data object, by its manifest."""

    name: QueueObjectName
    ids: MessageIds


def repeated(objects: Sequence[LandedIds]) -> Iterator[tuple[LandedIds, LandedIds]]:
    """Two objects for each message that is in more than one, or twice in one."""
    marked = [zip(each.ids, repeat(place), strict=False) for place, each in enumerate(objects)]
    last, place = b"", -1
    for digest, at in merge(*marked):
        if digest == last:
            yield objects[place], objects[at]
        last, place = digest, at
