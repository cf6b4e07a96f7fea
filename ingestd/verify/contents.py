"""Compares a body with its object's metadata: the rows, their hash and offsets, and the rejected records. Pure.

It decompresses a chunk at a time: a small body may be large when decompressed.
"""

import hashlib
from array import array
from bisect import bisect_left
from collections.abc import Iterator, MutableSequence, Sequence

import msgspec

from ingestd.core import gzip_extra, quarantine
from ingestd.core.gzip import decompress
from ingestd.core.object_keys import digest_of
from ingestd.core.object_metadata import ObjectMetadata
from ingestd.core.records import TopicPartition

MAX_LINE_BYTES = 64 << 20  # brokers accept no event of this size


class ContentError(Exception):
    """What is wrong with a body, as a clause for the report."""


class _RowSource(msgspec.Struct, gc=False):
    """The record that a row was made from."""

    source_topic: str
    source_partition: int
    source_offset: int


class _WideRowSource(msgspec.Struct, gc=False):
    """The same of a source with wide positions."""

    source_topic: str
    source_partition: int
    source_offset: str


_DECODER = msgspec.json.Decoder(_RowSource)
_WIDE_DECODER = msgspec.json.Decoder(_WideRowSource)


def offsets_in(*, wide: bool) -> MutableSequence[int]:
    """Room for many offsets: of eight bytes each, or of any size."""
    return [] if wide else array("q")


def check_rows(body: bytes, metadata: ObjectMetadata, rejected: Sequence[int] | None, *, wide: bool = False) -> None:
    """Check a data object. `rejected` are the offsets of its quarantined records; None where they are not known.

    `wide`: offsets are text.

    Errors: ``ContentError``.
    """
    of_rows = metadata.sha256_of != "body"
    digest = hashlib.sha256(b"" if of_rows else gzip_extra.without(body))
    rows = _RowChecker(metadata, rejected if rejected is not None else ())
    for lines in whole_lines(body):
        if of_rows:
            digest.update(lines)
        for source in _decode(lines, wide=wide):
            rows.check(source)
    if rows.count != metadata.rows:
        raise ContentError(f"it has {rows.count} rows, its metadata says {metadata.rows}")
    if digest.hexdigest() != metadata.sha256:
        raise ContentError(f"the sha256 of its {metadata.sha256_of} is not the one in its metadata")
    if rejected is not None:
        rows.check_ends()


def check_rejected(body: bytes, metadata: ObjectMetadata, digest: str, *, wide: bool = False) -> MutableSequence[int]:
    """Check a quarantine object; returns the offsets of its records, ascending. Errors: ``ContentError``."""
    if digest_of(gzip_extra.without(body)) != digest:
        raise ContentError("the digest of its contents is not the one in its name")
    place = TopicPartition(metadata.topic, metadata.partition)
    offsets = offsets_in(wide=wide)
    last = metadata.start - 1
    for lines in whole_lines(body):
        for line in lines.split(b"\n")[:-1]:
            try:
                rejected = quarantine.decode(line)
            except quarantine.QuarantineError as error:
                raise ContentError(f"line {len(offsets)}: {error}") from None
            if (rejected.topic, rejected.partition) != place or not last < rejected.offset < metadata.end:
                found = f"{rejected.topic}[{rejected.partition}] at {rejected.offset}"
                expected = f"an offset after {last} in {metadata.start}-{metadata.end} of {place}"
                raise ContentError(f"line {len(offsets)} is the record of {found}; expected {expected}")
            if rejected.leader_epoch not in {None, metadata.leader_epoch}:
                expected = f"leader epoch {rejected.leader_epoch}, its data object {metadata.leader_epoch}"
                raise ContentError(f"line {len(offsets)} says {expected}")
            last = rejected.offset
            offsets.append(last)
    if len(offsets) != metadata.rejected:
        raise ContentError(f"it has {len(offsets)} records, its data object says {metadata.rejected}")
    return offsets


class _RowChecker:
    """Checks the rows of one object, one after the other."""

    def __init__(self, metadata: ObjectMetadata, rejected: Sequence[int]) -> None:
        self._metadata = metadata
        self._place = (metadata.topic, metadata.partition)
        self._rejected = rejected
        self._first: int | None = None
        self._last = metadata.start - 1
        self.count = 0

    def check(self, source: _RowSource | _WideRowSource) -> None:
        offset, metadata, rejected = _offset(source.source_offset), self._metadata, self._rejected
        if (source.source_topic, source.source_partition) != self._place:
            raise ContentError(f"row {self.count} is from {source.source_topic}[{source.source_partition}]")
        if not self._last < offset < metadata.end:
            expected = f"one after {self._last} in {metadata.start}-{metadata.end}"
            raise ContentError(f"row {self.count} has offset {offset}; expected {expected}")
        if rejected:
            index = bisect_left(rejected, offset)
            if index < len(rejected) and rejected[index] == offset:
                raise ContentError(f"the record at {offset} is both a row and quarantined")
        if self._first is None:
            self._first = offset
        self._last = offset
        self.count += 1

    def check_ends(self) -> None:
        """Check the offsets of the first and the last record, where there are records that are rows or rejected.

        Where the range has skipped records, too, each end without a row or a rejected record takes one of them.
        """
        offsets = [*self._rejected[:1], *self._rejected[-1:]]
        if self._first is not None:
            offsets += [self._first, self._last]
        metadata = self._metadata
        if not offsets:
            return
        start, end = min(offsets), max(offsets) + 1
        open_ends = (start != metadata.first_offset) + (end != metadata.end)
        if start < metadata.first_offset or open_ends > (metadata.skipped or 0):
            found = f"{start}-{end}"
            raise ContentError(f"its records are {found}, its metadata says {metadata.first_offset}-{metadata.end}")


def _offset(found: int | str) -> int:
    if type(found) is int:
        return found
    try:
        return int(found)
    except ValueError:
        raise ContentError(f"a row has the offset {found!r}, which is not a number") from None


def _decode(lines: bytes, *, wide: bool) -> Sequence[_RowSource | _WideRowSource]:
    try:
        return _WIDE_DECODER.decode_lines(lines) if wide else _DECODER.decode_lines(lines)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ContentError(f"a line is not a row: {error}") from None


def whole_lines(body: bytes) -> Iterator[bytes]:
    """The decompressed body in chunks that end with a line. Errors: ``ContentError``."""
    pending: list[bytes] = []
    size = 0
    chunks = decompress(body)
    while True:
        try:
            chunk = next(chunks, None)
        except ValueError as error:
            raise ContentError(f"not a gzip file of lines: {error}") from None
        if chunk is None:
            break
        lines, end, rest = chunk.rpartition(b"\n")
        if end:
            yield b"".join((*pending, lines, end))
            pending.clear()
            size = 0
        pending.append(rest)
        size += len(rest)
        if size > MAX_LINE_BYTES:
            raise ContentError(f"it has a line of more than {MAX_LINE_BYTES} bytes")
    if size:
        raise ContentError("its last line is incomplete")
