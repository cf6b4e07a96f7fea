"""Makes aggregates as the Kinesis Producer Library does, for the tests."""

import hashlib
from collections.abc import Sequence

MAGIC = b"\xf3\x89\x9a\xc2"


def varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])


def field(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def with_digest(body: bytes) -> bytes:
    return MAGIC + body + hashlib.md5(body, usedforsecurity=False).digest()


def aggregate(parts: Sequence[tuple[str, int | None, bytes]]) -> bytes:
    """One record with these keys, explicit hash keys and values."""
    keys = list(dict.fromkeys(key for key, _, _ in parts))
    hashes = list(dict.fromkeys(at for _, at, _ in parts if at is not None))
    body = b"".join(field(1, key.encode()) for key in keys)
    body += b"".join(field(2, str(at).encode()) for at in hashes)
    for key, at, value in parts:
        record = varint(1 << 3) + varint(keys.index(key))
        if at is not None:
            record += varint(2 << 3) + varint(hashes.index(at))
        body += field(3, record + field(3, value))
    return with_digest(body)
