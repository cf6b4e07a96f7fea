"""Leader epochs of record batches, of lists of records and of fetch positions, and the requests that name them."""

import struct
from collections.abc import Iterator, Sequence
from io import BytesIO
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition as KafkaPartition
from aiokafka.errors import IncompatibleBrokerVersion, NotLeaderForPartitionError, OffsetOutOfRangeError
from aiokafka.protocol.fetch import FetchRequest as AIOKafkaFetchRequest
from aiokafka.protocol.fetch import FetchRequest_v11
from aiokafka.protocol.offset import OffsetRequest_v3
from hypothesis import given
from hypothesis import strategies as st

from ingestd.config.model import KafkaConfig
from ingestd.core.records import EpochEnd, EpochRecords, PlainRecord, Position, Record, TopicPartition
from ingestd.sources.error_state import ErrorState
from ingestd.sources.kafka import epoch_ends as epoch_ends_module
from ingestd.sources.kafka._aiokafka.fast_records import FastPartitionRecords, FetchedRecords, TolerantRecords
from ingestd.sources.kafka._aiokafka.fetch_request import FetchRequest
from ingestd.sources.kafka._aiokafka.leader_epochs import EpochList, FetchPositions, batch_epochs
from ingestd.sources.kafka._aiokafka.prefetch_limit import Allowance, BoundedFetchResult
from ingestd.sources.kafka._aiokafka.protocol import EpochEndRequest, ListOffsetsRequest
from ingestd.sources.kafka.coordinator_client import BrokerClient
from ingestd.sources.kafka.epoch_ends import TRIES, EpochEnds
from ingestd.sources.kafka.group_consumer import GroupConsumer
from ingestd.sources.kafka.requests import _position, commit_metadata, epoch_ends
from tests.contract.source_contract import RecordingListener
from tests.fakes.leader_epochs import LeaderEpochs
from tests.test_kafka_fast_records import ABORT, COMMIT, READ_COMMITTED, Part, encoded

P0, P1, U0 = TopicPartition("t", 0), TopicPartition("t", 1), TopicPartition("u", 0)
ID = "AAAAAAAAAAAAAAAAAAAAAQ"  # 15 bytes of 0, and a 1
ID_BYTES = bytes(15) + b"\x01"
EPOCH = struct.Struct(">i")
EPOCH_AT = 12


def log(*batches: tuple[Part, int]) -> bytes:
    """Batches one behind the other, from offset 0 on, with their leader epochs."""
    data, base = bytearray(), 0
    for part, epoch in batches:
        at = len(data)
        data += encoded(part, base)
        if part.magic >= 2:
            EPOCH.pack_into(data, at + EPOCH_AT, epoch)  # it is not part of what the checksum covers
        base += part.span
    return bytes(data)


def some(count: int, **changes: Any) -> Part:
    return Part(range(count), count)._replace(**changes)


# -- batches


def test_the_epoch_of_each_batch_is_read_from_its_bytes() -> None:
    data = log((some(3), 4), (some(1), 4), (some(2), 2**31 - 1), (some(1), 0), (some(1), -1))
    assert list(batch_epochs(data)) == [4, 4, 2**31 - 1, 0, None]


@pytest.mark.parametrize("magic", [0, 1])
def test_old_formats_have_no_epoch(magic: int) -> None:
    # Where format 2 has the epoch they have a checksum.
    assert list(batch_epochs(log((some(2, magic=magic), 0)))) == [None] * 2


def test_a_batch_that_was_cut_off_ends_the_epochs() -> None:
    data = log((some(1), 4), (some(1), 5))
    whole = len(log((some(1), 4)))
    assert list(batch_epochs(data[: whole + 16])) == [4]
    assert list(batch_epochs(b"")) == []


# -- lists of records


