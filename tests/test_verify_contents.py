"""Bodies are compared with their metadata, a chunk at a time."""

import gzip
import tracemalloc
from array import array
from hashlib import sha256
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.core import quarantine
from ingestd.core.gzip import compress, decompress
from ingestd.core.gzip_extra import embed
from ingestd.core.object_keys import digest_of
from ingestd.core.object_metadata import ObjectMetadata
from ingestd.core.records import PlainRecord
from ingestd.core.rejections import Reason
from ingestd.core.validation import Rejected
from ingestd.verify import contents
from ingestd.verify.contents import ContentError, check_rejected, check_rows
from tests.archive import NOON, P0, P1, Archive, rejects, rows

REJECTED = (3, 4, 8)


def landed(**changes: Any) -> ObjectMetadata:
    """Of offsets 0 to 9, three of them rejected."""
    archive = Archive()
    return msgspec.structs.replace(archive.landed(archive.add(P0, 0, 10, rejected=REJECTED)), **changes)


def body() -> bytes:
    return compress(rows(P0, [offset for offset in range(10) if offset not in REJECTED])).data


@given(st.binary(max_size=2000), st.integers(1, 300))
def test_a_body_comes_back_in_pieces(data: bytes, piece: int) -> None:
    pieces = list(decompress(compress(data * 3).data, piece))
    assert b"".join(pieces) == data * 3
    assert all(0 < len(each) <= piece for each in pieces)


@given(st.binary(max_size=200))
def test_bytes_that_are_no_gzip_file_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - in isal's words
        list(decompress(data))


@given(st.data())
def test_a_body_that_was_cut_or_changed_is_refused(data: st.DataObject) -> None:
    whole = body()
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(ContentError):
        check_rows(whole[:cut], landed(), array("q", REJECTED))
    changed = bytearray(whole)
    changed[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(ContentError):
        check_rows(bytes(changed), landed(), array("q", REJECTED))


def test_a_body_as_written_passes() -> None:
    bad = rejects(P0, REJECTED)
    rejected = check_rejected(bad, landed(), digest_of(bad))
    assert list(rejected) == list(REJECTED)
    check_rows(body(), landed(), rejected)
    check_rows(body(), landed(), None)


def test_metadata_in_the_header_changes_nothing() -> None:
    """The local sink keeps metadata in the gzip header."""
    bad = rejects(P0, REJECTED)
    assert list(check_rejected(embed(bad, {"a": "b"}), landed(), digest_of(bad))) == list(REJECTED)
    check_rows(embed(body(), {"a": "b"}), landed(), array("q", REJECTED))


def test_the_hash_of_former_versions_is_of_the_rows() -> None:
    former = landed(sha256=sha256(b"".join(decompress(body()))).hexdigest(), sha256_of="rows")
    assert ObjectMetadata.from_metadata(former.to_user_metadata() | {"sha256-of": "rows"}) == former
    check_rows(body(), former, array("q", REJECTED))
    with pytest.raises(ContentError, match="the sha256 of its rows"):
        check_rows(body(), landed(sha256_of="rows"), array("q", REJECTED))


def test_rows_that_are_not_those_of_gzips_own_checksum_are_found() -> None:
    damaged = bytearray(body())
    damaged[-8] ^= 1
    says = landed(sha256=sha256(damaged).hexdigest())
    with pytest.raises(ContentError, match="not a gzip file of lines"):
        check_rows(bytes(damaged), says, array("q", REJECTED))


def test_a_record_is_not_in_a_row_and_in_quarantine() -> None:
    with pytest.raises(ContentError, match="the record at 5 is both a row and quarantined"):
        check_rows(body(), landed(), array("q", (3, 4, 5)))


@pytest.mark.parametrize("changes", [{"first_offset": 1}, {"end": 11}, {"start": 1}], ids=str)
def test_the_first_and_the_last_record_are_those_of_the_metadata(changes: dict[str, int]) -> None:
    with pytest.raises(ContentError):
        check_rows(body(), landed(**changes), array("q", REJECTED))


def test_the_last_record_may_be_a_rejected_one() -> None:
    some = compress(rows(P0, range(9)))
    says = landed(rows=9, rejected=1, sha256=some.sha256)
    check_rows(some.data, says, array("q", (9,)))
    with pytest.raises(ContentError, match="its records are 0-9, its metadata says 0-10"):
        check_rows(some.data, says, array("q", ()))


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (rejects(P0, (3, 4)), "it has 2 records, its data object says 3"),
        (rejects(P0, (3, 4, 8, 9)), "it has 4 records"),
        (rejects(P0, (3, 4, 10)), r"line 2 is the record of marketing_events\[0\] at 10; expected an offset after 4"),
        (rejects(P0, (4, 3, 8)), r"line 1 is the record of marketing_events\[0\] at 3; expected an offset after 4"),
        (rejects(P1, (3,)), r"line 0 is the record of marketing_events\[1\] at 3"),
        (compress(b"{}\n").data, "line 0: not a line of a quarantine object"),
        (compress(b"{").data, "its last line is incomplete"),
        (b"x", "not a gzip file of lines"),
    ],
)
def test_wrong_quarantine_objects_are_found(bad: bytes, words: str) -> None:
    with pytest.raises(ContentError, match=words):
        check_rejected(bad, landed(), digest_of(bad))


def test_the_rejected_records_are_of_the_leader_epoch_of_their_object() -> None:
    record = PlainRecord(3, NOON, b"{")
    bad = compress(quarantine.encode(P0, [Rejected(0, record, Reason.NOT_JSON, "$", "no")], 2)).data
    assert len(check_rejected(bad, landed(rejected=1, leader_epoch=2), digest_of(bad))) == 1
    with pytest.raises(ContentError, match="line 0 says leader epoch 2, its data object 3"):
        check_rejected(bad, landed(rejected=1, leader_epoch=3), digest_of(bad))


def test_the_length_of_a_line_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "MAX_LINE_BYTES", 1 << 20)
    with pytest.raises(ContentError, match="a line of more than"):
        check_rows(gzip.compress(b"x" * (2 << 20)), landed(), None)


def test_a_body_that_expands_a_thousandfold_takes_little_memory() -> None:
    record = PlainRecord(3, NOON, b"x" * 500_000)
    line = quarantine.encode(P0, [Rejected(0, record, Reason.NOT_JSON, "$", "no")])
    bomb = compress(line * 100).data
    assert len(bomb) < 500_000
    tracemalloc.start()
    with pytest.raises(ContentError, match="line 1 is the record of"):
        check_rejected(bomb, landed(), digest_of(bomb))
    with pytest.raises(ContentError, match="a line is not a row"):
        check_rows(bomb, landed(), None)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10 << 20
