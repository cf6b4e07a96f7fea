"""Reads request bodies within limits of size, time and memory, and decompresses them by what they contain."""

import asyncio
import zlib
from collections.abc import Awaitable
from typing import Protocol

from ingestd.collect.limits import Reservation
from ingestd.collect.messages import RefusedError

SLOW_START_S = 10.0  # a body may take this long,
MIN_BYTES_PER_S = 4096  # and in addition the time that its bytes take at this rate
MAX_MEMBERS = 32  # of one gzip body: each costs a stream of its own
RETRY_AFTER_S = 5

_GZIP_MAGIC = b"\x1f\x8b\x08"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_ANY_HEADER = 47  # window bits: zlib finds out whether it is gzip's or zlib's header
_NO_HEADER = -15


class ByteStream(Protocol):
    """A body as it comes in; aiohttp's reader has this shape."""

    def is_eof(self) -> bool: ...
    async def readany(self) -> bytes: ...
    def read_nowait(self, n: int = -1) -> bytes: ...


async def read_body(
    stream: ByteStream,
    length: str | None,
    max_body: int,
    reservation: Reservation,
) -> bytes:
    """The bytes as they were sent. Raises RefusedError, with which the rest stays unread."""
    if length is not None and length.isdigit() and int(length[:20]) > max_body:
        raise too_large(max_body)
    if stream.is_eof():  # it came with the headers, which is the common case
        data = stream.read_nowait()
        _check(len(data), len(data), max_body, reservation)
        return data
    parts: list[bytes] = []
    size = 0
    clock = asyncio.get_running_loop().time
    began = clock()
    while True:
        patience = began + SLOW_START_S + size / MIN_BYTES_PER_S - clock()
        part = await _within(stream.readany(), patience)
        if not part:
            return b"".join(parts)
        size += len(part)
        _check(size, len(part), max_body, reservation)
        parts.append(part)


async def _within(read: Awaitable[bytes], seconds: float) -> bytes:
    try:
        async with asyncio.timeout(seconds):
            return await read
    except TimeoutError:
        raise RefusedError(408, "slow_body", "the body comes too slowly") from None


def _check(size: int, more: int, max_body: int, reservation: Reservation) -> None:
    if size > max_body:
        raise too_large(max_body)
    if not reservation.take(more):
        raise busy()


def too_large(max_body: int) -> RefusedError:
    return RefusedError(413, "body_too_large", f"the body has more than {max_body} bytes, also after decompression")


def busy() -> RefusedError:
    headers = {"Retry-After": str(RETRY_AFTER_S)}
    return RefusedError(503, "busy", "too many requests are in flight: try again", headers)


def decompress(raw: bytes, encoding: str, max_body: int, reservation: Reservation) -> bytes:
    """The content of a body: by its first bytes, because senders give wrong encodings and types.

    Bytes that only look compressed stay as they are: their endpoint tells what is wrong with them.
    """
    if raw.startswith(_GZIP_MAGIC) or _is_zlib(raw):
        data = _inflate(raw, _ANY_HEADER, max_body)
    elif encoding == "deflate" and raw[:1] not in (b"{", b"[", b""):
        data = _inflate(raw, _NO_HEADER, max_body)  # some senders leave zlib's header out
    elif raw.startswith(_ZSTD_MAGIC) or (encoding == "br" and raw[:1] not in (b"{", b"[", b"")):
        headers = {"Accept-Encoding": "gzip, deflate"}
        raise RefusedError(415, "encoding", "compress with gzip or deflate, or not at all", headers)
    else:
        return raw
    if data is None:
        return raw
    if not reservation.take(len(data)):
        raise busy()
    return data


def _is_zlib(raw: bytes) -> bool:
    """Whether `raw` begins with zlib's two bytes: method 8, and together a multiple of 31."""
    return len(raw) > 2 and raw[0] & 0x8F == 0x08 and (raw[0] << 8 | raw[1]) % 31 == 0


def _inflate(raw: bytes, window: int, max_body: int) -> bytes | None:
    """None where `raw` is not compressed in this way, or not to its end. Stops after `max_body` bytes."""
    parts: list[bytes] = []
    left = max_body
    try:
        for _ in range(MAX_MEMBERS):
            stream = zlib.decompressobj(window)
            part = stream.decompress(raw, left + 1)
            left -= len(part)
            if left < 0:
                raise too_large(max_body)
            if not stream.eof:
                return None
            parts.append(part)
            raw = stream.unused_data
            if not raw.startswith(_GZIP_MAGIC):
                return parts[0] if len(parts) == 1 else b"".join(parts)
    except zlib.error:
        return None
    raise RefusedError(413, "too_many_members", f"the body has more than {MAX_MEMBERS} gzip members")