class State(SimpleNamespace):
    """aiokafka's state of a partition, as far as it is used here."""

    def __init__(self, position: int) -> None:
        super().__init__(position=position, paused=False)

    def consumed_to(self, position: int) -> None:
        self.position = position


class Fetched:
    """The answer to a fetch from `begin` on."""

    def __init__(self, data: bytes, begin: int = 0, aborted: Any = None, kind: type[Any] = FetchedRecords) -> None:
        self.state, self.positions, self._allowance = State(begin), FetchPositions(), Allowance()
        rest = aborted, begin, None, None, True, READ_COMMITTED
        part = FastPartitionRecords(self._allowance, self.positions, P0, kind(data), *rest)
        assignment = SimpleNamespace(active=True, state_value=lambda _: self.state)
        self.result = BoundedFetchResult(P0, assignment=assignment, partition_records=part, backoff=0.1)

    def lists(self, most: int = 500) -> Iterator[EpochList]:
        """What is handed out."""
        while self.result.has_more():
            if found := self.result.getall(most):
                yield found

    @property
    def passed(self) -> tuple[int, int | None]:
        """The position, and the epoch of what lies before it."""
        return self.state.position, self.positions.epoch_before(P0, self.state.position)


def offsets(records: Sequence[Record]) -> list[int]:
    return [record.offset for record in records]


@pytest.mark.parametrize("kind", [FetchedRecords, TolerantRecords])
def test_a_list_ends_where_the_epoch_changes(kind: type[Any]) -> None:
    fetched = Fetched(log((some(2), 3), (some(2), 3), (some(1), 5), (some(2), 6)), kind=kind)
    found = [(offsets(each), each.leader_epoch, fetched.passed) for each in fetched.lists()]
    assert found == [([0, 1, 2, 3], 3, (4, 3)), ([4], 5, (5, 5)), ([5, 6], 6, (7, 6))]


def test_a_list_that_ends_within_a_batch_has_passed_its_epoch() -> None:
    fetched = Fetched(log((some(2), 3), (some(4), 5)))
    found = [(offsets(each), each.leader_epoch, fetched.passed) for each in fetched.lists(3)]
    assert found == [([0, 1], 3, (2, 3)), ([2, 3, 4], 5, (5, 5)), ([5], 5, (6, 5))]


def test_records_without_an_epoch_are_not_mixed_with_others() -> None:
    fetched = Fetched(log((some(1), -1), (some(1), -1), (some(1), 0)))
    assert [(offsets(each), each.leader_epoch) for each in fetched.lists()] == [([0, 1], None), ([2], 0)]


def test_the_position_behind_a_marker_has_passed_the_epoch_of_the_marker() -> None:
    """With the epoch of the record before it, the broker would tell of a divergence that is none."""
    marker = Part([0], 1, producer=7, ends=COMMIT)
    fetched = Fetched(log((some(2, producer=7), 3), (marker, 4)))
    assert [(offsets(each), each.leader_epoch) for each in fetched.lists()] == [([0, 1], 3)]
    assert fetched.passed == (3, 4)


def test_aborted_records_are_passed_with_their_epoch_and_end_no_list() -> None:
    lost = some(2, producer=7, is_aborted=True)
    marker = Part([0], 1, producer=7, ends=ABORT)
    fetched = Fetched(log((some(1), 3), (lost, 4), (marker, 4), (some(1), 3)), aborted=[(7, 1)])
    assert [(offsets(each), each.leader_epoch) for each in fetched.lists()] == [([0, 4], 3)]
    fetched = Fetched(log((lost, 3), (marker, 4)), aborted=[(7, 0)])
    assert list(fetched.lists()) == []
    assert fetched.passed == (3, 4)


def test_a_batch_that_compaction_has_emptied_is_passed_with_its_epoch() -> None:
    fetched = Fetched(log((some(2), 3), (Part([], 5), 4)))
    assert [offsets(each) for each in fetched.lists()] == [[0, 1]]
    assert fetched.passed == (7, 4)


