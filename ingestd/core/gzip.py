"""Compresses rows into a gzip body as they come, so that a batch's size is measured, never guessed; and back.

isal's level 1 compresses like zlib's level 1 at four times the speed, and releases the GIL, as sha256 does.
"""

import hashlib
from collections.abc import Iterator

import msgspec
from isal import isal_zlib

_LEVEL = 1
_GZIP = 31  # window bits: 15, and 16 more for a gzip header, whose time is always 0
# isal's default tables take a third of a megabyte per stream; these take less than half of that and compress as well.
# The smallest ones are slow where little can be compressed.
_MEMORY = 2
_SLICE = 64 << 10  # of a body that is decompressed


class GzipBody(msgspec.Struct, frozen=True):
    """A complete gzip file. `row_bytes` is the size of the rows before compression, `sha256` is of `data`."""

    data: bytes
    row_bytes: int
    sha256: str


class GzipWriter:
    """One open gzip stream. Not thread-safe: calls must not overlap, whatever thread they come from."""

    __slots__ = ("_deflate", "_digest", "_parts", "row_bytes", "size")

    def __init__(self) -> None:
        self._deflate = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, _GZIP, _MEMORY)
        self._digest = hashlib.sha256()
        self._parts: list[bytes] = []
        self.size = 0  # compressed bytes so far
        self.row_bytes = 0

    def write(self, rows: bytes) -> None:
        """Append whole rows, each with its newline."""
        self.row_bytes += len(rows)
        self._keep(self._deflate.compress(rows))
        # Otherwise the stream buffers tens of kilobytes that no budget counts. Costs a few bytes each time.
        self._keep(self._deflate.flush(isal_zlib.Z_SYNC_FLUSH))

    def finish(self) -> GzipBody:
        """Close the stream. Nothing may be written afterwards."""
        self._keep(self._deflate.flush())
        del self._deflate  # its tables are much larger than a small body
        data = b"".join(self._parts)
        self._parts.clear()
        return GzipBody(data, self.row_bytes, self._digest.hexdigest())

    def _keep(self, part: bytes) -> None:
        if part:
            self._parts.append(part)
            self._digest.update(part)  # of the rows it would cost six times as much; gzip's own CRC proves those
            self.size += len(part)


def compress(rows: bytes) -> GzipBody:
    """The gzip body of complete rows; without rows, a valid empty one."""
    packer = GzipWriter()
    packer.write(rows)
    return packer.finish()


def decompress(body: bytes, piece: int = 256 << 10) -> Iterator[bytes]:
    """The rows of a gzip body, at most `piece` bytes at a time. ValueError if it is not one complete gzip file."""
    inflate = isal_zlib.decompressobj(_GZIP)
    view = memoryview(body)
    try:
        for begin in range(0, len(body), _SLICE):
            rest: bytes | memoryview = view[begin : begin + _SLICE]
            if inflate.eof:
                raise ValueError("there are bytes after its end")
            while rows := inflate.decompress(rest, piece):
                yield rows
                rest = inflate.unconsumed_tail
    except isal_zlib.error as error:  # type: ignore[misc] # its stub takes the class for an instance
        raise ValueError(str(error)) from None
    if not inflate.eof:
        raise ValueError("it has no end")
    if inflate.unused_data:
        raise ValueError("there are bytes after its end")
