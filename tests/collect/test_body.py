"""Bodies: decompressed by what they contain, and never further than the limit."""

import gzip
import tracemalloc
import zlib

import pytest

from ingestd.collect.body import MAX_MEMBERS, decompress
from ingestd.collect.limits import ByteBudget
from ingestd.collect.messages import RefusedError

LIMIT = 64 << 10
TEXT = b'{"a":1}'


def inflate(raw: bytes, encoding: str = "", budget: int = 1 << 20) -> bytes:
    with ByteBudget(budget).reserve() as reservation:
        return decompress(raw, encoding, LIMIT, reservation)


@pytest.mark.parametrize("bomb", [gzip.compress(bytes(64 << 20), mtime=0), zlib.compress(bytes(64 << 20))])
def test_a_bomb_is_not_inflated_beyond_the_limit(bomb: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(RefusedError) as refused:
            inflate(bomb)
        assert tracemalloc.get_traced_memory()[1] < 8 * LIMIT
    finally:
        tracemalloc.stop()
    assert refused.value.status == 413


def test_a_body_of_exactly_the_limit_is_taken_and_one_byte_more_is_not() -> None:
    half = bytes(LIMIT // 2)
    for packed in (gzip.compress(bytes(LIMIT)), gzip.compress(half) + gzip.compress(half)):
        assert len(inflate(packed)) == LIMIT
    for packed in (gzip.compress(bytes(LIMIT + 1)), gzip.compress(half) + gzip.compress(half + b"x")):
        with pytest.raises(RefusedError):
            inflate(packed)


def test_many_members_are_refused() -> None:
    assert inflate(gzip.compress(b"") * (MAX_MEMBERS - 1) + gzip.compress(TEXT)) == TEXT
    with pytest.raises(RefusedError):
        inflate(gzip.compress(b"") * (MAX_MEMBERS + 1))


@pytest.mark.parametrize(
    ("raw", "encoding"),
    [
        (TEXT, "gzip"),
        (TEXT, "deflate"),
        (TEXT, "br"),
        (b"", "gzip"),
        (b"x^y=1", ""),  # begins as zlib's header does
        (b"x?", "deflate"),
        (gzip.compress(TEXT, mtime=0)[:-9], "gzip"),
        (b"\x1f\x8b\x08", "gzip"),
    ],
)
def test_what_is_not_compressed_or_not_to_its_end_stays_as_it_is(raw: bytes, encoding: str) -> None:
    assert inflate(raw, encoding) == raw


def test_deflate_without_its_header_is_understood_where_the_sender_says_so() -> None:
    packer = zlib.compressobj(wbits=-15)
    raw = packer.compress(TEXT) + packer.flush()
    assert inflate(raw, "deflate") == TEXT
    assert inflate(raw) == raw


@pytest.mark.parametrize(("raw", "encoding"), [(b"\x28\xb5\x2f\xfd\x00", ""), (b"\x8b\x00\x80", "br")])
def test_another_compression_is_415(raw: bytes, encoding: str) -> None:
    with pytest.raises(RefusedError) as refused:
        inflate(raw, encoding)
    assert refused.value.status == 415
    assert "gzip" in refused.value.headers["Accept-Encoding"]


def test_what_is_inflated_counts() -> None:
    with pytest.raises(RefusedError) as refused:
        inflate(gzip.compress(bytes(LIMIT)), budget=LIMIT - 1)
    assert refused.value.status == 503