def test_a_position_that_was_set_otherwise_has_no_epoch() -> None:
    positions = FetchPositions()
    positions.set(P0, 5, 3)
    assert positions.epoch_before(P0, 5) == 3
    assert positions.epoch_before(P0, 6) is None
    assert positions.epoch_before(P1, 5) is None
    positions.set(P0, 5, None)
    assert positions.epoch_before(P0, 5) is None


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(-1, 2)), min_size=1, max_size=9), st.integers(1, 7))
def test_all_records_are_handed_out_in_order_with_their_epochs(made: list[tuple[int, int]], most: int) -> None:
    fetched = Fetched(log(*((some(count), epoch) for count, epoch in made)))
    expected = [None if epoch < 0 else epoch for count, epoch in made for _ in range(count)]
    found: list[int | None] = []
    for each in fetched.lists(most):
        assert 0 < len(each) <= most
        assert offsets(each) == list(range(len(found), len(found) + len(each)))
        found += [each.leader_epoch] * len(each)
        assert fetched.passed == (len(found), found[-1])
    assert found == expected


async def test_a_seek_back_to_what_was_handed_out_names_its_epoch() -> None:
    class Seeks:
        """The consumer, as far as it is used here."""

        def __init__(self) -> None:
            self.sought: list[tuple[TopicPartition, int, int | None]] = []

        async def take(self, wait_s: float, max_records: int) -> dict[KafkaPartition, EpochRecords]:
            return {KafkaPartition("t", 0): EpochRecords([PlainRecord(7, 0, b""), PlainRecord(9, 0, b"")], 5)}

        def seek(self, partition: KafkaPartition, offset: int, leader_epoch: int | None = None) -> None:
            self.sought.append((TopicPartition(*partition), offset, leader_epoch))

        def resume(self, partition: KafkaPartition) -> None: ...

    consumer = GroupConsumer(KafkaConfig(), {}, RecordingListener(), lambda _: None, ErrorState())
    await consumer._consumer.stop()  # it was not started
    seeks: Any = Seeks()
    consumer._consumer = seeks
    consumer.owned = {P0, P1}
    consumer.seek(P0, 3, 4)
    consumer.seek(P1, 2, 6)
    await consumer.poll(0)
    consumer.rewind()
    assert seeks.sought == [(P0, 3, 4), (P1, 2, 6), (P0, 10, 5), (P1, 2, 6)]


# -- fetch requests


def fetch(ids: dict[TopicPartition, str], *known: tuple[TopicPartition, int, int | None]) -> FetchRequest:
    """A request for partition 0 of topic t from offset 70 on, and for partition 1 from 8 on."""
    positions = FetchPositions()
    for each in known:
        positions.set(*each)
    return FetchRequest(AIOKafkaFetchRequest(500, 1, 1000, 1, [("t", [(0, 70, 900), (1, 8, 900)])]), ids, positions)


HEAD = struct.pack(">iiiibii", -1, 500, 1, 1000, 1, 0, -1)
TAIL = b"\x01\x01\x00"  # no forgotten topics, an empty rack, no tags


def asked(number: int, offset: int, epoch: int) -> bytes:
    return struct.pack(">iiqiqi", number, -1, offset, epoch, -1, 900) + b"\x00"


def test_a_fetch_by_name_is_encoded_as_kafka_says() -> None:
    request = fetch({}, (P0, 70, 6), (P1, 9, 6)).prepare({1: (4, 12)})
    topics = b"\x02" + b"\x02t" + b"\x03" + asked(0, 70, 6) + asked(1, 8, -1) + b"\x00"
    assert request.encode() == HEAD + topics + TAIL
    assert (request.API_VERSION, request.FLEXIBLE_VERSION) == (12, True)


