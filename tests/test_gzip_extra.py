import gzip
import io
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.core.gzip import compress
from ingestd.core.gzip_extra import MAX_HEADER, embed, extract, without

METADATA = st.dictionaries(st.text(), st.text())


def named(rows: bytes) -> bytes:
    """A gzip file whose header carries a file name, which follows the extra field."""
    buffer = io.BytesIO()
    with gzip.GzipFile("rows.jsonl", "wb", fileobj=buffer) as file:
        file.write(rows)
    return buffer.getvalue()


BODIES = st.binary().flatmap(
    lambda rows: st.sampled_from(
        [compress(rows).data, gzip.compress(rows), named(rows), gzip.compress(b"") + compress(rows).data]
    )
)


@given(body=BODIES, metadata=METADATA)
def test_metadata_comes_back_and_the_rows_stay(body: bytes, metadata: dict[str, str]) -> None:
    file = embed(body, metadata)
    assert extract(file[:MAX_HEADER]) == metadata
    assert gzip.decompress(file) == gzip.decompress(body)


@given(body=BODIES, metadata=METADATA)
def test_the_body_comes_back_as_it_was(body: bytes, metadata: dict[str, str]) -> None:
    assert without(embed(body, metadata)) == body
    assert without(body) == body


@given(data=st.binary())
def test_without_takes_any_bytes(data: bytes) -> None:
    assert without(data) == data


@given(body=BODIES)
def test_a_plain_gzip_file_carries_none(body: bytes) -> None:
    assert extract(body) == {}


@given(data=st.binary())
def test_extract_takes_any_bytes(data: bytes) -> None:
    assert extract(data) == {}


@given(metadata=METADATA, end=st.integers(0, 200))
def test_half_a_header_carries_none_or_all(metadata: dict[str, str], end: int) -> None:
    assert extract(embed(compress(b"x").data, metadata)[:end]) in ({}, metadata)


def test_the_gzip_program_reads_it() -> None:
    rows = b'{"event_id":"1"}\n' * 1000
    result = subprocess.run(
        ["gzip", "-dc"], input=embed(compress(rows).data, {"end": "7"}), capture_output=True, check=True
    )
    assert result.stdout == rows
    assert result.stderr == b""


def test_other_subfields_are_passed_over() -> None:
    file = embed(compress(b"x").data, {"end": "7"})
    ours = file[12 : 12 + int.from_bytes(file[10:12], "little")]
    both = b"XX\x03\x00abc" + ours
    assert extract(file[:10] + len(both).to_bytes(2, "little") + both + file[12 + len(ours) :]) == {"end": "7"}


def test_holds_as_much_as_the_field_has_room_for() -> None:
    text = "x" * (0xFFFF - 4 - len('{"a":""}'))
    file = embed(compress(b"rows").data, {"a": text})
    assert extract(file[:MAX_HEADER]) == {"a": text}
    assert gzip.decompress(file) == b"rows"
    with pytest.raises(ValueError, match="65532 bytes"):
        embed(compress(b"rows").data, {"a": text + "x"})


def test_refuses_what_it_would_break() -> None:
    body = compress(b"rows").data
    for bad in (b"", b"\x1f\x8b\x08", b"PK" + body, embed(body, {}), body[:3] + b"\x02" + body[4:]):
        with pytest.raises(ValueError, match="gzip"):
            embed(bad, {})
