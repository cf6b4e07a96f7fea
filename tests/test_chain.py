"""The chain of one partition, step by step: what it asks for, and what it makes of the answers."""

from typing import Any, TypeVar

import msgspec
import pytest

from ingestd.core.batch import Batch, EncodedBatch, RecordRef
from ingestd.core.chain import Chain, ChainPolicy
from ingestd.core.chain_steps import (
    Adopted,
    AwaitBatch,
    AwaitFirst,
    Commit,
    Encode,
    FindNeighbours,
    GetTopicId,
    Halt,
    HeadObject,
    Landed,
    Neighbours,
    ReadCommitted,
    ReadLog,
    ResolveStart,
    Seek,
    Step,
    Upload,
    Wait,
)
from ingestd.core.flush_policy import FlushReason
from ingestd.core.object_keys import ObjectKeys, ObjectMetadata
from ingestd.core.records import LogRange, PlainRecord, Position, TopicPartition
from ingestd.core.stored import ObjectInfo, Stored
from ingestd.core.validation import Validated

S = TypeVar("S")

TP = TopicPartition("t", 0)
LAYOUT = ObjectKeys()
MARK = LAYOUT.mark("s3://b")
LOG = LogRange(0, 1000)
NOON = 1_795_348_800_000


class Play:
    """Answers the chain's steps in turn, and notes them."""

    def __init__(
        self,
        *,
        exactly_once: bool = True,
        skip_lost: bool = False,
        replayable: bool = True,
        topic_id: str = "",
        cluster: str = "cluster",
    ) -> None:
        self.layout = ObjectKeys(exactly_once=exactly_once)
        self.chain = Chain(TP, ChainPolicy(self.layout, MARK, skip_lost, replayable), cluster)
        self.steps = self.chain.run()
        self._step: Step = next(self.steps)
        self.answer(GetTopicId, topic_id)

    def answer(self, kind: type, answer: Any = None) -> "Play":
        assert isinstance(self._step, kind), f"expected {kind.__name__}, is {self._step}"
        self._step = self.steps.send(answer)
        return self

    def at_a(self, kind: type) -> bool:
        return isinstance(self._step, kind)

    def asked(self, kind: type[S]) -> S:
        """The step that the chain waits at."""
        assert isinstance(self._step, kind), f"expected {kind.__name__}, is {self._step}"
        return self._step

    def at(self, committed: Position | None, log: LogRange = LOG) -> "Play":
        return self.answer(ReadCommitted, committed).answer(ReadLog, log)

    def filling(self, start: int = 10) -> "Play":
        """At the end of a probe that found nothing."""
        return (
            self.at(Position(start, MARK))
            .answer(Seek)
            .answer(AwaitFirst, RecordRef(start, NOON))
            .answer(HeadObject, None)
        )

    def fill(self, *offsets: int) -> Batch:
        batch = self.chain.batch_for(offsets[0])
        records = [PlainRecord(offset, NOON, b"{}") for offset in offsets]
        batch.add(records, Validated(b"{}\n" * len(offsets), {"t": len(offsets)}, []), b"", 0.0)
        self.chain.advance(RecordRef(offsets[0], NOON), batch.end)
        return batch

    def uploading(self, *offsets: int) -> EncodedBatch:
        batch = self.fill(*offsets)
        self.chain.seal(FlushReason.AGE)
        sealed = batch.finish(self.layout, "cluster", "1", self.chain.topic_id)
        self.answer(AwaitBatch, batch).answer(Encode, sealed)
        return sealed


def thing(
    start: int,
    end: int,
    *,
    cluster: str | None = "cluster",
    timestamp: int = NOON,
    first: int | None = None,
    topic_id: str | None = None,
) -> ObjectInfo:
    landed = ObjectMetadata(
        topic="t", partition=0, start=start, end=end, rows=end - start, rejected=0, sha256="s", cluster=cluster,
        topic_id=topic_id, version="1", first_offset=start if first is None else first,
        first_timestamp=timestamp, last_timestamp=timestamp,
    )  # fmt: skip
    return ObjectInfo(LAYOUT.data_key(TP, start, timestamp, end), 1, landed.metadata())


def key(start: int) -> str:
    return LAYOUT.data_key(TP, start, NOON, start)


def test_extends_the_chain_from_what_is_committed() -> None:
    play = Play().filling(10)
    play.uploading(10, 11, 14)
    play.asked(Upload)
    play.answer(Upload, Stored.CREATED)
    play.asked(Landed)
    play.answer(Landed)
    assert play.asked(Commit) == Commit(Position(15, MARK))
    play.answer(Commit)
    assert play.asked(AwaitBatch) == AwaitBatch()
    assert (play.chain.landed, play.chain.committed, play.chain.held_records) == (15, 15, 0)