def test_a_fetch_by_id_is_encoded_as_kafka_says() -> None:
    request = fetch({P0: ID, P1: ID}, (P0, 70, 0)).prepare({1: (4, 18)})
    topics = b"\x02" + ID_BYTES + b"\x03" + asked(0, 70, 0) + asked(1, 8, -1) + b"\x00"
    assert request.encode() == HEAD + topics + TAIL
    assert request.API_VERSION == 13


def test_a_fetch_is_by_name_unless_all_its_topics_have_ids() -> None:
    assert fetch({P0: ID, P1: ""}).prepare({1: (4, 18)}).API_VERSION == 12
    assert fetch({P0: ID}).prepare({1: (4, 18)}).API_VERSION == 12
    assert fetch({P0: ID, P1: ID}).prepare({1: (4, 12)}).API_VERSION == 12


def test_an_old_broker_is_asked_without_an_epoch() -> None:
    request = fetch({}, (P0, 70, 6)).prepare({1: (0, 11)})
    assert isinstance(request, FetchRequest_v11)


def test_a_request_keeps_the_epochs_of_the_moment_when_it_was_made() -> None:
    positions = FetchPositions()
    positions.set(P0, 70, 6)
    made = FetchRequest(AIOKafkaFetchRequest(500, 1, 1000, 1, [("t", [(0, 70, 900)])]), {}, positions)
    positions.set(P0, 75, 7)
    assert asked(0, 70, 6) in made.prepare({1: (4, 12)}).encode()


def answered(topic: bytes, *, code: int = 0, tags: bytes = b"\x00", records: bytes = b"\x04abc") -> bytes:
    """An answer with one partition: no throttling, no error, no session."""
    partition = struct.pack(">ihqqq", 0, code, 90, 80, 10) + b"\x00" + struct.pack(">i", -1) + records + tags
    return struct.pack(">ihi", 0, 0, 0) + b"\x02" + topic + b"\x02" + partition + b"\x00" + b"\x00"


DIVERGING = b"\x01\x00\x0d" + struct.pack(">iq", 5, 60) + b"\x00"
NOT_DIVERGING = b"\x01\x00\x0d" + struct.pack(">iq", -1, -1) + b"\x00"
LEADER = b"\x01\x01\x09" + struct.pack(">ii", 1, 6) + b"\x00"
BOTH = b"\x02" + DIVERGING[1:] + LEADER[1:]
OUT_OF_RANGE = OffsetOutOfRangeError.errno


@pytest.mark.parametrize("by_id", [True, False])
@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ({}, 0),
        ({"tags": NOT_DIVERGING}, 0),
        ({"tags": LEADER}, 0),
        ({"tags": DIVERGING, "records": b"\x01"}, OUT_OF_RANGE),
        ({"tags": BOTH, "records": b"\x00"}, OUT_OF_RANGE),
        ({"records": b"\x00"}, 0),
        ({"records": b"\x01"}, 0),
        ({"records": b"\x01", "tags": LEADER}, 0),
        ({"records": b"\x01", "code": 103}, OUT_OF_RANGE),
        ({"code": 1}, OUT_OF_RANGE),
        ({"code": 6, "tags": LEADER}, 6),
        ({"code": 100}, OUT_OF_RANGE),
        ({"code": 103}, OUT_OF_RANGE),
    ],
)
def test_another_history_is_out_of_range_for_aiokafka(by_id: bool, answer: dict[str, Any], code: int) -> None:
    request = fetch({P0: ID, P1: ID} if by_id else {}).prepare({1: (4, 13)})
    data = answered(ID_BYTES if by_id else b"\x02t", **answer)
    buffer = BytesIO(data)
    response = request.RESPONSE_TYPE.decode(buffer)
    records = b"abc" if "records" not in answer else b""
    assert response.topics == [("t", [(0, code, 90, 80, 10, None, -1, records)])]
    assert response.API_VERSION >= 11, "the layout that aiokafka reads"
    assert buffer.read() == b"\x00", "aiokafka does not read the tags at the end"


