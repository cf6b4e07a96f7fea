"""Fast records in lists equal the records that aiokafka hands out one by one, whatever a broker sends."""

import struct
from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

from aiokafka.consumer import fetcher
from aiokafka.errors import KafkaError
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from aiokafka.record.util import calc_crc32c
from hypothesis import event, example, given
from hypothesis import strategies as st

from ingestd.core.records import PlainRecord, TopicPartition
from ingestd.sources.kafka._aiokafka.fast_records import FastPartitionRecords, FetchedRecords
from ingestd.sources.kafka._aiokafka.leader_epochs import FetchPositions
from ingestd.sources.kafka._aiokafka.prefetch_limit import Allowance

TP = TopicPartition("t", 0)
READ_COMMITTED = 1
CODECS = (0, 1, 3)  # none, gzip, lz4
ABORT, COMMIT = 0, 1
# Where a batch has what the builder does not set.
BASE, CRC, ATTRIBUTES, LAST_DELTA = (struct.Struct(it) for it in (">q", ">I", ">h", ">i"))
BASE_AT, CRC_AT, ATTRIBUTES_AT, LAST_DELTA_AT = 0, 17, 21, 23
CONTROL_BIT = 0x20


class Part(NamedTuple):
    """A batch to build. Compaction has left these `deltas` of its `span` offsets."""

    deltas: Sequence[int]
    span: int
    codec: int = 0
    producer: int = -1
    ends: int | None = None  # a transaction, and how
    is_aborted: bool = False
    is_damaged: bool = False
    magic: int = 2


@st.composite
def parts(draw: st.DrawFn) -> Part:
    producer = draw(st.sampled_from([-1, -1, 7, 8]))
    if producer >= 0 and draw(st.booleans()):
        return Part([0], 1, 0, producer, ends=draw(st.sampled_from([ABORT, COMMIT])))
    deltas = sorted(draw(st.sets(st.integers(0, 12), min_size=1)))
    return Part(
        deltas,
        draw(st.integers(deltas[-1] + 1, deltas[-1] + 4)),
        draw(st.sampled_from(CODECS)),
        producer,
        is_aborted=producer >= 0 and draw(st.booleans()),
        is_damaged=not draw(st.integers(0, 15)),
    )


def old_parts(magic: int) -> st.SearchStrategy[Part]:
    return st.integers(1, 7).map(lambda count: Part(range(count), count, magic=magic))


# Not mixed: aiokafka cannot read a fetch where formats 0 and 2 follow each other.
fetches = st.one_of(*(st.lists(kind, min_size=1, max_size=8) for kind in (parts(), old_parts(0), old_parts(1))))


def encoded(part: Part, base: int) -> bytes:
    if part.magic < 2:
        return legacy(part, base)
    transactional = int(part.producer >= 0)
    builder = DefaultRecordBatchBuilder(2, part.codec, transactional, part.producer, 0, 0, 1 << 20)
    for delta in part.deltas:
        key = struct.pack(">HH", 0, part.ends) if part.ends is not None else b"k%d" % delta
        headers: list[tuple[str, bytes | None]] = [("a", b"1"), ("b", None)][: delta % 3]
        builder.append(delta, 1000 + delta, key, None if delta == 5 else b"v%d" % delta, headers)
    data = bytearray(builder.build())
    BASE.pack_into(data, BASE_AT, base)
    LAST_DELTA.pack_into(data, LAST_DELTA_AT, part.span - 1)
    if part.ends is not None:
        (attributes,) = ATTRIBUTES.unpack_from(data, ATTRIBUTES_AT)
        ATTRIBUTES.pack_into(data, ATTRIBUTES_AT, attributes | CONTROL_BIT)
    CRC.pack_into(data, CRC_AT, calc_crc32c(bytes(data[ATTRIBUTES_AT:])) ^ int(part.is_damaged))
    return bytes(data)


def legacy(part: Part, base: int) -> bytes:
    builder = LegacyRecordBatchBuilder(part.magic, 0, 1 << 20)
    for delta in part.deltas:
        builder.append(base + delta, 1000 + delta, b"k", b"v%d" % delta)
    return bytes(builder.build())


class Outcome(NamedTuple):
    """The result of reading a whole fetch."""

    records: list[PlainRecord]
    next_offset: int
    error: type[KafkaError] | None


def read(data: bytes, aborted: Sequence[tuple[int, int]], begin: int, wanted: int | None) -> Outcome:
    """In lists of at most `wanted`; None for aiokafka's own reader."""
    rest = aborted, begin, None, None, True, READ_COMMITTED
    part: Any
    if wanted is None:
        part = fetcher.PartitionRecords(TP, fetcher.MemoryRecords(data), *rest)
    else:
        part = FastPartitionRecords(Allowance(), FetchPositions(), TP, FetchedRecords(data), *rest)
    found: list[Any] = []
    error = None
    try:
        if wanted is None:
            found.extend(part)
        else:
            part.wanted = wanted
            for block in part:
                assert len(block) <= wanted
                found.append(block)
    except KafkaError as failure:
        error = type(failure)
    flat = found if wanted is None else chain.from_iterable(found)
    return Outcome([copied(it) for it in flat], part.next_fetch_offset, error)


def copied(record: Any) -> PlainRecord:
    timestamp = -1 if record.timestamp is None else record.timestamp
    return PlainRecord(record.offset, timestamp, record.value, record.key, tuple(record.headers))


ABORTED = Part([0, 1], 2, producer=7, is_aborted=True)
ENDED = Part([0], 1, producer=7, ends=ABORT)
GOOD = Part([0, 2], 4, producer=7)


@given(fetches, st.integers(1, 20), st.integers(0, 100))
@example([ABORTED, ENDED, GOOD], 20, 0)  # what one producer has aborted, and what it has committed then
@example([GOOD, Part([0], 1, is_damaged=True), GOOD], 20, 0)
def test_lists_equal_what_aiokafka_hands_out_one_by_one(made: list[Part], wanted: int, percent: int) -> None:
    data, aborted, base = b"", [], 0
    for part in made:
        data += encoded(part, base)
        if part.is_aborted:
            aborted.append((part.producer, base))
        base += part.span
    begin = base * percent // 100
    single = read(data, aborted, begin, None)
    event(f"{'some' if single.records else 'no'} records, {single.error and single.error.__name__}")
    assert read(data, aborted, begin, wanted) == single
