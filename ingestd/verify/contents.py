"""Whether a body holds what its object's metadata says: rows, their hash, their offsets; rejected records. Pure.

One line at a time: a body may be far smaller than what is in it.
"""

import hashlib
from array import array
from bisect import bisect_left
from collections.abc import Iterator

import msgspec

from ingestd.core import gzip_extra, quarantine
from ingestd.core.gzip import decompress
from ingestd.core.object_keys import ObjectMetadata, digest_of
from ingestd.core.records import TopicPartition

LINE_MAX = 64 << 20  # bytes; a broker takes no such event

_OFFSETS = "q"  # of an array: eight bytes each


class ContentError(Exception):
    """A body that is not as it was written, in words."""


class _Origin(msgspec.Struct, gc=False):
    """Which record a row is."""

    source_topic: str
    source_partition: int
    source_offset: int


_ORIGINS = msgspec.json.Decoder(_Origin)


def check_rows(body: bytes, landed: ObjectMetadata, rejected: "array[int] | None") -> None:
    """The rows of a data object. `rejected` are the offsets of its records in quarantine, None where unknown.

    Raises ``ContentError``.
    """
    digest = hashlib.sha256()
    rows = _Rows(landed, rejected if rejected is not None else array(_OFFSETS))
    for lines in _whole_lines(body, digest):
        for origin in _origins(lines):
            rows.take(origin)
    if rows.count != landed.rows:
        raise ContentError(f"it has {rows.count} rows, and says {landed.rows}")
    if digest.hexdigest() != landed.sha256:
        raise ContentError("its rows have another sha256 than it says")
    if rejected is not None:
        rows.check_ends()


def check_rejected(body: bytes, landed: ObjectMetadata, digest: str) -> "array[int]":
    """The lines of a quarantine object: the offsets of the records in it, ascending. Raises ``ContentError``."""
    if digest_of(gzip_extra.without(body)) != digest:
        raise ContentError("its contents have another digest than its name says")
    place = TopicPartition(landed.topic, landed.partition)
    offsets = array(_OFFSETS)
    last = landed.start - 1
    for lines in _whole_lines(body):
        for line in lines.split(b"\n")[:-1]:
            try:
                rejected = quarantine.decode(line)
            except quarantine.QuarantineError as error:
                raise ContentError(f"line {len(offsets)} is {error}") from None
            if (rejected.topic, rejected.partition) != place or not last < rejected.offset < landed.end:
                where = f"after {last}, in {place} {landed.start}-{landed.end}"
                raise ContentError(
                    f"line {len(offsets)} is of {rejected.topic}[{rejected.partition}] {rejected.offset}, {where}"
                )
            last = rejected.offset
            offsets.append(last)
    if len(offsets) != landed.rejected:
        raise ContentError(f"it has {len(offsets)} records, and its data object says {landed.rejected}")
    return offsets


class _Rows:
    """The rows of one object, as they come."""

    def __init__(self, landed: ObjectMetadata, rejected: "array[int]") -> None:
        self._landed = landed
        self._place = (landed.topic, landed.partition)
        self._rejected = rejected
        self._first: int | None = None
        self._last = landed.start - 1
        self.count = 0

    def take(self, origin: _Origin) -> None:
        offset, landed, rejected = origin.source_offset, self._landed, self._rejected
        if (origin.source_topic, origin.source_partition) != self._place:
            raise ContentError(f"row {self.count} is of {origin.source_topic}[{origin.source_partition}]")
        if not self._last < offset < landed.end:
            where = f"after {self._last}, in {landed.start}-{landed.end}"
            raise ContentError(f"row {self.count} has offset {offset}, {where}")
        if rejected:
            index = bisect_left(rejected, offset)
            if index < len(rejected) and rejected[index] == offset:
                raise ContentError(f"the record at {offset} is in a row and in quarantine")
        if self._first is None:
            self._first = offset
        self._last = offset
        self.count += 1

    def check_ends(self) -> None:
        """The first and the last record are those of the metadata; of no records it says nothing."""
        offsets = [*self._rejected[:1], *self._rejected[-1:]]
        if self._first is not None:
            offsets += [self._first, self._last]
        landed = self._landed
        if offsets and (min(offsets), max(offsets) + 1) != (landed.first_offset, landed.end):
            found = f"{min(offsets)}-{max(offsets) + 1}"
            raise ContentError(f"its records are {found}, and it says {landed.first_offset}-{landed.end}")


def _origins(lines: bytes) -> list[_Origin]:
    try:
        return _ORIGINS.decode_lines(lines)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ContentError(f"a line is no row: {error}") from None


def _whole_lines(body: bytes, digest: "hashlib._Hash | None" = None) -> Iterator[bytes]:
    """What is in a gzip body, in pieces that end with a line. Raises ``ContentError``."""
    pending: list[bytes] = []
    size = 0
    pieces = decompress(body)
    while True:
        try:
            piece = next(pieces, None)
        except ValueError as error:
            raise ContentError(f"it is no gzip file of lines: {error}") from None
        if piece is None:
            break
        if digest is not None:
            digest.update(piece)
        lines, end, rest = piece.rpartition(b"\n")
        if end:
            yield b"".join((*pending, lines, end))
            pending.clear()
            size = 0
        pending.append(rest)
        size += len(rest)
        if size > LINE_MAX:
            raise ContentError(f"it has a line of more than {LINE_MAX} bytes")
    if size:
        raise ContentError("its last line has no end")