def test_partitions_with_and_without_records_follow_one_another_in_an_answer() -> None:
    head, no_replica = struct.pack(">hqqq", 0, 90, 80, 10), struct.pack(">i", -1)
    aborted = b"\x02" + struct.pack(">qq", 7, 70) + b"\x00"
    long = bytes(300)
    parts = [
        head + b"\x00" + no_replica + b"\x01\x00",
        head + b"\x01" + no_replica + b"\x00\x00",
        head + aborted + no_replica + b"\x01\x00",
        head + b"\x01" + struct.pack(">i", 2) + b"\xad\x02" + long + LEADER,
        head + b"\x00" + no_replica + b"\x02x\x00",
        head + b"\x01" + no_replica + b"\x01\x00",
    ]
    encoded_parts = b"".join(struct.pack(">i", number) + part for number, part in enumerate(parts))
    data = struct.pack(">ihi", 0, 0, 0) + b"\x02" + b"\x02t" + b"\x07" + encoded_parts + b"\x00"
    offsets = (0, 90, 80, 10)
    assert fetch({}).prepare({1: (4, 12)}).RESPONSE_TYPE.decode(BytesIO(data + b"\x00")).topics == [
        (
            "t",
            [
                (0, *offsets, None, -1, b""),
                (1, *offsets, [], -1, b""),
                (2, *offsets, [(7, 70)], -1, b""),
                (3, *offsets, [], 2, long),
                (4, *offsets, None, -1, b"x"),
                (5, *offsets, [], -1, b""),
            ],
        )
    ]


# -- ends of epochs


def test_the_end_of_an_epoch_is_asked_for_as_kafka_says() -> None:
    request = EpochEndRequest({P0: 5, U0: 6, P1: 7})
    parts = [struct.pack(">iii", number, -1, epoch) for number, epoch in ((0, 5), (1, 7), (0, 6))]
    flexible = request.prepare({23: (2, 4)})
    topics = (
        b"\x03" + b"\x02t\x03" + parts[0] + b"\x00" + parts[1] + b"\x00\x00" + b"\x02u\x02" + parts[2] + b"\x00\x00"
    )
    assert flexible.encode() == struct.pack(">i", -1) + topics + b"\x00"
    assert (flexible.API_VERSION, flexible.FLEXIBLE_VERSION) == (4, True)
    fixed = request.prepare({23: (0, 3)})
    topics = struct.pack(">i", 2) + b"\x00\x01t" + struct.pack(">i", 2) + parts[0] + parts[1]
    topics += b"\x00\x01u" + struct.pack(">i", 1) + parts[2]
    assert fixed.encode() == struct.pack(">i", -1) + topics
    assert (fixed.API_VERSION, fixed.FLEXIBLE_VERSION) == (3, False)


@pytest.mark.parametrize("version", [3, 4])
def test_the_answer_tells_where_epochs_end(version: int) -> None:
    struct_of = EpochEndRequest({P0: 5}).prepare({23: (version, version)}).RESPONSE_TYPE
    parts = [struct.pack(">hiiq", *each) for each in ((0, 0, 5, 60), (6, 1, -1, -1), (0, 2, -1, -1))]
    if version == 4:
        data = b"\x02" + b"\x02t\x04" + b"".join(part + b"\x00" for part in parts) + b"\x00\x00"
    else:
        data = struct.pack(">i", 1) + b"\x00\x01t" + struct.pack(">i", 3) + b"".join(parts)
    found = EpochEndRequest.ends(struct_of.decode(BytesIO(struct.pack(">i", 0) + data)))
    assert isinstance(found.pop(P1), NotLeaderForPartitionError)
    assert found == {P0: EpochEnd(5, 60), TopicPartition("t", 2): EpochEnd(-1, -1)}