def test_resumes_where_the_committed_position_is_not_where_the_first_record_is() -> None:
    play = Play().at(Position(10, MARK))
    assert play.asked(Seek) == Seek(10)
    play.answer(Seek).answer(AwaitFirst, RecordRef(13, NOON))
    assert play.asked(HeadObject) == HeadObject(key(10))


def test_probe_adopts_an_object_that_is_there_already() -> None:
    play = Play().at(Position(10, MARK)).answer(Seek)
    play.fill(10, 11)
    play.answer(AwaitFirst, RecordRef(10, NOON)).answer(HeadObject, thing(10, 30)).answer(ReadLog, LOG)
    assert play.asked(Adopted).released == 2
    play.answer(Adopted)
    assert play.asked(Commit) == Commit(Position(30, MARK))
    play.answer(Commit).answer(ReadLog, LOG)
    assert play.asked(Seek) == Seek(30)


def test_adopts_the_winner_on_exists() -> None:
    play = Play().filling(10)
    play.uploading(10, 11)
    play.fill(12, 13)
    epoch = play.chain.epoch
    play.answer(Upload, Stored.EXISTS)
    assert play.asked(HeadObject) == HeadObject(key(10))
    play.answer(HeadObject, thing(10, 11)).answer(ReadLog, LOG)
    assert play.asked(Adopted).released == 4
    assert play.chain.epoch != epoch
    play.answer(Adopted)
    assert play.asked(Commit) == Commit(Position(11, MARK))


def test_an_object_with_our_end_is_our_own_attempt_whose_answer_was_lost() -> None:
    play = Play().filling(10)
    play.uploading(10, 11)
    held = play.fill(12)
    play.answer(Upload, Stored.EXISTS).answer(HeadObject, thing(10, 12)).answer(ReadLog, LOG)
    play.asked(Landed)
    play.answer(Landed)
    assert play.asked(Commit) == Commit(Position(12, MARK))
    assert play.chain.open is held


def test_uploads_again_where_the_winner_has_vanished() -> None:
    play = Play().filling(10)
    sealed = play.uploading(10)
    play.answer(Upload, Stored.EXISTS).answer(HeadObject, None)
    assert play.asked(Upload).sealed is sealed


def test_without_a_mark_the_neighbours_are_asked() -> None:
    play = Play().at(Position(10)).answer(Seek).answer(AwaitFirst, RecordRef(10, NOON)).answer(HeadObject, None)
    assert play.asked(FindNeighbours) == FindNeighbours(10)
    play.answer(FindNeighbours, Neighbours())
    assert play.asked(AwaitBatch) == AwaitBatch()


def test_halts_inside_of_an_object_and_names_the_right_offset() -> None:
    play = Play().at(Position(10)).answer(Seek).answer(AwaitFirst, RecordRef(10, NOON)).answer(HeadObject, None)
    play.answer(FindNeighbours, Neighbours(before=key(5))).answer(HeadObject, thing(5, 17)).answer(ReadLog, LOG)
    assert play.asked(Halt).code == "misaligned"
    assert "to 17" in play.asked(Halt).message


def test_halts_past_the_end_of_the_chain_and_names_it() -> None:
    """Going on would leave out what is between, and nothing would tell of it."""
    play = Play().at(Position(20)).answer(Seek).answer(AwaitFirst, RecordRef(20, NOON)).answer(HeadObject, None)
    play.answer(FindNeighbours, Neighbours(before=key(5))).answer(HeadObject, thing(5, 17)).answer(ReadLog, LOG)
    assert play.asked(Halt).code == "misaligned"
    assert "reset the group's offset for this partition to 17" in play.asked(Halt).message


def test_halts_before_objects_that_exist() -> None:
    play = Play().at(Position(10)).answer(Seek).answer(AwaitFirst, RecordRef(10, NOON)).answer(HeadObject, None)
    play.answer(FindNeighbours, Neighbours(after=key(12)))
    assert play.asked(Halt).code == "misaligned"


def test_a_mark_of_another_place_counts_as_none() -> None:
    play = Play().at(Position(10, "ingestd:1:elsewhere")).answer(Seek).answer(AwaitFirst, RecordRef(10, NOON))
    play.answer(HeadObject, None)
    assert play.asked(FindNeighbours) == FindNeighbours(10)


def without_offsets() -> Play:
    """At the probe of the chain's last object, 5 to 17."""
    play = Play().answer(ReadCommitted, None).answer(FindNeighbours, Neighbours(before=key(5)))
    play.answer(HeadObject, thing(5, 17)).answer(ReadLog, LOG)
    assert play.asked(Commit) == Commit(Position(5))
    play.answer(Commit).answer(ReadLog, LOG)
    assert play.asked(Seek) == Seek(5)
    return play.answer(Seek)


