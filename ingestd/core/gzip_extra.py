"""Metadata inside a gzip file, in a subfield of the header's extra field, which decompressors skip.

RFC 1952, 2.3.1.1. The first member's header carries it, so file and metadata appear together or not at all.
"""

from collections.abc import Mapping

import msgspec

MAX_HEADER = 10 + 2 + 0xFFFF  # bytes from the start of a file that hold the whole extra field

_MAGIC = b"\x1f\x8b\x08"
_FIXED = 10  # magic, flags, time, extra flags, system
_FLAGS = 3
_FHCRC = 0x02
_FEXTRA = 0x04
_ID = b"iM"
_MAX_DATA = 0xFFFF - 4  # the field's length has 16 bits; each subfield begins with an id and a length


def embed(body: bytes, metadata: Mapping[str, str]) -> bytes:
    """`body`, a gzip file, with `metadata` in its header.

    ValueError: not gzip, a header that already has an extra field or a checksum, or more than 65,531 bytes of JSON.
    """
    if len(body) < _FIXED or not body.startswith(_MAGIC):
        raise ValueError("the body is not gzip")
    flags = body[_FLAGS]
    if flags & (_FEXTRA | _FHCRC):
        raise ValueError(f"a gzip header with flags {flags:#04x} cannot take an extra field")
    data = msgspec.json.encode(metadata)
    if len(data) > _MAX_DATA:
        raise ValueError(f"metadata of {len(data)} bytes as JSON: at most {_MAX_DATA} fit into a gzip header")
    field = _ID + len(data).to_bytes(2, "little") + data
    head = body[:_FLAGS] + bytes([flags | _FEXTRA]) + body[_FLAGS + 1 : _FIXED] + len(field).to_bytes(2, "little")
    return b"".join((head, field, memoryview(body)[_FIXED:]))


def without(body: bytes) -> bytes:
    """`body` as it was before `embed`; unchanged if nothing was embedded."""
    field = _FIXED + 2
    if (
        len(body) < field + 2
        or not body.startswith(_MAGIC)
        or not body[_FLAGS] & _FEXTRA
        or body[field : field + 2] != _ID
    ):
        return body
    length = int.from_bytes(body[_FIXED:field], "little")
    head = body[:_FLAGS] + bytes([body[_FLAGS] & ~_FEXTRA]) + body[_FLAGS + 1 : _FIXED]
    return b"".join((head, memoryview(body)[field + length :]))


def extract(header: bytes) -> dict[str, str]:
    """The metadata in the first `MAX_HEADER` bytes of a file, or {} if it has none of ours."""
    if not header.startswith(_MAGIC) or len(header) < _FIXED + 2 or not header[_FLAGS] & _FEXTRA:
        return {}
    length = int.from_bytes(header[_FIXED : _FIXED + 2], "little")
    rest = header[_FIXED + 2 : _FIXED + 2 + length]
    while len(rest) >= 4:
        end = 4 + int.from_bytes(rest[2:4], "little")
        if rest[:2] == _ID:
            try:
                return msgspec.json.decode(rest[4:end], type=dict[str, str])
            except msgspec.DecodeError:
                return {}
        rest = rest[end:]
    return {}