class Broker(BrokerClient):
    """Leads all partitions. Epochs up to `latest` end at ten times their number; no request has two of a partition."""

    def __init__(self, versions: dict[int, tuple[int, int]]) -> None:
        super().__init__(None)
        self._versions = versions
        self.latest: list[int] = [1000]  # at each request; the last one stays
        self.asked: list[dict[TopicPartition, int]] = []
        self.refreshed = 0

    def leader(self, partition: TopicPartition) -> int | None:
        return 1

    async def ask_coordinator(self, request: Any) -> Any:
        raise NotImplementedError

    def forget_coordinator(self) -> None:
        raise NotImplementedError

    async def ask_broker(self, node: int, request: Any) -> Any:
        topics = request.prepare(self._versions).topics
        self.asked.append({TopicPartition(topic, number): epoch for topic, ps in topics for number, _, epoch in ps})
        assert len(self.asked[-1]) == sum(len(parts) for _, parts in topics)
        latest = self.latest.pop(0) if len(self.latest) > 1 else self.latest[0]
        ends = [
            (
                topic,
                [(0, number, *((epoch, 10 * epoch) if epoch <= latest else (-1, -1))) for number, _, epoch in parts],
            )
            for topic, parts in topics
        ]
        return SimpleNamespace(topics=ends)

    def refresh_metadata(self) -> None:
        self.refreshed += 1


async def test_many_epochs_of_a_partition_are_asked_for_one_by_one() -> None:
    broker = Broker({23: (2, 4)})
    wanted = [(P0, 1), (P0, 2), (P0, 3), (P1, 2), (U0, 1)]
    assert await epoch_ends(broker, wanted) == {(each, epoch): EpochEnd(epoch, 10 * epoch) for each, epoch in wanted}
    assert [len(asked) for asked in broker.asked] == [3, 1, 1]


@pytest.mark.parametrize("versions", [{}, {23: (0, 2)}])
async def test_a_broker_that_cannot_tell_is_not_asked_again(versions: dict[int, tuple[int, int]]) -> None:
    assert await epoch_ends(Broker(versions), [(P0, 5)]) == {(P0, 5): None}


@pytest.mark.parametrize(
    ("latest", "expected", "asked"),
    [([4, 4, 5], EpochEnd(5, 50), 3), ([4], EpochEnd(-1, -1), TRIES), ([5], EpochEnd(5, 50), 1)],
)
async def test_an_epoch_is_unknown_only_if_it_stays_so(
    monkeypatch: pytest.MonkeyPatch, latest: list[int], expected: EpochEnd, asked: int
) -> None:
    monkeypatch.setattr(epoch_ends_module, "WAIT_S", 0)
    broker = Broker({23: (2, 4)})
    broker.latest = latest
    assert await EpochEnds(lambda: broker, ErrorState()).get(P0, 5) == expected
    assert len(broker.asked) == asked
    assert broker.refreshed == asked - (expected.epoch >= 0), "another broker may lead by now"


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        (Position(50, leader_epoch=6), Position(50, leader_epoch=5)),  # epoch 6 begins there
        (Position(51, leader_epoch=6), Position(51, leader_epoch=6)),
        (Position(0, leader_epoch=0), Position(0, leader_epoch=0)),
        (Position(5), Position(5)),
    ],
)
async def test_a_start_is_in_an_epoch_that_the_log_will_not_forget(start: Position, expected: Position) -> None:
    assert await EpochEnds(lambda: Broker({23: (2, 4)}), ErrorState()).with_records(P0, start) == expected


async def test_a_fetch_from_a_start_does_not_diverge_when_another_leader_is_elected_before_the_first_record() -> None:
    log_end, epochs = 50, LeaderEpochs()
    epochs.append(0)
    epochs.elect(log_end)  # epoch 1, without records

    class OfLog(EpochEnds):
        async def get(self, _: TopicPartition, leader_epoch: int) -> EpochEnd:
            return epochs.end(leader_epoch, log_end)

    told = Position(log_end, leader_epoch=1)
    start = await OfLog(lambda: Broker({}), ErrorState()).with_records(P0, told)
    epochs.elect(log_end)
    epochs.append(log_end)
    assert epochs.end(1, log_end + 1).epoch != told.leader_epoch
    assert start.leader_epoch is not None
    assert epochs.end(start.leader_epoch, log_end + 1) == EpochEnd(start.leader_epoch, log_end)