def test_a_group_without_offsets_goes_on_at_the_end_of_the_chain() -> None:
    play = without_offsets().answer(AwaitFirst, RecordRef(5, NOON))
    play.answer(HeadObject, thing(5, 17)).answer(ReadLog, LOG).answer(Adopted)
    assert play.asked(Commit) == Commit(Position(17, MARK))


def test_a_source_that_keeps_no_log_goes_on_at_the_end_of_the_chain_without_looking_back() -> None:
    play = Play(replayable=False).answer(ReadCommitted, None).answer(FindNeighbours, Neighbours(before=key(5)))
    play.answer(HeadObject, thing(5, 17)).answer(ReadLog, LOG)
    assert play.asked(Commit) == Commit(Position(17))


@pytest.mark.parametrize("later", [1, 86_400_000], ids=["same day", "another day"])
def test_a_group_without_offsets_halts_at_a_topic_that_was_created_again_and_is_longer(later: int) -> None:
    play = without_offsets().answer(AwaitFirst, RecordRef(5, NOON + later))
    if later == 1:
        play.answer(HeadObject, thing(5, 17))
    else:
        play.answer(HeadObject, None).answer(FindNeighbours, Neighbours(at=key(5))).answer(HeadObject, thing(5, 17))
    play.answer(ReadLog, LOG)
    assert play.asked(Halt).code == "recreated_topic"


def test_commits_and_writes_down_which_topic_it_is() -> None:
    play = Play(topic_id="A").filling(10)
    sealed = play.uploading(10, 11)
    play.answer(Upload, Stored.CREATED).answer(Landed)
    assert play.asked(Commit) == Commit(Position(12, MARK, "A"))
    assert sealed.landed.topic_id == "A"


@pytest.mark.parametrize("before", ["", "A"], ids=["not known then", "the same"])
def test_a_boundary_of_this_topic_is_trusted(before: str) -> None:
    play = Play(topic_id="A").at(Position(10, MARK, before))
    assert play.asked(Seek) == Seek(10)


def test_halts_where_the_committed_offset_is_of_another_topic_of_that_name() -> None:
    """One that was created again, and to which what was still held of the former one has been committed."""
    play = Play(topic_id="B").answer(ReadCommitted, Position(10, MARK, "A"))
    assert play.asked(Halt).code == "recreated_topic"
    assert "set a new sink.lineage" in play.asked(Halt).message


def test_what_another_tool_commits_says_nothing_of_the_topic() -> None:
    play = Play(topic_id="B").answer(ReadCommitted, Position(10, "of its own", "A"))
    play.asked(ReadLog)


def test_halts_where_the_tip_is_of_another_topic_of_that_name_whatever_its_records() -> None:
    play = Play(topic_id="B").answer(ReadCommitted, None).answer(FindNeighbours, Neighbours(before=key(5)))
    play.answer(HeadObject, thing(5, 17, topic_id="A"))
    assert play.asked(Halt).code == "recreated_topic"


def test_an_object_without_a_topics_id_is_judged_by_its_records() -> None:
    play = Play(topic_id="B").answer(ReadCommitted, None).answer(FindNeighbours, Neighbours(before=key(5)))
    play.answer(HeadObject, thing(5, 17)).answer(ReadLog, LOG)
    assert play.asked(Commit) == Commit(Position(5))


def test_the_start_policy_applies_where_there_is_no_chain_and_is_committed_first() -> None:
    play = Play().answer(ReadCommitted, None).answer(FindNeighbours, Neighbours()).answer(ResolveStart, 40)
    assert play.asked(Commit) == Commit(Position(40, ""))
    play.answer(Commit).answer(ReadLog, LOG)
    assert play.asked(Seek) == Seek(40)


def test_halts_where_the_committed_offset_is_past_the_log() -> None:
    play = Play().at(Position(2000, MARK))
    while not play.at_a(Halt):
        play.answer(Wait if play.at_a(Wait) else ReadLog, LOG)
    assert play.asked(Halt).code == "recreated_topic"


def test_waits_for_a_new_leader_that_does_not_know_the_logs_end_yet() -> None:
    play = Play().at(Position(2000, MARK)).answer(Wait).answer(ReadLog, LogRange(0, 2000))
    assert play.asked(Seek) == Seek(2000)


def test_halts_where_retention_was_faster() -> None:
    play = Play().at(Position(10, MARK), LogRange(50, 1000)).answer(FindNeighbours, Neighbours())
    assert play.asked(Halt).code == "lost_upstream"
    assert "40 offsets" in play.asked(Halt).message


