"""Header names that are not UTF-8: no broker refuses them, and aiokafka cannot read the fetch that has one."""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import pytest
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from hypothesis import given
from hypothesis import strategies as st

from ingestd.core.records import PlainRecord, TopicPartition
from ingestd.sources.kafka._aiokafka.fast_records import FastPartitionRecords, FetchedRecords, TolerantRecords
from ingestd.sources.kafka._aiokafka.leader_epochs import FetchPositions
from ingestd.sources.kafka._aiokafka.prefetch_limit import Allowance
from tests.test_kafka_prefetch_limit import open_fetcher

TP = TopicPartition("t", 0)
READ_COMMITTED = 1
CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
BAD, GOOD = b"\xff\xfe", b"gr\xc3\xbc\xc3\x9fe"

Headers = list[tuple[bytes, bytes | None]]


class RawName(str):
    """A name whose encoding is any bytes."""

    __slots__ = ("raw",)
    raw: bytes

    def encode(self, *_: Any) -> bytes:
        return self.raw


def raw_name(raw: bytes) -> RawName:
    name = RawName("any")
    name.raw = raw
    return name


def raw_batch(records: Sequence[tuple[bytes | None, bytes | None, Headers]], codec: int = 0) -> Any:
    """A builder with a batch of records: key, value, headers. Timestamps are the offsets."""
    builder = _DefaultRecordBatchBuilderPy(
        magic=2, compression_type=codec, is_transactional=0, producer_id=-1, producer_epoch=-1, base_sequence=-1,
        batch_size=16 << 20,
    )  # fmt: skip
    for offset, (key, value, headers) in enumerate(records):
        builder.append(offset, offset, key, value, [(raw_name(name), text) for name, text in headers])
    return builder


def fetched(data: bytes, kind: type[Any] = FetchedRecords) -> list[PlainRecord]:
    """The records of a fetch, as our fetcher makes them."""
    found = FastPartitionRecords(
        Allowance(), FetchPositions(), TP, kind(data), None, 0, None, None, True, READ_COMMITTED
    )
    flat: Any = chain.from_iterable(found)
    return [PlainRecord(it.offset, it.timestamp, it.value, it.key, tuple(it.headers)) for it in flat]


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS.keys())
def test_a_name_that_is_not_utf8_is_read_with_its_bytes_escaped(codec: int) -> None:
    headers: Headers = [(BAD, b"v"), (GOOD, None), (b"", b"")]
    data = bytes(raw_batch([(b"k", b"0", []), (None, b"1", headers), (b"k", None, [])], codec).build())

    with pytest.raises(UnicodeDecodeError):
        fetched(data)

    assert fetched(data, TolerantRecords) == [
        PlainRecord(0, 0, b"0", b"k", ()),
        PlainRecord(1, 1, b"1", None, (("\\xff\\xfe", b"v"), ("grüße", None), ("", b""))),  # type: ignore[arg-type]
        PlainRecord(2, 2, None, b"k", ()),
    ]


async def test_the_next_fetch_of_the_partition_is_read_by_the_slow_reader_once() -> None:
    data = bytes(raw_batch([(None, b"0", [(BAD, b"v")])]).build())
    rest = None, 0, None, None, True, READ_COMMITTED
    async with open_fetcher() as fetcher:
        fetcher.tolerant.add(TP)
        other = fetcher._fast_records(TopicPartition("t", 1), FetchedRecords(data), *rest)
        tolerant = fetcher._fast_records(TP, FetchedRecords(data), *rest)
        again = fetcher._fast_records(TP, FetchedRecords(data), *rest)
    assert len(next(tolerant)) == 1
    for strict in (other, again):
        with pytest.raises(UnicodeDecodeError):
            next(strict)


_bytes = st.binary(max_size=9)
_names = st.text(max_size=9).map(str.encode)
_records = st.tuples(
    st.none() | _bytes, st.none() | _bytes, st.lists(st.tuples(_names, st.none() | _bytes), max_size=3)
)


@given(st.lists(_records, min_size=1, max_size=5), st.sampled_from(list(CODECS.values())))
def test_the_slow_reader_reads_what_the_fast_one_reads(
    records: list[tuple[bytes | None, bytes | None, Headers]], codec: int
) -> None:
    data = bytes(raw_batch(records, codec).build())
    fast = fetched(data)
    assert fetched(data, TolerantRecords) == fast
    assert [(each.key, each.value, [(name.encode(), text) for name, text in each.headers]) for each in fast] == records