async def test_a_start_keeps_its_epoch_where_the_broker_cannot_tell() -> None:
    start = Position(50, leader_epoch=6)
    assert await EpochEnds(lambda: Broker({}), ErrorState()).with_records(P0, start) == start


# -- offsets


def test_an_offset_is_asked_for_as_kafka_says() -> None:
    request = ListOffsetsRequest(1, [("t", [(0, -1)])])
    head, parts = struct.pack(">ib", -1, 1), struct.pack(">i", 1) + b"\x00\x01t" + struct.pack(">i", 1)
    assert request.prepare({2: (1, 11)}).encode() == head + parts + struct.pack(">iiq", 0, -1, -1)
    old = request.prepare({2: (0, 3)})
    assert isinstance(old, OffsetRequest_v3)
    assert old.encode() == head + parts + struct.pack(">iq", 0, -1)
    with pytest.raises(IncompatibleBrokerVersion):
        request.prepare({})


@pytest.mark.parametrize(
    ("version", "epoch", "expected"), [(4, 5, (90, 5)), (4, -1, (90, None)), (3, None, (90, None)), (4, 0, (90, 0))]
)
def test_an_offset_is_told_with_its_epoch(version: int, epoch: int | None, expected: tuple[int, int | None]) -> None:
    response = ListOffsetsRequest(1, []).prepare({2: (version, version)}).RESPONSE_TYPE
    data = struct.pack(">ii", 0, 1) + b"\x00\x01t" + struct.pack(">iihqq", 1, 0, 0, -1, 90)
    data += b"" if epoch is None else struct.pack(">i", epoch)
    assert ListOffsetsRequest.offsets(response.decode(BytesIO(data))) == {P0: expected}


# -- the metadata of commits


TAG = st.from_regex(r"\S{1,64}", fullmatch=True) | st.sampled_from(["of", "in", "epoch", "of:in", ID])
KNOWN = st.none() | st.integers(0, 2**31 - 1)


@given(st.just("") | TAG, st.just("") | st.from_regex(r"[A-Za-z0-9_-]{22}", fullmatch=True), KNOWN)
def test_a_position_survives_its_commit(tag: str, topic_id: str, epoch: int | None) -> None:
    position = Position(9, tag, topic_id, epoch)
    text = commit_metadata(position)
    assert _position(9, text) == position
    assert len(text) < 200


@given(st.text())
def test_any_text_is_a_position(text: str) -> None:
    found = _position(9, text)
    assert found == Position(9, text) or commit_metadata(found) == text


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("", Position(9)),
        ("tag", Position(9, "tag")),
        (f"tag of {ID}", Position(9, "tag", ID)),
        (f"tag of {ID} in epoch 5", Position(9, "tag", ID, 5)),
        (f"tag of {ID} in epoch 5 or so", Position(9, f"tag of {ID} in epoch 5 or so")),
        (f"of {ID} in epoch 5", Position(9, "", ID, 5)),
        ("in epoch 0", Position(9, "", "", 0)),
        ("tag of", Position(9, "tag of")),
        (f"tag of {ID} in epoch -1", Position(9, f"tag of {ID} in epoch -1")),
        (f"tag  of {ID}", Position(9, f"tag  of {ID}")),
        ("committed by another tool", Position(9, "committed by another tool")),
    ],
)
def test_the_metadata_of_a_commit_is_text(text: str, position: Position) -> None:
    assert _position(9, text) == position
    assert commit_metadata(position) == text
