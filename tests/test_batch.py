"""A batch: its range, its limits, and the gzip that comes out."""

import gzip
import hashlib
import json
from base64 import b64encode
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from ingestd.config.model import BatchConfig
from ingestd.config.types import Size
from ingestd.core.batch import Batch, RecordRef
from ingestd.core.flush_policy import FlushPolicy, FlushReason
from ingestd.core.gzip import compress
from ingestd.core.object_keys import ObjectKeys
from ingestd.core.records import PlainRecord, TopicPartition
from ingestd.core.rejections import Reason
from ingestd.core.validation import Rejected, Validated

TP = TopicPartition("t", 0)
LAYOUT = ObjectKeys()


def add(batch: Batch, start: int, rows: list[bytes], rejected: int = 0, now: float = 0.0) -> None:
    records = [PlainRecord(start + number, 1000 + number, b"x") for number in range(len(rows) + rejected)]
    bad = [Rejected(number, records[number], Reason.NOT_JSON, "$", "bad") for number in range(rejected)]
    batch.add(records, Validated(rows, {}, bad), b'{"bad":1}\n' * rejected, now)


def test_the_range_begins_where_the_batch_opens_and_counts_the_rejected() -> None:
    batch = Batch(TP, 5)
    add(batch, 8, [b"{}\n"], rejected=2, now=7.0)
    landed = batch.encode(LAYOUT, "cluster", "1").metadata
    assert (landed.start, landed.end, landed.rows, landed.rejected) == (5, 11, 1, 2)
    assert (landed.first_offset, landed.first_timestamp, landed.last_timestamp) == (8, 1000, 1002)
    assert batch.opened_at == 7.0


def test_a_data_object_names_the_quarantine_object_that_belongs_to_it() -> None:
    batch = Batch(TP, 5)
    add(batch, 5, [b"{}\n"], rejected=1)
    sealed = batch.encode(LAYOUT, "cluster", "1")
    assert sealed.quarantine_key is not None
    name = LAYOUT.parse_quarantine(sealed.quarantine_key)
    assert name is not None
    assert sealed.metadata.quarantine == name.digest
    good = Batch(TP, 5)
    add(good, 5, [b"{}\n"])
    assert good.encode(LAYOUT, "cluster", "1").metadata.quarantine is None


@given(
    st.lists(
        st.lists(st.binary(min_size=1, max_size=200).map(lambda it: it.hex().encode() + b"\n"), max_size=20), max_size=8
    )
)
def test_the_body_is_the_rows_whatever_the_pieces(chunks: list[list[bytes]]) -> None:
    batch = Batch(TP, 0)
    add(batch, 0, [b"first\n"])
    offset = 1
    for number, rows in enumerate(chunk for chunk in chunks if chunk):
        add(batch, offset, rows)
        offset += len(rows)
        if number % 2 and (chunk := batch.take_chunk()) is not None:
            batch.write(chunk)
    sealed = batch.encode(LAYOUT, "cluster", "1")
    whole = b"first\n" + b"".join(row for chunk in chunks for row in chunk)
    assert gzip.decompress(sealed.data) == whole
    assert (sealed.metadata.sha256, sealed.metadata.sha256_of) == (hashlib.sha256(sealed.data).hexdigest(), "body")
    assert sealed.row_bytes == len(whole)
    assert sealed.quarantine is None


def test_a_batch_whose_every_record_was_rejected_is_a_valid_empty_gzip() -> None:
    batch = Batch(TP, 0)
    add(batch, 0, [], rejected=3)
    sealed = batch.encode(LAYOUT, "cluster", "1")
    assert gzip.decompress(sealed.data) == b""
    assert sealed.quarantine is not None
    assert [json.loads(line) for line in gzip.decompress(sealed.quarantine).splitlines()] == [{"bad": 1}] * 3


def test_a_hole_has_the_name_of_the_first_record_after_it() -> None:
    sealed = Batch.hole(TP, 10, 50, RecordRef(52, 1000)).encode(LAYOUT, "cluster", "1")
    assert sealed.data_key == LAYOUT.data_key(TP, 10, 1000, 50)
    assert (sealed.metadata.end, sealed.metadata.rows) == (50, 0)


def test_the_size_limit_is_of_compressed_bytes() -> None:
    batch = Batch(TP, 0)
    limits = BatchConfig(bytes=Size(1000))
    add(batch, 0, [b"a" * 100_000 + b"\n"])
    batch.write(batch.take_chunk() or b"")
    assert FlushPolicy(limits).reached(batch) is None
    noise = hashlib.shake_256(b"noise").hexdigest(100_000).encode()
    add(batch, 1, [noise + b"\n"])
    batch.write(batch.take_chunk() or b"")
    assert FlushPolicy(limits).reached(batch) is FlushReason.BYTES


def test_the_record_limit_counts_the_rejected() -> None:
    batch = Batch(TP, 0)
    add(batch, 0, [b"{}\n"] * 3, rejected=1)
    assert FlushPolicy(BatchConfig(records=5)).reached(batch) is None
    add(batch, 4, [b"{}\n"])
    assert FlushPolicy(BatchConfig(records=5)).reached(batch) is FlushReason.RECORDS


def test_what_is_held_is_counted_on_its_way_through_a_thread() -> None:
    batch = Batch(TP, 0)
    add(batch, 0, [b"x" * Batch.chunk_bytes], rejected=2)
    assert batch.held_bytes == Batch.frame_bytes + Batch.overhead_bytes + Batch.chunk_bytes + 20
    assert batch.has_chunk
    chunk = batch.take_chunk()
    assert chunk is not None
    assert batch.held_bytes == Batch.frame_bytes + Batch.overhead_bytes + Batch.chunk_bytes + 20
    batch.write(chunk)
    assert batch.held_bytes < Batch.chunk_bytes


def test_a_batch_smaller_than_a_chunk_holds_little_more_than_its_rows() -> None:
    """Otherwise a thousand partitions would fill the memory with tables for compression that none uses yet."""
    batch = Batch(TP, 0)
    add(batch, 0, [b"x" * (Batch.chunk_bytes - 1)])
    assert batch.held_bytes < Batch.chunk_bytes + 1000


@given(
    st.lists(st.tuples(st.integers(1, 300_000), st.booleans(), st.integers(0, 3)), min_size=1, max_size=6), st.randoms()
)
def test_what_is_held_grows_only_by_what_comes_in(chunks: list[tuple[int, bool, int]], rng: Random) -> None:
    batch, held, compresses = Batch(TP, 0), Batch.frame_bytes, False
    for number, (size, compressible, rejected) in enumerate(chunks):
        rows = b"x" * size if compressible else b64encode(rng.randbytes(size * 3 // 4 + 1))
        add(batch, 10 * number, [rows], rejected)
        if batch.has_chunk and not compresses:
            compresses = True
            held += Batch.overhead_bytes
        assert batch.held_bytes == held + len(rows) + 10 * rejected
        if batch.has_chunk:
            batch.write(batch.take_chunk() or b"")
        assert batch.held_bytes <= held + len(rows) + 10 * rejected
        held = batch.held_bytes
    sealed = batch.encode(LAYOUT, "cluster", "1")
    assert batch.held_bytes == len(sealed.data) + len(sealed.quarantine or b"") <= held


def test_equal_rows_make_equal_bytes() -> None:
    assert compress(b"row\n" * 1000) == compress(b"row\n" * 1000)