def test_seals_the_hole_where_loss_is_allowed() -> None:
    play = Play(skip_lost=True).at(Position(10, MARK), LogRange(50, 1000)).answer(FindNeighbours, Neighbours())
    assert play.asked(Seek) == Seek(50)
    play.answer(Seek).answer(AwaitFirst, RecordRef(52, NOON)).answer(HeadObject, None).answer(
        FindNeighbours, Neighbours()
    )
    hole = play.chain.sealed[0]
    assert (hole.start, hole.end, hole.records, hole.trigger) == (10, 50, 0, FlushReason.HOLE)
    sealed = hole.finish(LAYOUT, "cluster", "1")
    assert sealed.data_key == key(10)
    play.answer(AwaitBatch, hole).answer(Encode, sealed).answer(Upload, Stored.CREATED).answer(Landed)
    assert play.asked(Commit) == Commit(Position(50, MARK))


def test_adopts_what_it_had_written_before_retention_took_the_records() -> None:
    """The day in the name is that of a record which is gone: only a listing finds the object."""
    play = Play().at(Position(10, MARK), LogRange(50, 1000)).answer(FindNeighbours, Neighbours(at=key(10)))
    play.answer(HeadObject, thing(10, 60)).answer(ReadLog, LogRange(50, 1000)).answer(Adopted)
    assert play.asked(Commit) == Commit(Position(60, MARK))


@pytest.mark.parametrize(
    "foreign",
    [
        thing(10, 30, cluster="another"),
        thing(10, 2000),
        thing(10, 30, timestamp=NOON + 1),
        thing(10, 10),
        ObjectInfo(key(10), 1, {}),
        ObjectInfo(key(10), 1, thing(11, 30).metadata),
    ],
    ids=["cluster", "past the log's end", "another timestamp", "no range", "no metadata", "another start"],
)
def test_halts_at_an_object_that_is_not_of_this_log(foreign: ObjectInfo) -> None:
    play = (
        Play().at(Position(10, MARK)).answer(Seek).answer(AwaitFirst, RecordRef(10, NOON)).answer(HeadObject, foreign)
    )
    while not play.at_a(Halt):
        play.answer(Wait if play.at_a(Wait) else ReadLog, LOG)
    assert play.asked(Halt).code in {"foreign_object", "recreated_topic"}


@pytest.mark.parametrize(("cluster", "halts"), [(None, False), ("cluster", True)])
def test_the_objects_of_a_cluster_without_an_id_have_none(cluster: str | None, halts: bool) -> None:
    play = Play(cluster="").at(Position(10, MARK)).answer(Seek).answer(AwaitFirst, RecordRef(10, NOON))
    play.answer(HeadObject, thing(10, 30, cluster=cluster))
    assert play.at_a(Halt) is halts
    if halts:
        assert "of cluster cluster, not t[0] of cluster without an id" in play.asked(Halt).message


def test_an_earlier_first_record_than_the_objects_is_no_sign_of_another_log() -> None:
    """Retention overtook the writer of the object, not us."""
    play = Play().at(Position(10, MARK)).answer(Seek).answer(AwaitFirst, RecordRef(10, NOON))
    play.answer(HeadObject, thing(10, 50, first=52)).answer(ReadLog, LOG)
    play.asked(Adopted)


def test_at_least_once_asks_the_store_for_nothing() -> None:
    play = Play(exactly_once=False).at(Position(10)).answer(Seek).answer(AwaitFirst, RecordRef(10, NOON))
    assert play.asked(AwaitBatch) == AwaitBatch()
    sealed = play.uploading(10, 11)
    assert "+00000000000000000012" in sealed.data_key


def test_a_batch_opens_at_the_position_not_at_the_first_record() -> None:
    play = Play().filling(10)
    play.uploading(10)
    play.fill(15)
    assert play.chain.open is not None
    assert play.chain.open.start == 11


def test_void_forgets_all_that_is_held_and_wants_no_records() -> None:
    play = Play().filling(10)
    play.fill(10, 11)
    play.chain.seal(FlushReason.AGE)
    play.fill(12)
    assert play.chain.reset() == 3
    assert (play.chain.position, play.chain.batches, play.chain.first) == (None, [], None)


def test_sealing_nothing_makes_no_batch() -> None:
    play = Play().filling(10)
    assert play.chain.seal(FlushReason.SHUTDOWN) is None
    assert not play.chain.sealed


@pytest.mark.parametrize("step", Step.__args__)
def test_every_step_says_what_its_answer_is(step: type[msgspec.Struct]) -> None:
    assert step.__doc__
